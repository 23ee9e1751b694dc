//! Helm, as users run it, but without settings and caches of the user's.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kube::core::DynamicObject;
use serde::Deserialize;
use tempfile::TempDir;

use testkit::tools::HELM;

/// The chart.
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/whatsapp-operator")
}

/// The values files that stand for the combinations worth trying, by name.
pub fn combinations() -> Vec<PathBuf> {
    let directory = chart().join("ci");
    let entries = std::fs::read_dir(&directory).expect("the chart has a directory ci");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().ends_with("-values.yaml"))
        .collect();
    files.sort();
    assert!(files.len() > 4, "too few combinations: {files:?}");
    files
}

/// Helm with a home of its own, for one cluster or for none.
pub struct Helm {
    home: TempDir,
    kubeconfig: Option<PathBuf>,
}

// === impl Helm ===

impl Helm {
    /// For what needs no cluster.
    pub fn alone() -> Self {
        Self {
            home: TempDir::new().expect("a directory"),
            kubeconfig: None,
        }
    }

    /// For the cluster of a kubeconfig.
    pub fn on(kubeconfig: PathBuf) -> Self {
        Self {
            kubeconfig: Some(kubeconfig),
            ..Self::alone()
        }
    }

    /// Runs helm; panics with what it said unless it succeeds.
    pub fn run(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert!(output.status.success(), "helm {args:?}: {}", said(&output));
        String::from_utf8(output.stdout).expect("helm prints text")
    }

    /// Runs helm, which must refuse; returns what it said.
    pub fn refuse(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert!(!output.status.success(), "helm {args:?} takes it");
        said(&output)
    }

    fn output(&self, args: &[&str]) -> Output {
        let mut helm: Command = HELM.command(args);
        for kind in ["CACHE", "CONFIG", "DATA"] {
            helm.env(format!("HELM_{kind}_HOME"), self.home.path().join(kind));
        }
        let kubeconfig = self.kubeconfig.as_deref();
        helm.env("KUBECONFIG", kubeconfig.unwrap_or(Path::new("/nowhere")));
        helm.output().expect("helm runs")
    }

    /// What the chart makes of these flags for a release.
    pub fn render(&self, release: &str, namespace: &str, flags: &[&str]) -> Vec<DynamicObject> {
        let chart = chart();
        let chart = chart.to_str().expect("a path that is text");
        let fixed = ["template", release, chart, "--namespace", namespace];
        objects(&self.run(&[&fixed, flags].concat()))
    }
}

/// Everything that a program said, on both ways out.
pub fn said(output: &Output) -> String {
    let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&said).into_owned()
}

/// The objects in YAML documents.
pub fn objects(yaml: &str) -> Vec<DynamicObject> {
    let documents = serde_norway::Deserializer::from_str(yaml);
    let objects = documents.map(|document| {
        Option::<DynamicObject>::deserialize(document).expect("each document is an object")
    });
    objects.flatten().collect()
}

/// The kind of an object.
pub fn kind(object: &DynamicObject) -> &str {
    let types = object.types.as_ref();
    types.map_or("", |types| types.kind.as_str())
}

/// The only object of a kind.
pub fn only<'a>(objects: &'a [DynamicObject], wanted: &str) -> &'a DynamicObject {
    let mut found = objects.iter().filter(|object| kind(object) == wanted);
    let first = found.next().unwrap_or_else(|| panic!("no {wanted}"));
    assert!(found.next().is_none(), "more than one {wanted}");
    first
}
