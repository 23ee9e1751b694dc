//! The inputs of a decision, and its possible results.

use std::time::Duration;

use jiff::Timestamp;

use super::cooldown::Cooldown;
use super::observe::Plan;
use super::policy::Policy;
use super::schedule::until;
use super::twins::Peers;
use crate::api::{LedgerEntry, Reason, WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};
use crate::credentials::{Digests, SecretFault};
use crate::graph::{ReadFields, ReadOutcome};

/// The knowledge of this process about an open claim that it is not working on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenClaim {
    /// The claim of any process, seen unchanged for this long by the monotonic clock of this one.
    SeenFor(Duration),
    /// A claim of this process whose call was certainly not made.
    Unsent,
}

/// The inputs that a call would have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inputs {
    /// The Secrets were not read.
    Unread,
    /// A Secret is missing or wrong: no call can be made.
    Faulty(SecretFault),
    /// A call can be made; the digests identify its inputs.
    Ready(Digests),
}

impl From<Result<Digests, SecretFault>> for Inputs {
    fn from(found: Result<Digests, SecretFault>) -> Self {
        found.map_or_else(Self::Faulty, Self::Ready)
    }
}

/// The inputs of a decision.
#[derive(Debug)]
pub struct Observed<'a> {
    /// The resource in its newest known version.
    pub resource: &'a WhatsAppPhoneNumber,
    pub policy: &'a Policy,
    /// The knowledge about the number beyond the resource.
    pub peers: &'a Peers,
    /// The knowledge about the open claim in the resource's ledger; without one it says nothing.
    pub open_claim: OpenClaim,
    /// The time of this process's last read of the number for this resource.
    pub last_read: Option<Timestamp>,
    pub inputs: &'a Inputs,
    /// The last cool-down of the token; known once the Secrets are read.
    pub cooldown: Option<Cooldown>,
    /// Why Graph has refused this PIN with this token in another resource's call for the number, or in one that the status has lost.
    pub refused_pin: Option<Reason>,
    /// The status fields that the API server drops and a decision relies on, if it drops any.
    pub dropped_fields: Option<&'a str>,
    /// The read of the number in this reconciliation.
    pub reading: Option<&'a ReadOutcome>,
    /// The optional read in this reconciliation.
    pub details: Option<&'a ReadOutcome>,
    /// The survey of this reconciliation, or why it failed.
    pub survey: Option<&'a Result<Survey, String>>,
    /// Whether the API server refuses to patch the resource, so that it can have no finalizer.
    pub finalizer_refused: bool,
    /// When this process observes the number next, if it has planned that.
    pub plan: Option<Plan>,
    /// The time until which the rest of the token's limit is left to calls, because it is nearly used up.
    pub busy: Option<Timestamp>,
    /// The ID for a new claim.
    pub fresh_id: &'a str,
    /// A random number from 0 to 1.
    pub jitter: f64,
}

/// The next step.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Read the Secrets: a call may follow.
    LoadSecrets,
    /// Read these fields of the number from Graph.
    Read(ReadFields),
    /// Write this status, which claims an attempt; if the claim is acquired, make the call and record its outcome.
    Call(Box<Claim>),
    /// Ask the API server for the other resources of the number, and whether the CRD is being deleted.
    Survey,
    /// Set the finalizer, or remove it.
    Finalize(Finalize),
    /// Write this status if it differs, and end the reconciliation.
    Settle(Box<WhatsAppPhoneNumberStatus>, Requeue),
}

/// What happens to the finalizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finalize {
    /// The resource must not be deleted before its number was taken off the Cloud API.
    Set,
    /// It may be deleted: its number stays registered.
    Clear,
    /// The resource is being deleted, and is released now.
    LetGo(Farewell),
}

/// What happens to the number of a deleted resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell {
    pub outcome: FarewellOutcome,
    /// Why, in one line for the user.
    pub why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FarewellOutcome {
    /// The number is not registered: it was taken off the Cloud API, or a read shows that it is not on it.
    Deregistered,
    /// It was not registered for this resource, or no longer; nobody has looked whether it is for another reason.
    NotRegistered,
    /// The number stays registered, as far as is known.
    LeftRegistered,
    /// A call may have taken it off.
    InDoubt,
}

/// The answer of the API server to [`Decision::Survey`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    /// The resources of the number, this one included.
    pub peers: Vec<WhatsAppPhoneNumber>,
    /// Whether the CRD is being deleted, and all resources with it.
    pub definition_deleted: bool,
}

/// A claim to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The open entry in the ledger.
    pub entry: LedgerEntry,
    /// The status, with the entry as its newest.
    pub status: WhatsAppPhoneNumberStatus,
    /// The handled value of the annotation before the claim, restored if nothing is sent.
    pub handled_before: Option<String>,
}

/// When to reconcile the resource again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// When the resource or its Secrets change; without a change after some hours, in case one was missed.
    OnChange,
    /// After this time, or earlier on a change.
    After(Duration),
    /// When the number is to be observed, or earlier on a change.
    Observe(Plan),
}

impl Requeue {
    /// The wait, if it ends without a change.
    pub fn wait(self, now: Timestamp) -> Option<Duration> {
        match self {
            Self::OnChange => None,
            Self::After(wait) => Some(wait),
            Self::Observe(plan) => {
                let read = until(plan.at, now);
                Some(plan.poll.map_or(read, |poll| poll.min(read)))
            }
        }
    }

    /// The same, but not earlier than after this time.
    pub fn not_before(self, least: Duration) -> Self {
        match self {
            Self::OnChange | Self::Observe(_) => self,
            Self::After(wait) => Self::After(wait.max(least)),
        }
    }
}
