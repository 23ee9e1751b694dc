//! The times at which a call or a read may be made.

use std::time::Duration;

use jiff::Timestamp;

use super::case::Case;
use crate::api::conditions::{self, is_registered, reason_of};
use crate::api::reason::Disposition;
use crate::api::{LedgerEntry, Reason, WhatsAppPhoneNumberStatus, explain};
use crate::graph::{ReadOutcome, RegistrationState};
use crate::model::decision::Inputs;
use crate::model::policy::Policy;
use crate::model::render::{Phase, Summary};
use crate::model::schedule::{ConfirmWindow, later};
use crate::model::{apply, ledger};

impl Case<'_> {
    /// Whether the number must be read before a call: always, unless the call is requested; then only while an unclear
    /// outcome is to be confirmed and the resource is not registered.
    pub(super) fn must_read(&self) -> bool {
        self.request.is_none() || self.is_unconfirmed() && !is_registered(&self.status)
    }

    /// Whether a planned read of the confirm window is due.
    pub(super) fn confirming_read_due(&self) -> bool {
        let sound = matches!(self.observed.inputs, Inputs::Unread | Inputs::Ready(_));
        let window = self.window().filter(|window| window.end > self.now);
        sound
            && self.status.read_failures == 0
            && self.observed.reading.is_none()
            && window.is_some_and(|window| window.read_due(self.observed.last_read, self.now))
    }

    /// The time of the next automatic attempt: the stored one, else the one that follows from the last attempt.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let stored = self.status.next_attempt_time.as_ref().map(|time| time.0);
        stored.or_else(|| apply::due_after(&self.status.attempts, self.observed.policy))
    }

    /// The earliest time of the next call. A requested call ignores the backoff: it waits for the confirm window and for the
    /// retry of a failed read. Once handed back, it waits like any other.
    pub(super) fn earliest_call(&self) -> Option<Timestamp> {
        if self.request.is_none() || self.is_handed_back() {
            return self.due();
        }
        if !self.must_read() {
            return None;
        }
        let window = self.window().map(|window| window.end);
        let stored = self.status.next_attempt_time.as_ref().map(|time| time.0);
        let failed = stored.filter(|_| self.status.read_failures > 0);
        window.max(failed)
    }

    /// Whether the last attempt was for this request and handed it back.
    pub(super) fn is_handed_back(&self) -> bool {
        let last = self.last_ended();
        self.request.is_some() && last.is_some_and(|a| a.request.as_deref() == self.request)
    }

    /// Whether the current wait is a rate limit on the token; another token need not wait for it. Where no time is stored, because the
    /// resource was suspended or a duplicate since, the wait follows from the last attempt.
    pub(super) fn waits_for_token(&self) -> bool {
        let reason = match self.status.next_attempt_time {
            Some(_) => reason_of(&self.status, conditions::FAILED),
            None => self.last_ended().and_then(LedgerEntry::known_reason),
        };
        reason == Some(Reason::RateLimited)
    }

    /// The newest attempt that has ended.
    pub(super) fn last_ended(&self) -> Option<&LedgerEntry> {
        let mut ended = self.status.attempts.iter().filter(|a| !a.is_open());
        ended.next()
    }

    /// Whether the read of this reconciliation began before this resource's own confirm window was over.
    pub(super) fn read_too_early(&self) -> bool {
        let length = self.observed.policy.confirm_window;
        let window = ledger::unclear_window(&self.status.attempts, length, self.now);
        let read = self.observed.reading.and(self.observed.last_read);
        read.zip(window)
            .is_some_and(|(read, window)| read < window.end)
    }

    /// The window in which no call may be made: after an unclear call for this resource, or any call for a peer.
    pub(super) fn window(&self) -> Option<ConfirmWindow> {
        let length = self.observed.policy.confirm_window;
        let own = ledger::unclear_window(&self.status.attempts, length, self.now);
        let peers = ledger::others_window(&self.observed.peers.attempts, length, self.now);
        own.into_iter().chain(peers).max_by_key(|window| window.end)
    }

    pub(super) fn all_attempts(&self) -> Vec<LedgerEntry> {
        let own = self.status.attempts.iter();
        own.chain(&self.observed.peers.attempts).cloned().collect()
    }

    /// The summary of the last attempt, for a resource that waits for the next one.
    pub(super) fn last_attempt(&self, due: Timestamp) -> Summary {
        let reason = self
            .last_ended()
            .and_then(LedgerEntry::known_reason)
            .unwrap_or(Reason::OutcomeUnknown);
        let phase = match reason.disposition() {
            Disposition::Confirm | Disposition::ConfirmThenStall => Phase::Confirming,
            _ => Phase::Waiting,
        };
        Summary::new(
            phase,
            reason,
            explain(&self.last_error_text(), reason, Some(due)),
        )
    }
}

/// The wait after a read without a usable answer: as long as Graph asks, else a backoff by the failed reads in a row.
pub(super) fn wait_after_read(reading: &ReadOutcome, failures: i32, policy: &Policy) -> Duration {
    let failures = u32::try_from(failures).unwrap_or(u32::MAX);
    reading
        .retry_after
        .unwrap_or_else(|| policy.backoff.after(failures))
}

/// The end of the token's cool-down after the read of a reconciliation, where that met a rate limit; `status` is the one
/// that the reconciliation writes.
pub fn cooldown_until(
    reading: &ReadOutcome,
    status: &WhatsAppPhoneNumberStatus,
    policy: &Policy,
    now: Timestamp,
) -> Option<Timestamp> {
    let limited = reading.state == RegistrationState::Wait(Reason::RateLimited);
    limited.then(|| later(now, wait_after_read(reading, status.read_failures, policy)))
}
