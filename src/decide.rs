//! What to do next: `decide(&Observed, now) -> Decision`. Pure: no I/O, no clock, no randomness of its own.
//!
//! A pass asks again and again until it gets a [`Decision::Settle`]: each answer names the one thing that is missing
//! (the Secrets, a read of the number) or the one thing to do (claim and call). What has been found out stands in
//! [`Observed`]; what is not there yet is `None`. The order of the steps in [`decide`] and `Case::proceed` is the order
//! of DESIGN 4: what costs nothing comes first, the call comes last.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{
    GraphErrorStatus, REGISTER_REQUEST_MAX_BYTES, REGISTER_REQUESTED_AT, RegisterAttempt,
    WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus,
};
use crate::conclude::{self, Ending};
use crate::conditions::{self, Situation, Standing, is_registered, is_true, reason_of};
use crate::digest::Digests;
use crate::graph::{ReadOutcome, RegisterOutcome, Verdict, classify};
use crate::ledger;
use crate::reason::{Next, Reason, condition};
use crate::schedule::{Backoff, ConfirmWindow, META_LIMIT, later, sane_next, until, with_jitter};
use crate::secrets::SecretFault;

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

/// How what a call is made of compares with the last attempt.
enum Change {
    None,
    /// Under a new token the old digest says nothing about the PIN.
    Token,
    Inputs,
}

impl<'a> Case<'a> {
    fn new(observed: &'a Observed<'a>, now: Timestamp) -> Self {
        let resource = observed.resource;
        let annotation = register_request(resource);
        let mut status = resource
            .status
            .clone()
            .unwrap_or_else(WhatsAppPhoneNumberStatus::unseen);
        if status.observed_generation < 0 {
            // It came with Git or a backup: nobody asked this operator for anything yet.
            status.last_handled_register_request = annotation.map(str::to_owned);
        }
        status.attempts = ledger::with_sane_times(&status.attempts, now);
        status.next_attempt_time = status.next_attempt_time.map(|time| sane_next(&time, now));
        let handled = status.last_handled_register_request.as_deref();
        let request = annotation.filter(|value| Some(*value) != handled);
        Self {
            observed,
            now,
            status,
            request,
        }
    }

    // --- endings that need no call ---

    /// Leaves everything as it is, but for the generation.
    fn rest(mut self) -> Decision {
        if is_registered(&self.status) && self.request_was_waiting() {
            // Its request is gone, or the number is suspended.
            self.status.next_attempt_time = None;
            let standing = self.present(Situation::Registered);
            return self.settle(&standing, Wake::OnChange);
        }
        let generation = self.generation();
        conditions::observe_generation(&mut self.status, generation);
        let wake = self.poll_if(is_true(&self.status, condition::STALLED));
        Decision::Settle(Box::new(self.status), wake)
    }

    /// Waits for a claim's process, or closes the claim when the process must be gone.
    fn open_claim(&self, claim: &RegisterAttempt) -> Decision {
        let reason = match self.observed.open_claim {
            OpenClaim::Unsent => Reason::NotSent,
            OpenClaim::SeenFor(seen) if seen >= claim.ttl() => Reason::OutcomeUnknown,
            OpenClaim::SeenFor(seen) => {
                let mut status = self.status.clone();
                conditions::observe_generation(&mut status, self.generation());
                return Decision::Settle(Box::new(status), Wake::After(claim.ttl() - seen));
            }
        };
        let message = match reason {
            Reason::NotSent => "the call was claimed and not made",
            _ => "the process that made the call is gone and left no outcome",
        };
        let outcome = RegisterOutcome::without_answer(reason, message);
        let ending = Ending {
            id: &claim.id,
            outcome: &outcome,
            handled_before: self.handled_before(claim),
        };
        let concluded = conclude::conclude(self.status.clone(), &ending, &self.course());
        Decision::Settle(Box::new(concluded), Wake::After(Duration::ZERO))
    }

    fn suspend(mut self) -> Decision {
        if is_registered(&self.status) {
            return self.rest();
        }
        self.status.next_attempt_time = None;
        let standing = Standing {
            situation: Situation::Suspended,
            reason: Reason::Suspended,
            message: format!(
                "spec.suspend is true: no call is made. {}",
                Reason::Suspended.advice()
            ),
        };
        self.settle(&standing, Wake::OnChange)
    }

    fn give_way(mut self, ahead: &str) -> Decision {
        self.status.next_attempt_time = None;
        let reason = Reason::DuplicatePhoneNumber;
        let standing = Standing {
            situation: Situation::Stalled,
            reason,
            message: format!(
                "{ahead} has the same phone number ID and goes ahead. {}",
                reason.advice()
            ),
        };
        self.settle(&standing, Wake::OnChange)
    }

    // --- towards a call ---

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
        if let Some(end) = self.observed.cool_down.filter(|end| *end > self.now) {
            return self.cool_down(end, digests);
        }
        if self.must_look() {
            match &self.observed.reading {
                None => return Decision::Read,
                Some(reading) => match reading.verdict {
                    Verdict::Registered => return self.adopt(reading, digests),
                    Verdict::Wait(reason) => return self.wait_by_read(reason, reading, digests),
                    Verdict::Stall(reason) if self.request.is_none() => {
                        return self.stall_by_read(reason, reading, digests);
                    }
                    // A person asked for the call: the look only says whether the one before took effect.
                    Verdict::Stall(_) | Verdict::NotRegistered | Verdict::Unknown => {}
                },
            }
        }
        self.hold_back(digests)
            .unwrap_or_else(|| self.claim(digests))
    }

    /// Waits until the time in the status; in the confirm window the number is read meanwhile.
    fn wait_for_its_time(&self) -> Option<Decision> {
        if self.verdict().is_some() {
            return None;
        }
        let due = self.own_due().filter(|due| *due > self.now)?;
        if self.waits_for_token() {
            match &self.observed.inputs {
                None => return Some(Decision::LoadSecrets),
                Some(Ok(digests)) if self.token_changed(digests) => return None,
                Some(_) => {}
            }
        }
        // What the read of the confirm window said is looked at like any other read's answer.
        if self.look_is_due() || self.observed.reading.is_some() {
            return None;
        }
        Some(self.wait_on(due))
    }

    /// Whether a read that the confirm window plans has come due.
    fn look_is_due(&self) -> bool {
        let sound = matches!(self.observed.inputs, None | Some(Ok(_)));
        let window = self.window().filter(|window| window.end > self.now);
        sound
            && self.status.read_failures == 0
            && self.observed.reading.is_none()
            && window.is_some_and(|window| window.read_due(self.observed.last_read, self.now))
    }

    /// Goes on waiting as before.
    fn wait_on(&self, due: Timestamp) -> Decision {
        let next_read = self
            .window()
            .filter(|_| self.status.read_failures == 0)
            .and_then(|window| window.next_read(self.now))
            .unwrap_or(due);
        let wake = Wake::After(until(due.min(next_read), self.now));
        let mut status = self.status.clone();
        if let Some(reading) = &self.observed.reading {
            note_reading(&mut status, reading, self.version(), self.now);
        }
        if status.next_attempt_time.is_none() {
            // It was suspended or a duplicate meanwhile: the wait is that of the last attempt.
            status.next_attempt_time = Some(Time(due));
            conditions::set(
                &mut status,
                &self.last_attempt(due),
                self.generation(),
                self.now,
            );
        }
        conditions::observe_generation(&mut status, self.generation());
        Decision::Settle(Box::new(status), wake)
    }

    /// A Secret is missing or wrong: no call can be made.
    fn fault(mut self, fault: &SecretFault) -> Decision {
        let situation = match fault.reason.next() {
            Next::Stall => Situation::Stalled,
            _ => Situation::Waiting,
        };
        // A wait that is under way goes on beside that for the Secret.
        let ahead = |due: &Timestamp| situation == Situation::Waiting && *due > self.now;
        self.status.next_attempt_time = self.own_due().filter(ahead).map(Time);
        let standing = Standing {
            situation,
            reason: fault.reason,
            message: fault.message.clone(),
        };
        let wake = self.poll_if(true);
        self.settle(&standing, wake)
    }

    /// Stays stalled while what a call is made of has not changed.
    fn stay_stalled(&self, digests: &Digests) -> Option<Decision> {
        if self.request.is_some() || is_registered(&self.status) {
            return None;
        }
        let reason = self.verdict()?;
        if self.is_lifted(digests) {
            return None;
        }
        let mut status = self.status.clone();
        let standing = match self.change(digests) {
            Change::Inputs | Change::Token => {
                remember(&mut status, digests);
                Standing {
                    situation: Situation::Stalled,
                    reason,
                    message: format!(
                        "Graph refused the PIN under the token before; whether the PIN changed with the token cannot \
                         be told. Change the PIN again, or set the annotation {REGISTER_REQUESTED_AT} if it is right now."
                    ),
                }
            }
            Change::None if self.stalled() == Some(reason) => {
                conditions::observe_generation(&mut status, self.generation());
                return Some(Decision::Settle(Box::new(status), self.poll_if(true)));
            }
            Change::None => Standing {
                situation: Situation::Stalled,
                reason,
                message: explain(&self.last_words(), reason, None),
            },
        };
        conditions::set(&mut status, &standing, self.generation(), self.now);
        status.next_attempt_time = None;
        Some(Decision::Settle(Box::new(status), self.poll_if(true)))
    }

    /// Another call with this token met a rate limit: every resource that uses it waits.
    fn cool_down(mut self, end: Timestamp, digests: &Digests) -> Decision {
        let end = later(end, Duration::ZERO);
        let reason = Reason::RateLimited;
        self.status.next_attempt_time = Some(Time(end));
        self.note_limited_token(digests);
        let message = explain("the token met a rate limit of Graph", reason, Some(end));
        let standing = Standing {
            situation: self.waiting(),
            reason,
            message,
        };
        let wake = Wake::After(until(end, self.now));
        self.settle(&standing, wake)
    }

    /// Whether the number must be read before a call: always, unless a person asked for the call and no outcome is
    /// open.
    fn must_look(&self) -> bool {
        self.request.is_none() || self.is_unconfirmed() && !is_registered(&self.status)
    }

    /// Graph says that the number is registered: nothing is sent.
    fn adopt(mut self, reading: &ReadOutcome, digests: &Digests) -> Decision {
        let unclear = self.is_unconfirmed() || self.is_unchecked();
        let reason = if unclear {
            Reason::OutcomeConfirmed
        } else {
            Reason::AlreadyRegistered
        };
        if unclear && let Some(attempt) = self.status.attempts.iter_mut().find(|a| a.counts()) {
            conclude::confirm(attempt);
        }
        self.status = self.noted();
        conclude::registered(&mut self.status, self.now);
        remember(&mut self.status, digests);
        let message = match reason {
            Reason::OutcomeConfirmed => format!(
                "The register call took effect, although its answer did not say so. {}.",
                reading.message
            ),
            _ => format!(
                "The number was registered already; no register call was made. {}.",
                reading.message
            ),
        };
        let standing = Standing {
            situation: Situation::Registered,
            reason,
            message,
        };
        let wake = match self.request {
            Some(_) => Wake::After(Duration::ZERO),
            None => Wake::OnChange,
        };
        self.settle(&standing, wake)
    }

    fn stall_by_read(
        mut self,
        reason: Reason,
        reading: &ReadOutcome,
        digests: &Digests,
    ) -> Decision {
        self.status = self.noted();
        remember(&mut self.status, digests);
        self.status.last_error.clone_from(&reading.error);
        self.status.next_attempt_time = None;
        let message = explain(&reading.message, reason, None);
        let standing = Standing {
            situation: Situation::Stalled,
            reason,
            message,
        };
        let wake = self.poll_if(true);
        self.settle(&standing, wake)
    }

    /// The read had no usable answer: read again later, no attempt is spent.
    fn wait_by_read(
        mut self,
        reason: Reason,
        reading: &ReadOutcome,
        digests: &Digests,
    ) -> Decision {
        note_trace(&mut self.status, reading);
        self.status.read_failures = self.status.read_failures.saturating_add(1);
        let failures = u32::try_from(self.status.read_failures).unwrap_or(u32::MAX);
        let policy = &self.observed.policy;
        let wait = reading
            .retry_after
            .unwrap_or_else(|| policy.backoff.after(failures));
        let due = later(self.now, with_jitter(wait, self.observed.jitter));
        let due = self.own_due().map_or(due, |own| own.max(due));
        self.status.next_attempt_time = Some(Time(due));
        if reason == Reason::RateLimited {
            self.note_limited_token(digests);
        }
        let passing = |error: &GraphErrorStatus| classify(error).next() == Next::Retry;
        if self.verdict_of_error().is_none() && reading.error.as_ref().is_none_or(passing) {
            // A read that gave no usable answer gives no verdict, and takes none away.
            self.status.last_error.clone_from(&reading.error);
        }
        let wake = Wake::After(until(due, self.now));
        let message = explain(&reading.message, reason, Some(due));
        let standing = match self.waiting() {
            Situation::Confirming => Standing {
                situation: Situation::Confirming,
                reason: Reason::OutcomeUnknown,
                message,
            },
            situation => Standing {
                situation,
                reason,
                message,
            },
        };
        self.settle(&standing, wake)
    }

    /// Why no call may be made yet, although the number is not registered as far as is known.
    fn hold_back(&self, digests: &Digests) -> Option<Decision> {
        if let Some(window) = self.window().filter(|window| window.end > self.now) {
            return Some(self.wait_for_window(window));
        }
        if self.looked_too_early() {
            return Some(Decision::Settle(
                Box::new(self.status.clone()),
                Wake::After(Duration::ZERO),
            ));
        }
        if self.request.is_none()
            && let Some(decision) = self.stall_unconfirmed(digests)
        {
            return Some(decision);
        }
        let due = self.own_due().filter(|due| *due > self.now);
        if let Some(due) = due
            && !(self.waits_for_token() && self.token_changed(digests))
        {
            return Some(self.wait_on(due));
        }
        let attempts = self.all_attempts();
        if let Some(end) = ledger::blocked_until(&attempts, self.now) {
            return Some(self.hold_until(
                Reason::RegistrationBlocked,
                "Meta has blocked register calls for this number",
                end,
            ));
        }
        let limit = match self.request {
            Some(_) => META_LIMIT,
            None => self.observed.policy.attempt_limit.min(META_LIMIT),
        };
        let opens = ledger::budget_opens(&attempts, limit, self.now)?;
        let message =
            format!("{limit} register calls were made in 72 hours, of Meta's {META_LIMIT}");
        Some(self.hold_until(Reason::AttemptBudgetExhausted, &message, opens))
    }

    /// A call for this number, by this resource or another, is not settled yet.
    fn wait_for_window(&self, window: ConfirmWindow) -> Decision {
        let own = ledger::unclear_window(
            &self.status.attempts,
            self.observed.policy.confirm_window,
            self.now,
        );
        if self.request.is_none() && own.is_some() && self.status.next_attempt_time.is_some() {
            return self.wait_on(self.due().unwrap_or(window.end).max(window.end));
        }
        let end = later(window.end, Duration::ZERO);
        let message = explain(
            "a register call for this number was made moments ago",
            Reason::OutcomeUnknown,
            Some(end),
        );
        let mut status = self.noted();
        status.next_attempt_time = Some(Time(end));
        let standing = Standing {
            situation: Situation::Confirming,
            reason: Reason::OutcomeUnknown,
            message,
        };
        conditions::set(&mut status, &standing, self.generation(), self.now);
        let next_read = window
            .next_read(self.now)
            .filter(|_| self.must_look())
            .unwrap_or(end);
        Decision::Settle(
            Box::new(status),
            Wake::After(until(next_read.min(end), self.now)),
        )
    }

    /// The confirm window is over, and what Graph answered is not worth another attempt.
    fn stall_unconfirmed(&self, digests: &Digests) -> Option<Decision> {
        let attempt = self
            .status
            .attempts
            .iter()
            .find(|attempt| attempt.counts())?;
        let reason = attempt.known_reason()?;
        // A verdict may come with a 5xx, or a call that a person asked for in spite of it stay without an answer.
        let stalls = reason.next() == Next::ConfirmThenStall
            || self.is_unchecked()
            || attempt.is_unclear() && self.verdict_of_error().is_some();
        if !stalls || self.is_lifted(digests) {
            return None;
        }
        let mut status = self.noted();
        remember(&mut status, digests);
        status.next_attempt_time = None;
        let message = explain(
            &format!("{}, and the number is not registered", self.last_words()),
            reason,
            None,
        );
        let standing = Standing {
            situation: Situation::Stalled,
            reason,
            message,
        };
        conditions::set(&mut status, &standing, self.generation(), self.now);
        Some(Decision::Settle(Box::new(status), self.poll_if(true)))
    }

    fn hold_until(&self, reason: Reason, what: &str, end: Timestamp) -> Decision {
        let end = later(end, Duration::ZERO);
        let mut status = self.noted();
        status.next_attempt_time = Some(Time(end));
        let message = explain(what, reason, Some(end));
        let standing = Standing {
            situation: Situation::Waiting,
            reason,
            message,
        };
        conditions::set(&mut status, &standing, self.generation(), self.now);
        Decision::Settle(Box::new(status), Wake::After(until(end, self.now)))
    }

    /// The claim: the write that makes this process, and no other, the one to call.
    fn claim(&self, digests: &Digests) -> Decision {
        let mut status = self.noted();
        let handled_before = status.last_handled_register_request.clone();
        if let Some(request) = self.request {
            status.last_handled_register_request = Some(request.to_owned());
        }
        let policy = self.observed.policy;
        let claim = RegisterAttempt::claim(
            self.observed.fresh_id,
            policy.claim_ttl,
            self.request,
            self.now,
        );
        ledger::push(&mut status.attempts, claim, self.now);
        if self.verdict_of_error().is_none() || self.is_lifted(digests) {
            // What Graph said of other inputs is no verdict on these, should the call get no answer.
            status.last_error = None;
        }
        remember(&mut status, digests);
        status.graph_api_version = Some(self.version().to_owned());
        status.next_attempt_time = None;
        status.read_failures = 0;
        let reason = Reason::Registering;
        let message = format!("A register call is being made. {}", reason.advice());
        let standing = Standing {
            situation: Situation::Registering,
            reason,
            message,
        };
        conditions::set(&mut status, &standing, self.generation(), self.now);
        Decision::Register(Box::new(Claim {
            status,
            handled_before,
        }))
    }

    // --- what is derived ---

    fn generation(&self) -> i64 {
        self.observed
            .resource
            .metadata
            .generation
            .unwrap_or_default()
    }

    fn version(&self) -> &'a str {
        self.observed.policy.version(self.observed.resource)
    }

    fn course(&self) -> conclude::Course<'a> {
        conclude::Course {
            policy: self.observed.policy,
            generation: self.generation(),
            jitter: self.observed.jitter,
            now: self.now,
        }
    }

    fn settle(mut self, standing: &Standing, wake: Wake) -> Decision {
        let generation = self.generation();
        conditions::set(&mut self.status, standing, generation, self.now);
        Decision::Settle(Box::new(self.status), wake)
    }

    /// The status with what this pass has read.
    fn noted(&self) -> WhatsAppPhoneNumberStatus {
        let mut status = self.status.clone();
        if let Some(reading) = &self.observed.reading {
            note_reading(&mut status, reading, self.version(), self.now);
        }
        status
    }

    /// When this resource comes back by itself: the stored time, else the one that its last attempt leads to.
    fn due(&self) -> Option<Timestamp> {
        let stored = self.status.next_attempt_time.as_ref().map(|time| time.0);
        stored.or_else(|| conclude::due_after(&self.status.attempts, self.observed.policy))
    }

    /// What the next call has to wait for by itself. A request waits for no backoff, only until the outcome before it
    /// is confirmed, or where its own call was made and sent back.
    fn own_due(&self) -> Option<Timestamp> {
        if self.request.is_none() || self.is_handed_back() {
            return self.due();
        }
        self.window()
            .filter(|_| self.must_look())
            .map(|window| window.end)
    }

    /// Whether the request's own call ended so that the annotation still asks for one.
    fn is_handed_back(&self) -> bool {
        let mut ended = self.status.attempts.iter().filter(|a| !a.is_open());
        self.request.is_some()
            && ended
                .next()
                .is_some_and(|a| a.request.as_deref() == self.request)
    }

    /// The annotation's value that was handled before a claim, as far as the ledger tells.
    fn handled_before(&self, claim: &RegisterAttempt) -> Option<&str> {
        let others = self.status.attempts.iter().filter(|a| a.id != claim.id);
        others
            .filter(|attempt| conclude::is_spent(attempt))
            .find_map(|attempt| attempt.request.as_deref())
    }

    /// Whether the conditions of a registered number tell of a requested call that could not be made yet.
    fn request_was_waiting(&self) -> bool {
        is_true(&self.status, condition::RECONCILING)
            || reason_of(&self.status, condition::FAILED).is_some_and(is_local)
    }

    /// Whether the wait is the token's: another token need not wait.
    fn waits_for_token(&self) -> bool {
        reason_of(&self.status, condition::FAILED) == Some(Reason::RateLimited)
    }

    /// Whether the read of this pass began before the confirm window was over.
    fn looked_too_early(&self) -> bool {
        let length = self.observed.policy.confirm_window;
        let window = ledger::unclear_window(&self.status.attempts, length, self.now);
        let read = self.observed.reading.as_ref().and(self.observed.last_read);
        read.zip(window)
            .is_some_and(|(read, window)| read < window.end)
    }

    /// The time in which no call may be made because one before is not settled.
    fn window(&self) -> Option<ConfirmWindow> {
        let length = self.observed.policy.confirm_window;
        let own = ledger::unclear_window(&self.status.attempts, length, self.now);
        let others = ledger::others_window(&self.observed.others.attempts, length, self.now);
        own.into_iter()
            .chain(others)
            .max_by_key(|window| window.end)
    }

    fn all_attempts(&self) -> Vec<RegisterAttempt> {
        let own = self.status.attempts.iter();
        own.chain(&self.observed.others.attempts).cloned().collect()
    }

    /// Whether the last own call has an unclear outcome that no read has settled.
    fn is_unconfirmed(&self) -> bool {
        let last = self.status.attempts.iter().find(|attempt| attempt.counts());
        self.stalled().is_none() && last.is_some_and(RegisterAttempt::is_unclear)
    }

    /// Whether the last own call was answered 422, which may mean "registered already", and no read has followed.
    fn is_unchecked(&self) -> bool {
        let last = self.status.attempts.iter().find(|attempt| attempt.counts());
        self.stalled().is_none()
            && last.is_some_and(|attempt| {
                attempt.http_status == Some(422)
                    && attempt.known_reason() == Some(Reason::InvalidRequest)
            })
    }

    /// The reason for which the resource is stalled, where Graph gave it.
    fn stalled(&self) -> Option<Reason> {
        let stalled = is_true(&self.status, condition::STALLED);
        let reason =
            reason_of(&self.status, condition::STALLED).filter(|reason| !is_local(*reason));
        reason.filter(|_| stalled)
    }

    /// The reason for which no attempt is made until something changes, if there is one.
    fn verdict(&self) -> Option<Reason> {
        if let Some(reason) = self.stalled() {
            return Some(reason);
        }
        if self.is_unconfirmed() || self.is_unchecked() {
            return None;
        }
        self.verdict_of_error()
    }

    /// What the last error from Graph says, which outlasts a Secret that was missing or a suspension.
    fn verdict_of_error(&self) -> Option<Reason> {
        conclude::verdict(self.status.last_error.as_ref(), &self.status.attempts)
    }

    /// Whether what a call is made of has changed so that the verdict no longer stands.
    fn is_lifted(&self, digests: &Digests) -> bool {
        match self.change(digests) {
            Change::Inputs => true,
            Change::Token => !self.is_locked_by_pin(),
            Change::None => false,
        }
    }

    /// Whether a verdict on the PIN stands, which a new token does not lift.
    fn is_locked_by_pin(&self) -> bool {
        [self.stalled(), self.verdict_of_error()]
            .into_iter()
            .flatten()
            .any(|reason| matches!(reason, Reason::PinMismatch | Reason::PinLocked))
    }

    /// Notes whose rate limit the wait is, so that a restarted process learns of it. The other digest stays that of
    /// the last attempt, but where the PIN is refused: there it would look as if the PIN had changed.
    fn note_limited_token(&mut self, digests: &Digests) {
        if self.token_changed(digests) && self.is_locked_by_pin() {
            remember(&mut self.status, digests);
        } else {
            self.status.token_digest = Some(digests.token.clone());
        }
    }

    fn token_changed(&self, digests: &Digests) -> bool {
        self.status.token_digest.as_deref() != Some(&digests.token)
    }

    fn change(&self, digests: &Digests) -> Change {
        if self.status.token_digest.is_none() && self.status.inputs_digest.is_none() {
            Change::Inputs
        } else if self.token_changed(digests) {
            Change::Token
        } else if self.status.inputs_digest.as_deref() != Some(&digests.inputs) {
            Change::Inputs
        } else {
            Change::None
        }
    }

    /// How a wait shows: an outcome that is being confirmed stays unknown meanwhile.
    fn waiting(&self) -> Situation {
        let unknown = conditions::is_unknown(&self.status, condition::REGISTERED);
        if unknown && self.is_unconfirmed() {
            Situation::Confirming
        } else {
            Situation::Waiting
        }
    }

    /// The standing that the conditions show now, in another situation.
    fn present(&self, situation: Situation) -> Standing {
        let ready = conditions::find(&self.status, condition::READY);
        let reason = reason_of(&self.status, condition::READY);
        Standing {
            situation,
            reason: reason.unwrap_or(Reason::AlreadyRegistered),
            message: ready
                .map(|condition| condition.message.clone())
                .unwrap_or_default(),
        }
    }

    /// The standing after the last attempt, for a resource that waits for its next one.
    fn last_attempt(&self, due: Timestamp) -> Standing {
        let attempt = self
            .status
            .attempts
            .iter()
            .find(|attempt| !attempt.is_open());
        let reason = attempt
            .and_then(RegisterAttempt::known_reason)
            .unwrap_or(Reason::OutcomeUnknown);
        let situation = match reason.next() {
            Next::Confirm | Next::ConfirmThenStall => Situation::Confirming,
            _ => Situation::Waiting,
        };
        Standing {
            situation,
            reason,
            message: explain(&self.last_words(), reason, Some(due)),
        }
    }

    /// Graph's last words, for a message that is written anew.
    fn last_words(&self) -> String {
        let error = self.status.last_error.as_ref();
        match error.and_then(|error| error.message.as_deref()) {
            Some(message) => format!("Graph said: {message}"),
            None => "the last register call failed".to_owned(),
        }
    }

    /// Where Secrets are not watched, a resource that waits for one looks from time to time.
    fn poll_if(&self, waits_for_secret: bool) -> Wake {
        let poll = self
            .observed
            .policy
            .secret_poll
            .filter(|_| waits_for_secret);
        poll.map_or(Wake::OnChange, Wake::After)
    }
}

/// The value of the annotation that asks for a register call, where it is one.
pub fn register_request(resource: &WhatsAppPhoneNumber) -> Option<&str> {
    let value = resource
        .metadata
        .annotations
        .as_ref()?
        .get(REGISTER_REQUESTED_AT)?;
    (!value.is_empty() && value.len() <= REGISTER_REQUEST_MAX_BYTES).then_some(value)
}

/// A message for people: what happened, what to do, and when the operator comes back; never, where it stalls.
pub fn explain(what: &str, reason: Reason, next: Option<Timestamp>) -> String {
    let what = what.trim_end_matches('.');
    let mut letters = what.chars();
    let first = letters
        .next()
        .map(|c| c.to_uppercase().to_string())
        .unwrap_or_default();
    let mut text = format!("{first}{}. {}", letters.as_str(), reason.advice());
    text.push_str(&match next {
        Some(next) => format!(" Next attempt at {next}."),
        None => " Nothing is tried again until then.".to_owned(),
    });
    text
}

/// A reason that this side found, without asking Graph: it is looked at anew in every pass.
fn is_local(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::InvalidToken
            | Reason::InvalidPin
            | Reason::InvalidBackup
            | Reason::DuplicatePhoneNumber
    )
}

/// Remembers what an attempt, or the read that stalls, is made of.
fn remember(status: &mut WhatsAppPhoneNumberStatus, digests: &Digests) {
    status.token_digest = Some(digests.token.clone());
    status.inputs_digest = Some(digests.inputs.clone());
}

/// Notes what a read said of the number.
fn note_reading(
    status: &mut WhatsAppPhoneNumberStatus,
    reading: &ReadOutcome,
    version: &str,
    now: Timestamp,
) {
    note_trace(status, reading);
    status.read_failures = 0;
    status.graph_api_version = Some(version.to_owned());
    let Some(said) = &reading.phone_number else {
        return;
    };
    let known = status.phone_number.as_ref().map(|known| {
        let mut known = known.clone();
        known.observed_time = None;
        known
    });
    if known.as_ref() != Some(said) {
        let mut said = said.clone();
        said.observed_time = Some(Time(crate::schedule::whole_seconds(now)));
        status.phone_number = Some(said);
    }
}

/// The trace ID of a read is kept only before there is one of a register call.
fn note_trace(status: &mut WhatsAppPhoneNumberStatus, reading: &ReadOutcome) {
    if status.attempts.is_empty() && reading.fbtrace_id.is_some() {
        status.fbtrace_id.clone_from(&reading.fbtrace_id);
    }
}

#[cfg(test)]
pub(crate) mod tests;
