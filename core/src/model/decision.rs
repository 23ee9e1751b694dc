//! The inputs of a decision, and its possible results.

use std::time::Duration;

use jiff::Timestamp;

use super::cooldown::Cooldown;
use super::policy::Policy;
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

/// What a call would be made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inputs {
    /// The Secrets were not read.
    Unread,
    /// A Secret is missing or wrong: no call can be made.
    Faulty(SecretFault),
    /// A call can be made; the digests tell of what.
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
    /// Write this status, which claims an attempt; if the claim is acquired, make the register call and record its outcome.
    Register(Box<Claim>),
    /// Write this status if it differs, and end the reconciliation.
    Settle(Box<WhatsAppPhoneNumberStatus>, Requeue),
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
}

impl Requeue {
    /// The same, but not earlier than after this time.
    pub fn not_before(self, least: Duration) -> Self {
        match self {
            Self::OnChange => self,
            Self::After(wait) => Self::After(wait.max(least)),
        }
    }
}
