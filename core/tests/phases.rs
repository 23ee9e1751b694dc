//! From a status to a state and back, and what people see of it.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use proptest::prelude::*;

use operator_core::api::Operation;
use operator_core::api::conditions::{self, find, reason_of};
use operator_core::api::text::MESSAGE;
use operator_core::api::{
    Hold, LedgerEntry, Loss, Reason, Stall, Wait, WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus,
};
use operator_core::model::decide;
use operator_core::model::machine::Process;
use operator_core::model::phase::{Phase, Standing, State};
use operator_core::model::render::render;
use operator_core::model::{Decision, Inputs, Observed};
use testkit::world::{START, World, reading};

use operator_core::graph::RegistrationState;

use crate::untrusted_input::{resource, status};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(START + second).unwrap()
}

fn state(change: impl FnOnce(&mut State)) -> State {
    let mut state = State::parse(&WhatsAppPhoneNumberStatus::unseen());
    change(&mut state);
    state
}

fn message() -> String {
    "what happened".to_owned()
}

fn register(state: &mut State) {
    state.register(Reason::RegistrationSucceeded, message(), at(0));
}

fn claim(state: &mut State) {
    let entry = LedgerEntry::open(
        Operation::Register,
        "a",
        Duration::from_secs(60),
        None,
        at(0),
    );
    state.record.attempts.insert(0, entry.clone());
    state.phase = Phase::InFlight(Box::new(entry));
}

fn confirm(state: &mut State) {
    state.phase = Phase::waits(Wait::new(Reason::OutcomeUnknown, message(), at(9)), true);
}

fn wait(state: &mut State) {
    state.phase = Phase::waits(Wait::new(Reason::GraphUnavailable, message(), at(9)), false);
}

fn stall(state: &mut State) {
    state.phase = Phase::Stalled(Stall::new(Reason::PinMismatch, message()));
}

fn hold(reason: Reason, until: Option<i64>) -> impl FnOnce(&mut State) {
    move |state| {
        state.hold = Some(Hold {
            until: until.map(|second| Time(at(second))),
            ..Hold::new(reason, message())
        });
    }
}

/// The conditions, each as `Type=Status Reason`.
fn shown(state: &State) -> Vec<String> {
    let status = render(state, 1, at(0));
    let all = status.conditions.iter();
    all.map(|c| format!("{}={} {}", c.type_, c.status, c.reason))
        .collect()
}

fn expect(state: &State, registered: &str, failed: &str, also: &[&str]) {
    let mut expected = vec![
        format!("Registered={registered}"),
        format!("Ready={registered}"),
        format!("Failed={failed}"),
    ];
    expected.extend(also.iter().map(|also| (*also).to_owned()));
    assert_eq!(shown(state), expected);
}

#[test]
fn each_phase_shows_as_kstatus_expects() {
    assert_eq!(shown(&state(|_| {})), Vec::<String>::new());
    let ok = "True RegistrationSucceeded";
    expect(&state(register), ok, "False RegistrationSucceeded", &[]);
    expect(
        &state(claim),
        "Unknown Registering",
        "False Registering",
        &["Reconciling=True Registering"],
    );
    expect(
        &state(confirm),
        "Unknown OutcomeUnknown",
        "False OutcomeUnknown",
        &["Reconciling=True OutcomeUnknown"],
    );
    expect(
        &state(wait),
        "False GraphUnavailable",
        "True GraphUnavailable",
        &["Reconciling=True GraphUnavailable"],
    );
    expect(
        &state(stall),
        "False PinMismatch",
        "True PinMismatch",
        &["Stalled=True PinMismatch"],
    );
    for (phase, registered) in [
        (register as fn(&mut State), true),
        (claim, false),
        (stall, false),
    ] {
        let status = render(&state(phase), 1, at(0));
        assert_eq!(conditions::is_registered(&status), registered);
    }
}

#[test]
fn a_hold_lies_over_every_phase() {
    for phase in [|_: &mut State| {}, confirm, wait, stall] {
        let held = |reason, until| {
            state(|state| {
                phase(state);
                hold(reason, until)(state);
            })
        };
        let suspended = held(Reason::Suspended, None);
        expect(&suspended, "False Suspended", "False Suspended", &[]);
        assert_eq!(render(&suspended, 1, at(0)).next_attempt_time, None);
        expect(
            &held(Reason::DuplicatePhoneNumber, None),
            "False DuplicatePhoneNumber",
            "True DuplicatePhoneNumber",
            &["Stalled=True DuplicatePhoneNumber"],
        );
        expect(
            &held(Reason::SecretNotFound, None),
            "False SecretNotFound",
            "True SecretNotFound",
            &["Reconciling=True SecretNotFound"],
        );
        let budget = held(Reason::AttemptBudgetExhausted, Some(50));
        expect(
            &budget,
            "False AttemptBudgetExhausted",
            "True AttemptBudgetExhausted",
            &["Reconciling=True AttemptBudgetExhausted"],
        );
        let next = render(&budget, 1, at(0)).next_attempt_time;
        assert_eq!(next, Some(Time(at(50))));
        // What lies below comes to light again.
        let mut freed = budget;
        freed.hold = None;
        assert_eq!(shown(&freed), shown(&state(phase)));
    }
    // In the confirm window of a call for another resource, it may be registered.
    expect(
        &state(hold(Reason::OutcomeUnknown, Some(50))),
        "Unknown OutcomeUnknown",
        "False OutcomeUnknown",
        &["Reconciling=True OutcomeUnknown"],
    );
    // An outcome that is being confirmed stays unknown while its token cools down.
    let limited = state(|state| {
        confirm(state);
        hold(Reason::RateLimited, Some(50))(state);
    });
    expect(
        &limited,
        "Unknown RateLimited",
        "False RateLimited",
        &["Reconciling=True RateLimited"],
    );
}

/// It comes back when both the hold and the wait below it are over.
#[test]
fn the_next_attempt_follows_the_later_of_two_waits() {
    for (until, next) in [(5, 9), (9, 9), (50, 50)] {
        let state = state(|state| {
            wait(state);
            hold(Reason::AttemptBudgetExhausted, Some(until))(state);
        });
        let status = render(&state, 1, at(0));
        assert_eq!(status.next_attempt_time, Some(Time(at(next))), "{until}");
    }
}

#[test]
fn a_number_that_could_not_be_deregistered_is_registered_only_if_it_is_known_to_be() {
    let failed = |state: &mut State| {
        state.phase = Phase::Stalled(Stall::new(Reason::DeregistrationFailed, message()));
    };
    let [unknown, registered] = [|_: &mut State| {}, register].map(|standing| {
        state(|state| {
            standing(state);
            failed(state);
        })
    });
    let (failed, stalled) = (
        "True DeregistrationFailed",
        &["Stalled=True DeregistrationFailed"],
    );
    expect(&unknown, "Unknown DeregistrationFailed", failed, stalled);
    let [ready, ..] = &shown(&registered)[..] else {
        panic!("no condition");
    };
    assert!(ready.starts_with("Registered=True "), "{ready}");
}

#[test]
fn conditions_of_other_writers_follow() {
    let foreign = Condition {
        last_transition_time: Time(at(3)),
        message: "theirs".to_owned(),
        observed_generation: None,
        reason: "Theirs".to_owned(),
        status: "True".to_owned(),
        type_: "Theirs".to_owned(),
    };
    let registered = state(|state| {
        register(state);
        state.record.conditions.push(foreign.clone());
    });
    let ok = "True RegistrationSucceeded";
    let failed = "False RegistrationSucceeded";
    expect(&registered, ok, failed, &["Theirs=True Theirs"]);
    let status = render(&registered, 7, at(50));
    let expected = Condition {
        observed_generation: Some(7),
        ..foreign
    };
    assert_eq!(status.conditions.last(), Some(&expected));
}

#[test]
fn a_registered_number_stays_so_when_a_requested_call_fails() {
    let failed = state(|state| {
        register(state);
        stall(state);
    });
    let ok = "True RegistrationSucceeded";
    expect(&failed, ok, "True PinMismatch", &[]);
    let status = render(&failed, 1, at(0));
    let message = &find(&status, conditions::FAILED).unwrap().message;
    assert!(message.contains("still counts as registered"), "{message}");
}

#[test]
fn the_message_tells_what_happened_what_to_do_and_when() {
    let told = |state: &State| {
        let status = render(state, 1, at(0));
        find(&status, conditions::READY).unwrap().message.clone()
    };
    let text = told(&state(wait));
    assert_eq!(
        text,
        format!(
            "What happened. Wait: the operator retries automatically. Next attempt at {}.",
            at(9)
        )
    );
    let text = told(&state(stall));
    assert!(text.starts_with("What happened. Put the number's PIN into the Secret"));
    assert!(text.ends_with("No further attempt will be made until then."));
    let changed = state(|state| {
        state.phase = Phase::Stalled(Stall {
            token_changed: true,
            ..Stall::new(Reason::PinMismatch, message())
        });
    });
    assert!(told(&changed).contains("cannot tell whether the PIN changed with the token"));
    assert_eq!(
        told(&state(register)),
        "The number is registered: what happened."
    );
    let text = told(&state(hold(Reason::DuplicatePhoneNumber, None)));
    assert!(text.starts_with("what happened. Delete one of the two resources"));
    assert_eq!(
        told(&state(hold(Reason::SecretNotFound, None))),
        "What happened. The operator notices the change automatically."
    );
}

#[test]
fn a_loss_says_what_two_reads_have_shown() {
    for (reason, says) in [
        (
            Reason::RegistrationLost,
            "The number was registered and no longer is, as two reads show. What they said.",
        ),
        (
            Reason::AccountLocked,
            "The number was registered and can no longer be used, as two reads show. What they said.",
        ),
    ] {
        let lost = state(|state| {
            state.standing = Standing::Lost(Loss {
                reason,
                message: "What they said".to_owned(),
                time: Time(at(0)),
                repeated: false,
                recovering: false,
            });
        });
        let status = render(&lost, 1, at(0));
        let message = &find(&status, conditions::READY).unwrap().message;
        assert!(message.starts_with(says), "{message}");
    }
}

#[test]
fn a_deletion_that_waits_says_so() {
    for until in [None, Some(50)] {
        let leaving = state(hold(Reason::Deregistering, until));
        let status = render(&leaving, 1, at(0));
        let message = &find(&status, conditions::READY).unwrap().message;
        let says = "The resource is being deleted, and its number is to be taken off the Cloud API first, which waits: what happened.";
        assert!(message.starts_with(says), "{message}");
    }
}

#[test]
fn how_a_number_came_to_be_registered() {
    let since = |reason, known: Option<i64>| {
        let mut state = state(|_| {});
        state.record.registration_time = known.map(|second| Time(at(second)));
        state.register(reason, message(), at(50));
        let status = render(&state, 1, at(50));
        let shown = find(&status, conditions::READY).unwrap().message.clone();
        (status.registration_time.unwrap().0, shown)
    };
    let (time, text) = since(Reason::AlreadyRegistered, None);
    assert_eq!(time, at(50));
    assert_eq!(
        text,
        "The number is registered already, so no register call is needed. what happened."
    );
    let (time, text) = since(Reason::OutcomeConfirmed, Some(5));
    assert_eq!(time, at(5));
    assert!(text.starts_with("The number is registered, although the register call had no clear"));
    // A call that succeeded registers the number anew.
    assert_eq!(since(Reason::RegistrationSucceeded, Some(5)).0, at(50));
}

#[test]
fn transition_times_move_only_when_a_status_flips() {
    let mut state = state(wait);
    let mut times = Vec::new();
    for (second, change) in [
        (0, wait as fn(&mut State)),
        (9, |state| hold(Reason::SecretNotFound, None)(state)),
        (20, register),
    ] {
        change(&mut state);
        let status = render(&state, 1, at(second));
        state = State::parse(&status);
        let moved = status.conditions.iter();
        times.push(moved.map(|c| c.last_transition_time.0).collect::<Vec<_>>());
    }
    assert_eq!(times, [vec![at(0); 4], vec![at(0); 4], vec![at(20); 3]]);
}

#[test]
fn messages_are_one_bounded_line() {
    let long = state(|state| {
        let message = format!("a\nb\u{2028}{}", "é".repeat(2_000));
        state.phase = Phase::waits(Wait::new(Reason::NotSent, message, at(9)), false);
    });
    for condition in &render(&long, 1, at(0)).conditions {
        let line = &condition.message;
        assert!(line.starts_with("A b é") && line.contains('…'), "{line}");
        assert_eq!(line.chars().count(), MESSAGE);
    }
}

/// A state that any status holds, with times as the API server keeps them.
fn states() -> impl Strategy<Value = State> {
    status().prop_map(|status| {
        let mut status: WhatsAppPhoneNumberStatus =
            serde_json::from_value(status).expect("a status");
        for condition in &mut status.conditions {
            condition.observed_generation = Some(7);
        }
        let parsed = State::parse(&stored(&status));
        State::parse(&render(&parsed, 7, at(0)))
    })
}

/// A status as the API server keeps it.
fn stored(status: &WhatsAppPhoneNumberStatus) -> WhatsAppPhoneNumberStatus {
    let json = serde_json::to_value(status).expect("a status is JSON");
    serde_json::from_value(json).expect("a status")
}

/// What a decision does.
fn effects(decision: Decision) -> (String, Option<WhatsAppPhoneNumberStatus>) {
    match decision {
        Decision::LoadSecrets | Decision::Read(_) => (format!("{decision:?}"), None),
        Decision::Survey => ("Survey".to_owned(), None),
        Decision::Finalize(finalize) => (format!("{finalize:?}"), None),
        Decision::Call(claim) => ("Register".to_owned(), Some(claim.status)),
        Decision::Settle(status, requeue) => (format!("{requeue:?}"), Some(*status)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn a_state_reads_back_as_it_was_written(state in states()) {
        let written = render(&state, 7, at(60));
        prop_assert_eq!(&State::parse(&written), &state);
        let mut read = State::parse(&stored(&written));
        read.record.conditions.clone_from(&state.record.conditions);
        prop_assert_eq!(&read, &state);
        // Nothing is written where nothing but time has changed.
        prop_assert_eq!(render(&read, 7, at(9_999)).next_attempt_time, written.next_attempt_time);
    }

    #[test]
    fn no_decision_reads_a_condition(
        resource in resource(),
        step in 0..4,
        seen in 0_u64..200,
    ) {
        let with: WhatsAppPhoneNumber = serde_json::from_value(resource).expect("a resource");
        let mut without = with.clone();
        if let Some(status) = &mut without.status {
            status.conditions.clear();
            status.next_attempt_time = None;
        }
        let world = World::new();
        let inputs = match step {
            0 => Inputs::Unread,
            _ => world.secrets.clone().into(),
        };
        let found = reading(RegistrationState::NotRegistered);
        let decided = |resource: &WhatsAppPhoneNumber| {
            let observed = Observed {
                resource,
                policy: world.policy(),
                peers: &world.peers,
                open_claim: operator_core::model::OpenClaim::SeenFor(Duration::from_secs(seen)),
                last_read: (step > 1).then_some(world.now),
                inputs: &inputs,
                cooldown: None,
                refused_pin: None,
                dropped_fields: None,
                reading: (step > 1).then_some(&found),
                details: None,
survey: None,
finalizer_refused: false,
                plan: None,
                busy: None,
                fresh_id: "new",
                jitter: 0.5,
            };
            effects(decide(&observed, world.now))
        };
        let (effect, status) = decided(&with);
        let (same, other) = decided(&without);
        prop_assert_eq!(effect, same);
        let anew = |status: Option<WhatsAppPhoneNumberStatus>| status.map(|mut status| {
            status.conditions.clear();
            render(&State::parse(&status), status.observed_generation, at(0))
        });
        prop_assert_eq!(anew(status), anew(other));
    }
}

#[test]
fn a_reason_of_another_version_has_the_same_consequence() {
    let found = |field: &str| {
        let finding =
            serde_json::json!({"reason": "OfAnotherVersion", "message": "m", "until": at(9)});
        let mut status = serde_json::json!({"observedGeneration": 1});
        status[field] = finding;
        let status: WhatsAppPhoneNumberStatus = serde_json::from_value(status).expect("a status");
        State::parse(&status)
    };
    assert!(found("registration").is_registered());
    assert!(found("stall").stall().is_some());
    assert_eq!(found("wait").wait().map(|wait| wait.until.0), Some(at(9)));
    let status = render(&found("hold"), 1, at(0));
    assert_eq!(
        reason_of(&status, conditions::READY),
        Some(Reason::GraphUnavailable)
    );
}
