//! What a case's status says of the resource: nothing here decides or writes.

use super::Case;
use super::settle::note_reading;
use crate::api::{RegisterAttempt, WhatsAppPhoneNumberStatus};
use crate::conclude;
use crate::conditions::{self, Situation, is_true, reason_of};
use crate::digest::Digests;
use crate::reason::{Reason, condition};

/// How what a call is made of compares with the last attempt.
pub(super) enum Change {
    None,
    /// Under a new token the old digest says nothing about the PIN.
    Token,
    Inputs,
}

impl<'a> Case<'a> {
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

    pub(super) fn course(&self) -> conclude::Course<'a> {
        conclude::Course {
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
            note_reading(&mut status, reading, self.version(), self.now);
        }
        status
    }

    /// The annotation's value that was handled before a claim, as far as the ledger tells.
    pub(super) fn handled_before(&self, claim: &RegisterAttempt) -> Option<&str> {
        let others = self.status.attempts.iter().filter(|a| a.id != claim.id);
        others
            .filter(|attempt| conclude::is_spent(attempt))
            .find_map(|attempt| attempt.request.as_deref())
    }

    /// Whether the conditions of a registered number tell of a requested call that could not be made yet.
    pub(super) fn request_was_waiting(&self) -> bool {
        is_true(&self.status, condition::RECONCILING)
            || reason_of(&self.status, condition::FAILED).is_some_and(is_local)
    }

    /// Whether the last own call has an unclear outcome that no read has settled.
    pub(super) fn is_unconfirmed(&self) -> bool {
        self.unsettled().is_some_and(RegisterAttempt::is_unclear)
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
    fn unsettled(&self) -> Option<&RegisterAttempt> {
        let last = self.status.attempts.iter().find(|attempt| attempt.counts());
        last.filter(|attempt| {
            self.stalled()
                .is_none_or(|reason| Some(reason) != attempt.known_reason())
        })
    }

    /// The reason for which the resource is stalled, where Graph gave it.
    pub(super) fn stalled(&self) -> Option<Reason> {
        let stalled = is_true(&self.status, condition::STALLED);
        let reason =
            reason_of(&self.status, condition::STALLED).filter(|reason| !is_local(*reason));
        reason.filter(|_| stalled)
    }

    /// The reason for which no attempt is made until something changes, if there is one.
    pub(super) fn verdict(&self) -> Option<Reason> {
        if let Some(reason) = self.stalled() {
            return Some(reason);
        }
        if self.is_unconfirmed() || self.is_unchecked() {
            return None;
        }
        self.verdict_of_error()
    }

    /// What the last error from Graph says, which outlasts a Secret that was missing or a suspension.
    pub(super) fn verdict_of_error(&self) -> Option<Reason> {
        conclude::verdict(self.status.last_error.as_ref(), &self.status.attempts)
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
        self.verdict_of_error().is_some() && !self.is_lifted(digests)
    }

    /// Whether a verdict on the PIN stands, which a new token does not lift.
    pub(super) fn is_locked_by_pin(&self) -> bool {
        [self.stalled(), self.verdict_of_error()]
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
    pub(super) fn waiting(&self) -> Situation {
        let unknown = conditions::is_unknown(&self.status, condition::REGISTERED);
        if unknown && self.is_unconfirmed() {
            Situation::Confirming
        } else {
            Situation::Waiting
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
