//! Which events a change of status is worth. Pure.

use kube::ResourceExt;

use crate::api::{
    DeletionPolicy, REGISTER_REQUEST_MAX_BYTES, REGISTER_REQUESTED_AT, WhatsAppPhoneNumber,
    WhatsAppPhoneNumberSpec, WhatsAppPhoneNumberStatus,
};
use crate::conditions::{find, reason_of};
use crate::reason::{Origin, Reason, condition};
use crate::text::stored_bytes;

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

/// The remark on an annotation that asks for a register call in a text that is too long to be one.
pub fn of_request(resource: &WhatsAppPhoneNumber) -> Option<Notice> {
    let value = resource.annotations().get(REGISTER_REQUESTED_AT)?;
    let bytes = stored_bytes(value);
    (bytes > REGISTER_REQUEST_MAX_BYTES).then(|| {
        remark(
            "InvalidRegisterRequest",
            &format!(
                "The annotation {REGISTER_REQUESTED_AT} has {bytes} bytes as JSON and is ignored. Give it a text of at \
                 most {REGISTER_REQUEST_MAX_BYTES} bytes, such as the time."
            ),
        )
    })
}

/// The remarks on a spec that the API server accepts and that people should think about once more.
pub fn of_spec(spec: &WhatsAppPhoneNumberSpec) -> Vec<Notice> {
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

fn remark(reason: &str, note: &str) -> Notice {
    Notice {
        warning: true,
        reason: reason.to_owned(),
        action: "Validate",
        note: note.to_owned(),
    }
}

fn action_of(reason: Reason, called: bool) -> &'static str {
    match reason.origin() {
        Origin::Check => "Validate",
        Origin::Call if called => "Register",
        Origin::Call | Origin::Read => "Read",
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::conditions::{self, Situation, Standing};

    fn status(standings: &[(Situation, Reason)]) -> WhatsAppPhoneNumberStatus {
        let mut status = WhatsAppPhoneNumberStatus::unseen();
        for (situation, reason) in standings {
            let standing = Standing {
                situation: *situation,
                reason: *reason,
                message: format!("about {reason}"),
            };
            conditions::set(&mut status, &standing, 1, Timestamp::UNIX_EPOCH);
        }
        status
    }

    fn change(
        before: &[(Situation, Reason)],
        after: &[(Situation, Reason)],
    ) -> Option<(bool, String, &'static str)> {
        let notice = of_change(&status(before), &status(after))?;
        assert_eq!(notice.note, format!("about {}", notice.reason));
        Some((notice.warning, notice.reason, notice.action))
    }

    const REGISTERED: (Situation, Reason) = (Situation::Registered, Reason::RegistrationSucceeded);
    const CLAIMED: (Situation, Reason) = (Situation::Registering, Reason::Registering);
    const WRONG_PIN: (Situation, Reason) = (Situation::Stalled, Reason::PinMismatch);

    #[test]
    fn a_change_is_worth_one_event_and_a_claim_none() {
        assert_eq!(change(&[], &[CLAIMED]), None);
        assert_eq!(change(&[WRONG_PIN], &[WRONG_PIN]), None);
        let adopted = (Situation::Registered, Reason::AlreadyRegistered);
        let expected = Some((false, "AlreadyRegistered".to_owned(), "Read"));
        assert_eq!(change(&[], &[adopted]), expected);
        let missing = (Situation::Waiting, Reason::SecretNotFound);
        let expected = Some((true, "SecretNotFound".to_owned(), "Validate"));
        assert_eq!(change(&[], &[missing]), expected);
    }

    #[test]
    fn a_failed_request_of_a_registered_number_is_told() {
        let notice = change(&[REGISTERED], &[REGISTERED, WRONG_PIN]);
        assert_eq!(notice, Some((true, "PinMismatch".to_owned(), "Read")));
    }

    #[test]
    fn an_annotation_that_is_too_long_is_remarked_upon() {
        let mut resource = WhatsAppPhoneNumber::new("support", crate::secrets::fixtures::spec());
        assert_eq!(of_request(&resource), None);
        for (bytes, told) in [(256, false), (257, true)] {
            let value = "x".repeat(bytes);
            resource
                .annotations_mut()
                .insert(REGISTER_REQUESTED_AT.to_owned(), value);
            assert_eq!(of_request(&resource).is_some(), told, "{bytes} bytes");
        }
    }
}
