//! What follows from each answer of Graph and when, the confirm window, budgets and cool-downs.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use operator_core::api::Operation;
use operator_core::api::Reason;
use operator_core::api::conditions;
use operator_core::api::conditions::find;
use operator_core::api::{AttemptOutcome, LedgerEntry, TokenWait, WhatsAppPhoneNumberStatus};
use operator_core::credentials::{Digests, SecretFault};
use operator_core::graph::{ReadOutcome, RegisterOutcome, RegistrationState};
use operator_core::model::schedule::plus;
use operator_core::model::{RefusedPin, Requeue};
use testkit::world::*;

/// How the number came to be registered.
fn registered_by(world: &World) -> Option<Reason> {
    let registration = world.status().registration.as_ref();
    registration.map(|found| found.reason)
}

/// A number whose fifth call has just ended in a server error; the next calls would as well.
fn failed_five_times() -> World {
    let mut world = World::new();
    (0..9).for_each(|_| world.answer(refused(500, 131_000, None)));
    while world.posts.len() < 5 {
        world.run_for(secs(30));
    }
    world
}

#[test]
fn answers_that_stall_and_for_ever() {
    let table: &[(Reason, RegisterOutcome)] = &[
        (Reason::TokenRejected, refused(401, 190, None)),
        (Reason::PermissionDenied, refused(403, 10, None)),
        (Reason::PhoneNumberNotFound, refused(400, 100, Some(33))),
        (Reason::PinMismatch, pin_mismatch()),
        (Reason::AccountLocked, refused(403, 131_031, None)),
        (Reason::OwnershipNotVerified, refused(400, 133_006, None)),
        (Reason::InvalidRequest, refused(400, 100, None)),
        (
            Reason::DeregistrationIncomplete,
            refused(400, 133_000, None),
        ),
    ];
    for (reason, outcome) in table {
        let mut world = World::after(outcome.clone());
        let shown = format!("Registered=False Failed=True Stalled {reason}");
        assert_eq!(world.shown(), shown);
        assert_eq!(world.next_in(), None);
        assert_eq!(world.last_attempt().outcome(), Some(AttemptOutcome::Failed));
        for wait in [secs(1), hours(1), hours(100)] {
            world.wait(wait);
            assert_eq!(
                world.pass(),
                [Step::Secrets, Step::Settle(Requeue::OnChange)]
            );
            assert_eq!(world.shown(), shown);
        }
    }
}

#[test]
fn answers_that_are_tried_again_and_when() {
    let table: &[(Reason, RegisterOutcome, u64)] = &[
        (Reason::PinLocked, refused(400, 133_008, None), 3600),
        (
            Reason::CertificateUnavailable,
            refused(400, 100, Some(2_388_001)),
            7200,
        ),
        (
            Reason::RecentlyDeregistered,
            refused(400, 133_015, None),
            300,
        ),
        (
            Reason::RegistrationBlocked,
            refused(400, 133_016, None),
            72 * 3600,
        ),
        (Reason::RateLimited, rate_limited(None), 30),
        (Reason::RateLimited, rate_limited(Some(secs(900))), 900),
        (Reason::GraphUnavailable, refused(400, 2, None), 30),
        // After any 5xx nothing leaves before the confirm window has passed.
        (Reason::GraphUnavailable, refused(500, 2, None), 120),
        (Reason::GraphUnreachable, unreachable(), 30),
    ];
    for (reason, outcome, wait) in table {
        let mut world = World::after(outcome.clone());
        assert_eq!(
            world.shown(),
            format!("Registered=False Failed=True Reconciling {reason}")
        );
        assert_eq!(world.next_in(), Some(secs(*wait)), "{reason}");
        let calls = world.posts.len();
        world.run_for(secs(wait - 1));
        assert_eq!(world.posts.len(), calls, "{reason}");
        world.run_for(secs(2));
        assert_eq!(world.posts.len(), calls + 1, "{reason}");
        assert_eq!(
            world.shown(),
            "Registered=True Failed=False RegistrationSucceeded"
        );
    }
}

#[test]
fn every_post_is_preceded_by_a_read_in_its_pass() {
    let mut world = World::after(refused(400, 2, None));
    world.wait(secs(30));
    assert_eq!(world.pass(), [Step::Secrets, Step::Read, Step::Claim]);
}

#[test]
fn backoff_grows_by_three_to_18_hours_with_jitter_that_never_shortens() {
    let mut world = World::new();
    world.policy.attempt_limit = 10;
    let waits = [30, 90, 270, 810, 2430, 7290, 21_870, 64_800, 64_800];
    for wait in waits {
        world.answer(refused(400, 2, None));
        assert!(world.pass().contains(&Step::Claim));
        assert_eq!(world.next_in(), Some(secs(wait)));
        world.wait(secs(wait));
    }
    let mut jittered = World::new();
    jittered.jitter = 1.0;
    jittered.answer(refused(400, 2, None));
    jittered.pass();
    assert_eq!(jittered.next_in(), Some(secs(36)));
}

#[test]
fn unsent_calls_share_an_entry_and_cost_nothing() {
    let mut world = World::new();
    for _ in 0..12 {
        world.answer(unreachable());
    }
    world.run_for(hours(60));
    assert_eq!(world.posts.len(), 0);
    let attempts = &world.status().attempts;
    assert_eq!(attempts.len(), 1);
    assert!(attempts[0].count > Some(5));
    assert_eq!(attempts[0].outcome(), Some(AttemptOutcome::NotSent));
}

#[test]
fn few_tries_then_stall() {
    let table = [
        (Reason::PinLocked, refused(400, 133_009, None), 2),
        (
            Reason::CertificateUnavailable,
            refused(500, 131_045, None),
            3,
        ),
    ];
    for (reason, outcome, tries) in table {
        let mut world = World::new();
        (0..9).for_each(|_| world.answer(outcome.clone()));
        world.run_for(hours(200));
        assert_eq!(world.posts.len(), tries, "{reason}");
        assert_eq!(
            world.shown(),
            format!("Registered=False Failed=True Stalled {reason}")
        );
    }
}

#[test]
fn in_the_confirm_window_the_number_is_read_early_and_at_growing_intervals() {
    let mut world = World::after(unknown());
    assert_eq!(
        world.shown(),
        "Registered=Unknown Failed=False Reconciling OutcomeUnknown"
    );
    assert_eq!(world.next_in(), Some(WINDOW));
    let mut reads = Vec::new();
    while world.posts.len() == 1 {
        let steps = world.pass();
        if steps.contains(&Step::Read) {
            reads.push(world.now.as_second() - START);
        }
        if let Some(Step::Settle(Requeue::After(wait))) = steps.last() {
            assert_eq!(
                world.shown(),
                "Registered=Unknown Failed=False Reconciling OutcomeUnknown"
            );
            world.wait(*wait);
        }
    }
    assert_eq!(reads, [2, 6, 18, 54, 120]);
    assert!(world.is("Registered"));
}

#[test]
fn a_read_that_began_in_the_window_does_not_end_it() {
    let mut world = World::after(unknown());
    world.wait(secs(119));
    let inputs = world.secrets.clone().into();
    let reading = reading(RegistrationState::NotRegistered);
    let decide = |world: &World, now| {
        let observed = operator_core::model::Observed {
            resource: &world.resource,
            policy: &world.policy,
            peers: &world.peers,
            open_claim: operator_core::model::OpenClaim::SeenFor(secs(0)),
            last_read: Some(world.now),
            inputs: &inputs,
            cooldown: None,
            refused_pin: None,
            dropped_fields: None,
            reading: Some(&reading),
            details: None,
            survey: None,
            finalizer_refused: false,
            plan: None,
            busy: None,
            fresh_id: "late",
            jitter: 0.0,
        };
        operator_core::model::decide(&observed, now)
    };
    // The read began at 119 s and was answered at 121 s.
    let decision = decide(&world, plus(world.now, secs(2)));
    assert!(
        matches!(decision, operator_core::model::Decision::Settle(_, Requeue::After(wait)) if wait.is_zero()),
        "{decision:?}"
    );
    world.wait(secs(1));
    let decision = decide(&world, plus(world.now, secs(2)));
    assert!(matches!(decision, operator_core::model::Decision::Call(_)));
}

#[test]
fn a_rejection_is_confirmed_and_then_stalls() {
    let mut world = World::after(rejected());
    assert_eq!(
        world.shown(),
        "Registered=Unknown Failed=False Reconciling RegistrationRejected"
    );
    world.run_for(hours(100));
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Stalled RegistrationRejected"
    );
    assert_eq!(world.posts.len(), 1);
}

#[test]
fn a_422_is_checked_by_a_read_before_it_stalls() {
    let mut world = World::after(refused(422, 100, None));
    assert_eq!(world.next_in(), Some(secs(0)));
    assert_eq!(
        world.pass(),
        [Step::Secrets, Step::Read, Step::Settle(Requeue::OnChange)]
    );
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Stalled InvalidRequest"
    );
    assert!(world.is_at_rest());
}

#[test]
fn an_open_claim_waits_for_its_time_by_the_monotonic_clock() {
    let mut world = World::new();
    world.fate(Fate::Crash);
    world.pass();
    assert_eq!(
        world.shown(),
        "Registered=Unknown Failed=False Reconciling Registering"
    );
    assert_eq!(world.pass(), [Step::Settle(Requeue::After(TTL))]);
    // The clock on the wall says a day later; nobody has seen the claim for longer.
    world.now = plus(world.now, hours(24));
    assert_eq!(world.pass(), [Step::Settle(Requeue::After(TTL))]);
    world.bump();
    world.wait(TTL - secs(1));
    assert_eq!(world.pass(), [Step::Settle(Requeue::After(secs(1)))]);
    assert_eq!(world.status().observed_generation, 2);
    world.wait(secs(1));
    assert_eq!(world.pass(), [Step::Settle(Requeue::After(secs(0)))]);
    assert_eq!(
        world.last_attempt().outcome(),
        Some(AttemptOutcome::Unknown)
    );
    assert_eq!(
        world.shown(),
        "Registered=Unknown Failed=False Reconciling OutcomeUnknown"
    );
    // The window begins now, as nobody knows when the call was made.
    world.run_for(WINDOW - secs(1));
    assert_eq!(world.posts.len(), 1);
    world.run_for(secs(2));
    assert_eq!(world.posts.len(), 2);
}

#[test]
fn a_claim_that_was_certainly_not_sent_is_closed_at_once() {
    let told = |world: &World| find(world.status(), conditions::FAILED).map(|c| c.message.clone());
    let mut world = World::new();
    world.fate(Fate::StoredUnsent);
    world.pass();
    assert_eq!(world.pass(), [Step::Settle(Requeue::After(secs(0)))]);
    assert_eq!(world.last_attempt().known_reason(), Some(Reason::NotSent));
    assert_eq!(world.next_in(), Some(secs(30)));
    let told = told(&world).expect("a message");
    assert!(
        told.starts_with("The register call was claimed and not made."),
        "{told}"
    );
}

fn ledger(world: &World, ages: &[u64]) -> Vec<LedgerEntry> {
    let old = |(i, age): (usize, &u64)| {
        let at = world.now - hours(*age);
        attempt(&format!("old-{i}"), at, Reason::RateLimited)
    };
    ages.iter().enumerate().map(old).collect()
}

#[test]
fn the_budget_counts_open_claims_others_and_what_is_remembered() {
    let mut world = World::new();
    world.policy.attempt_limit = 3;
    world.status_mut().attempts = ledger(&world, &[20, 30]);
    assert!(world.pass().contains(&Step::Claim));

    let mut world = World::new();
    world.policy.attempt_limit = 3;
    let all = ledger(&world, &[20, 30, 40, 73]);
    world.status_mut().attempts = all[..1].to_vec();
    world.peers.attempts = all[1..].to_vec();
    world.pass();
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Reconciling AttemptBudgetExhausted"
    );
    assert_eq!(world.next_in(), Some(hours(32)));
    assert!(world.is_at_rest());
    world.run_for(hours(33));
    assert_eq!(world.posts.len(), 1);

    // An open claim of another resource is an attempt too.
    let mut world = World::new();
    world.policy.attempt_limit = 1;
    let at = world.now - hours(1);
    world.peers.attempts = vec![LedgerEntry::open(
        Operation::Register,
        "open",
        TTL,
        None,
        at,
    )];
    world.pass();
    assert_eq!(world.next_in(), Some(hours(71)));
}

/// Who may not see a number spends none of its budget, and blocks it for nobody.
#[test]
fn a_call_of_a_token_that_was_not_shown_the_number_costs_the_confirm_window_alone() {
    let mut world = World::new();
    world.policy.attempt_limit = 1;
    let at = world.now - secs(10);
    let blocked = attempt("blocked", at, Reason::RegistrationBlocked);
    world.peers.unseen_attempts = vec![attempt("other", at, Reason::PinMismatch), blocked];
    world.pass();
    assert_eq!(world.next_in(), Some(secs(110)));
    world.run_for(secs(110));
    assert_eq!(world.posts.len(), 1);
}

#[test]
fn an_attempt_tells_whether_the_read_before_it_showed_the_number() {
    let mut world = World::new();
    world.pass();
    assert_eq!(world.last_attempt().seen, Some(true));

    let mut world = World::new();
    world.reading = ReadOutcome {
        phone_number: None,
        ..reading(RegistrationState::Unclear(None))
    };
    world.run_for(hours(1));
    assert_eq!(world.posts.len(), 1, "the one call after unclear reads");
    assert_eq!(world.last_attempt().seen, Some(false));
}

#[test]
fn a_request_lifts_the_limit_but_never_beyond_metas() {
    for (made, posts) in [(9, 1), (10, 0)] {
        let mut world = World::new();
        world.status_mut().observed_generation = 1;
        let ages: Vec<u64> = (20..20 + made).collect();
        world.status_mut().attempts = ledger(&world, &ages);
        world.pass();
        assert!(world.shown().contains("AttemptBudgetExhausted"));
        world.annotate("again");
        world.pass();
        assert_eq!(world.posts.len(), posts, "after {made}");
    }
}

#[test]
fn a_block_holds_for_72_hours_whoever_met_it() {
    let mut world = World::new();
    let at = world.now - hours(1);
    world.peers.attempts = vec![attempt("other", at, Reason::RegistrationBlocked)];
    world.pass();
    assert!(world.shown().contains("Reconciling RegistrationBlocked"));
    assert_eq!(world.next_in(), Some(hours(71)));
    assert!(world.is_at_rest());
}

#[test]
fn another_token_need_not_wait_for_a_rate_limit() {
    let mut world = World::after(rate_limited(Some(hours(2))));
    assert_eq!(world.pass().len(), 2);
    world.secrets = Ok(digests("other", "pin"));
    assert_eq!(world.pass(), [Step::Secrets, Step::Read, Step::Claim]);

    // And what another resource met with this token holds this one, reads included.
    let mut world = World::new();
    world.cool_down("token", plus(world.now, hours(1)));
    assert_eq!(
        world.pass(),
        [Step::Secrets, Step::Settle(Requeue::After(hours(1)))]
    );
    assert!(
        world
            .shown()
            .contains("Failed=True Reconciling RateLimited")
    );
    assert!(world.is_at_rest());
    world.secrets = Ok(digests("other", "pin"));
    assert_eq!(world.pass(), [Step::Secrets, Step::Read, Step::Claim]);
}

#[test]
fn a_rate_limit_of_the_token_does_not_shorten_the_numbers_own_wait() {
    // Two hours, and a confirm window for the 5xx, in which the number is read.
    let mut world = World::after(refused(500, 131_045, None));
    world.pass();
    world.wait(secs(2));
    let limit = plus(world.now, secs(60));
    world.cool_down("token", limit);
    assert_eq!(
        world.pass(),
        [Step::Secrets, Step::Settle(Requeue::After(secs(60)))]
    );
    assert_eq!(world.next_in(), Some(hours(2) - secs(2)));
    assert!(world.shown().contains("CertificateUnavailable"));
    assert!(world.is_at_rest());
    world.run_for(hours(1));
    assert_eq!(world.posts.len(), 1);
    world.run_for(hours(1));
    assert_eq!(world.posts.len(), 2);
}

#[test]
fn another_token_does_not_end_a_wait_that_is_the_numbers_own() {
    let mut world = failed_five_times();
    world.run_for(WINDOW - secs(1));
    world.secrets = Ok(digests("other", "pin"));
    world.wait(secs(1));
    assert!(world.pass().contains(&Step::Read), "of the call before");
    let next = world.next_in().expect("a next attempt");
    world.wait(next.saturating_sub(secs(1)));
    world.pass();
    assert_eq!(world.posts.len(), 5);
    world.wait(secs(1));
    world.pass();
    assert_eq!(world.posts.len(), 6);
}

#[test]
fn the_numbers_own_wait_does_not_become_that_of_the_token() {
    let limited = || ReadOutcome {
        retry_after: Some(secs(30)),
        ..failed_reading(
            RegistrationState::Wait(Reason::RateLimited),
            graph_error(429, 80_007, None),
        )
    };
    let mut world = World::after(refused(500, 131_045, None));
    world.pass();
    world.wait(secs(2));
    world.reading = limited();
    world.pass();
    // The status of a rate limit is where a new process learns of the token's wait.
    assert_eq!(world.next_in(), Some(hours(2) - secs(2)));
    assert!(world.shown().contains("CertificateUnavailable"));
    assert_eq!(world.status().read_failures, 1);
    assert!(world.is_at_rest());
    let until = |world: &World| world.cool_downs.get("token").map(|known| known.until);
    assert_eq!(until(&world), Some(plus(world.now, secs(30))));
    world.run_for(hours(1));
    assert_eq!(world.posts.len(), 1);
}

/// A limit without a time is a backoff of the token's own, whatever the number has met before.
#[test]
fn a_numbers_bad_luck_is_not_its_tokens() {
    let mut world = World::new();
    world.reading = reading(RegistrationState::Wait(Reason::GraphUnreachable));
    world.run_for(hours(3));
    assert!(world.status().read_failures > 5);
    world.reading = reading(RegistrationState::Wait(Reason::RateLimited));
    world.wait(secs(600));
    world.pass();
    assert_eq!(world.next_in(), Some(secs(30)));

    let mut world = World::new();
    for _ in 0..4 {
        world.answer(refused(500, 2, None));
    }
    world.answer(rate_limited(None));
    while world.posts.len() < 5 {
        world.run_for(secs(30));
    }
    let wait = world.status().token_wait.clone().expect("a wait");
    assert_eq!(wait.until.0, plus(world.posts[4].0, secs(30)));
    assert!(world.next_in() > Some(secs(2_000)));
}

#[test]
fn a_read_that_meets_no_limit_ends_a_row_of_limits() {
    for (state, ended) in [
        (RegistrationState::Registered, true),
        (RegistrationState::Wait(Reason::GraphUnavailable), false),
    ] {
        let mut world = World::new();
        world.cool_down("token", world.now);
        world.wait(secs(1));
        world.reading = reading(state);
        world.pass();
        assert_eq!(world.cool_downs.is_empty(), ended, "{state:?}");
    }
}

/// A number that waits for its turn says so once, however often the token meets its limit.
#[test]
fn a_wait_for_the_token_is_written_once() {
    let mut world = World::new();
    world.cool_down("token", plus(world.now, secs(60)));
    world.pass();
    let held = world.status().clone();
    for _ in 0..5 {
        world.wait(secs(60));
        world.cool_down("token", plus(world.now, secs(60)));
        world.pass();
        assert_eq!(world.status(), &held);
    }
    world.wait(secs(60));
    assert!(world.pass().contains(&Step::Claim));
}

/// A resource that is deleted and made again loses its status, and not what the process remembers.
#[test]
fn a_pin_that_was_refused_is_not_sent_for_a_resource_made_again() {
    let mut world = World::after(pin_mismatch());
    let again = |world: &mut World| {
        world.resource.status = Some(WhatsAppPhoneNumberStatus::unseen());
        world.last_read = None;
    };
    for _ in 0..5 {
        again(&mut world);
        world.run_for(secs(180));
        assert_eq!(
            world.shown(),
            "Registered=False Failed=True Stalled PinMismatch"
        );
    }
    assert_eq!(world.posts.len(), 1);
    // It is adopted all the same.
    again(&mut world);
    world.reading = reading(RegistrationState::Registered);
    world.run_for(secs(180));
    assert!(world.status().registration.is_some());
    // Another PIN is tried.
    again(&mut world);
    world.reading = reading(RegistrationState::NotRegistered);
    world.secrets = Ok(digests("token", "another"));
    world.run_for(secs(180));
    assert_eq!(world.posts.len(), 2);
}

/// After another token, the digests are no longer those of the call that was refused.
#[test]
fn a_refusal_is_not_known_by_the_digests_of_another_token() {
    let mut world = World::after(pin_mismatch());
    assert!(RefusedPin::of(world.status()).is_some());
    let stall = world.status_mut().stall.as_mut();
    stall.expect("a stall").token_changed = true;
    assert_eq!(RefusedPin::of(world.status()), None);
}

/// Meta has refused the PIN, and not the version.
#[test]
fn a_refused_pin_is_not_sent_again_as_something_else_changes() {
    for outcome in [pin_mismatch(), refused(400, 133_008, None)] {
        let mut world = World::after(outcome.clone());
        world.answer(outcome);
        world.run_for(hours(3));
        let posts = world.posts.len();
        let shown = world.shown();
        assert!(shown.contains("Stalled Pin"), "{shown}");
        let known = digests("token", "pin");
        world.secrets = Ok(Digests {
            inputs: "another version".to_owned(),
            ..known.clone()
        });
        world.run_for(hours(100));
        assert_eq!((world.posts.len(), world.shown()), (posts, shown));
        let message = find(world.status(), conditions::FAILED).expect("a condition");
        assert!(!message.message.contains("cannot tell"), "{message:?}");
        world.secrets = Ok(digests("token", "another"));
        world.run_for(hours(1));
        assert_eq!(world.posts.len(), posts + 1);
    }
}

#[test]
fn a_time_that_graph_names_with_a_passing_fault_is_waited_for() {
    let mut fault = refused(503, 2, None);
    fault.retry_after = Some(hours(1));
    let mut world = World::after(fault);
    world.pass();
    assert_eq!(world.next_in(), Some(hours(1)));
}

#[test]
fn no_call_soon_after_one_for_another_resource_of_the_number() {
    let mut world = World::new();
    let made = attempt("other", world.now - secs(10), Reason::PinMismatch);
    world.peers.attempts = vec![made];
    world.pass();
    assert_eq!(world.next_in(), Some(secs(110)));
    assert!(world.is_at_rest());
    world.run_for(secs(109));
    assert!(world.posts.is_empty());
    world.run_for(secs(1));
    assert_eq!(world.posts.len(), 1);
}

#[test]
fn failed_reads_in_the_window_keep_the_verdict_open() {
    let mut world = World::after(unknown());
    world.wait(secs(2));
    world.reading = failed_reading(
        RegistrationState::Wait(Reason::GraphUnavailable),
        graph_error(503, 2, None),
    );
    world.pass();
    assert_eq!(
        world.shown(),
        "Registered=Unknown Failed=False Reconciling OutcomeUnknown"
    );
    assert_eq!(world.next_in(), Some(secs(30)));
    assert!(world.is_at_rest());
    world.run_for(hours(1));
    assert_eq!(world.posts.len(), 1);
}

/// What became of a call is found out at the end of the confirm window, however long the next call has to wait.
#[test]
fn a_lost_answer_is_settled_by_the_read_after_the_window() {
    let mut world = World::new();
    for _ in 0..5 {
        world.answer(unknown());
    }
    let mut waits = Vec::new();
    while world.posts.len() < 5 {
        world.run_for(secs(30));
    }
    for pair in world.posts.windows(2) {
        waits.push((pair[1].0.duration_since(pair[0].0)).as_secs());
    }
    assert_eq!(waits, [120, 120, 270, 810]);
    let due = world.next_in();
    assert_eq!(due, Some(secs(2430)));
    let reads = |steps: Vec<Step>| steps.iter().filter(|step| **step == Step::Read).count();
    assert_eq!(reads(world.run_for(WINDOW - secs(1))), 4);
    assert!(world.shown().starts_with("Registered=Unknown Failed=False"));
    assert_eq!(reads(world.run_for(secs(1))), 1);
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Reconciling OutcomeUnknown"
    );
    assert_eq!(reads(world.run_for(hours(1) / 2)), 0);
    assert_eq!(world.posts.len(), 5);
}

/// The same after a server error that Graph sent as JSON: the call may have acted.
#[test]
fn a_server_error_is_settled_by_the_read_after_the_window() {
    for lagging in [false, true] {
        let mut world = World::new();
        for _ in 0..5 {
            world.answer(refused(500, 131_000, None));
        }
        while world.posts.len() < 5 {
            world.run_for(secs(30));
        }
        let reads = |steps: Vec<Step>| steps.iter().filter(|step| **step == Step::Read).count();
        assert_eq!(reads(world.run_for(WINDOW - secs(1))), 4);
        if lagging {
            world.reading = reading(RegistrationState::Registered);
        }
        assert_eq!(reads(world.run_for(secs(1))), 1);
        assert_eq!(world.is(conditions::REGISTERED), lagging);
        // Once is enough.
        assert_eq!(reads(world.run_for(hours(1) / 2)), 0);
        assert_eq!(world.posts.len(), 5);
    }
}

/// A number whose read fails then is read again soon, and its outcome stays unknown.
#[test]
fn reads_that_fail_after_the_window_are_repeated_on_their_own() {
    let mut world = World::new();
    for _ in 0..5 {
        world.answer(unknown());
    }
    while world.posts.len() < 5 {
        world.run_for(secs(30));
    }
    world.run_for(WINDOW - secs(1));
    world.reading = failed_reading(
        RegistrationState::Wait(Reason::GraphUnavailable),
        graph_error(503, 2, None),
    );
    world.run_for(secs(1));
    assert_eq!(world.next_in(), Some(secs(30)));
    assert!(world.shown().starts_with("Registered=Unknown Failed=False"));
    world.reading = reading(RegistrationState::NotRegistered);
    world.run_for(secs(30));
    assert_eq!(world.next_in(), Some(secs(2430 - 150)));
    assert_eq!(world.posts.len(), 5);
    world.reading = reading(RegistrationState::Registered);
    world.run_for(hours(1));
    assert!(world.status().registration.is_some());
    assert_eq!(world.posts.len(), 5);
}

/// Reads spend nothing: what has changed may be what they failed for.
#[test]
fn a_new_generation_ends_the_wait_for_a_read() {
    let mut world = World::new();
    world.reading = reading(RegistrationState::Wait(Reason::GraphUnreachable));
    world.run_for(hours(2));
    world.bump();
    assert!(world.pass().contains(&Step::Read));
    assert_eq!(world.next_in(), Some(secs(600)));
    assert_eq!(world.pass(), [Step::Settle(Requeue::After(secs(600)))]);

    // The wait of a call is not one of them.
    let mut world = World::after(refused(400, 2, None));
    world.bump();
    assert!(!world.pass().contains(&Step::Read));
}

#[test]
fn a_new_generation_ends_the_wait_for_a_clear_answer() {
    let mut world = World::new();
    world.reading = reading(RegistrationState::Unclear(None));
    world.pass();
    assert!(world.next_in().is_some_and(|next| next > secs(1)));
    world.wait(secs(1));
    assert!(!world.pass().contains(&Step::Read));
    world.bump();
    assert!(world.pass().contains(&Step::Read));
}

/// Two limits of one token, and waits of the number's own beside them.
#[test]
fn a_limit_of_the_token_lies_over_the_numbers_own_wait() {
    let mut world = World::after(refused(500, 131_000, None));
    let until = plus(world.now, hours(1));
    world.wait(WINDOW);
    world.cool_down("token", until);
    world.pass();
    let hold = world.status().hold.as_ref().expect("a hold");
    assert_eq!(hold.reason, Reason::RateLimited);
    let own = world.status().wait.as_ref().expect("a wait");
    assert_eq!(own.reason, Reason::GraphUnavailable);

    // One that ends later is what people see.
    for (token, earlier, held) in [
        ("token", secs(1), false),
        ("token", secs(0), true),
        ("other", secs(1), false),
    ] {
        let mut world = failed_five_times();
        world.run_for(WINDOW - secs(1));
        let own = world.next_in().expect("a wait") - secs(1);
        world.wait(secs(1));
        world.secrets = Ok(digests(token, "pin"));
        world.cool_down(token, plus(world.now, own.saturating_sub(earlier)));
        world.pass();
        assert_eq!(world.status().hold.is_some(), held);
        assert_eq!(world.next_in(), (!held).then_some(own));
    }
}

/// Of two waits that end together the new one is told.
#[test]
fn a_limit_that_a_read_meets_is_told_if_it_does_not_end_before_the_numbers_own_wait() {
    for (earlier, told) in [
        (secs(1), Reason::GraphUnavailable),
        (secs(0), Reason::RateLimited),
    ] {
        let mut world = failed_five_times();
        world.run_for(WINDOW - secs(1));
        let own = world.next_in().expect("a wait") - secs(1);
        world.wait(secs(1));
        world.reading = ReadOutcome {
            retry_after: Some(own.saturating_sub(earlier)),
            ..reading(RegistrationState::Wait(Reason::RateLimited))
        };
        world.pass();
        let wait = world.status().wait.as_ref().expect("a wait");
        assert_eq!(wait.reason, told);
        assert_eq!(world.next_in(), Some(own));
    }
}

#[test]
fn the_read_at_the_end_of_the_window_follows_however_late_the_one_before_was() {
    let mut world = World::after(unknown());
    world.wait(WINDOW - secs(1));
    world.last_read = Some(world.now);
    assert!(!world.pass().contains(&Step::Read));
    world.wait(secs(1));
    assert!(world.pass().contains(&Step::Read));
}

#[test]
fn the_number_is_read_early_in_the_window_of_another_resources_call() {
    let mut world = World::new();
    let made = attempt("other", world.now, Reason::GraphUnavailable);
    world.peers.attempts = vec![made];
    let steps = world.pass();
    let Some(Step::Settle(Requeue::After(wait))) = steps.last() else {
        panic!("{steps:?}");
    };
    assert!(*wait < secs(60), "{wait:?}");
}

/// What a deletion goes by.
#[test]
fn a_number_may_be_registered_until_a_read_after_the_window_says_no() {
    let mut world = World::after(rejected());
    assert!(world.status().may_be_registered);
    world.run_for(WINDOW - secs(1));
    assert!(world.status().may_be_registered);
    world.run_for(secs(1));
    assert!(world.is(conditions::STALLED), "{}", world.shown());
    assert!(!world.status().may_be_registered);
}

/// A stall for what the call ended with settles it: what comes to be registered later is not by this call.
#[test]
fn a_call_that_stalled_is_settled() {
    let mut world = World::after(rejected());
    world.run_for(hours(1));
    assert!(world.is(conditions::STALLED), "{}", world.shown());
    world.secrets = Ok(digests("other", "other"));
    world.reading = reading(RegistrationState::Registered);
    world.run_for(hours(1));
    assert_eq!(registered_by(&world), Some(Reason::AlreadyRegistered));
}

#[test]
fn the_wait_for_another_tokens_limit_is_over_with_that_token() {
    let mut world = World::after(rate_limited(Some(hours(2))));
    world.secrets = Ok(digests("other", "pin"));
    world.cool_down("other", plus(world.now, secs(600)));
    world.pass();
    assert!(world.status().wait.is_none(), "{}", world.shown());
    world.run_for(secs(601));
    assert_eq!(world.posts.len(), 2);
}

#[test]
fn a_claim_keeps_the_limit_of_another_token_while_it_lasts() {
    let limit = |token: &str, wait: Duration, now| TokenWait {
        digest: token.to_owned(),
        until: Time(plus(now, wait)),
        in_a_row: 1,
    };
    for (token, wait, kept) in [
        ("other", hours(1), true),
        ("other", secs(0), false),
        ("token", secs(0), false),
        ("token", hours(1), false),
    ] {
        let mut world = World::new();
        world.status_mut().token_wait = Some(limit(token, wait, world.now));
        world.fate(Fate::Crash);
        assert!(world.pass().contains(&Step::Claim), "{token} {wait:?}");
        assert_eq!(
            world.status().token_wait.is_some(),
            kept,
            "{token} {wait:?}"
        );
    }
}

/// An attempt that Graph refused clearly has not registered the number, whoever has.
#[test]
fn only_an_unclear_attempt_is_confirmed_by_an_adoption() {
    for (outcome, reason) in [
        (pin_mismatch(), Reason::AlreadyRegistered),
        (unknown(), Reason::OutcomeConfirmed),
    ] {
        let mut world = World::after(outcome);
        world.secrets = Ok(digests("token", "another"));
        world.reading = reading(RegistrationState::Registered);
        world.run_for(hours(1));
        assert_eq!(registered_by(&world), Some(reason));
        let confirmed = world.last_attempt().outcome() == Some(AttemptOutcome::Succeeded);
        assert_eq!(confirmed, reason == Reason::OutcomeConfirmed);
    }
}

/// A stall by a read does not settle the call before it.
#[test]
fn an_outcome_stays_open_while_reads_are_refused() {
    let mut world = World::after(unknown());
    world.reading = failed_reading(
        RegistrationState::Stall(Reason::TokenRejected),
        graph_error(401, 190, None),
    );
    world.run_for(hours(1));
    assert!(world.is(conditions::STALLED));
    world.secrets = Ok(digests("other", "pin"));
    world.reading = reading(RegistrationState::Registered);
    world.run_for(hours(1));
    assert_eq!(registered_by(&world), Some(Reason::OutcomeConfirmed));
}

#[test]
fn what_a_read_that_stalls_says_is_the_last_error() {
    let code = |world: &World| {
        world
            .status()
            .last_error
            .as_ref()
            .and_then(|error| error.code)
    };
    // It takes the place of an earlier verdict.
    let mut world = World::after(refused(400, 100, None));
    assert_eq!(code(&world), Some(100));
    world.annotate("now");
    world.reading = failed_reading(
        RegistrationState::Stall(Reason::PermissionDenied),
        graph_error(403, 10, None),
    );
    world.run_for(secs(600));
    assert_eq!(code(&world), Some(10));
    // One without an error leaves none of a call that failed in passing.
    let mut world = World::after(refused(500, 131_000, None));
    world.reading = reading(RegistrationState::Stall(Reason::AccountLocked));
    world.run_for(hours(1));
    assert!(world.is(conditions::STALLED));
    assert_eq!(code(&world), None);
}

#[test]
fn a_read_in_passing_is_the_last_error_unless_there_is_a_verdict() {
    let code = |world: &World| {
        world
            .status()
            .last_error
            .as_ref()
            .and_then(|error| error.code)
    };
    let failing = |code| {
        failed_reading(
            RegistrationState::Wait(Reason::GraphUnavailable),
            graph_error(503, code, None),
        )
    };
    for (answer, shown) in [(2, Some(2)), (190, None)] {
        let mut world = World::new();
        world.reading = failing(answer);
        world.pass();
        assert_eq!(code(&world), shown);
    }
    let mut world = World::after(pin_mismatch());
    world.secrets = Ok(digests("token", "another"));
    world.reading = failing(2);
    assert!(world.pass().contains(&Step::Read));
    assert_eq!(code(&world), Some(133_005));
}

/// A read that tells nothing is repeated, but does not bring a call forward.
#[test]
fn an_unclear_read_leaves_the_numbers_own_wait() {
    let mut world = failed_five_times();
    let due = world.next_in().expect("a next attempt");
    world.run_for(WINDOW - secs(1));
    world.reading = reading(RegistrationState::Unclear(None));
    world.run_for(secs(1));
    assert_eq!(world.next_in(), Some(due.saturating_sub(WINDOW)));
}

/// The reads in the window are the same for a call that was asked for.
#[test]
fn the_outcome_of_a_requested_call_is_read_for_in_the_window() {
    let mut world = World::after(pin_mismatch());
    world.wait(hours(1));
    world.annotate("now");
    world.answer(unknown());
    assert!(world.pass().contains(&Step::Claim));
    let steps = world.run_for(WINDOW - secs(1));
    let reads = steps.iter().filter(|step| **step == Step::Read).count();
    assert_eq!(reads, 4);
}

/// Its own wait, and a request, do not change that.
#[test]
fn the_window_of_a_call_lies_over_a_wait_and_a_request() {
    let mut world = World::after(refused(400, 2, None));
    world.wait(secs(31));
    let made = attempt("other", world.now, Reason::GraphUnavailable);
    world.peers.attempts = vec![made];
    world.pass();
    let hold = world.status().hold.as_ref().expect("a hold");
    assert_eq!(hold.message, "a call for this number was made moments ago");

    let mut world = World::after(unknown());
    world.wait(secs(3));
    world.annotate("now");
    world.pass();
    let hold = world.status().hold.as_ref().expect("a hold");
    assert_eq!(hold.message, "a call for this number was made moments ago");
}

#[test]
fn a_wait_for_others_says_what_for() {
    for (operation, says) in [
        (
            Operation::Register,
            "a call for this number was made moments ago",
        ),
        (
            Operation::Deregister,
            "a deregister call for this number was made moments ago, and Meta needs five minutes for it",
        ),
    ] {
        let mut world = World::new();
        let mut made = attempt("other", world.now, Reason::GraphUnavailable);
        made.operation = operation;
        world.peers.attempts = vec![made];
        world.pass();
        let hold = world.status().hold.as_ref().expect("a hold");
        assert_eq!(hold.message, says);
    }
}

#[test]
fn an_early_read_that_finds_the_number_registered_confirms_at_once() {
    let mut world = World::after(unknown());
    world.reading = reading(RegistrationState::Registered);
    world.wait(secs(2));
    let steps = world.pass();
    assert!(steps.contains(&Step::Read), "{steps:?}");
    assert_eq!(
        world.shown(),
        "Registered=True Failed=False OutcomeConfirmed"
    );
    assert_eq!(world.posts.len(), 1);
}

// --- what a verdict outlasts ---

#[test]
fn a_refused_token_that_comes_back_after_another_ones_rate_limit_is_no_change() {
    let mut world = World::after(refused(403, 10, None));
    world.secrets = Ok(digests("other", "pin"));
    let limited = plus(world.now, hours(1));
    world.cool_down("other", limited);
    world.pass();
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Reconciling RateLimited"
    );
    world.secrets = Ok(digests("token", "pin"));
    assert!(!world.run_for(hours(100)).contains(&Step::Claim));
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Stalled PermissionDenied"
    );
}

#[test]
fn another_token_need_not_wait_after_a_suspension_either() {
    let mut world = World::after(rate_limited(Some(hours(2))));
    world.suspend(true);
    world.pass();
    world.suspend(false);
    world.secrets = Ok(digests("other", "pin"));
    assert!(world.pass().contains(&Step::Claim));
}

#[test]
fn a_read_without_an_error_leaves_a_refused_pin_refused() {
    let mut world = World::after(pin_mismatch());
    world.annotate("again");
    world.answer(unknown());
    world.pass();
    world.reading = reading(RegistrationState::Stall(Reason::AccountLocked));
    world.wait(secs(2));
    world.pass();
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Stalled AccountLocked"
    );
    // What hides the stall does not lift it.
    world.suspend(true);
    world.pass();
    world.suspend(false);
    world.reading = reading(RegistrationState::NotRegistered);
    assert!(!world.run_for(hours(100)).contains(&Step::Claim));
    assert!(world.is(conditions::STALLED));
}

#[test]
fn a_read_that_fails_after_a_change_has_lifted_a_stall_is_waited_out() {
    for mut world in [
        World::after(pin_mismatch()),
        World::after(refused(403, 10, None)),
    ] {
        world.secrets = Ok(digests("token", "right pin"));
        let failed = RegistrationState::Wait(Reason::GraphUnavailable);
        world.reading = failed_reading(failed, graph_error(503, 2, None));
        assert!(world.pass().contains(&Step::Read));
        assert_eq!(world.next_in(), Some(secs(30)));
        // Each read that failed was a write, which a watch brings at once.
        assert!(world.is_at_rest());
        world.wait(secs(30));
        world.reading = reading(RegistrationState::NotRegistered);
        assert!(world.pass().contains(&Step::Claim));
    }
}

#[test]
fn a_read_that_fails_before_a_requested_call_is_waited_out() {
    let mut world = World::after(unknown());
    world.annotate("again");
    world.wait(WINDOW);
    let failed = RegistrationState::Wait(Reason::GraphUnavailable);
    world.reading = failed_reading(failed, graph_error(503, 2, None));
    assert!(world.pass().contains(&Step::Read));
    assert_eq!(world.next_in(), Some(secs(30)));
    assert!(world.is_at_rest());
    world.wait(secs(30));
    world.reading = reading(RegistrationState::NotRegistered);
    assert!(world.pass().contains(&Step::Claim));
}

#[test]
fn a_hold_that_ends_earlier_does_not_shorten_a_wait() {
    // 100/2388001: the display name is not processed yet.
    let mut world = World::after(refused(400, 100, Some(2_388_001)));
    assert_eq!(world.next_in(), Some(hours(2)));
    // A request is held back by the token's cool-down, and withdrawn.
    world.cool_down("token", plus(world.now, secs(600)));
    world.annotate("now");
    world.pass();
    let held = world.status().hold.as_ref().map(|hold| hold.reason);
    assert_eq!(held, Some(Reason::RateLimited));
    world.remove_annotation();
    world.run_for(hours(2) - secs(60));
    assert_eq!(world.posts.len(), 1);
    world.run_for(hours(1));
    assert_eq!(world.posts.len(), 2);
}

#[test]
fn a_wait_that_graph_named_outlasts_a_secret_that_is_gone_for_a_while() {
    let mut world = World::new();
    for _ in 0..5 {
        world.answer(refused(400, 2, None));
    }
    world.answer(rate_limited(Some(secs(60))));
    while world.posts.len() < 6 {
        world.wait(world.next_in().unwrap_or_default());
        world.pass();
    }
    world.wait(secs(61));
    let secrets = world.secrets.clone();
    world.lose_secret();
    world.pass();
    assert_eq!(world.next_in(), None);
    world.secrets = secrets;
    let steps = world.pass();
    assert!(steps.contains(&Step::Claim), "{steps:?} {}", world.shown());
}

#[test]
fn what_a_hold_interrupts_is_not_unknown_again_afterwards() {
    let mut world = World::new();
    world.policy.attempt_limit = 1;
    world.answer(unknown());
    world.run_for(hours(1));
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Reconciling AttemptBudgetExhausted"
    );
    world.annotate("now");
    world.reading = reading(RegistrationState::Wait(Reason::GraphUnavailable));
    world.pass();
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Reconciling GraphUnavailable"
    );
}

#[test]
fn a_tokens_wait_too_far_ahead_counts_as_72_hours() {
    let mut world = World::registered();
    let ahead = plus(world.now, hours(100));
    world.status_mut().token_wait = Some(TokenWait::new("token", ahead, 1));
    world.pass();
    let stored = |world: &World| world.status().token_wait.as_ref().map(|wait| wait.until.0);
    assert_eq!(stored(&world), Some(plus(world.now, hours(72))));
    assert!(world.is_at_rest());
}

/// An API server whose CRD does not know the fields, or another version that wrote the status.
#[test]
fn without_its_fields_a_status_still_stops_the_next_call() {
    let forget = |world: &mut World| {
        let status = world.status_mut();
        (status.registration, status.wait, status.stall) = (None, None, None);
        (status.verdict, status.hold, status.token_wait) = (None, None, None);
    };
    for outcome in [pin_mismatch(), rejected(), success()] {
        let mut world = World::after(outcome);
        for _ in 0..20 {
            forget(&mut world);
            world.pass();
            world.wait(secs(600));
        }
        assert_eq!(world.posts.len(), 1, "{}", world.shown());
    }
}

#[test]
fn a_secret_that_comes_back_during_a_wait_is_seen_at_once() {
    let mut world = World::after(refused(400, 2, None));
    let secrets = world.secrets.clone();
    world.lose_secret();
    // The wait is not over: nothing is looked at before it has to be.
    world.wait(secs(30));
    world.pass();
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Reconciling SecretNotFound"
    );
    world.status_mut().wait.as_mut().unwrap().until = Time(plus(world.now, hours(1)));
    world.secrets = secrets;
    assert_eq!(world.pass()[0], Step::Secrets);
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Reconciling GraphUnavailable"
    );
    assert_eq!(world.next_in(), Some(hours(1)));
    assert!(world.is_at_rest());
}

#[test]
fn during_a_wait_a_secret_that_was_missing_is_looked_at_and_another_is_not() {
    let mut world = World::after(refused(400, 2, None));
    world.lose_secret();
    world.wait(secs(30));
    world.pass();
    world.waits_until(plus(world.now, hours(1)));
    world.secrets = Err(SecretFault {
        reason: Reason::SecretKeyMissing,
        message: "the Secret meta has no key token".to_owned(),
    });
    world.pass();
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Reconciling SecretKeyMissing"
    );
    // A wait for the token's limit asks for the Secret as well, but only to see whether it is another token.
    let mut world = World::after(rate_limited(Some(secs(900))));
    world.lose_secret();
    let waits = Step::Settle(Requeue::After(secs(900)));
    assert_eq!(world.pass(), [Step::Secrets, waits]);
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Reconciling RateLimited"
    );
}

#[test]
fn a_read_that_fails_after_a_change_is_waited_for_until_the_change_is_taken_back() {
    let mut world = World::after(pin_mismatch());
    world.secrets = Ok(digests("token", "other"));
    world.reading = reading(RegistrationState::Wait(Reason::GraphUnavailable));
    let waits = |seconds| Step::Settle(Requeue::After(secs(seconds)));
    assert_eq!(world.pass(), [Step::Secrets, Step::Read, waits(30)]);
    world.wait(secs(10));
    assert_eq!(world.pass(), [Step::Secrets, waits(20)]);
    world.secrets = Ok(digests("token", "pin"));
    let rests = Step::Settle(Requeue::OnChange);
    assert_eq!(world.pass(), [Step::Secrets, rests]);
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Stalled PinMismatch"
    );
}

#[test]
fn an_unclear_answer_counts_from_the_end_of_the_confirm_window_on() {
    let mut world = World::after(unknown());
    world.reading = reading(RegistrationState::Unclear(None));
    for (wait, unclear_reads) in [(2, 0), (118, 1)] {
        world.wait(secs(wait));
        let steps = world.pass();
        assert!(steps.contains(&Step::Read) && !steps.contains(&Step::Claim));
        assert_eq!(world.status().unclear_reads, unclear_reads);
    }
}

#[test]
fn a_read_that_fails_after_a_clear_answer_leaves_it_clear() {
    // A readable 500 is unclear for the confirm window, and False for people.
    let mut world = World::after(refused(500, 2, None));
    world.wait(secs(2));
    world.reading = reading(RegistrationState::Wait(Reason::GraphUnavailable));
    world.pass();
    assert!(!world.status().wait.as_ref().unwrap().confirming);
    assert_eq!(
        world.shown(),
        "Registered=False Failed=True Reconciling GraphUnavailable"
    );
}
