//! `cargo demo`: the operator at work, on a real Kubernetes API server and a simulated Graph API.
//!
//! Nothing needs to be there but Rust. The API server is downloaded or built on the first run, the resources are those in
//! `examples/manifests/`, and the table is the one that `kubectl get wapn` prints. At the end stands how often the
//! operator called for each number, as the simulator counted it. Everything that was started is stopped again.

mod cluster;
mod operator;
mod scenario;
mod table;
mod verdict;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use operator_core::api::conditions;
use testkit::simulator::Simulator;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::operator::Operator;
use crate::scenario::{FAILED, LATE_SECRET, LEAVING, LOST, RIGHT_PIN, SCENARIOS};
use crate::table::{Live, Table};
use crate::verdict::Verdict;

/// How long everything may take to settle: about 15 s as a rule.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// How long nothing more may happen after that: more than any wait that the operator is started with.
const QUIET: Duration = Duration::from_secs(6);

/// How often the table is fetched.
const POLL: Duration = Duration::from_millis(300);

/// What ends a process that was interrupted by Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Why the demo could not be shown.
type Failure = Box<dyn Error + Send + Sync>;

/// Shows the operator at work, on a real Kubernetes API server and a simulated Graph API.
#[derive(Debug, Parser)]
#[command(name = "cargo demo")]
struct Args {
    /// Stay up at the end, to try kubectl, until Ctrl-C
    #[arg(long)]
    keep: bool,
}

/// What happens to a resource while the table is watched.
#[derive(Clone, Copy)]
enum Turn {
    SecretComes,
    NumberIsLost,
    ResourceIsDeleted,
}

/// What runs while the demo is shown; the operator goes before what it talks to.
struct Stage {
    operator: Operator,
    simulator: Simulator,
    cluster: Cluster,
}

fn main() -> ExitCode {
    // The demo starts itself once more, as the operator.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|command| command == "run")
    {
        return whatsapp_operator::main(std::env::args_os());
    }
    let args = Args::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let code = runtime.block_on(async {
        tokio::select! {
            // First: Cargo is sent Ctrl-C as well, and fails.
            biased;
            _ = tokio::signal::ctrl_c() => {
                println!("\nInterrupted: everything that was started is stopped.");
                ExitCode::from(INTERRUPTED)
            }
            result = demo(&args) => match result {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::FAILURE,
                Err(error) => failed(&error),
            },
        }
    });
    // A build that goes on in the background was sent Ctrl-C as well.
    runtime.shutdown_background();
    code
}

fn failed(error: &Failure) -> ExitCode {
    eprintln!("\nThe demo failed: {error}");
    ExitCode::FAILURE
}

/// Shows everything; whether it was as it should be.
async fn demo(args: &Args) -> Result<bool, Failure> {
    let started = Instant::now();
    let mut stage = Stage::set().await?;
    let shown = stage.show(started).await;
    if !matches!(shown, Ok(true)) {
        let log = stage.operator.log_tail();
        eprintln!("\nThe end of the operator's log:\n{log}");
    }
    if args.keep {
        stage.keep(&shown).await;
    }
    let stopped = stage.operator.stop().await;
    let good = shown?;
    stopped?;
    Ok(good)
}

// === impl Turn ===

impl Turn {
    const ALL: [Self; 3] = [
        Self::SecretComes,
        Self::NumberIsLost,
        Self::ResourceIsDeleted,
    ];

    /// Whether the resource that it is about has come so far.
    fn is_due(self, table: &Table) -> bool {
        let (name, reason) = match self {
            Self::SecretComes => (LATE_SECRET, "SecretNotFound"),
            Self::NumberIsLost => (LOST, "RegistrationSucceeded"),
            Self::ResourceIsDeleted => (LEAVING, "RegistrationSucceeded"),
        };
        table
            .object(name)
            .and_then(|number| conditions::find(number.status.as_ref()?, conditions::READY))
            .is_some_and(|ready| ready.reason == reason)
    }

    fn tells(self) -> &'static str {
        match self {
            Self::SecretComes => "kubectl apply -f examples/manifests/later",
            Self::NumberIsLost => "Meta takes lost-number off the Cloud API",
            Self::ResourceIsDeleted => "kubectl delete wapn leaving-number",
        }
    }
}

// === impl Stage ===

impl Stage {
    /// Starts everything and applies the resources.
    async fn set() -> Result<Self, Failure> {
        step("Building the operator");
        let binary = std::env::current_exe()?;

        step("Starting a Kubernetes control plane: etcd and kube-apiserver");
        let cluster = Cluster::start().await?;
        println!("API server: {}", cluster.url());
        let kubeconfig = cluster.install().await?;

        step("Starting a simulated Graph API");
        let simulator = Simulator::start().await;
        scenario::prepare(&simulator)?;
        println!("Graph API: {}", simulator.base_url());

        step("Starting the operator, as a process of its own, with short waits");
        let operator = Operator::start(&binary, &kubeconfig, &simulator.base_url())?;
        println!("Log: {}", operator.log_path().display());
        Ok(Self {
            operator,
            simulator,
            cluster,
        })
    }

    /// Applies the resources, shows the table until they have settled, then what came of each.
    async fn show(&mut self, started: Instant) -> Result<bool, Failure> {
        step("kubectl apply -f examples/manifests/");
        let applied = self
            .cluster
            .kubectl(&["apply", "-f"], Some("examples/manifests"))?;
        print!("{applied}");

        step("kubectl get wapn --watch");
        let table = self.watch().await?;
        let verdict = Verdict::of(&table, &self.simulator);

        step(&format!("kubectl describe wapn {FAILED} (in short)"));
        self.describe_failed(&table)?;

        step("How often the operator called Graph, as Graph counted it");
        verdict.print();
        let memory = self.operator.memory();
        let memory =
            memory.map_or_else(String::new, |mib| format!(", the operator took {mib} MiB"));
        println!("All of it took {} s{memory}.", started.elapsed().as_secs());
        println!(
            "{}",
            if verdict.is_good() {
                "Everything is as it should be."
            } else {
                "NOT everything is as it should be."
            }
        );
        Ok(verdict.is_good())
    }

    /// Shows the table until everything has settled and stayed so, or the time is over.
    async fn watch(&mut self) -> Result<Table, Failure> {
        let mut live = Live::new();
        let mut turns: Vec<Turn> = Turn::ALL.to_vec();
        let mut settled: Option<Instant> = None;
        let deadline = Instant::now() + SETTLED_WITHIN;
        loop {
            self.operator.check()?;
            let table = table::fetch(&self.cluster.client).await?;
            let settled_for = settled.map(|since| since.elapsed());
            live.show(&table, &self.below(settled_for))?;
            let is_over = settled_for.is_some_and(|time| time >= QUIET);
            if is_over {
                return Ok(table);
            }
            if Instant::now() >= deadline {
                println!("\nNot everything has settled within {SETTLED_WITHIN:?}.");
                return Ok(table);
            }
            if let Some(next) = turns.iter().position(|turn| turn.is_due(&table)) {
                let turn = turns.remove(next);
                live.note(turn.tells())?;
                self.take(turn)?;
            }
            settled = is_settled(&table).then(|| settled.unwrap_or_else(Instant::now));
            tokio::time::sleep(POLL).await;
        }
    }

    fn take(&self, turn: Turn) -> Result<(), Failure> {
        let (args, path): (&[&str], _) = match turn {
            Turn::SecretComes => (&["apply", "-f"], Some("examples/manifests/later")),
            Turn::NumberIsLost => return scenario::lose(&self.simulator),
            Turn::ResourceIsDeleted => (&["delete", "wapn", LEAVING, "--wait=false"], None),
        };
        self.cluster.kubectl(args, path).map(drop)
    }

    fn below(&self, settled_for: Option<Duration>) -> String {
        let counts = self.simulator.totals().counts;
        let end = if settled_for.is_some() {
            "; everything has settled, and nothing more may happen"
        } else {
            ""
        };
        format!(
            "Graph has counted {} register calls and {} reads{end}.",
            counts.register_calls, counts.reads
        )
    }

    fn describe_failed(&self, table: &Table) -> Result<(), Failure> {
        let described = self.cluster.kubectl(&["describe", "wapn", FAILED], None)?;
        if let Some(failed) = table.object(FAILED) {
            verdict::print_failed(failed, &described);
        }
        Ok(())
    }

    /// Says how to go on with kubectl, and waits for Ctrl-C, which ends the process.
    async fn keep(&self, shown: &Result<bool, Failure>) {
        if let Err(error) = shown {
            eprintln!("\nThe demo failed: {error}");
        }
        step("Staying up until Ctrl-C; in another terminal:");
        println!("export KUBECONFIG={}", self.cluster.kubeconfig().display());
        println!(
            "alias kubectl={}   # if you have none",
            self.cluster.kubectl_path().display()
        );
        println!("kubectl get wapn -o wide");
        println!(
            "kubectl patch secret {FAILED} -p '{{\"stringData\":{{\"pin\":\"{RIGHT_PIN}\"}}}}'"
        );
        println!("curl {}/_simulator/numbers", self.simulator.base_url());
        if let Some(url) = self.operator.metrics_url() {
            println!("curl {url}");
        }
        println!("tail -f {}", self.operator.log_path().display());
        std::future::pending().await
    }
}

fn step(text: &str) {
    println!("\n==> {text}");
}

/// Whether every resource is as it must be in the end.
fn is_settled(table: &Table) -> bool {
    SCENARIOS
        .iter()
        .all(|scenario| scenario.has_ended(table.object(scenario.name)))
}
