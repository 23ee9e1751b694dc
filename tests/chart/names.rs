//! Names that YAML would take for a number or for a truth value stay names.

use serde_json::{Value, json};

use super::helm::{Helm, chart, objects};

/// A name that is nothing else, and in no other text.
const PLAIN: &str = "a-place";

/// Names of namespaces that Kubernetes allows, and that YAML reads as something else.
const MISTAKABLE: [&str; 6] = ["123", "1e3", "0x1f", "true", "null", "no"];

/// Every value that takes such a name.
fn values(name: &str) -> Value {
    let there = json!({"enabled": true, "namespace": name, "labels": {"label": name}});
    json!({
        "namespace": null,
        "watchNamespaces": [name],
        "global": {"commonLabels": {"common": name}, "imagePullSecrets": [name]},
        "imagePullSecrets": [{"name": name}],
        "nodeSelector": {"pool": name},
        "podLabels": {"pod": name},
        "podAnnotations": {"pod": name},
        "priorityClassName": name,
        "serviceAccount": {"name": name, "labels": {"account": name}},
        "metrics": {
            "service": {"labels": {"service": name}},
            "serviceMonitor": there,
            "podMonitor": there,
            "prometheusRule": there,
            "grafanaDashboard": {"enabled": true, "namespace": name, "labelValue": name},
        },
    })
}

/// What the chart makes with everything, and with a name wherever one can stand.
fn made(name: &str) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let named = directory.path().join("values.json");
    std::fs::write(&named, values(name).to_string()).expect("a file");
    let chart = chart();
    let everything = chart.join("ci/everything-values.yaml");
    let [chart, everything, named] =
        [&chart, &everything, &named].map(|path| path.to_str().expect("a path that is text"));
    let files = ["--values", everything, "--values", named];
    let fixed = ["template", "test", chart, "--namespace", name];
    Helm::alone().run(&[&fixed[..], &files].concat())
}

/// Checks that a name stands where a plain one would, as text.
fn check(plain: &str, name: &str, made: &str) {
    let plain = json(plain);
    assert!(plain.matches(PLAIN).count() > 5, "the name stands there");
    assert_eq!(json(made), plain.replace(PLAIN, name), "{name}");
    // Kubernetes reads older YAML than these tests do: there `no` is false.
    let bare = made.lines().find(|line| line.ends_with(" no"));
    assert_eq!(bare, None, "{name} stands without quotation marks");
}

fn json(made: &str) -> String {
    serde_json::to_string(&objects(made)).expect("objects are JSON")
}

#[test]
fn names_that_look_like_something_else_stay_names() {
    let plain = made(PLAIN);
    for name in MISTAKABLE {
        check(&plain, name, &made(name));
    }
}

#[test]
fn a_full_name_that_looks_like_something_else_stays_a_name() {
    let made = |name: &str| {
        let flag = format!("--set-string=fullnameOverride={name}");
        let chart = chart();
        let chart = chart.to_str().expect("a path that is text");
        Helm::alone().run(&["template", "test", chart, &flag])
    };
    let plain = made(PLAIN);
    for name in ["true", "null", "no"] {
        check(&plain, name, &made(name));
    }
}

#[test]
fn a_full_name_that_begins_with_a_digit_is_refused() {
    let (helm, chart) = (Helm::alone(), chart());
    let chart = chart.to_str().expect("a path that is text");
    let said = helm.refuse(&["template", "1a", chart]);
    assert!(said.contains("begins with a digit"), "{said}");
    assert!(said.contains("fullnameOverride"), "{said}");
    helm.render("1a", "test", &["--set=fullnameOverride=a"]);
}
