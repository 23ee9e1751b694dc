//! The reasons to hold a call back, in their order.

use std::time::Duration;

use super::case::Case;
use crate::api::{Disposition, Reason, explain};
use crate::credentials::Digests;
use crate::model::apply::note_inputs;
use crate::model::decision::{Decision, Inputs, Requeue};
use crate::model::ledger;
use crate::model::render::{Phase, Summary};
use crate::model::schedule::{ConfirmWindow, META_LIMIT, later, until};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

impl Case<'_> {
    /// Waits until the earliest time of a call; in the confirm window the number is read in between.
    pub(super) fn wait_for_its_time(&self) -> Option<Decision> {
        let due = self.earliest_call().filter(|due| *due > self.now)?;
        if self.terminal_reason().is_some() {
            // A stalled resource has no time. If a change has lifted the stall, the time is that of a failed read since.
            match self.observed.inputs {
                _ if self.request.is_some() => return None,
                Inputs::Unread => return Some(Decision::LoadSecrets),
                Inputs::Ready(digests) if self.is_lifted(digests) => {}
                Inputs::Ready(_) | Inputs::Faulty(_) => return None,
            }
        }
        if self.waits_for_token() {
            match self.observed.inputs {
                Inputs::Unread => return Some(Decision::LoadSecrets),
                Inputs::Ready(digests) if self.token_changed(digests) => return None,
                Inputs::Ready(_) | Inputs::Faulty(_) => {}
            }
        }
        // A read in the confirm window is handled like any other read.
        if self.confirming_read_due() || self.observed.reading.is_some() {
            return None;
        }
        Some(self.wait_on(due))
    }

    /// Holds the call back, if there is a reason to.
    pub(super) fn hold_back(&self, digests: &Digests) -> Option<Decision> {
        if let Some(window) = self.window().filter(|window| window.end > self.now) {
            return Some(self.wait_for_window(window));
        }
        if self.read_too_early() {
            return Some(Decision::Settle(
                Box::new(self.status.clone()),
                Requeue::After(Duration::ZERO),
            ));
        }
        if self.request.is_none()
            && let Some(decision) = self.stall_unconfirmed(digests)
        {
            return Some(decision);
        }
        let due = self.earliest_call().filter(|due| *due > self.now);
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
        let message = format!(
            "{limit} register calls were made in 72 hours: the limit is reached (Meta blocks a number after {META_LIMIT})"
        );
        Some(self.hold_until(Reason::AttemptBudgetExhausted, &message, opens))
    }

    /// Waits for the confirm window of a call for this number, made for this resource or a peer.
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
        let mut status = self.status_with_reading();
        status.next_attempt_time = Some(Time(end));
        let summary = Summary::new(Phase::Confirming, Reason::OutcomeUnknown, message);
        let next_read = window
            .next_read(self.now)
            .filter(|_| self.must_read())
            .unwrap_or(end);
        let requeue = Requeue::After(until(next_read.min(end), self.now));
        self.settle_with(status, &summary, requeue)
    }

    /// Stalls after the confirm window where the answer from Graph does not justify another attempt.
    pub(super) fn stall_unconfirmed(&self, digests: &Digests) -> Option<Decision> {
        let attempt = self
            .status
            .attempts
            .iter()
            .find(|attempt| attempt.counts())?;
        let reason = attempt.known_reason()?;
        // A verdict can come with a 5xx; a call requested despite one can end without an answer.
        let stalls = reason.disposition() == Disposition::ConfirmThenStall
            || self.is_unchecked()
            || attempt.is_unclear() && self.terminal_error().is_some();
        if !stalls || self.is_lifted(digests) {
            return None;
        }
        let mut status = self.status_with_reading();
        note_inputs(&mut status, digests);
        status.next_attempt_time = None;
        let message = explain(
            &format!(
                "{}, and no read shows the number as registered",
                self.last_error_text()
            ),
            reason,
            None,
        );
        let summary = Summary::new(Phase::Stalled, reason, message);
        Some(self.settle_with(status, &summary, self.poll_if(true)))
    }
}
