//! All parts of the memory together.

use operator_core::api::WhatsAppPhoneNumber;
use operator_core::model::OpenClaim;

use super::clock::Clock;
use super::cooldowns::TokenCooldowns;
use super::history::CallHistory;
use super::locks::NumberLocks;
use super::notes::ObjectNotes;

/// The knowledge of the process beyond the statuses and the watched resources.
#[derive(Default)]
pub struct Memory {
    /// For each phone number, during a reconciliation: its lock.
    pub locks: NumberLocks,
    /// For each phone number, for 72 hours: its register calls.
    pub history: CallHistory,
    /// For each token, until it ends: its cool-down.
    pub cooldowns: TokenCooldowns,
    /// For each resource, while it exists: what this process did and saw.
    pub notes: ObjectNotes,
}

impl Memory {
    /// The memory of a process that has just started.
    pub fn new(clock: &Clock) -> Self {
        Self {
            locks: NumberLocks::default(),
            history: CallHistory::new(clock.clone()),
            cooldowns: TokenCooldowns::new(clock.clone()),
            notes: ObjectNotes::new(clock.clone()),
        }
    }

    /// Notes a resource from a watch: when its claim was first seen open, and the cool-down of its token, of which a
    /// restarted process knows only from the status.
    pub fn note_seen(&self, resource: &WhatsAppPhoneNumber) {
        self.cooldowns.note_status(resource);
        self.notes.note_seen(resource);
    }

    /// What is known of the open claim in a resource, of which the cool-down is noted as well.
    pub fn open_claim(&self, resource: &WhatsAppPhoneNumber) -> OpenClaim {
        self.cooldowns.note_status(resource);
        self.notes.open_claim(resource)
    }
}
