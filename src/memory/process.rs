//! All that the process knows beside the statuses and the watched resources.

use operator_core::api::WhatsAppPhoneNumber;

use super::clock::Clock;
use super::cooldowns::TokenCooldowns;
use super::history::CallHistory;
use super::locks::NumberLocks;
use super::notes::ObjectNotes;

/// What the process knows beside the statuses and the watched resources.
#[derive(Default)]
pub struct Memory {
    /// For each phone number, while it is worked on: the right to do so.
    pub locks: NumberLocks,
    /// For each phone number, for 72 hours: its register calls.
    pub history: CallHistory,
    /// For each token, until they end: its cool-downs.
    pub cooldowns: TokenCooldowns,
    /// For each resource, while it is there: what this process did and saw.
    pub notes: ObjectNotes,
}

impl Memory {
    /// The memory of a process that has just started, by these clocks.
    pub fn new(clock: &Clock) -> Self {
        Self {
            locks: NumberLocks::default(),
            history: CallHistory::new(clock.clone()),
            cooldowns: TokenCooldowns::new(clock.clone()),
            notes: ObjectNotes::new(clock.clone()),
        }
    }

    /// Takes note of a resource as a watch brings it: since when a claim is open, and whether its token cools down,
    /// which is how a restarted process learns of it.
    pub fn note_seen(&self, resource: &WhatsAppPhoneNumber) {
        self.cooldowns.note_status(resource);
        self.notes.note_seen(resource);
    }
}
