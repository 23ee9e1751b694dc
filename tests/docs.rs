//! The README and `docs/` say what is there: every reason, flag, variable, metric and field, and none that is not.

/// Reads tables, code spans and fenced blocks out of Markdown.
mod markdown;
/// Names in code spans anywhere in the documentation.
mod names;
/// The permissions of the README, in use.
mod permissions;
/// The tables of the README against the code.
mod tables;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use kube::CustomResourceExt;
use kube::core::DeserializeGuard;
use whatsapp_operator::api::{
    TokenSecretRef, WhatsAppPhoneNumber, WhatsAppPhoneNumberSpec, WhatsAppPhoneNumberStatus,
};
use whatsapp_operator::config::Cli;
use whatsapp_operator::metrics::Metrics;

/// The text of a file of the repository.
fn text(path: &str) -> String {
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

/// The text of `/metrics` with one resource in it, so that every metric has a series.
fn metrics() -> String {
    let mut number = WhatsAppPhoneNumber::new("support", spec());
    number.status = Some(WhatsAppPhoneNumberStatus::default());
    let number = std::sync::Arc::new(DeserializeGuard(Ok(number)));
    let metrics = Metrics::new(Box::new(move || vec![number.clone()]));
    metrics.encode().expect("metrics can be written")
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
