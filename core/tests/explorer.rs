//! Every history within bounds: the real decision core with an abstract environment, explored to the end.
//!
//! One or two resources of one number, one or two operators without leader election, each with a watch that lags and a
//! memory that a crash takes; an API server that refuses stale writes and loses answers; Graph that lags, fails and acts
//! without saying so, and loses registrations; time; people who edit, ask, suspend, delete and create; tokens that are rejected from some time
//! on. What people wish for a number that is registered, to observe, recover or deregister it, is the same for all resources. Between
//! any two steps of a process anything may happen, as often as the [`Budget`] of a configuration allows. The decisions are those of `decide`, `apply_outcome`,
//! `twins` and `ledger`; `operator` and `memory` mirror the I/O around them. `promises` and `fair` say what must
//! hold. A promise that is broken is reported with the shortest way to it.
//!
//! `cargo test -p whatsapp-operator-core explorer` explores what fits some seconds; `bounds` says what that is, and how a line of bounds reads.
//! With larger ones, in minutes, or with one's own:
//!
//! ```text
//! MODEL=full cargo test --release -p whatsapp-operator-core explorer -- --nocapture --test-threads 1
//! MODEL="2 b right switches=2 faults=1 creations=1 calls=1" cargo test -p whatsapp-operator-core every_history_within -- --nocapture
//! ```

use std::cell::RefCell;
use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;

use bounds::parsed;
use environment::Action;
use operator_core::api::conditions::reason_of;
use operator_core::api::{Operation, conditions};
use operator_core::credentials::Digests;
use operator_core::graph::{ReadOutcome, RegisterOutcome};
use operator_core::model::{Life, Policy};
use search::{Model, explore};
use state::{Budget, Look, NAMES, Operator, Outcome, Seconds, State};
use testkit::world;

mod answers;
mod bounds;
mod environment;
mod fair;
mod graph;
mod memory;
mod operator;
mod promises;
mod search;
mod server;
mod state;

/// `--attempt-limit`: small, so that it is reached.
const ATTEMPT_LIMIT: usize = 2;

/// The first second where the number is registered, since long before.
const BEGINNING: Seconds = 3600;

/// `--observe-interval`, where numbers are observed.
const INTERVAL: Duration = Duration::from_secs(6 * 3600);

/// `--deregister-deadline`.
const DEADLINE: Duration = Duration::from_secs(3600);

/// What is wished for every number that is registered.
#[derive(Clone, Copy, Debug, Default)]
struct Wishes {
    /// To read it from time to time.
    observe: bool,
    /// To register it again when it is lost: `lossPolicy: Register`.
    recover: bool,
    /// To take it off with its resource: `deletionPolicy: Deregister`.
    deregister: bool,
}

/// What is explored: who there is, and what may happen.
#[derive(Clone, Copy)]
struct Bounds {
    operators: usize,
    /// The names that there are at the beginning.
    resources: &'static [usize],
    /// Whether the Secret holds the right PIN at the beginning.
    right_pin: bool,
    /// Whether the number is registered at the beginning, for the first of them.
    registered: bool,
    wishes: Wishes,
    budget: Budget,
    /// The most states that are looked at.
    most: usize,
}

/// A line of defence that is taken away, to see that the model misses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    /// The claim is written without a `resourceVersion`.
    NoFence,
    /// An open claim is taken for abandoned at once.
    NoAge,
    /// What the read says is not looked at.
    NoLook,
    /// The deadline is not checked before the call.
    NoDeadline,
    /// The other resources are not listed before the call.
    NoRivals,
    /// Nothing is known of other resources and their calls.
    OthersForgotten,
    /// A result overwrites the status instead of completing its entry in the newest.
    Overwrites,
    /// No confirm window.
    NoWindow,
    /// The value of the annotation is not stored with the claim.
    RequestNotStored,
    /// A claim is used although its resource says by now that the number is registered.
    NotRegisteredMeanwhile,
    /// A pass goes on with a resource that was made anew, before its watch has brought it.
    ActsOnRecreated,
    /// One more call than allowed.
    NoBudget,
    /// The finalizer is not set before a claim.
    NoFinalizer,
    /// The other resources are not listed between the claim and the deregister call.
    NoLastSurvey,
    /// No waiting after a deregister call for another resource.
    NoAftermath,
    /// The deregister calls for earlier resources of a name are forgotten.
    EarlierForgotten,
    /// A deletion waits for as long as it takes.
    NoDeregisterDeadline,
    /// It is not noticed that the number is no longer to be taken off with its resource.
    WishForgotten,
    /// One read makes a loss.
    OneAnswer,
    /// A lost number is taken for a new one.
    LossForgotten,
    /// The second loss is taken for the first.
    FirstLossForgotten,
}

struct Checker {
    mutant: Option<Mutant>,
    bounds: Bounds,
    policy: Policy,
    digests: [Digests; 2],
    outcomes: [Vec<RegisterOutcome>; 2],
    readings: [ReadOutcome; 4],
    /// The optional read.
    details: ReadOutcome,
    /// States from which all is known to settle.
    settled: RefCell<HashSet<u64>>,
}

impl Checker {
    fn new(bounds: Bounds, mutant: Option<Mutant>) -> Self {
        let mut policy = Policy {
            attempt_limit: ATTEMPT_LIMIT,
            life: Life {
                observe_interval: match bounds.wishes.observe {
                    true => INTERVAL,
                    false => Duration::ZERO,
                },
                deregister_deadline: DEADLINE,
                ..Life::default()
            },
            ..world::policy()
        };
        if mutant == Some(Mutant::NoDeregisterDeadline) {
            policy.life.deregister_deadline = Duration::MAX;
        }
        policy.attempt_limit += usize::from(mutant == Some(Mutant::NoBudget));
        if mutant == Some(Mutant::NoWindow) {
            policy.confirm_window = Duration::ZERO;
        }
        Self {
            mutant,
            bounds,
            policy,
            digests: answers::digests(),
            outcomes: [Operation::Register, Operation::Deregister].map(answers::outcomes),
            readings: answers::readings(),
            details: answers::details(),
            settled: RefCell::default(),
        }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn digests(&self, right_pin: bool) -> &Digests {
        &self.digests[usize::from(right_pin)]
    }

    fn outcome(&self, operation: Operation, outcome: Outcome) -> &RegisterOutcome {
        &self.outcomes[operation as usize][outcome as usize]
    }

    fn reading(&self, look: Look) -> &ReadOutcome {
        &self.readings[look as usize]
    }
}

impl Model for Checker {
    type State = State;
    type Action = Action;

    fn beginnings(&self) -> Vec<State> {
        let mut server = state::Server::default();
        let beginning = if self.bounds.registered { BEGINNING } else { 0 };
        for name in self.bounds.resources {
            server.create(*name, self.bounds.wishes, beginning);
        }
        let mut graph = state::Graph::default();
        if let Some(name) = self
            .bounds
            .resources
            .first()
            .filter(|_| self.bounds.registered)
        {
            server.register(*name, self.digests(self.bounds.right_pin));
            graph.since = Some(state::Moment(0));
        }
        let mut state = State {
            clock: state::Silent(beginning),
            server,
            graph,
            barred: [false; NAMES.len()],
            pin: self.bounds.right_pin,
            operators: vec![Operator::default(); self.bounds.operators],
            last: 0,
            claims: 0,
            asked: 0,
            left: self.bounds.budget,
            history: state::History::default(),
            broken: None,
        };
        for who in 0..self.bounds.operators {
            memory::sync(&mut state, who);
        }
        vec![state]
    }

    fn actions(&self, state: &State) -> Vec<Action> {
        self.all_actions(state)
    }

    fn next(&self, state: &State, action: Action) -> State {
        let mut next = state.clone();
        self.apply(&mut next, action);
        next
    }

    /// Which operator is which makes no difference.
    fn fingerprint(&self, state: &State) -> u64 {
        let operators = state.operators.iter().enumerate();
        let print = |(who, operator)| state.print(&(who == state.last, operator));
        let mut operators: Vec<u64> = operators.map(print).collect();
        operators.sort_unstable();
        let secrets = (state.pin, state.barred);
        let outside = (&state.server, &state.graph, secrets, &state.left);
        let counted = (state.claims, state.asked, &state.history, &state.broken);
        state.print(&(operators, outside, counted))
    }

    fn broken(&self, state: &State) -> Option<String> {
        state.broken.clone().or_else(|| self.unsettled(state))
    }

    fn shown(&self, state: &State) -> String {
        let mut text = format!("at {} s: ", state.now());
        for (name, stored) in state.server.objects.iter().enumerate() {
            let Some(stored) = stored else { continue };
            let status = stored.status();
            let ready = reason_of(status, conditions::READY).map(|reason| reason.as_str());
            let attempts: Vec<String> = status
                .attempts
                .iter()
                .map(|a| {
                    let reason = a.known_reason().map_or("open", |reason| reason.as_str());
                    format!("{} {reason}", a.id)
                })
                .collect();
            text += &format!(
                "{} v{} {} {attempts:?}; ",
                NAMES[name],
                stored.version(),
                ready.unwrap_or("-")
            );
        }
        let calls = state.history.calls.iter();
        let calls: Vec<String> = calls
            .map(|call| format!("{} at {}", call.id, call.at.0))
            .collect();
        let registered = state.graph.since.map(|since| since.0);
        text + &format!("Graph: {calls:?}, registered {registered:?}")
    }
}

/// The time by every clock.
fn time(now: Seconds) -> Timestamp {
    Timestamp::from_second(world::START + i64::from(now)).expect("a time")
}

/// Explores, and says how much that was.
fn run(line: &str) {
    let bounds = parsed(line);
    match explore(&Checker::new(bounds, None), bounds.most) {
        Ok(figures) => println!("{line}: {figures}"),
        Err(trace) => panic!("{line}: {trace}"),
    }
}

/// A model without this line of defence breaks a promise.
fn is_missed(mutant: Mutant, line: &str) {
    let bounds = parsed(line);
    match explore(&Checker::new(bounds, Some(mutant)), bounds.most) {
        Ok(figures) => panic!("nothing misses {mutant:?} in {line}: {figures}"),
        Err(trace) => println!("--- {mutant:?} in {line}: {trace}"),
    }
}

#[test]
fn every_history_within_the_bounds_keeps_the_promises() {
    let chosen = std::env::var("MODEL").unwrap_or_default();
    match chosen.as_str() {
        "" => bounds::QUICK.iter().for_each(|line| run(line)),
        "full" => bounds::FULL.iter().for_each(|line| run(line)),
        lines => lines.split(';').for_each(run),
    }
}

#[test]
fn the_model_misses_each_line_of_defence() {
    let full = std::env::var("MODEL").is_ok_and(|chosen| chosen == "full");
    for (mutant, line, quick) in bounds::MISSED {
        if *quick || full {
            is_missed(*mutant, line);
        }
    }
}
