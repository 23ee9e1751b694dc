//! Publishing events. I/O. A failure to publish never fails a pass.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tracing::{debug, warn};

use operator_core::api::MANAGER;
use operator_core::model::EventDraft;

use crate::telemetry::Chain;

/// The longest name of a resource that an event can be named after: `NAME.16hex` must fit 253 characters.
const NAME_MAX_CHARS: usize = 253 - 17;

/// How long publishing may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Publishes events about resources.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl Events {
    /// Events that this instance reports.
    pub fn new(client: Client, instance: Option<String>) -> Self {
        let reporter = Reporter {
            controller: MANAGER.to_owned(),
            instance,
        };
        Self {
            recorder: Recorder::new(client, reporter),
        }
    }

    /// Publishes an event about a resource; what goes wrong is logged.
    pub async fn publish(&self, about: &ObjectReference, draft: EventDraft) {
        let name = about.name.as_deref().unwrap_or_default();
        if name.len() > NAME_MAX_CHARS {
            debug!(
                name,
                reason = draft.reason,
                "No event: the resource's name is too long for one"
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
            note: Some(draft.note),
            action: draft.action.to_owned(),
            secondary: None,
        };
        match tokio::time::timeout(TIMEOUT, self.recorder.publish(&event, about)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(error = %Chain(&error), "Failed to publish an event"),
            Err(_) => warn!("Failed to publish an event: no answer from the API server"),
        }
    }
}
