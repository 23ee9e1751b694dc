//! How a pass ends: the status that is written, and the claim.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::facts::Change;
use super::{Case, Claim, Decision, OpenClaim, Wake, explain, wait_after_read};
use crate::api::{
    GraphErrorStatus, REGISTER_REQUESTED_AT, RegisterAttempt, WhatsAppPhoneNumberStatus,
};
use crate::conclude::{self, Ending};
use crate::conditions::{self, Situation, Standing, is_registered, is_true, reason_of};
use crate::digest::Digests;
use crate::graph::{ReadOutcome, RegisterOutcome, classify};
use crate::ledger;
use crate::reason::{Next, Reason, condition};
use crate::schedule::{later, until, whole_seconds, with_jitter};
use crate::secrets::SecretFault;

/// How often a Secret that may not be read is asked for again.
const FORBIDDEN_POLL: Duration = Duration::from_secs(60);

impl Case<'_> {
    /// Leaves everything as it is, but for the generation.
    pub(super) fn rest(mut self) -> Decision {
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
    pub(super) fn open_claim(&self, claim: &RegisterAttempt) -> Decision {
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

    pub(super) fn suspend(mut self) -> Decision {
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

    pub(super) fn give_way(mut self, ahead: &str) -> Decision {
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

    /// A Secret is missing or wrong: no call can be made.
    pub(super) fn fault(mut self, fault: &SecretFault) -> Decision {
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
        // Nothing tells the operator of a permission that it was given.
        let wake = match fault.reason {
            Reason::SecretForbidden => Wake::After(FORBIDDEN_POLL),
            _ => self.poll_if(true),
        };
        self.settle(&standing, wake)
    }

    /// Stays stalled while what a call is made of has not changed.
    pub(super) fn stay_stalled(&self, digests: &Digests) -> Option<Decision> {
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

    /// Another call with this token met a rate limit: every resource that uses it waits, or goes on waiting where its
    /// own time comes later.
    pub(super) fn cool_down(mut self, end: Timestamp, digests: &Digests) -> Decision {
        let end = later(end, Duration::ZERO);
        let moot = self.waits_for_token() && self.token_changed(digests);
        if let Some(own) = self.own_due().filter(|own| *own > end && !moot) {
            let wake = Wake::After(until(end, self.now));
            return self.keep_waiting(self.noted(), own, wake);
        }
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

    /// Graph says that the number is registered: nothing is sent.
    pub(super) fn adopt(mut self, reading: &ReadOutcome, digests: &Digests) -> Decision {
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
                "The number is registered, although the answer to the register call did not say so. {}.",
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

    pub(super) fn stall_by_read(
        mut self,
        reason: Reason,
        reading: &ReadOutcome,
        digests: &Digests,
    ) -> Decision {
        let keeps_verdict = reading.error.is_none() && self.refuses(digests);
        self.status = self.noted();
        remember(&mut self.status, digests);
        if !keeps_verdict {
            self.status.last_error.clone_from(&reading.error);
        }
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
    pub(super) fn wait_by_read(
        mut self,
        reason: Reason,
        reading: &ReadOutcome,
        digests: &Digests,
    ) -> Decision {
        note_trace(&mut self.status, reading);
        self.status.read_failures = self.status.read_failures.saturating_add(1);
        let wait = wait_after_read(reading, self.status.read_failures, self.observed.policy);
        let due = later(self.now, with_jitter(wait, self.observed.jitter));
        let own = self.own_due().filter(|own| *own > due);
        if let (Some(own), Reason::RateLimited) = (own, reason) {
            // A rate limit with a time in the status is what a new process takes for the token's: this one is not.
            let wake = Wake::After(until(own, self.now));
            return self.keep_waiting(self.status.clone(), own, wake);
        }
        let due = own.unwrap_or(due);
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

    /// The claim: the write that makes this process, and no other, the one to call.
    pub(super) fn claim(&self, digests: &Digests) -> Decision {
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
        if !self.refuses(digests) {
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

    pub(super) fn settle(mut self, standing: &Standing, wake: Wake) -> Decision {
        let generation = self.generation();
        conditions::set(&mut self.status, standing, generation, self.now);
        Decision::Settle(Box::new(self.status), wake)
    }

    /// Notes whose rate limit the wait is, so that a restarted process learns of it. The other digest stays that of
    /// the last attempt, but where the PIN is refused: there it would look as if the PIN had changed.
    pub(super) fn note_limited_token(&mut self, digests: &Digests) {
        if self.token_changed(digests) && self.is_locked_by_pin() {
            remember(&mut self.status, digests);
        } else {
            self.status.token_digest = Some(digests.token.clone());
        }
    }

    /// The standing that the conditions show now, in another situation.
    pub(super) fn present(&self, situation: Situation) -> Standing {
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

    /// Where Secrets are not watched, a resource that waits for one looks from time to time.
    pub(super) fn poll_if(&self, waits_for_secret: bool) -> Wake {
        let poll = self
            .observed
            .policy
            .secret_poll
            .filter(|_| waits_for_secret);
        poll.map_or(Wake::OnChange, Wake::After)
    }
}

/// Remembers what an attempt, or the read that stalls, is made of.
pub(super) fn remember(status: &mut WhatsAppPhoneNumberStatus, digests: &Digests) {
    status.token_digest = Some(digests.token.clone());
    status.inputs_digest = Some(digests.inputs.clone());
}

/// Notes what a read said of the number.
pub(super) fn note_reading(
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
        said.observed_time = Some(Time(whole_seconds(now)));
        status.phone_number = Some(said);
    }
}

/// The trace ID of a read is kept only before there is one of a register call.
pub(super) fn note_trace(status: &mut WhatsAppPhoneNumberStatus, reading: &ReadOutcome) {
    if status.attempts.is_empty() && reading.fbtrace_id.is_some() {
        status.fbtrace_id.clone_from(&reading.fbtrace_id);
    }
}
