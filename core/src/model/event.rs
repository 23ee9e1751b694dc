//! The events for a change of status, a spec or an annotation.

use kube_core::ResourceExt as _;

use super::decision::{Farewell, FarewellOutcome};
use super::phase::State;
use super::render::{Shown, Summary};
use crate::api::{
    Operation, REGISTER_REQUEST_MAX_BYTES, REGISTER_REQUESTED_AT, Reason, Source,
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
    if matches!(reason, Reason::Registering | Reason::Deregistered) {
        return None; // The outcome follows, or the farewell.
    }
    let mut attempts = before.attempts.iter().zip(&after.attempts);
    let called = attempts.any(|(b, a)| b.id == a.id && b != a);
    let normal = matches!(
        reason,
        Reason::Suspended | Reason::Deregistering | Reason::Deregistered
    );
    Some(EventDraft {
        warning: !reason.is_registered() && !normal,
        reason: reason.to_string(),
        action: action_of(reason, called),
        note: message,
    })
}

/// Returns the events for a change of what is known about a number apart from its registration: whether it can be observed, and a display
/// name that Meta has approved.
pub fn of_number(
    before: &WhatsAppPhoneNumberStatus,
    after: &WhatsAppPhoneNumberStatus,
) -> Vec<EventDraft> {
    let [old, new] = [before, after].map(|status| Shown::of(&State::parse(status)).observed);
    let was_usable = old.as_ref().is_none_or(|old| old.usable);
    let changed = new.filter(|new| {
        let reason = old.as_ref().map(|old| old.reason);
        !(new.usable && was_usable) && reason != Some(new.reason)
    });
    let observed = changed.map(|new| EventDraft {
        warning: !new.usable,
        reason: new.reason.to_string(),
        action: "Read",
        note: new.message,
    });
    let name = |status: &WhatsAppPhoneNumberStatus| {
        let number = status.phone_number.as_ref()?;
        number.new_name_status.clone()
    };
    let approved = Some("APPROVED");
    let is_new = name(before).as_deref() != approved && name(after).as_deref() == approved;
    let named = is_new.then(|| EventDraft {
        warning: false,
        reason: "DisplayNameApproved".to_owned(),
        action: "Read",
        note: format!(
            "Meta has approved a new display name, and shows it once the number is registered again within 14 days. To have the \
             operator make that one call, set the annotation {REGISTER_REQUESTED_AT} to a new value."
        ),
    });
    observed.into_iter().chain(named).collect()
}

/// Returns the event for a number whose resource is deleted.
pub fn of_farewell(farewell: &Farewell) -> EventDraft {
    let why = farewell.why.trim_end_matches('.');
    let (warning, reason, note) = match farewell.outcome {
        FarewellOutcome::Deregistered => (
            false,
            "Deregistered",
            format!(
                "The number is not registered with the Cloud API, and the resource goes: {why}."
            ),
        ),
        FarewellOutcome::NotRegistered => (
            false,
            "NotRegistered",
            format!("The resource goes without a deregister call: {why}."),
        ),
        FarewellOutcome::LeftRegistered => (
            true,
            "LeftRegistered",
            format!(
                "The resource goes, and its number stays registered with the Cloud API: {why}. Deregister it in WhatsApp Manager if that is \
                 not what you want."
            ),
        ),
        FarewellOutcome::InDoubt => (
            true,
            "DeregistrationInDoubt",
            format!(
                "The resource goes, and a deregister call may or may not have taken its number off the Cloud API: {why}. Look at the number \
                 in WhatsApp Manager."
            ),
        ),
    };
    EventDraft {
        warning,
        reason: reason.to_owned(),
        action: "Deregister",
        note,
    }
}

/// Returns the event for a resource that wants its number deregistered when it is deleted, although that will not happen.
pub fn of_ignored_policy(why: &str) -> EventDraft {
    remark(
        "DeregisterIgnored",
        &format!(
            "spec.deletionPolicy Deregister acts as Retain: {why}. The number stays registered when the resource is deleted."
        ),
    )
}

/// Returns the event for an answer from another version of the Graph API than the requested one.
pub fn of_version(asked: &str, answered: &str) -> EventDraft {
    EventDraft {
        warning: true,
        reason: "GraphAPIVersionExpired".to_owned(),
        action: "Read",
        note: format!(
            "Graph answered with version {answered} although {asked} was asked for: {asked} is past its end. Set a newer one, in \
             spec.graphAPIVersion or for the whole operator (--graph-api-version)."
        ),
    }
}

/// Returns the event for the outcome of a call that the API server does not store, and why not.
pub fn of_unrecorded(operation: Operation, why: &str) -> EventDraft {
    let action = match operation {
        Operation::Register => "Register",
        Operation::Deregister => "Deregister",
    };
    EventDraft {
        warning: true,
        reason: "OutcomeNotRecorded".to_owned(),
        action,
        note: format!(
            "The {} is over, but its outcome is not in the status yet: {why}. The operator tries again until it is stored, \
             and makes no other call for the number. Find out why the API server refuses it, and do not kill the operator meanwhile: \
             it alone knows the outcome.",
            operation.noun()
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
        _ if matches!(
            reason,
            Reason::Deregistering | Reason::Deregistered | Reason::DeregistrationFailed
        ) =>
        {
            "Deregister"
        }
        Source::Check => "Validate",
        Source::Call if called => "Register",
        Source::Call | Source::Read => "Read",
    }
}
