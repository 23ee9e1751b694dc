//! The README and the book in `docs/` name what is there, and the documented permissions are enough. The tables are made by
//! `cargo xtask docs`.

/// The page of kubectl commands, in use.
mod everyday;
/// Links and addresses.
mod links;
/// Reads tables, code spans, links and fenced blocks out of Markdown.
pub mod markdown;
/// Names in code spans anywhere in the documentation.
mod names;
/// The documented permissions, in use.
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
fn in_repository(path: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The text of a file of the repository.
pub fn text(path: &str) -> String {
    std::fs::read_to_string(in_repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Everything that people read, as path and text: what is at the root, the book, and the READMEs.
fn documents() -> Vec<(String, String)> {
    let others = [
        "charts/whatsapp-operator",
        "examples/gitops",
        "examples/try",
    ];
    let others = others.map(|path| format!("{path}/README.md"));
    let pages = [pages(""), all_pages("docs")].concat();
    let paths = pages.into_iter().chain(others);
    paths.map(|path| (path.clone(), text(&path))).collect()
}

/// The Markdown files in a directory.
fn pages(directory: &str) -> Vec<String> {
    let files = files(directory).into_iter();
    let markdown = files.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    markdown
        .map(|path| path.to_str().expect("a name that is text").to_owned())
        .collect()
}

/// The Markdown files in a directory and below it.
fn all_pages(directory: &str) -> Vec<String> {
    let below = files(directory)
        .into_iter()
        .filter(|path| in_repository(path).is_dir());
    let below = below.flat_map(|path| all_pages(path.to_str().expect("a name that is text")));
    pages(directory).into_iter().chain(below).collect()
}

/// What is in a directory, in order.
fn files(directory: impl AsRef<Path>) -> Vec<PathBuf> {
    let directory = directory.as_ref();
    let entries = std::fs::read_dir(in_repository(directory));
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let names = entries.map(|entry| entry.expect("an entry can be read").file_name());
    let mut paths: Vec<_> = names.map(|name| directory.join(name)).collect();
    paths.sort();
    paths
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
