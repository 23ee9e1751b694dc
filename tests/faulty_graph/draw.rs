//! The dice: how a number begins, and what its Graph does to the calls. The same seed gives the same scripts.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

use super::meaning;
use super::scenario::{Scenario, Start};
use super::{RAW, TIMEOUT, WINDOW};
use testkit::bed::PIN;
use testkit::simulator::{Action, ErrorStep, Step, Trigger};

/// Steps of one operation in a script, at most.
const STEPS: usize = 4;

/// Waits that an answer can ask for in `Retry-After`, and what is meant in seconds. Short ones pass within the test,
/// the others outlast it.
const RETRY_AFTER: &[(&str, Option<u64>)] = &[
    ("1", Some(1)),
    ("2", Some(2)),
    ("0.2", Some(1)),
    ("3600", Some(3_600)),
    ("99999999999999999999", Some(MAX_WAIT)),
    ("inf", Some(MAX_WAIT)),
    ("Fri, 22 Nov 2126 12:00:00 GMT", Some(MAX_WAIT)),
    ("Sun, 22 Nov 2020 12:00:00 GMT", None),
    ("-5", None),
    ("0", None),
    ("NaN", None),
    ("soon", None),
    ("", None),
];

/// Minutes in the usage header, likewise.
const MINUTES: &[u64] = &[0, 5, 60, 100_000, u64::MAX];

/// The longest wait that is believed: 72 h.
const MAX_WAIT: u64 = 72 * 3_600;

/// Where each start comes from: most numbers are fresh, as most faults hit those.
const STARTS: &[Start] = &[
    Start::Registered,
    Start::Restricted,
    Start::PendingInCloud,
    Start::OnPremises,
    Start::Disconnected,
    Start::WrongPin,
    Start::PinGuessed,
    Start::Banned,
    Start::Deleted,
    Start::Migrated,
    Start::Missing,
    Start::DeregisteredJustNow,
    Start::Spent(8),
    Start::Spent(9),
    Start::Spent(10),
    Start::NotVerified,
    Start::TokenOfAnother,
    Start::ProofRequired,
];

/// The scripts of so many numbers. A number's script depends on the seed and its place only.
pub fn scenarios(seed: u64, numbers: usize) -> Vec<Scenario> {
    (0..numbers).map(|place| scenario(seed, place)).collect()
}

fn scenario(seed: u64, place: usize) -> Scenario {
    let salt = u64::try_from(place).expect("a place");
    let mut dice = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(salt));
    let id = format!("7{place:05}");
    // The last three of ten share a token.
    let owner = place - (place % 10).saturating_sub(7);
    let start = match dice.random_bool(0.6) {
        true => Start::Fresh,
        false => *STARTS.choose(&mut dice).expect("a start"),
    };
    let mut scenario = Scenario {
        id,
        start,
        script: Vec::new(),
        late: dice.random(),
        token_key: format!("token-{owner:05}"),
    };
    // Some numbers meet no fault at all.
    if !dice.random_bool(0.06) {
        scenario.script = script(&mut dice, &scenario, &[Trigger::Read, Trigger::Register]);
    }
    scenario
}

/// Steps for each of these operations.
pub fn script(dice: &mut StdRng, scenario: &Scenario, operations: &[Trigger]) -> Vec<Step> {
    let mut steps = Vec::new();
    for operation in operations.iter().copied() {
        // Each of these keeps the number waiting for seconds: one is enough.
        let mut lingers = false;
        for _ in 0..dice.random_range(0..=STEPS) {
            let step = loop {
                let step = step(dice, scenario, operation);
                if !(lingers && scenario.lingers(&step)) {
                    break step;
                }
            };
            lingers |= scenario.lingers(&step);
            steps.push(step);
        }
    }
    steps.shuffle(dice);
    steps
}

fn step(dice: &mut StdRng, scenario: &Scenario, operation: Trigger) -> Step {
    let prototypes = prototypes();
    let goes_on = |action: &&Action| {
        let retried = matches!(action, Action::Error(_) | Action::ServerError {});
        let answer = meaning::of_action(action, scenario.late);
        retried || answer.is_some_and(|answer| answer.is_unclear())
    };
    // Half of the calls end with what is tried again: else few numbers would get far.
    let again: Vec<&Action> = prototypes.iter().filter(goes_on).collect();
    let action = match operation != Trigger::Read && dice.random() {
        true => vary(again.choose(dice).expect("an action"), dice, scenario),
        false => vary(prototypes.choose(dice).expect("an action"), dice, scenario),
    };
    let mut step = Step::new(action);
    step.operation = match dice.random_bool(0.05) {
        true => Trigger::Any,
        false => operation,
    };
    if step.action.may_lie() {
        step.acted = *[None, Some(true), Some(false)].choose(dice).expect("one");
    }
    let answer = meaning::of_action(&step.action, scenario.late);
    // Meta's status lags (protocol, "Reading the number"), shorter than the confirm window, which is as long as the lag can be by its
    // definition. It opens after unclear answers only: a clear one is believed. What acts late lags by that already.
    let lags = answer.is_some_and(|answer| answer.is_unclear()) && !acts_late(&step.action);
    if lags && operation == Trigger::Register && dice.random() {
        step.lag_millis = Some(dice.random_range(200..millis(WINDOW) - 500));
    }
    if !scenario.lingers(&step) && dice.random_bool(0.1) {
        step.times = 2;
    }
    step
}

/// One of each action.
pub fn prototypes() -> Vec<Action> {
    vec![
        Action::Natural {},
        Action::Error(ErrorStep::default()),
        Action::RateLimited {
            regain_minutes: None,
            retry_after: None,
            http_status: None,
            code: None,
        },
        Action::ServerError {},
        Action::Html { http_status: None },
        Action::Empty { http_status: None },
        Action::Truncated { bytes: None },
        Action::Raw {
            http_status: RAW[0].0,
            headers: BTreeMap::new(),
            body: RAW[0].2.to_owned(),
        },
        Action::HangUpBefore {},
        Action::HangUpAfter {},
        Action::Slow { millis: 0 },
        Action::Stall { millis: 0 },
        Action::Trickle {
            bytes_per_second: 1,
        },
        Action::Huge { bytes: 0 },
        Action::SuccessLie {},
        Action::SuccessFalse {},
        Action::SuccessString {},
        Action::SuccessMissing {},
        Action::SuccessExample {},
        Action::Lag { reads: 0 },
        Action::MalformedTokenEcho {},
        Action::Wait {},
        Action::WaitAfter {},
    ]
}

/// The same action with drawn particulars. Without a wildcard, so that a new action is drawn too; that it has a
/// prototype is tested.
fn vary(action: &Action, dice: &mut StdRng, scenario: &Scenario) -> Action {
    match action {
        Action::Error(_) => Action::Error(error(dice, scenario)),
        Action::RateLimited { .. } => rate_limit(dice),
        Action::Html { .. } => Action::Html {
            http_status: pick(dice, &[200, 401, 403, 404, 422, 429, 500, 503, 999]),
        },
        Action::Empty { .. } => Action::Empty {
            http_status: pick(dice, &[200, 204, 304, 400, 422, 429, 502, 504]),
        },
        Action::Truncated { .. } => Action::Truncated {
            bytes: pick(dice, &[0, 1, 15]),
        },
        Action::Raw { .. } => raw(dice),
        Action::Slow { .. } => Action::Slow {
            millis: *[100, 400, long(dice)].choose(dice).expect("one"),
        },
        Action::Stall { .. } => Action::Stall {
            millis: *[100, 400, long(dice)].choose(dice).expect("one"),
        },
        Action::Trickle { .. } => Action::Trickle {
            bytes_per_second: *[2, 5_000].choose(dice).expect("one"),
        },
        Action::Huge { .. } => Action::Huge {
            bytes: *[64 << 10, (64 << 10) + 1, 1 << 20, 10 << 20]
                .choose(dice)
                .expect("one"),
        },
        Action::Lag { .. } => Action::Lag {
            reads: dice.random_range(1..4),
        },
        Action::Natural {}
        | Action::ServerError {}
        | Action::HangUpBefore {}
        | Action::HangUpAfter {}
        | Action::SuccessLie {}
        | Action::SuccessFalse {}
        | Action::SuccessString {}
        | Action::SuccessMissing {}
        | Action::SuccessExample {}
        | Action::MalformedTokenEcho {}
        | Action::Wait {}
        | Action::WaitAfter {} => action.clone(),
    }
}

fn error(dice: &mut StdRng, scenario: &Scenario) -> ErrorStep {
    let retried: Vec<i64> = meaning::retried_codes().collect();
    let odd = [100, 100, 7, 300, 999_999, 133_010, -1, i64::MAX, i64::MIN];
    let all: Vec<i64> = meaning::codes().chain(odd).collect();
    if dice.random_bool(0.2) {
        return unchecked(dice);
    }
    let code = match dice.random_bool(0.6) {
        true => *retried.choose(dice).expect("a code"),
        false => *all.choose(dice).expect("a code"),
    };
    let token = scenario.token();
    let texts = [
        format!("Malformed access token {token}"),
        format!("pin {PIN} and {token} are wrong; EAA\u{7}\u{202e}\n\"{token}"),
        "x".repeat(20_000),
        String::new(),
    ];
    let text = |dice: &mut StdRng| pick(dice, &texts);
    let (message, details) = (text(dice), text(dice));
    let (user_title, user_msg) = (text(dice), text(dice));
    ErrorStep {
        code,
        http_status: pick(dice, &[200, 400, 401, 403, 404, 422, 429, 500, 503, 599]),
        subcode: pick(dice, &[33, 2_388_001, 2_494_055, -1]),
        message,
        r#type: pick(dice, &["GraphMethodException".to_owned()]),
        is_transient: pick(dice, &[true, false]),
        details,
        user_title,
        user_msg,
        headers: BTreeMap::new(),
    }
}

/// The refusal that may mean "registered already", which a read must settle.
fn unchecked(dice: &mut StdRng) -> ErrorStep {
    ErrorStep {
        code: *[100, 131_009, 999_999].choose(dice).expect("a code"),
        http_status: Some(422),
        ..ErrorStep::default()
    }
}

fn rate_limit(dice: &mut StdRng) -> Action {
    let texts: Vec<String> = RETRY_AFTER.iter().map(|(text, _)| (*text).into()).collect();
    Action::RateLimited {
        regain_minutes: pick(dice, MINUTES),
        retry_after: pick(dice, &texts),
        http_status: pick(dice, &[200, 400, 403, 429, 500]),
        code: pick(dice, &[4, 17, 32, 341, 613, 80_007, 130_429]),
    }
}

fn raw(dice: &mut StdRng) -> Action {
    let (http_status, headers, body, _) = *RAW.choose(dice).expect("a raw answer");
    let headers = headers.iter().map(|(k, v)| ((*k).into(), (*v).into()));
    Action::Raw {
        http_status,
        headers: headers.collect(),
        body: body.to_owned(),
    }
}

/// One of these, or as the simulator has it by itself.
fn pick<T: Clone>(dice: &mut StdRng, values: &[T]) -> Option<T> {
    match dice.random_bool(0.4) {
        true => None,
        false => values.choose(dice).cloned(),
    }
}

/// Past the client's timeout, but done before the confirm window that follows is over.
fn long(dice: &mut StdRng) -> u64 {
    let (timeout, window) = (millis(TIMEOUT), millis(WINDOW));
    dice.random_range(timeout + 300..timeout + window - 700)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).expect("a short time")
}

fn acts_late(action: &Action) -> bool {
    matches!(action, Action::Stall { .. } | Action::Wait {})
}

/// For how long a rate limit asks not to be called; `None` where it does not say.
pub fn asked_wait(action: &Action) -> Option<Duration> {
    let Action::RateLimited {
        regain_minutes,
        retry_after,
        ..
    } = action
    else {
        return None;
    };
    let known = |text: &String| RETRY_AFTER.iter().find(|(known, _)| known == text);
    let seconds = retry_after.as_ref().and_then(known).and_then(|row| row.1);
    let regain = regain_minutes.map(|minutes| minutes.saturating_mul(60).min(MAX_WAIT));
    let longest = seconds.max(regain).filter(|wait| *wait > 0);
    longest.map(Duration::from_secs)
}

#[test]
fn every_action_is_drawn() {
    // serde names them all when it is asked for one that is not there.
    let nonsense = serde_json::json!({"step": "nonsense"});
    let error = serde_json::from_value::<Action>(nonsense).expect_err("no such action");
    let text = error.to_string();
    let (_, list) = text.split_once("expected one of").expect("a list");
    let known: Vec<&str> = list.split('`').skip(1).step_by(2).collect();
    assert!(
        known.len() > 20,
        "the list of actions is not as it was: {text}"
    );
    let drawn: std::collections::BTreeSet<String> = scenarios(1, 500)
        .iter()
        .flat_map(|scenario| &scenario.script)
        .map(|step| step.action.name())
        .collect();
    for name in known {
        assert!(
            drawn.contains(name),
            "the action {name} is never drawn: give it a prototype"
        );
    }
}
