//! Whatever happens, in whatever order: properties over random histories.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::world::*;
use crate::api::{AttemptOutcome, RegisterAttempt, WhatsAppPhoneNumberStatus};
use crate::conclude::verdict;
use crate::conditions::{Situation, Standing, reason_of, set};
use crate::graph::{ReadOutcome, RegisterOutcome, Verdict};
use crate::ledger::with_sane_times;
use crate::reason::{Reason, condition};
use crate::schedule::{META_LIMIT, META_WINDOW, plus};

/// What may happen to a resource.
#[derive(Clone, Debug)]
enum Event {
    /// The operator is woken by something else than the clock, and makes a pass.
    Pass,
    /// Time passes, and the operator comes back whenever it said it would.
    Run(u64),
    /// The clock is set.
    Jump(i64),
    /// What becomes of the next claim.
    Fate(Fate),
    /// What the next reads say.
    Read(ReadOutcome),
    /// The number is registered, or no longer, by somebody else.
    Elsewhere(bool),
    Secrets(Option<(u8, u8)>),
    Suspend(bool),
    Annotate,
    RemoveAnnotation,
    Duplicate(bool),
    OtherAttempt(Reason),
    /// An outcome that was lost is recorded after all.
    Late(RegisterOutcome),
    Restart,
}

fn outcomes() -> impl Strategy<Value = RegisterOutcome> {
    prop_oneof![
        3 => Just(success()),
        2 => Just(unknown()),
        2 => Just(unreachable()),
        1 => Just(rejected()),
        1 => Just(RegisterOutcome::without_answer(Reason::NotSent, "too late")),
        1 => Just(rate_limited(None)),
        1 => Just(rate_limited(Some(hours(2)))),
        2 => Just(pin_mismatch()),
        10 => (
            prop::sample::select(vec![200_u16, 400, 401, 403, 422, 429, 500, 503]),
            prop::sample::select(vec![
                0_i64, 2, 4, 10, 33, 100, 190, 368, 131_045, 133_000, 133_004, 133_005, 133_006,
                133_008, 133_015, 133_016, 999_999,
            ]),
            prop::option::of(prop::sample::select(vec![33_i64, 2_388_001])),
        )
            .prop_map(|(status, code, subcode)| refused(status, code, subcode)),
    ]
}

fn readings() -> impl Strategy<Value = ReadOutcome> {
    let failing = |reason, status, code| {
        failed_reading(Verdict::Wait(reason), graph_error(status, code, None))
    };
    prop_oneof![
        6 => Just(reading(Verdict::NotRegistered)),
        2 => Just(reading(Verdict::Unknown)),
        1 => Just(reading(Verdict::Stall(Reason::AccountLocked))),
        1 => Just(failed_reading(
            Verdict::Stall(Reason::TokenRejected),
            graph_error(401, 190, None)
        )),
        1 => Just(failing(Reason::RateLimited, 400, 4)),
        1 => Just(failing(Reason::GraphUnavailable, 500, 100)),
        1 => Just(ReadOutcome {
            error: None,
            ..failing(Reason::GraphUnreachable, 500, 1)
        }),
    ]
}

fn events(clock_jumps: bool) -> impl Strategy<Value = Event> {
    let fates = prop_oneof![
        6 => outcomes().prop_map(|outcome| Fate::Answered(Box::new(outcome))),
        1 => Just(Fate::Conflict),
        1 => Just(Fate::StoredUnsent),
        1 => Just(Fate::Crash),
    ];
    let others = prop::sample::select(vec![Reason::PinMismatch, Reason::RegistrationBlocked]);
    prop_oneof![
        6 => Just(Event::Pass),
        4 => (0_u64..300).prop_map(Event::Run),
        4 => (0_u64..100 * 3600).prop_map(Event::Run),
        u32::from(clock_jumps) * 2 + 1 => (-200_i64..200).prop_map(move |jump| {
            if clock_jumps { Event::Jump(jump * 3600) } else { Event::Pass }
        }),
        10 => fates.prop_map(Event::Fate),
        5 => readings().prop_map(Event::Read),
        1 => any::<bool>().prop_map(Event::Elsewhere),
        4 => prop::option::weighted(0.8, (0_u8..2, 0_u8..3)).prop_map(Event::Secrets),
        2 => any::<bool>().prop_map(Event::Suspend),
        3 => Just(Event::Annotate),
        1 => Just(Event::RemoveAnnotation),
        1 => any::<bool>().prop_map(Event::Duplicate),
        1 => others.prop_map(Event::OtherAttempt),
        1 => outcomes().prop_map(Event::Late),
        1 => Just(Event::Restart),
    ]
}

/// The world with what only an outsider can check.
struct History {
    world: World,
    /// Whether the clock can be trusted, so that times can be checked.
    sound_clock: bool,
    /// Whether the status that it began with was none that the operator writes.
    odd: bool,
    inputs: (u8, u8),
    values: u32,
    /// The inputs with which the resource stalled, while nothing that lifts the stall has come.
    stalled_with: Option<(Reason, (u8, u8))>,
    /// When the last call whose outcome is not clear was made.
    unclear_since: Option<Timestamp>,
    /// How many calls that may have acted were made for a value of the annotation.
    spent: HashMap<String, u32>,
}

impl History {
    fn new(sound_clock: bool) -> Self {
        Self {
            world: World::new(),
            sound_clock,
            odd: false,
            inputs: (0, 0),
            values: 0,
            stalled_with: None,
            unclear_since: None,
            spent: HashMap::new(),
        }
    }

    fn secrets(&mut self, inputs: Option<(u8, u8)>) {
        match inputs {
            None => self.world.lose_secret(),
            Some((token, pin)) => {
                self.inputs = (token, pin);
                self.world.secrets = Ok(digests(&token.to_string(), &pin.to_string()));
            }
        }
    }

    fn apply(&mut self, event: Event) {
        let world = &mut self.world;
        match event {
            Event::Pass => {
                self.pass();
            }
            Event::Run(seconds) => self.run(seconds),
            Event::Jump(seconds) => {
                let to = world.now.as_second() + seconds;
                world.now = Timestamp::from_second(to).unwrap();
                // The other resources' own passes mend their ledgers.
                world.others.attempts = with_sane_times(&world.others.attempts, world.now);
            }
            Event::Fate(fate) => {
                world.fates.clear();
                world.fate(fate);
            }
            Event::Read(outcome) => world.reading = outcome,
            Event::Elsewhere(true) => world.reading = reading(Verdict::Registered),
            Event::Elsewhere(false) => world.reading = reading(Verdict::NotRegistered),
            Event::Secrets(inputs) => self.secrets(inputs),
            Event::Suspend(suspend) => world.suspend(suspend),
            Event::Annotate => {
                self.values += 1;
                world.annotate(&format!("value-{}", self.values));
            }
            Event::RemoveAnnotation => world.remove_annotation(),
            Event::Duplicate(ahead) => {
                world.others.ahead = ahead.then(|| "shop/older".to_owned());
            }
            Event::OtherAttempt(reason) => {
                let id = format!("other-{}", world.others.attempts.len());
                let made = attempt(&id, world.now, reason);
                world.others.attempts.push(made);
            }
            Event::Late(outcome) => self.late(&outcome),
            Event::Restart => {
                world.last_read = None;
                world.cool_downs.clear();
            }
        }
    }

    fn late(&mut self, outcome: &RegisterOutcome) {
        let gives_back = [
            Reason::NotSent,
            Reason::GraphUnreachable,
            Reason::RateLimited,
        ];
        if gives_back.contains(&outcome.reason) {
            return; // It was sent, and counts as having acted.
        }
        let Some((id, before)) = self.world.lost.pop() else {
            return;
        };
        let registered = self.world.is(condition::REGISTERED);
        self.world.record(&id, before.as_deref(), outcome);
        assert!(self.world.is(condition::REGISTERED) >= registered);
        let newest = self.world.status().attempts.first();
        if newest.is_some_and(|a| !a.is_open() && !a.is_unclear()) {
            self.unclear_since = None;
        }
        self.note_stall();
    }

    fn run(&mut self, seconds: u64) {
        let end = plus(self.world.now, secs(seconds));
        for _ in 0..400 {
            let wake = self.pass();
            let wait = match wake {
                Some(Step::Settle(crate::decide::Wake::OnChange)) => break,
                Some(Step::Settle(crate::decide::Wake::After(wait))) => wait,
                _ => secs(0),
            };
            if plus(self.world.now, wait) > end {
                break;
            }
            self.world.wait(wait);
        }
        if end > self.world.now {
            let rest = end.duration_since(self.world.now).unsigned_abs();
            self.world.wait(rest);
        }
    }

    /// One pass, with what must hold of a call that it makes.
    fn pass(&mut self) -> Option<Step> {
        let world = &mut self.world;
        let posts = world.posts.len();
        let recent = recent_calls(world);
        let window_ends = self.unclear_since.map(|since| plus(since, WINDOW));
        let was_open = world.status().attempts.iter().any(RegisterAttempt::is_open);
        let newest = |world: &World| world.status().attempts.first().cloned();
        let before = newest(world).map(|attempt| attempt.id);
        let steps = world.pass();
        if let Some((at, request)) = world.posts.get(posts).cloned() {
            assert!(!was_open, "a call beside an open claim");
            assert!(!world.resource.spec.suspend, "a call while suspended");
            assert!(world.others.ahead.is_none(), "a duplicate's call");
            assert_ne!(steps.len(), 1);
            if request.is_none() {
                assert!(steps.contains(&Step::Read), "a call without a look");
                if let Some((reason, inputs)) = self.stalled_with {
                    assert_ne!(inputs, self.inputs, "tried again after {reason}");
                }
            }
            if self.sound_clock {
                let limit = if request.is_none() { 8 } else { META_LIMIT };
                assert!(recent < limit, "{recent} calls before this one");
                assert!(window_ends.is_none_or(|end| at >= end), "in the window");
            }
            self.note_call(request);
        } else if let Some(claim) = newest(&self.world).filter(|a| Some(&a.id) != before.as_ref()) {
            self.note_claim(claim.request.is_some());
        }
        let world = &self.world;
        if steps.contains(&Step::Read) && world.is(condition::REGISTERED) {
            self.unclear_since = None; // a read has confirmed it
        }
        self.note_stall();
        self.check_rest(&steps);
        steps.last().copied()
    }

    fn note_call(&mut self, request: Option<String>) {
        let world = &self.world;
        let last = world.last_attempt();
        let unclear = last.is_open() || last.is_unclear();
        self.unclear_since = unclear.then_some(world.now);
        if let Some(value) = &request
            && last.known_reason() != Some(Reason::RateLimited)
        {
            let spent = self.spent.entry(value.clone()).or_default();
            *spent += 1;
            assert_eq!(*spent, 1, "two calls for {value}");
        }
        self.note_claim(request.is_some());
    }

    /// A claim for other inputs lifts the stall, also where nothing was sent; one that a person asked for does not.
    fn note_claim(&mut self, requested: bool) {
        let keeps = |(reason, inputs): &(Reason, (u8, u8))| {
            let pin = matches!(reason, Reason::PinMismatch | Reason::PinLocked);
            let same = *inputs == self.inputs || pin && inputs.0 != self.inputs.0;
            requested && same
        };
        self.stalled_with = self.stalled_with.take().filter(keeps);
        if let Some((_, inputs)) = &mut self.stalled_with {
            *inputs = self.inputs;
        }
    }

    fn note_stall(&mut self) {
        let status = self.world.status();
        if self.world.is(condition::REGISTERED) {
            self.stalled_with = None;
        }
        if self.odd || status.last_error.is_none() {
            return; // A read that said BANNED is asked again, which costs nothing.
        }
        let reason = reason_of(status, condition::STALLED);
        let Some(reason) = reason.filter(|reason| from_graph(*reason)) else {
            return;
        };
        let digests = digests(&self.inputs.0.to_string(), &self.inputs.1.to_string());
        if status.inputs_digest.as_deref() == Some(&digests.inputs) {
            // A verdict outlasts what a requested call met in passing, and gives way to another verdict.
            let newest = verdict(status.last_error.as_ref(), &status.attempts) == Some(reason);
            let first = self.stalled_with.filter(|_| !newest);
            let reason = first.map_or(reason, |(first, _)| first);
            self.stalled_with = Some((reason, self.inputs));
        }
    }

    /// Where nothing was called, another pass at the same time changes nothing.
    fn check_rest(&mut self, steps: &[Step]) {
        let called = steps.iter().any(|s| matches!(s, Step::Read | Step::Claim));
        let at_once = matches!(steps.last(), Some(Step::Settle(crate::decide::Wake::After(wait))) if wait.is_zero());
        if called || at_once {
            return;
        }
        // A wait that shows up again after a fault takes another pass; where that one reads, it may find out something.
        if self.world.pass().contains(&Step::Read) {
            if self.world.is(condition::REGISTERED) {
                self.unclear_since = None; // a read has confirmed it
            }
            return;
        }
        let before = self.world.resource.status.clone();
        let again = self.world.pass();
        assert!(
            !again.contains(&Step::Claim),
            "{steps:?} and then {again:?}"
        );
        if !again.contains(&Step::Read) {
            assert_eq!(before, self.world.resource.status);
        }
    }

    /// All faults stop: the resource becomes registered, or stays stalled for a reason.
    fn settles(&mut self) {
        let world = &mut self.world;
        world.fates.clear();
        world.reading = reading(Verdict::NotRegistered);
        world.others.ahead = None;
        world.cool_downs.clear();
        world.suspend(false);
        self.secrets(Some(self.inputs));
        self.run(400 * 3600);
        let world = &mut self.world;
        let stalled = reason_of(world.status(), condition::STALLED).is_some_and(from_graph);
        assert!(
            world.is(condition::REGISTERED) || stalled,
            "{} {:#?}",
            world.shown(),
            world.status()
        );
        assert!(world.is_at_rest());
    }
}

fn from_graph(reason: Reason) -> bool {
    reason != Reason::DuplicatePhoneNumber && !reason.as_str().starts_with("Invalid")
        || reason == Reason::InvalidRequest
}

/// The calls of the last 72 hours.
fn recent_calls(world: &World) -> usize {
    let recent = |at: &Timestamp| plus(*at, META_WINDOW) > world.now;
    world.posts.iter().filter(|(at, _)| recent(at)).count()
}

fn statuses() -> impl Strategy<Value = WhatsAppPhoneNumberStatus> {
    let situations = vec![
        Situation::Registered,
        Situation::Registering,
        Situation::Confirming,
        Situation::Waiting,
        Situation::Stalled,
        Situation::Suspended,
    ];
    let odd_time = || {
        prop_oneof![
            -300_i64 * 3600..300 * 3600,
            prop::sample::select(vec![-START, 200_000_000_000]),
        ]
        .prop_map(|second| Time(Timestamp::from_second(START + second).unwrap()))
    };
    let reasons = || {
        prop::option::of(prop_oneof![
            prop::sample::select(Reason::ALL).prop_map(|reason| reason.to_string()),
            Just("OfAnotherVersion".to_owned()),
        ])
    };
    let outcome = prop::option::of(prop::sample::select(vec![
        AttemptOutcome::Succeeded,
        AttemptOutcome::Failed,
        AttemptOutcome::Unknown,
        AttemptOutcome::NotSent,
    ]));
    let entry = (
        odd_time(),
        prop::option::weighted(0.9, odd_time()),
        prop::option::of(Just(i64::MAX)),
        outcome,
        reasons(),
        prop::option::of(prop::sample::select(vec![-1, 200, 422, 503, i32::MAX])),
        prop::option::of(prop::sample::select(vec![i32::MIN, 0, 3, i32::MAX])),
        prop::option::of(Just("value-1".to_owned())),
    );
    let entry = entry.prop_map(
        |(start_time, finish_time, ttl, outcome, reason, http_status, count, request)| {
            RegisterAttempt {
                finish_time,
                ttl_seconds: ttl.unwrap_or(60),
                outcome,
                reason,
                http_status,
                count,
                ..RegisterAttempt::claim("", TTL, request.as_deref(), start_time.0)
            }
        },
    );
    (
        prop::collection::vec(entry, 0..9),
        prop::option::of(odd_time()),
        prop::sample::select(situations),
        prop::sample::select(Reason::ALL),
        prop::option::of(outcomes()),
        prop::option::of((0_u8..2, 0_u8..2)),
        prop::sample::select(vec![i32::MIN, 0, 1, i32::MAX]),
        -1_i64..2,
    )
        .prop_map(
            |(mut attempts, next, situation, reason, error, inputs, reads, seen)| {
                for (i, attempt) in attempts.iter_mut().enumerate() {
                    attempt.id = format!("found-{i}");
                }
                let mut status = WhatsAppPhoneNumberStatus {
                    attempts,
                    next_attempt_time: next,
                    last_error: error.and_then(|outcome| outcome.error),
                    read_failures: reads,
                    ..WhatsAppPhoneNumberStatus::default()
                };
                if let Some((token, pin)) = inputs {
                    let digests = digests(&token.to_string(), &pin.to_string());
                    status.token_digest = Some(digests.token);
                    status.inputs_digest = Some(digests.inputs);
                }
                let message = "found so".to_owned();
                let standing = Standing {
                    situation,
                    reason,
                    message,
                };
                let now = Timestamp::from_second(START).unwrap();
                set(&mut status, &standing, seen, now);
                status
            },
        )
}

/// A fixed seed, so that a history that fails does so for everybody. Longer runs, with other seeds:
/// `PROPTEST_RNG_SEED=7 PROPTEST_CASES=20000 cargo test --lib properties`. In those about one history in ten thousand
/// still ends in a call that the model would not make: inputs that are changed and changed back, around calls that a
/// person asked for, count as changed, because a status remembers the last ones only.
fn config() -> ProptestConfig {
    let given = |name: &str| std::env::var_os(name).is_some();
    let mut config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    if !given("PROPTEST_CASES") {
        config.cases = 250;
    }
    if !given("PROPTEST_RNG_SEED") {
        config.rng_seed = RngSeed::Fixed(20_261_122);
    }
    config
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_history_breaks_a_promise(events in prop::collection::vec(events(false), 1..60)) {
        let mut history = History::new(true);
        for event in events {
            history.apply(event);
        }
        history.settles();
    }

    #[test]
    fn no_clock_makes_a_call_without_its_reasons(events in prop::collection::vec(events(true), 1..60)) {
        let mut history = History::new(false);
        for event in events {
            history.apply(event);
        }
        history.settles();
    }

    #[test]
    fn no_status_is_too_odd(
        status in statuses(),
        events in prop::collection::vec(events(true), 1..20),
    ) {
        let mut history = History::new(false);
        history.odd = true;
        history.world.resource.status = Some(status);
        for event in events {
            history.apply(event);
        }
    }
}
