//! Which changes are worth an event.

use jiff::Timestamp;

use kube_core::ResourceExt as _;
use operator_core::api::{
    REGISTER_REQUESTED_AT, Reason, WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus,
};
use operator_core::model::event::{of_change, of_request};
use operator_core::model::render::{Phase, Summary, set};
use testkit::builders::spec;

fn status(summaries: &[(Phase, Reason)]) -> WhatsAppPhoneNumberStatus {
    let mut status = WhatsAppPhoneNumberStatus::unseen();
    for (phase, reason) in summaries {
        let summary = Summary {
            phase: *phase,
            reason: *reason,
            message: format!("about {reason}"),
        };
        set(&mut status, &summary, 1, Timestamp::UNIX_EPOCH);
    }
    status
}

fn change(
    before: &[(Phase, Reason)],
    after: &[(Phase, Reason)],
) -> Option<(bool, String, &'static str)> {
    let notice = of_change(&status(before), &status(after))?;
    assert_eq!(notice.note, format!("about {}", notice.reason));
    Some((notice.warning, notice.reason, notice.action))
}

const REGISTERED: (Phase, Reason) = (Phase::Registered, Reason::RegistrationSucceeded);
const CLAIMED: (Phase, Reason) = (Phase::Registering, Reason::Registering);
const WRONG_PIN: (Phase, Reason) = (Phase::Stalled, Reason::PinMismatch);

#[test]
fn a_change_is_worth_one_event_and_a_claim_none() {
    assert_eq!(change(&[], &[CLAIMED]), None);
    assert_eq!(change(&[WRONG_PIN], &[WRONG_PIN]), None);
    let adopted = (Phase::Registered, Reason::AlreadyRegistered);
    let expected = Some((false, "AlreadyRegistered".to_owned(), "Read"));
    assert_eq!(change(&[], &[adopted]), expected);
    let missing = (Phase::Waiting, Reason::SecretNotFound);
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
    let mut resource = WhatsAppPhoneNumber::new("support", spec());
    assert_eq!(of_request(&resource), None);
    // Bytes of UTF-8 count, whatever they take in JSON.
    for (value, told) in [
        ("x".repeat(256), false),
        ("x".repeat(257), true),
        ("\u{1}<".repeat(128), false),
        ("é".repeat(128), false),
        ("é".repeat(129), true),
    ] {
        let annotations = resource.annotations_mut();
        annotations.insert(REGISTER_REQUESTED_AT.to_owned(), value.clone());
        assert_eq!(of_request(&resource).is_some(), told, "{value}");
        assert_eq!(resource.register_request().is_none(), told, "{value}");
    }
}
