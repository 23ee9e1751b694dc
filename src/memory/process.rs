//! All parts of the memory together.

use std::time::{Duration, Instant};

use operator_core::api::WhatsAppPhoneNumber;
use operator_core::model::machine::Note;
use operator_core::model::twins::declares;
use operator_core::model::{Cooldown, OpenClaim, Peers};

use super::clock::Clock;
use super::cooldowns::TokenCooldowns;
use super::definition::Definition;
use super::farewells::Farewells;
use super::history::CallHistory;
use super::locks::NumberLocks;
use super::notes::ObjectNotes;
use super::refused_pins::RefusedPins;
use super::versions::ExpiredVersions;

/// The knowledge of the process beyond the statuses and the watched resources.
pub struct Memory {
    clock: Clock,
    started: Instant,
    /// For each phone number, during a reconciliation: its lock.
    pub locks: NumberLocks,
    /// For each phone number, for 72 hours: its calls.
    pub history: CallHistory,
    /// For each phone number, for 72 hours: the PINs that Graph refused.
    pub refused_pins: RefusedPins,
    /// For each token, until it ends: its cool-down.
    pub cooldowns: TokenCooldowns,
    /// For each token, while its limit is nearly used up: until when the rest is left to calls.
    pub busy: TokenCooldowns,
    /// For the API server: the status fields that it drops.
    pub definition: Definition,
    /// For each resource, for an hour: what was told of its number when it went.
    pub farewells: Farewells,
    /// For the whole process: the versions of the Graph API that are past their end.
    pub versions: ExpiredVersions,
    /// For each resource, while it exists: what this process did and saw.
    pub notes: ObjectNotes,
}

impl Memory {
    /// The memory of a process that has just started.
    pub fn new(clock: &Clock) -> Self {
        Self {
            clock: clock.clone(),
            started: clock.instant(),
            locks: NumberLocks::default(),
            history: CallHistory::new(clock.clone()),
            refused_pins: RefusedPins::new(clock.clone()),
            cooldowns: TokenCooldowns::new(clock.clone()),
            busy: TokenCooldowns::new(clock.clone()),
            definition: Definition::new(clock.clone()),
            farewells: Farewells::new(clock.clone()),
            versions: ExpiredVersions::default(),
            notes: ObjectNotes::new(clock.clone()),
        }
    }

    /// The time since the process started, by the monotonic clock.
    pub fn uptime(&self) -> Duration {
        self.clock.instant() - self.started
    }

    /// What is known of a number beyond the resource, whose others are given, and those in namespaces that count as not watched. What is
    /// known of these may be long over, so that they take no precedence; but their calls were made, and nobody takes their number off.
    pub fn peers(
        &self,
        resource: &WhatsAppPhoneNumber,
        others: &[&WhatsAppPhoneNumber],
        left_out: &[&WhatsAppPhoneNumber],
    ) -> Peers {
        let number = &resource.spec.phone_number_id;
        let calls = self
            .history
            .with_ledgers(number, &[others, left_out].concat());
        let peers = Peers::of(resource, others, calls, self.clock.now());
        let declared = peers.declared || left_out.iter().any(|other| declares(other));
        Peers { declared, ..peers }
    }

    /// Remembers what a reconciliation notes.
    pub fn note(&self, note: Note<'_>) {
        match note {
            Note::Read(resource) => self.notes.note_read(resource, self.clock.now()),
            Note::Written(resource) => self.notes.note_written(resource),
            Note::Unsent(id) => self.notes.note_unsent(id),
            Note::Call(resource, entry) => self.history.note(resource, std::slice::from_ref(entry)),
            Note::Cooldown(wait) => self.cooldowns.start(&wait.digest, wait.into()),
            Note::Unlimited(token) => self.cooldowns.end(token),
            Note::Planned(resource, plan) => self.notes.note_plan(resource, plan),
            Note::Busy(token, until) => self.busy.start(token, Cooldown { until, in_a_row: 0 }),
            Note::RefusedPin(number, refused) => self.refused_pins.note(number, refused),
            Note::Dropped(fields) => {
                self.definition.note_dropped(fields);
            }
            Note::Tried(fields) => {
                self.definition.note_tried(fields);
            }
            Note::FinalizerRefused(resource) => {
                self.notes.note_finalizer_refused(resource);
            }
            Note::FarewellInDoubt(..)
            | Note::Stored { .. }
            | Note::Farewell(..)
            | Note::Departed(_)
            | Note::Outcome(..)
            | Note::Unrecorded => {}
        }
    }

    /// Notes a resource from a watch: when its claim was first seen open, the cool-down of its token and the PIN that was refused, of
    /// which a restarted process knows only from the status.
    pub fn note_seen(&self, resource: &WhatsAppPhoneNumber) {
        self.cooldowns.note_status(resource);
        self.refused_pins.note_status(resource);
        self.notes.note_seen(resource);
    }

    /// What is known of the open claim in a resource, of which the cool-down is noted as well.
    pub fn open_claim(&self, resource: &WhatsAppPhoneNumber) -> OpenClaim {
        self.cooldowns.note_status(resource);
        self.notes.open_claim(resource)
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(&Clock::default())
    }
}

#[cfg(test)]
mod tests {
    use testkit::builders::{claimed, registered, resource};

    use super::*;

    /// Nobody sees whether it still exists. Its calls were made all the same, and its number is not taken off.
    #[test]
    fn a_resource_that_is_left_out_takes_no_precedence_and_its_calls_count() {
        let memory = Memory::default();
        let elder = claimed(registered(resource("elder", 1)));
        let own = resource("own", 2);
        let peers = memory.peers(&own, &[&elder], &[]);
        assert!(peers.owner.is_some() && peers.declared);
        let left_out = memory.peers(&own, &[], &[&elder]);
        assert!(left_out.owner.is_none() && left_out.declared);
        assert_eq!(left_out.attempts, peers.attempts);
    }
}
