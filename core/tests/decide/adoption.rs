//! First visits, adoption and what the Secrets and a read can stop before any call.

use operator_core::api::AttemptOutcome;
use operator_core::api::Reason;
use operator_core::api::conditions;
use operator_core::api::conditions::find;
use operator_core::credentials::SecretFault;
use operator_core::graph::{RegisterOutcome, RegistrationState};
use operator_core::model::schedule::plus;
use operator_core::model::{Decision, Requeue};
use testkit::world::*;

#[test]
fn the_first_pass_reads_claims_and_registers() {
    let mut world = World::new();
    assert_eq!(world.pass(), [Step::Secrets, Step::Read, Step::Claim]);
    assert_eq!(
        world.shown(),
        "Registered=True Failed=False RegistrationSucceeded"
    );
    let status = world.status();
    assert_eq!(status.registration_time.as_ref().unwrap().0, world.now);
    assert_eq!(status.fbtrace_id.as_deref(), Some("Atrace"));
    assert_eq!(
        status.attempts[0].outcome(),
        Some(AttemptOutcome::Succeeded)
    );
    assert_eq!(status.graph_api_version.as_deref(), Some("v23.0"));
    assert!(world.is_at_rest());
}

#[test]
fn a_registered_number_is_adopted_and_nothing_is_sent() {
    let mut world = World::new();
    world.reading = reading(RegistrationState::Registered);
    assert_eq!(
        world.pass(),
        [Step::Secrets, Step::Read, Step::Settle(Requeue::OnChange)]
    );
    assert_eq!(
        world.shown(),
        "Registered=True Failed=False AlreadyRegistered"
    );
    assert!(world.status().attempts.is_empty());
    assert_eq!(world.status().fbtrace_id.as_deref(), Some("Aread"));
    assert!(world.status().registration_time.is_some());
    assert!(world.is_at_rest());
}

#[test]
fn an_annotation_that_came_with_the_resource_counts_as_handled() {
    let mut world = World::new();
    world.annotate("from Git");
    world.reading = reading(RegistrationState::Registered);
    world.pass();
    assert_eq!(
        world.status().last_handled_register_request.as_deref(),
        Some("from Git")
    );
    assert!(world.is_at_rest());
    assert!(world.posts.is_empty());
}

/// A number whose fields fit nothing is read three more times, and then gets one call.
#[test]
fn an_unclear_number_is_read_again_before_its_one_call() {
    let mut world = World::new();
    world.reading = reading(RegistrationState::Unclear(None));
    world.answer(unknown());
    for wait in [30, 90, 270] {
        let steps = world.pass();
        assert_eq!(steps[..2], [Step::Secrets, Step::Read]);
        assert_eq!(
            world.shown(),
            "Registered=False Failed=True Reconciling GraphUnavailable"
        );
        assert_eq!(world.next_in(), Some(secs(wait)));
        world.wait(secs(wait));
    }
    assert!(world.pass().contains(&Step::Claim));
    // What became of it cannot be seen either.
    world.run_for(secs(72 * 3600));
    assert_eq!(world.posts.len(), 1);
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Stalled OutcomeUnknown"
    );
    assert!(world.is_at_rest());
}

/// Any other error of Graph's is asked for again as often, and then stalls: nothing is spent.
#[test]
fn an_unclear_error_stalls_without_a_call() {
    let mut world = World::new();
    let state = RegistrationState::Unclear(Some(Reason::InvalidRequest));
    world.reading = failed_reading(state, graph_error(400, 100, None));
    let steps = world.run_for(secs(3600));
    let reads = steps.iter().filter(|step| **step == Step::Read).count();
    assert_eq!(reads, 4);
    assert!(world.posts.is_empty());
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Stalled InvalidRequest"
    );
    assert!(world.is_at_rest());
    // A number that can be read again is looked at when something changes.
    world.reading = reading(RegistrationState::Registered);
    world.secrets = Ok(digests("another token", "pin"));
    world.run_for(secs(3600));
    assert!(world.status().registration.is_some());
}

/// No token or PIN changes what the number is.
#[test]
fn a_number_of_the_business_app_stalls_whatever_comes_next() {
    let mut world = World::after(RegisterOutcome {
        reason: Reason::BusinessAppNumber,
        ..refused(400, 100, None)
    });
    let shown = "Registered=False Failed=True Stalled BusinessAppNumber";
    assert_eq!(world.shown(), shown);
    for (token, pin) in [("other", "pin"), ("other", "another"), ("third", "another")] {
        world.secrets = Ok(digests(token, pin));
        world.run_for(secs(3600));
        assert_eq!(world.shown(), shown);
    }
    assert_eq!(world.posts.len(), 1);
    world.annotate("left the app");
    world.run_for(secs(3600));
    assert_eq!(world.posts.len(), 2);
}

/// Graph rejects a whole read for one field that it does not know.
#[test]
fn a_field_that_graph_does_not_know_is_not_asked_for_again() {
    let mut world = World::new();
    world.reading = reading(RegistrationState::Registered);
    world.run_for(secs(3600));
    let known = world.status().phone_number.clone().expect("a number");
    let mut world = World::new();
    world.resource.status.get_or_insert_default().phone_number = Some(known.clone());
    world.reading = failed_reading(RegistrationState::LacksField, graph_error(400, 100, None));
    world.short_reading = Some(reading(RegistrationState::Registered));
    let steps = world.pass();
    assert_eq!(steps[..3], [Step::Secrets, Step::Read, Step::Read]);
    assert!(world.status().registration.is_some());
    assert_eq!(world.status().phone_number, Some(known));

    let mut world = World::new();
    world.reading = failed_reading(RegistrationState::LacksField, graph_error(400, 100, None));
    assert_eq!(world.pass()[..3], [Step::Secrets, Step::Read, Step::Read]);
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Reconciling InvalidRequest"
    );
}

#[test]
fn faults_of_secrets_cost_nothing_and_only_some_stall() {
    let waiting = "Registered=False Failed=True Reconciling";
    let stalled = "Registered=False Failed=True Stalled";
    let table = [
        (Reason::SecretNotFound, waiting),
        (Reason::SecretKeyMissing, waiting),
        (Reason::InvalidToken, stalled),
        (Reason::InvalidPin, stalled),
        (Reason::InvalidBackup, stalled),
    ];
    for (reason, shown) in table {
        let mut world = World::new();
        let message = "the Secret meta is no good".to_owned();
        world.secrets = Err(SecretFault { reason, message });
        assert_eq!(
            world.pass(),
            [Step::Secrets, Step::Settle(Requeue::OnChange)],
            "{reason}"
        );
        assert_eq!(world.shown(), format!("{shown} {reason}"));
        assert_eq!(world.next_in(), None);
        assert!(world.is_at_rest());
        // Mended: it goes on by itself.
        world.secrets = Ok(digests("token", "pin"));
        assert!(world.pass().contains(&Step::Claim), "{reason}");
    }
}

#[test]
fn unwatched_secrets_are_polled_and_not_all_at_once() {
    for (jitter, poll) in [(0.0, 30), (0.5, 60), (1.0, 90)] {
        let mut world = World::new();
        world.lose_secret();
        for mut world in [world, World::after(pin_mismatch())] {
            world.policy.secret_poll = Some(secs(60));
            world.jitter = jitter;
            let polls = Step::Settle(Requeue::After(secs(poll)));
            assert_eq!(world.pass().last(), Some(&polls));
        }
    }
}

#[test]
fn all_resources_together_poll_fifty_secrets_a_minute() {
    let mut policy = World::new().policy;
    assert_eq!(policy.polling(10_000).secret_poll, None, "they are watched");
    policy.secret_poll = Some(secs(60));
    for (secrets, poll) in [(0, 60), (50, 60), (1_000, 1_200), (10_000, 12_000)] {
        assert_eq!(policy.polling(secrets).secret_poll, Some(secs(poll)));
    }
}

#[test]
fn what_a_read_can_stall() {
    for (reason, code) in [
        (Reason::TokenRejected, Some(190)),
        (Reason::PermissionDenied, Some(200)),
        (Reason::PhoneNumberNotFound, Some(33)),
        (Reason::AccountLocked, None),
    ] {
        let mut world = World::new();
        world.reading = match code {
            Some(code) => failed_reading(
                RegistrationState::Stall(reason),
                graph_error(400, code, None),
            ),
            None => reading(RegistrationState::Stall(reason)),
        };
        world.pass();
        assert_eq!(
            world.shown(),
            format!("Registered=False Failed=True Stalled {reason}")
        );
        assert!(world.status().attempts.is_empty());
        assert!(world.is_at_rest());
        // A Secret that changes lifts it, another generation does not.
        world.bump();
        assert_eq!(
            world.pass(),
            [Step::Secrets, Step::Settle(Requeue::OnChange)]
        );
        assert_eq!(world.status().observed_generation, 2);
        world.secrets = Ok(digests("other", "pin"));
        world.reading = reading(RegistrationState::NotRegistered);
        assert!(world.pass().contains(&Step::Claim));
    }
}

#[test]
fn reads_without_an_answer_are_repeated_with_growing_waits_and_cost_nothing() {
    let mut world = World::new();
    world.reading = failed_reading(
        RegistrationState::Wait(Reason::GraphUnavailable),
        graph_error(503, 2, None),
    );
    for (failures, wait) in [(1, 30), (2, 90), (3, 270), (4, 600), (5, 600)] {
        assert!(world.pass().contains(&Step::Read));
        assert_eq!(world.status().read_failures, failures);
        assert_eq!(world.next_in(), Some(secs(wait)));
        assert!(world.is_at_rest());
        world.wait(secs(wait));
    }
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Reconciling GraphUnavailable"
    );
    world.reading = reading(RegistrationState::NotRegistered);
    assert!(world.pass().contains(&Step::Claim));
    assert_eq!(world.status().read_failures, 0);
    assert_eq!(world.posts.len(), 1);
}

#[test]
fn a_read_that_fails_inside_graph_gives_no_verdict() {
    // A 500 with a code that would stall a register call.
    let mut world = World::after(refused(500, 2, None));
    world.wait(hours(1));
    world.reading = failed_reading(
        RegistrationState::Wait(Reason::GraphUnavailable),
        graph_error(500, 100, None),
    );
    world.pass();
    world.wait(hours(1));
    world.reading = reading(RegistrationState::NotRegistered);
    assert!(world.pass().contains(&Step::Claim), "{}", world.shown());
}

#[test]
fn a_rate_limited_read_lets_the_token_cool_down() {
    let mut world = World::new();
    world.reading = failed_reading(
        RegistrationState::Wait(Reason::RateLimited),
        graph_error(400, 4, None),
    );
    world.reading.retry_after = Some(secs(600));
    world.pass();
    assert_eq!(world.next_in(), Some(secs(600)));
    let limited = world.status().token_wait.as_ref();
    assert_eq!(limited.map(|wait| wait.digest.as_str()), Some("token"));
    assert_eq!(world.cool_downs.len(), 1);
    world.wait(secs(600));
    world.reading = reading(RegistrationState::NotRegistered);
    assert!(world.pass().contains(&Step::Claim));
}

#[test]
fn what_was_read_counts_although_the_token_met_a_limit_elsewhere_meanwhile() {
    let world = World::new();
    let inputs = world.secrets.clone().into();
    let decide = |verdict| {
        let observed = operator_core::model::Observed {
            resource: &world.resource,
            policy: &world.policy,
            peers: &world.peers,
            open_claim: operator_core::model::OpenClaim::SeenFor(secs(0)),
            last_read: Some(world.now),
            inputs: &inputs,
            cooldown: Some(operator_core::model::Cooldown {
                until: plus(world.now, hours(1)),
                in_a_row: 1,
            }),
            refused_pin: None,
            dropped_fields: None,
            reading: Some(&reading(verdict)),
            details: None,
            survey: None,
            finalizer_refused: false,
            plan: None,
            busy: None,
            fresh_id: "cooling",
            jitter: 0.0,
        };
        match operator_core::model::decide(&observed, world.now) {
            Decision::Settle(status, _) => {
                find(&status, conditions::READY).map(|c| c.reason.clone())
            }
            decision => panic!("{decision:?} while the token cools down"),
        }
    };
    for (verdict, reason) in [
        (RegistrationState::Registered, Reason::AlreadyRegistered),
        (
            RegistrationState::Stall(Reason::PhoneNumberNotFound),
            Reason::PhoneNumberNotFound,
        ),
        // Nothing is known that would end the wait, and no call is made in it.
        (RegistrationState::NotRegistered, Reason::RateLimited),
    ] {
        assert_eq!(decide(verdict).as_deref(), Some(reason.as_str()));
    }
}

#[test]
fn what_turns_out_registered_is_confirmed_and_not_sent_again() {
    for outcome in [
        unknown(),
        rejected(),
        refused(500, 2, None),
        refused(422, 100, None),
    ] {
        let mut world = World::after(outcome.clone());
        world.wait(secs(3));
        world.reading = reading(RegistrationState::Registered);
        world.run_for(secs(150));
        assert_eq!(
            world.shown(),
            "Registered=True Failed=False OutcomeConfirmed",
            "{outcome:?}"
        );
        let attempt = world.last_attempt();
        assert_eq!(attempt.outcome(), Some(AttemptOutcome::Succeeded));
        assert_eq!(attempt.known_reason(), Some(Reason::OutcomeConfirmed));
        assert_eq!(world.posts.len(), 1);
        assert!(world.status().last_error.is_none());
        assert!(world.is_at_rest());
    }
}

#[test]
fn a_reading_is_written_again_only_when_it_says_something_else() {
    let mut world = World::after(unknown());
    world.wait(secs(2));
    world.pass();
    let first = world.status().phone_number.clone().unwrap();
    world.wait(secs(4));
    assert!(world.pass().contains(&Step::Read));
    assert_eq!(world.status().phone_number, Some(first));
}

#[test]
fn a_resource_that_is_being_deleted_is_left_alone() {
    let mut world = World::new();
    world.resource.metadata.deletion_timestamp = Some(
        k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(world.now),
    );
    assert_eq!(world.pass(), [Step::Settle(Requeue::OnChange)]);
    assert!(find(world.status(), conditions::REGISTERED).is_none());
}

/// Whatever token comes next: what stands against the request is the number.
#[test]
fn a_request_for_a_number_of_the_business_app_stays_answered() {
    let mut world = World::registered();
    world.wait(hours(1));
    world.annotate("now");
    world.reading = failed_reading(
        RegistrationState::Stall(Reason::BusinessAppNumber),
        graph_error(400, 100, None),
    );
    for token in ["token", "other"] {
        world.secrets = Ok(digests(token, "pin"));
        world.run_for(secs(600));
        let stall = world.status().stall.as_ref().expect("a stall");
        assert_eq!(stall.reason, Reason::BusinessAppNumber);
        assert_eq!(stall.request.as_deref(), Some("now"));
    }
    assert_eq!(world.posts.len(), 1);
}
