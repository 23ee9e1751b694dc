//! The events for a change of status, a spec or an annotation.

use kube_core::ResourceExt as _;

use super::phase::State;
use super::render::{Shown, Summary};
use crate::api::{
    DeletionPolicy, REGISTER_REQUEST_MAX_BYTES, REGISTER_REQUESTED_AT, Reason, Source,
    WhatsAppPhoneNumber, WhatsAppPhoneNumberSpec, WhatsAppPhoneNumberStatus,
};

/// An event to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventDraft {
    /// Whether it is of type Warning.
    pub warning: bool,
    /// The reason of the condition, or of the remark on the spec.
    pub reason: String,
    /// The action of the operator: `Register`, `Read` or `Validate`.
    pub action: &'static str,
    /// The message of the condition, or the remark.
    pub note: String,
}

/// Returns the event for a change of status: one where the reason of `Ready`, or else of `Failed`, changed.
pub fn of_change(
    before: &WhatsAppPhoneNumberStatus,
    after: &WhatsAppPhoneNumberStatus,
) -> Option<EventDraft> {
    let [old, new] = [before, after].map(|status| Shown::of(&State::parse(status)));
    let reason = |summary: &Option<Summary>| summary.as_ref().map(|summary| summary.reason);
    let changed = if reason(&old.ready) != reason(&new.ready) {
        new.ready
    } else if reason(&old.failed) != reason(&new.failed) {
        new.failed
    } else {
        None
    };
    let Summary {
        reason, message, ..
    } = changed?;
    if reason == Reason::Registering {
        return None; // The outcome follows.
    }
    let called = before
        .attempts
        .iter()
        .zip(&after.attempts)
        .any(|(b, a)| b.id == a.id && b != a);
    Some(EventDraft {
        warning: !reason.is_registered() && reason != Reason::Suspended,
        reason: reason.to_string(),
        action: action_of(reason, called),
        note: message,
    })
}

/// Returns the event for the outcome of a register call that the API server does not store, and why not.
pub fn of_unrecorded(why: &str) -> EventDraft {
    EventDraft {
        warning: true,
        reason: "OutcomeNotRecorded".to_owned(),
        action: "Register",
        note: format!(
            "The register call is over, but its outcome is not in the status yet: {why}. The operator tries again until it is stored, \
             and makes no other call for the number. Find out why the API server refuses it, and do not kill the operator meanwhile: \
             it alone knows the outcome."
        ),
    }
}

/// Returns the remark on an annotation [`REGISTER_REQUESTED_AT`] that is too long.
pub fn of_request(resource: &WhatsAppPhoneNumber) -> Option<EventDraft> {
    let value = resource.annotations().get(REGISTER_REQUESTED_AT)?;
    let bytes = value.len();
    (bytes > REGISTER_REQUEST_MAX_BYTES).then(|| {
        remark(
            "InvalidRegisterRequest",
            &format!(
                "The annotation {REGISTER_REQUESTED_AT} has {bytes} bytes and is ignored. Set it to a text of \
                 at most {REGISTER_REQUEST_MAX_BYTES} bytes, such as the current time."
            ),
        )
    })
}

/// Returns the warnings about a spec that the API server accepts.
pub fn of_spec(spec: &WhatsAppPhoneNumberSpec) -> Vec<EventDraft> {
    let mut remarks = Vec::new();
    if spec.data_localization_region.is_some() {
        remarks.push(remark(
            "DeprecatedField",
            "spec.dataLocalizationRegion is deprecated by Meta since v21 and is sent as given. Consider the number's \
             settings (storage_configuration) instead.",
        ));
    }
    if spec.meta_store_retention_minutes.is_some() {
        remarks.push(remark(
            "DeprecatedField",
            "spec.metaStoreRetentionMinutes is deprecated by Meta since v21 and is sent as given. Consider the number's \
             settings (storage_configuration) instead.",
        ));
    }
    if spec.deletion_policy == DeletionPolicy::Deregister {
        remarks.push(remark(
            "DeregisterNotSupported",
            "spec.deletionPolicy Deregister is reserved: this version leaves the number registered when the resource \
             is deleted. Deregister the number manually where needed.",
        ));
    }
    remarks
}

fn remark(reason: &str, note: &str) -> EventDraft {
    EventDraft {
        warning: true,
        reason: reason.to_owned(),
        action: "Validate",
        note: note.to_owned(),
    }
}

fn action_of(reason: Reason, called: bool) -> &'static str {
    match reason.source() {
        Source::Check => "Validate",
        Source::Call if called => "Register",
        Source::Call | Source::Read => "Read",
    }
}
