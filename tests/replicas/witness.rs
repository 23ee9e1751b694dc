//! Sees every version of the numbers of a bed: what was registered once stays so in each of them, until it is deleted.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt};
use kube::ResourceExt;
use kube::runtime::{WatchStreamExt, watcher};
use operator_core::api::WhatsAppPhoneNumber;
use operator_core::api::conditions::is_registered;

use testkit::bed::Bed;

/// A watch of its own, past all gates.
pub struct Witness {
    seen: Arc<Mutex<Seen>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    registered: HashSet<String>,
    flipped: Vec<String>,
}

impl Witness {
    /// Watches from now on.
    pub fn of(bed: &Bed) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let notes = Arc::clone(&seen);
        let changes = watcher(bed.numbers(), watcher::Config::default()).applied_objects();
        let task = tokio::spawn(async move {
            let mut changes = changes.into_stream().boxed();
            while let Some(change) = changes.next().await {
                let number = change.expect("the witness can watch");
                notes
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .note(&number);
            }
        });
        Self { seen, task }
    }

    /// Asserts that no version took a registration back.
    pub fn assert_none_flipped(self) {
        self.task.abort();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(seen.flipped.is_empty(), "{:#?}", seen.flipped);
        assert!(!seen.registered.is_empty(), "the witness has seen nothing");
    }
}

impl Seen {
    fn note(&mut self, number: &WhatsAppPhoneNumber) {
        let uid = number.uid().unwrap_or_default();
        if number.status.as_ref().is_some_and(is_registered) {
            self.registered.insert(uid);
        } else if self.registered.contains(&uid) && number.metadata.deletion_timestamp.is_none() {
            let status = serde_json::to_string(&number.status).unwrap_or_default();
            self.flipped
                .push(format!("{}: {status}", number.name_any()));
        }
    }
}
