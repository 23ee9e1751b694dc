//! The README and `docs/` say what is there: every reason, flag, variable, metric and field, and none that is not.

/// Reads tables, code spans and fenced blocks out of Markdown.
mod markdown;
/// Names in code spans anywhere in the documentation.
mod names;
/// The permissions of the README, in use.
mod permissions;
/// The tables of the README against the code.
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use jiff::Timestamp;
use kube::CustomResourceExt;
use kube::core::DeserializeGuard;
use operator_core::api::Reason;
use operator_core::api::{
    TokenSecretRef, WhatsAppPhoneNumber, WhatsAppPhoneNumberSpec, WhatsAppPhoneNumberStatus,
};
use operator_core::model::render::{Phase, Summary, set};
use serde::Deserialize;
use whatsapp_operator::config::Cli;
use whatsapp_operator::telemetry::metrics::Metrics;

/// The text of a file of the repository.
pub fn text(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Everything that people read, as path and text.
fn documents() -> Vec<(&'static str, String)> {
    [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "docs/design/protocol.md",
        "docs/faults.md",
        "docs/guarantees.md",
        "docs/mutations.md",
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

/// The text of `/metrics` with one resource in it, so that every metric has a series.
pub fn metrics() -> String {
    let mut number = WhatsAppPhoneNumber::new("support", spec());
    let mut status = WhatsAppPhoneNumberStatus::default();
    let summary = Summary {
        phase: Phase::Waiting,
        reason: Reason::SecretNotFound,
        message: String::new(),
    };
    set(&mut status, &summary, 1, Timestamp::now());
    number.status = Some(status);
    let number = std::sync::Arc::new(DeserializeGuard(Ok(number)));
    let metrics = Metrics::new(8, Box::new(move || vec![number.clone()]), Timestamp::now);
    metrics.encode().expect("metrics can be written")
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

fn spec() -> WhatsAppPhoneNumberSpec {
    let reference = serde_json::json!({"name": "secret"});
    let token: TokenSecretRef =
        serde_json::from_value(reference.clone()).expect("a name is enough");
    let spec = serde_json::json!({
        "phoneNumberID": "106540352242922",
        "tokenSecretRef": token,
        "pinSecretRef": reference,
    });
    serde_json::from_value(spec).expect("the required fields are enough")
}

/// `spec` or `status` in the schema of the CRD, as JSON.
fn schema(part: &str) -> serde_json::Value {
    let crd = serde_json::to_value(WhatsAppPhoneNumber::crd()).expect("a CRD is JSON");
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part].clone()
}

/// The names of the properties of a schema.
fn properties(schema: &serde_json::Value) -> BTreeSet<String> {
    let properties = schema["properties"].as_object();
    properties
        .map(|properties| properties.keys().cloned().collect())
        .unwrap_or_default()
}

/// Every Rust file below a directory of the repository.
fn rust_files(directory: &str) -> Vec<PathBuf> {
    let mut pending = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)];
    let mut files = Vec::new();
    while let Some(directory) = pending.pop() {
        let entries = std::fs::read_dir(&directory);
        for entry in entries.unwrap_or_else(|error| panic!("{}: {error}", directory.display())) {
            let path = entry.expect("a directory's entry can be read").path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}
