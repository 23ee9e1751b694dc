//! Many numbers, faults everywhere, for a long time: the operator stays as small as it was, and makes no call too many.
//!
//! `cargo xtask soak`, or `cargo xtask soak --minutes 120 --numbers 1000 --seed 7`. The real program works behind gates that lose,
//! delay, refuse and garble what passes, while the resources are edited, suspended, deleted and made again, their
//! Secrets change, and Graph answers as its scripts have it. At the end the faults stop, everything must come to rest,
//! and memory and file handles must be what they were after the first minutes.

mod churn;
mod samples;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Parser;
use futures::StreamExt;
use kube::api::ListParams;
use operator_core::api::conditions::find;
use testkit::bed::{Bed, Gates};
use testkit::gateway::faults::{Fault, Faults, Mix};
use testkit::operator::{Operator, use_program};

use self::churn::{Churn, name};
use self::samples::Samples;

/// How often the process is looked at.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// How often a line is printed.
const PRINT_EVERY: u32 = 12;

/// How long everything may take to come to rest when the faults have stopped.
const REST_WITHIN: Duration = Duration::from_secs(300);

/// The operator's flags: short waits, so that much happens.
const FLAGS: [&str; 6] = [
    "--graph-timeout=5s",
    "--confirm-window=3s",
    "--retry-base=1s",
    "--retry-cap=30s",
    "--deregister-deadline=60s",
    "--log-level=info",
];

/// Runs the operator under random faults for a long time.
#[derive(Debug, Parser)]
pub struct Args {
    /// How long the faults go on.
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// How many numbers there are.
    #[arg(long, default_value_t = 500)]
    numbers: usize,
    /// The seed of everything that happens by chance.
    #[arg(long, default_value_t = 20_261_122)]
    seed: u64,
    /// How many things happen to the resources in a second.
    #[arg(long, default_value_t = 10.0)]
    rate: f64,
}

/// Runs to the end; panics where something is wrong.
#[tokio::main]
pub async fn run(args: &Args) {
    println!(
        "{} numbers, {} minutes, seed {}: cargo xtask soak --seed {}",
        args.numbers, args.minutes, args.seed, args.seed
    );
    use_program(build());
    let bed = Bed::new().await;
    // The process that is watched is the one that was started: it does not die.
    let mix = Mix::all()
        .without(Fault::CrashBefore)
        .without(Fault::CrashAfter);
    let (faults, _) = Faults::new(args.seed, mix.longest(Duration::from_secs(2)));
    let gates = bed.gates(faults.clone()).await;
    let operator = gates.launch(&bed, &FLAGS);
    let mut churn = Churn::new(&bed, args.seed, args.numbers);
    churn.declare_all().await;

    let samples = storm(args, &bed, &operator, &mut churn).await;
    faults.stop();
    println!("The faults stop: {:?}", faults.tally());
    rest(&bed, &gates, &mut churn, args.numbers).await;
    let (status, log) = operator.terminate().await;
    assert_eq!(status, "0", "the operator did not end well:\n{log}");
    churn.check(&log);
    samples.check();
    println!("All is well.");
}

/// Builds the operator as it is released; returns the path of the program.
fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--package", "whatsapp-operator"])
        .current_dir(&root)
        .status();
    assert!(built.is_ok_and(|status| status.success()), "see above");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    target.join("release/whatsapp-operator")
}

/// Lets things happen until the time is over.
async fn storm(args: &Args, bed: &Bed, operator: &Operator, churn: &mut Churn<'_>) -> Samples {
    let mut samples = Samples::new(operator.pid());
    let mut happens = tokio::time::interval(Duration::from_secs_f64(1.0 / args.rate));
    let mut looks = tokio::time::interval(SAMPLE_EVERY);
    let end = tokio::time::sleep(Duration::from_secs_f64(args.minutes * 60.0));
    let mut end = std::pin::pin!(end);
    let mut looked = 0_u32;
    loop {
        tokio::select! {
            () = &mut end => return samples,
            _ = happens.tick() => churn.happen().await,
            _ = looks.tick() => {
                let ended = operator.exit_status();
                assert!(ended.is_none(), "the operator ended ({ended:?}):\n{}", operator.log());
                samples.take();
                if looked.is_multiple_of(PRINT_EVERY) {
                    println!("{}; {}; {}", samples.last(), churn.done(), totals(bed));
                }
                looked += 1;
            }
        }
    }
}

fn totals(bed: &Bed) -> String {
    let totals = bed.simulator.totals();
    format!(
        "{} register calls, {} reads",
        totals.counts.register_calls, totals.counts.reads
    )
}

/// Waits until every number is registered, stalled, or waits with a time.
async fn rest(bed: &Bed, gates: &Gates, churn: &mut Churn<'_>, numbers: usize) {
    // What was kept from the operator is listed now.
    let list = bed.numbers().list(&ListParams::default().limit(1)).await;
    let version = list.expect("a list").metadata.resource_version;
    let version = version.and_then(|version| version.parse().ok());
    gates.api_server.forget_before(version.expect("a version"));
    churn.heal().await;
    let deadline = tokio::time::Instant::now() + REST_WITHIN;
    let back = tokio::time::timeout_at(deadline, churn.bring_back()).await;
    assert!(back.is_ok(), "not every deleted number went");
    let waiting = futures::stream::iter(0..numbers).map(|n| async move {
        let name = name(n);
        let settled = bed.until(&name, "at rest", |status| {
            let is_true = |type_| find(status, type_).is_some_and(|c| c.status == "True");
            let open = status.attempts.iter().any(|attempt| attempt.is_open());
            let waits = is_true("Reconciling") && status.next_attempt_time.is_some();
            !open && (is_true("Registered") || is_true("Stalled") || waits)
        });
        settled.await
    });
    let all = waiting.buffer_unordered(16).count();
    let all = tokio::time::timeout_at(deadline, all).await;
    assert_eq!(all, Ok(numbers), "not every number came to rest");
}
