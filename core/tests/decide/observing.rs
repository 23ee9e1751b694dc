//! A number after its registration: how often it is read, and what a read then says.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use operator_core::api::conditions::{self, find};
use operator_core::api::{DeletionPolicy, LossPolicy, REGISTER_REQUESTED_AT, Reason};
use operator_core::credentials::SecretFault;
use operator_core::graph::{ReadOutcome, RegistrationState};
use operator_core::model::Requeue;
use operator_core::model::observe::{BUSY_FOR, next_point};
use operator_core::model::schedule::{later, plus, until};
use testkit::world::*;

const HOUR: u64 = 3600;

/// A registered number that is observed every hour, after the first observation.
fn observed() -> World {
    let mut world = World::registered();
    world.policy.life.observe_interval = secs(HOUR);
    world.reading = reading(RegistrationState::Registered);
    world.pass();
    assert_eq!(
        observe(&mut world),
        [Step::Secrets, Step::Read, Step::Details]
    );
    world
}

/// Goes on to the next observation; returns what it did before it settled.
fn observe(world: &mut World) -> Vec<Step> {
    let plan = world.plan.expect("a plan");
    world.wait(until(plan.at, world.now) + secs(1));
    let mut steps = world.pass();
    assert!(matches!(
        steps.pop(),
        Some(Step::Settle(Requeue::Observe(_)))
    ));
    steps
}

/// The two observations that make a loss which is mended at once.
fn lose_and_recover(world: &mut World) {
    world.resource.spec.loss_policy = LossPolicy::Register;
    world.reading = reading(RegistrationState::NotRegistered);
    observe(world);
    let plan = world.plan.expect("a plan");
    world.wait(until(plan.at, world.now) + secs(1));
    assert_eq!(
        world.pass().last(),
        Some(&Step::Settle(Requeue::After(Duration::ZERO)))
    );
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Reconciling RegistrationLost"
    );
}

fn lost() -> World {
    let mut world = observed();
    world.reading = reading(RegistrationState::NotRegistered);
    observe(&mut world);
    assert!(world.is(conditions::REGISTERED));
    observe(&mut world);
    assert!(!world.is(conditions::REGISTERED));
    world
}

fn observed_condition(world: &World) -> Option<String> {
    let condition = find(world.status(), conditions::OBSERVED)?;
    Some(format!("{} {}", condition.status, condition.reason))
}

#[test]
fn it_is_read_once_in_each_interval_and_nothing_is_written() {
    let mut world = observed();
    assert_eq!(
        observed_condition(&world).as_deref(),
        Some("True ObservationSucceeded")
    );
    // As one that was adopted: there is no call whose trace ID would be shown.
    world.status_mut().attempts.clear();
    let before = world.resource.clone();
    for _ in 0..20 {
        let began = world.now;
        world.reading.fbtrace_id = Some(format!("A{began}"));
        let steps = world.pass();
        assert_eq!(
            steps.len(),
            1,
            "nothing between two observations: {steps:?}"
        );
        assert_eq!(
            observe(&mut world),
            [Step::Secrets, Step::Read, Step::Details]
        );
        assert!(until(world.now, began) < secs(2 * HOUR + 2));
        assert_eq!(world.resource, before);
    }
    assert_eq!(world.posts.len(), 1);
}

#[test]
fn another_process_goes_on_with_the_next_point() {
    let mut world = observed();
    world.wait(hours(30));
    world.restart();
    let steps = world.pass();
    assert_eq!(
        steps.len(),
        1,
        "what was missed is not made up for: {steps:?}"
    );
    let next = next_point("", secs(HOUR), world.now);
    assert_eq!(world.plan.expect("a plan").at, next);
}

#[test]
fn nothing_is_read_where_observing_is_off_or_the_number_is_suspended() {
    let mut world = observed();
    world.suspend(true);
    world.wait(hours(5));
    assert_eq!(world.pass(), [Step::Settle(Requeue::OnChange)]);
    assert_eq!(observed_condition(&world), None);
    assert!(world.is(conditions::REGISTERED));
    world.suspend(false);
    world.resource.spec.observe_interval = Some("0s".to_owned());
    world.bump();
    assert_eq!(world.pass(), [Step::Settle(Requeue::OnChange)]);
    assert_eq!(observed_condition(&world), None);
}

#[test]
fn the_resource_says_how_often() {
    let mut world = observed();
    world.resource.spec.observe_interval = Some("5m".to_owned());
    world.bump();
    world.pass();
    let at = world.plan.expect("a plan").at;
    assert!(at <= plus(world.now, secs(600)), "{at}");
}

#[test]
fn two_definite_answers_make_a_loss() {
    let mut world = observed();
    world.reading = reading(RegistrationState::NotRegistered);
    observe(&mut world);
    let first = world.now;
    assert!(world.is(conditions::REGISTERED));
    let suspected = world.status().loss_suspected_time.clone().expect("a time");
    observe(&mut world);
    assert!(until(world.now, suspected.0) >= secs(600), "{first}");
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Stalled RegistrationLost"
    );
    assert!(!world.status().may_be_registered);
    assert_eq!(world.posts.len(), 1);
}

#[test]
fn the_number_can_be_lost_for_a_reason_of_its_own() {
    for (state, reason) in [
        (Reason::AccountLocked, "AccountLocked"),
        (Reason::PhoneNumberNotFound, "PhoneNumberNotFound"),
    ] {
        let mut world = observed();
        world.resource.spec.loss_policy = LossPolicy::Register;
        world.reading = reading(RegistrationState::Stall(state));
        observe(&mut world);
        assert!(world.is(conditions::REGISTERED));
        observe(&mut world);
        assert_eq!(
            world.shown(),
            format!("Registered=False Failed=True Stalled {reason}")
        );
        // It may look unregistered later: it is the same loss.
        world.reading = reading(RegistrationState::NotRegistered);
        world.secrets = Ok(digests("another", "another"));
        observe(&mut world);
        assert_eq!(world.posts.len(), 1);
    }
}

#[test]
fn a_second_answer_that_says_registered_clears_the_suspicion() {
    let mut world = observed();
    world.reading = reading(RegistrationState::NotRegistered);
    observe(&mut world);
    world.reading = reading(RegistrationState::Registered);
    observe(&mut world);
    assert_eq!(world.status().loss_suspected_time, None);
    world.reading = reading(RegistrationState::NotRegistered);
    observe(&mut world);
    assert!(world.is(conditions::REGISTERED), "the first one again");
}

#[test]
fn an_answer_that_is_not_usable_keeps_the_suspicion() {
    let mut world = observed();
    world.reading = reading(RegistrationState::NotRegistered);
    observe(&mut world);
    world.restart();
    world.reading = reading(RegistrationState::Wait(Reason::GraphUnavailable));
    world.pass();
    observe(&mut world);
    assert!(world.status().loss_suspected_time.is_some());
    world.reading = reading(RegistrationState::NotRegistered);
    observe(&mut world);
    assert!(!world.is(conditions::REGISTERED));
}

#[test]
fn a_lost_number_is_observed_and_adopted() {
    let mut world = lost();
    let before = world.resource.clone();
    for _ in 0..3 {
        observe(&mut world);
        assert_eq!(world.resource, before);
    }
    world.reading = reading(RegistrationState::Registered);
    observe(&mut world);
    assert_eq!(
        world.shown(),
        "Registered=True Failed=False AlreadyRegistered"
    );
    assert_eq!(world.status().loss, None);
    assert_eq!(world.posts.len(), 1);
}

#[test]
fn neither_a_new_token_nor_a_new_pin_lifts_a_loss() {
    let mut world = lost();
    world.secrets = Ok(digests("another", "another"));
    world.bump();
    world.pass();
    observe(&mut world);
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Stalled RegistrationLost"
    );
    assert_eq!(world.posts.len(), 1);
}

#[test]
fn a_lost_number_is_called_for_on_request() {
    let mut world = lost();
    world.annotate("now");
    world.answer(success());
    let steps = world.pass();
    assert!(steps.contains(&Step::Claim), "{steps:?}");
    assert_eq!(
        world.shown(),
        "Registered=True Failed=False RegistrationSucceeded"
    );
}

#[test]
fn a_requested_call_for_a_lost_number_that_fails_stands_until_a_new_value() {
    let mut world = lost();
    world.annotate("now");
    world.answer(refused(500, 131_000, None));
    assert!(world.pass().contains(&Step::Claim));
    world.wait(hours(2));
    world.pass();
    observe(&mut world);
    assert_eq!(world.posts.len(), 2);
    let of = |type_| find(world.status(), type_).expect("a condition");
    assert_eq!(of(conditions::REGISTERED).reason, "RegistrationLost");
    assert_eq!(of(conditions::FAILED).reason, "GraphUnavailable");
}

#[test]
fn loss_policy_register_registers_once_in_24_hours() {
    let mut world = observed();
    lose_and_recover(&mut world);
    world.answer(success());
    let steps = world.pass();
    assert_eq!(
        steps[..4],
        [Step::Secrets, Step::Read, Step::Details, Step::Claim]
    );
    assert!(world.is(conditions::REGISTERED));
    assert_eq!(world.posts.len(), 2);

    // Lost once more within the day.
    world.pass();
    observe(&mut world);
    observe(&mut world);
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Stalled RegistrationLost"
    );
    for _ in 0..3 {
        observe(&mut world);
    }
    assert_eq!(world.posts.len(), 2);
}

#[test]
fn nothing_is_registered_again_that_may_be_of_the_business_app() {
    for on_app in [Some(true), None] {
        let mut world = observed();
        world.details.on_business_app = on_app;
        lose_and_recover(&mut world);
        for _ in 0..20 {
            world.wait(secs(601));
            world.pass();
        }
        assert_eq!(world.posts.len(), 1, "{on_app:?}");
        assert_eq!(world.is(conditions::STALLED), on_app == Some(true));
    }
}

#[test]
fn switched_to_report_a_loss_stalls() {
    let mut world = observed();
    world.details.on_business_app = None;
    lose_and_recover(&mut world);
    world.pass();
    world.resource.spec.loss_policy = LossPolicy::Report;
    world.bump();
    world.pass();
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Stalled RegistrationLost"
    );
}

#[test]
fn a_refused_observation_shows_at_once_and_changes_nothing_else() {
    let mut world = observed();
    let ready = find(world.status(), conditions::READY).cloned();
    world.reading = failed_reading(
        RegistrationState::Stall(Reason::TokenRejected),
        graph_error(401, 190, Some(463)),
    );
    observe(&mut world);
    assert_eq!(
        observed_condition(&world).as_deref(),
        Some("False TokenRejected")
    );
    assert_eq!(find(world.status(), conditions::READY).cloned(), ready);
    // The next one says the same: nothing is written, also with another trace ID.
    let before = world.resource.clone();
    world.reading.message = "another trace".to_owned();
    observe(&mut world);
    assert_eq!(world.resource, before);
    // A new token is tried within ten minutes.
    world.secrets = Ok(digests("another", "pin"));
    world.jitter = 0.5;
    world.reading = reading(RegistrationState::Registered);
    world.pass();
    assert_eq!(world.plan.expect("a plan").at, later(world.now, secs(300)));
    observe(&mut world);
    assert_eq!(
        observed_condition(&world).as_deref(),
        Some("True ObservationSucceeded")
    );
}

#[test]
fn a_secret_that_is_missing_shows_when_the_number_is_to_be_observed() {
    let mut world = observed();
    let before = world.resource.clone();
    let sound = world.secrets.clone();
    world.secrets = Err(SecretFault {
        reason: Reason::SecretNotFound,
        message: "the Secret meta does not exist".to_owned(),
    });
    world.pass();
    assert_eq!(
        world.resource, before,
        "made again before that: nothing flips"
    );
    observe(&mut world);
    assert_eq!(
        observed_condition(&world).as_deref(),
        Some("False SecretNotFound")
    );
    assert!(world.is(conditions::READY));
    world.secrets = sound;
    world.jitter = 0.5;
    world.pass();
    assert_eq!(
        world.plan.expect("a plan").at,
        later(world.now, secs(300)),
        "soon"
    );
    observe(&mut world);
    assert_eq!(
        observed_condition(&world).as_deref(),
        Some("True ObservationSucceeded")
    );
}

#[test]
fn a_fault_that_passes_is_told_after_two_intervals() {
    let mut world = observed();
    let before = world.resource.clone();
    world.reading = reading(RegistrationState::Wait(Reason::GraphUnavailable));
    let began = world.now;
    for failures in 1..8 {
        observe(&mut world);
        assert_eq!(world.plan.expect("a plan").failures, failures);
        assert_eq!(world.resource, before);
    }
    observe(&mut world);
    assert_eq!(
        observed_condition(&world).as_deref(),
        Some("False GraphUnavailable")
    );
    assert!(until(world.now, began) >= secs(20 * 60));
    world.reading = reading(RegistrationState::Registered);
    observe(&mut world);
    assert_eq!(
        observed_condition(&world).as_deref(),
        Some("True ObservationSucceeded")
    );
}

#[test]
fn a_limit_is_heeded_before_and_after_it_is_met() {
    let mut world = observed();
    world.reading = ReadOutcome {
        usage: Some(85),
        ..reading(RegistrationState::Registered)
    };
    observe(&mut world);
    let until_then = *world.busy.get("token").expect("busy");
    assert!(world.plan.expect("a plan").at >= until_then);
    world.reading = ReadOutcome {
        retry_after: Some(hours(3)),
        ..reading(RegistrationState::Wait(Reason::RateLimited))
    };
    observe(&mut world);
    assert!(world.plan.expect("a plan").failures == 1);
    let limited = world.cool_downs.get("token").expect("a limit").until;
    let steps = observe(&mut world);
    if world.now < limited {
        assert_eq!(
            steps,
            [Step::Secrets],
            "nothing is read while the token cools down"
        );
    }
    assert!(world.is(conditions::REGISTERED));
}

#[test]
fn a_number_is_not_observed_in_the_confirm_window_of_a_call() {
    let mut world = World::registered();
    world.policy.life.observe_interval = secs(30);
    world.reading = reading(RegistrationState::NotRegistered);
    for _ in 0..10 {
        world.wait(secs(11));
        let steps = world.pass();
        assert!(!steps.contains(&Step::Read), "{steps:?}");
    }
}

#[test]
fn the_optional_read_is_shown_and_stops_nothing() {
    let mut world = observed();
    world.details.on_business_app = Some(true);
    world.details.new_name_status = Some("APPROVED".to_owned());
    let before = world.status().clone();
    observe(&mut world);
    let number = world.status().phone_number.as_ref().expect("a number");
    assert_eq!(number.on_business_app, Some(true));
    assert_eq!(
        number.display_phone_number.as_deref(),
        Some("+49 30 901820")
    );
    let events = operator_core::model::event::of_number(&before, world.status());
    let reasons: Vec<&str> = events.iter().map(|event| event.reason.as_str()).collect();
    assert_eq!(reasons, ["DisplayNameApproved"]);
}

#[test]
fn an_answer_that_tells_nothing_is_asked_for_again_later() {
    let mut world = observed();
    world.jitter = 0.431_723_187_640_936_1;
    world.reading = failed_reading(
        RegistrationState::Unclear(Some(Reason::PinMismatch)),
        graph_error(400, 133_005, None),
    );
    for _ in 0..20 {
        let plan = world.plan.expect("a plan");
        world.wait(until(plan.at, world.now));
        world.pass();
        assert!(world.plan.expect("a plan").at > world.now, "{plan:?}");
    }
}

/// A recovery that stalls does not end the observation: somebody may register the number by hand.
#[test]
fn a_stalled_recovery_is_observed_and_adopted() {
    let mut world = observed();
    lose_and_recover(&mut world);
    world.answer(pin_mismatch());
    world.pass();
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Stalled PinMismatch"
    );
    let posts = world.posts.len();
    world.run_for(hours(30));
    assert!(world.is(conditions::STALLED));
    world.reading = reading(RegistrationState::Registered);
    world.run_for(hours(30));
    assert!(world.is(conditions::REGISTERED), "{:#?}", world.status());
    assert_eq!(world.posts.len(), posts);
}

/// Whatever keeps a requested call from being made, the number goes on being observed.
#[test]
fn a_number_with_a_request_that_waits_is_observed() {
    type Change = fn(&mut World);
    let changes: [(&str, Change); 2] = [
        ("answered by a read", |world| {
            world.reading = failed_reading(
                RegistrationState::Stall(Reason::PermissionDenied),
                graph_error(403, 10, None),
            );
        }),
        ("a twin", |world| {
            world.peers.owner = Some("shop/other".to_owned());
        }),
    ];
    for (name, change) in changes {
        let mut world = observed();
        change(&mut world);
        world.annotate("once");
        world.pass();
        assert!(world.is(conditions::FAILED), "{name}");
        world.reading = reading(RegistrationState::NotRegistered);
        world.run_for(hours(60));
        assert!(world.status().last_loss_time.is_some(), "{name}");
    }
}

/// A PIN that Graph refused stays refused when the number is lost.
#[test]
fn a_refused_pin_is_not_sent_again_after_a_loss() {
    let mut world = observed();
    world.annotate("once");
    world.answer(pin_mismatch());
    world.pass();
    assert_eq!(world.posts.len(), 2);
    lose_and_recover(&mut world);
    world.run_for(hours(30));
    assert_eq!(world.posts.len(), 2);
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Stalled PinMismatch"
    );
    world.secrets = Ok(digests("token", "another pin"));
    world.pass();
    assert_eq!(world.posts.len(), 3);
}

#[test]
fn an_adoption_by_observation_comes_after_the_finalizer() {
    let mut world = lost();
    world.resource.spec.deletion_policy = DeletionPolicy::Deregister;
    world.bump();
    world.pass();
    world.reading = reading(RegistrationState::Registered);
    let steps = observe(&mut world);
    assert!(steps.contains(&Step::Finalizer(true)), "{steps:?}");
    assert!(world.is(conditions::REGISTERED));
}

/// Where Secrets are not watched, another token is looked for.
#[test]
fn without_a_watch_the_secret_of_a_refused_observation_is_polled() {
    let mut world = observed();
    world.policy.secret_poll = Some(secs(60));
    world.reading = failed_reading(
        RegistrationState::Stall(Reason::TokenRejected),
        graph_error(401, 190, Some(463)),
    );
    observe(&mut world);
    let steps = world.pass();
    let Some(Step::Settle(requeue)) = steps.last() else {
        panic!("{steps:?}");
    };
    let wait = requeue.wait(world.now).expect("a wait");
    assert!(wait <= secs(600), "{wait:?}");
    assert!(!steps.contains(&Step::Read), "{steps:?}");
}

#[test]
fn an_outage_that_was_told_costs_no_more_writes() {
    let mut world = observed();
    let mut told = None;
    for failure in 1..=40 {
        let reason = match failure % 3 {
            0 => Reason::RateLimited,
            _ => Reason::GraphUnavailable,
        };
        world.reading = ReadOutcome {
            message: format!("trace {failure}"),
            ..reading(RegistrationState::Wait(reason))
        };
        observe(&mut world);
        let shown = world.status().observation.clone();
        let shown = shown.and_then(|observation| observation.fault);
        if told.is_some() {
            assert_eq!(shown, told, "{failure}");
        }
        told = shown;
    }
    assert!(told.is_some());
}

/// A request for a lost number that a read stood against is met when an observation finds the number registered.
#[test]
fn an_adoption_by_observation_meets_a_request() {
    let mut world = lost();
    world.reading = failed_reading(
        RegistrationState::Stall(Reason::PermissionDenied),
        graph_error(403, 10, None),
    );
    world.annotate("once");
    world.pass();
    assert_eq!(world.status().last_handled_register_request, None);
    world.reading = reading(RegistrationState::Registered);
    world.run_for(hours(60));
    assert!(world.is(conditions::REGISTERED), "{:#?}", world.status());
    assert_eq!(world.posts.len(), 1);
    assert_eq!(
        world.status().last_handled_register_request.as_deref(),
        Some("once")
    );
}

#[test]
fn nothing_of_an_observation_is_left_once_it_is_off() {
    let mut world = observed();
    world.peers.owner = Some("shop/other".to_owned());
    world.annotate("once");
    world.pass();
    assert!(find(world.status(), conditions::OBSERVED).is_some());
    world.policy.life.observe_interval = Duration::ZERO;
    world.pass();
    assert_eq!(find(world.status(), conditions::OBSERVED), None);
}

/// The limit is one of a rolling hour: an interval that is shorter gives way.
#[test]
fn a_limit_that_is_nearly_used_up_puts_the_next_observation_off() {
    for (usage, busy) in [(79, false), (80, true)] {
        let mut world = observed();
        world.policy.life.observe_interval = secs(300);
        world.reading = ReadOutcome {
            usage: Some(usage),
            ..reading(RegistrationState::Registered)
        };
        observe(&mut world);
        let planned = until(world.plan.expect("a plan").at, world.now);
        assert_eq!(planned >= BUSY_FOR, busy, "{usage} %: {planned:?}");
    }
}

#[test]
fn a_rate_limit_that_is_over_stops_no_observation() {
    let mut world = observed();
    let plan = world.plan.expect("a plan");
    world.wait(until(plan.at, world.now) + secs(1));
    world.cool_down("token", world.now);
    assert!(world.pass().contains(&Step::Read));
}

/// They come at 30, 90 and 270 s, and then the next point is waited for.
#[test]
fn a_read_that_fails_in_passing_is_repeated_three_times() {
    let mut world = observed();
    world.policy.life.observe_interval = hours(24);
    world.plan = None;
    world.pass();
    world.reading = reading(RegistrationState::Wait(Reason::GraphUnavailable));
    for _ in 0..2 {
        for expected in [30, 90, 270] {
            observe(&mut world);
            let planned = until(world.plan.expect("a plan").at, world.now);
            assert_eq!(planned.as_secs(), expected);
        }
        observe(&mut world);
        let next = next_point("", hours(24), world.now);
        assert_eq!(world.plan.expect("a plan").at, next);
    }
}

#[test]
fn a_refused_token_is_not_tried_before_the_next_point() {
    let mut world = observed();
    world.reading = failed_reading(
        RegistrationState::Stall(Reason::TokenRejected),
        graph_error(401, 190, None),
    );
    observe(&mut world);
    let plan = world.plan;
    for _ in 0..3 {
        world.wait(secs(1));
        assert!(!world.pass().contains(&Step::Read));
        assert_eq!(world.plan, plan);
    }
}

/// A new token is made by deleting the Secret and creating it again.
#[test]
fn a_secret_that_is_missing_for_a_while_does_not_replace_a_refusal() {
    let mut world = observed();
    world.reading = failed_reading(
        RegistrationState::Stall(Reason::TokenRejected),
        graph_error(401, 190, None),
    );
    observe(&mut world);
    world.lose_secret();
    world.wait(secs(1));
    world.pass();
    let shown = || Some("False TokenRejected");
    assert_eq!(observed_condition(&world).as_deref(), shown());
    // When the number is to be observed, it is.
    let plan = world.plan.expect("a plan");
    world.now = plan.at;
    world.pass();
    let shown = observed_condition(&world);
    assert_eq!(shown.as_deref(), Some("False SecretNotFound"));
}

#[test]
fn a_read_without_the_fields_that_decide_is_followed_by_one_of_these_alone() {
    let mut world = observed();
    world.reading = reading(RegistrationState::LacksField);
    world.short_reading = Some(reading(RegistrationState::Registered));
    let steps = observe(&mut world);
    let expected = [Step::Secrets, Step::Read, Step::Read, Step::Details];
    assert_eq!(steps, expected);
    // It is asked for once.
    world.short_reading = Some(reading(RegistrationState::LacksField));
    let steps = observe(&mut world);
    assert_eq!(steps, [Step::Secrets, Step::Read, Step::Read]);
    assert_eq!(world.plan.expect("a plan").failures, 1);
}

#[test]
fn a_loss_is_repeated_within_24_hours() {
    for (age, repeated) in [(hours(24) - secs(1), true), (hours(24), false)] {
        let mut world = observed();
        world.reading = reading(RegistrationState::NotRegistered);
        observe(&mut world);
        let plan = world.plan.expect("a plan");
        world.wait(until(plan.at, world.now));
        let last = world.now - jiff::SignedDuration::try_from(age).expect("a duration");
        world.status_mut().last_loss_time = Some(Time(last));
        world.pass();
        let loss = world.status().loss.as_ref().expect("a loss");
        assert_eq!(loss.repeated, repeated, "{age:?}");
    }
}

/// Where Secrets are not watched, the one of a stalled recovery is polled between two observations.
#[test]
fn a_stalled_recovery_polls_its_secrets() {
    let mut world = observed();
    lose_and_recover(&mut world);
    world.policy.secret_poll = Some(secs(60));
    world.answer(pin_mismatch());
    world.run_for(secs(600));
    assert!(world.is(conditions::STALLED), "{}", world.shown());
    let steps = world.pass();
    let Some(Step::Settle(Requeue::Observe(plan))) = steps.last() else {
        panic!("{steps:?}");
    };
    assert!(plan.poll.is_some_and(|poll| poll <= secs(90)), "{plan:?}");
}

/// Ready is what people look at first: it does not promise what has stopped.
#[test]
fn a_recovery_that_has_stopped_says_so() {
    let ready = |world: &World| {
        let ready = find(world.status(), conditions::READY).expect("Ready");
        ready.message.clone()
    };
    let mut world = observed();
    lose_and_recover(&mut world);
    assert!(ready(&world).contains("The operator registers it again"));
    world.answer(pin_mismatch());
    world.pass();
    let text = ready(&world);
    assert!(!text.contains("registers it again"), "{text}");
    assert!(
        text.contains("Put the number's PIN into the Secret"),
        "{text}"
    );

    for (on_app, says) in [
        (Some(true), "is connected to the WhatsApp Business app"),
        (
            None,
            "no read tells whether the number is connected to the WhatsApp Business app",
        ),
    ] {
        let mut world = observed();
        world.details.on_business_app = on_app;
        lose_and_recover(&mut world);
        world.pass();
        let failed = find(world.status(), conditions::FAILED).expect("Failed");
        let text = failed.message.to_lowercase();
        assert!(text.contains(&says.to_lowercase()), "{text}");
        assert!(!text.contains("whether the number is registered"), "{text}");
        assert!(!text.contains("status none"), "{text}");
    }
}

/// Nothing but a request leads to another call, so nobody is told to wait for one.
#[test]
fn a_requested_call_for_a_lost_number_that_is_refused_names_the_annotation() {
    let mut world = lost();
    world.annotate("now");
    world.answer(pin_mismatch());
    world.pass();
    let failed = find(world.status(), conditions::FAILED).expect("Failed");
    assert!(failed.message.contains(REGISTER_REQUESTED_AT));
    assert!(!failed.message.contains("notices"), "{}", failed.message);
}

#[test]
fn a_requested_call_for_a_lost_number_without_an_answer_is_confirmed_soon() {
    for registered in [true, false] {
        let mut world = lost();
        world.annotate("now");
        world.answer(unknown());
        world.pass();
        assert_eq!(world.posts.len(), 2);
        if registered {
            world.reading = reading(RegistrationState::Registered);
        }
        world.run_for(secs(300));
        let expected = match registered {
            true => "Registered=True Failed=False OutcomeConfirmed",
            false => "Registered=False Failed=True Stalled OutcomeUnknown",
        };
        assert_eq!(world.shown(), expected);
        let read = world.last_read;
        world.run_for(secs(600));
        assert_eq!(world.last_read, read, "one read settles it");
        assert_eq!(world.posts.len(), 2);
    }
}

/// A block of 72 hours, or a CRD that is older, must not hide a loss for as long.
#[test]
fn a_number_whose_requested_call_is_held_back_is_observed() {
    type Change = fn(&mut World);
    let changes: [(&str, Change); 3] = [
        ("a block", |world| {
            let hour_ago = world.now - jiff::SignedDuration::from_hours(1);
            world.peers.attempts = vec![attempt("theirs", hour_ago, Reason::RegistrationBlocked)];
        }),
        ("an older CRD", |world| {
            world.dropped_fields = Some("wait".to_owned())
        }),
        ("a block, after a read that told nothing", |world| {
            let hour_ago = world.now - jiff::SignedDuration::from_hours(1);
            world.peers.attempts = vec![attempt("theirs", hour_ago, Reason::RegistrationBlocked)];
            world.reading = reading(RegistrationState::Unclear(None));
            world.annotate("once");
            world.pass();
            assert!(world.status().unclear_reads > 0);
            world.reading = reading(RegistrationState::Registered);
            world.wait(hours(1));
        }),
    ];
    for (name, change) in changes {
        let mut world = observed();
        change(&mut world);
        world.annotate("once");
        world.pass();
        assert!(world.is(conditions::REGISTERED), "{name}");
        world.reading = reading(RegistrationState::NotRegistered);
        world.run_for(hours(30));
        assert!(world.status().last_loss_time.is_some(), "{name}");
        assert_eq!(world.posts.len(), 1, "{name}");
    }
}

/// Two answers make a loss only if none between them says otherwise, whatever it was read for.
#[test]
fn a_read_before_a_requested_call_clears_a_suspicion() {
    let mut world = observed();
    world.reading = reading(RegistrationState::NotRegistered);
    observe(&mut world);
    assert!(world.status().loss_suspected_time.is_some());
    world.reading = reading(RegistrationState::Registered);
    world.annotate("now");
    world.answer(pin_mismatch());
    world.pass();
    assert_eq!(world.posts.len(), 2);
    assert!(world.status().loss_suspected_time.is_none());
}

/// Its token sees the number again: it is no worse than another resource's.
#[test]
fn a_read_before_a_requested_call_ends_the_fault_of_an_observation() {
    let mut world = observed();
    world.reading = failed_reading(
        RegistrationState::Stall(Reason::TokenRejected),
        graph_error(401, 190, None),
    );
    observe(&mut world);
    assert_eq!(observed_condition(&world).unwrap(), "False TokenRejected");
    world.reading = reading(RegistrationState::Registered);
    world.annotate("now");
    world.answer(pin_mismatch());
    world.pass();
    assert_eq!(
        observed_condition(&world).unwrap(),
        "True ObservationSucceeded"
    );
}

/// The optional read before a recovery meets a limit of the token like any other read.
#[test]
fn a_limit_that_the_optional_read_meets_is_the_tokens() {
    let mut world = observed();
    lose_and_recover(&mut world);
    world.details_limited = true;
    world.pass();
    let wait = world.status().token_wait.clone().expect("a wait");
    assert!(world.cool_downs.contains_key(&wait.digest));
}

/// Only a call since the loss whose answer does not tell may be what registered the number.
#[test]
fn what_did_not_register_a_lost_number_is_not_said_to() {
    let mut before = observed();
    before.annotate("before");
    before.answer(unknown());
    before.pass();
    before.run_for(secs(600));
    before.reading = reading(RegistrationState::NotRegistered);
    observe(&mut before);
    observe(&mut before);
    assert!(before.status().loss.is_some());
    let mut refused = lost();
    refused.annotate("now");
    refused.answer(pin_mismatch());
    refused.pass();
    for (name, mut world) in [("before the loss", before), ("refused", refused)] {
        world.reading = reading(RegistrationState::Registered);
        observe(&mut world);
        let shown = "Registered=True Failed=False AlreadyRegistered";
        assert_eq!(world.shown(), shown, "{name}");
    }
}

/// What the operator goes on with by itself is said so.
#[test]
fn a_recovery_that_waits_goes_on() {
    let mut world = observed();
    lose_and_recover(&mut world);
    world.answer(refused(500, 131_000, None));
    world.pass();
    let of = |type_| find(world.status(), type_).expect("a condition");
    let ready = &of(conditions::READY).message;
    assert!(ready.contains("The operator registers it again"), "{ready}");
    // Another PIN is noticed: the annotation is not needed.
    let mut world = observed();
    lose_and_recover(&mut world);
    world.answer(pin_mismatch());
    world.pass();
    let failed = find(world.status(), conditions::FAILED).expect("Failed");
    assert!(failed.message.contains("notices a new PIN automatically"));
}
