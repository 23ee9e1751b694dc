//! The operator as a separate process: started, watched and ended.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use testkit::control_plane::{Program, program_dir};
use tokio::time::Instant;

use crate::Failure;

/// The name of the process's files.
const BINARY: &str = "whatsapp-operator";

/// Short waits, so that everything settles while people watch.
const FLAGS: [&str; 8] = [
    "--retry-base=1s",
    "--retry-cap=5s",
    "--confirm-window=3s",
    "--observe-interval=3s",
    "--graph-timeout=5s",
    "--bind-address=127.0.0.1:0",
    "--log-format=text",
    "--log-level=info",
];

/// Writes down its process ID, then becomes the operator without anything of the user's environment: a proxy or the
/// operator's own variables would change what the demo shows.
const START: &str = r#"echo $$ >pid && exec env -i "$@""#;

/// How long the operator may take to end when it is asked to.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// How often to look whether it has ended.
const STOP_POLL: Duration = Duration::from_millis(50);

/// The running operator; dropping it kills it.
pub struct Operator {
    program: Program,
    pid: Option<u32>,
}

// === impl Operator ===

impl Operator {
    /// Starts the operator against these two servers.
    pub fn start(binary: &Path, kubeconfig: &Path, graph: &str) -> io::Result<Self> {
        let mut args = vec![
            "-c".to_owned(),
            START.to_owned(),
            BINARY.to_owned(),
            format!("KUBECONFIG={}", kubeconfig.display()),
            binary.display().to_string(),
            "run".to_owned(),
            format!("--graph-base-url={graph}"),
        ];
        args.extend(FLAGS.map(str::to_owned));
        let program = Program::start(BINARY, Path::new("sh"), program_dir()?, args)?;
        Ok(Self { program, pid: None })
    }

    /// Where it logs to, for as long as it runs.
    pub fn log_path(&self) -> PathBuf {
        self.program.dir().join("log")
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        self.program.log_tail()
    }

    /// Where it serves its metrics, as its log tells: it was given any free port.
    pub fn metrics_url(&self) -> Option<String> {
        let log = self.program.log();
        let (_, rest) = log.split_once("address=")?;
        let address = rest.split_whitespace().next()?;
        Some(format!("http://{address}/metrics"))
    }

    /// An error once it has ended by itself.
    pub fn check(&self) -> Result<(), Failure> {
        match self.program.exit_status() {
            Some(status) => Err(format!("the operator ended with exit status {status}").into()),
            None => Ok(()),
        }
    }

    /// Its memory in MiB, where the system tells.
    pub fn memory(&mut self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?)).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kilobytes / 1024)
    }

    /// Ends it as Kubernetes would: with SIGTERM.
    pub async fn stop(mut self) -> Result<(), Failure> {
        let pid = self.pid().ok_or("the operator's process ID is not known")?;
        if self.program.exit_status().is_none() {
            Command::new("kill").arg(pid.to_string()).status()?;
        }
        let deadline = Instant::now() + STOP_WITHIN;
        loop {
            match self.program.exit_status().as_deref() {
                Some("0") => return Ok(()),
                Some(status) => {
                    return Err(format!(
                        "the operator ended with exit status {status} on SIGTERM:\n{}",
                        self.log_tail()
                    )
                    .into());
                }
                None if Instant::now() > deadline => {
                    return Err(format!(
                        "the operator did not end within {STOP_WITHIN:?} of SIGTERM:\n{}",
                        self.log_tail()
                    )
                    .into());
                }
                None => tokio::time::sleep(STOP_POLL).await,
            }
        }
    }

    fn pid(&mut self) -> Option<u32> {
        let path = self.program.dir().join("pid");
        self.pid = self
            .pid
            .or_else(|| std::fs::read_to_string(path).ok()?.trim().parse().ok());
        self.pid
    }
}
