//! What happens in one schedule beside the faults: which numbers and resources there are, what people do to them, and
//! what Graph does. All of it follows from the seed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use operator_core::model::definition::{dropped, fullest};
use testkit::gateway::faults::{Fault, Mix};
use testkit::simulator::{NumberConfig, Step, Trigger};

/// One schedule.
#[derive(Debug)]
pub struct Plan {
    pub seed: u64,
    /// Whether Graph itself is at fault too: then it is not known how many calls a number takes.
    pub graph_fails: bool,
    pub numbers: Vec<Number>,
    pub resources: Vec<Resource>,
    pub actions: Vec<Action>,
    /// How many operators there are; without a leader all of them work.
    pub operators: usize,
    pub leader_elect: bool,
    pub graph_timeout: Duration,
    /// The calls of a kind that an operator makes by itself for a number: where Graph fails, so few that some numbers meet the limit.
    pub attempt_limit: usize,
    /// Whether the operators go by a label, which people take off resources and put on again.
    pub selects: bool,
    /// The status field that the API server does not know, until its CRD is upgraded and the operators are restarted.
    pub unknown_field: Option<String>,
    pub mix: Mix,
}

/// A number of Graph's.
#[derive(Debug)]
pub struct Number {
    pub id: String,
    pub registered_before: bool,
    pub script: Vec<Step>,
    /// What Graph does from then on when a resource of the number is deleted.
    pub leaving: Vec<Step>,
}

/// A resource, the number and Secret that it names, and its policies at first.
#[derive(Clone, Debug)]
pub struct Resource {
    pub name: String,
    pub number: usize,
    pub secret: usize,
    /// `deletionPolicy: Deregister`.
    pub deregisters: bool,
    /// `lossPolicy: Register`.
    pub recovers: bool,
}

/// What somebody does, at some moment. Resources, numbers and Secrets go by their place.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Create(usize),
    Delete(usize),
    /// The other `lossPolicy`: a new generation, on which no call depends unless the number was lost.
    Edit(usize),
    /// Whether it is to be deregistered when it is deleted; also set while it is being deleted.
    Deregister(usize, bool),
    /// A number that is registered is taken off the Cloud API, by somebody else.
    Lose(usize),
    /// The annotation, with this value.
    Request(usize, u32),
    Suspend(usize, bool),
    /// Takes the label off that the operators go by, or puts it on.
    Label(usize, bool),
    /// Takes away the whole status.
    Wipe(usize),
    /// A PIN of two digits.
    BreakSecret(usize),
    DeleteSecret(usize),
    /// A sound token and PIN; the number says which.
    Secret(usize, u32),
}

/// The label that operators may go by; its value is `in` or `out`.
pub const LABEL: &str = "schedule";

/// How many resources a schedule has at most.
const RESOURCES_MAX: usize = 4;

/// `--deregister-deadline`.
pub const DEREGISTER_DEADLINE: Duration = Duration::from_secs(8);

/// How much longer a deletion may take on a busy machine.
const BUSY: Duration = Duration::from_secs(15);

/// How many different PINs there are; the first one is what the Secrets begin and end with.
const PINS: [&str; 2] = ["902741", "583920"];

/// Graph's errors that a call may meet.
const CODES: [i64; 14] = [
    1, 2, 4, 10, 100, 190, 131_000, 131_031, 133_004, 133_005, 133_006, 133_008, 133_015, 133_016,
];

// === impl Plan ===

impl Plan {
    /// The plan of a seed. Leader election, which takes half a minute to notice a death, and answers that take longer
    /// than the operator waits for, are rare.
    pub fn of(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let leader_elect = seed % 40 == 39;
        let long_delays = seed % 40 == 38;
        let graph_fails = rng.random_bool(0.3);
        let operators = if leader_elect || rng.random_bool(0.25) {
            2
        } else {
            1
        };
        // Twins are told apart by what the operator has seen of them (protocol, "Several resources of one number": "if the cache shows another
        // resource of the number"): two operators without a leader may not have seen the other's.
        let twins = operators == 1 || leader_elect;
        let resources = resources(&mut rng, twins);
        let count = resources.iter().map(|r| r.number + 1).max().unwrap_or(1);
        let numbers = (0..count).map(|n| Number::by(&mut rng, n, graph_fails));
        let numbers = numbers.collect();
        let mut mix = Mix::of_seed(seed);
        if long_delays {
            mix = mix.longest(Duration::from_secs(11));
        }
        if leader_elect {
            // Who leads is lost with the process: what else can happen to it is the other schedules' matter.
            mix = mix.without(Fault::CrashAfter);
        }
        let selects = rng.random_bool(0.4);
        let wipes = rng.random_bool(0.5);
        let unknown_field = rng.random_bool(0.2).then(|| unknown_field(&mut rng));
        Self {
            seed,
            graph_fails,
            numbers,
            actions: actions(&mut rng, &resources, selects, wipes),
            resources,
            selects,
            unknown_field,
            operators,
            leader_elect,
            graph_timeout: Duration::from_secs(rng.random_range(1..3)),
            attempt_limit: if graph_fails && rng.random_bool(0.5) {
                2
            } else {
                8
            },
            mix,
        }
    }

    /// The flags of this schedule's operators.
    pub fn flags(&self, namespace: &str) -> Vec<String> {
        let mut flags = vec![
            format!("--graph-timeout={}s", self.graph_timeout.as_secs()),
            "--confirm-window=1s".to_owned(),
            "--retry-base=200ms".to_owned(),
            "--retry-cap=1s".to_owned(),
            "--concurrency=4".to_owned(),
            format!("--attempt-limit={}", self.attempt_limit),
            "--observe-interval=1s".to_owned(),
            format!("--deregister-deadline={}s", DEREGISTER_DEADLINE.as_secs()),
        ];
        if self.selects {
            flags.push(format!("--selector={LABEL}=in"));
        }
        if self.leader_elect {
            flags.push("--leader-elect=true".to_owned());
            flags.push(format!("--lease-namespace={namespace}"));
        }
        flags
    }

    /// How long everything may take to settle when the faults have ended: as long as the longest wait that they may have
    /// led to, which is that for the Lease or after failed passes.
    pub fn settles_within(&self) -> Duration {
        Duration::from_secs(if self.leader_elect { 150 } else { 90 })
    }

    /// How long a deletion may take where the API server is sound: the deadline, and `ttlSeconds` of the claim that may be open then.
    pub fn leaves_within(&self) -> Duration {
        DEREGISTER_DEADLINE + 2 * self.graph_timeout + BUSY
    }
}

/// Every token that a Secret may hold.
pub fn token(generation: u32) -> String {
    format!("EAAschedule{generation:02}TOKENabcdefghijklmnopqrstuvwxyz0123456789")
}

/// Every PIN that a Secret may hold.
pub fn pin(generation: u32) -> &'static str {
    PINS[generation as usize % PINS.len()]
}

// === impl Number ===

impl Number {
    fn by(rng: &mut StdRng, n: usize, graph_fails: bool) -> Self {
        let steps = if graph_fails {
            rng.random_range(1..5)
        } else {
            0
        };
        Self {
            id: format!("70{n}"),
            registered_before: rng.random_bool(0.15),
            script: (0..steps).map(|_| step(rng)).collect(),
            leaving: (0..steps).map(|_| leaving_step(rng)).collect(),
        }
    }

    pub fn config(&self) -> NumberConfig {
        let config = if self.registered_before {
            NumberConfig::registered()
        } else {
            NumberConfig::fresh()
        };
        config.script(self.script.clone())
    }
}

/// One thing that Graph does wrong before a number is taken off, or when it is.
fn leaving_step(rng: &mut StdRng) -> Step {
    let step = match rng.random_range(0..10) {
        0..2 => read_step(rng),
        2..4 => json!({"step": "error", "code": CODES.choose(rng)}),
        // As long as calls are allowed.
        4 | 5 => json!({"step": "server_error", "times": 20}),
        _ => call_step(rng),
    };
    let step: Step = serde_json::from_value(step).expect("a step");
    match step.operation {
        Trigger::Register => step.on_deregister(),
        Trigger::Read | Trigger::Deregister | Trigger::Any => step,
    }
}

/// One thing that Graph does wrong. It does not lag: with a confirm window of a second that may cost a call (docs:
/// "leave `--confirm-window` at 2 min or more"). And reads have no answers that say nothing, such as `{}` or code 1 with
/// HTTP 400: "Unknown counts as not registered, on budget" (protocol, "Reading the number").
fn step(rng: &mut StdRng) -> Step {
    let step = match rng.random_range(0..10) {
        0..3 => read_step(rng),
        3..6 => json!({"step": "error", "code": CODES.choose(rng)}),
        _ => call_step(rng),
    };
    serde_json::from_value(step).expect("a step")
}

fn read_step(rng: &mut StdRng) -> Value {
    let steps = [
        json!({"step": "error", "code": 1, "http_status": 500}),
        json!({"step": "error", "code": 10}),
        json!({"step": "error", "code": 190}),
        json!({"step": "error", "code": 131_000}),
        json!({"step": "rate_limited", "retry_after": "1"}),
        json!({"step": "server_error"}),
        json!({"step": "html"}),
        json!({"step": "empty"}),
        json!({"step": "truncated"}),
        json!({"step": "hang_up_before"}),
        json!({"step": "stall", "millis": 400}),
    ];
    let mut step = steps.choose(rng).cloned().unwrap_or_default();
    step["operation"] = json!("read");
    step
}

fn call_step(rng: &mut StdRng) -> Value {
    let steps = [
        json!({"step": "server_error"}),
        json!({"step": "html"}),
        json!({"step": "empty"}),
        json!({"step": "truncated"}),
        json!({"step": "hang_up_before"}),
        json!({"step": "hang_up_after"}),
        json!({"step": "success_false"}),
        json!({"step": "success_missing"}),
        json!({"step": "success_lie"}),
        json!({"step": "success_string"}),
        json!({"step": "natural"}),
        json!({"step": "slow", "millis": 400}),
        json!({"step": "stall", "millis": 400}),
        json!({"step": "rate_limited", "retry_after": "1"}),
        json!({"step": "error", "code": 2, "acted": true}),
        json!({"step": "empty", "http_status": 504, "acted": true}),
        json!({"step": "html", "http_status": 422, "acted": true}),
    ];
    steps.choose(rng).cloned().unwrap_or_default()
}

fn resources(rng: &mut StdRng, twins: bool) -> Vec<Resource> {
    let count = rng.random_range(1..=RESOURCES_MAX);
    let mut number = 0;
    let resources = (0..count).map(|n| {
        let twin = n > 0 && twins && rng.random_bool(0.4);
        number += usize::from(n > 0 && !twin);
        Resource {
            name: format!("r{n}"),
            number,
            secret: rng.random_range(0..2),
            deregisters: rng.random_bool(0.5),
            recovers: rng.random_bool(0.5),
        }
    });
    resources.collect()
}

/// A field that a decision relies on.
fn unknown_field(rng: &mut StdRng) -> String {
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
    ];
    let whole = dropped(&fullest(jiff::Timestamp::now()), None);
    let fields: Vec<String> = whole.into_iter().chain(nested.map(str::to_owned)).collect();
    fields.choose(rng).cloned().expect("there are fields")
}

/// What people do: every resource is created, some things happen to it, and in the end the Secrets are sound, and every resource has the
/// label that the operators go by.
fn actions(rng: &mut StdRng, resources: &[Resource], selects: bool, wipes: bool) -> Vec<Action> {
    let mut actions = Vec::new();
    let (mut there, mut suspended) = (vec![false; resources.len()], vec![false; resources.len()]);
    let mut out = vec![false; resources.len()];
    let mut leaving = vec![false; resources.len()];
    // A status that another writer changed is looked at once a minute: a second wipe would take that long.
    let mut wiped = vec![!wipes; resources.len()];
    let mut requests = rng
        .random_bool(0.3)
        .then_some(0)
        .into_iter()
        .flat_map(|_| 1..3);
    let first = rng.random_range(1..=resources.len());
    for (n, there) in there.iter_mut().enumerate().take(first) {
        actions.push(Action::Create(n));
        *there = true;
    }
    for _ in 0..rng.random_range(0..11) {
        let n = rng.random_range(0..resources.len());
        let secret = rng.random_range(0..2);
        let action = match rng.random_range(0..18) {
            0..4 if leaving[n] => Action::Deregister(n, false),
            4 if leaving[n] && !wiped[n] => Action::Wipe(n),
            _ if !there[n] => Action::Create(n),
            // Whoever does not look after it does not let it go either.
            0 | 1 if out[n] => Action::Label(n, true),
            0 | 1 => Action::Delete(n),
            2 | 3 => Action::Edit(n),
            4 => Action::Suspend(n, !suspended[n]),
            5 => requests
                .next()
                .map_or(Action::Edit(n), |value| Action::Request(n, value)),
            6 => Action::BreakSecret(secret),
            7 => Action::DeleteSecret(secret),
            8 => Action::Secret(secret, rng.random_range(1..4)),
            9 | 10 if selects => Action::Label(n, out[n]),
            11 | 12 if !wiped[n] => Action::Wipe(n),
            13..16 => Action::Lose(resources[n].number),
            16 => Action::Deregister(n, rng.random_bool(0.5)),
            _ => Action::Edit(n),
        };
        match action {
            Action::Create(_) => {
                (there[n], leaving[n], suspended[n], out[n]) = (true, false, false, false);
            }
            Action::Delete(_) => (there[n], leaving[n], suspended[n]) = (false, true, false),
            Action::Suspend(_, now) => suspended[n] = now,
            Action::Label(_, on) => out[n] = !on,
            Action::Wipe(_) => wiped[n] = true,
            _ => {}
        }
        actions.push(action);
    }
    for n in 0..resources.len() {
        if !there[n] && rng.random_bool(0.7) {
            actions.push(Action::Create(n));
        } else if suspended[n] && rng.random_bool(0.8) {
            actions.push(Action::Suspend(n, false));
        }
        if there[n] && out[n] {
            actions.push(Action::Label(n, true));
        }
    }
    actions.extend([Action::Secret(0, 0), Action::Secret(1, 0)]);
    actions
}
