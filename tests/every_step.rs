//! The process dies at every step, and the resource is deleted and made again at every step: how many register calls
//! does Graph see? A step is each Kubernetes write and each Graph call, before and after the server has done it.
//!
//! The results stand in docs/design/faults.md, and are compared with it. After a change that is meant, write them anew:
//! `WRITE_FAULTS=1 cargo test every_step`.

mod matrix;
mod scenario;
mod trail;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, join_all};
use futures::{StreamExt, stream};
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};
use operator_core::api::conditions::find;
use operator_core::api::{WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};
use serde_json::json;

use matrix::Row;
use scenario::Scenario;
use testkit::bed::{Bed, DEADLINE, resource};
use testkit::operator::send_signal;
use trail::{Deed, Step, Trail};

/// The number of every run; each has a simulator of its own.
const ID: &str = "7001";

/// The resource.
const NAME: &str = "number";

/// What the resource is called after it was renamed.
const RENAMED: &str = "renamed";

/// At how many steps of a scenario there are runs at a time: most of the time, each waits.
const AT_ONCE: usize = 2;

/// What an operator logs that did not get its answers in time; nothing here is slow on purpose.
const GIVEN_UP: [&str; 3] = [
    "took so long that another process may consider the claim abandoned",
    "operation timed out",
    "no answer from the API server",
];

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
    calls: usize,
    while_registered: usize,
    ends: String,
    steps: Vec<Step>,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_may_be_the_last() {
    let tables = stream::iter(Scenario::ALL).map(table).buffered(10);
    let tables: Vec<String> = tables.collect().await;
    matrix::compare(&tables.concat());
}

/// Runs a scenario without a fault, then with each fault at each of its steps.
async fn table(scenario: Scenario) -> String {
    let whole = run(scenario, None).await;
    let rows: Vec<Row> = stream::iter(whole.steps.clone())
        .map(|step| row(scenario, step, &whole))
        .buffered(AT_ONCE)
        .collect()
        .await;
    matrix::table(scenario, &whole, &rows)
}

async fn row(scenario: Scenario, step: Step, whole: &Outcome) -> Row {
    let runs = scenario.faults().iter().map(|fault| async move {
        let case = format!("{scenario:?}, {step}, {fault:?}");
        // The message of a run that fails does not say which one it is.
        let run = AssertUnwindSafe(run(scenario, Some((step, *fault))));
        let run = run.catch_unwind().await;
        let outcome = run.unwrap_or_else(|_| panic!("{case}: see the message above"));
        check(scenario, &outcome, whole, &case);
        outcome
    });
    let outcomes = join_all(runs).await;
    Row { step, outcomes }
}

/// What must hold whatever the documentation says.
fn check(scenario: Scenario, outcome: &Outcome, whole: &Outcome, case: &str) {
    // A requested call is made whether the number is registered or not.
    let requested = usize::from(scenario == Scenario::Requested);
    assert!(outcome.while_registered <= requested, "{case}");
    if scenario.registers_at_once() {
        assert_eq!(outcome.calls, whole.calls, "{case}");
    } else {
        assert!(outcome.calls <= whole.calls + 1, "{case}");
    }
}

/// One run, made again with more time where the machine was so busy that the operator gave something up: its steps are
/// other ones.
async fn run(scenario: Scenario, at: Option<(Step, Fault)>) -> Outcome {
    for again in 0..RUNS_MAX {
        let timeout = Duration::from_secs(1 << again);
        let (outcome, log) = run_once(scenario, at, timeout).await;
        if !GIVEN_UP.iter().any(|text| log.contains(text)) {
            return outcome;
        }
    }
    panic!("{scenario:?}, {at:?}: the machine is too busy to tell");
}

/// One run in a namespace of its own, with a fault at a step or none; what the operators logged.
async fn run_once(
    scenario: Scenario,
    at: Option<(Step, Fault)>,
    graph_timeout: Duration,
) -> (Outcome, String) {
    let bed = Bed::new().await;
    scenario.prepare(&bed, ID).await;
    let pid = Arc::new(AtomicU32::new(0));
    let fault = at.map(|(_, fault)| fault);
    let deed = deed(&bed, fault, Arc::clone(&pid));
    let trail = Arc::new(Trail::new(at.map(|(step, _)| step), deed));
    let gates = bed.gates(Arc::clone(&trail) as _).await;
    let graph_timeout = format!("--graph-timeout={}s", graph_timeout.as_secs());
    let flags = [
        graph_timeout.as_str(),
        "--confirm-window=1s",
        "--retry-cap=1s",
    ];
    let mut operator = gates.operator(&bed, &flags).await;
    let mut logs = String::new();
    pid.store(operator.pid(), Ordering::SeqCst);
    scenario.begin(&bed, NAME, ID, || trail.begin()).await;
    if let Some((step, fault)) = at {
        let done = tokio::time::timeout(DEADLINE, trail.done()).await;
        let log = || operator.log();
        assert!(
            done.is_ok(),
            "{scenario:?} never came to {step}:\n{}",
            log()
        );
        if fault == Fault::Crash {
            operator.ended().await;
            logs = operator.log();
            operator = gates.operator(&bed, &flags).await;
        }
    }
    let name = match fault {
        Some(Fault::Rename) => RENAMED,
        _ => NAME,
    };
    let settled = |status: &WhatsAppPhoneNumberStatus| settled(scenario, status);
    bed.until(name, "settled", &settled).await;
    if at.is_none() {
        // The event is the last step.
        bed.until_event(name, &reason(&bed.get(name).await)).await;
        trail.quiet().await;
    }
    let steps = trail.steps();
    // Another pass shows that it is at rest.
    bed.patch(name, json!({"spec": {"deletionPolicy": "Deregister"}}))
        .await;
    let number = bed
        .until(name, "at rest", |status| {
            status.observed_generation > 1 && settled(status)
        })
        .await;
    logs += &operator.terminate().await.1;
    assert!(!logs.contains("panicked"), "{logs}");
    let counts = bed.simulator.number(ID).counts;
    assert_eq!(counts.violations, 0);
    let outcome = Outcome {
        calls: counts.register_calls,
        while_registered: counts.register_calls_while_registered,
        ends: reason(&number),
        steps,
    };
    (outcome, logs)
}

fn settled(scenario: Scenario, status: &WhatsAppPhoneNumberStatus) -> bool {
    let is_true = |type_| find(status, type_).is_some_and(|c| c.status == "True");
    let handled = status.last_handled_register_request.is_some();
    (is_true("Registered") || is_true("Stalled"))
        && !is_true("Reconciling")
        && status.attempts.iter().all(|attempt| !attempt.is_open())
        && (handled || scenario != Scenario::Requested)
}

fn reason(number: &WhatsAppPhoneNumber) -> String {
    let status = number.status.as_ref().expect("a status");
    find(status, "Ready").expect("Ready").reason.clone()
}

fn deed(bed: &Bed, fault: Option<Fault>, pid: Arc<AtomicU32>) -> Deed {
    let numbers = bed.numbers();
    Box::new(move || match fault {
        Some(Fault::Crash) | None => {
            send_signal(pid.load(Ordering::SeqCst), "KILL");
            futures::future::ready(false).boxed()
        }
        Some(Fault::Recreate) => remake(numbers.clone(), NAME),
        Some(Fault::Rename) => remake(numbers.clone(), RENAMED),
    })
}

/// Deletes the resource and makes it again; what was under way goes on.
fn remake(numbers: Api<WhatsAppPhoneNumber>, name: &'static str) -> BoxFuture<'static, bool> {
    async move {
        let params = DeleteParams::default();
        numbers.delete(NAME, &params).await.expect("a deletion");
        let again = resource(name, ID, json!({}));
        let made = numbers.create(&Default::default(), &again).await;
        assert_eq!(made.expect("a number").name_any(), name);
        true
    }
    .boxed()
}
