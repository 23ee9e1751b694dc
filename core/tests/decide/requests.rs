//! The annotation that asks for a register call (protocol, "What makes it try again").

use operator_core::api::AttemptOutcome;
use operator_core::api::REGISTER_REQUESTED_AT;
use operator_core::api::Reason;
use operator_core::api::conditions;
use operator_core::api::conditions::{find, reason_of};
use operator_core::graph::RegistrationState;
use operator_core::model::Requeue;
use operator_core::model::schedule::plus;
use testkit::world::*;

fn requested(mut world: World) -> World {
    world.annotate("first");
    world
}

#[test]
fn a_value_asks_for_one_call_whatever_the_read_before_it_shows() {
    let mut world = requested(World::registered());
    world.reading = reading(RegistrationState::Registered);
    assert_eq!(world.pass(), [Step::Secrets, Step::Read, Step::Claim]);
    assert_eq!(
        world.status().last_handled_register_request.as_deref(),
        Some("first")
    );
    assert_eq!(world.last_attempt().request.as_deref(), Some("first"));
    assert!(world.is_at_rest());
    world.annotate("second");
    assert_eq!(world.pass(), [Step::Secrets, Step::Read, Step::Claim]);
    assert_eq!(world.posts.len(), 3);
}

/// What stands against any call is told, costs nothing, and leaves the value to be met once that has changed.
#[test]
fn a_read_that_stands_against_a_requested_call_leaves_the_value_unhandled() {
    for registered in [true, false] {
        let mut world = match registered {
            true => requested(World::registered()),
            false => requested(World::after(pin_mismatch())),
        };
        let posts = world.posts.len();
        world.reading = failed_reading(
            RegistrationState::Stall(Reason::PermissionDenied),
            graph_error(403, 10, None),
        );
        assert!(world.pass().contains(&Step::Read));
        let failed = find(world.status(), conditions::FAILED).expect("a condition");
        assert_eq!(
            (failed.status.as_str(), failed.reason.as_str()),
            ("True", "PermissionDenied")
        );
        assert_eq!(world.status().registration.is_some(), registered);
        assert_eq!(world.status().last_handled_register_request, None);
        // The same value is not tried again, not even by a restart.
        world.last_read = None;
        let steps = world.pass();
        assert!(
            matches!(steps[..], [Step::Secrets, Step::Settle(_)]),
            "{steps:?}"
        );
        // Another value is, and another token.
        world.annotate("second");
        assert!(world.pass().contains(&Step::Read));
        assert_eq!(world.posts.len(), posts);
        world.reading = reading(RegistrationState::NotRegistered);
        world.secrets = Ok(digests("other", "pin"));
        world.run_for(hours(1));
        assert_eq!(world.posts.len(), posts + 1);
        assert_eq!(
            world.status().last_handled_register_request.as_deref(),
            Some("second")
        );
    }
}

#[test]
fn a_value_that_is_withdrawn_leaves_nothing_of_the_read_against_it() {
    let mut world = requested(World::registered());
    world.reading = failed_reading(
        RegistrationState::Stall(Reason::PermissionDenied),
        graph_error(403, 10, None),
    );
    world.pass();
    world.remove_annotation();
    world.pass();
    assert_eq!(
        world.shown(),
        "Registered=True Failed=False RegistrationSucceeded"
    );
}

/// A number that is registered meets the request of one that is not known to be.
#[test]
fn an_adoption_meets_the_request() {
    let mut world = requested(World::after(pin_mismatch()));
    world.reading = reading(RegistrationState::Registered);
    world.pass();
    assert_eq!(
        world.status().last_handled_register_request.as_deref(),
        Some("first")
    );
    assert_eq!(world.posts.len(), 1);
    assert!(world.is_at_rest());
}

/// One that stays unclear does not stop a requested call.
#[test]
fn an_unclear_read_puts_a_requested_call_off_and_does_not_stop_it() {
    let mut world = requested(World::registered());
    let state = RegistrationState::Unclear(Some(Reason::InvalidRequest));
    world.reading = failed_reading(state, graph_error(400, 100, None));
    world.run_for(hours(1));
    assert_eq!(world.posts.len(), 2);
}

#[test]
fn the_claim_marks_the_value_as_handled_and_keeps_a_registered_number_so() {
    let mut world = requested(World::registered());
    world.fate(Fate::Crash);
    world.pass();
    assert_eq!(
        world.status().last_handled_register_request.as_deref(),
        Some("first")
    );
    assert_eq!(
        world.shown(),
        "Registered=True Failed=False Reconciling Registering"
    );
    assert_eq!(
        reason_of(world.status(), conditions::READY),
        Some(Reason::RegistrationSucceeded)
    );
    // A crash: the value may have acted, so it is spent.
    world.run_for(hours(100));
    assert_eq!(world.posts.len(), 2);
    assert!(world.shown().starts_with("Registered=True Failed=True"));
}

#[test]
fn what_was_not_sent_or_was_rate_limited_hands_the_value_back_and_waits() {
    let unsent = operator_core::graph::RegisterOutcome::without_answer(Reason::NotSent, "too late");
    for outcome in [unreachable(), rate_limited(Some(secs(60))), unsent] {
        for world in [World::registered(), World::after(pin_mismatch())] {
            let mut world = requested(world);
            world.wait(secs(1));
            world.answer(outcome.clone());
            world.pass();
            assert_eq!(world.status().last_handled_register_request, None);
            let due = world.next_in().expect("a time to come back");
            assert!(due >= secs(30), "{outcome:?}");
            let posts = world.posts.len();
            let steps = world.pass();
            assert!(!steps.contains(&Step::Claim), "{outcome:?} at once again");
            assert!(world.is_at_rest());
            world.wait(due);
            assert!(world.pass().contains(&Step::Claim), "{outcome:?}");
            assert_eq!(world.posts.len(), posts + 1);
            assert!(world.is("Registered"));
            assert!(world.is_at_rest());
        }
    }
}

#[test]
fn a_value_taken_away_while_it_waits_leaves_things_as_they_were() {
    for (before, shown) in [
        (
            World::registered(),
            "Registered=True Failed=False RegistrationSucceeded",
        ),
        (
            World::after(pin_mismatch()),
            "Registered=False Failed=True Stalled PinMismatch",
        ),
    ] {
        let mut world = requested(before);
        let posts = world.posts.len();
        world.wait(secs(1));
        world.answer(unreachable());
        world.pass();
        world.remove_annotation();
        world.run_for(hours(80));
        assert_eq!(world.shown(), shown);
        assert_eq!(world.posts.len(), posts);
        assert!(world.is_at_rest());
    }
}

#[test]
fn a_duplicate_ahead_and_a_bad_secret_are_forgotten_with_the_request() {
    let mut world = requested(World::registered());
    world.peers.owner = Some("shop/other".to_owned());
    world.pass();
    assert_eq!(
        world.shown(),
        "Registered=True Failed=True DuplicatePhoneNumber"
    );
    world.remove_annotation();
    world.pass();
    assert_eq!(
        world.shown(),
        "Registered=True Failed=False RegistrationSucceeded"
    );
    assert!(world.is_at_rest());
}

#[test]
fn any_other_failure_stands_until_a_new_value() {
    for outcome in [
        pin_mismatch(),
        refused(500, 2, None),
        refused(400, 133_015, None),
        refused(400, 133_008, None),
        unknown(),
        rejected(),
    ] {
        let mut world = requested(World::registered());
        let registered = world.status().conditions[0].clone();
        world.answer(outcome.clone());
        world.pass();
        world.run_for(hours(80));
        assert_eq!(world.posts.len(), 2, "{outcome:?}");
        assert_eq!(world.status().conditions[0], registered);
        assert_eq!(
            world.shown(),
            format!("Registered=True Failed=True {}", outcome.reason)
        );
        assert!(world.is_at_rest());
        world.annotate("second");
        world.run_for(hours(1));
        assert_eq!(world.posts.len(), 3, "{outcome:?}");
        assert_eq!(
            world.shown(),
            "Registered=True Failed=False RegistrationSucceeded"
        );
    }
}

#[test]
fn a_stall_returns_after_a_requested_call_that_failed_in_passing() {
    for stalling in [pin_mismatch(), rejected(), refused(400, 133_006, None)] {
        for outcome in [
            refused(500, 2, None),
            refused(400, 133_015, None),
            unknown(),
        ] {
            let mut world = World::after(stalling.clone());
            world.run_for(hours(1));
            assert!(world.is("Stalled"));
            world.annotate("first");
            world.answer(outcome.clone());
            assert!(world.pass().contains(&Step::Claim));
            world.run_for(hours(1));
            assert!(
                world.is("Stalled"),
                "{stalling:?} {outcome:?} {}",
                world.shown()
            );
            // Neither a Secret that goes and comes nor time makes it try again.
            world.lose_secret();
            world.pass();
            world.secrets = Ok(digests("token", "pin"));
            world.run_for(hours(80));
            assert_eq!(world.posts.len(), 2, "{stalling:?} {outcome:?}");
            assert!(
                world.is("Stalled"),
                "{stalling:?} {outcome:?} {}",
                world.shown()
            );
        }
    }
}

#[test]
fn a_pin_lock_that_stalled_is_not_tried_again_after_a_requested_call() {
    let mut world = World::new();
    world.answer(refused(400, 133_008, None));
    world.answer(refused(400, 133_008, None));
    world.run_for(hours(10));
    assert!(world.is("Stalled"));
    world.annotate("first");
    world.answer(refused(500, 2, None));
    world.run_for(hours(80));
    assert_eq!(world.posts.len(), 3);
    assert!(world.is("Stalled"));
}

#[test]
fn a_requested_422_is_checked_by_a_read_too() {
    let mut world = requested(World::after(pin_mismatch()));
    world.answer(refused(422, 100, None));
    assert_eq!(world.pass(), [Step::Secrets, Step::Read, Step::Claim]);
    world.reading = reading(RegistrationState::Registered);
    assert!(world.pass().contains(&Step::Read));
    assert_eq!(
        world.shown(),
        "Registered=True Failed=False OutcomeConfirmed"
    );
}

#[test]
fn a_request_waits_for_suspension_duplicates_cool_downs_and_blocks() {
    let mut world = requested(World::registered());
    world.suspend(true);
    world.pass();
    assert_eq!(world.posts.len(), 1);
    assert_eq!(
        world.shown(),
        "Registered=True Failed=False RegistrationSucceeded"
    );
    assert!(world.is_at_rest());
    world.suspend(false);
    world.peers.owner = Some("shop/other".to_owned());
    world.pass();
    world.peers.owner = None;
    let end = plus(world.now, hours(1));
    world.cool_down("token", end);
    assert_eq!(
        world.pass().last(),
        Some(&Step::Settle(Requeue::After(hours(1))))
    );
    assert!(world.is_at_rest());
    world.wait(hours(1));
    let blocked = attempt("other", world.now - hours(71), Reason::RegistrationBlocked);
    world.peers.attempts = vec![blocked];
    world.pass();
    assert_eq!(
        world.shown(),
        "Registered=True Failed=True Reconciling RegistrationBlocked"
    );
    assert_eq!(world.posts.len(), 1);
    world.run_for(hours(1));
    assert_eq!(world.posts.len(), 2);
    assert!(world.is_at_rest());
}

#[test]
fn a_request_waits_for_the_open_claim_and_for_its_confirmation() {
    let mut world = World::new();
    world.fate(Fate::Crash);
    world.pass();
    world.annotate("first");
    world.run_for(TTL + WINDOW - secs(1));
    assert_eq!(world.posts.len(), 1);
    world.run_for(secs(2));
    assert_eq!(world.posts.len(), 2);
    assert_eq!(world.last_attempt().request.as_deref(), Some("first"));
}

#[test]
fn a_request_need_not_wait_for_a_backoff_or_the_limit() {
    let mut world = World::after(refused(400, 2, None));
    world.annotate("now");
    assert_eq!(world.pass(), [Step::Secrets, Step::Read, Step::Claim]);

    // After a 5xx it waits for the confirm window, not for the backoff.
    let mut world = World::new();
    for _ in 0..6 {
        world.answer(refused(500, 2, None));
    }
    while world.posts.len() < 6 {
        world.run_for(secs(30));
    }
    assert!(world.next_in() > Some(hours(1)));
    world.annotate("now");
    world.run_for(WINDOW + secs(1));
    assert_eq!(world.posts.len(), 7);
}

#[test]
fn a_claim_that_was_not_sent_gives_back_no_value_that_was_spent() {
    let mut world = requested(World::registered());
    world.pass();
    world.annotate("second");
    world.fate(Fate::StoredUnsent);
    world.pass();
    world.pass();
    assert_eq!(
        world.status().last_handled_register_request.as_deref(),
        Some("first")
    );
    world.annotate("first");
    world.run_for(hours(2));
    assert_eq!(world.posts.len(), 2);
}

#[test]
fn values_that_are_none() {
    let mut world = World::registered();
    for value in [String::new(), "x".repeat(257)] {
        world.annotate(&value);
        assert!(world.is_at_rest());
    }
    world.annotate(&"x".repeat(256));
    assert!(world.pass().contains(&Step::Claim));
    assert_eq!(
        world.last_attempt().outcome(),
        Some(AttemptOutcome::Succeeded)
    );
}

/// Nobody waits for an attempt that the operator does not make.
#[test]
fn a_requested_call_that_failed_says_that_another_has_to_be_asked_for() {
    let unavailable = "Wait until Graph has recovered, then set the annotation";
    let unknown = "Check the number in WhatsApp Manager, then set the annotation";
    let mismatch = "wrong PINs lock the number. The number still counts as registered";
    let certificate = "holds the number. Then set the annotation";
    for (outcome, advice) in [
        (refused(500, 1, None), unavailable),
        (testkit::world::unknown(), unknown),
        (pin_mismatch(), mismatch),
        (refused(500, 131_045, None), certificate),
    ] {
        let mut world = requested(World::registered());
        world.answer(outcome);
        world.pass();
        world.run_for(hours(100));
        let failure = find(world.status(), conditions::FAILED).expect("a condition");
        let message = &failure.message;
        assert!(message.contains(advice), "{message}");
        assert!(
            message.ends_with(&format!(
                "no further attempt will be made until the annotation {REGISTER_REQUESTED_AT} has a new value."
            )),
            "{message}"
        );
        assert!(world.is_at_rest());
    }
}

/// A read that Graph refuses settles nothing: the call before may have acted, and what a person asks for then looks first.
#[test]
fn a_read_that_stalls_leaves_the_outcome_before_it_open() {
    let stalled = || {
        let mut world = World::after(testkit::world::unknown());
        world.wait(secs(2));
        world.reading = failed_reading(
            RegistrationState::Stall(Reason::PermissionDenied),
            graph_error(403, 10, None),
        );
        world.pass();
        assert!(world.shown().contains("Stalled PermissionDenied"));
        world.run_for(hours(1));
        world.reading = reading(RegistrationState::Registered);
        world
    };
    let mut world = requested(stalled());
    world.run_for(hours(1));
    assert_eq!(
        reason_of(world.status(), conditions::READY),
        Some(Reason::OutcomeConfirmed)
    );

    // The same where another token lifts the stall.
    let mut world = stalled();
    world.secrets = Ok(digests("other", "pin"));
    world.run_for(hours(1));
    assert_eq!(
        reason_of(world.status(), conditions::READY),
        Some(Reason::OutcomeConfirmed)
    );
    assert_eq!(world.posts.len(), 1);

    // Where the read is refused again, nothing is spent.
    let mut world = requested(stalled());
    world.reading = failed_reading(
        RegistrationState::Stall(Reason::PermissionDenied),
        graph_error(403, 10, None),
    );
    world.run_for(hours(1));
    assert_eq!(world.posts.len(), 1);
}

/// A read that refuses the token says nothing about the PIN: with another token, the one that Graph refused is not sent again.
#[test]
fn a_refused_pin_outlasts_a_refused_read() {
    let mut world = requested(World::after(pin_mismatch()));
    world.reading = failed_reading(
        RegistrationState::Stall(Reason::PermissionDenied),
        graph_error(403, 10, None),
    );
    world.pass();
    world.remove_annotation();
    world.reading = reading(RegistrationState::NotRegistered);
    world.secrets = Ok(digests("other", "pin"));
    world.run_for(hours(1));
    assert_eq!(world.posts.len(), 1);
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Stalled PinMismatch"
    );
    world.secrets = Ok(digests("other", "right"));
    world.run_for(hours(1));
    assert_eq!(world.posts.len(), 2);
}

/// No read told what became of an answer that may have acted: the stall that follows outlasts a requested call that fails in passing.
#[test]
fn a_stall_without_a_telling_read_outlasts_a_requested_call() {
    let mut world = World::new();
    world.reading = reading(RegistrationState::Unclear(None));
    world.answer(refused(500, 133_008, None));
    world.run_for(hours(3));
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Stalled PinLocked"
    );
    world.annotate("once");
    world.answer(refused(200, 133_015, None));
    world.run_for(secs(1));
    world.reading = reading(RegistrationState::NotRegistered);
    world.run_for(hours(100));
    assert_eq!(world.posts.len(), 2);
}
