//! Which changes are worth an event.

use std::time::Duration;

use jiff::Timestamp;
use kube_core::ResourceExt as _;
use operator_core::api::Operation;
use operator_core::api::{
    DataLocalizationRegion, Hold, LedgerEntry, Observation, ObservationFault, PhoneNumberStatus,
    REGISTER_REQUESTED_AT, Reason, Stall, WhatsAppPhoneNumber, WhatsAppPhoneNumberSpec,
    WhatsAppPhoneNumberStatus,
};
use operator_core::model::event::{of_change, of_number, of_request, of_spec};
use operator_core::model::phase::{Phase, State};
use operator_core::model::render::render;
use testkit::builders::spec;
use testkit::world::attempt;

fn status(change: impl FnOnce(&mut State)) -> WhatsAppPhoneNumberStatus {
    let mut state = State::parse(&WhatsAppPhoneNumberStatus::unseen());
    change(&mut state);
    render(&state, 1, Timestamp::UNIX_EPOCH)
}

fn change(
    before: &WhatsAppPhoneNumberStatus,
    after: &WhatsAppPhoneNumberStatus,
) -> Option<(bool, String, &'static str)> {
    let draft = of_change(before, after)?;
    assert!(draft.note.starts_with("What happened."), "{}", draft.note);
    Some((draft.warning, draft.reason, draft.action))
}

fn wrong_pin(state: &mut State) {
    state.phase = Phase::Stalled(Stall::new(Reason::PinMismatch, "what happened".to_owned()));
}

#[test]
fn a_change_is_worth_one_event_and_a_claim_none() {
    let unseen = status(|_| {});
    let claimed = status(|state| {
        let entry = LedgerEntry::open(
            Operation::Register,
            "a",
            Duration::ZERO,
            None,
            Timestamp::UNIX_EPOCH,
        );
        state.phase = Phase::InFlight(Box::new(entry));
    });
    assert_eq!(
        change(&unseen, &status(wrong_pin)),
        Some((true, "PinMismatch".to_owned(), "Read"))
    );
    assert_eq!(change(&status(wrong_pin), &status(wrong_pin)), None);
    let missing = status(|state| {
        state.hold = Some(Hold::new(
            Reason::SecretNotFound,
            "What happened.".to_owned(),
        ));
    });
    let expected = Some((true, "SecretNotFound".to_owned(), "Validate"));
    assert_eq!(change(&unseen, &missing), expected);
    assert!(of_change(&unseen, &claimed).is_none());
}

#[test]
fn an_adoption_and_a_failed_request_of_a_registered_number_are_told() {
    let adopted = |state: &mut State| {
        state.register(
            Reason::AlreadyRegistered,
            "it is".to_owned(),
            Timestamp::UNIX_EPOCH,
        )
    };
    let told = of_change(&status(|_| {}), &status(adopted));
    let told = told.map(|draft| (draft.warning, draft.reason, draft.action));
    assert_eq!(told, Some((false, "AlreadyRegistered".to_owned(), "Read")));
    let failed = status(|state| {
        adopted(state);
        wrong_pin(state);
    });
    let expected = Some((true, "PinMismatch".to_owned(), "Read"));
    assert_eq!(change(&status(adopted), &failed), expected);
}

#[test]
fn an_event_says_whether_a_call_or_a_read_told() {
    let ledger = |reason, ended| {
        status(|state| {
            let mut entry = attempt("a", Timestamp::UNIX_EPOCH, Reason::PinMismatch);
            entry.end = entry.end.filter(|_| ended);
            state.record.attempts.push(entry);
            state.phase = Phase::Stalled(Stall::new(reason, "what happened".to_owned()));
        })
    };
    let action = |before: &_, after: &_| of_change(before, after).map(|draft| draft.action);
    let stalled = ledger(Reason::PinMismatch, true);
    let claimed = status(|state| {
        let mut entry = attempt("a", Timestamp::UNIX_EPOCH, Reason::PinMismatch);
        entry.end = None;
        state.record.attempts.push(entry.clone());
        state.phase = Phase::InFlight(Box::new(entry));
    });
    assert_eq!(action(&claimed, &stalled), Some("Register"));
    // The ledger is as it was: a read told.
    let told = ledger(Reason::TokenRejected, true);
    assert_eq!(action(&stalled, &told), Some("Read"));
}

#[test]
fn the_action_of_an_event_about_leaving_is_deregister() {
    for reason in [Reason::DeregistrationFailed, Reason::PinMismatch] {
        let stalled = status(|state| {
            state.phase = Phase::Stalled(Stall::new(reason, "what happened".to_owned()));
        });
        let draft = of_change(&status(|_| {}), &stalled).expect("an event");
        let leaving = reason == Reason::DeregistrationFailed;
        assert_eq!(draft.action, if leaving { "Deregister" } else { "Read" });
    }
}

#[test]
fn whether_a_number_can_be_observed_is_told_when_it_changes() {
    let observed = |fault: Option<Reason>| {
        status(|state| {
            let (why, now) = ("it is".to_owned(), Timestamp::UNIX_EPOCH);
            state.register(Reason::AlreadyRegistered, why, now);
            let fault = fault.map(|reason| ObservationFault {
                reason,
                message: "what happened".to_owned(),
                token_digest: None,
            });
            state.record.observation = Some(Observation { fault });
        })
    };
    let unseen = status(|_| {});
    let (sound, token) = (observed(None), observed(Some(Reason::TokenRejected)));
    let permission = observed(Some(Reason::PermissionDenied));
    let fault = |reason: &str| vec![(true, reason.to_owned(), "Read")];
    let recovered = vec![(false, "ObservationSucceeded".to_owned(), "Read")];
    for (before, after, told) in [
        (&unseen, &sound, vec![]),
        (&unseen, &token, fault("TokenRejected")),
        (&sound, &sound, vec![]),
        (&sound, &token, fault("TokenRejected")),
        (&token, &token, vec![]),
        (&token, &permission, fault("PermissionDenied")),
        (&permission, &sound, recovered),
        (&sound, &unseen, vec![]),
    ] {
        let drafts = of_number(before, after).into_iter();
        let found: Vec<_> = drafts
            .map(|draft| (draft.warning, draft.reason, draft.action))
            .collect();
        assert_eq!(found, told);
    }
}

#[test]
fn a_display_name_is_told_when_it_is_approved() {
    let named = |review: Option<&str>| {
        let mut status = status(|_| {});
        status.phone_number = Some(PhoneNumberStatus {
            new_name_status: review.map(str::to_owned),
            ..PhoneNumberStatus::default()
        });
        status
    };
    let (none, pending, approved) = (named(None), named(Some("PENDING")), named(Some("APPROVED")));
    for (before, after, told) in [
        (&none, &approved, true),
        (&pending, &approved, true),
        (&approved, &approved, false),
        (&none, &pending, false),
        (&approved, &pending, false),
        (&approved, &none, false),
    ] {
        let drafts = of_number(before, after);
        let reasons: Vec<_> = drafts.iter().map(|draft| draft.reason.as_str()).collect();
        let expected: &[&str] = if told { &["DisplayNameApproved"] } else { &[] };
        assert_eq!(reasons, expected);
    }
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

#[test]
fn fields_that_are_deprecated_are_remarked_upon() {
    let told = |change: &dyn Fn(&mut WhatsAppPhoneNumberSpec)| {
        let mut spec = spec();
        change(&mut spec);
        let told = of_spec(&spec).into_iter();
        told.map(|remark| {
            let field = remark.note.split(' ').next().unwrap_or_default().to_owned();
            (remark.warning, remark.reason, field)
        })
        .collect::<Vec<_>>()
    };
    let remark = |field: &str| (true, "DeprecatedField".to_owned(), field.to_owned());
    assert!(told(&|_| {}).is_empty());
    let region = |spec: &mut WhatsAppPhoneNumberSpec| {
        spec.data_localization_region = Some(DataLocalizationRegion::Ch);
    };
    let retention = |spec: &mut WhatsAppPhoneNumberSpec| {
        spec.meta_store_retention_minutes = Some(60);
    };
    assert_eq!(told(&region), [remark("spec.dataLocalizationRegion")]);
    assert_eq!(told(&retention), [remark("spec.metaStoreRetentionMinutes")]);
}
