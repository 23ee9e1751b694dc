//! The programs' sources, pinned by the Go modules beside this file, and how they are built.

use super::binaries::{Error, in_cache};
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
struct Module {
    name: &'static str,
    go_mod: &'static str,
    go_sum: &'static str,
    tools_go: &'static str,
}

/// A program and the package that it is built from.
pub struct Source {
    /// The program's name.
    pub name: &'static str,
    module: &'static Module,
    package: &'static str,
}

static KUBERNETES: Module = Module {
    name: "kubernetes",
    go_mod: include_str!("kubernetes/go.mod"),
    go_sum: include_str!("kubernetes/go.sum"),
    tools_go: include_str!("kubernetes/tools.go"),
};

static ETCD: Module = Module {
    name: "etcd",
    go_mod: include_str!("etcd/go.mod"),
    go_sum: include_str!("etcd/go.sum"),
    tools_go: include_str!("etcd/tools.go"),
};

/// The programs, in the order in which they are built.
pub static SOURCES: [Source; 3] = [
    Source {
        name: "etcd",
        module: &ETCD,
        package: "go.etcd.io/etcd/server/v3",
    },
    Source {
        name: "kube-apiserver",
        module: &KUBERNETES,
        package: "k8s.io/kubernetes/cmd/kube-apiserver",
    },
    Source {
        name: "kubectl",
        module: &KUBERNETES,
        package: "k8s.io/kubernetes/cmd/kubectl",
    },
];

// === impl Source ===

impl Source {
    /// Builds the program into the file `target`; its module is written to the directory `scratch`.
    pub fn build(
        &self,
        scratch: &Path,
        target: &Path,
        label: &str,
        progress: &dyn Fn(&str),
    ) -> Result<(), Error> {
        let mut go = Command::new("go");
        go.arg("build")
            .args(build_flags(self.module))
            .arg("-o")
            .arg(target)
            .arg(self.package)
            .current_dir(write_module(scratch, self.module)?)
            // A workspace file above the cache would put the pinned versions aside.
            .env("GOWORK", "off")
            .stdin(Stdio::null());
        let output = output_with_progress(go, label, progress).map_err(no_go)?;
        if output.status.success() {
            return Ok(());
        }
        let output = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(Error::Build {
            name: self.name,
            output,
        })
    }
}

fn no_go(source: io::Error) -> Error {
    let version = word_after(KUBERNETES.go_mod, "go ");
    Error::NoGo { version, source }
}

/// The version of Kubernetes that is built, such as `v1.37.2`.
pub fn kubernetes_version() -> &'static str {
    word_after(KUBERNETES.go_mod, "require k8s.io/kubernetes ")
}

/// The rest of the first line that begins with `prefix`.
fn word_after(text: &'static str, prefix: &str) -> &'static str {
    text.lines()
        .find_map(|line| line.strip_prefix(prefix))
        .unwrap_or_default()
        .trim()
}

/// The name of the directory for exactly these sources, built in exactly this way for this machine.
pub fn key() -> String {
    let mut hash = Sha256::new();
    for source in &SOURCES {
        let Module {
            go_mod,
            go_sum,
            tools_go,
            ..
        } = source.module;
        let flags = build_flags(source.module).join(" ");
        for part in [
            source.package,
            go_mod,
            go_sum,
            tools_go,
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
    format!("kubernetes-{}-{digest}", kubernetes_version())
}

/// Without the version clients such as helm refuse the server, as it would not be a semantic version.
fn build_flags(module: &Module) -> Vec<String> {
    let mut linker = "-s -w".to_owned();
    if module.name == KUBERNETES.name {
        let version = kubernetes_version();
        let mut numbers = version.trim_start_matches('v').split('.');
        let values = [
            ("gitVersion", version),
            ("gitMajor", numbers.next().unwrap_or_default()),
            ("gitMinor", numbers.next().unwrap_or_default()),
        ];
        for (name, value) in values {
            linker += &format!(" -X k8s.io/component-base/version.{name}={value}");
        }
    }
    [
        "-trimpath",
        "-mod=readonly",
        "-buildvcs=false",
        "-ldflags",
        &linker,
    ]
    .map(str::to_owned)
    .into()
}

fn write_module(scratch: &Path, module: &Module) -> Result<PathBuf, Error> {
    let dir = scratch.join(module.name);
    fs::create_dir_all(&dir).map_err(in_cache(&dir))?;
    for (name, text) in [
        ("go.mod", module.go_mod),
        ("go.sum", module.go_sum),
        ("tools.go", module.tools_go),
    ] {
        let path = dir.join(name);
        fs::write(&path, text).map_err(in_cache(&path))?;
    }
    Ok(dir)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_in_the_module_file_alone() {
        assert!(
            kubernetes_version().starts_with("v1."),
            "{}",
            kubernetes_version()
        );
        let flags = build_flags(&KUBERNETES).join(" ");
        let version = format!("version.gitVersion={}", kubernetes_version());
        assert!(flags.contains(&version), "{flags}");
        assert!(!build_flags(&ETCD).join(" ").contains("gitVersion"));
    }
}
