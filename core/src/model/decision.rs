//! What a decision is made on, and what it can be.

use std::time::Duration;

use jiff::Timestamp;

use super::policy::Policy;
use super::twins::Peers;
use crate::api::{WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};
use crate::credentials::{Digests, SecretFault};
use crate::graph::ReadOutcome;

/// What this process knows of an open claim that it has no task for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenClaim {
    /// Somebody's claim, seen unchanged for so long by this process's monotonic clock.
    SeenFor(Duration),
    /// A claim of this process whose call was certainly not made.
    Unsent,
}

/// Everything that a decision depends on.
#[derive(Debug)]
pub struct Observed<'a> {
    /// The resource as last seen.
    pub resource: &'a WhatsAppPhoneNumber,
    /// The operator's settings.
    pub policy: &'a Policy,
    /// What is known of the number beyond the resource.
    pub peers: &'a Peers,
    /// What this process knows of the open claim in the resource's ledger, if there is one.
    pub open_claim: OpenClaim,
    /// When this process last read the number from Graph for this resource.
    pub last_read: Option<Timestamp>,
    /// The digests of what a call would be made of, or why none can be made; `None` before the Secrets were read.
    pub inputs: Option<Result<Digests, SecretFault>>,
    /// Until when the token cools down; looked up once the Secrets were read.
    pub cool_down: Option<Timestamp>,
    /// What Graph said of the number in this pass.
    pub reading: Option<ReadOutcome>,
    /// The ID for a new claim.
    pub fresh_id: &'a str,
    /// A random number from 0 to 1.
    pub jitter: f64,
}

/// The one thing to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Read the Secrets: a call may follow.
    LoadSecrets,
    /// Read the number from Graph.
    Read,
    /// Write this status, which claims an attempt; if that holds, make the register call and record its outcome.
    Register(Box<Claim>),
    /// Write this status if it differs, and end the pass.
    Settle(Box<WhatsAppPhoneNumberStatus>, Requeue),
}

/// A claim to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The status with the claim as its newest attempt.
    pub status: WhatsAppPhoneNumberStatus,
    /// The handled value of the annotation before the claim, to be put back if nothing is sent.
    pub handled_before: Option<String>,
}

/// When to look at the resource again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// When it or its Secrets change.
    OnChange,
    /// After this time, or on a change.
    After(Duration),
}
