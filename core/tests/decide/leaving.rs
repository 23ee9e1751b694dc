//! The end of a resource with `deletionPolicy: Deregister`: the finalizer, the one call, and every way to let go without it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use operator_core::api::conditions::{self, find};
use operator_core::api::{AttemptOutcome, DeletionPolicy, LedgerEntry, Operation, Reason};
use operator_core::credentials::SecretFault;
use operator_core::graph::{RegisterOutcome, RegistrationState};
use operator_core::model::schedule::{plus, until};
use operator_core::model::{FarewellOutcome, Requeue, Survey};
use testkit::builders::resource;
use testkit::world::*;

/// A resource that wants its number deregistered, before its first call.
fn fresh() -> World {
    let mut world = World::new();
    world.resource.spec.deletion_policy = DeletionPolicy::Deregister;
    world
}

/// A registered number, long after its registration.
fn registered() -> World {
    let mut world = fresh();
    world.pass();
    world.reading = reading(RegistrationState::Registered);
    assert!(world.is(conditions::REGISTERED) && world.resource.has_finalizer());
    world.wait(hours(100));
    world.pass();
    world
}

/// The same, being deleted.
fn deleted() -> World {
    let mut world = registered();
    world.delete();
    world
}

/// A deregister call that was made for an earlier resource of the name.
fn departure(time: Timestamp, reason: Reason) -> LedgerEntry {
    let mut call = attempt("earlier", time, reason);
    call.operation = Operation::Deregister;
    if let Some(end) = &mut call.end {
        end.outcome = Operation::Deregister.outcome(reason);
    }
    call
}

fn outcome(world: &World) -> Option<FarewellOutcome> {
    world.farewell.as_ref().map(|farewell| farewell.outcome)
}

/// Lets the operator go on for as long as a deletion may take.
fn run(world: &mut World) {
    for _ in 0..500 {
        if world.farewell.is_some() {
            return;
        }
        match world.pass().last() {
            Some(Step::Settle(Requeue::After(wait))) => world.wait((*wait).max(secs(1))),
            Some(Step::Settle(_)) => return,
            _ => {}
        }
    }
    panic!("it does not end: {:#?}", world.status());
}

#[test]
fn the_finalizer_is_set_before_the_claim() {
    let mut world = fresh();
    let steps = world.pass();
    let expected = [
        Step::Secrets,
        Step::Read,
        Step::Finalizer(true),
        Step::Claim,
    ];
    assert_eq!(steps, expected);
    assert!(world.status().may_be_registered);
}

#[test]
fn the_finalizer_is_set_before_an_adoption() {
    let mut world = fresh();
    world.reading = reading(RegistrationState::Registered);
    let steps = world.pass();
    assert_eq!(
        steps[..3],
        [Step::Secrets, Step::Read, Step::Finalizer(true)]
    );
    assert!(world.is(conditions::REGISTERED));
}

#[test]
fn the_finalizer_follows_the_policy() {
    let mut world = registered();
    world.resource.spec.deletion_policy = DeletionPolicy::Retain;
    world.bump();
    assert_eq!(world.pass()[0], Step::Finalizer(false));
    world.resource.spec.deletion_policy = DeletionPolicy::Deregister;
    world.bump();
    assert_eq!(world.pass()[0], Step::Finalizer(true));
    // Somebody took it off, as `kubectl replace` does.
    world.resource.metadata.finalizers = None;
    assert_eq!(world.pass()[0], Step::Finalizer(true));
    // The whole operator has it turned off.
    world.policy.life.deregistration = false;
    assert_eq!(world.pass()[0], Step::Finalizer(false));
    world.resource.metadata.finalizers = None;
    assert!(!world.pass().contains(&Step::Finalizer(true)));
}

#[test]
fn a_finalizer_that_somebody_dropped_is_set_again() {
    let mut world = registered();
    world.resource.metadata.finalizers = None;
    assert!(world.pass().contains(&Step::Finalizer(true)));
}

#[test]
fn where_the_patch_is_refused_deregister_acts_as_retain() {
    let mut world = fresh();
    world.patch_refused = true;
    let steps = world.pass();
    assert!(steps.contains(&Step::Claim), "{steps:?}");
    assert!(!world.resource.has_finalizer());
    assert_eq!(world.pass().len(), 1, "it is not asked again at once");
}

#[test]
fn a_registered_number_is_deregistered_once() {
    let mut world = deleted();
    let steps = world.pass();
    let expected = [
        Step::Secrets,
        Step::Read,
        Step::Details,
        Step::List,
        Step::Claim,
        Step::List,
    ];
    assert_eq!(steps, expected);
    assert_eq!(world.pass(), [Step::Finalizer(false)]);
    assert_eq!(outcome(&world), Some(FarewellOutcome::Deregistered));
    assert_eq!((world.deregisters.len(), world.posts.len()), (1, 1));
    assert_eq!(world.last_attempt().operation, Operation::Deregister);
    assert_eq!(
        world.last_attempt().outcome(),
        Some(AttemptOutcome::Succeeded)
    );
}

#[test]
fn a_number_is_shown_on_its_way_out_whatever_becomes_of_the_call() {
    let outcomes = [
        unknown(),
        refused(500, 2, None),
        refused(400, 200, None),
        rate_limited(None),
        unreachable(),
    ];
    for outcome in outcomes {
        let mut world = deleted();
        world.answer(outcome.clone());
        assert!(world.pass().contains(&Step::Claim));
        let ready = find(world.status(), conditions::READY).expect("a condition");
        assert_eq!(ready.reason, "Deregistering", "{outcome:?}");
    }
}

#[test]
fn who_wants_none_gets_none() {
    type Change = fn(&mut World);
    let changes: [(&str, Change); 8] = [
        ("Retain", |world| {
            world.resource.spec.deletion_policy = DeletionPolicy::Retain
        }),
        ("suspended", |world| world.resource.spec.suspend = true),
        ("turned off", |world| {
            world.policy.life.deregistration = false
        }),
        ("deadline", |world| world.wait(hours(2))),
        ("a twin", |world| world.peers.declared = true),
        ("a twin that only the API server knows", |world| {
            let mut other = resource("bremen", 0);
            other.metadata.uid = Some("another".to_owned());
            world.survey = Ok(Survey {
                peers: vec![other],
                definition_deleted: false,
            });
        }),
        ("the CRD", |world| {
            world.survey = Ok(Survey {
                peers: Vec::new(),
                definition_deleted: true,
            });
        }),
        ("an earlier resource", |world| {
            world.peers.earlier = vec![departure(world.now, Reason::Deregistered)];
        }),
    ];
    for (name, change) in changes {
        let mut world = deleted();
        change(&mut world);
        let (began, claims) = (world.now, world.claims);
        run(&mut world);
        assert_eq!(
            outcome(&world),
            Some(FarewellOutcome::LeftRegistered),
            "{name}"
        );
        assert!(world.deregisters.is_empty(), "{name}");
        assert_eq!((world.now, world.claims), (began, claims), "{name}");
    }
}

#[test]
fn the_resource_itself_is_not_another_one_of_the_number() {
    let mut world = deleted();
    world.survey = Ok(Survey {
        peers: vec![world.resource.clone()],
        definition_deleted: false,
    });
    world.pass();
    assert_eq!(world.deregisters.len(), 1);
}

#[test]
fn a_call_for_an_earlier_resource_counts_for_72_hours() {
    for (age, calls) in [(hours(72) - secs(1), 0), (hours(72), 1)] {
        let mut world = deleted();
        let made = world.now - jiff::SignedDuration::try_from(age).expect("a duration");
        world.peers.earlier = vec![departure(made, Reason::Deregistered)];
        run(&mut world);
        assert_eq!(world.deregisters.len(), calls, "{age:?}");
    }
}

#[test]
fn a_limit_of_the_token_is_waited_for_before_the_read() {
    let mut world = deleted();
    world.cool_down("token", plus(world.now, secs(600)));
    assert!(!world.pass().contains(&Step::Read));
    world.wait(secs(600));
    assert!(world.pass().contains(&Step::Read));
}

/// What a register call waits for does not matter any more.
#[test]
fn the_wait_for_a_register_call_is_not_that_for_a_deregister_call() {
    let mut world = fresh();
    (0..9).for_each(|_| world.answer(refused(500, 131_000, None)));
    world.run_for(hours(1));
    assert!(world.next_in().is_some_and(|next| next > secs(60)));
    world.reading = reading(RegistrationState::Registered);
    world.fates.clear();
    world.status_mut().may_be_registered = true;
    world.delete();
    world.pass();
    assert_eq!(world.deregisters.len(), 1, "{:#?}", world.status());
}

/// The number with its status, or an error about whoever asks.
#[test]
fn a_locked_number_is_let_go_and_a_locked_account_is_waited_for() {
    let state = RegistrationState::Stall(Reason::AccountLocked);
    let error = graph_error(400, 368, None);
    for (answer, waits) in [
        (reading(state), false),
        (failed_reading(state, error), true),
    ] {
        let mut world = deleted();
        world.reading = answer;
        world.pass();
        let expected = (!waits).then_some(FarewellOutcome::LeftRegistered);
        assert_eq!(outcome(&world), expected);
    }
}

#[test]
fn a_number_that_cannot_be_told_is_read_four_times_before_the_call() {
    for state in [
        RegistrationState::Unclear(None),
        RegistrationState::LacksField,
    ] {
        let mut world = deleted();
        world.reading = reading(state);
        let (mut waits, mut reads) = (Vec::new(), 0);
        for _ in 0..10 {
            let steps = world.pass();
            reads += steps.iter().filter(|step| **step == Step::Read).count();
            if let Some(Step::Settle(Requeue::After(wait))) = steps.last() {
                waits.push(wait.as_secs());
                world.wait(*wait);
            }
        }
        assert_eq!(waits, [30, 90, 270], "{state:?}");
        assert!(reads >= 4, "{state:?}: {reads} reads");
        assert_eq!(world.deregisters.len(), 1);
    }
}

#[test]
fn a_field_that_graph_does_not_know_costs_no_time() {
    let mut world = deleted();
    world.reading = reading(RegistrationState::LacksField);
    world.short_reading = Some(reading(RegistrationState::Registered));
    world.pass();
    assert_eq!(world.deregisters.len(), 1);
}

#[test]
fn only_a_rate_limit_makes_the_token_wait() {
    for (reason, limited) in [
        (Reason::RateLimited, true),
        (Reason::GraphUnavailable, false),
    ] {
        let mut world = deleted();
        world.reading = reading(RegistrationState::Wait(reason));
        world.pass();
        assert_eq!(world.status().token_wait.is_some(), limited, "{reason}");
    }
}

/// One last read, at the time that is planned for it, and then nothing before the deadline.
#[test]
fn after_a_refusal_the_number_is_read_once_more_before_the_deadline() {
    let mut world = deleted();
    let deleted = world.now;
    world.answer(refused(403, 200, None));
    world.run_for(secs(600));
    assert!(world.is(conditions::STALLED));
    world.wait(until(plus(deleted, secs(3_240)), world.now));
    assert!(world.pass().contains(&Step::Read));
    for passed in [0, 1] {
        world.wait(secs(passed));
        let steps = world.pass();
        let left = until(plus(deleted, secs(3_600)), world.now);
        let rest = Step::Settle(Requeue::After(left));
        assert_eq!(steps.last(), Some(&rest));
        assert!(!steps.contains(&Step::Read), "{steps:?}");
    }
}

#[test]
fn a_refusal_says_what_graph_said() {
    let mut world = deleted();
    world.answer(refused(403, 200, None));
    world.run_for(secs(600));
    let failed = find(world.status(), conditions::FAILED).expect("a condition");
    let says =
        "Graph answered: what Graph says (PermissionDenied), and the number is still registered.";
    assert!(failed.message.starts_with(says), "{}", failed.message);
}

#[test]
fn a_wait_may_end_at_the_deadline_and_not_after_it() {
    for (over, goes) in [(0, false), (1, true)] {
        let mut world = deleted();
        world.cool_down("token", plus(world.now, secs(3_600 + over)));
        world.pass();
        assert_eq!(world.farewell.is_some(), goes);
    }
}

/// A window that ends with the deadline leaves no time for the read at its end.
#[test]
fn a_wait_beyond_the_deadline_is_cut_to_the_end_of_the_confirm_window() {
    for (deadline, limit, held_for, lets_go) in [
        (hours(1), hours(2), Some(WINDOW), false),
        (hours(1), hours(1), None, false),
        (WINDOW, hours(2), None, true),
    ] {
        let mut world = deleted();
        let deleted = world.now;
        world.answer(unknown());
        world.pass();
        world.policy.life.deregister_deadline = deadline;
        world.cool_down("token", plus(deleted, limit));
        world.pass();
        let hold = world.status().hold.as_ref();
        let held = hold.and_then(|hold| hold.until.as_ref());
        let expected = held_for.map(|wait| plus(deleted, wait));
        assert_eq!(world.farewell.is_some(), lets_go);
        assert_eq!(
            held.map(|held| held.0).filter(|_| world.farewell.is_none()),
            expected
        );
    }
}

#[test]
fn what_is_taken_over_are_deregister_calls_that_ended_and_each_once() {
    let mut world = fresh();
    let ended = departure(world.now, Reason::Deregistered);
    let open = LedgerEntry {
        id: "open".to_owned(),
        end: None,
        ..ended.clone()
    };
    let register = LedgerEntry {
        id: "register".to_owned(),
        operation: Operation::Register,
        ..ended.clone()
    };
    world.peers.earlier = vec![ended, open, register];
    for _ in 0..3 {
        world.pass();
        world.wait(secs(100));
    }
    let taken = world.status().attempts.iter().filter(|entry| entry.earlier);
    let taken: Vec<&str> = taken.map(|entry| entry.id.as_str()).collect();
    assert_eq!(taken, ["earlier"]);

    // A status that was restored may know it.
    let ended = departure(world.now, Reason::Deregistered);
    let other = LedgerEntry {
        id: "other".to_owned(),
        ..ended.clone()
    };
    for known in [&ended, &other] {
        let mut world = fresh();
        world.status_mut().attempts = vec![known.clone()];
        world.peers.earlier = vec![ended.clone()];
        world.pass();
        let ledger = &world.status().attempts;
        let same = ledger.iter().filter(|entry| entry.id == "earlier").count();
        assert_eq!(same, 1, "{ledger:#?}");
    }
}

#[test]
fn a_number_that_was_never_registered_costs_nothing() {
    let mut world = fresh();
    world.secrets = Err(SecretFault {
        reason: Reason::SecretNotFound,
        message: "the Secret meta does not exist".to_owned(),
    });
    world.pass();
    world.patch_finalizer_by_hand();
    world.delete();
    assert_eq!(world.pass(), [Step::Finalizer(false)]);
    assert_eq!(outcome(&world), Some(FarewellOutcome::NotRegistered));
}

#[test]
fn a_wiped_status_that_carries_the_finalizer_counts_as_registered() {
    let mut world = deleted();
    world.resource.status = None;
    run(&mut world);
    assert_eq!(world.deregisters.len(), 1);
}

#[test]
fn what_a_read_says_before_the_call() {
    let banned = || reading(RegistrationState::Stall(Reason::AccountLocked));
    let error = |reason| {
        failed_reading(
            RegistrationState::Stall(reason),
            graph_error(400, 100, Some(33)),
        )
    };
    let cases = [
        (
            reading(RegistrationState::NotRegistered),
            FarewellOutcome::Deregistered,
            0,
        ),
        (
            reading(RegistrationState::Stall(Reason::PhoneNumberNotFound)),
            FarewellOutcome::Deregistered,
            0,
        ),
        (banned(), FarewellOutcome::LeftRegistered, 0),
        (
            error(Reason::PhoneNumberNotFound),
            FarewellOutcome::LeftRegistered,
            0,
        ),
        (
            error(Reason::BusinessAppNumber),
            FarewellOutcome::LeftRegistered,
            0,
        ),
        // What passes is waited for, until the deadline.
        (
            error(Reason::TokenRejected),
            FarewellOutcome::LeftRegistered,
            0,
        ),
        (
            error(Reason::PermissionDenied),
            FarewellOutcome::LeftRegistered,
            0,
        ),
        (
            reading(RegistrationState::Wait(Reason::GraphUnavailable)),
            FarewellOutcome::LeftRegistered,
            0,
        ),
        (
            reading(RegistrationState::Wait(Reason::RateLimited)),
            FarewellOutcome::LeftRegistered,
            0,
        ),
        (
            reading(RegistrationState::Unclear(None)),
            FarewellOutcome::Deregistered,
            1,
        ),
        (
            reading(RegistrationState::LacksField),
            FarewellOutcome::Deregistered,
            1,
        ),
    ];
    for (answer, expected, calls) in cases {
        let mut world = deleted();
        let state = answer.state;
        world.reading = answer;
        let began = world.now;
        run(&mut world);
        assert_eq!(outcome(&world), Some(expected), "{state:?}");
        assert_eq!(world.deregisters.len(), calls, "{state:?}");
        assert!(world.now <= plus(began, secs(3_601)), "{state:?}");
    }
}

#[test]
fn a_number_of_the_business_app_is_let_go() {
    let mut world = deleted();
    world.details.on_business_app = Some(true);
    run(&mut world);
    assert_eq!(outcome(&world), Some(FarewellOutcome::LeftRegistered));
    assert!(world.deregisters.is_empty());
}

#[test]
fn a_deletion_just_after_the_registration_waits_for_graph_to_catch_up() {
    let mut world = fresh();
    world.pass();
    world.wait(secs(10));
    world.delete();
    // Graph lags by up to 90 s.
    world.reading = reading(RegistrationState::NotRegistered);
    world.pass();
    assert_eq!(outcome(&world), None);
    let ready = find(world.status(), conditions::READY).expect("a condition");
    assert_eq!(ready.reason, "Deregistering");
    world.wait(secs(90));
    world.reading = reading(RegistrationState::Registered);
    run(&mut world);
    assert_eq!(world.deregisters.len(), 1);
    assert_eq!(outcome(&world), Some(FarewellOutcome::Deregistered));

    // At the end of the confirm window it is believed.
    let mut world = fresh();
    world.pass();
    world.delete();
    world.reading = reading(RegistrationState::NotRegistered);
    world.wait(WINDOW - secs(1));
    world.pass();
    assert_eq!(outcome(&world), None);
    world.wait(secs(1));
    world.pass();
    assert_eq!(outcome(&world), Some(FarewellOutcome::Deregistered));
    assert!(world.deregisters.is_empty());
}

#[test]
fn a_missing_secret_is_waited_for_five_minutes() {
    let mut world = deleted();
    world.lose_secret();
    let began = world.now;
    run(&mut world);
    assert_eq!(outcome(&world), Some(FarewellOutcome::LeftRegistered));
    assert_eq!(world.now, plus(began, secs(300)));

    let mut world = deleted();
    let sound = world.secrets.clone();
    world.lose_secret();
    world.pass();
    world.wait(secs(200));
    world.secrets = sound;
    run(&mut world);
    assert_eq!(world.deregisters.len(), 1);
}

#[test]
fn a_new_token_ends_the_wait_for_one() {
    let mut world = deleted();
    world.reading = failed_reading(
        RegistrationState::Stall(Reason::TokenRejected),
        graph_error(401, 190, None),
    );
    world.pass();
    assert!(!world.pass().contains(&Step::Read), "its time has not come");
    world.reading = reading(RegistrationState::Registered);
    world.secrets = Ok(digests("another", "pin"));
    assert!(world.pass().contains(&Step::Claim));
}

#[test]
fn a_lost_answer_is_confirmed_by_reading() {
    let lost = || RegisterOutcome::without_answer(Reason::OutcomeUnknown, "no answer");
    // It took effect.
    let mut world = deleted();
    world.answer(lost());
    world.pass();
    world.reading = reading(RegistrationState::NotRegistered);
    run(&mut world);
    assert_eq!(world.deregisters.len(), 1);
    assert_eq!(outcome(&world), Some(FarewellOutcome::Deregistered));
    // It did not: one more call, after the confirm window.
    let mut world = deleted();
    world.answer(lost());
    let began = world.now;
    run(&mut world);
    assert_eq!(world.deregisters.len(), 2);
    assert!(world.deregisters[1] >= plus(began, WINDOW));
    // It stays unknown.
    let mut world = deleted();
    world.answer(lost());
    world.pass();
    world.reading = reading(RegistrationState::Wait(Reason::GraphUnavailable));
    run(&mut world);
    assert_eq!(world.deregisters.len(), 1);
    assert_eq!(outcome(&world), Some(FarewellOutcome::InDoubt));
}

#[test]
fn a_server_error_is_confirmed_and_tried_again() {
    let mut world = deleted();
    world.answer(refused(500, 131_000, None));
    run(&mut world);
    assert_eq!(world.deregisters.len(), 2);
    assert_eq!(outcome(&world), Some(FarewellOutcome::Deregistered));
}

#[test]
fn a_refusal_is_checked_and_then_left_to_people() {
    // "Not linked": Meta says 100 for everything, so a read tells.
    let mut world = deleted();
    world.answer(refused(400, 100, None));
    world.pass();
    world.reading = reading(RegistrationState::NotRegistered);
    run(&mut world);
    assert_eq!(outcome(&world), Some(FarewellOutcome::Deregistered));
    // It is registered all the same.
    let mut world = deleted();
    world.answer(refused(403, 200, None));
    world.pass();
    world.wait(WINDOW + secs(1));
    world.pass();
    assert_eq!(
        world.shown(),
        "Registered=True Failed=True Stalled DeregistrationFailed"
    );
    assert_eq!(world.pass().len(), 2, "Secrets and nothing else");
    // Retain lets it go at once.
    world.resource.spec.deletion_policy = DeletionPolicy::Retain;
    world.bump();
    assert_eq!(world.pass(), [Step::Finalizer(false)]);
    assert_eq!(outcome(&world), Some(FarewellOutcome::LeftRegistered));
    assert_eq!(world.deregisters.len(), 1);
}

#[test]
fn a_block_or_a_limit_beyond_the_deadline_lets_go_at_once() {
    for answer in [refused(400, 133_016, None), rate_limited(Some(hours(3)))] {
        let mut world = deleted();
        let began = world.now;
        world.answer(answer);
        run(&mut world);
        assert_eq!(outcome(&world), Some(FarewellOutcome::LeftRegistered));
        assert!(world.now <= plus(began, secs(10)));
        assert_eq!(world.deregisters.len(), 1);
    }
}

#[test]
fn a_claim_that_is_open_is_waited_for_past_the_deadline() {
    let mut world = registered();
    world.annotate("now");
    world.fate(Fate::Crash);
    world.pass();
    world.delete();
    world.wait(hours(2));
    assert_eq!(world.pass(), [Step::Settle(Requeue::After(TTL))]);
    world.wait(TTL);
    world.claims_are_old = true;
    run(&mut world);
    assert_eq!(outcome(&world), Some(FarewellOutcome::LeftRegistered));
    assert!(world.deregisters.is_empty());
}

#[test]
fn a_crash_between_claim_and_call_costs_no_second_call_before_the_window() {
    let mut world = deleted();
    world.fate(Fate::Crash);
    world.pass();
    world.claims_are_old = true;
    world.wait(TTL);
    let began = world.now;
    run(&mut world);
    assert_eq!(world.deregisters.len(), 2);
    assert!(world.deregisters[1] >= plus(began, WINDOW));
}

#[test]
fn a_list_that_fails_makes_no_call_and_is_tried_again() {
    let mut world = deleted();
    world.survey = Err("forbidden".to_owned());
    world.pass();
    assert!(world.deregisters.is_empty());
    world.survey = Ok(Survey::default());
    run(&mut world);
    assert_eq!(world.deregisters.len(), 1);

    let mut world = deleted();
    world.survey = Err("forbidden".to_owned());
    run(&mut world);
    assert_eq!(outcome(&world), Some(FarewellOutcome::LeftRegistered));
    assert!(world.deregisters.is_empty());
}

#[test]
fn ten_deregister_calls_in_72_hours_are_all() {
    for (made, told) in [
        (9, FarewellOutcome::Deregistered),
        (10, FarewellOutcome::LeftRegistered),
    ] {
        let mut world = deleted();
        world.policy.attempt_limit = 1;
        let now = world.now;
        for number in 0..made {
            let mut call = attempt(&format!("call-{number}"), now, Reason::PermissionDenied);
            call.operation = Operation::Deregister;
            world.peers.attempts.push(call);
        }
        run(&mut world);
        assert_eq!(outcome(&world), Some(told), "{made}");
    }
}

#[test]
fn nobody_registers_or_adopts_a_number_that_is_being_taken_off() {
    for state in [
        RegistrationState::Registered,
        RegistrationState::NotRegistered,
    ] {
        let mut world = World::new();
        let mut call = attempt("theirs", world.now, Reason::Deregistered);
        call.operation = Operation::Deregister;
        world.peers.attempts = vec![call];
        world.reading = reading(state);
        world.run_for(secs(290));
        assert!(world.posts.is_empty(), "{state:?}");
        assert!(!world.is(conditions::REGISTERED), "{state:?}");
        world.reading = reading(RegistrationState::NotRegistered);
        world.run_for(secs(60));
        assert_eq!(world.posts.len(), 1, "{state:?}");
    }
}

#[test]
fn a_new_resource_of_the_name_takes_over_the_deregister_calls() {
    let mut world = fresh();
    let mut call = attempt("earlier", world.now, Reason::Deregistered);
    call.operation = Operation::Deregister;
    if let Some(end) = &mut call.end {
        end.outcome = AttemptOutcome::Succeeded;
    }
    world.wait(secs(400));
    world.resource.metadata.creation_timestamp = Some(
        k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(world.now),
    );
    world.peers.earlier = vec![call.clone()];
    world.peers.attempts = vec![call];
    world.pass();
    assert!(world.is(conditions::REGISTERED), "{}", world.shown());
    assert_eq!(world.status().attempts.len(), 2);
    // Another process, which remembers nothing.
    world.restart();
    world.peers = operator_core::model::Peers::default();
    world.reading = reading(RegistrationState::Registered);
    world.wait(hours(1));
    world.delete();
    run(&mut world);
    assert_eq!(outcome(&world), Some(FarewellOutcome::LeftRegistered));
    assert!(world.deregisters.is_empty());
}

#[test]
fn without_the_finalizer_nothing_is_done() {
    let mut world = registered();
    world.resource.metadata.finalizers = Some(vec!["somebody.example/else".to_owned()]);
    world.resource.metadata.deletion_timestamp = Some(
        k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(world.now),
    );
    let steps = world.pass();
    assert_eq!(steps, [Step::Settle(Requeue::OnChange)]);
}

/// The first pass may end in a wait: what the finalizer says of a status that was wiped must outlast it.
#[test]
fn a_wiped_status_counts_as_registered_for_more_than_one_pass() {
    let mut world = deleted();
    world.resource.status = None;
    world.last_read = None;
    world.reading = reading(RegistrationState::Wait(Reason::GraphUnavailable));
    world.pass();
    assert!(world.status().may_be_registered);
    world.reading = reading(RegistrationState::Registered);
    run(&mut world);
    assert_eq!(world.deregisters.len(), 1);
    assert_eq!(outcome(&world), Some(FarewellOutcome::Deregistered));
}

#[test]
fn a_lost_answer_after_a_wiped_status_is_confirmed() {
    let mut world = deleted();
    world.resource.status = None;
    world.answer(unknown());
    let steps = world.pass();
    assert!(steps.contains(&Step::Claim), "{steps:?}");
    assert_eq!(outcome(&world), None);
    world.reading = reading(RegistrationState::NotRegistered);
    run(&mut world);
    assert_eq!(outcome(&world), Some(FarewellOutcome::Deregistered));
    assert_eq!(world.deregisters.len(), 1);
}

/// One read is a suspicion: it does not keep the number on the air when its resource goes.
#[test]
fn a_suspected_loss_does_not_stand_for_a_deregistration() {
    let mut world = registered();
    world.policy.life.observe_interval = hours(24);
    world.reading = reading(RegistrationState::NotRegistered);
    while world.status().loss_suspected_time.is_none() {
        world.wait(hours(1));
        world.pass();
    }
    world.reading = reading(RegistrationState::Registered);
    world.delete();
    run(&mut world);
    assert_eq!(world.deregisters.len(), 1);
}

#[test]
fn a_number_that_was_lost_goes_without_a_call() {
    let mut world = registered();
    world.policy.life.observe_interval = hours(24);
    world.reading = reading(RegistrationState::NotRegistered);
    world.run_for(hours(50));
    assert!(world.status().loss.is_some());
    world.delete();
    assert_eq!(world.pass(), [Step::Finalizer(false)]);
    let farewell = world.farewell.expect("a farewell");
    assert_eq!(farewell.outcome, FarewellOutcome::NotRegistered);
    assert_eq!(
        farewell.why,
        "the registration of its number was lost before"
    );
}

/// Calls that never reached Graph when the number was registered say nothing about how long to wait now.
#[test]
fn unsent_calls_of_one_kind_do_not_hold_up_those_of_the_other() {
    let mut world = fresh();
    for _ in 0..5 {
        world.answer(unreachable());
    }
    world.run_for(hours(2));
    assert!(world.is(conditions::REGISTERED), "{:#?}", world.status());
    world.reading = reading(RegistrationState::Registered);
    world.wait(hours(1));
    world.delete();
    world.answer(unreachable());
    run(&mut world);
    assert_eq!(world.deregisters.len(), 1);
    assert_eq!(outcome(&world), Some(FarewellOutcome::Deregistered));
}

/// The operator's clock is a few seconds behind the API server's.
#[test]
fn a_call_is_not_taken_for_one_of_an_earlier_resource() {
    let mut world = deleted();
    let ahead = plus(world.now, secs(5));
    world.resource.metadata.deletion_timestamp = Some(Time(ahead));
    world.answer(unknown());
    world.pass();
    world.wait(secs(10));
    run(&mut world);
    assert_eq!(world.deregisters.len(), 2, "{:?}", world.farewell);
    assert_eq!(outcome(&world), Some(FarewellOutcome::Deregistered));
}

#[test]
fn a_call_that_graph_refused_for_an_earlier_resource_did_not_deregister() {
    let mut world = deleted();
    world.peers.earlier = vec![departure(world.now, Reason::PermissionDenied)];
    run(&mut world);
    assert_eq!(world.deregisters.len(), 1);

    // Nor where this one took the entry over.
    let mut world = fresh();
    world.peers.earlier = vec![departure(world.now, Reason::PermissionDenied)];
    world.run_for(hours(1));
    world.peers.earlier.clear();
    assert!(world.status().attempts.iter().any(|entry| entry.earlier));
    world.reading = reading(RegistrationState::Registered);
    world.delete();
    run(&mut world);
    assert_eq!(
        world.deregisters.len(),
        1,
        "{:?} {:#?}",
        world.farewell,
        world.status()
    );
}

/// What people are told to do about a refusal is noticed.
#[test]
fn a_new_token_is_tried_after_a_refusal() {
    let mut world = deleted();
    world.answer(refused(403, 200, None));
    world.run_for(secs(600));
    assert!(world.is(conditions::STALLED));
    // It may not even be read with at first.
    world.secrets = Ok(digests("another", "pin"));
    world.reading = reading(RegistrationState::Wait(Reason::GraphUnavailable));
    assert!(world.pass().contains(&Step::Read));
    world.reading = reading(RegistrationState::Registered);
    run(&mut world);
    assert_eq!(world.deregisters.len(), 2);
    assert_eq!(outcome(&world), Some(FarewellOutcome::Deregistered));
}

#[test]
fn a_number_that_people_deregistered_after_a_refusal_is_told_so() {
    for registered in [true, false] {
        let mut world = deleted();
        world.answer(refused(403, 200, None));
        world.run_for(secs(600));
        assert!(world.is(conditions::STALLED));
        if !registered {
            world.reading = reading(RegistrationState::NotRegistered);
        }
        run(&mut world);
        let told = match registered {
            true => FarewellOutcome::LeftRegistered,
            false => FarewellOutcome::Deregistered,
        };
        assert_eq!(outcome(&world), Some(told));
        assert_eq!(world.deregisters.len(), 1);
    }
}

/// A namespace that is deleted takes the operator's permissions in it along.
#[test]
fn a_secret_that_may_not_be_read_is_waited_for_as_shortly_as_one_that_is_missing() {
    let mut world = deleted();
    world.secrets = Err(SecretFault {
        reason: Reason::SecretForbidden,
        message: "the Secret meta may not be read".to_owned(),
    });
    let steps = world.pass();
    let Some(Step::Settle(Requeue::After(wait))) = steps.last() else {
        panic!("{steps:?}");
    };
    assert!(*wait <= secs(60), "{wait:?}");
    let began = world.now;
    run(&mut world);
    assert_eq!(outcome(&world), Some(FarewellOutcome::LeftRegistered));
    assert!(plus(began, secs(400)) > world.now);
}

/// A server error is looked into as a lost answer is: in the window and at its end, also where the next call would be too late.
#[test]
fn a_server_error_is_confirmed_by_reads() {
    let mut world = deleted();
    for _ in 0..9 {
        world.answer(refused(500, 131_000, None));
    }
    while world.deregisters.len() < 4 {
        world.run_for(secs(30));
        assert_eq!(outcome(&world), None);
    }
    // The next one would come after the deadline; the window ends before.
    world.policy.life.deregister_deadline = hours(1);
    let steps = world.run_for(WINDOW - secs(1));
    assert!(steps.contains(&Step::Read), "{steps:?}");
    world.reading = reading(RegistrationState::NotRegistered);
    run(&mut world);
    assert_eq!(outcome(&world), Some(FarewellOutcome::Deregistered));
    assert_eq!(world.deregisters.len(), 4);
}

/// The record of a failed call says when the next one follows; the reads until then leave that as it is.
#[test]
fn the_wait_after_a_failed_call_is_written_once() {
    let mut world = deleted();
    world.policy.backoff.base = 3 * WINDOW;
    world.answer(refused(500, 131_000, None));
    world.pass();
    let recorded = world.status().clone();
    assert!(recorded.next_attempt_time.is_some());
    let mut reads = 0;
    while world.deregisters.len() < 2 {
        assert_eq!(world.status(), &recorded);
        let steps = world.run_for(secs(30));
        reads += steps.iter().filter(|step| **step == Step::Read).count();
    }
    assert!(reads > 2, "{reads}");
}

#[test]
fn the_wait_after_a_rate_limit_is_written_once() {
    let mut world = deleted();
    world.jitter = 1.0;
    world.answer(rate_limited(Some(secs(600))));
    world.pass();
    let recorded = world.status().clone();
    for _ in 0..11 {
        world.run_for(secs(60));
        assert_eq!(world.status(), &recorded);
    }
    world.run_for(secs(100));
    assert_eq!(world.deregisters.len(), 2);
}

/// What was waited for in the confirm window is over: only the wait after the call counts.
#[test]
fn a_wait_ends_with_its_cause() {
    let mut world = deleted();
    world.answer(refused(500, 131_000, None));
    world.pass();
    let began = world.now;
    world.wait(secs(2));
    world.dropped_fields = Some("wait".to_owned());
    world.definition_tried = true;
    world.pass();
    world.restart();
    world.wait(WINDOW);
    run(&mut world);
    assert!(world.deregisters[1] <= plus(began, WINDOW + secs(5)));

    let mut world = deleted();
    world.answer(refused(500, 131_000, None));
    world.pass();
    let began = world.now;
    world.wait(secs(2));
    world.reading = reading(RegistrationState::Wait(Reason::GraphUnavailable));
    world.reading.retry_after = Some(secs(300));
    world.pass();
    world.reading = reading(RegistrationState::Registered);
    world.bump();
    world.wait(secs(58));
    run(&mut world);
    assert!(world.deregisters[1] <= plus(began, WINDOW + secs(5)));
}

/// The read at the end of the window settles the call: the number is not in doubt, although no second call would come in time.
#[test]
fn a_number_that_is_seen_registered_is_not_in_doubt() {
    let mut world = deleted();
    world.answer(RegisterOutcome {
        retry_after: Some(hours(2)),
        ..refused(503, 131_000, None)
    });
    run(&mut world);
    assert_eq!(world.deregisters.len(), 1);
    assert_eq!(outcome(&world), Some(FarewellOutcome::LeftRegistered));
}

/// Where Secrets are not watched, another token is looked for after a refusal.
#[test]
fn without_a_watch_the_secret_is_polled_after_a_refusal() {
    let mut world = deleted();
    world.policy.secret_poll = Some(secs(60));
    world.answer(refused(403, 200, None));
    world.run_for(secs(600));
    assert!(world.is(conditions::STALLED));
    world.secrets = Ok(digests("another", "pin"));
    world.run_for(secs(300));
    assert_eq!(world.deregisters.len(), 2);
}

/// The failures of an earlier resource of the name do not lengthen the waits of this one.
#[test]
fn the_backoff_is_that_of_the_resource() {
    let mut world = deleted();
    let mut earlier = departure(world.now, Reason::RateLimited);
    earlier.earlier = true;
    for n in 0..5 {
        let id = format!("earlier-{n}");
        let entry = LedgerEntry {
            id,
            ..earlier.clone()
        };
        world.status_mut().attempts.push(entry);
    }
    world.wait(hours(1) / 2);
    world.policy.life.deregister_deadline = hours(2);
    world.answer(unreachable());
    world.pass();
    let steps = world.pass();
    let Some(Step::Settle(Requeue::After(next))) = steps.last() else {
        panic!("{steps:?} {:?} {:#?}", world.farewell, world.status());
    };
    assert!(*next <= secs(60), "{next:?}");
}

/// A Secret that is deleted and made again flips nothing, however late that is.
#[test]
fn a_secret_that_is_made_again_late_in_a_deletion_is_waited_for() {
    let mut world = deleted();
    world.answer(refused(403, 200, None));
    world.run_for(secs(600));
    assert!(world.is(conditions::STALLED));
    world.lose_secret();
    world.pass();
    world.wait(secs(200));
    world.pass();
    assert_eq!(outcome(&world), None);
    world.secrets = Ok(digests("another", "pin"));
    run(&mut world);
    assert_eq!(world.deregisters.len(), 2);
}

#[test]
fn a_number_that_was_lost_is_not_told_to_stay_registered() {
    type Change = fn(&mut World);
    let changes: [Change; 3] = [
        |world| world.suspend(true),
        |world| world.resource.spec.deletion_policy = DeletionPolicy::Retain,
        |world| world.policy.life.deregistration = false,
    ];
    for change in changes {
        let mut world = registered();
        world.policy.life.observe_interval = hours(24);
        world.reading = reading(RegistrationState::NotRegistered);
        world.run_for(hours(50));
        assert!(world.status().loss.is_some());
        world.delete();
        change(&mut world);
        world.pass();
        assert_eq!(outcome(&world), Some(FarewellOutcome::NotRegistered));
    }
}

/// What the token or a Secret was waited for is over: only a person can do something about the refusal.
#[test]
fn a_refusal_is_shown_again_after_what_lay_over_it() {
    let mut world = deleted();
    world.answer(refused(403, 200, None));
    world.run_for(secs(600));
    let shown = world.shown();
    assert!(world.is(conditions::STALLED));
    world.cool_down("token", plus(world.now, secs(60)));
    world.pass();
    assert_eq!(world.shown(), shown, "it makes no call that has to wait");
    let ready = world.secrets.clone();
    world.lose_secret();
    world.pass();
    assert_ne!(world.shown(), shown);
    world.secrets = ready;
    world.wait(secs(61));
    world.pass();
    assert_eq!(world.shown(), shown);
}

#[test]
fn a_wait_for_the_token_is_written_once_and_spread() {
    let mut world = deleted();
    world.jitter = 1.0;
    world.cool_down("token", plus(world.now, secs(600)));
    let steps = world.pass();
    assert!(
        matches!(steps.last(), Some(Step::Settle(Requeue::After(wait))) if *wait > secs(600)),
        "{steps:?}"
    );
    let written = world.status().clone();
    world.cool_down("token", plus(world.now, secs(900)));
    world.pass();
    assert_eq!(world.status(), &written);
}

/// Any proxy can ask for a day, and a deletion must not end for that.
#[test]
fn a_page_that_asks_for_hours_is_asked_again_soon() {
    let mut world = deleted();
    world.reading = reading(RegistrationState::Wait(Reason::GraphUnavailable));
    world.reading.retry_after = Some(secs(7200));
    world.pass();
    assert_eq!(outcome(&world), None);
    world.reading = reading(RegistrationState::Registered);
    run(&mut world);
    assert_eq!(world.deregisters.len(), 1);
    assert_eq!(outcome(&world), Some(FarewellOutcome::Deregistered));
}

/// The clock was ahead when the Secret was missed.
#[test]
fn a_secret_is_not_missing_since_a_time_to_come() {
    let mut world = deleted();
    world.lose_secret();
    world.pass();
    world.now -= jiff::SignedDuration::from_mins(30);
    world.pass();
    let hold = world.status().hold.as_ref().expect("a hold");
    let since = hold.since.as_ref().expect("a time");
    assert!(since.0 <= world.now);
}

#[test]
fn only_what_the_finalizer_holds_has_a_time_of_release() {
    let mut world = deleted();
    let deadline = world.policy.life.deregister_deadline;
    let release = world.policy.release_time(&world.resource);
    assert_eq!(release, Some(plus(world.now, deadline)));
    world.resource.metadata.finalizers = None;
    assert_eq!(world.policy.release_time(&world.resource), None);
}
