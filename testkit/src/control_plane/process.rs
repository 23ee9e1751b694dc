//! Programs that never outlive the process that started them.
//!
//! Each runs under a small shell that holds the read end of a pipe. The write end, the lifeline, is
//! held by this process alone, so it closes when a [`Program`] is dropped and also when this process
//! exits, panics, aborts or is killed: the shell then kills the program and removes its directory.

use std::{
    fs, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};
use tempfile::TempDir;

/// How much of a log an error shows.
const LOG_TAIL_LINES: usize = 15;

/// Arguments: the directory, then the program and its arguments; the lifeline is standard input.
///
/// `read` is built in, so the shell has no child but the program. The guard is ended before the main
/// shell waits on, so that it cannot kill another process that was given the number of a program
/// that ended by itself. The directory stays until the lifeline closes, as the log is in it.
const SUPERVISOR: &str = r#"
exec 3<&0 </dev/null
dir=$1
shift
"$@" 3<&- >"$dir/log" 2>&1 &
program=$!
echo "$program" >"$dir/pid"
{ read -r _ <&3; kill -KILL "$program"; } &
guard=$!
wait "$program"
status=$?
kill -KILL "$guard" 2>/dev/null
echo "$status" >"$dir/exit-status"
read -r _ <&3
cd / && rm -rf "$dir"
"#;

/// A running program, its directory and its log; dropping it ends and removes all three.
#[derive(Debug)]
pub struct Program {
    name: &'static str,
    dir: PathBuf,
    supervisor: Child,
    lifeline: Option<ChildStdin>,
}

/// A new directory for one program's data, readable by this user only.
pub fn program_dir() -> io::Result<TempDir> {
    // Short, as the path of a Unix socket must fit into about 100 bytes.
    tempfile::Builder::new().prefix("wa-op-").tempdir()
}

// === impl Program ===

impl Program {
    /// Starts `binary` in `dir`, which belongs to the program from then on.
    pub fn start(
        name: &'static str,
        binary: &Path,
        dir: TempDir,
        args: impl IntoIterator<Item = String>,
    ) -> io::Result<Self> {
        let mut supervisor = Command::new("sh")
            .args(["-c", SUPERVISOR, name])
            .arg(dir.path())
            .arg(binary)
            .args(args)
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Its own group, or Ctrl-C would end it before the operator that uses it.
            .process_group(0)
            .spawn()?;
        let lifeline = supervisor.stdin.take();
        Ok(Self {
            name,
            dir: dir.keep(),
            supervisor,
            lifeline,
        })
    }

    /// The program's name, for messages.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The directory that goes with the program.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The exit status as a shell writes it (137 for SIGKILL), once the program ended by itself.
    pub fn exit_status(&self) -> Option<String> {
        let status = fs::read_to_string(self.dir.join("exit-status")).ok()?;
        status.ends_with('\n').then(|| status.trim_end().to_owned())
    }

    /// The program's process ID, once the shell has started it.
    pub fn pid(&self) -> Option<u32> {
        let pid = fs::read_to_string(self.dir.join("pid")).ok()?;
        pid.strip_suffix('\n')?.parse().ok()
    }

    /// Sends a signal by name to the program.
    pub fn signal(&self, name: &str) -> io::Result<()> {
        let pid = self
            .pid()
            .ok_or_else(|| io::Error::other("it has not started"))?;
        let pid = pid.to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status()?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("{} has ended", self.name)))
        }
    }

    /// What the program wrote to standard output and standard error.
    pub fn log(&self) -> String {
        fs::read(self.dir.join("log"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The last lines of the log.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // Nothing can be done about a failure here; the directory is gone already as a rule.
        let _ = self.supervisor.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}
