//! What GitOps tools make of the resource: Argo CD, Flux, kustomize, and what fills the Secrets.

mod argo_cd;
mod comes_up;
mod examples;
mod flux;
mod kustomize;
mod situations;

use std::error::Error;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use serde_json::Value;

/// What a test gives back.
type Tested = Result<(), Box<dyn Error>>;

/// Where the examples are.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/gitops")
}

/// The text of one of the examples.
fn example(path: &str) -> String {
    let path = directory().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The documents in one of the examples.
fn yaml(path: &str) -> Vec<Value> {
    let text = example(path);
    let documents = serde_norway::Deserializer::from_str(&text);
    documents
        .map(|document| {
            Value::deserialize(document).unwrap_or_else(|error| panic!("{path}: {error}"))
        })
        .collect()
}
