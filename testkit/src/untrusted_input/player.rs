//! From answers to a status: the real `decide` and `apply_outcome`, driven as `pass` and `attempt` do, with every status and
//! event on the way looked at. Also compiled into `fuzz/`.

use std::time::Duration;

use jiff::Timestamp;

use operator_core::api::{REGISTER_REQUESTED_AT, WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};
use operator_core::credentials::{Digests, SecretFault};
use operator_core::graph::{ReadOutcome, RegisterOutcome};
use operator_core::model::schedule::{Backoff, plus};
use operator_core::model::{
    ApplyContext, CallResult, Claim, Decision, Observed, OpenClaim, Peers, Policy, Requeue,
    apply_outcome, decide, event,
};

use super::check;
use super::schema::status_faults;

/// More steps than a pass may take: the bound in `pass`.
const STEPS_MAX: usize = 8;

/// More than a pass adds to a status: every text as long as it may be, in the letters that take most room.
const GROWTH_MAX_BYTES: usize = 64 * 1024;

/// A resource, and what its operator knows.
pub struct Player {
    /// The resource.
    pub resource: WhatsAppPhoneNumber,
    /// What its Secrets make.
    pub inputs: Result<Digests, SecretFault>,
    /// What other resources of the number did.
    pub peers: Peers,
    /// The time.
    pub now: Timestamp,
    /// Whether every status so far is one that this operator made, so that all of its texts are short.
    pub own: bool,
}

impl Player {
    /// A player of a resource whose status, if there is one, the operator made.
    pub fn new(resource: WhatsAppPhoneNumber, inputs: Result<Digests, SecretFault>) -> Self {
        Self {
            resource,
            inputs,
            peers: Peers::default(),
            now: Timestamp::from_second(1_800_000_000).unwrap_or_default(),
            own: true,
        }
    }

    /// The status, as the API server has it.
    pub fn status(&self) -> WhatsAppPhoneNumberStatus {
        let unseen = WhatsAppPhoneNumberStatus::unseen;
        self.resource.status.clone().unwrap_or_else(unseen)
    }

    /// Time passes.
    pub fn sleep(&mut self, wait: Duration) {
        self.now = plus(self.now, wait);
    }

    /// A person asks for a register call.
    pub fn request(&mut self, value: &str) {
        let annotations = self.resource.metadata.annotations.get_or_insert_default();
        annotations.insert(REGISTER_REQUESTED_AT.to_owned(), value.to_owned());
    }

    /// One pass, in which Graph answers so. Returns the wake and whether a register call was made.
    ///
    /// # Panics
    /// When something on the way is not as `check` wants it, or when the pass does not end.
    pub fn pass(
        &mut self,
        read: &ReadOutcome,
        register: &RegisterOutcome,
    ) -> (Option<Requeue>, bool) {
        let policy = policy();
        let resource = self.resource.clone();
        let others = self.peers.clone();
        let id = format!("{:032x}", self.now.as_second());
        let mut observed = Observed {
            resource: &resource,
            policy: &policy,
            peers: &others,
            open_claim: OpenClaim::SeenFor(Duration::MAX),
            last_read: None,
            inputs: None,
            cool_down: None,
            reading: None,
            fresh_id: &id,
            jitter: 1.0,
        };
        for _ in 0..STEPS_MAX {
            match decide(&observed, self.now) {
                Decision::LoadSecrets => observed.inputs = Some(self.inputs.clone()),
                Decision::Read => {
                    observed.reading = Some(read.clone());
                    observed.last_read = Some(self.now);
                }
                Decision::Register(claim) => {
                    self.register(&claim, &id, register, &policy);
                    return (None, true);
                }
                Decision::Settle(status, wake) => {
                    self.write(*status);
                    return (Some(wake), false);
                }
            }
        }
        panic!("the pass does not end: {:?}", self.resource);
    }

    fn register(&mut self, claim: &Claim, id: &str, register: &RegisterOutcome, policy: &Policy) {
        self.write(claim.status.clone());
        let result = CallResult {
            id,
            outcome: register,
            handled_before: claim.handled_before.as_deref(),
        };
        let course = ApplyContext {
            policy,
            generation: claim.status.observed_generation,
            jitter: 1.0,
            now: self.now,
        };
        self.write(apply_outcome(claim.status.clone(), &result, &course));
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
        self.resource.status = Some(status);
    }
}

/// The settings, as the defaults are, but for more attempts.
pub fn policy() -> Policy {
    Policy {
        attempt_limit: 10,
        backoff: Backoff {
            base: Duration::from_secs(30),
            cap: Duration::from_secs(18 * 3600),
        },
        confirm_window: Duration::from_secs(120),
        claim_ttl: Duration::from_secs(1_200),
        graph_api_version: "v23.0".to_owned(),
        secret_poll: None,
    }
}
