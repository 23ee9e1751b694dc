//! The PINs that Graph refused for each phone number, by digest, for 72 hours.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use operator_core::api::{Reason, WhatsAppPhoneNumber};
use operator_core::credentials::Digests;
use operator_core::model::RefusedPin;
use operator_core::model::schedule::{META_WINDOW, plus};

use super::clock::Clock;

/// How many refusals of one number are remembered: more calls are not made in 72 hours.
const MOST: usize = 10;

/// The refused PINs, and when they were noted first.
#[derive(Default)]
pub struct RefusedPins {
    clock: Clock,
    by_number: Mutex<HashMap<String, Vec<(Timestamp, RefusedPin)>>>,
}

impl RefusedPins {
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            by_number: Mutex::default(),
        }
    }

    pub fn note(&self, number: &str, refused: &RefusedPin) {
        let now = self.clock.now();
        let mut all = self.by_number();
        if all
            .get(number)
            .is_some_and(|known| known.iter().any(|(_, known)| known == refused))
        {
            return;
        }
        all.retain(|_, known| {
            known.retain(|(since, _)| plus(*since, META_WINDOW) > now);
            !known.is_empty()
        });
        let known = all.entry(number.to_owned()).or_default();
        known.retain(|(_, known)| known.attempt != refused.attempt);
        known.insert(0, (now, refused.clone()));
        known.truncate(MOST);
    }

    /// Notes the refusal in the status of a resource, if there is one.
    pub fn note_status(&self, resource: &WhatsAppPhoneNumber) {
        if let Some(refused) = resource.status.as_ref().and_then(RefusedPin::of) {
            self.note(&resource.spec.phone_number_id, &refused);
        }
    }

    /// Why this token with this PIN was refused, in a call that the resource does not show.
    pub fn of(&self, resource: &WhatsAppPhoneNumber, digests: &Digests) -> Option<Reason> {
        let now = self.clock.now();
        let all = self.by_number();
        let known = all.get(&resource.spec.phone_number_id)?.iter();
        let shown = |id: &str| resource.attempts().iter().any(|attempt| attempt.id == id);
        let mut fitting = known.filter(|(since, refused)| {
            plus(*since, META_WINDOW) > now
                && refused.applies_to(digests)
                && !shown(&refused.attempt)
        });
        fitting.next().map(|(_, refused)| refused.reason)
    }

    fn by_number(&self) -> MutexGuard<'_, HashMap<String, Vec<(Timestamp, RefusedPin)>>> {
        self.by_number
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
