//! The README and `docs/` name what is there, and the README's permissions are enough. Its tables are made by
//! `cargo xtask docs`.

/// Reads tables, code spans and fenced blocks out of Markdown.
mod markdown;
/// Names in code spans anywhere in the documentation.
mod names;
/// The permissions of the README, in use.
mod permissions;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::CommandFactory;
use jiff::Timestamp;
use kube::core::DeserializeGuard;
use operator_core::api::Observation;
use serde::Deserialize;
use testkit::builders::{registered, resource, waiting};
use whatsapp_operator::config::{Cli, MetricsPerNumber};
use whatsapp_operator::memory::WatchId;
use whatsapp_operator::telemetry::metrics::Metrics;

/// A path in the repository.
fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The text of a file of the repository.
pub fn text(path: &str) -> String {
    std::fs::read_to_string(in_repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Everything that people read, as path and text.
fn documents() -> Vec<(&'static str, String)> {
    [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "docs/design/protocol.md",
        "docs/design/rooms.md",
        "docs/faults.md",
        "docs/guarantees.md",
        "docs/releasing.md",
        "docs/runbook.md",
        "examples/gitops/README.md",
    ]
    .map(|path| (path, text(path)))
    .into()
}

/// The flags of `whatsapp-operator run`, as clap knows them.
pub fn flags() -> Vec<clap::Arg> {
    let cli = Cli::command();
    let run = cli.find_subcommand("run").expect("there is a command run");
    let own = run.get_arguments().filter(|arg| arg.get_env().is_some());
    own.cloned().collect()
}

/// The text of `/metrics` with two resources in it, so that every metric has a series.
pub fn metrics() -> String {
    let numbers = [
        registered(resource("support", 0)),
        waiting(resource("sales", 0)),
    ];
    let numbers = numbers.map(|mut number| {
        number.status.get_or_insert_default().observation = Some(Observation::default());
        number
    });
    let numbers = numbers.map(|number| Arc::new(DeserializeGuard(Ok(number))));
    let numbers = move || numbers.to_vec();
    let all = MetricsPerNumber::All;
    let metrics = Metrics::new(8, all, Box::new(numbers), Timestamp::now);
    metrics.set_leader(true);
    metrics.set_watch(&WatchId::secrets(Some("shop")), true);
    let mut text = String::new();
    metrics.encode(&mut text).expect("metrics can be written");
    text
}

/// The series in an OpenMetrics text: the name, and for each label the values that it has.
pub fn series(text: &str) -> BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
    let mut all = BTreeMap::<_, BTreeMap<_, BTreeSet<_>>>::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap_or(line.len()));
        let labels = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let labels = labels.map_or("", |(labels, _)| labels).split(',');
        let metric = all.entry(name.to_owned()).or_default();
        for (label, value) in labels.filter_map(|label| label.split_once('=')) {
            let values = metric.entry(label.to_owned()).or_default();
            values.insert(value.trim_matches('"').to_owned());
        }
    }
    all
}

/// The alerts of the chart.
pub fn alerts() -> Vec<Alert> {
    let file: Rules = serde_norway::from_str(&text(
        "charts/whatsapp-operator/rules/whatsapp-operator.yaml",
    ))
    .expect("the rules file is one");
    file.groups
        .into_iter()
        .flat_map(|group| group.rules)
        .collect()
}

/// An alert in a rules file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// Its name.
    #[serde(rename = "alert")]
    pub name: String,
    /// When it fires.
    pub expr: String,
    /// For how long that must be so.
    #[serde(rename = "for")]
    pub wait: String,
    /// More labels.
    pub labels: BTreeMap<String, String>,
    /// What it says.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    #[serde(rename = "name")]
    _name: String,
    rules: Vec<Alert>,
}
