//! What the process gives the machine without I/O: clocks, chance, settings and memory.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use operator_core::api::{Reason, WhatsAppPhoneNumber};
use operator_core::credentials::Digests;
use operator_core::model::machine::{Note, Process};
use operator_core::model::observe::Plan;
use operator_core::model::{Cooldown, OpenClaim, Peers, Policy, event};
use tracing::{info, warn};

use super::context::Context;
use crate::memory::{WatchId, key_of};

pub struct Host<'a>(&'a Arc<Context>, Policy);

impl<'a> Host<'a> {
    pub fn of(context: &'a Arc<Context>) -> Self {
        let polled = context.memory.notes.polled_secrets();
        Self(context, context.policy.polling(polled))
    }
}

impl Host<'_> {
    fn tell_of_definition(&self, dropped: &[String]) {
        self.0.metrics.definition_outdated(!dropped.is_empty());
        if dropped.is_empty() {
            info!("The API server keeps every status field again; register calls go on");
        } else {
            warn!(
                fields = dropped.join(", "),
                "The API server drops status fields that the operator relies on, so no register call is made: its CRD is older than the \
                 operator; upgrade it"
            );
        }
    }
}

impl Host<'_> {
    /// Whether the namespace of a resource counts as not watched.
    fn is_left_out(&self, resource: &WhatsAppPhoneNumber) -> bool {
        let watch = self.0.scope.namespace_of(resource);
        self.0.watches.is_left_out(&WatchId::resources(watch))
    }

    fn tell_of_refused_finalizer(&self, resource: &WhatsAppPhoneNumber) {
        warn!(
            resource = resource.qualified_name(),
            "The API server does not let the operator set or take off its finalizer"
        );
        let why = "the API server does not let the operator set its finalizer (verb patch on whatsappphonenumbers, or an admission rule)";
        if !resource.has_finalizer() {
            self.0.publish(resource, event::of_ignored_policy(why));
        }
    }
}

impl Process for Host<'_> {
    fn policy(&self) -> &Policy {
        &self.1
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn uptime(&self) -> Duration {
        self.0.memory.uptime()
    }

    /// 128 random bits.
    fn fresh_id(&mut self) -> String {
        format!("{:032x}", rand::random::<u128>())
    }

    fn jitter(&mut self) -> f64 {
        rand::random()
    }

    fn is_stale(&self, resource: &WhatsAppPhoneNumber) -> bool {
        self.0.memory.notes.is_stale(resource)
    }

    fn peers(&self, resource: &WhatsAppPhoneNumber) -> Peers {
        let number = &resource.spec.phone_number_id;
        let stored = self.0.store.others(number, &key_of(resource));
        let others = stored.iter().filter_map(|other| other.0.as_ref().ok());
        let (left_out, watched): (Vec<_>, Vec<_>) =
            others.partition(|other| self.is_left_out(other));
        self.0.memory.peers(resource, &watched, &left_out)
    }

    fn has_peers(&self, resource: &WhatsAppPhoneNumber) -> bool {
        let number = &resource.spec.phone_number_id;
        !self.0.store.others(number, &key_of(resource)).is_empty()
    }

    fn open_claim(&mut self, resource: &WhatsAppPhoneNumber) -> OpenClaim {
        self.0.memory.open_claim(resource)
    }

    fn last_read(&self, resource: &WhatsAppPhoneNumber) -> Option<Timestamp> {
        self.0.memory.notes.last_read(resource)
    }

    fn cooldown(&self, token: &str) -> Option<Cooldown> {
        self.0.memory.cooldowns.of(token)
    }

    fn plan(&self, resource: &WhatsAppPhoneNumber) -> Option<Plan> {
        self.0.memory.notes.plan(resource)
    }

    fn busy(&self, token: &str) -> Option<Timestamp> {
        let busy = self.0.memory.busy.of(token)?;
        Some(busy.until)
    }

    fn finalizer_refused(&self, resource: &WhatsAppPhoneNumber) -> bool {
        self.0.memory.notes.finalizer_refused(resource)
    }

    fn refused_pin(&self, resource: &WhatsAppPhoneNumber, digests: &Digests) -> Option<Reason> {
        self.0.memory.refused_pins.of(resource, digests)
    }

    fn dropped_fields(&self) -> Option<String> {
        self.0.memory.definition.dropped_fields()
    }

    fn tries_definition(&self) -> bool {
        self.0.memory.definition.is_due()
    }

    fn note(&mut self, note: Note<'_>) {
        match note {
            Note::Dropped(fields) if self.0.memory.definition.note_dropped(fields) => {
                self.tell_of_definition(fields);
            }
            Note::Tried(fields) if self.0.memory.definition.note_tried(fields) => {
                self.tell_of_definition(fields);
            }
            Note::FinalizerRefused(resource)
                if self.0.memory.notes.note_finalizer_refused(resource) =>
            {
                self.tell_of_refused_finalizer(resource);
            }
            Note::Stored {
                before,
                after,
                purpose,
            } => self.0.tell(before, after, purpose),
            Note::Farewell(resource, farewell) if self.0.memory.farewells.tell(resource) => {
                self.0.tell_of_farewell(resource, farewell);
            }
            Note::FarewellInDoubt(resource, farewell)
                if self.0.memory.farewells.doubt(resource, farewell) =>
            {
                self.0.resolve_doubt(resource);
            }
            Note::Departed(resource) => self.0.tell_of_departed(resource),
            Note::Outcome(operation, outcome) => {
                if operation.registers() {
                    self.0.metrics.registration_attempt(outcome.reason);
                }
                info!(
                    reason = outcome.reason.as_str(),
                    trace = outcome.fbtrace_id.as_deref(),
                    "{}",
                    outcome.message
                );
            }
            Note::Unrecorded => info!("The resource is gone; the outcome is not recorded"),
            _ => {}
        }
        self.0.memory.note(note);
    }
}
