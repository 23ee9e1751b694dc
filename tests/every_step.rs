//! The process dies at every step, and the resource is deleted and made again at every step: how many register and deregister
//! calls does Graph see? A step is each Kubernetes write and each Graph call, before and after the server has done it.
//!
//! The results stand in docs/design/faults.md, and are compared with it. After a change that is meant, write them anew:
//! `WRITE_FAULTS=1 cargo test every_step`.

mod matrix;
mod scenario;
mod trail;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FutureExt, join_all};
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};
use operator_core::api::conditions::find;
use operator_core::api::{WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};
use serde_json::json;
use tokio::sync::Semaphore;

use matrix::Row;
use scenario::{DEREGISTER_DEADLINE, Scenario};
use testkit::bed::{Bed, DEADLINE, resource};
use testkit::gateway::Kind;
use testkit::operator::send_signal;
use trail::{Deed, Moment, Step, Trail};

/// The number of every run; each has a simulator of its own.
const ID: &str = "7001";

/// The resource.
const NAME: &str = "number";

/// What the resource is called after it was renamed.
const RENAMED: &str = "renamed";

/// So many runs are made at a time: most of the time, each waits.
static SLOTS: Semaphore = Semaphore::const_new(10);

/// What an operator logs that did not get its answers in time; nothing here is slow on purpose.
const GIVEN_UP: [&str; 4] = [
    "took so long that another process may consider the claim abandoned",
    "operation timed out",
    "no answer from the API server",
    "the deadline is over",
];

/// What a deletion may take beyond its deadline: a claim grows old, and an operator starts.
const DEREGISTER_GRACE: Duration = Duration::from_secs(10);

/// Longer than the confirm window, which ends at a whole second: a call never becomes due in the second in which the window ends.
const RETRY_BASE: &str = "--retry-base=2s";

/// How many runs without a fault tell what the steps are.
const WHOLE_RUNS: usize = 3;

/// How often a run is made at most.
const RUNS_MAX: usize = 4;

/// What happens at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process is killed.
    Crash,
    /// The resource is deleted and made again under the same name.
    Recreate,
    /// The resource is deleted and made again under another name, as when it is renamed in Git.
    Rename,
}

/// How a run went.
pub struct Outcome {
    /// The calls that the scenario is about: register calls, or deregister calls where the resource leaves.
    calls: usize,
    /// The calls of the other kind.
    others: usize,
    while_registered: usize,
    claims: usize,
    ends: String,
    took: Duration,
    steps: Vec<Step>,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_may_be_the_last() {
    let tables = Scenario::ALL.map(|scenario| table(scenario).boxed_local());
    let tables = join_all(tables).await;
    matrix::compare(&tables.concat());
}

/// Runs a scenario without a fault, then with each fault at each of its steps.
async fn table(scenario: Scenario) -> String {
    let whole = whole(scenario).await;
    let rows = whole.steps.iter().map(|step| row(scenario, *step, &whole));
    let rows = join_all(rows).await;
    matrix::table(scenario, &whole, &rows)
}

/// A run without a fault, with the steps that each such run takes: on a busy machine a write may meet a conflict and be made again.
async fn whole(scenario: Scenario) -> Outcome {
    let runs = (0..WHOLE_RUNS).map(|_| run(scenario, None));
    let mut runs = join_all(runs).await;
    runs.sort_by_key(|run| run.steps.len());
    let mut whole = runs.swap_remove(0);
    let everywhere = |step: &Step| runs.iter().all(|run| run.steps.contains(step));
    whole.steps.retain(everywhere);
    whole
}

async fn row(scenario: Scenario, step: Step, whole: &Outcome) -> Row {
    let runs = scenario.faults().iter().map(|fault| async move {
        if !scenario.has_place(step, *fault) {
            return None;
        }
        let case = format!("{scenario:?}, {step}, {fault:?}");
        // The message of a run that fails does not say which one it is.
        let run = AssertUnwindSafe(run(scenario, Some((step, *fault))));
        let run = run.catch_unwind().await;
        let outcome = run.unwrap_or_else(|_| panic!("{case}: see the message above"));
        check(scenario, &outcome, whole, &case);
        if scenario.leaves() && *fault == Fault::Rename {
            assert!(outcome.calls <= unaware(&whole.steps, step), "{case}");
        }
        Some(outcome)
    });
    let outcomes = join_all(runs).await;
    Row { step, outcomes }
}

/// What must hold whatever the documentation says.
fn check(scenario: Scenario, outcome: &Outcome, whole: &Outcome, case: &str) {
    // A requested call is made whether the number is registered or not.
    let requested = usize::from(scenario == Scenario::Requested);
    assert!(outcome.while_registered <= requested, "{case}");
    assert!(outcome.calls <= outcome.claims, "{case}");
    assert_eq!(outcome.others, 0, "{case}");
    match scenario.calls() {
        Some(calls) => assert_eq!(outcome.calls, calls, "{case}"),
        None => assert!(outcome.calls <= whole.calls + 1, "{case}"),
    }
    if scenario.leaves() {
        let took = outcome.took;
        assert!(
            took < DEREGISTER_DEADLINE + DEREGISTER_GRACE,
            "{case}: {took:?}"
        );
    }
}

/// How many deregister calls may be made for a number that another resource names from this step on: those after a list that
/// was answered before.
fn unaware(steps: &[Step], at: Step) -> usize {
    let at = steps.iter().position(|step| *step == at);
    let (mut listed, mut calls) = (None, 0);
    for (place, step) in steps.iter().enumerate() {
        match (step.kind, step.moment) {
            (Kind::ListRivals, Moment::After) => listed = Some(place),
            (Kind::GraphDeregister, Moment::Before) => calls += usize::from(listed <= at),
            _ => {}
        }
    }
    calls
}

/// One run, made again with more time where the machine was so busy that the operator gave something up: its steps are
/// other ones.
async fn run(scenario: Scenario, at: Option<(Step, Fault)>) -> Outcome {
    let _slot = SLOTS.acquire().await.expect("nobody closes it");
    for again in 0..RUNS_MAX {
        let timeout = Duration::from_secs(1 << again);
        let outcome = run_once(scenario, at, timeout).await;
        if let Some(outcome) = outcome {
            return outcome;
        }
    }
    panic!("{scenario:?}, {at:?}: the machine is too busy to tell");
}

fn has_given_up(log: &str) -> bool {
    GIVEN_UP.iter().any(|text| log.contains(text))
}

/// One run in a namespace of its own, with a fault at a step or none. It is worth nothing where an operator gave something up.
async fn run_once(
    scenario: Scenario,
    at: Option<(Step, Fault)>,
    graph_timeout: Duration,
) -> Option<Outcome> {
    let bed = Bed::new().await;
    scenario.prepare(&bed, ID).await;
    let pid = Arc::new(AtomicU32::new(0));
    let fault = at.map(|(_, fault)| fault);
    let deed = deed(scenario, &bed, fault, Arc::clone(&pid));
    let trail = Arc::new(Trail::new(at.map(|(step, _)| step), deed));
    let gates = bed.gates(Arc::clone(&trail) as _).await;
    let graph_timeout = format!("--graph-timeout={}s", graph_timeout.as_secs());
    let more = scenario.flags();
    let times = ["--confirm-window=1s", RETRY_BASE, "--retry-cap=2s"];
    let flags: Vec<&str> = [graph_timeout.as_str()]
        .into_iter()
        .chain(times)
        .chain(more.iter().map(String::as_str))
        .collect();
    let mut operator = gates.operator(&bed, &flags).await;
    let mut logs = String::new();
    pid.store(operator.pid(), Ordering::SeqCst);
    scenario.begin(&bed, NAME, ID, || trail.begin()).await;
    let begun = Instant::now();
    if let Some((step, fault)) = at {
        let done = tokio::time::timeout(DEADLINE, trail.done()).await;
        let log = operator.log();
        if done.is_err() && has_given_up(&log) {
            return None;
        }
        assert!(done.is_ok(), "{scenario:?} never came to {step}:\n{log}");
        if fault == Fault::Crash {
            operator.ended().await;
            logs = operator.log();
            operator = gates.operator(&bed, &flags).await;
        }
    }
    let left = left(scenario, &bed, fault).await;
    let took = begun.elapsed();
    if at.is_none() && !has_given_up(&operator.log()) {
        // The event is the last step.
        let told = left.as_ref().map_or("Deregistered".to_owned(), reason);
        bed.until_event(NAME, &told).await;
        trail.quiet().await;
    }
    let mut steps = trail.steps();
    steps.retain(|step| !scenario.is_by_chance(step));
    let ends = match left {
        Some(number) => {
            let number = rest(scenario, &bed, &number.name_any()).await;
            format!("`{}`", reason(&number))
        }
        None => "gone".to_owned(),
    };
    logs += &operator.terminate().await.1;
    assert!(!logs.contains("panicked"), "{logs}");
    if has_given_up(&logs) {
        return None;
    }
    let counts = bed.simulator.number(ID).counts;
    assert_eq!(counts.violations, 0);
    let (calls, others) = match scenario.leaves() {
        true => (counts.deregister_calls, counts.register_calls),
        false => (counts.register_calls, counts.deregister_calls),
    };
    Some(Outcome {
        calls,
        others,
        while_registered: counts.register_calls_while_registered,
        claims: trail.claims(),
        ends,
        took,
        steps,
    })
}

/// Waits until nothing more happens; the resource that is left then.
async fn left(scenario: Scenario, bed: &Bed, fault: Option<Fault>) -> Option<WhatsAppPhoneNumber> {
    let renamed = fault == Some(Fault::Rename);
    if scenario.leaves() {
        bed.until_gone(NAME).await;
    }
    if scenario.leaves() && !renamed {
        return None;
    }
    let name = if renamed { RENAMED } else { NAME };
    let settled = |status: &_| settled(scenario, status);
    Some(bed.until(name, "settled", settled).await)
}

/// Another pass shows that it is at rest.
async fn rest(scenario: Scenario, bed: &Bed, name: &str) -> WhatsAppPhoneNumber {
    bed.patch(name, json!({"spec": {"deletionPolicy": "Deregister"}}))
        .await;
    let generation = bed.get(name).await.metadata.generation;
    bed.until(name, "at rest", |status| {
        Some(status.observed_generation) >= generation && settled(scenario, status)
    })
    .await
}

fn settled(scenario: Scenario, status: &WhatsAppPhoneNumberStatus) -> bool {
    let is_true = |type_| find(status, type_).is_some_and(|c| c.status == "True");
    let handled = status.last_handled_register_request.is_some();
    let hold = status.hold.as_ref();
    // For five minutes after a deregister call the number is left alone.
    let waits = scenario.leaves() && hold.is_some_and(|hold| hold.until.is_some());
    let rests = (is_true("Registered") || is_true("Stalled")) && !is_true("Reconciling");
    (rests || waits)
        && status.attempts.iter().all(|attempt| !attempt.is_open())
        && (handled || scenario != Scenario::Requested)
        && (status.last_loss_time.is_some() || scenario.reads().is_none())
}

fn reason(number: &WhatsAppPhoneNumber) -> String {
    let status = number.status.as_ref().expect("a status");
    find(status, "Ready").expect("Ready").reason.clone()
}

fn deed(scenario: Scenario, bed: &Bed, fault: Option<Fault>, pid: Arc<AtomicU32>) -> Deed {
    let numbers = bed.numbers();
    Box::new(move || match fault {
        Some(Fault::Crash) | None => {
            send_signal(pid.load(Ordering::SeqCst), "KILL");
            futures::future::ready(false).boxed()
        }
        Some(Fault::Recreate) => remake(scenario, numbers.clone(), NAME),
        Some(Fault::Rename) => remake(scenario, numbers.clone(), RENAMED),
    })
}

/// Deletes the resource, if that was not done yet, and makes it again; what was under way goes on.
fn remake(
    scenario: Scenario,
    numbers: Api<WhatsAppPhoneNumber>,
    name: &'static str,
) -> BoxFuture<'static, bool> {
    async move {
        let params = DeleteParams::default();
        if !scenario.leaves() {
            numbers.delete(NAME, &params).await.expect("a deletion");
        }
        let again = resource(name, ID, json!({}));
        let made = numbers.create(&Default::default(), &again).await;
        assert_eq!(made.expect("a number").name_any(), name);
        true
    }
    .boxed()
}
