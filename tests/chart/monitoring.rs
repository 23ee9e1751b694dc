//! Alerts and dashboard: what they ask for is there, and they say what they should.

/// Panels, variables and queries of the dashboard.
mod dashboard;
/// What a query asks for.
mod queries;
/// What the chart makes of the rules, the dashboard and the monitors.
mod rendered;

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde::Deserialize;

use self::queries::Known;
use crate::docs::{alerts, text};
use testkit::tools::PROMTOOL;

/// The rules, as a plain rules file.
const RULES: &str = "charts/whatsapp-operator/rules/whatsapp-operator.yaml";
/// Their tests.
const RULE_TESTS: &str = "tests/chart/rules_test.yaml";

#[test]
fn the_alerts_fire_when_they_should_and_not_else() {
    PROMTOOL.run(&["check", "rules", "--lint=all", "--lint-fatal", &path(RULES)]);
    PROMTOOL.run(&["test", "rules", &path(RULE_TESTS)]);
}

#[test]
fn every_alert_is_tested_firing_and_at_rest() {
    let file: RuleTests = serde_norway::from_str(&text(RULE_TESTS)).expect("a file of tests");
    let mut tested = BTreeMap::<String, BTreeSet<bool>>::new();
    for case in file.tests.into_iter().flat_map(|test| test.alert_rule_test) {
        let fires = !case.exp_alerts.is_empty();
        tested.entry(case.alertname).or_default().insert(fires);
    }
    let both = BTreeSet::from([false, true]);
    let wanted = alerts().into_iter().map(|alert| (alert.name, both.clone()));
    assert_eq!(tested, wanted.collect());
}

#[test]
fn the_alerts_ask_for_metrics_labels_and_values_that_there_are() {
    let known = Known::now();
    for alert in alerts() {
        known.check(&alert.name, &alert.expr);
    }
}

#[test]
fn each_alert_is_named_ranked_and_explained() {
    let name = Regex::new("^WhatsApp([A-Z][a-z]+)+$").expect("a pattern");
    let runbook = text("docs/operations/runbook.md");
    for alert in alerts() {
        assert!(name.is_match(&alert.name), "{}", alert.name);
        assert!(!alert.wait.is_empty(), "{}", alert.name);
        let labels: Vec<_> = alert
            .labels
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        let ranked = [["severity", "critical"], ["severity", "warning"]].map(|[k, v]| vec![(k, v)]);
        assert!(ranked.contains(&labels), "{}: {labels:?}", alert.name);
        let keys: Vec<_> = alert.annotations.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            ["description", "runbook_url", "summary"],
            "{}",
            alert.name
        );
        let address = &alert.annotations["runbook_url"];
        let section = format!("/operations/runbook.html#{}", alert.name.to_lowercase());
        assert!(address.ends_with(&section), "{address}");
        assert!(
            runbook.contains(&format!("\n### {}\n", alert.name)),
            "{}",
            alert.name
        );
    }
}

/// As much of a file of promtool's tests as is looked at here.
#[derive(Deserialize)]
struct RuleTests {
    tests: Vec<RuleTest>,
}

#[derive(Deserialize)]
struct RuleTest {
    alert_rule_test: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    alertname: String,
    #[serde(default)]
    exp_alerts: Vec<serde_json::Value>,
}

/// A file of the repository, for a program that runs anywhere.
fn path(file: &str) -> String {
    format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))
}
