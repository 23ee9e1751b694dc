//! Which events a change of status is worth. Pure.

use crate::api::{DeletionPolicy, WhatsAppPhoneNumberSpec, WhatsAppPhoneNumberStatus};
use crate::conditions::{find, reason_of};
use crate::reason::{Reason, condition};

/// An event to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whether it needs somebody's attention.
    pub warning: bool,
    /// Why: the reason of the condition, or of the remark on the spec.
    pub reason: String,
    /// What the operator did: `Register`, `Read` or `Validate`.
    pub action: &'static str,
    /// The condition's message.
    pub note: String,
}

/// The event for a change of status, if it is worth one: when the reason of `Ready`, or else of `Failed`, is another.
pub fn of_change(
    before: &WhatsAppPhoneNumberStatus,
    after: &WhatsAppPhoneNumberStatus,
) -> Option<Notice> {
    let types = [condition::READY, condition::FAILED];
    let changed = types
        .iter()
        .find(|type_| reason_of(before, type_) != reason_of(after, type_))?;
    let condition = find(after, changed)?;
    let reason: Reason = condition.reason.parse().ok()?;
    if reason == Reason::Registering {
        return None; // Its outcome follows within the minute.
    }
    let called = before
        .attempts
        .iter()
        .zip(&after.attempts)
        .any(|(b, a)| b.id == a.id && b != a);
    Some(Notice {
        warning: !reason.is_registered() && reason != Reason::Suspended,
        reason: reason.to_string(),
        action: action_of(reason, called),
        note: condition.message.clone(),
    })
}

/// The remarks on a spec that the API server accepts and that people should think about once more.
pub fn of_spec(spec: &WhatsAppPhoneNumberSpec) -> Vec<Notice> {
    let remark = |reason: &str, note: &str| Notice {
        warning: true,
        reason: reason.to_owned(),
        action: "Validate",
        note: note.to_owned(),
    };
    let mut remarks = Vec::new();
    if spec.data_localization_region.is_some() {
        remarks.push(remark(
            "DeprecatedField",
            "spec.dataLocalizationRegion is deprecated by Meta since v21 and sent as given. Consider the number's \
             settings (storage_configuration) instead.",
        ));
    }
    if spec.meta_store_retention_minutes.is_some() {
        remarks.push(remark(
            "DeprecatedField",
            "spec.metaStoreRetentionMinutes is deprecated by Meta since v21 and sent as given. Consider the number's \
             settings (storage_configuration) instead.",
        ));
    }
    if spec.deletion_policy == DeletionPolicy::Deregister {
        remarks.push(remark(
            "DeregisterNotSupported",
            "spec.deletionPolicy Deregister is reserved: this version leaves the number registered when the resource \
             is deleted. Deregister it by hand if it must be.",
        ));
    }
    remarks
}

fn action_of(reason: Reason, called: bool) -> &'static str {
    match reason {
        Reason::SecretNotFound
        | Reason::SecretKeyMissing
        | Reason::InvalidToken
        | Reason::InvalidPin
        | Reason::InvalidBackup
        | Reason::DuplicatePhoneNumber
        | Reason::AttemptBudgetExhausted
        | Reason::Suspended => "Validate",
        Reason::AlreadyRegistered | Reason::OutcomeConfirmed => "Read",
        _ if called => "Register",
        _ => "Read",
    }
}
