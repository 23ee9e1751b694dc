//! One resource in one reconciliation, and what its status says of it. Nothing here decides or writes.

use jiff::Timestamp;

use crate::api::conditions::{self, is_true, reason_of};
use crate::api::{LedgerEntry, Reason, WhatsAppPhoneNumberStatus};
use crate::credentials::Digests;
use crate::model::apply::{self, ApplyContext};
use crate::model::decision::Observed;
use crate::model::ledger;
use crate::model::render::Phase;
use crate::model::schedule::sane_next;

/// One resource in one pass: what was observed, with the parts that are derived from it.
pub(super) struct Case<'a> {
    pub(super) observed: &'a Observed<'a>,
    pub(super) now: Timestamp,
    /// The resource's status, with times that a sound clock could have written.
    pub(super) status: WhatsAppPhoneNumberStatus,
    /// The value of the annotation that asks for a register call and was not handled yet.
    pub(super) request: Option<&'a str>,
}

/// How what a call is made of compares with the last attempt.
pub(super) enum Change {
    None,
    /// Under a new token the old digest says nothing about the PIN.
    Token,
    Inputs,
}

impl<'a> Case<'a> {
    pub(super) fn new(observed: &'a Observed<'a>, now: Timestamp) -> Self {
        let resource = observed.resource;
        let annotation = resource.register_request();
        let mut status = resource.status_or_unseen();
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

    pub(super) fn generation(&self) -> i64 {
        self.observed
            .resource
            .metadata
            .generation
            .unwrap_or_default()
    }

    pub(super) fn version(&self) -> &'a str {
        self.observed.policy.version(self.observed.resource)
    }

    pub(super) fn apply_context(&self) -> ApplyContext<'a> {
        ApplyContext {
            policy: self.observed.policy,
            generation: self.generation(),
            jitter: self.observed.jitter,
            now: self.now,
        }
    }

    /// The status with what this pass has read.
    pub(super) fn noted(&self) -> WhatsAppPhoneNumberStatus {
        let mut status = self.status.clone();
        if let Some(reading) = &self.observed.reading {
            apply::note_reading(&mut status, reading, self.version(), self.now);
        }
        status
    }

    /// The annotation's value that was handled before a claim, as far as the ledger tells.
    pub(super) fn handled_before(&self, claim: &LedgerEntry) -> Option<&str> {
        let others = self.status.attempts.iter().filter(|a| a.id != claim.id);
        others
            .filter(|attempt| apply::is_spent(attempt))
            .find_map(|attempt| attempt.request.as_deref())
    }

    /// Whether the conditions of a registered number tell of a requested call that could not be made yet.
    pub(super) fn request_was_waiting(&self) -> bool {
        is_true(&self.status, conditions::RECONCILING)
            || reason_of(&self.status, conditions::FAILED).is_some_and(is_local)
    }

    /// Whether the last own call has an unclear outcome that no read has settled.
    pub(super) fn is_unconfirmed(&self) -> bool {
        self.unsettled().is_some_and(LedgerEntry::is_unclear)
    }

    /// Whether the last own call was answered 422, which may mean "registered already", and no read has followed.
    pub(super) fn is_unchecked(&self) -> bool {
        self.unsettled().is_some_and(|attempt| {
            attempt.http_status == Some(422)
                && attempt.known_reason() == Some(Reason::InvalidRequest)
        })
    }

    /// The last own call, unless the resource is stalled by what came of it. A read that was refused stalls too, and says
    /// nothing of the call.
    fn unsettled(&self) -> Option<&LedgerEntry> {
        let last = self.status.attempts.iter().find(|attempt| attempt.counts());
        last.filter(|attempt| {
            self.stalled()
                .is_none_or(|reason| Some(reason) != attempt.known_reason())
        })
    }

    /// The reason for which the resource is stalled, where Graph gave it.
    pub(super) fn stalled(&self) -> Option<Reason> {
        let stalled = is_true(&self.status, conditions::STALLED);
        let reason =
            reason_of(&self.status, conditions::STALLED).filter(|reason| !is_local(*reason));
        reason.filter(|_| stalled)
    }

    /// The reason for which no attempt is made until something changes, if there is one.
    pub(super) fn terminal_reason(&self) -> Option<Reason> {
        if let Some(reason) = self.stalled() {
            return Some(reason);
        }
        if self.is_unconfirmed() || self.is_unchecked() {
            return None;
        }
        self.terminal_error()
    }

    /// What the last error from Graph says, which outlasts a Secret that was missing or a suspension.
    pub(super) fn terminal_error(&self) -> Option<Reason> {
        apply::terminal_reason(self.status.last_error.as_ref(), &self.status.attempts)
    }

    /// Whether what a call is made of has changed so that the verdict no longer stands.
    pub(super) fn is_lifted(&self, digests: &Digests) -> bool {
        match self.change(digests) {
            Change::Inputs => true,
            Change::Token => !self.is_locked_by_pin(),
            Change::None => false,
        }
    }

    /// Whether Graph's last error is a verdict that stands for these inputs too.
    pub(super) fn refuses(&self, digests: &Digests) -> bool {
        self.terminal_error().is_some() && !self.is_lifted(digests)
    }

    /// Whether a verdict on the PIN stands, which a new token does not lift.
    pub(super) fn is_locked_by_pin(&self) -> bool {
        [self.stalled(), self.terminal_error()]
            .into_iter()
            .flatten()
            .any(|reason| matches!(reason, Reason::PinMismatch | Reason::PinLocked))
    }

    pub(super) fn token_changed(&self, digests: &Digests) -> bool {
        self.status.token_digest.as_deref() != Some(&digests.token)
    }

    /// The digest of the inputs is keyed with the token, so it alone tells that nothing has changed. That of the token
    /// may meanwhile be another one's, which met a rate limit.
    pub(super) fn change(&self, digests: &Digests) -> Change {
        if self.status.inputs_digest.as_deref() == Some(&digests.inputs) {
            Change::None
        } else if self.status.token_digest.is_some() && self.token_changed(digests) {
            Change::Token
        } else {
            Change::Inputs
        }
    }

    /// How a wait shows: an outcome that is being confirmed stays unknown meanwhile.
    pub(super) fn waiting(&self) -> Phase {
        let unknown = conditions::is_unknown(&self.status, conditions::REGISTERED);
        if unknown && self.is_unconfirmed() {
            Phase::Confirming
        } else {
            Phase::Waiting
        }
    }

    /// Graph's last words, for a message that is written anew.
    pub(super) fn last_words(&self) -> String {
        let error = self.status.last_error.as_ref();
        match error.and_then(|error| error.message.as_deref()) {
            Some(message) => format!("Graph said: {message}"),
            None => "the last register call failed".to_owned(),
        }
    }
}

/// A reason that this side found, without asking Graph: it is looked at anew in every pass.
pub(super) fn is_local(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::InvalidToken
            | Reason::InvalidPin
            | Reason::InvalidBackup
            | Reason::DuplicatePhoneNumber
    )
}
