//! From answers to a status: the real machine, with every status and event on the way looked at. Also compiled into `fuzz/`.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use operator_core::api::{REGISTER_REQUESTED_AT, WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};
use operator_core::credentials::{Digests, SecretFault};
use operator_core::graph::{ReadOutcome, RegisterOutcome};
use operator_core::model::machine::{Effect, Input, Machine};
use operator_core::model::{Policy, Requeue, event};

use super::check;
use super::schema::status_faults;
use crate::world::{self, World};

/// More than a pass adds to a status: every text as long as it may be, in the letters that take most room.
const GROWTH_MAX_BYTES: usize = 64 * 1024;

/// A resource, and what its operator knows.
pub struct Player {
    pub world: World,
    /// Whether every status so far is one that this operator made, so that all of its texts are short.
    pub own: bool,
}

impl Player {
    /// A player of a resource whose status, if there is one, the operator made.
    pub fn new(resource: WhatsAppPhoneNumber, inputs: Result<Digests, SecretFault>) -> Self {
        let mut world = World::new();
        world.resource = resource;
        world.policy = policy();
        world.secrets = inputs;
        world.jitter = 1.0;
        world.claims_are_old = true;
        world.definition_tried = true;
        Self { world, own: true }
    }

    /// The status, as the API server has it.
    pub fn status(&self) -> WhatsAppPhoneNumberStatus {
        self.world.resource.status_or_unseen()
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.world.now
    }

    /// Time passes.
    pub fn sleep(&mut self, wait: Duration) {
        self.world.wait(wait);
    }

    /// A person asks for a register call.
    pub fn request(&mut self, value: &str) {
        let annotations = self
            .world
            .resource
            .metadata
            .annotations
            .get_or_insert_default();
        annotations.insert(REGISTER_REQUESTED_AT.to_owned(), value.to_owned());
    }

    /// One round of decisions, in which Graph answers so. Returns the wake and whether a register call was made.
    ///
    /// # Panics
    /// When something on the way is not as `check` wants it, or when the round does not end.
    pub fn pass(
        &mut self,
        read: &ReadOutcome,
        register: &RegisterOutcome,
    ) -> (Option<Requeue>, bool) {
        self.world.claims += 1;
        let mut machine = Machine::new(Arc::new(self.world.resource.clone()));
        let mut input = Input::Locked;
        loop {
            input = match machine.step(input, &mut self.world) {
                Effect::LoadSecrets => Input::Secrets(Ok(self.world.secrets.clone())),
                Effect::ReadNumber(fields) => Input::Reading(Box::new(ReadOutcome {
                    fields,
                    ..read.clone()
                })),
                Effect::Write { status, .. } => {
                    self.write(*status);
                    Input::Written(Ok(Arc::new(self.world.resource.clone())))
                }
                Effect::ListPeers(_) => Input::Peers(self.world.survey.clone()),
                Effect::Finalizer { set, .. } => Input::Patched(self.world.patch_finalizer(set)),
                Effect::Call(_) => Input::Called(Box::new(register.clone())),
                Effect::Lock => return (None, true),
                Effect::End(Ok(requeue)) => return (Some(requeue), false),
                effect => panic!("{effect:?} with {:?}", self.world.resource),
            };
        }
    }

    fn write(&mut self, status: WhatsAppPhoneNumberStatus) {
        if let Some(draft) = event::of_change(&self.status(), &status) {
            check::notice(&draft);
        }
        if self.own {
            check::status(&status);
        } else {
            let bytes = |status| serde_json::to_vec(status).expect("a status is JSON").len();
            let (before, after) = (bytes(&self.status()), bytes(&status));
            assert!(
                after <= before + GROWTH_MAX_BYTES,
                "{before} to {after} bytes"
            );
            let faults = |status: &_| status_faults(&serde_json::json!(status));
            let taken = !faults(&self.status()).is_empty() || faults(&status).is_empty();
            assert!(taken, "{:?}", faults(&status));
        }
        self.world.resource.status = Some(status);
    }
}

/// The settings, as the defaults are, but for more attempts and a longer claim.
pub fn policy() -> Policy {
    Policy {
        attempt_limit: 10,
        claim_ttl: Duration::from_secs(1_200),
        ..world::policy()
    }
}
