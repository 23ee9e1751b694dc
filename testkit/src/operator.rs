//! The operator as users run it: the real program, in a process of its own, which never outlives the test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use super::control_plane::{Program, program_dir};

/// How long a start or an end of the operator may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// How often a process is asked how it is.
const POLL: Duration = Duration::from_millis(20);

/// What an operator has logged of a number whose resource goes, the last that it says of it.
#[derive(Clone, Debug)]
pub struct Farewell {
    pub time: Timestamp,
    /// The qualified name.
    pub resource: String,
    /// The phone number ID.
    pub number: String,
    pub reason: String,
}

/// A running operator; dropping it kills it.
#[derive(Debug)]
pub struct Operator {
    program: Program,
}

impl Farewell {
    /// All of them in a log, oldest first.
    pub fn all(log: &str) -> impl Iterator<Item = Self> {
        log.lines().filter_map(Self::of)
    }

    fn of(line: &str) -> Option<Self> {
        let reasons = [
            "Deregistered",
            "NotRegistered",
            "LeftRegistered",
            "DeregistrationInDoubt",
        ];
        // Most lines are others.
        reasons.iter().find(|reason| line.contains(*reason))?;
        let line: Value = serde_json::from_str(line).ok()?;
        let text = |name: &str| line[name].as_str().map(str::to_owned);
        let farewell = Self {
            time: text("timestamp")?.parse().ok()?,
            resource: text("resource")?,
            number: text("number")?,
            reason: text("reason")?,
        };
        reasons
            .contains(&farewell.reason.as_str())
            .then_some(farewell)
    }
}

impl Drop for Operator {
    /// What it has logged goes with it, unless somebody will want to know.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the log of the operator:\n{}", self.log());
        }
    }
}

impl Operator {
    /// Starts the operator and waits until its watches are synced.
    pub async fn start(kubeconfig: &Path, args: &[String]) -> Self {
        Self::start_in(kubeconfig, &[], args).await
    }

    /// The same with more in its environment, as `NAME=value`.
    pub async fn start_in(kubeconfig: &Path, environment: &[&str], args: &[String]) -> Self {
        let operator = Self::launch_in(kubeconfig, environment, args);
        operator.until_logged("The watches are synced").await;
        operator
    }

    /// Starts the operator.
    pub fn launch(kubeconfig: &Path, args: &[String]) -> Self {
        Self::launch_in(kubeconfig, &[], args)
    }

    fn launch_in(kubeconfig: &Path, environment: &[&str], args: &[String]) -> Self {
        let dir = program_dir().expect("a directory for the operator");
        let mut command = vec![
            format!("KUBECONFIG={}", kubeconfig.display()),
            // A panic is a fault of its own, and is to be seen in the log.
            "RUST_BACKTRACE=1".to_owned(),
            // A read that nobody asked for would upset whoever counts; tests about observing set their own interval.
            "OBSERVE_INTERVAL=0s".to_owned(),
        ];
        command.extend(environment.iter().map(|variable| (*variable).to_owned()));
        command.extend([program().display().to_string(), "run".to_owned()]);
        command.extend_from_slice(args);
        let program = Program::start("operator", Path::new("/usr/bin/env"), dir, command);
        Self {
            program: program.expect("the operator starts"),
        }
    }

    /// Its process ID.
    pub fn pid(&self) -> u32 {
        self.program.pid().expect("the operator runs")
    }

    /// Its exit status, once it has ended.
    pub fn exit_status(&self) -> Option<String> {
        self.program.exit_status()
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        self.program.log()
    }

    /// Waits until it has logged this text.
    pub async fn until_logged(&self, text: &str) {
        let deadline = Instant::now() + DEADLINE;
        while !self.log().contains(text) {
            let ended = self.exit_status();
            assert!(
                Instant::now() < deadline && ended.is_none(),
                "the operator did not log {text:?} (exit status {ended:?}):\n{}",
                self.log()
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// The address of `/metrics` and the health checks.
    pub fn address(&self) -> String {
        let log = self.log();
        let line = log
            .lines()
            .find_map(|line| line.split_once("\"address\":\""));
        let (_, rest) = line.expect("the log names the address");
        rest.split('"').next().expect("an address").to_owned()
    }

    /// The sum of a metric's series, such as `reconciliations_total{result="success"}`, which may leave labels out from the end.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = self.page("/metrics").await;
        let series = format!("whatsapp_operator_{}", series.trim_end_matches('}'));
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(&series)?;
            rest.starts_with([' ', '{', ',', '}'])
                .then(|| rest.rsplit_once(' ')?.1.parse::<f64>().ok())?
        });
        values.sum()
    }

    /// Waits until the sum of a metric's series is as wanted.
    pub async fn until_metric(&self, series: &str, wanted: impl Fn(f64) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let value = self.metric(series).await;
            if wanted(value) {
                return;
            }
            assert!(Instant::now() < deadline, "{series} is {value}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until what it serves under a path contains a text; returns all of it.
    pub async fn until_page(&self, path: &str, text: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let page = self.page(path).await;
            if page.contains(text) {
                return page;
            }
            assert!(Instant::now() < deadline, "{path} is {page}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// What it serves under a path.
    pub async fn page(&self, path: &str) -> String {
        let url = format!("http://{}{path}", self.address());
        let answer = reqwest::get(url).await.expect("the operator answers");
        answer.text().await.expect("the operator answers")
    }

    /// Kills it as the kernel does when memory runs out: nothing is finished.
    pub async fn kill(self) {
        self.signal("KILL");
        self.ended().await;
    }

    /// Tells it to stop, as Kubernetes does; returns its exit status and its log.
    pub async fn terminate(self) -> (String, String) {
        self.signal("TERM");
        let status = self.ended().await;
        (status, self.log())
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        assert!(
            send_signal(self.pid(), name),
            "the operator has ended:\n{}",
            self.log()
        );
    }

    /// Waits until it has ended.
    pub async fn ended(&self) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.exit_status() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the operator does not end:\n{}",
                self.log()
            );
            tokio::time::sleep(POLL).await;
        }
    }
}

/// The operator's program, which Cargo puts beside the program that runs now, or above it where that is a test.
///
/// `cargo test` and `cargo bench` build it for the package's own tests and benchmarks.
pub fn program() -> PathBuf {
    PROGRAM.get_or_init(beside_this_program).clone()
}

/// Starts this program from now on, where Cargo did not put the operator's beside the one that runs.
pub fn use_program(path: PathBuf) {
    PROGRAM.set(path).expect("no operator was started before");
}

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

fn beside_this_program() -> PathBuf {
    let own = std::env::current_exe().expect("this program has a path");
    let beside = own.parent().expect("a program is in a directory");
    let directory = if beside.ends_with("deps") {
        beside.parent().unwrap_or(beside)
    } else {
        beside
    };
    let program = directory.join("whatsapp-operator");
    assert!(
        program.is_file(),
        "there is no {}: run `cargo build`",
        program.display()
    );
    program
}

/// Sends a signal by name to a process; whether there was one.
pub fn send_signal(pid: u32, name: &str) -> bool {
    let sent = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status();
    sent.expect("kill runs").success()
}
