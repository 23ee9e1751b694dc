//! An API server whose CRD is older than the operator drops fields of the status.

use std::collections::BTreeSet;

use operator_core::api::conditions;
use operator_core::api::conditions::find;
use operator_core::api::{PhoneNumberStatus, Reason, WhatsAppPhoneNumberStatus};
use operator_core::graph::RegistrationState;
use operator_core::model::Requeue;
use operator_core::model::definition::{TRY_EVERY, dropped, fullest};
use testkit::world::*;

/// A number with its course of events.
type Course = (&'static str, fn() -> World);

/// Courses that need every field that a decision relies on.
const COURSES: &[Course] = &[
    ("wrong PIN", || {
        let mut world = World::new();
        (0..9).for_each(|_| world.answer(pin_mismatch()));
        world
    }),
    ("locked PIN", || {
        let mut world = World::new();
        (0..9).for_each(|_| world.answer(refused(400, 133_008, None)));
        world
    }),
    ("faults", || {
        let mut world = World::new();
        (0..9).for_each(|_| world.answer(refused(500, 2, None)));
        world
    }),
    ("lost answers", || {
        let mut world = World::new();
        (0..9).for_each(|_| world.answer(unknown()));
        world
    }),
    ("a limit", || {
        let mut world = World::new();
        (0..9).for_each(|_| world.answer(rate_limited(Some(hours(2)))));
        world
    }),
    ("a limit without a time", || {
        let mut world = World::new();
        (0..9).for_each(|_| world.answer(rate_limited(None)));
        world
    }),
    ("a number that cannot be told", || {
        let mut world = World::new();
        (0..9).for_each(|_| world.answer(unknown()));
        world.reading = reading(RegistrationState::Unclear(None));
        world
    }),
    ("a request of a registered number", || {
        let mut world = World::registered();
        (0..9).for_each(|_| world.answer(refused(400, 2, None)));
        world.annotate("now");
        world
    }),
    ("a request that a read stands against", || {
        let mut world = World::registered();
        let state = RegistrationState::Stall(Reason::PermissionDenied);
        world.reading = failed_reading(state, graph_error(403, 10, None));
        world.annotate("now");
        world
    }),
    ("nothing sent", || {
        let mut world = World::new();
        (0..9).for_each(|_| world.fate(Fate::StoredUnsent));
        world
    }),
];

/// How many calls a number gets in three days, through many passes and several processes.
fn calls(mut world: World, restarts: bool) -> usize {
    for _ in 0..12 {
        world.run_for(hours(6));
        world.wait(secs(1));
        if restarts {
            world.restart();
        }
        world.definition_tried = false;
    }
    world.posts.len()
}

/// With one field gone, no number gets a call that it would not have got.
#[test]
fn no_field_that_is_dropped_leads_to_a_call() {
    let now = World::new().now;
    let whole = dropped(&fullest(now), Some(&WhatsAppPhoneNumberStatus::default()));
    let mut fields: BTreeSet<String> = whole.into_iter().collect();
    assert!(fields.len() > 10, "{fields:?}");
    fields.extend(leaves_of(&fullest(now)));
    assert!(fields.len() > 25, "{fields:?}");
    let check = |course: &str, make: fn() -> World| {
        for restarts in [false, true] {
            let most = calls(make(), restarts);
            for field in &fields {
                let mut world = make();
                world.unknown_fields = vec![field.clone()];
                let made = calls(world, restarts);
                assert!(
                    made <= most,
                    "{course} without {field}: {made} calls, not {most}"
                );
            }
        }
    };
    std::thread::scope(|scope| {
        for (course, make) in COURSES {
            scope.spawn(|| check(course, *make));
        }
    });
}

#[test]
fn the_loss_of_every_field_is_noticed() {
    let written = fullest(World::new().now);
    let mut fields = leaves_of(&written);
    fields.push("observedGeneration".to_owned());
    let mut lost: Vec<_> = fields.iter().map(|field| vec![field.as_str()]).collect();
    lost.push(vec!["attempts.outcome", "attempts.reason"]);
    for fields in &lost {
        let field = fields[0].to_owned();
        let mut json = serde_json::to_value(&written).expect("JSON");
        fields.iter().for_each(|field| prune(&mut json, field));
        let stored: WhatsAppPhoneNumberStatus = serde_json::from_value(json).expect("a status");
        let found = dropped(&written, Some(&stored));
        assert!(found.contains(&field), "{field}: {found:?}");
    }
}

#[test]
fn what_is_only_shown_may_be_dropped() {
    let mut written = fullest(World::new().now);
    written.fbtrace_id = Some("Atrace".to_owned());
    written.phone_number = Some(PhoneNumberStatus::default());
    let stored = WhatsAppPhoneNumberStatus {
        fbtrace_id: None,
        phone_number: None,
        ..written.clone()
    };
    assert_eq!(dropped(&written, Some(&stored)), Vec::<String>::new());
}

#[test]
fn an_older_definition_is_told_and_heals_when_it_is_upgraded() {
    let mut world = World::new();
    world.unknown_fields = vec!["attempts".to_owned()];
    world.run_for(hours(2));
    assert!(world.posts.is_empty());
    let failed = find(world.status(), conditions::FAILED).expect("a condition");
    assert_eq!(failed.reason, "DefinitionOutdated");
    assert!(failed.message.contains("attempts"), "{}", failed.message);
    assert_eq!(world.claims, 0, "no claim is written");
    world.unknown_fields.clear();
    world.definition_tried = false;
    world.run_for(hours(2));
    assert_eq!(world.posts.len(), 1);
    assert!(world.status().registration.is_some());
}

/// What was written may look undone: nothing is done about that before the definition is tried again.
#[test]
fn with_an_older_definition_the_next_pass_comes_when_that_is_tried_again() {
    let mut world = World::new();
    world.unknown_fields = vec!["wait".to_owned()];
    world.reading = reading(RegistrationState::Wait(Reason::GraphUnavailable));
    world.pass();
    world.wait(secs(30));
    let steps = world.pass();
    let Some(Step::Settle(Requeue::After(wait))) = steps.last() else {
        panic!("{steps:?}");
    };
    assert!(*wait >= TRY_EVERY, "{wait:?}");
}

/// The paths of all fields, each in the shortest form that takes only it.
fn leaves_of(status: &WhatsAppPhoneNumberStatus) -> Vec<String> {
    let nested = [
        "attempts.operation",
        "attempts.request",
        "attempts.seen",
        "attempts.count",
        "attempts.finishTime",
        "attempts.outcome",
        "attempts.reason",
        "attempts.httpStatus",
        "wait.confirming",
        "stall.tokenChanged",
        "stall.request",
        "hold.until",
        "tokenWait.inARow",
        "loss.repeated",
        "loss.recovering",
        "observation.fault",
        "observation.fault.tokenDigest",
    ];
    let json = serde_json::to_value(status).expect("JSON");
    let top = json.as_object().expect("an object").keys().cloned();
    // This one was in the first definition, and has a default of its own.
    let top = top.filter(|field| field != "observedGeneration");
    top.chain(nested.map(str::to_owned)).collect()
}
