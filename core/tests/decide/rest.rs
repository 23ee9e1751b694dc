//! Duplicates, suspension, generations, and times that no sound clock could have written.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use operator_core::api::{AttemptOutcome, Reason};
use operator_core::graph::RegistrationState;
use operator_core::model::schedule::plus;
use operator_core::model::{Peers, Requeue};
use testkit::world::*;

#[test]
fn a_registered_number_is_left_alone() {
    let mut world = World::registered();
    world.secrets = Ok(digests("other", "other"));
    assert_eq!(world.pass(), [Step::Settle(Requeue::OnChange)]);
    world.bump();
    let before = world.status().clone();
    assert_eq!(world.pass(), [Step::Settle(Requeue::OnChange)]);
    assert_eq!(world.status().observed_generation, 2);
    assert_eq!(world.status().last_error, before.last_error);
    assert!(world.is_at_rest());
    world.wait(hours(1000));
    assert!(world.is_at_rest());
}

#[test]
fn suspending_leaves_a_registered_numbers_conditions_alone() {
    let mut world = World::registered();
    let shown = world.shown();
    world.suspend(true);
    world.pass();
    assert_eq!(world.shown(), shown);
    assert!(world.is_at_rest());
}

#[test]
fn nothing_is_called_while_suspended_and_waits_go_on_afterwards() {
    let mut world = World::new();
    world.suspend(true);
    assert_eq!(world.pass(), [Step::Settle(Requeue::OnChange)]);
    assert_eq!(world.shown(), "Registered=False Failed=False Suspended");

    let mut world = World::after(refused(400, 133_016, None));
    world.suspend(true);
    world.pass();
    assert_eq!(world.next_in(), None);
    world.suspend(false);
    world.wait(hours(1));
    world.pass();
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Reconciling RegistrationBlocked"
    );
    assert_eq!(world.next_in(), Some(hours(71)));
    assert!(world.is_at_rest());
    assert_eq!(world.posts.len(), 1);
}

#[test]
fn a_duplicate_stalls_and_takes_over_by_adoption() {
    let mut world = World::new();
    world.peers.owner = Some("shop/older".to_owned());
    assert_eq!(
        world.pass(),
        [Step::Secrets, Step::Settle(Requeue::OnChange)]
    );
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Stalled DuplicatePhoneNumber"
    );
    assert!(world.is_at_rest());
    world.peers.owner = None;
    world.reading = reading(RegistrationState::Registered);
    world.pass();
    assert_eq!(
        world.shown(),
        "Registered=True Failed=False AlreadyRegistered"
    );
}

/// Else it would go ahead of every other resource of the number for as long as somebody's finalizer keeps it.
#[test]
fn a_claim_that_was_left_open_is_closed_also_while_the_resource_is_being_deleted() {
    let mut world = World::new();
    world.fate(Fate::Crash);
    world.pass();
    world.resource.metadata.deletion_timestamp = Some(Time(world.now));
    assert_eq!(world.pass(), [Step::Settle(Requeue::After(TTL))]);
    world.wait(TTL);
    world.pass();
    assert_eq!(
        world.last_attempt().outcome(),
        Some(AttemptOutcome::Unknown)
    );
    assert_eq!(world.posts.len(), 1);
}

/// Nothing wakes it when the minute of the other one is over.
#[test]
fn a_duplicate_of_one_that_nobody_has_looked_at_looks_again_after_a_minute() {
    let mut world = World::new();
    world.peers.owner = Some("shop/older".to_owned());
    world.peers.owner_is_unseen = true;
    let look_again = Step::Settle(Requeue::After(secs(60)));
    assert_eq!(world.pass(), [Step::Secrets, look_again]);
    assert_eq!(world.pass(), [look_again], "the second look costs nothing");
    world.wait(secs(60));
    world.peers = Peers::default();
    assert!(world.pass().contains(&Step::Claim));
}

/// A resource that could not call anyway says so: the others go by it.
#[test]
fn a_duplicate_without_its_secret_or_with_a_verdict_says_so() {
    let mut world = World::new();
    world.peers.owner = Some("shop/older".to_owned());
    world.lose_secret();
    world.pass();
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Reconciling SecretNotFound"
    );
    let mut world = World::after(refused(401, 190, None));
    world.peers.owner = Some("shop/older".to_owned());
    world.pass();
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Stalled TokenRejected"
    );
}

#[test]
fn a_duplicate_that_was_stalled_by_graph_stays_stalled_when_it_takes_over() {
    let mut world = World::after(pin_mismatch());
    world.peers.owner = Some("shop/older".to_owned());
    world.pass();
    world.peers.owner = None;
    world.run_for(hours(80));
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Stalled PinMismatch"
    );
    assert_eq!(world.posts.len(), 1);
}

#[test]
fn a_waiting_resource_observes_a_new_generation_and_writes_nothing_else() {
    for outcome in [
        refused(400, 2, None),
        unknown(),
        pin_mismatch(),
        rate_limited(None),
    ] {
        let mut world = World::after(outcome);
        let before = world.status().clone();
        world.bump();
        world.pass();
        let mut expected = before.clone();
        expected.observed_generation = 2;
        for condition in &mut expected.conditions {
            condition.observed_generation = Some(2);
        }
        assert_eq!(world.status(), &expected);
        assert!(world.is_at_rest());
        world.wait(secs(1));
        assert!(world.is_at_rest());
    }
}

#[test]
fn a_time_too_far_ahead_counts_as_72_hours() {
    let mut world = World::after(refused(400, 2, None));
    world.waits_until(plus(world.now, hours(74)));
    world.pass();
    assert_eq!(world.next_in(), Some(hours(72)));
    assert!(world.is_at_rest());
    world.waits_until(plus(world.now, hours(73)));
    world.pass();
    assert!(world.is_at_rest());
}

#[test]
fn an_entry_from_the_future_counts_as_now() {
    let mut world = World::after(refused(400, 133_016, None));
    world.wait(hours(1));
    let ahead = Time(plus(world.now, hours(1000)));
    let status = world.status_mut();
    status.wait = None;
    status.attempts[0].start_time = ahead.clone();
    status.attempts[0].end.as_mut().unwrap().time = ahead;
    world.pass();
    assert_eq!(world.last_attempt().start_time.0, world.now);
    assert_eq!(world.next_in(), Some(hours(72)));
    assert!(world.is_at_rest());
}

#[test]
fn a_lost_race_is_decided_again() {
    let mut world = World::new();
    world.fate(Fate::Conflict);
    world.pass();
    assert!(world.posts.is_empty());
    world.pass();
    assert_eq!(world.posts.len(), 1);
}

#[test]
fn the_version_is_the_resources_or_the_operators() {
    let mut world = World::new();
    world.resource.spec.graph_api_version = Some("v24.0".to_owned());
    world.pass();
    assert_eq!(world.status().graph_api_version.as_deref(), Some("v24.0"));
    assert_eq!(reason_in_words(&world), "RegistrationSucceeded");
}

fn reason_in_words(world: &World) -> &str {
    world
        .last_attempt()
        .known_reason()
        .map_or("-", Reason::as_str)
}
