//! What a resource tells of Meta's limit.

use operator_core::api::{Budget, Reason};
use operator_core::model::schedule::plus;
use testkit::world::*;

fn budget(world: &World) -> Option<(i32, i32)> {
    let Budget { used, limit, .. } = world.status().budget.clone()?;
    Some((used, limit))
}

#[test]
fn every_call_that_may_have_been_sent_is_told_and_time_alone_writes_nothing() {
    let mut world = World::after(refused(500, 131_000, None));
    assert_eq!(budget(&world), Some((1, 10)));
    let free = world
        .status()
        .budget
        .as_ref()
        .and_then(|budget| budget.next_free_time.clone());
    assert_eq!(
        free.expect("a time").0,
        plus(world.last_attempt().start_time.0, hours(72))
    );
    world.run_for(secs(125));
    let calls = world.posts.len();
    assert_eq!(
        budget(&world),
        Some((i32::try_from(calls).expect("few"), 10))
    );
    // It is registered at last, and the calls leave the 72 hours one by one.
    let mut world = World::registered();
    world.pass();
    let before = world.resource.clone();
    world.wait(hours(100));
    world.pass();
    assert_eq!(world.resource, before);
}

#[test]
fn calls_for_other_resources_of_the_number_count() {
    let mut world = World::new();
    world.peers.attempts = vec![attempt("theirs", world.now, Reason::GraphUnavailable)];
    world.wait(secs(200));
    world.pass();
    assert_eq!(budget(&world), Some((2, 10)));
}

#[test]
fn what_was_not_sent_is_given_back() {
    let unreachable = operator_core::graph::RegisterOutcome::without_answer(
        Reason::GraphUnreachable,
        "no connection",
    );
    let world = World::after(unreachable);
    assert_eq!(budget(&world).map(|(used, _)| used), Some(0));
}
