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

use testkit::{from_environment, shared};

/// How many schedules the test command runs.
const SCHEDULES: u64 = 8;

/// How many run at a time.
const PARALLEL: u64 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn fault_schedules_make_no_call_too_many() {
    let began = Instant::now();
    // Seeds begin at 1.
    let (base, count) = match from_environment("FAULT_SEED", 0) {
        0 => (
            from_environment("FAULT_BASE", 1),
            from_environment("FAULT_SCHEDULES", SCHEDULES),
        ),
        one => (one, 1),
    };
    let parallel = from_environment("FAULT_PARALLEL", PARALLEL);
    let control_plane = shared().await;
    println!("{count} schedules from seed {base} on");
    let outcomes: Vec<Outcome> = stream::iter(base..base + count)
        .map(|seed| async move { tokio::spawn(run(control_plane, seed)).await })
        .buffer_unordered(usize::try_from(parallel).expect("a small number"))
        .map(|outcome| outcome.expect("a schedule came to its end"))
        .inspect(tell)
        .collect()
        .await;
    if count == 1 {
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
