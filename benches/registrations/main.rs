//! The floor and the operator side by side: what it costs to register many numbers, to rest and to start.
//!
//! `cargo bench`, or `cargo bench --bench registrations -- --numbers 100 --rounds 1`; with `--sizing 500,2000` the memory for
//! so many registered numbers. A real API server and the Graph
//! simulator of the tests; `docs/operations/benchmarks.md` says what the columns mean.

// Here a panic is a message to people, not a fault.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::unwrap_in_result
)]

/// The least that any operator must do for a number.
mod floor;
/// What a process costs: CPU, memory, requests to the API server.
mod measure;
/// How much memory the operator takes for so many numbers.
mod sizing;
/// What is printed.
mod table;

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Parser;
use futures::{StreamExt, stream};

use self::floor::Floor;
use self::measure::{Registered, Requests, Usage, load};
use self::table::Round;
use testkit::bed::Bed;
use testkit::control_plane::{ControlPlane, Program, program_dir};
use testkit::operator::Operator;
use testkit::simulator::Defaults;

/// How long the resting operator is watched.
const AT_REST: Duration = Duration::from_secs(10);

/// Compares the operator with the least that any operator must do.
#[derive(Debug, Parser)]
struct Args {
    /// How many numbers are registered in each round.
    #[arg(long, env = "BENCH_NUMBERS", default_value_t = 500)]
    numbers: usize,
    /// How many rounds floor and operator take turns in.
    #[arg(long, env = "BENCH_ROUNDS", default_value_t = 3)]
    rounds: usize,
    /// How many numbers are worked on at a time.
    #[arg(long, env = "BENCH_CONCURRENCY", default_value_t = 16)]
    concurrency: usize,
    /// How long Graph takes for each call, in milliseconds.
    #[arg(long, env = "BENCH_GRAPH_LATENCY", default_value_t = 20)]
    graph_latency: u64,
    /// Measures instead how much memory the operator takes for so many registered numbers.
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    sizing: Vec<usize>,
    /// `cargo bench` gives this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
    /// Runs the floor in this process.
    #[command(flatten)]
    floor: Option<Floor>,
}

/// Who registers the numbers.
enum Contender {
    Floor(Program),
    Operator(Operator),
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    if let Some(floor) = &args.floor {
        return floor.run(args.concurrency).await;
    }
    let control_plane = testkit::shared().await;
    if !args.sizing.is_empty() {
        return sizing::run(control_plane, &args.sizing).await;
    }
    table::print_setup(&args);
    let (mut floors, mut operators) = (Vec::new(), Vec::new());
    let mut last = None;
    for _ in 0..args.rounds.max(1) {
        drop(last.take());
        let bed = prepare(control_plane, &args).await;
        let (round, _) = register_all(&bed, &args, start_floor).await;
        floors.push(round.printed("floor"));
        let bed = prepare(control_plane, &args).await;
        let (round, operator) = register_all(&bed, &args, start_operator).await;
        operators.push(round.printed("operator"));
        last = Some((bed, operator));
    }
    table::print_medians(&floors, &operators);
    let Some((bed, Contender::Operator(operator))) = last else {
        return;
    };
    rest(&bed, &operator).await;
    operator.terminate().await;
    start_up(&bed, &args).await;
}

/// A namespace with all resources in it, and a simulator that knows none of their numbers yet.
async fn prepare(control_plane: &'static ControlPlane, args: &Args) -> Bed {
    let bed = Bed::on(control_plane).await;
    bed.simulator.set_defaults(Defaults {
        latency_millis: args.graph_latency,
        ..Defaults::default()
    });
    bed.secrets().await;
    let declared = stream::iter(0..args.numbers).map(async |n| {
        bed.declare(&format!("number-{n}"), &format!("7{n:09}"))
            .await
    });
    declared.buffer_unordered(16).for_each(async |_| {}).await;
    bed
}

/// Starts a contender on resources that are there already, and waits until the last one says that it is registered.
async fn register_all(
    bed: &Bed,
    args: &Args,
    start: impl AsyncFn(&Bed, &Args) -> Contender,
) -> (Round, Contender) {
    let mut registered = Registered::watch(bed.numbers()).await;
    let before = Requests::of(&bed.client).await;
    let load = load();
    let started = Instant::now();
    let contender = start(bed, args).await;
    tokio::select! {
        () = registered.until(args.numbers) => {}
        log = contender.ended() => panic!("it ended before every number was registered:\n{log}"),
    }
    let took = started.elapsed();
    // Events come after the status that they are about.
    let requests = Requests::when_quiet(&bed.client).await.since(&before);
    let totals = bed.simulator.totals();
    assert_eq!(totals.counts.register_calls, args.numbers, "{totals:?}");
    assert_eq!(totals.registered, args.numbers, "{totals:?}");
    assert_eq!(totals.violations, 0, "{:?}", bed.simulator.violations());
    let usage = Usage::of(contender.pid());
    let round = Round {
        numbers: args.numbers,
        took,
        requests,
        reads: totals.counts.reads,
        registers: totals.counts.register_calls,
        usage,
        load,
    };
    (round, contender)
}

/// The floor runs in a process of its own, so that its memory and CPU can be told from the simulator's.
async fn start_floor(bed: &Bed, args: &Args) -> Contender {
    let program = std::env::current_exe().expect("the path of this program");
    let command = [
        format!("KUBECONFIG={}", bed.kubeconfig.display()),
        program.display().to_string(),
        format!("--concurrency={}", args.concurrency),
        format!("--floor-namespace={}", bed.namespace),
        format!("--floor-graph={}", bed.simulator.base_url()),
    ];
    let dir = program_dir().expect("a directory for the floor");
    let program = Program::start("floor", Path::new("/usr/bin/env"), dir, command);
    Contender::Floor(program.expect("the floor starts"))
}

async fn start_operator(bed: &Bed, args: &Args) -> Contender {
    Contender::Operator(launch(bed, args))
}

/// The operator as it comes, but for the number of passes at a time.
fn launch(bed: &Bed, args: &Args) -> Operator {
    let flags = [
        format!("--graph-base-url={}", bed.simulator.base_url()),
        format!("--watch-namespace={}", bed.namespace),
        format!("--concurrency={}", args.concurrency),
        "--bind-address=127.0.0.1:0".to_owned(),
        "--log-format=json".to_owned(),
    ];
    Operator::launch(&bed.kubeconfig, &flags)
}

/// Prints what the operator costs when there is nothing to do.
async fn rest(bed: &Bed, operator: &Operator) {
    let (requests, usage) = (Requests::of(&bed.client).await, Usage::of(operator.pid()));
    tokio::time::sleep(AT_REST).await;
    let requests = Requests::of(&bed.client).await.since(&requests).total();
    let now = Usage::of(operator.pid());
    let (cpu, resident) = (now.cpu - usage.cpu, now.resident);
    println!(
        "\nat rest for {AT_REST:?}: {requests} API requests, {cpu:.2} s CPU, {resident:.1} MiB"
    );

    let started = Instant::now();
    let metrics = reqwest::get(format!("http://{}/metrics", operator.address())).await;
    let metrics = metrics.expect("an answer").text().await;
    let kibibytes = metrics.expect("the metrics").len() / 1024;
    println!("/metrics: {kibibytes} KiB in {:.0?}", started.elapsed());
}

/// Prints what it costs to start when every number is registered.
async fn start_up(bed: &Bed, args: &Args) {
    let before = Requests::of(&bed.client).await;
    let calls = bed.simulator.totals().counts;
    let started = Instant::now();
    let operator = launch(bed, args);
    operator.until_logged("The watches are synced").await;
    let ready = started.elapsed();
    let requests = Requests::when_quiet(&bed.client).await.since(&before);
    assert_eq!(bed.simulator.totals().counts, calls, "calls to Graph");
    let Usage { cpu, peak, .. } = Usage::of(operator.pid());
    println!(
        "start with all registered: ready after {ready:.2?}, {cpu:.2} s CPU, peak {peak:.1} MiB; API requests: {}",
        requests.per(1.0)
    );
}

impl Contender {
    fn pid(&self) -> u32 {
        match self {
            Self::Floor(program) => program.pid().expect("the floor runs"),
            Self::Operator(operator) => operator.pid(),
        }
    }

    /// Waits for its end, which nobody asked for; returns its log.
    async fn ended(&self) -> String {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            match self {
                Self::Floor(program) if program.exit_status().is_some() => return program.log(),
                Self::Operator(operator) if operator.exit_status().is_some() => {
                    return operator.log();
                }
                Self::Floor(_) | Self::Operator(_) => {}
            }
        }
    }
}
