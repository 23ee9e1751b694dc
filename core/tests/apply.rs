//! Outcomes that come late, come twice, or find another status than the one they were claimed on.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use std::time::Duration;

use operator_core::api::Operation;
use operator_core::api::conditions;
use operator_core::api::conditions::{is_registered, is_true};
use operator_core::api::*;
use operator_core::graph::*;
use operator_core::model::apply::*;
use operator_core::model::ledger;
use operator_core::model::phase::State;
use operator_core::model::render::render;
use operator_core::model::schedule::plus;
use testkit::world::{
    START, attempt, pin_mismatch, policy, rate_limited, reading, refused, success, unknown,
    unreachable,
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(START + second).unwrap()
}

fn apply_at(
    status: &WhatsAppPhoneNumberStatus,
    id: &str,
    outcome: &RegisterOutcome,
    second: i64,
) -> WhatsAppPhoneNumberStatus {
    let policy = policy();
    let result = CallResult {
        operation: Operation::Register,
        id,
        outcome,
        handled_before: None,
    };
    let course = ApplyContext {
        policy: &policy,
        cooldown: None,
        generation: 1,
        jitter: 0.0,
        now: at(second),
    };
    apply_outcome(status, &result, &course)
}

fn claimed(ids: &[&str]) -> WhatsAppPhoneNumberStatus {
    let mut status = WhatsAppPhoneNumberStatus::default();
    for id in ids {
        let claim = LedgerEntry::open(
            Operation::Register,
            id,
            Duration::from_secs(60),
            None,
            at(0),
        );
        ledger::push(&mut status.attempts, claim, at(0));
    }
    render(&State::parse(&status), 1, at(0))
}

fn outcomes(status: &WhatsAppPhoneNumberStatus) -> Vec<(&str, Option<AttemptOutcome>)> {
    let entry = |a| -> (&str, Option<AttemptOutcome>) {
        let a: &LedgerEntry = a;
        (a.id.as_str(), a.outcome())
    };
    status.attempts.iter().map(entry).collect()
}

#[test]
fn an_outcome_completes_its_own_entry() {
    let outcome = refused(400, 100, Some(33));
    let status = apply_at(&claimed(&["a"]), "a", &outcome, 5);
    let entry = status.attempts[0].end.as_ref().unwrap();
    assert_eq!(entry.time.0, at(5));
    assert_eq!(entry.outcome, AttemptOutcome::Failed);
    assert_eq!(entry.reason.as_deref(), Some("PhoneNumberNotFound"));
    assert_eq!(
        (entry.http_status, entry.code, entry.subcode),
        (Some(400), Some(100), Some(33))
    );
    assert_eq!(entry.fbtrace_id.as_deref(), Some("Aerror"));
    assert_eq!(status.fbtrace_id.as_deref(), Some("Aerror"));
    assert_eq!(status.last_error, outcome.error);
}

#[test]
fn a_late_failure_completes_its_entry_and_leaves_the_conditions_to_the_newest() {
    let before = claimed(&["old", "new"]);
    let after = apply_at(&before, "old", &pin_mismatch(), 5);
    assert_eq!(
        outcomes(&after),
        [("new", None), ("old", Some(AttemptOutcome::Failed))]
    );
    assert_eq!(after.conditions, before.conditions);
    assert_eq!(after.last_error, None);
    assert_eq!(after.next_attempt_time, None);
}

#[test]
fn a_late_success_is_a_success_whatever_came_after_it() {
    let failed = apply_at(&claimed(&["old", "new"]), "new", &pin_mismatch(), 5);
    let after = apply_at(&failed, "old", &success(), 9);
    assert!(is_registered(&after));
    assert!(!is_true(&after, conditions::STALLED) && !is_true(&after, conditions::FAILED));
    assert_eq!(after.last_error, None);
    assert_eq!(after.registration_time.as_ref().unwrap().0, at(9));
    // And a failure that comes later still takes nothing of it away.
    let open = claimed(&["old", "new"]);
    let succeeded = apply_at(&open, "old", &success(), 5);
    for outcome in [pin_mismatch(), unknown(), refused(500, 2, None)] {
        assert!(is_registered(&apply_at(&succeeded, "new", &outcome, 9)));
    }
}

#[test]
fn an_entry_that_is_gone_keeps_a_success_and_drops_a_failure() {
    let wiped = WhatsAppPhoneNumberStatus::unseen();
    assert!(is_registered(&apply_at(&wiped, "gone", &success(), 5)));
    for outcome in [pin_mismatch(), unknown(), rate_limited(None), unreachable()] {
        assert_eq!(apply_at(&wiped, "gone", &outcome, 5), wiped);
    }
}

#[test]
fn what_is_known_is_not_overwritten_and_what_is_unknown_is() {
    for known in [success(), pin_mismatch(), unreachable()] {
        let first = apply_at(&claimed(&["a"]), "a", &known, 5);
        for late in [success(), pin_mismatch(), unknown()] {
            assert_eq!(apply_at(&first, "a", &late, 9), first);
        }
    }
    let given_up = apply_at(&claimed(&["a"]), "a", &unknown(), 60);
    let late = apply_at(&given_up, "a", &pin_mismatch(), 70);
    assert_eq!(late.attempts[0].outcome(), Some(AttemptOutcome::Failed));
    assert!(is_true(&late, conditions::STALLED));
    let late = apply_at(&given_up, "a", &success(), 70);
    assert!(is_registered(&late));
}

/// Nobody but the operator writes the ledger; who does it anyway does not make it turn in circles.
#[test]
fn of_two_entries_with_one_id_the_open_one_ends() {
    let mut status = claimed(&["a", "a"]);
    if let Some(first) = status.attempts.first_mut() {
        first.end = Some(AttemptEnd {
            outcome: AttemptOutcome::Failed,
            ..AttemptEnd::unknown(at(0))
        });
    }
    let outcome = RegisterOutcome::without_answer(Reason::OutcomeUnknown, "gone");
    let after = apply_at(&status, "a", &outcome, 9);
    assert!(after.attempts.iter().all(|attempt| !attempt.is_open()));
}

#[test]
fn a_record_made_twice_changes_nothing() {
    let once = apply_at(&claimed(&["a"]), "a", &unreachable(), 5);
    assert_eq!(apply_at(&once, "a", &unreachable(), 6), once);
}

#[test]
fn an_unanswered_call_gives_no_verdict_and_takes_none_away() {
    let mut status = claimed(&["a"]);
    status.last_error = pin_mismatch().error;
    status.verdict = Some(Reason::PinMismatch);
    let html = RegisterOutcome {
        error: refused(502, 0, None).error,
        http_status: Some(502),
        ..unknown()
    };
    for verdict in [Some(Reason::PinMismatch), None] {
        status.verdict = verdict;
        for outcome in [unknown(), html.clone(), unreachable()] {
            let after = apply_at(&status, "a", &outcome, 5);
            assert_eq!(after.last_error, status.last_error);
            assert_eq!(after.verdict, status.verdict);
        }
    }
}

#[test]
fn a_fault_that_passes_lifts_no_verdict() {
    let mut status = claimed(&["a"]);
    status.last_error = pin_mismatch().error;
    status.verdict = Some(Reason::PinMismatch);
    for outcome in [refused(500, 2, None), refused(400, 133_015, None)] {
        let after = apply_at(&status, "a", &outcome, 5);
        assert_eq!(after.last_error, status.last_error);
        assert_eq!(after.verdict, status.verdict);
    }
}

#[test]
fn a_requested_call_that_fails_in_passing_stalls_where_there_is_a_verdict() {
    let mut status = claimed(&["a"]);
    status.attempts[0].request = Some("now".to_owned());
    for (verdict, stalls) in [(None, false), (Some(Reason::PinMismatch), true)] {
        status.verdict = verdict;
        let after = apply_at(&status, "a", &refused(400, 2, None), 5);
        assert_eq!(
            (after.stall.is_some(), after.wait.is_some()),
            (stalls, !stalls)
        );
    }
}

#[test]
fn the_last_of_a_few_tries_stalls() {
    let mut status = claimed(&["a", "b"]);
    let locked = refused(400, 133_008, None);
    let first = apply_at(&claimed(&["b"]), "b", &locked, 5);
    assert!(first.stall.is_none() && first.wait.is_some());
    status = apply_at(&status, "a", &locked, 1);
    let second = apply_at(&status, "b", &locked, 5);
    assert!(second.stall.is_some() && second.wait.is_none());
}

#[test]
fn a_value_is_spent_by_a_call_that_may_have_acted() {
    let mut not_sent = attempt("a", at(0), Reason::NotSent);
    not_sent.end.as_mut().unwrap().outcome = AttemptOutcome::NotSent;
    let table = [
        (not_sent, false),
        (attempt("a", at(0), Reason::RateLimited), false),
        (attempt("a", at(0), Reason::PinMismatch), true),
        (claimed(&["a"]).attempts.remove(0), true),
    ];
    for (entry, spent) in table {
        assert_eq!(is_spent(&entry), spent, "{entry:?}");
    }
}

#[test]
fn a_read_changes_what_it_has_asked_for() {
    let number = |said: &str, observed: Option<i64>| {
        let said = || Some(said.to_owned());
        PhoneNumberStatus {
            status: said(),
            platform_type: said(),
            code_verification_status: said(),
            display_phone_number: said(),
            verified_name: said(),
            quality_rating: said(),
            name_status: said(),
            new_name_status: said(),
            on_business_app: Some(observed.is_none()),
            observed_time: observed.map(|second| Time(at(second))),
        }
    };
    let (old, new) = (number("old", Some(1)), number("new", None));
    let now = Some(Time(at(9)));
    let table = [
        (
            ReadFields::All,
            PhoneNumberStatus {
                name_status: old.name_status.clone(),
                new_name_status: old.new_name_status.clone(),
                on_business_app: old.on_business_app,
                observed_time: now.clone(),
                ..new.clone()
            },
        ),
        (
            ReadFields::Deciding,
            PhoneNumberStatus {
                status: new.status.clone(),
                platform_type: new.platform_type.clone(),
                observed_time: now.clone(),
                ..old.clone()
            },
        ),
        (
            ReadFields::Optional,
            PhoneNumberStatus {
                name_status: new.name_status.clone(),
                new_name_status: new.new_name_status.clone(),
                on_business_app: new.on_business_app,
                observed_time: now,
                ..old.clone()
            },
        ),
    ];
    for (fields, expected) in table {
        let mut record = WhatsAppPhoneNumberStatus {
            phone_number: Some(old.clone()),
            ..WhatsAppPhoneNumberStatus::default()
        };
        let reading = |found: &PhoneNumberStatus| ReadOutcome {
            fields,
            phone_number: Some(found.clone()),
            ..reading(RegistrationState::Registered)
        };
        // What is as it was keeps its time.
        note_reading(&mut record, &reading(&old), "v23.0", at(9));
        assert_eq!(record.phone_number, Some(old.clone()), "{fields:?}");
        note_reading(&mut record, &reading(&new), "v23.0", at(9));
        assert_eq!(record.phone_number, Some(expected), "{fields:?}");
    }
}

#[test]
fn a_read_gives_its_trace_only_where_no_call_has_given_one() {
    let traced = reading(RegistrationState::Registered);
    let blank = ReadOutcome {
        fbtrace_id: None,
        ..traced.clone()
    };
    let called = vec![attempt("a", at(0), Reason::PinMismatch)];
    for (attempts, reading, trace) in [
        (Vec::new(), &traced, "Aread"),
        (Vec::new(), &blank, "Abefore"),
        (called.clone(), &traced, "Abefore"),
        (called, &blank, "Abefore"),
    ] {
        let mut record = WhatsAppPhoneNumberStatus {
            attempts,
            fbtrace_id: Some("Abefore".to_owned()),
            ..WhatsAppPhoneNumberStatus::default()
        };
        note_read_trace(&mut record, reading);
        assert_eq!(record.fbtrace_id.as_deref(), Some(trace));
    }
}

#[test]
fn the_time_after_the_last_attempt_follows_from_the_ledger_alone() {
    let due = |reason, http_status| {
        let mut entry = attempt("a", at(0), reason);
        entry.end.as_mut().unwrap().http_status = http_status;
        due_after(&[entry], &policy())
    };
    let after = |seconds| Some(plus(at(0), Duration::from_secs(seconds)));
    assert_eq!(due(Reason::RecentlyDeregistered, Some(400)), after(300));
    assert_eq!(
        due(Reason::RegistrationBlocked, Some(400)),
        after(72 * 3600)
    );
    assert_eq!(due(Reason::OutcomeUnknown, None), after(120));
    assert_eq!(due(Reason::RegistrationRejected, Some(200)), after(120));
    assert_eq!(due(Reason::GraphUnavailable, Some(503)), after(120));
    assert_eq!(due(Reason::GraphUnavailable, Some(400)), after(30));
    assert_eq!(due(Reason::PinMismatch, Some(400)), None);
    assert_eq!(due_after(&[], &policy()), None);
}

/// The optional read says nothing of the number's registration.
#[test]
fn a_read_of_the_fields_that_decide_ends_a_row_of_failures() {
    for (fields, failures) in [
        (ReadFields::All, 0),
        (ReadFields::Deciding, 0),
        (ReadFields::Optional, 2),
    ] {
        let mut record = WhatsAppPhoneNumberStatus {
            read_failures: 2,
            ..WhatsAppPhoneNumberStatus::default()
        };
        let reading = ReadOutcome {
            fields,
            ..reading(RegistrationState::NotRegistered)
        };
        note_reading(&mut record, &reading, "v23.0", at(0));
        assert_eq!(record.read_failures, failures, "{fields:?}");
    }
}
