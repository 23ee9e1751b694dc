//! One resource in one reconciliation, and the facts in its status. Nothing here returns a decision.
//!
//! A call is *unclear* while it may have acted without its answer saying so, *unconfirmed* while no read has settled that,
//! and *unchecked* after a 422, which may mean "already registered". A *verdict* is an error from Graph that ends the
//! attempts; it is *lifted* by a change of what a call is made of.

use jiff::Timestamp;

use crate::api::conditions::{self, is_true, reason_of};
use crate::api::{LedgerEntry, Reason, WhatsAppPhoneNumberStatus};
use crate::credentials::Digests;
use crate::model::apply::{self, ApplyContext};
use crate::model::decision::Observed;
use crate::model::ledger;
use crate::model::render::Phase;
use crate::model::schedule::sane_next;

/// One resource in one reconciliation: the observation, and the parts derived from it.
pub(super) struct Case<'a> {
    pub(super) observed: &'a Observed<'a>,
    pub(super) now: Timestamp,
    /// The resource's status, with the faults of other clocks corrected.
    pub(super) status: WhatsAppPhoneNumberStatus,
    /// The value of the annotation that requests a register call, where it is not handled yet.
    pub(super) request: Option<&'a str>,
}

/// The change of a call's inputs since the last attempt.
pub(super) enum Change {
    None,
    /// Another token, under which the old digest tells nothing about the PIN.
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

    /// The status, updated with the read of this reconciliation.
    pub(super) fn status_with_reading(&self) -> WhatsAppPhoneNumberStatus {
        let mut status = self.status.clone();
        if let Some(reading) = self.observed.reading {
            apply::note_reading(&mut status, reading, self.version(), self.now);
        }
        status
    }

    /// The handled value of the annotation before a claim, as far as the ledger tells.
    pub(super) fn handled_before(&self, claim: &LedgerEntry) -> Option<&str> {
        let others = self.status.attempts.iter().filter(|a| a.id != claim.id);
        others
            .filter(|attempt| apply::is_spent(attempt))
            .find_map(|attempt| attempt.request.as_deref())
    }

    /// Whether the conditions of a registered number show a requested call that could not be made yet.
    pub(super) fn request_was_waiting(&self) -> bool {
        is_true(&self.status, conditions::RECONCILING)
            || reason_of(&self.status, conditions::FAILED).is_some_and(is_local)
    }

    /// Whether the last call for this resource has an unclear outcome that no read has settled.
    pub(super) fn is_unconfirmed(&self) -> bool {
        self.unsettled().is_some_and(LedgerEntry::is_unclear)
    }

    /// Whether the last call for this resource was answered 422, which may mean "already registered", and no read has
    /// followed.
    pub(super) fn is_unchecked(&self) -> bool {
        self.unsettled().is_some_and(|attempt| {
            attempt.http_status == Some(422)
                && attempt.known_reason() == Some(Reason::InvalidRequest)
        })
    }

    /// The last counted call, unless the resource is stalled for that call's reason. A stall caused by a rejected read does
    /// not settle the call.
    fn unsettled(&self) -> Option<&LedgerEntry> {
        let last = self.status.attempts.iter().find(|attempt| attempt.counts());
        last.filter(|attempt| {
            self.stalled()
                .is_none_or(|reason| Some(reason) != attempt.known_reason())
        })
    }

    /// The reason why the resource is stalled, where Graph gave it.
    pub(super) fn stalled(&self) -> Option<Reason> {
        let stalled = is_true(&self.status, conditions::STALLED);
        let reason =
            reason_of(&self.status, conditions::STALLED).filter(|reason| !is_local(*reason));
        reason.filter(|_| stalled)
    }

    /// The reason why no attempt is made until something changes, if there is one.
    pub(super) fn terminal_reason(&self) -> Option<Reason> {
        if let Some(reason) = self.stalled() {
            return Some(reason);
        }
        if self.is_unconfirmed() || self.is_unchecked() {
            return None;
        }
        self.terminal_error()
    }

    /// The terminal reason in the last error from Graph, which outlasts a missing Secret or a suspension.
    pub(super) fn terminal_error(&self) -> Option<Reason> {
        apply::terminal_reason(self.status.last_error.as_ref(), &self.status.attempts)
    }

    /// Whether the inputs of a call have changed so that the verdict no longer applies.
    pub(super) fn is_lifted(&self, digests: &Digests) -> bool {
        match self.change(digests) {
            Change::Inputs => true,
            Change::Token => !self.is_locked_by_pin(),
            Change::None => false,
        }
    }

    /// Whether Graph's last error is a verdict that applies to these inputs as well.
    pub(super) fn refuses(&self, digests: &Digests) -> bool {
        self.terminal_error().is_some() && !self.is_lifted(digests)
    }

    /// Whether a verdict on the PIN applies, which a new token does not lift.
    pub(super) fn is_locked_by_pin(&self) -> bool {
        [self.stalled(), self.terminal_error()]
            .into_iter()
            .flatten()
            .any(|reason| matches!(reason, Reason::PinMismatch | Reason::PinLocked))
    }

    pub(super) fn token_changed(&self, digests: &Digests) -> bool {
        self.status.token_digest.as_deref() != Some(&digests.token)
    }

    /// The change of the inputs since the last attempt. An equal digest of the inputs means that nothing changed, the token
    /// included. The stored digest of the token cannot show that: `note_limited_token` may have replaced it.
    pub(super) fn change(&self, digests: &Digests) -> Change {
        if self.status.inputs_digest.as_deref() == Some(&digests.inputs) {
            Change::None
        } else if self.status.token_digest.is_some() && self.token_changed(digests) {
            Change::Token
        } else {
            Change::Inputs
        }
    }

    /// The phase of a wait: an outcome that is being confirmed stays unknown.
    pub(super) fn waiting(&self) -> Phase {
        let unknown = conditions::is_unknown(&self.status, conditions::REGISTERED);
        if unknown && self.is_unconfirmed() {
            Phase::Confirming
        } else {
            Phase::Waiting
        }
    }

    /// The last error from Graph, for a message that is written again.
    pub(super) fn last_error_text(&self) -> String {
        let error = self.status.last_error.as_ref();
        match error.and_then(|error| error.message.as_deref()) {
            Some(message) => format!("Graph answered: {message}"),
            None => "the last register call failed".to_owned(),
        }
    }
}

/// Whether the operator found the reason without a call to Graph: it is checked again in every reconciliation.
pub(super) fn is_local(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::InvalidToken
            | Reason::InvalidPin
            | Reason::InvalidBackup
            | Reason::DuplicatePhoneNumber
    )
}
