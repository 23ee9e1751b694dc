//! What the process knows of the API server's CRD: whether it drops status fields.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use operator_core::model::definition::TRY_EVERY;

use super::clock::Clock;

/// The status fields that the API server drops.
#[derive(Default)]
pub struct Definition {
    clock: Clock,
    dropped: Mutex<Dropped>,
}

#[derive(Default)]
struct Dropped {
    /// The fields, in one text; none if nothing is dropped.
    fields: Option<String>,
    tried: Option<Instant>,
}

impl Definition {
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            dropped: Mutex::default(),
        }
    }

    /// Notes fields that the API server dropped from a write, which may have contained others as well. Returns whether that is new.
    pub fn note_dropped(&self, fields: &[String]) -> bool {
        let mut dropped = self.dropped();
        let is_news = dropped.fields.is_none();
        dropped.fields.get_or_insert_with(|| fields.join(", "));
        if is_news {
            dropped.tried = None;
        }
        is_news
    }

    /// Notes what the API server would drop from a write with every field. Returns whether that is new.
    pub fn note_tried(&self, fields: &[String]) -> bool {
        let fields = (!fields.is_empty()).then(|| fields.join(", "));
        let mut dropped = self.dropped();
        dropped.tried = Some(self.clock.instant());
        let is_news = dropped.fields.is_some() != fields.is_some();
        dropped.fields = fields;
        is_news
    }

    pub fn dropped_fields(&self) -> Option<String> {
        self.dropped().fields.clone()
    }

    /// Whether it is time to try what the API server drops: once, and again while it drops any.
    pub fn is_due(&self) -> bool {
        let dropped = self.dropped();
        let (now, again) = (self.clock.instant(), dropped.fields.is_some());
        dropped
            .tried
            .is_none_or(|tried| again && now - tried >= TRY_EVERY)
    }

    fn dropped(&self) -> MutexGuard<'_, Dropped> {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_tried_once_and_while_fields_are_dropped() {
        let definition = Definition::default();
        assert!(definition.is_due());
        assert!(!definition.note_tried(&[]));
        assert!(!definition.is_due());
        assert!(definition.note_dropped(&["wait".to_owned()]));
        assert!(!definition.note_dropped(&["wait".to_owned()]));
        assert!(definition.is_due());
        let fields = ["verdict".to_owned(), "wait".to_owned()];
        assert!(!definition.note_tried(&fields));
        assert_eq!(
            definition.dropped_fields().as_deref(),
            Some("verdict, wait")
        );
        assert!(!definition.is_due());
        assert!(definition.note_tried(&[]));
        assert_eq!(definition.dropped_fields(), None);
    }
}
