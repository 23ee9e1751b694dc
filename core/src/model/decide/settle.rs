//! The end of a round: the status to write, or the claim.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::case::{Case, Change};
use super::due::wait_after_read;
use crate::api::conditions::{self, is_registered, is_true, reason_of};
use crate::api::{
    Disposition, GraphErrorStatus, LedgerEntry, REGISTER_REQUESTED_AT, Reason,
    WhatsAppPhoneNumberStatus, explain,
};
use crate::credentials::{Digests, SecretFault};
use crate::graph::{ReadOutcome, RegisterOutcome, classify};
use crate::model::apply::{self, CallResult, note_inputs, note_read_trace};
use crate::model::decision::{Claim, Decision, OpenClaim, Requeue};
use crate::model::ledger;
use crate::model::render::{self, Phase, Summary};
use crate::model::schedule::{later, until, with_jitter};

/// How often the read of a forbidden Secret is retried.
const FORBIDDEN_POLL: Duration = Duration::from_secs(60);

impl Case<'_> {
    /// Keeps a registered number as it is, and clears the traces of a withdrawn request.
    pub(super) fn rest(mut self) -> Decision {
        if is_registered(&self.status) && self.request_was_waiting() {
            // The request was withdrawn, or the number is suspended.
            self.status.next_attempt_time = None;
            let summary = self.current_summary(Phase::Registered);
            return self.settle(&summary, Requeue::OnChange);
        }
        let generation = self.generation();
        render::observe_generation(&mut self.status, generation);
        let requeue = self.poll_if(is_true(&self.status, conditions::STALLED));
        Decision::Settle(Box::new(self.status), requeue)
    }

    /// Waits for the process that holds the claim, or closes the claim when that process is presumed gone or this one knows that it made
    /// no call.
    pub(super) fn open_claim(&self, claim: &LedgerEntry) -> Decision {
        let reason = match self.observed.open_claim {
            OpenClaim::Unsent => Reason::NotSent,
            OpenClaim::SeenFor(seen) if seen >= claim.ttl() => Reason::OutcomeUnknown,
            OpenClaim::SeenFor(seen) => {
                let mut status = self.status.clone();
                render::observe_generation(&mut status, self.generation());
                return Decision::Settle(Box::new(status), Requeue::After(claim.ttl() - seen));
            }
        };
        let message = match reason {
            Reason::NotSent => "the register call was claimed and not made",
            _ => "the process that claimed the register call is gone and recorded no outcome",
        };
        let outcome = RegisterOutcome::without_answer(reason, message);
        let result = CallResult {
            id: &claim.id,
            outcome: &outcome,
            handled_before: self.handled_before(claim),
        };
        let applied = apply::apply_outcome(self.status.clone(), &result, &self.apply_context());
        Decision::Settle(Box::new(applied), Requeue::After(Duration::ZERO))
    }

    pub(super) fn suspend(mut self) -> Decision {
        if is_registered(&self.status) {
            return self.rest();
        }
        self.status.next_attempt_time = None;
        let summary = Summary::new(
            Phase::Suspended,
            Reason::Suspended,
            format!(
                "spec.suspend is true: no call is made. {}",
                Reason::Suspended.advice()
            ),
        );
        self.settle(&summary, Requeue::OnChange)
    }

    pub(super) fn yield_to(mut self, owner: &str) -> Decision {
        self.status.next_attempt_time = None;
        let reason = Reason::DuplicatePhoneNumber;
        let summary = Summary::new(
            Phase::Stalled,
            reason,
            format!(
                "{owner} has the same phone number ID and takes precedence. {}",
                reason.advice()
            ),
        );
        self.settle(&summary, Requeue::OnChange)
    }

    /// A Secret is missing or wrong: no call can be made.
    pub(super) fn fault(mut self, fault: &SecretFault) -> Decision {
        let phase = match fault.reason.disposition() {
            Disposition::Stall => Phase::Stalled,
            _ => Phase::Waiting,
        };
        // A wait that has not ended continues beside that for the Secret.
        let continues = |due: &Timestamp| phase == Phase::Waiting && *due > self.now;
        self.status.next_attempt_time = self.earliest_call().filter(continues).map(Time);
        let summary = Summary::new(phase, fault.reason, fault.message.clone());
        // No watch event announces a permission that was granted.
        let requeue = match fault.reason {
            Reason::SecretForbidden => Requeue::After(FORBIDDEN_POLL),
            _ => self.poll_if(true),
        };
        self.settle(&summary, requeue)
    }

    /// Stays stalled while the inputs of a call have not changed.
    pub(super) fn stay_stalled(&self, digests: &Digests) -> Option<Decision> {
        if self.request.is_some() || is_registered(&self.status) {
            return None;
        }
        let reason = self.terminal_reason()?;
        if self.is_lifted(digests) {
            return None;
        }
        let mut status = self.status.clone();
        let summary = match self.change(digests) {
            Change::Inputs | Change::Token => {
                note_inputs(&mut status, digests);
                Summary::new(
                    Phase::Stalled,
                    reason,
                    format!(
                        "Graph rejected the PIN under the previous token, and the operator cannot tell whether the PIN \
                         changed with the token. If the PIN is right now, set the annotation {REGISTER_REQUESTED_AT}; \
                         else put the right PIN into the Secret."
                    ),
                )
            }
            Change::None if self.stalled() == Some(reason) => {
                render::observe_generation(&mut status, self.generation());
                return Some(Decision::Settle(Box::new(status), self.poll_if(true)));
            }
            Change::None => Summary::new(
                Phase::Stalled,
                reason,
                explain(&self.last_error_text(), reason, None),
            ),
        };
        status.next_attempt_time = None;
        Some(self.settle_with(status, &summary, self.poll_if(true)))
    }

    /// Waits for the token, which met a rate limit in another call; a resource whose own wait ends later keeps that.
    pub(super) fn cool_down(mut self, end: Timestamp, digests: &Digests) -> Decision {
        let end = later(end, Duration::ZERO);
        // A wait for the previous token's rate limit does not apply to this one.
        let obsolete = self.waits_for_token() && self.token_changed(digests);
        if let Some(own) = self.earliest_call().filter(|own| *own > end && !obsolete) {
            let requeue = Requeue::After(until(end, self.now));
            return self.keep_waiting(self.status_with_reading(), own, requeue);
        }
        let reason = Reason::RateLimited;
        self.status.next_attempt_time = Some(Time(end));
        self.note_limited_token(digests);
        let message = explain(
            "the token has reached a rate limit of Graph",
            reason,
            Some(end),
        );
        let summary = Summary::new(self.waiting(), reason, message);
        let requeue = Requeue::After(until(end, self.now));
        self.settle(&summary, requeue)
    }

    /// Adopts a number that Graph reports as registered: nothing is sent.
    pub(super) fn adopt(mut self, reading: &ReadOutcome, digests: &Digests) -> Decision {
        let unclear = self.is_unconfirmed() || self.is_unchecked();
        let reason = if unclear {
            Reason::OutcomeConfirmed
        } else {
            Reason::AlreadyRegistered
        };
        if unclear && let Some(attempt) = self.status.attempts.iter_mut().find(|a| a.counts()) {
            apply::confirm(attempt);
        }
        self.status = self.status_with_reading();
        apply::registered(&mut self.status, self.now);
        note_inputs(&mut self.status, digests);
        let message = match reason {
            Reason::OutcomeConfirmed => format!(
                "The number is registered, although the register call had no clear answer. {}.",
                reading.message
            ),
            _ => format!(
                "The number was already registered; no register call was made. {}.",
                reading.message
            ),
        };
        let summary = Summary::new(Phase::Registered, reason, message);
        let requeue = match self.request {
            Some(_) => Requeue::After(Duration::ZERO),
            None => Requeue::OnChange,
        };
        self.settle(&summary, requeue)
    }

    pub(super) fn stall_by_read(
        mut self,
        reason: Reason,
        reading: &ReadOutcome,
        digests: &Digests,
    ) -> Decision {
        let keeps_verdict = reading.error.is_none() && self.refuses(digests);
        self.status = self.status_with_reading();
        note_inputs(&mut self.status, digests);
        if !keeps_verdict {
            self.status.last_error.clone_from(&reading.error);
        }
        self.status.next_attempt_time = None;
        let message = explain(&reading.message, reason, None);
        let summary = Summary::new(Phase::Stalled, reason, message);
        let requeue = self.poll_if(true);
        self.settle(&summary, requeue)
    }

    /// Waits to repeat a read without a usable answer; no attempt is spent.
    pub(super) fn wait_by_read(
        mut self,
        reason: Reason,
        reading: &ReadOutcome,
        digests: &Digests,
    ) -> Decision {
        note_read_trace(&mut self.status, reading);
        self.status.read_failures = self.status.read_failures.saturating_add(1);
        let wait = wait_after_read(reading, self.status.read_failures, self.observed.policy);
        let due = later(self.now, with_jitter(wait, self.observed.jitter));
        let own = self.earliest_call().filter(|own| *own > due);
        if let (Some(own), Reason::RateLimited) = (own, reason) {
            // After a restart, a rate limit with a time in the status is taken for the token's cool-down. This wait is the
            // number's own.
            let requeue = Requeue::After(until(own, self.now));
            return self.keep_waiting(self.status.clone(), own, requeue);
        }
        let due = own.unwrap_or(due);
        self.status.next_attempt_time = Some(Time(due));
        if reason == Reason::RateLimited {
            self.note_limited_token(digests);
        }
        let passing =
            |error: &GraphErrorStatus| classify(error).disposition() == Disposition::Retry;
        if self.terminal_error().is_none() && reading.error.as_ref().is_none_or(passing) {
            // A read without a usable answer neither gives a verdict nor lifts one.
            self.status.last_error.clone_from(&reading.error);
        }
        let requeue = Requeue::After(until(due, self.now));
        let message = explain(&reading.message, reason, Some(due));
        let summary = match self.waiting() {
            Phase::Confirming => Summary::new(Phase::Confirming, Reason::OutcomeUnknown, message),
            phase => Summary::new(phase, reason, message),
        };
        self.settle(&summary, requeue)
    }

    /// Builds the status with the claim. Once it is stored, only this process may make the call.
    pub(super) fn claim(&self, digests: &Digests) -> Decision {
        let mut status = self.status_with_reading();
        let handled_before = status.last_handled_register_request.clone();
        if let Some(request) = self.request {
            status.last_handled_register_request = Some(request.to_owned());
        }
        let policy = self.observed.policy;
        let entry = LedgerEntry::open(
            self.observed.fresh_id,
            policy.claim_ttl,
            self.request,
            self.now,
        );
        ledger::push(&mut status.attempts, entry.clone(), self.now);
        if !self.refuses(digests) {
            // A verdict on other inputs must not apply to these, if the call gets no answer.
            status.last_error = None;
        }
        note_inputs(&mut status, digests);
        status.graph_api_version = Some(self.version().to_owned());
        status.next_attempt_time = None;
        status.read_failures = 0;
        let reason = Reason::Registering;
        let message = format!("A register call is in flight. {}", reason.advice());
        let summary = Summary::new(Phase::Registering, reason, message);
        render::set(&mut status, &summary, self.generation(), self.now);
        Decision::Register(Box::new(Claim {
            entry,
            status,
            handled_before,
        }))
    }

    pub(super) fn settle(self, summary: &Summary, requeue: Requeue) -> Decision {
        self.settle_with(self.status.clone(), summary, requeue)
    }

    /// Settles with this status, of which the summary becomes the conditions.
    pub(super) fn settle_with(
        &self,
        mut status: WhatsAppPhoneNumberStatus,
        summary: &Summary,
        requeue: Requeue,
    ) -> Decision {
        render::set(&mut status, summary, self.generation(), self.now);
        Decision::Settle(Box::new(status), requeue)
    }

    /// Notes the token that met the rate limit, so that a restarted process knows it. The other digest stays that of the
    /// last attempt, except where a verdict on the PIN applies: there the PIN would seem to have changed.
    pub(super) fn note_limited_token(&mut self, digests: &Digests) {
        if self.token_changed(digests) && self.is_locked_by_pin() {
            note_inputs(&mut self.status, digests);
        } else {
            self.status.token_digest = Some(digests.token.clone());
        }
    }

    /// The summary in the current conditions, with another phase.
    pub(super) fn current_summary(&self, phase: Phase) -> Summary {
        let ready = conditions::find(&self.status, conditions::READY);
        let reason = reason_of(&self.status, conditions::READY);
        Summary::new(
            phase,
            reason.unwrap_or(Reason::AlreadyRegistered),
            ready
                .map(|condition| condition.message.clone())
                .unwrap_or_default(),
        )
    }

    /// Polls for a resource that waits for a Secret, where Secrets are not watched.
    pub(super) fn poll_if(&self, waits_for_secret: bool) -> Requeue {
        let poll = self
            .observed
            .policy
            .secret_poll
            .filter(|_| waits_for_secret);
        poll.map_or(Requeue::OnChange, Requeue::After)
    }

    /// Keeps the wait, and comes in time for the next planned read.
    pub(super) fn wait_on(&self, due: Timestamp) -> Decision {
        let next_read = self
            .window()
            .filter(|_| self.status.read_failures == 0)
            .and_then(|window| window.next_read(self.now))
            .unwrap_or(due);
        let requeue = Requeue::After(until(due.min(next_read), self.now));
        self.keep_waiting(self.status_with_reading(), due, requeue)
    }

    /// Keeps the wait, and restores its time where none is stored.
    pub(super) fn keep_waiting(
        &self,
        mut status: WhatsAppPhoneNumberStatus,
        due: Timestamp,
        requeue: Requeue,
    ) -> Decision {
        if status.next_attempt_time.is_none() {
            // The resource was suspended or a duplicate since: the wait is that of the last attempt.
            status.next_attempt_time = Some(Time(due));
            render::set(
                &mut status,
                &self.last_attempt(due),
                self.generation(),
                self.now,
            );
        }
        render::observe_generation(&mut status, self.generation());
        Decision::Settle(Box::new(status), requeue)
    }

    /// Waits until `end` for a reason that is not the outcome of a call.
    pub(super) fn hold_until(&self, reason: Reason, what: &str, end: Timestamp) -> Decision {
        let end = later(end, Duration::ZERO);
        let mut status = self.status_with_reading();
        status.next_attempt_time = Some(Time(end));
        let message = explain(what, reason, Some(end));
        let summary = Summary::new(Phase::Waiting, reason, message);
        self.settle_with(status, &summary, Requeue::After(until(end, self.now)))
    }
}
