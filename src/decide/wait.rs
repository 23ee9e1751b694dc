//! When a call may be made, and how the time until then is spent.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::settle::remember;
use super::{Case, Decision, Wake, explain};
use crate::api::{RegisterAttempt, WhatsAppPhoneNumberStatus};
use crate::conclude;
use crate::conditions::{self, Situation, Standing, reason_of};
use crate::digest::Digests;
use crate::ledger;
use crate::reason::{Next, Reason, condition};
use crate::schedule::{ConfirmWindow, META_LIMIT, later, until};

impl Case<'_> {
    /// Waits until the time in the status; in the confirm window the number is read meanwhile.
    pub(super) fn wait_for_its_time(&self) -> Option<Decision> {
        let due = self.own_due().filter(|due| *due > self.now)?;
        if self.verdict().is_some() {
            // A stall has no time. Where a change has lifted it, the wait is that of a read which failed since.
            match &self.observed.inputs {
                _ if self.request.is_some() => return None,
                None => return Some(Decision::LoadSecrets),
                Some(Ok(digests)) if self.is_lifted(digests) => {}
                Some(_) => return None,
            }
        }
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
    pub(super) fn look_is_due(&self) -> bool {
        let sound = matches!(self.observed.inputs, None | Some(Ok(_)));
        let window = self.window().filter(|window| window.end > self.now);
        sound
            && self.status.read_failures == 0
            && self.observed.reading.is_none()
            && window.is_some_and(|window| window.read_due(self.observed.last_read, self.now))
    }

    /// Goes on waiting as before.
    pub(super) fn wait_on(&self, due: Timestamp) -> Decision {
        let next_read = self
            .window()
            .filter(|_| self.status.read_failures == 0)
            .and_then(|window| window.next_read(self.now))
            .unwrap_or(due);
        let wake = Wake::After(until(due.min(next_read), self.now));
        self.keep_waiting(self.noted(), due, wake)
    }

    /// Leaves the wait as it is; this pass has changed the status in nothing that tells of it.
    pub(super) fn keep_waiting(
        &self,
        mut status: WhatsAppPhoneNumberStatus,
        due: Timestamp,
        wake: Wake,
    ) -> Decision {
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

    /// Why no call may be made yet, although the number is not registered as far as is known.
    pub(super) fn hold_back(&self, digests: &Digests) -> Option<Decision> {
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
    pub(super) fn wait_for_window(&self, window: ConfirmWindow) -> Decision {
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
    pub(super) fn stall_unconfirmed(&self, digests: &Digests) -> Option<Decision> {
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

    pub(super) fn hold_until(&self, reason: Reason, what: &str, end: Timestamp) -> Decision {
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

    /// When this resource comes back by itself: the stored time, else the one that its last attempt leads to.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let stored = self.status.next_attempt_time.as_ref().map(|time| time.0);
        stored.or_else(|| conclude::due_after(&self.status.attempts, self.observed.policy))
    }

    /// What the next call has to wait for by itself. A request waits for no backoff, only until the outcome before it
    /// is confirmed (and a read that failed meanwhile is waited out), or where its own call was made and sent back.
    pub(super) fn own_due(&self) -> Option<Timestamp> {
        if self.request.is_none() || self.is_handed_back() {
            return self.due();
        }
        if !self.must_look() {
            return None;
        }
        let window = self.window().map(|window| window.end);
        let stored = self.status.next_attempt_time.as_ref().map(|time| time.0);
        let failed = stored.filter(|_| self.status.read_failures > 0);
        window.max(failed)
    }

    /// Whether the request's own call ended so that the annotation still asks for one.
    pub(super) fn is_handed_back(&self) -> bool {
        let last = self.last_ended();
        self.request.is_some() && last.is_some_and(|a| a.request.as_deref() == self.request)
    }

    /// Whether the wait is the token's: another token need not wait. Where no time is stored, because the resource was
    /// suspended or a duplicate meanwhile, the wait is that of the last attempt.
    pub(super) fn waits_for_token(&self) -> bool {
        let reason = match self.status.next_attempt_time {
            Some(_) => reason_of(&self.status, condition::FAILED),
            None => self.last_ended().and_then(RegisterAttempt::known_reason),
        };
        reason == Some(Reason::RateLimited)
    }

    /// The newest attempt whose end is known.
    fn last_ended(&self) -> Option<&RegisterAttempt> {
        let mut ended = self.status.attempts.iter().filter(|a| !a.is_open());
        ended.next()
    }

    /// Whether the read of this pass began before the confirm window was over.
    pub(super) fn looked_too_early(&self) -> bool {
        let length = self.observed.policy.confirm_window;
        let window = ledger::unclear_window(&self.status.attempts, length, self.now);
        let read = self.observed.reading.as_ref().and(self.observed.last_read);
        read.zip(window)
            .is_some_and(|(read, window)| read < window.end)
    }

    /// The time in which no call may be made because one before is not settled.
    pub(super) fn window(&self) -> Option<ConfirmWindow> {
        let length = self.observed.policy.confirm_window;
        let own = ledger::unclear_window(&self.status.attempts, length, self.now);
        let others = ledger::others_window(&self.observed.others.attempts, length, self.now);
        own.into_iter()
            .chain(others)
            .max_by_key(|window| window.end)
    }

    pub(super) fn all_attempts(&self) -> Vec<RegisterAttempt> {
        let own = self.status.attempts.iter();
        own.chain(&self.observed.others.attempts).cloned().collect()
    }

    /// The standing after the last attempt, for a resource that waits for its next one.
    pub(super) fn last_attempt(&self, due: Timestamp) -> Standing {
        let reason = self
            .last_ended()
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
}
