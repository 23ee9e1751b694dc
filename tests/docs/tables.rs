//! The tables of the README, row by row, against what the code says of itself.

use std::collections::{BTreeMap, BTreeSet};

use operator_core::api::REGISTER_REQUESTED_AT;
use operator_core::api::conditions;
use operator_core::api::{Disposition, Reason};

use super::markdown::{headings, table};
use super::{alerts, flags, metrics, properties, schema, series, text};

#[test]
fn every_reason_has_its_row() {
    let table = table(&text("README.md"), "reason");
    let reasons: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(
        table.names("reason"),
        reasons,
        "in the order of Reason::ALL"
    );
    for (reason, advice) in Reason::ALL.iter().zip(table.column("what to do")) {
        assert_eq!(advice, reason.advice(), "the advice for {reason}");
    }
    for (reason, then) in Reason::ALL.iter().zip(table.column("then")) {
        let stalls = then.starts_with("Stalls");
        let later = then.contains("then stalls");
        let expected = match reason.disposition() {
            Disposition::Done => then.starts_with("Rests"),
            Disposition::Stall => stalls,
            Disposition::RetryN(_) | Disposition::ConfirmThenStall => later,
            Disposition::Retry | Disposition::Confirm => !stalls && !later,
        };
        assert!(
            expected,
            "{reason}: {then:?} does not fit {:?}",
            reason.disposition()
        );
    }
}

#[test]
fn the_runbook_has_a_section_for_every_reason_and_every_alert() {
    let documented: BTreeSet<String> = headings(&text("docs/runbook.md"), 3)
        .into_iter()
        .map(str::to_owned)
        .collect();
    let reasons = Reason::ALL.iter().map(ToString::to_string);
    let alerts = alerts().into_iter().map(|alert| alert.name);
    assert_eq!(documented, reasons.chain(alerts).collect());
}

#[test]
fn every_alert_has_its_row() {
    let documented = table(&text("README.md"), "alert").names("alert");
    let alerts: Vec<String> = alerts().into_iter().map(|alert| alert.name).collect();
    assert_eq!(documented, alerts, "in the order of the rules file");
}

#[test]
fn every_condition_has_its_row() {
    let documented = table(&text("README.md"), "type").names("type");
    let types = [
        conditions::REGISTERED,
        conditions::FAILED,
        conditions::READY,
        conditions::RECONCILING,
        conditions::STALLED,
    ];
    assert_eq!(documented, types);
}

#[test]
fn every_flag_has_its_row_with_variable_and_default() {
    let table = table(&text("README.md"), "flag");
    let flags = flags();
    let names: Vec<String> = flags
        .iter()
        .map(|flag| format!("--{}", flag.get_long().unwrap_or_default()))
        .collect();
    assert_eq!(table.names("flag"), names, "in the order of `--help`");
    let variables: Vec<String> = flags
        .iter()
        .map(|flag| flag.get_env().unwrap_or_default().display().to_string())
        .collect();
    assert_eq!(table.names("environment"), variables);
    for (flag, documented) in flags.iter().zip(table.column("default")) {
        match flag.get_default_values() {
            [] => assert!(
                !documented.contains('`'),
                "{} has no default",
                flag.get_id()
            ),
            [value, ..] => assert_eq!(
                documented,
                format!("`{}`", value.display()),
                "the default of {}",
                flag.get_id()
            ),
        }
    }
}

#[test]
fn every_metric_has_its_row_with_its_labels() {
    let table = table(&text("README.md"), "metric");
    let labels = table.column("labels").into_iter().map(|cell| {
        let names = cell.split(',').map(|name| name.trim().trim_matches('`'));
        names
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect()
    });
    let documented: BTreeMap<String, BTreeSet<String>> =
        table.names("metric").into_iter().zip(labels).collect();
    assert_eq!(documented, names_and_labels(&metrics()));
}

/// The names in an OpenMetrics text with their labels; a histogram's series count as one.
fn names_and_labels(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, labels) in series(text) {
        let parts = ["_bucket", "_count", "_sum"];
        let name = parts
            .iter()
            .find_map(|part| name.strip_suffix(part))
            .unwrap_or(&name);
        let labels = labels.into_keys().filter(|label| label != "le");
        all.entry(name.to_owned()).or_default().extend(labels);
    }
    all
}

#[test]
fn every_spec_field_has_its_row() {
    let table = table(&text("README.md"), "spec field");
    let schema = schema("spec");
    let documented: BTreeSet<String> = table.names("spec field").into_iter().collect();
    assert_eq!(documented, properties(&schema));
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    for (name, default) in table
        .names("spec field")
        .iter()
        .zip(table.column("default"))
    {
        let expected = match &schema["properties"][name.as_str()]["default"] {
            _ if required.iter().any(|field| field == name) => "required".to_owned(),
            serde_json::Value::Null => "none".to_owned(),
            serde_json::Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        assert_eq!(default, expected, "the default of {name}");
    }
    // The rows of references name the keys within and their defaults.
    for (name, meaning) in table
        .names("spec field")
        .iter()
        .zip(table.column("meaning"))
    {
        let inner = &schema["properties"][name.as_str()];
        for key in properties(inner) {
            assert!(
                meaning.contains(&format!("`{key}`")),
                "{name} has a field {key}"
            );
            if let Some(default) = inner["properties"][key.as_str()]["default"].as_str() {
                let text = format!("`{key}` (default `{default}`)");
                assert!(meaning.contains(&text), "{name}: {text}");
            }
        }
    }
}

#[test]
fn every_status_field_has_its_row() {
    let documented = table(&text("README.md"), "status field").names("status field");
    let documented: BTreeSet<String> = documented.into_iter().collect();
    assert_eq!(documented, properties(&schema("status")));
}

#[test]
fn the_annotation_is_explained() {
    for document in ["README.md", "docs/runbook.md", "CHANGELOG.md"] {
        assert!(text(document).contains(REGISTER_REQUESTED_AT), "{document}");
    }
}
