//! What was told of the numbers of resources that are gone, by the resources' UIDs: each is told once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::ResourceExt;
use operator_core::api::WhatsAppPhoneNumber;
use operator_core::model::Farewell;

use super::clock::Clock;

/// How long it is remembered: a reconciliation that works on an older version ends sooner, and a patch lands sooner.
const KEPT: Duration = Duration::from_secs(3600);

/// What becomes of the numbers of resources that go.
pub struct Farewells {
    clock: Clock,
    by_uid: Mutex<HashMap<String, (Instant, Stage)>>,
}

enum Stage {
    /// A patch that takes the finalizer off was not answered: it may have come off, or still come off.
    InDoubt(Farewell),
    Told,
}

impl Farewells {
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            by_uid: Mutex::default(),
        }
    }

    /// Notes that it is told what becomes of the number. Returns whether that is new.
    pub fn tell(&self, resource: &WhatsAppPhoneNumber) -> bool {
        let before = self.note(resource, Stage::Told);
        !matches!(before, Some(Stage::Told))
    }

    /// Notes what is to be told if an unanswered patch has taken the finalizer off. Returns whether that is new.
    pub fn doubt(&self, resource: &WhatsAppPhoneNumber, farewell: &Farewell) -> bool {
        let before = self.note(resource, Stage::InDoubt(farewell.clone()));
        if matches!(before, Some(Stage::Told)) {
            self.note(resource, Stage::Told);
        }
        before.is_none()
    }

    /// The unanswered patch cannot take the finalizer off any more.
    pub fn forget_doubt(&self, resource: &WhatsAppPhoneNumber) {
        let mut by_uid = self.by_uid();
        let uid = resource.uid().unwrap_or_default();
        if matches!(by_uid.get(&uid), Some((_, Stage::InDoubt(_)))) {
            by_uid.remove(&uid);
        }
    }

    /// Whether an unanswered patch may have taken the finalizer off, or may still do so.
    pub fn is_in_doubt(&self, resource: &WhatsAppPhoneNumber) -> bool {
        let now = self.clock.instant();
        let by_uid = self.by_uid();
        let known = resource.uid().and_then(|uid| by_uid.get(&uid));
        known
            .is_some_and(|(since, stage)| now - *since < KEPT && matches!(stage, Stage::InDoubt(_)))
    }

    /// The finalizer is found off: returns what is to be told, once, if an unanswered patch of this process may have done that.
    pub fn settle(&self, resource: &WhatsAppPhoneNumber) -> Option<Farewell> {
        let mut by_uid = self.by_uid();
        let (_, stage) = by_uid.get_mut(&resource.uid()?)?;
        match std::mem::replace(stage, Stage::Told) {
            Stage::InDoubt(farewell) => Some(farewell),
            Stage::Told => None,
        }
    }

    fn note(&self, resource: &WhatsAppPhoneNumber, stage: Stage) -> Option<Stage> {
        let now = self.clock.instant();
        let mut by_uid = self.by_uid();
        by_uid.retain(|_, (since, _)| now - *since < KEPT);
        let before = by_uid.insert(resource.uid().unwrap_or_default(), (now, stage));
        before.map(|(_, stage)| stage)
    }

    fn by_uid(&self) -> MutexGuard<'_, HashMap<String, (Instant, Stage)>> {
        self.by_uid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use operator_core::model::FarewellOutcome;
    use testkit::builders::resource;

    use super::*;

    fn with_uid(uid: &str) -> WhatsAppPhoneNumber {
        let mut resource = resource("number", 1);
        resource.metadata.uid = Some(uid.to_owned());
        resource
    }

    #[test]
    fn each_is_told_once() {
        let farewells = Farewells::new(Clock::default());
        let farewell = Farewell {
            outcome: FarewellOutcome::Deregistered,
            why: "a read shows it".to_owned(),
        };
        let (first, second) = (with_uid("first"), with_uid("second"));
        assert_eq!(farewells.settle(&first), None, "another process did it");
        assert!(farewells.tell(&first));
        assert!(!farewells.tell(&first), "by a round on an older version");
        assert!(!farewells.doubt(&first, &farewell));
        assert!(!farewells.is_in_doubt(&first));
        assert_eq!(farewells.settle(&first), None, "nor by its lost answer");

        assert!(farewells.doubt(&second, &farewell));
        assert!(!farewells.doubt(&second, &farewell), "by the next patch");
        assert!(farewells.is_in_doubt(&second));
        assert_eq!(farewells.settle(&second), Some(farewell.clone()));
        assert!(!farewells.is_in_doubt(&second));
        assert_eq!(farewells.settle(&second), None);
        assert!(!farewells.tell(&second));

        let fourth = with_uid("fourth");
        farewells.doubt(&fourth, &farewell);
        farewells.forget_doubt(&fourth);
        farewells.forget_doubt(&first);
        assert_eq!(farewells.settle(&fourth), None);
        assert!(farewells.tell(&fourth) && !farewells.tell(&first));

        let third = with_uid("third");
        farewells.doubt(&third, &farewell);
        assert!(farewells.tell(&third), "the next patch was answered");
        assert_eq!(farewells.settle(&third), None);
    }

    #[test]
    fn nothing_is_kept_for_ever() {
        let uptime = Arc::new(AtomicU64::new(0));
        let (began, seconds) = (Instant::now(), Arc::clone(&uptime));
        let farewells = Farewells::new(Clock {
            monotonic: Arc::new(move || began + Duration::from_secs(seconds.load(Relaxed))),
            ..Clock::default()
        });
        farewells.tell(&with_uid("first"));
        uptime.store(3600, Relaxed);
        farewells.tell(&with_uid("second"));
        assert_eq!(farewells.by_uid().len(), 1);
    }
}
