//! What looks like the name of something must be the name of something.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kube::api::{Api, Patch, PatchParams};
use operator_core::api::conditions;
use operator_core::api::{REGISTER_REQUESTED_AT, Reason, WhatsAppPhoneNumber, crd, crd_yaml};
use operator_core::model::event::of_farewell;
use operator_core::model::{Farewell, FarewellOutcome};
use regex::Regex;

use super::markdown::{blocks, code_spans, table};
use super::{alerts, documents, flags, in_repository, metrics, series, text};
use testkit::control_plane::{apply_crds, create_namespace};

/// Names in code spans that look like reasons and are something else.
const OTHER_WORDS: [&str; 22] = [
    "Succeeded",
    "True",
    "False",
    "WhatsAppOperator",
    "Report",
    "Register",
    "WhatsAppPhoneNumber",
    "SecretString",
    "Debug",
    "Retain",
    "Deregister",
    "Dockerfile",
    "Life",
    "NotSent",
    "OutcomeNotRecorded",
    "Terminating",
    "Kustomization",
    "Unknown",
    "AlwaysAllow",
    "Audit",
    "Deny",
    "Warn",
];

/// Flags in code spans that are of Helm, the benchmark or the demo.
const OTHER_FLAGS: [&str; 4] = [
    "keep",
    "reset-then-reuse-values",
    "sizing",
    "take-ownership",
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
fn reasons_conditions_states_and_alerts() {
    let (alerts, metrics) = (alerts(), series(&metrics()));
    let farewells = [
        FarewellOutcome::Deregistered,
        FarewellOutcome::NotRegistered,
        FarewellOutcome::LeftRegistered,
        FarewellOutcome::InDoubt,
    ];
    let why = String::new;
    let farewells = farewells.map(|outcome| {
        of_farewell(&Farewell {
            outcome,
            why: why(),
        })
        .reason
    });
    let mut known: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    known.extend(conditions::TYPES.iter().map(|(type_, _)| type_));
    known.extend(alerts.iter().map(|alert| alert.name.as_str()));
    known.extend(
        metrics["whatsapp_operator_phone_numbers"]["state"]
            .iter()
            .map(String::as_str),
    );
    known.extend(farewells.iter().map(String::as_str));
    known.extend(OTHER_WORDS);
    each("(?:[A-Z][a-z]+)+", |span| known.contains(span));
}

#[test]
fn flags_of_the_operator() {
    let flags = flags();
    each("--[a-z-]+(?:=.*)?", |span| {
        let name = span.trim_start_matches('-');
        let name = name.split_once('=').map_or(name, |(name, _)| name);
        OTHER_FLAGS.contains(&name) || flags.iter().any(|flag| flag.get_long() == Some(name))
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
    let crd = serde_json::to_value(crd()).expect("a CRD is JSON");
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    each(r"(?:spec|status)\.[a-zA-Z]+", |span| {
        let path = span.replace('.', "/properties/");
        schema.pointer(&format!("/properties/{path}")).is_some()
    });
}

#[test]
fn the_annotation_is_explained() {
    for document in [
        "docs/guides/request.md",
        "docs/guides/kubectl.md",
        "docs/operations/runbook.md",
        "CHANGELOG.md",
    ] {
        assert!(text(document).contains(REGISTER_REQUESTED_AT), "{document}");
    }
}

#[test]
fn the_runbook_has_a_section_for_every_reason_and_every_alert() {
    let text = text("docs/operations/runbook.md");
    let sections = text.lines().filter_map(|line| line.strip_prefix("### "));
    let reasons = Reason::ALL.iter().map(ToString::to_string);
    let alerts = alerts().into_iter().map(|alert| alert.name);
    let known: BTreeSet<String> = reasons.chain(alerts).collect();
    assert_eq!(sections.map(str::to_owned).collect::<BTreeSet<_>>(), known);
}

#[test]
fn files_that_are_named_exist() {
    each(
        r"(?:src|core|testkit|demo|xtask|tests|docs|crds|examples|\.ci|\.cargo)/[a-z_/.]*",
        |span| in_repository(span).exists(),
    );
}

#[test]
fn tests_that_prove_a_guarantee_exist() {
    let text = text("docs/design/guarantees.md");
    let mut named = Vec::new();
    let sections = text.split("\n## ");
    for section in sections.filter(|section| section.contains("| tests |")) {
        for row in table(section, "guarantee") {
            named.extend(code_spans(row["tests"]));
        }
    }
    // Elsewhere a name of so many words is a test's.
    let long = Regex::new("^[a-z0-9]+(_[a-z0-9]+){3,}$").expect("a pattern");
    named.extend(code_spans(&text).iter().filter(|span| long.is_match(span)));
    assert!(!named.is_empty(), "no test is named");
    let files = ["src", "tests", "core", "testkit"].map(|path| rust_files(&in_repository(path)));
    let sources = files.concat().into_iter().map(|path| {
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    });
    let sources: String = sources.collect();
    for span in named {
        let name = span.rsplit("::").next().unwrap_or(span);
        let exists = sources.contains(&format!("fn {name}("));
        assert!(exists, "there is no test {span}");
    }
}

/// Every Rust file below a directory.
fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory);
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let paths = entries.map(|entry| entry.expect("an entry can be read").path());
    paths
        .flat_map(|path| match path.extension() {
            _ if path.is_dir() => rust_files(&path),
            Some(extension) if extension == "rs" => vec![path],
            _ => Vec::new(),
        })
        .collect()
}

#[tokio::test]
async fn the_api_server_takes_the_resources_of_the_documentation()
-> Result<(), Box<dyn std::error::Error>> {
    let client = testkit::shared().await.client().await?;
    apply_crds(&client, &crd_yaml()?).await?;
    let namespace = create_namespace(&client).await?;
    let numbers: Api<WhatsAppPhoneNumber> = Api::namespaced(client, &namespace);
    let shown = |(path, text): (String, String)| {
        let blocks = blocks(&text, "yaml").into_iter();
        let resources = blocks.filter(|block| block.contains("\nkind: WhatsAppPhoneNumber\n"));
        resources
            .map(move |block| (path.clone(), block))
            .collect::<Vec<_>>()
    };
    let resources: Vec<_> = documents().into_iter().flat_map(shown).collect();
    for page in ["README.md", "docs/README.md", "docs/start/register.md"] {
        let shows = resources.iter().any(|(path, _)| path == page);
        assert!(shows, "{page} shows a resource");
    }
    for (_, block) in &resources {
        let resource: serde_json::Value = serde_norway::from_str(block)?;
        let name = resource["metadata"]["name"].as_str().unwrap_or_default();
        let params = PatchParams {
            dry_run: true,
            ..PatchParams::apply("documentation").validation_strict()
        };
        numbers
            .patch(name, &params, &Patch::Apply(&resource))
            .await?;
    }
    Ok(())
}
