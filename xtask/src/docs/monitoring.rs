//! Metrics and alerts.

use std::sync::Arc;

use jiff::Timestamp;
use kube::core::DeserializeGuard;
use operator_core::api::Observation;
use regex::Regex;
use serde_json::Value;
use testkit::builders::{registered, resource, waiting};
use whatsapp_operator::config::MetricsPerNumber;
use whatsapp_operator::memory::WatchId;
use whatsapp_operator::telemetry::metrics::Metrics;

use super::markdown::{code, codes, table};

/// The metrics, in the order of `/metrics`.
pub fn metrics() -> String {
    let text = scraped();
    let rows = text.split("# HELP ").skip(1).map(metric);
    table(["metric", "labels", "meaning"], rows)
}

/// The alerts, in the order of the rules file.
pub fn alerts() -> String {
    let file = super::text("charts/whatsapp-operator/rules/whatsapp-operator.yaml");
    let file: Value = serde_norway::from_str(&file).expect("a rules file");
    let groups = file["groups"].as_array().into_iter().flatten();
    let rules = groups.flat_map(|group| group["rules"].as_array()).flatten();
    table(["alert", "severity", "after", "message"], rules.map(alert))
}

/// The text of `/metrics` with two resources in it, so that every metric has a series.
fn scraped() -> String {
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

/// A metric from its name and help, and its series in the lines after them.
fn metric(text: &str) -> [String; 3] {
    let mut lines = text.lines();
    let (_, help) = lines
        .next()
        .and_then(|line| line.split_once(' '))
        .expect("a metric has help");
    let series = lines.find(|line| !line.starts_with('#'));
    let series = series
        .and_then(|line| line.rsplit_once(' '))
        .expect("a metric has a series");
    let (name, labels) = series.0.split_once('{').unwrap_or((series.0, ""));
    // The first series of a histogram is its sum; it has no bound.
    let name = name.strip_suffix("_sum").unwrap_or(name);
    let labels = labels.split(',').filter_map(|label| label.split_once('='));
    [
        code(name),
        codes(labels.map(|(label, _)| label)),
        help.trim_end_matches('.').to_owned(),
    ]
}

fn alert(rule: &Value) -> [String; 4] {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = text(&rule["alert"]);
    let section = name.to_lowercase();
    [
        format!("[`{name}`](../operations/runbook.md#{section})"),
        text(&rule["labels"]["severity"]),
        text(&rule["for"]),
        without_templates(&text(&rule["annotations"]["summary"])),
    ]
}

/// The text with the names of values instead of values, and without what depends on one.
fn without_templates(text: &str) -> String {
    let optional = Regex::new(r"\{\{ with .*?\{\{ end \}\}").expect("a pattern");
    let value = Regex::new(r"\{\{ \$(?:labels\.)?(\w+).*?\}\}").expect("a pattern");
    value
        .replace_all(&optional.replace_all(text, ""), "`$1`")
        .into_owned()
}
