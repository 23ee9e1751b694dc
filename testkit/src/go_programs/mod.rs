//! Programs of the Go world that the tests and the demo need, built once from pinned Go modules into the user's cache.

// The tests and the demo include this module separately, and each uses a part of it.

mod cache;

pub use cache::{Error, Error as CacheError, default_dir, in_cache, non_empty_env, once};

use sha2::{Digest, Sha256};
use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// How often a build says that it is still running.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// A Go module that pins programs, as text, so that an installed test binary needs no checkout.
pub struct Module {
    /// Its directory while it is built.
    pub name: &'static str,
    /// Its `go.mod`.
    pub go_mod: &'static str,
    /// Its `go.sum`.
    pub go_sum: &'static str,
    /// Its `tools.go`, which imports the programs.
    pub tools_go: &'static str,
    /// Build tags, separated by commas.
    pub tags: &'static str,
    /// Variables that the linker sets, as name and value.
    pub variables: fn() -> Vec<(&'static str, &'static str)>,
}

/// A program and the package that it is built from.
pub struct Source {
    /// The program's name.
    pub name: &'static str,
    /// The module that pins it.
    pub module: &'static Module,
    /// The package of its `main`.
    pub package: &'static str,
}

/// Programs that are built together, in this order, into one directory.
pub struct Set {
    /// What people call them.
    pub what: &'static str,
    /// The name that the directory begins with.
    pub name: fn() -> String,
    /// The programs.
    pub sources: &'static [Source],
    /// How long that takes, in words.
    pub takes: &'static str,
    /// What to do without a Go toolchain, beside installing one.
    pub instead_of_go: &'static str,
}

// === impl Set ===

impl Set {
    /// The directory with the programs, built first where it is not there, telling `progress` what is going on.
    pub fn locate_or_build(&self, progress: &dyn Fn(&str)) -> Result<PathBuf, Error> {
        let cache = default_dir()?;
        let built = self.directory(&cache);
        once(&cache, &built, self.what, progress, |scratch| {
            progress(&format!(
                "building {} from source into {}; this happens once and takes {} on 2 cores",
                self.what,
                built.display(),
                self.takes
            ));
            self.build(scratch, progress)
        })?;
        Ok(built)
    }

    /// Where the programs are in the cache once they are built.
    pub fn directory(&self, cache: &Path) -> PathBuf {
        cache.join(self.key())
    }

    /// The name of the directory for exactly these sources, built in exactly this way for this machine.
    fn key(&self) -> String {
        let mut hash = Sha256::new();
        for source in self.sources {
            let module = source.module;
            let flags = module.build_flags().join(" ");
            for part in [
                source.package,
                module.go_mod,
                module.go_sum,
                module.tools_go,
                &flags,
                env::consts::OS,
                env::consts::ARCH,
            ] {
                hash.update(part);
                hash.update([0]);
            }
        }
        let digest: String = hash.finalize()[..6]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{}-{digest}", (self.name)())
    }

    /// Builds all programs; returns the directory that they are in.
    fn build(&self, scratch: &Path, progress: &dyn Fn(&str)) -> Result<PathBuf, Error> {
        let bin = scratch.join("bin");
        let count = self.sources.len();
        for (number, source) in self.sources.iter().enumerate() {
            let label = format!("building {} ({} of {count})", source.name, number + 1);
            let go = source.command(scratch, &bin)?;
            let output = output_with_progress(go, &label, progress).map_err(|error| {
                let version = word_after(source.module.go_mod, "go ");
                Error::no_go(self, version, error)
            })?;
            if !output.status.success() {
                let output = String::from_utf8_lossy(&output.stderr).into_owned();
                let name = source.name;
                return Err(Error::Build { name, output });
            }
        }
        Ok(bin)
    }
}

// === impl Source ===

impl Source {
    /// The build of the program into `bin`; its module is written to the directory `scratch`.
    fn command(&self, scratch: &Path, bin: &Path) -> Result<Command, Error> {
        let mut go = Command::new("go");
        go.arg("build")
            .args(self.module.build_flags())
            .arg("-o")
            .arg(bin.join(self.name))
            .arg(self.package)
            .current_dir(self.module.write(scratch)?)
            // A workspace file above the cache would put the pinned versions aside.
            .env("GOWORK", "off")
            .stdin(Stdio::null());
        Ok(go)
    }
}

// === impl Module ===

impl Module {
    fn build_flags(&self) -> Vec<String> {
        let mut linker = "-s -w".to_owned();
        for (name, value) in (self.variables)() {
            linker += &format!(" -X {name}={value}");
        }
        let mut flags: Vec<String> = ["-trimpath", "-mod=readonly", "-buildvcs=false"]
            .map(str::to_owned)
            .into();
        if !self.tags.is_empty() {
            flags.extend(["-tags", self.tags].map(str::to_owned));
        }
        flags.extend(["-ldflags".to_owned(), linker]);
        flags
    }

    fn write(&self, scratch: &Path) -> Result<PathBuf, Error> {
        let dir = scratch.join(self.name);
        fs::create_dir_all(&dir).map_err(in_cache(&dir))?;
        for (name, text) in [
            ("go.mod", self.go_mod),
            ("go.sum", self.go_sum),
            ("tools.go", self.tools_go),
        ] {
            let path = dir.join(name);
            fs::write(&path, text).map_err(in_cache(&path))?;
        }
        Ok(dir)
    }
}

/// This kind of machine as Go names it, such as `linux-amd64`.
pub fn machine() -> String {
    let system = match env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    let processor = match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{system}-{processor}")
}

/// The rest of the first line of a module file that begins with `prefix`, white space aside.
pub fn word_after(text: &'static str, prefix: &str) -> &'static str {
    text.lines()
        .find_map(|line| line.trim().strip_prefix(prefix))
        .unwrap_or_default()
        .trim()
}

/// Runs a command to its end and meanwhile says now and then for how long it has been running.
fn output_with_progress(
    mut command: Command,
    label: &str,
    progress: &dyn Fn(&str),
) -> io::Result<Output> {
    let started = Instant::now();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(command.output()));
    progress(label);
    loop {
        match receiver.recv_timeout(PROGRESS_INTERVAL) {
            Ok(output) => return output,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                progress(&format!("{label}: {} s", started.elapsed().as_secs()));
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("the thread that ran the command is gone"));
            }
        }
    }
}
