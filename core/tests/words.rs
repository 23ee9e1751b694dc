//! What reasons say to people, and what a resource says of itself.

use jiff::Timestamp;
use serde_json::json;

use operator_core::api::{
    Disposition, Operation, REGISTER_REQUESTED_AT, Reason, Source, WhatsAppPhoneNumberStatus,
    explain, explain_requested, explain_secret, explain_unmet, explain_unobserved,
};
use testkit::builders::resource;

#[test]
fn a_stall_says_what_ends_it() {
    for reason in Reason::ALL {
        let text = explain("it failed", *reason, None);
        assert!(text.starts_with("It failed. "), "{text}");
        assert!(
            text.ends_with(" No further attempt will be made until then."),
            "{text}"
        );
    }
    let asks = |reason| explain("it failed", reason, None).contains(REGISTER_REQUESTED_AT);
    // A wait that is over in vain, or what the operator cannot notice: the user asks for the next attempt.
    for reason in [
        Reason::OutcomeUnknown,
        Reason::GraphUnavailable,
        Reason::NotSent,
        Reason::RateLimited,
        Reason::CertificateUnavailable,
        Reason::AccountLocked,
    ] {
        assert!(asks(reason), "{reason}");
    }
    assert!(!asks(Reason::TokenRejected) && !asks(Reason::PinMismatch));
    let locked = explain("it failed", Reason::PinLocked, None);
    assert!(locked.contains("Wait until Meta lifts the lock. Then put the right PIN"));
}

#[test]
fn a_requested_call_is_not_said_to_be_repeated_by_a_change() {
    for (reason, advice) in [
        (
            Reason::TokenRejected,
            "Put a valid token of a system user into the Secret.",
        ),
        (
            Reason::PinMismatch,
            "Do not guess: wrong PINs lock the number.",
        ),
        (
            Reason::InvalidRequest,
            "Correct what Graph's message names.",
        ),
    ] {
        let text = explain_requested("it failed", reason, "counts as registered");
        assert!(text.contains(advice), "{text}");
        assert!(!text.contains("automatically"), "{text}");
        assert!(
            text.ends_with(
                "until the annotation whatsapp-operator.dev/register-requested-at has a new value."
            ),
            "{text}"
        );
    }
}

#[test]
fn a_wait_says_when_it_ends() {
    let text = explain(
        "it failed.",
        Reason::GraphUnavailable,
        Some(Timestamp::UNIX_EPOCH),
    );
    assert_eq!(
        text,
        "It failed. Wait: the operator retries automatically. Next attempt at 1970-01-01T00:00:00Z."
    );
}

#[test]
fn an_outcome_that_is_read_for_says_by_when() {
    let next = Some(Timestamp::UNIX_EPOCH);
    let text = explain("it failed", Reason::OutcomeUnknown, next);
    assert!(
        text.ends_with(" Next read by 1970-01-01T00:00:00Z."),
        "{text}"
    );
}

#[test]
fn a_requested_call_that_was_not_made_says_what_follows() {
    let text = explain_unmet("it failed", Reason::TokenRejected);
    assert_eq!(
        text,
        "It failed. Put a valid token of a system user into the Secret. The number still counts as registered; the requested \
         register call was not made. It is made once this changes; to have it tried at once, set the annotation \
         whatsapp-operator.dev/register-requested-at to a new value."
    );
}

#[test]
fn what_follows_a_deregister_call() {
    let after = |reason| Operation::Deregister.disposition(reason);
    assert_eq!(after(Reason::Deregistered), Disposition::Done);
    assert_eq!(after(Reason::RateLimited), Disposition::Retry);
    assert_eq!(after(Reason::OutcomeUnknown), Disposition::Confirm);
    assert_eq!(after(Reason::InvalidRequest), Disposition::ConfirmThenStall);
}

#[test]
fn where_reasons_come_from_and_which_end_an_attempt() {
    for reason in Reason::ALL {
        let (source, ends) = (reason.source(), reason.ends_an_attempt());
        match reason {
            Reason::AlreadyRegistered => assert_eq!((source, ends), (Source::Read, false)),
            Reason::OutcomeConfirmed => assert_eq!((source, ends), (Source::Read, true)),
            Reason::Registering => assert_eq!((source, ends), (Source::Call, false)),
            Reason::PinMismatch | Reason::NotSent | Reason::RegistrationSucceeded => {
                assert_eq!((source, ends), (Source::Call, true));
            }
            Reason::Suspended | Reason::AttemptBudgetExhausted => {
                assert_eq!((source, ends), (Source::Check, false));
            }
            reason if reason.is_secret_fault() => {
                assert_eq!((source, ends), (Source::Check, false))
            }
            _ => {}
        }
    }
}

#[test]
fn a_resource_is_named_with_its_namespace() {
    assert_eq!(resource("support", 0).qualified_name(), "shop/support");
}

#[test]
fn a_request_found_in_an_unseen_resource_counts_as_handled() {
    let mut found = resource("support", 0);
    let annotation = (REGISTER_REQUESTED_AT.to_owned(), "old".to_owned());
    found.metadata.annotations = Some([annotation].into());
    let handled = |resource: &operator_core::api::WhatsAppPhoneNumber| {
        resource.status_or_unseen().last_handled_register_request
    };
    assert_eq!(handled(&found).as_deref(), Some("old"));
    for generation in [0, 1] {
        let seen = WhatsAppPhoneNumberStatus {
            observed_generation: generation,
            ..WhatsAppPhoneNumberStatus::default()
        };
        found.status = Some(seen);
        assert_eq!(handled(&found), None);
    }
}

#[test]
fn a_status_holds_only_what_there_is() {
    let mut status = WhatsAppPhoneNumberStatus::unseen();
    assert_eq!(json!(status), json!({"observedGeneration": -1}));
    status.read_failures = 2;
    assert_eq!(
        json!(status),
        json!({"observedGeneration": -1, "readFailures": 2})
    );
    let wait =
        json!({"reason": "GraphUnavailable", "message": "m", "until": "2027-01-15T08:00:00Z"});
    let confirming = json!({"reason": "OutcomeUnknown", "message": "m", "until": "2027-01-15T08:00:00Z", "confirming": true});
    for wait in [wait, confirming] {
        let stored = json!({"observedGeneration": 1, "wait": wait});
        let read: WhatsAppPhoneNumberStatus =
            serde_json::from_value(stored.clone()).expect("a status");
        assert_eq!(json!(read), stored);
    }
}

/// Where a number cannot be observed, nobody is told to spend a call on it.
#[test]
fn an_observation_that_fails_asks_for_no_call() {
    for reason in Reason::ALL {
        let text = explain_unobserved("it failed", *reason);
        assert!(!text.contains(REGISTER_REQUESTED_AT), "{text}");
    }
}

#[test]
fn a_fault_of_a_secret_says_how_it_goes_on() {
    // What cannot be read says itself when that is tried again.
    let faults = Reason::ALL.iter().filter(|reason| reason.is_secret_fault());
    for reason in faults.filter(|reason| **reason != Reason::SecretForbidden) {
        let text = explain_secret("it is wrong", *reason);
        assert!(text.ends_with("automatically."), "{text}");
    }
}
