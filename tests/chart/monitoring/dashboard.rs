//! The dashboard as Grafana reads it.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::{Value, json};

use super::PROMTOOL;
use super::queries::Known;
use crate::docs::text;

/// The dashboard.
const DASHBOARD: &str = "charts/whatsapp-operator/dashboards/whatsapp-operator.json";

fn dashboard() -> Value {
    serde_json::from_str(&text(DASHBOARD)).expect("the dashboard is JSON")
}

/// The members of a list.
fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn string<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The panels that show something: rows only stand between them.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    list(dashboard, "panels")
        .iter()
        .filter(|panel| panel["type"] != "row")
}

/// The panel that names numbers.
fn table(dashboard: &Value) -> &Value {
    let table = panels(dashboard).find(|panel| panel["type"] == "table");
    table.expect("a table")
}

/// A query as Prometheus gets it; how long an interval is does not matter here.
fn sent(query: &str) -> String {
    query
        .replace("$__rate_interval", "1m")
        .replace("$__range", "1h")
}

#[test]
fn the_dashboard_asks_for_metrics_labels_and_values_that_there_are() {
    let known = Known::now();
    let dashboard = dashboard();
    let in_braces = Regex::new(r"\{\{\s*(\w+)\s*\}\}").expect("a pattern");
    for panel in panels(&dashboard) {
        let place = string(panel, "title");
        assert!(!list(panel, "targets").is_empty(), "{place} shows nothing");
        for target in list(panel, "targets") {
            let asked = known.check(place, &sent(string(target, "expr")));
            for label in in_braces.captures_iter(string(target, "legendFormat")) {
                let kept = asked.labels.contains(&label[1]) || &label[1] == "pod";
                assert!(kept, "{place}: the query leaves no label {}", &label[1]);
            }
        }
    }
}

#[test]
fn variables_ask_for_what_there_is_and_only_what_is_there_is_used() {
    let known = Known::now();
    let dashboard = dashboard();
    let query = Regex::new(r"^label_values\((\w+(?:\{.*\})?), (\w+)\)$").expect("a pattern");
    let mut names = BTreeSet::from(["datasource"]);
    for variable in list(&dashboard["templating"], "list") {
        let name = string(variable, "name");
        if string(variable, "type") == "query" {
            let text = string(&variable["query"], "query");
            let parts = query.captures(text);
            let parts = parts.unwrap_or_else(|| panic!("{name}: {text}"));
            known.check(name, &parts[1]);
            assert!(
                ["cluster", "job", "namespace"].contains(&&parts[2]),
                "{name}"
            );
            assert_eq!(variable["includeAll"], true, "{name}");
        }
        names.insert(name);
    }
    let used = Regex::new(r"\$\{?(\w+)").expect("a pattern");
    for used in used.captures_iter(&text(DASHBOARD)) {
        let name = &used[1];
        let known = names.contains(name) || name.starts_with("__");
        assert!(known, "there is no variable {name}");
    }
}

#[test]
fn the_dashboard_can_be_found_and_stays_the_same_one() {
    let dashboard = dashboard();
    assert_eq!(dashboard["uid"], "whatsapp-operator", "links lead to it");
    assert_eq!(dashboard["id"], Value::Null, "an ID belongs to one Grafana");
    let uid = Regex::new(r#""uid": "([^"]+)""#).expect("a pattern");
    let text = text(DASHBOARD);
    let mut sources = uid.captures_iter(&text).map(|uid| uid.extract::<1>().1[0]);
    assert_eq!(sources.next(), Some("whatsapp-operator"));
    assert!(
        sources.all(|source| source == "${datasource}"),
        "people choose the source of data"
    );
    assert_eq!(dashboard["tags"], serde_json::json!(["whatsapp-operator"]));
}

#[test]
fn panels_are_explained_and_do_not_overlap() {
    let dashboard = dashboard();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in list(&dashboard, "panels") {
        let title = string(panel, "title");
        assert!(
            ids.insert(panel["id"].as_u64()),
            "{title} has the ID of another panel"
        );
        let [x, y, w, h] =
            ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().expect("a number"));
        assert!(x + w <= 24, "{title} is too wide");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{title} covers another panel");
        }
    }
    for panel in panels(&dashboard) {
        let title = string(panel, "title");
        assert!(!string(panel, "description").is_empty(), "{title}");
    }
}

#[test]
fn the_table_names_labels_that_its_query_leaves() {
    let dashboard = dashboard();
    let table = table(&dashboard);
    let target = &list(table, "targets")[0];
    let asked = Known::now().check("table", &sent(string(target, "expr")));
    let renamed = table["transformations"][0]["options"]["renameByName"].as_object();
    let columns = renamed.expect("columns").keys();
    for column in columns.filter(|column| *column != "Value") {
        assert!(asked.labels.contains(column), "{column}");
    }
}

/// A series of one replica that stays as it is.
fn stays(metric: &str, name: &str, labels: &str, value: u8) -> Value {
    let series = format!(
        "whatsapp_operator_phone_number_{metric}{{namespace=\"shop\",name=\"{name}\",job=\"wa\"{labels}}}"
    );
    json!({"series": series, "values": format!("{value}x10")})
}

/// A row of the table, as promtool wants to have it.
fn row(name: &str, state: &str, reason: &str, attempts: u8) -> Value {
    let labels = format!("{{namespace=\"shop\",name=\"{name}\",state=\"{state}\"{reason}}}");
    json!({"labels": labels, "value": attempts})
}

#[test]
fn the_table_shows_every_number_that_is_not_registered_also_one_that_nobody_has_seen() {
    let state = |name, state| stays("state", name, &format!(",state=\"{state}\""), 1);
    let reason = |name, reason| stays("reason", name, &format!(",reason=\"{reason}\""), 1);
    let series = [
        stays("attempts", "stalled", "", 1),
        reason("stalled", "PinMismatch"),
        state("stalled", "Stalled"),
        stays("attempts", "waits", "", 2),
        reason("waits", "RateLimited"),
        state("waits", "Waiting"),
        stays("attempts", "registered", "", 1),
        reason("registered", "RegistrationSucceeded"),
        state("registered", "Registered"),
        stays("attempts", "unseen", "", 0),
        state("unseen", "Unseen"),
    ];
    let rows = [
        row("stalled", "Stalled", ",reason=\"PinMismatch\"", 1),
        row("waits", "Waiting", ",reason=\"RateLimited\"", 2),
        row("unseen", "Unseen", "", 0),
    ];
    let dashboard = dashboard();
    let query = string(&list(table(&dashboard), "targets")[0], "expr");
    let query = ["cluster", "release", "namespace"]
        .iter()
        .fold(query.to_owned(), |query, variable| {
            query.replace(&format!("${variable}"), ".*")
        });
    let test = json!({
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [{"expr": query, "eval_time": "5m", "exp_samples": rows}],
    });
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("table.yaml");
    std::fs::write(&file, json!({"tests": [test]}).to_string()).expect("a file");
    let file = file.to_str().expect("a path that is text");
    PROMTOOL.run(&["test", "rules", file]);
}
