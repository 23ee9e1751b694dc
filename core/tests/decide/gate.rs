//! What makes a stalled resource try again, and what does not.

use operator_core::api::Reason;
use operator_core::graph::{RegisterOutcome, RegistrationState};
use testkit::world::*;

const PIN_STALLED: &str = "Registered=False Failed=True Stalled PinMismatch";

fn assert_stays(world: &mut World, what: &str) {
    let posts = world.posts.len();
    world.run_for(hours(80));
    assert_eq!(world.posts.len(), posts, "{what}");
    assert!(world.is("Stalled"), "{what}: {}", world.shown());
    assert!(world.is_at_rest(), "{what}");
}

#[test]
fn secrets_that_come_back_unchanged_lift_nothing() {
    let stalling: &[RegisterOutcome] = &[
        pin_mismatch(),
        refused(401, 190, None),
        refused(422, 100, None),
        refused(500, 133_000, None),
        rejected(),
    ];
    for outcome in stalling {
        let mut world = World::after(outcome.clone());
        world.run_for(hours(1));
        let shown = world.shown();
        world.lose_secret();
        world.pass();
        assert!(world.shown().contains("SecretNotFound"));
        world.secrets = Ok(digests("token", "pin"));
        assert_stays(&mut world, &shown);
        assert_eq!(world.shown(), shown);
    }
}

#[test]
fn a_suspension_lifts_nothing() {
    let mut world = World::after(pin_mismatch());
    world.suspend(true);
    world.pass();
    assert_eq!(world.shown(), "Registered=False Failed=False Suspended");
    assert!(world.is_at_rest());
    world.suspend(false);
    assert_stays(&mut world, "unsuspended");
    assert_eq!(world.shown(), PIN_STALLED);
}

#[test]
fn a_verdict_outlasts_the_ledger() {
    for outcome in [pin_mismatch(), rejected()] {
        let mut world = World::after(outcome);
        world.run_for(hours(1));
        world.status_mut().attempts.clear();
        world.lose_secret();
        world.pass();
        world.wait(hours(73));
        world.secrets = Ok(digests("token", "pin"));
        assert_stays(&mut world, "after 72 hours");
    }
}

#[test]
fn a_changed_pin_lifts() {
    for outcome in [
        pin_mismatch(),
        rejected(),
        refused(422, 100, None),
        refused(400, 100, None),
    ] {
        let mut world = World::after(outcome.clone());
        world.run_for(hours(1));
        assert!(world.is("Stalled"));
        world.secrets = Ok(digests("token", "other"));
        world.run_for(hours(1));
        assert_eq!(world.posts.len(), 2, "{outcome:?}");
        assert!(world.is("Registered"));
    }
}

#[test]
fn a_pin_that_changes_while_its_secret_is_away_lifts() {
    for outcome in [pin_mismatch(), rejected(), refused(422, 100, None)] {
        let mut world = World::after(outcome.clone());
        world.run_for(hours(1));
        world.lose_secret();
        world.pass();
        world.secrets = Ok(digests("token", "other"));
        world.run_for(hours(1));
        assert!(world.is("Registered"), "{outcome:?}: {}", world.shown());
    }
}

#[test]
fn a_new_token_lifts_everything_but_a_refused_pin() {
    for outcome in [
        refused(401, 190, None),
        rejected(),
        refused(400, 133_006, None),
    ] {
        let mut world = World::after(outcome.clone());
        world.run_for(hours(1));
        world.secrets = Ok(digests("new", "pin"));
        world.run_for(hours(1));
        assert_eq!(world.posts.len(), 2, "{outcome:?}");
    }
}

#[test]
fn under_a_new_token_the_pin_is_not_tried_and_the_next_change_counts() {
    let mut world = World::after(pin_mismatch());
    world.secrets = Ok(digests("new", "pin"));
    assert_stays(&mut world, "new token");
    assert_eq!(world.shown(), PIN_STALLED);
    assert_eq!(world.status().token_digest.as_deref(), Some("new"));
    let message = &world.status().conditions[0].message;
    assert!(message.contains("register-requested-at"), "{message}");
    world.secrets = Ok(digests("new", "other"));
    assert!(world.pass().contains(&Step::Claim));
}

#[test]
fn a_changed_pin_is_tried_even_when_its_first_call_is_not_sent_or_not_answered() {
    for outcome in [
        unreachable(),
        unknown(),
        rate_limited(None),
        refused(500, 2, None),
    ] {
        let mut world = World::after(pin_mismatch());
        world.secrets = Ok(digests("token", "other"));
        world.answer(outcome.clone());
        world.pass();
        world.run_for(hours(1));
        assert!(world.is("Registered"), "{outcome:?}: {}", world.shown());
    }
}

#[test]
fn a_read_that_stalls_is_the_baseline() {
    let mut world = World::new();
    let error = graph_error(401, 190, None);
    world.reading = failed_reading(RegistrationState::Stall(Reason::TokenRejected), error);
    world.pass();
    assert_stays(&mut world, "read");
    assert_eq!(world.status().token_digest.as_deref(), Some("token"));
}

#[test]
fn a_cool_down_of_a_new_token_does_not_look_like_a_new_pin() {
    let mut world = World::after(pin_mismatch());
    world.secrets = Ok(digests("new", "pin"));
    let end = world.now + hours(1);
    world.cool_down("new", end);
    world.annotate("again");
    world.pass();
    assert!(world.shown().contains("RateLimited"));
    world.remove_annotation();
    assert_stays(&mut world, "cool-down");
}
