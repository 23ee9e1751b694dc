//! Publishes events. A failure to do so never fails a reconciliation.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tracing::{debug, warn};

use operator_core::api::MANAGER;
use operator_core::model::EventDraft;

use crate::telemetry::Chain;

/// The longest name of a resource that can have events: the name of an event, `NAME.16hex`, has at most 253 characters.
const NAME_MAX_CHARS: usize = 253 - 17;

/// The longest note of an event that the API server accepts.
const NOTE_MAX_BYTES: usize = 1_024;

/// The timeout of one publication.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Publishes events about resources.
#[derive(Clone)]
pub struct Events {
    client: Client,
    reporter: Reporter,
}

impl Events {
    /// A publisher that reports as this instance.
    pub fn new(client: Client, instance: Option<String>) -> Self {
        let reporter = Reporter {
            controller: MANAGER.to_owned(),
            instance,
        };
        Self { client, reporter }
    }

    /// Publishes an event about a resource. A failure is logged.
    pub async fn publish(&self, about: &ObjectReference, draft: EventDraft) {
        let name = about.name.as_deref().unwrap_or_default();
        if name.len() > NAME_MAX_CHARS {
            debug!(
                resource = name,
                reason = draft.reason,
                "Publishing no event: the name of the resource is too long"
            );
            return;
        }
        let event = Event {
            type_: if draft.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: draft.reason,
            note: Some(bounded(draft.note)),
            action: draft.action.to_owned(),
            secondary: None,
        };
        // A recorder joins events of one reason within six minutes, and keeps the first one's note, but each attempt has its own trace ID.
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        match tokio::time::timeout(TIMEOUT, recorder.publish(&event, about)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(error = %Chain(&error), "Failed to publish an event"),
            Err(_) => warn!("Failed to publish an event: no answer from the API server"),
        }
    }
}

/// Returns a note that the API server accepts. If it is too long, its middle is cut, because the advice is at the end.
fn bounded(mut note: String) -> String {
    if note.len() > NOTE_MAX_BYTES {
        let half = (NOTE_MAX_BYTES - '…'.len_utf8()) / 2;
        let middle = note.floor_char_boundary(half)..note.ceil_char_boundary(note.len() - half);
        note.replace_range(middle, "…");
    }
    note
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use operator_core::api::Reason;
    use operator_core::api::explain;

    #[test]
    fn a_note_that_fits_stays_whole() {
        for note in ["x".repeat(NOTE_MAX_BYTES), "é".repeat(NOTE_MAX_BYTES / 2)] {
            assert_eq!(bounded(note.clone()), note);
        }
    }

    #[test]
    fn a_cut_note_ends_with_the_advice() {
        for reason in Reason::ALL {
            let advice = explain("", *reason, None);
            let note = bounded(explain(&"ह".repeat(1_000), *reason, None));
            assert!(
                note.len() <= NOTE_MAX_BYTES && note.ends_with(&advice),
                "{note}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_note_of_any_letters_fits(note in "[a-cé€😀]{0,1000}") {
            let cut = bounded(note.clone());
            prop_assert!(cut.len() <= NOTE_MAX_BYTES);
            let (head, tail) = cut.split_once('…').unwrap_or((&note, ""));
            prop_assert!(note.starts_with(head) && note.ends_with(tail));
            // No more than a character is lost on each side of the ellipsis.
            prop_assert!(cut == note || cut.len() > NOTE_MAX_BYTES - 9);
        }
    }
}
