//! What looks like the name of something must be the name of something.

use std::collections::BTreeSet;

use kube::api::{Api, Patch, PatchParams};
use operator_core::api::Reason;
use operator_core::api::conditions;
use operator_core::api::{WhatsAppPhoneNumber, crd_yaml};
use regex::Regex;

use super::markdown::{blocks, code_spans, table};
use super::{alerts, documents, flags, metrics, properties, rust_files, schema, text};
use testkit::control_plane::{apply_crds, create_namespace};

/// Names in code spans that look like reasons and are something else.
const OTHER_WORDS: [&str; 9] = [
    "WhatsAppPhoneNumber",
    "SecretString",
    "Debug",
    "Retain",
    "Deregister",
    "Dockerfile",
    "NotSent",
    "Kustomization",
    "Unknown",
];

/// Names in code spans that look like variables of the operator and are something else.
const OTHER_VARIABLES: [&str; 4] = [
    "KUBEBUILDER_ASSETS",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "XDG_CACHE_HOME",
];

/// Checks each code span that a pattern matches as a whole.
fn each(pattern: &str, check: impl Fn(&str) -> bool) {
    let pattern = Regex::new(&format!("^(?:{pattern})$")).expect("the pattern is one");
    let mut unknown = Vec::new();
    for (path, text) in documents() {
        let spans = code_spans(&text).into_iter();
        let wrong = spans.filter(|span| pattern.is_match(span) && !check(span));
        unknown.extend(wrong.map(|span| format!("{path}: `{span}`")));
    }
    assert!(
        unknown.is_empty(),
        "there is nothing of this name: {unknown:#?}"
    );
}

#[test]
fn reasons_conditions_and_alerts() {
    let alerts = alerts();
    let mut known: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    known.extend([
        conditions::REGISTERED,
        conditions::FAILED,
        conditions::READY,
        conditions::RECONCILING,
        conditions::STALLED,
    ]);
    known.extend(alerts.iter().map(|alert| alert.name.as_str()));
    known.extend(OTHER_WORDS);
    each("(?:[A-Z][a-z]+)+", |span| known.contains(span));
}

#[test]
fn flags_of_the_operator() {
    let flags = flags();
    each("--[a-z-]+(?:=.*)?", |span| {
        let name = span.trim_start_matches('-');
        let name = name.split_once('=').map_or(name, |(name, _)| name);
        flags.iter().any(|flag| flag.get_long() == Some(name))
    });
}

#[test]
fn environment_variables() {
    let flags = flags();
    each("[A-Z]+(?:_[A-Z]+)+", |span| {
        let known = |flag: &clap::Arg| flag.get_env().is_some_and(|name| name == span);
        flags.iter().any(known) || OTHER_VARIABLES.contains(&span)
    });
}

#[test]
fn metrics_in_running_text() {
    let known = metrics();
    let pattern = Regex::new("whatsapp_operator_[a-z_]+").expect("the pattern is one");
    for (path, text) in documents() {
        for name in pattern.find_iter(&text) {
            let line = format!("\n{}", name.as_str());
            let series = [" ", "{", "_bucket"].map(|end| format!("{line}{end}"));
            let exists = series.iter().any(|series| known.contains(series));
            assert!(exists, "{path}: there is no metric {}", name.as_str());
        }
    }
}

#[test]
fn fields_of_spec_and_status() {
    let known = ["spec", "status"].map(|part| (part, properties(&schema(part))));
    each(r"(?:spec|status)\.[a-zA-Z]+", |span| {
        let (part, field) = span.split_once('.').unwrap_or_default();
        known
            .iter()
            .any(|(name, fields)| *name == part && fields.contains(field))
    });
}

#[test]
fn files_that_are_named_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    each(
        r"(?:src|core|testkit|demo|xtask|tests|docs|crds|examples|\.ci)/[a-z_/.]*",
        |span| root.join(span).exists(),
    );
    let link = Regex::new(r"\]\(([A-Za-z/._-]+)\)").expect("the pattern is one");
    for (path, text) in documents() {
        let directory = root.join(path).parent().map(std::path::Path::to_owned);
        for target in link.captures_iter(&text) {
            let exists = directory
                .as_ref()
                .is_some_and(|directory| directory.join(&target[1]).exists());
            assert!(
                exists,
                "{path}: a link leads to {}, which is not there",
                &target[1]
            );
        }
    }
}

#[test]
fn tests_that_prove_a_guarantee_exist() {
    let files = ["src", "tests", "core", "testkit"].map(rust_files).concat();
    let sources: Vec<String> = files
        .iter()
        .map(|path| std::fs::read_to_string(path).expect("a source can be read"))
        .collect();
    let long = Regex::new("^[a-z0-9]+(_[a-z0-9]+){3,}$").expect("a pattern");
    for (path, first, tests) in [
        ("docs/guarantees.md", "guarantee", "tests"),
        ("docs/mutations.md", "taken away", "caught by"),
    ] {
        let text = text(path);
        let mut named = Vec::new();
        let has_tests = |section: &&str| section.contains(&format!("| {tests} |"));
        for section in text.split("\n## ").filter(has_tests) {
            for cell in table(section, first).column(tests) {
                named.extend(code_spans(cell).into_iter().map(str::to_owned));
            }
        }
        // Elsewhere a name of so many words is a test's.
        let spans = code_spans(&text).into_iter();
        named.extend(spans.filter(|span| long.is_match(span)).map(str::to_owned));
        assert!(!named.is_empty(), "{path} names no test");
        for span in named {
            let name = span.rsplit("::").next().unwrap_or(&span);
            let definition = format!("fn {name}(");
            let exists = sources.iter().any(|source| source.contains(&definition));
            assert!(exists, "{path}: there is no test {span}");
        }
    }
}

#[tokio::test]
async fn the_api_server_takes_the_resource_of_the_readme() -> Result<(), Box<dyn std::error::Error>>
{
    let client = testkit::shared().await.client().await?;
    apply_crds(&client, &crd_yaml()?).await?;
    let namespace = create_namespace(&client).await?;
    let numbers: Api<WhatsAppPhoneNumber> = Api::namespaced(client, &namespace);
    let blocks = blocks(&text("README.md"), "yaml");
    let mut resources = blocks
        .iter()
        .filter(|block| block.contains("kind: WhatsAppPhoneNumber"))
        .peekable();
    assert!(resources.peek().is_some(), "the README shows a resource");
    for block in resources {
        let resource: serde_json::Value = serde_norway::from_str(block)?;
        let name = resource["metadata"]["name"].as_str().unwrap_or_default();
        let params = PatchParams {
            dry_run: true,
            ..PatchParams::apply("readme").validation_strict()
        };
        numbers
            .patch(name, &params, &Patch::Apply(&resource))
            .await?;
    }
    Ok(())
}
