//! What to do next: `decide(&Observed, now) -> Decision`. Pure: no I/O, no clock, no randomness of its own.
//!
//! A pass asks again and again until it gets a [`Decision::Settle`]: each answer names the one thing that is missing
//! (the Secrets, a read of the number) or the one thing to do (claim and call). What has been found out stands in
//! [`Observed`]; what is not there yet is `None`. The order of the steps in [`decide`] and `Case::proceed` is the rule
//! that what costs nothing comes first and the call comes last.
//!
//! Beside this file: `facts` reads the status, `wait` says when a call may be made, `settle` says what is written.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::{
    REGISTER_REQUEST_MAX_BYTES, REGISTER_REQUESTED_AT, RegisterAttempt, WhatsAppPhoneNumber,
    WhatsAppPhoneNumberStatus,
};
use crate::conditions::is_registered;
use crate::digest::Digests;
use crate::graph::{ReadOutcome, Verdict};
use crate::ledger;
use crate::reason::{Next, Reason};
use crate::schedule::{Backoff, later, sane_next};
use crate::secrets::SecretFault;
use crate::text::{Bound, cut, one_line, stored_bytes};

mod facts;
mod settle;
mod wait;

/// The operator's settings that a decision depends on.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Automatic attempts per number in 72 h: `--attempt-limit`.
    pub attempt_limit: usize,
    /// Waits between attempts: `--retry-base`, `--retry-cap`.
    pub backoff: Backoff,
    /// How long after an unclear outcome no other call is made: `--confirm-window`.
    pub confirm_window: Duration,
    /// For how long a claim may not be taken for abandoned: twice `--graph-timeout`.
    pub claim_ttl: Duration,
    /// The version to call where the resource names none: `--graph-api-version`.
    pub graph_api_version: String,
    /// How often Secrets are looked at where they are not watched: `--secret-watch=false`.
    pub secret_poll: Option<Duration>,
}

impl Policy {
    /// The version of the Graph API to call for a resource.
    pub fn version<'a>(&'a self, resource: &'a WhatsAppPhoneNumber) -> &'a str {
        resource
            .spec
            .graph_api_version
            .as_deref()
            .unwrap_or(&self.graph_api_version)
    }
}

/// What is known of the phone number beyond the resource itself.
#[derive(Clone, Debug, Default)]
pub struct Others {
    /// The resource of the same phone number ID that goes ahead of this one, as `namespace/name`.
    pub ahead: Option<String>,
    /// The register calls made for other resources of the number, deleted ones included as far as the process
    /// remembers, and those of this resource that its status has lost.
    pub attempts: Vec<RegisterAttempt>,
}

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
    pub others: &'a Others,
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
    Settle(Box<WhatsAppPhoneNumberStatus>, Wake),
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
pub enum Wake {
    /// When it or its Secrets change.
    OnChange,
    /// After this time, or on a change.
    After(Duration),
}

/// Decides what to do next for a resource.
pub fn decide(observed: &Observed<'_>, now: Timestamp) -> Decision {
    let case = Case::new(observed, now);
    if observed.resource.metadata.deletion_timestamp.is_some() {
        return Decision::Settle(Box::new(case.status), Wake::OnChange);
    }
    if let Some(claim) = case
        .status
        .attempts
        .iter()
        .find(|attempt| attempt.is_open())
    {
        return case.open_claim(claim);
    }
    if observed.resource.spec.suspend {
        return case.suspend();
    }
    if is_registered(&case.status) && case.request.is_none() {
        return case.rest();
    }
    if let Some(ahead) = &observed.others.ahead {
        return case.give_way(ahead);
    }
    case.proceed()
}

/// One resource in one pass: what was observed, with the parts that are derived from it.
struct Case<'a> {
    observed: &'a Observed<'a>,
    now: Timestamp,
    /// The resource's status, with times that a sound clock could have written.
    status: WhatsAppPhoneNumberStatus,
    /// The value of the annotation that asks for a register call and was not handled yet.
    request: Option<&'a str>,
}

impl<'a> Case<'a> {
    fn new(observed: &'a Observed<'a>, now: Timestamp) -> Self {
        let resource = observed.resource;
        let annotation = register_request(resource);
        let mut status = status_of(resource);
        status.attempts = ledger::with_sane_times(&status.attempts, now);
        status.next_attempt_time = status.next_attempt_time.map(|time| sane_next(&time, now));
        status.read_failures = status.read_failures.max(0);
        let handled = status.last_handled_register_request.as_deref();
        let request = annotation.filter(|value| Some(*value) != handled);
        Self {
            observed,
            now,
            status,
            request,
        }
    }

    fn proceed(self) -> Decision {
        if let Some(decision) = self.wait_for_its_time() {
            return decision;
        }
        let digests = match &self.observed.inputs {
            None => return Decision::LoadSecrets,
            Some(Ok(digests)) => digests,
            Some(Err(fault)) => return self.fault(fault),
        };
        if let Some(decision) = self.stay_stalled(digests) {
            return decision;
        }
        let must_look = self.must_look();
        let reading = self.observed.reading.as_ref().filter(|_| must_look);
        if let Some(reading) = reading {
            match reading.verdict {
                Verdict::Registered => return self.adopt(reading, digests),
                Verdict::Wait(reason) => return self.wait_by_read(reason, reading, digests),
                Verdict::Stall(reason) if self.request.is_none() => {
                    return self.stall_by_read(reason, reading, digests);
                }
                // A person asked for the call: the look only says whether the one before took effect.
                Verdict::Stall(_) | Verdict::NotRegistered | Verdict::Unknown => {}
            }
        }
        // After what was read: the token may have met a limit elsewhere meanwhile, which takes nothing back that Graph
        // has said.
        if let Some(end) = self.observed.cool_down.filter(|end| *end > self.now) {
            return self.cool_down(end, digests);
        }
        if must_look && reading.is_none() {
            return Decision::Read;
        }
        self.hold_back(digests)
            .unwrap_or_else(|| self.claim(digests))
    }

    /// Whether the number must be read before a call: always, unless a person asked for the call and no outcome is
    /// open.
    fn must_look(&self) -> bool {
        self.request.is_none() || self.is_unconfirmed() && !is_registered(&self.status)
    }
}

/// A resource's status, or the one of a resource that nobody has seen. What such a one asks for came with Git or a
/// backup: nobody asked this operator for anything yet.
pub fn status_of(resource: &WhatsAppPhoneNumber) -> WhatsAppPhoneNumberStatus {
    let mut status = resource
        .status
        .clone()
        .unwrap_or_else(WhatsAppPhoneNumberStatus::unseen);
    if status.observed_generation < 0 {
        status.last_handled_register_request = register_request(resource).map(str::to_owned);
    }
    status
}

/// How long a read without a usable answer is waited out: what Graph says, else a backoff by the reads in a row.
fn wait_after_read(reading: &ReadOutcome, failures: i32, policy: &Policy) -> Duration {
    let failures = u32::try_from(failures).unwrap_or(u32::MAX);
    reading
        .retry_after
        .unwrap_or_else(|| policy.backoff.after(failures))
}

/// Until when the read of a pass lets its token cool down for every resource that uses it, where it met a rate limit;
/// `status` is the one that the pass writes.
pub fn cools_until(
    reading: &ReadOutcome,
    status: &WhatsAppPhoneNumberStatus,
    policy: &Policy,
    now: Timestamp,
) -> Option<Timestamp> {
    let limited = reading.verdict == Verdict::Wait(Reason::RateLimited);
    limited.then(|| later(now, wait_after_read(reading, status.read_failures, policy)))
}

/// The value of the annotation that asks for a register call, where it is one.
pub fn register_request(resource: &WhatsAppPhoneNumber) -> Option<&str> {
    let value = resource
        .metadata
        .annotations
        .as_ref()?
        .get(REGISTER_REQUESTED_AT)?;
    (!value.is_empty() && stored_bytes(value) <= REGISTER_REQUEST_MAX_BYTES).then_some(value)
}

/// What to do where nothing is tried until a person has done it. Where the advice says how the operator goes on by
/// itself, or names nothing that it notices, the number has to be asked for.
fn until_a_person(reason: Reason) -> String {
    let ask = format!("set the annotation {REGISTER_REQUESTED_AT}.");
    match reason {
        Reason::OutcomeUnknown | Reason::Registering => {
            format!("Look at the number in WhatsApp Manager, then {ask}")
        }
        Reason::GraphUnavailable | Reason::NotSent => {
            format!("Wait until Graph has recovered, then {ask}")
        }
        _ if reason.next() == Next::Retry || reason == Reason::CertificateUnavailable => {
            format!("{} Then {ask}", reason.advice())
        }
        _ => reason.advice().to_owned(),
    }
}

/// A message for people: what happened, what to do, and when the operator comes back; never, where it stalls.
pub fn explain(what: &str, reason: Reason, next: Option<Timestamp>) -> String {
    let what = what.trim_end_matches('.');
    let mut letters = what.chars();
    let first = letters
        .next()
        .map(|c| c.to_uppercase().to_string())
        .unwrap_or_default();
    let what = one_line(&format!("{first}{}", letters.as_str()));
    let rest = match next {
        Some(next) => format!(". {} Next attempt at {next}.", reason.advice()),
        None => format!(
            ". {} Nothing is tried again until then.",
            until_a_person(reason)
        ),
    };
    // Where Graph says much, it is not at the cost of what to do.
    cut(&what, Bound::MESSAGE.without(&rest)) + &rest
}

#[cfg(test)]
pub(crate) mod tests;
