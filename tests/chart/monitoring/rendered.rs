//! The objects that the chart makes for Prometheus and Grafana.

use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::{PROMTOOL, RULES};
use crate::chart::helm::{Helm, kind, only};
use crate::docs::{alerts, text};

const MONITORS: [(&str, &str); 2] = [
    ("ServiceMonitor", "endpoints"),
    ("PodMonitor", "podMetricsEndpoints"),
];

/// What the chart makes with everything for monitoring, and more flags.
fn render(flags: &[&str]) -> Vec<DynamicObject> {
    let all = [
        "--set=metrics.serviceMonitor.enabled=true",
        "--set=metrics.podMonitor.enabled=true",
        "--set=metrics.prometheusRule.enabled=true",
        "--set=metrics.grafanaDashboard.enabled=true",
    ];
    Helm::alone().render("test", "here", &[&all, flags].concat())
}

fn groups(objects: &[DynamicObject]) -> &Value {
    &only(objects, "PrometheusRule").data["spec"]["groups"]
}

fn dashboard(objects: &[DynamicObject]) -> &DynamicObject {
    let found = objects
        .iter()
        .find(|object| object.data["data"].get("whatsapp-operator.json").is_some());
    found.expect("a ConfigMap with the dashboard")
}

#[test]
fn nothing_of_it_is_made_unless_asked_for() {
    let objects = Helm::alone().render("test", "here", &[]);
    let kinds: Vec<_> = objects.iter().map(kind).collect();
    for unwanted in [
        "ServiceMonitor",
        "PodMonitor",
        "PrometheusRule",
        "ConfigMap",
    ] {
        assert!(!kinds.contains(&unwanted), "{unwanted}");
    }
}

#[test]
fn the_alerts_are_those_of_the_file() {
    let objects = render(&[]);
    let file: Value = serde_norway::from_str(&text(RULES)).expect("a rules file");
    assert_eq!(*groups(&objects), file["groups"]);
    // What the Prometheus Operator hands to Prometheus is a rules file again.
    let directory = tempfile::tempdir().expect("a directory");
    let rules = directory.path().join("rules.yaml");
    let spec = serde_norway::to_string(&json!({"groups": groups(&objects)})).expect("YAML");
    std::fs::write(&rules, spec).expect("a file");
    PROMTOOL.run(&[
        "check",
        "rules",
        rules.to_str().expect("a path that is text"),
    ]);
}

#[test]
fn alerts_can_be_left_out_and_the_runbook_be_elsewhere() {
    let objects = render(&[
        "--set=metrics.prometheusRule.disabled.WhatsAppRateLimited=true",
        "--set=metrics.prometheusRule.disabled.WhatsAppNumberStalled=false",
        "--set=metrics.prometheusRule.runbookUrl=https://wiki.example.com/wa?a=1&b=$1",
    ]);
    let rules = groups(&objects).as_array().into_iter().flatten();
    let rules: Vec<&Value> = rules
        .flat_map(|group| group["rules"].as_array())
        .flatten()
        .collect();
    let names: Vec<&str> = rules
        .iter()
        .filter_map(|rule| rule["alert"].as_str())
        .collect();
    let all = alerts();
    let wanted: Vec<&str> = all
        .iter()
        .map(|alert| alert.name.as_str())
        .filter(|name| *name != "WhatsAppRateLimited")
        .collect();
    assert_eq!(names, wanted);
    for (rule, name) in rules.iter().zip(names) {
        let wanted = format!(
            "https://wiki.example.com/wa?a=1&b=$1#{}",
            name.to_lowercase()
        );
        assert_eq!(rule["annotations"]["runbook_url"], wanted);
    }
    let without = render(&["--set=metrics.prometheusRule.runbookUrl="]);
    assert!(!groups(&without).to_string().contains("runbook_url"));
}

#[test]
fn a_group_without_alerts_is_left_out_and_an_unknown_alert_is_refused() {
    let all = alerts();
    let operator: Vec<String> = all
        .iter()
        .filter(|alert| alert.name.starts_with("WhatsAppOperator"))
        .map(|alert| format!("--set=metrics.prometheusRule.disabled.{}=true", alert.name))
        .collect();
    let flags: Vec<&str> = operator.iter().map(String::as_str).collect();
    let objects = render(&flags);
    let names: Vec<_> = groups(&objects)
        .as_array()
        .into_iter()
        .flatten()
        .map(|group| &group["name"])
        .collect();
    assert_eq!(names, ["whatsapp-numbers"]);
    let chart = crate::chart::helm::chart();
    let said = Helm::alone().refuse(&[
        "template",
        "test",
        chart.to_str().expect("a path that is text"),
        "--set=metrics.prometheusRule.enabled=true",
        "--set=metrics.prometheusRule.disabled.WhatsAppNumberFailled=true",
    ]);
    assert!(
        said.contains("WhatsAppNumberFailled, and there is no such alert"),
        "{said}"
    );
    assert!(
        said.contains("WhatsAppNumberFailed, "),
        "it names those that there are: {said}"
    );
}

#[test]
fn single_alerts_can_be_changed_and_all_be_labelled() {
    let change = json!({"WhatsAppOperatorDown": {
        "for": "1h", "severity": "page", "labels": {"tier": "gold", "team": "core"},
    }});
    let objects = render(&[
        "--set-json",
        &format!("metrics.prometheusRule.overrides={change}"),
        "--set=metrics.prometheusRule.ruleLabels.team=chat",
    ]);
    let rules = groups(&objects).as_array().into_iter().flatten();
    let rules = rules.flat_map(|group| group["rules"].as_array()).flatten();
    for (rule, alert) in rules.zip(alerts()) {
        let mut wanted = json!(alert.labels);
        wanted["team"] = json!("chat");
        if alert.name == "WhatsAppOperatorDown" {
            wanted = json!({"severity": "page", "tier": "gold", "team": "core"});
            assert_eq!(rule["for"], "1h");
        } else {
            assert_eq!(rule["for"], alert.wait, "{}", alert.name);
        }
        assert_eq!(rule["labels"], wanted, "{}", alert.name);
        assert_eq!(rule["expr"], alert.expr, "{}", alert.name);
    }
    let chart = crate::chart::helm::chart();
    let said = Helm::alone().refuse(&[
        "template",
        "test",
        chart.to_str().expect("a path that is text"),
        "--set=metrics.prometheusRule.enabled=true",
        "--set=metrics.prometheusRule.overrides.WhatsAppDown.for=1h",
    ]);
    let words = "overrides names WhatsAppDown, and there is no such alert";
    assert!(said.contains(words), "{said}");
}

#[test]
fn an_object_of_an_unknown_kind_is_left_out_where_that_is_asked_for() {
    let skip = ["serviceMonitor", "podMonitor", "prometheusRule"]
        .map(|object| format!("--set=metrics.{object}.renderMode=skipIfMissing"));
    let mut flags: Vec<&str> = skip.iter().map(String::as_str).collect();
    let of_others = |flags: &[&str]| {
        let objects = render(flags);
        let all: Vec<String> = objects
            .iter()
            .map(|object| kind(object).to_owned())
            .collect();
        let kinds = ["ServiceMonitor", "PodMonitor", "PrometheusRule"];
        kinds.map(|kind| all.iter().any(|found| found == kind))
    };
    assert_eq!(of_others(&[]), [true; 3]);
    assert_eq!(of_others(&flags), [false; 3]);
    flags.push("--api-versions=monitoring.coreos.com/v1/PodMonitor");
    assert_eq!(of_others(&flags), [false, true, false]);
}

#[test]
fn the_dashboard_is_the_file_with_the_label_that_grafana_looks_for() {
    let objects = render(&[
        "--set-string=metrics.grafanaDashboard.labels.grafana_dashboard=0",
        "--set=metrics.grafanaDashboard.labels.team=chat",
    ]);
    let object = dashboard(&objects);
    let file = text("charts/whatsapp-operator/dashboards/whatsapp-operator.json");
    let shown = object.data["data"]["whatsapp-operator.json"].as_str();
    assert_eq!(shown.map(str::trim_end), Some(file.trim_end()));
    let labels = object.metadata.labels.as_ref().expect("labels");
    assert_eq!(labels["grafana_dashboard"], "1", "the own label wins");
    assert_eq!(labels["team"], "chat");
}

#[test]
fn monitors_find_the_pods_and_keep_the_namespace_of_the_number() {
    let objects = render(&[]);
    let service = only(&objects, "Service")
        .metadata
        .labels
        .clone()
        .expect("labels");
    let pods = &only(&objects, "Deployment").data["spec"]["selector"]["matchLabels"];
    for (kind, endpoints) in MONITORS {
        let spec = &only(&objects, kind).data["spec"];
        assert_eq!(
            spec["namespaceSelector"],
            json!({"matchNames": ["here"]}),
            "{kind}"
        );
        assert_eq!(spec["selector"]["matchLabels"], *pods, "{kind}");
        for (label, value) in pods.as_object().expect("labels") {
            assert_eq!(
                service.get(label).map(String::as_str),
                value.as_str(),
                "{kind}"
            );
        }
        let expected = json!([{"port": "http", "path": "/metrics", "honorLabels": true}]);
        assert_eq!(spec[endpoints], expected, "{kind}");
    }
}

#[test]
fn what_stands_in_another_namespace_has_a_name_of_its_own() {
    let objects = render(&[
        "--set=metrics.serviceMonitor.namespace=monitoring",
        "--set=metrics.podMonitor.namespace=monitoring",
        "--set=metrics.prometheusRule.namespace=monitoring",
        "--set=metrics.grafanaDashboard.namespace=monitoring",
    ]);
    let monitors =
        ["ServiceMonitor", "PodMonitor", "PrometheusRule"].map(|kind| only(&objects, kind));
    for object in monitors.into_iter().chain([dashboard(&objects)]) {
        assert_eq!(object.metadata.namespace.as_deref(), Some("monitoring"));
        let name = object.metadata.name.as_deref().unwrap_or_default();
        assert!(name.ends_with(".here"), "{name}");
    }
    let found = &only(&objects, "ServiceMonitor").data["spec"]["namespaceSelector"];
    assert_eq!(*found, json!({"matchNames": ["here"]}));
}
