//! A faulty API server: random schedules of faults between operator, API server and Graph, each checked against the
//! invariants by an independent observer.
//!
//! - `FAULT_SCHEDULES=1000 cargo test fault_schedules -- --nocapture`: so many schedules, with a line for each.
//! - `FAULT_SEED=17 cargo test fault_schedules -- --nocapture`: this one only, with its plan, its faults and the logs of
//!   its operators.
//! - `FAULT_BASE=5000`: other seeds, from this one on. `FAULT_PARALLEL=8`: how many at a time.

/// What an independent observer sees.
mod observer;
/// What must hold.
mod oracle;
/// What happens in a schedule.
mod plan;
/// One schedule from its beginning to its end.
mod run;

use std::collections::BTreeMap;
use std::time::Instant;

use futures::{StreamExt, stream};

use run::{Outcome, run};

use testkit::shared;

/// How many schedules the test command runs.
const SCHEDULES: u64 = 8;

/// How many run at a time.
const PARALLEL: u64 = 6;

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_schedules_make_no_call_too_many() {
    let began = Instant::now();
    let one = variable("FAULT_SEED");
    let base = one.or(variable("FAULT_BASE")).unwrap_or(1);
    let count = one.map_or_else(|| variable("FAULT_SCHEDULES").unwrap_or(SCHEDULES), |_| 1);
    let parallel = variable("FAULT_PARALLEL").unwrap_or(PARALLEL);
    let control_plane = shared().await;
    println!("{count} schedules from seed {base} on");
    let outcomes: Vec<Outcome> = stream::iter(base..base + count)
        .map(|seed| async move { tokio::spawn(run(control_plane, seed)).await })
        .buffer_unordered(usize::try_from(parallel).expect("a small number"))
        .map(|outcome| outcome.expect("a schedule came to its end"))
        .inspect(tell)
        .collect()
        .await;
    if one.is_some() {
        println!("{}", outcomes[0].trace);
    }
    sum_up(&outcomes, began);
    let busy = outcomes.iter().filter(|outcome| outcome.busy).count();
    assert!(
        busy * 10 <= outcomes.len() + 10,
        "in {busy} of {count} schedules calls never came to Graph: the machine is too busy"
    );
    let failed: Vec<u64> = outcomes
        .iter()
        .filter(|o| !o.violations.is_empty())
        .map(|o| o.seed)
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {count} schedules violate the invariants, as told above; repeat one with FAULT_SEED=n: {failed:?}",
        failed.len(),
    );
}

/// A line for a schedule; of one that went wrong, everything in a file.
fn tell(outcome: &Outcome) {
    let Outcome {
        seed,
        violations,
        busy,
        trace,
        tally,
        requests,
        posts,
        took,
    } = outcome;
    let (faults, seconds) = (tally.values().sum::<usize>(), took.as_secs_f64());
    let busy = if *busy { ", too busy" } else { "" };
    println!(
        "seed {seed}: {faults} faults, {requests} requests, {posts} calls, {seconds:.1} s{busy}"
    );
    if violations.is_empty() {
        return;
    }
    let wrong = violations.join("\n");
    let file = std::env::temp_dir().join(format!("fault-schedule-{seed}.txt"));
    std::fs::write(&file, format!("{wrong}\n{trace}\n")).expect("a file for what went wrong");
    println!("  VIOLATION, see {}: {wrong}", file.display());
}

/// The figures of all schedules.
fn sum_up(outcomes: &[Outcome], began: Instant) {
    let mut tally = BTreeMap::new();
    for (fault, count) in outcomes.iter().flat_map(|outcome| &outcome.tally) {
        *tally.entry(*fault).or_insert(0) += count;
    }
    println!(
        "{} schedules, {} requests, {} calls, {} faults {tally:?}, {} with violations, {:.0} s",
        outcomes.len(),
        outcomes
            .iter()
            .map(|outcome| outcome.requests)
            .sum::<usize>(),
        outcomes.iter().map(|outcome| outcome.posts).sum::<usize>(),
        tally.values().sum::<usize>(),
        outcomes
            .iter()
            .filter(|outcome| !outcome.violations.is_empty())
            .count(),
        began.elapsed().as_secs_f64(),
    );
}
