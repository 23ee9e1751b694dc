//! The text of `/metrics`.

use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use serde_json::json;

use super::*;
use crate::memory::Watched;

fn noon() -> Timestamp {
    "2026-01-04T12:00:00Z".parse().expect("a time")
}

fn number(name: &str, suspend: bool, conditions: &[(&str, &str)]) -> Arc<Watched> {
    let conditions = conditions
        .iter()
        .map(|(type_, status)| condition(type_, status, "X"))
        .collect();
    with_status(
        name,
        suspend,
        json!({"observedGeneration": 1, "conditions": serde_json::Value::Array(conditions)}),
    )
}

fn condition(type_: &str, status: &str, reason: &str) -> serde_json::Value {
    json!({"type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

fn with_status(name: &str, suspend: bool, status: serde_json::Value) -> Arc<Watched> {
    let object = json!({
        "apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppPhoneNumber",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"phoneNumberID": "1", "tokenSecretRef": {"name": "t"}, "pinSecretRef": {"name": "p"}, "suspend": suspend},
        "status": status,
    });
    let number = serde_json::from_value(object).expect("a valid resource");
    Arc::new(DeserializeGuard(Ok(number)))
}

/// What the leader says.
fn text(numbers: Vec<Arc<Watched>>) -> String {
    let all = MetricsPerNumber::All;
    let metrics = Metrics::new(8, all, Box::new(move || numbers.clone()), noon);
    metrics.set_leader(true);
    metrics.set_watch(&WatchId::secrets(None), true);
    encoded(&metrics)
}

fn encoded(metrics: &Metrics) -> String {
    let mut text = String::new();
    metrics.encode(&mut text).expect("metrics as text");
    text
}

/// The series of a metric, without its name.
fn series<'a>(text: &'a str, metric: &str) -> Vec<&'a str> {
    text.lines()
        .filter_map(|line| line.strip_prefix(metric))
        .filter(|rest| rest.starts_with(['{', ' ']))
        .collect()
}

#[track_caller]
fn assert_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(
            text.lines().any(|found| found == *line),
            "no line {line:?} in\n{text}"
        );
    }
}

#[test]
fn names_and_types_are_as_documented() {
    let text = text(vec![number("sales", false, &[])]);
    let types: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE whatsapp_operator_"))
        .collect();
    assert_eq!(
        types,
        [
            "reconciliations counter",
            "reconcile_duration_seconds histogram",
            "graph_requests counter",
            "graph_request_duration_seconds histogram",
            "registration_attempts counter",
            "registrations_lost counter",
            "deregistrations counter",
            "graph_api_versions_expired gauge",
            "unrecorded_outcomes gauge",
            "watch_up gauge",
            "leader gauge",
            "definition_outdated gauge",
            "attempt_limit gauge",
            "build info",
            "phone_numbers gauge",
            "phone_number_state gauge",
            "phone_number_reason gauge",
            "phone_number_attempts gauge",
            "phone_number_observed gauge",
            "phone_number_next_attempt_timestamp_seconds gauge",
        ]
    );
    assert!(
        !text.contains("_total_total") && !text.contains("_info_info"),
        "{text}"
    );
}

#[test]
fn fixed_series_begin_at_zero() {
    let text = text(vec![]);
    assert_lines(
        &text,
        &[
            "whatsapp_operator_reconciliations_total{result=\"error\"} 0",
            "whatsapp_operator_graph_requests_total{operation=\"register\",outcome=\"rate_limited\"} 0",
            "whatsapp_operator_graph_request_duration_seconds_count{operation=\"read\"} 0",
            "whatsapp_operator_registration_attempts_total{reason=\"PinMismatch\"} 0",
            "whatsapp_operator_watch_up{kind=\"Secret\",namespace=\"*\"} 1",
            "whatsapp_operator_leader 1",
            "whatsapp_operator_attempt_limit 8",
            concat!(
                "whatsapp_operator_build_info{version=\"",
                env!("CARGO_PKG_VERSION"),
                "\"} 1"
            ),
            "whatsapp_operator_registrations_lost_total 0",
            "whatsapp_operator_deregistrations_total{outcome=\"in_doubt\"} 0",
            "whatsapp_operator_phone_numbers{state=\"Registered\"} 0",
            "whatsapp_operator_phone_numbers{state=\"Lost\"} 0",
            "whatsapp_operator_phone_numbers{state=\"Registering\"} 0",
            "whatsapp_operator_phone_numbers{state=\"Waiting\"} 0",
            "whatsapp_operator_phone_numbers{state=\"Stalled\"} 0",
            "whatsapp_operator_phone_numbers{state=\"Suspended\"} 0",
            "whatsapp_operator_phone_numbers{state=\"Unseen\"} 0",
        ],
    );
    assert!(
        !text.contains("reason=\"InvalidPin\""),
        "a reason that no attempt ends with:\n{text}"
    );
}

#[test]
fn what_happens_is_counted_and_measured() {
    let metrics = Metrics::new(8, MetricsPerNumber::All, Box::new(Vec::new), noon);
    metrics.reconciled(ReconcileResult::Success, Duration::from_millis(20));
    metrics.graph_request(
        Operation::Register,
        GraphOutcome::Rejected,
        Duration::from_millis(1500),
    );
    metrics.registration_attempt(Reason::PinMismatch);
    metrics.registration_attempt(Reason::PinMismatch);
    metrics.set_leader(true);
    assert_lines(
        &encoded(&metrics),
        &[
            "whatsapp_operator_reconciliations_total{result=\"success\"} 1",
            "whatsapp_operator_reconcile_duration_seconds_bucket{le=\"0.025\"} 1",
            "whatsapp_operator_reconcile_duration_seconds_sum 0.02",
            "whatsapp_operator_graph_requests_total{operation=\"register\",outcome=\"rejected\"} 1",
            "whatsapp_operator_graph_request_duration_seconds_sum{operation=\"register\"} 1.5",
            "whatsapp_operator_registration_attempts_total{reason=\"PinMismatch\"} 2",
            "whatsapp_operator_leader 1",
        ],
    );
    metrics.set_leader(false);
    assert_lines(&encoded(&metrics), &["whatsapp_operator_leader 0"]);
}

/// A number in each state.
fn in_each_state() -> [(&'static str, Arc<Watched>); 8] {
    let suspended = [condition("Ready", "False", "Suspended")];
    let suspended = json!({"observedGeneration": 1, "conditions": suspended});
    let failed = [
        ("Ready", "True"),
        ("Registered", "True"),
        ("Failed", "True"),
    ];
    let calls = [("Ready", "Unknown"), ("Reconciling", "True")];
    let waits = [
        ("Ready", "False"),
        ("Failed", "True"),
        ("Reconciling", "True"),
    ];
    let stalled = [("Ready", "False"), ("Failed", "True"), ("Stalled", "True")];
    [
        ("Registered", number("asked", false, &failed)),
        ("Registered", number("kept", true, &failed[..2])),
        ("Registering", number("calls", false, &calls)),
        // Suspended while its call is in flight.
        ("Registering", number("ends", true, &calls)),
        ("Waiting", number("waits", false, &waits)),
        ("Stalled", number("stalled", false, &stalled)),
        ("Suspended", with_status("suspended", true, suspended)),
        ("Unseen", number("new", false, &[])),
    ]
}

#[test]
fn each_number_counts_in_one_state() {
    let numbers = in_each_state();
    let text = text(
        numbers
            .iter()
            .map(|(_, number)| Arc::clone(number))
            .collect(),
    );
    let expected = numbers.map(|(state, number)| {
        let name = number.name_any();
        format!("{{namespace=\"shop\",name=\"{name}\",state=\"{state}\"}} 1")
    });
    assert_eq!(
        series(&text, "whatsapp_operator_phone_number_state"),
        expected
    );
    assert_lines(
        &text,
        &[
            "whatsapp_operator_phone_numbers{state=\"Registered\"} 2",
            "whatsapp_operator_phone_numbers{state=\"Registering\"} 2",
            "whatsapp_operator_phone_numbers{state=\"Waiting\"} 1",
            "whatsapp_operator_phone_numbers{state=\"Stalled\"} 1",
            "whatsapp_operator_phone_numbers{state=\"Suspended\"} 1",
            "whatsapp_operator_phone_numbers{state=\"Unseen\"} 1",
        ],
    );
}

/// The names of the numbers that have series of their own.
fn shown(per_number: MetricsPerNumber, leads: bool) -> Vec<String> {
    let numbers = in_each_state().map(|(_, number)| number).to_vec();
    let metrics = Metrics::new(8, per_number, Box::new(move || numbers.clone()), noon);
    metrics.set_leader(leads);
    let text = encoded(&metrics);
    assert_lines(
        &text,
        &["whatsapp_operator_phone_numbers{state=\"Registered\"} 2"],
    );
    let name = |line: &str| Some(line.split_once("name=\"")?.1.split_once('"')?.0.to_owned());
    let names = text.lines().filter(|line| line.contains("name=\""));
    let names: std::collections::BTreeSet<_> = names.filter_map(name).collect();
    names.into_iter().collect()
}

#[test]
fn only_the_leader_names_numbers_and_only_those_that_are_wanted() {
    assert_eq!(shown(MetricsPerNumber::All, true).len(), 8);
    let unregistered = ["calls", "ends", "new", "stalled", "suspended", "waits"];
    assert_eq!(shown(MetricsPerNumber::Unregistered, true), unregistered);
    assert!(shown(MetricsPerNumber::None, true).is_empty());
    assert!(shown(MetricsPerNumber::All, false).is_empty());
}

#[test]
fn the_next_attempt_is_told_while_a_number_waits_for_it() {
    let next = json!({"observedGeneration": 1, "nextAttemptTime": "1970-01-01T00:01:00Z"});
    let numbers = vec![
        with_status("waits", false, next),
        number("rests", false, &[("Ready", "True")]),
    ];
    assert_eq!(
        series(
            &text(numbers),
            "whatsapp_operator_phone_number_next_attempt_timestamp_seconds"
        ),
        ["{namespace=\"shop\",name=\"waits\"} 60"]
    );
}

#[test]
fn the_register_calls_that_count_are_those_of_72_hours() {
    let attempt = |end: &str, outcome: &str| json!({"id": end, "startTime": end, "finishTime": end, "ttlSeconds": 60, "outcome": outcome});
    let attempts = json!([
        {"id": "open", "startTime": "2026-01-04T11:59:59Z", "ttlSeconds": 60},
        attempt("2026-01-04T11:00:00Z", "NotSent"),
        attempt("2026-01-04T10:00:00Z", "Unknown"),
        attempt("2026-01-01T12:00:01Z", "Failed"),
        attempt("2026-01-01T12:00:00Z", "Failed"),
        {"id": "off", "operation": "Deregister", "startTime": "2026-01-04T11:00:00Z", "finishTime": "2026-01-04T11:00:01Z",
         "ttlSeconds": 60, "outcome": "Succeeded"},
    ]);
    let numbers = vec![
        with_status(
            "sales",
            false,
            json!({"observedGeneration": 1, "attempts": attempts}),
        ),
        with_status("unseen", false, json!({"observedGeneration": -1})),
    ];
    assert_eq!(
        series(&text(numbers), "whatsapp_operator_phone_number_attempts"),
        [
            "{namespace=\"shop\",name=\"sales\"} 3",
            "{namespace=\"shop\",name=\"unseen\"} 0",
        ]
    );
}

#[test]
fn a_number_has_one_reason_and_a_failure_goes_first() {
    let status = |ready: [&str; 2], failed: [&str; 2]| {
        let conditions = [("Ready", ready), ("Failed", failed)]
            .map(|(type_, [status, reason])| condition(type_, status, reason));
        json!({"observedGeneration": 1, "conditions": conditions})
    };
    let rests = status(
        ["True", "AlreadyRegistered"],
        ["False", "AlreadyRegistered"],
    );
    let asked = status(["True", "AlreadyRegistered"], ["True", "PinMismatch"]);
    let numbers = vec![
        with_status("rests", false, rests),
        with_status("asked", false, asked),
        with_status("unseen", false, json!({"observedGeneration": -1})),
    ];
    assert_eq!(
        series(&text(numbers), "whatsapp_operator_phone_number_reason"),
        [
            "{namespace=\"shop\",name=\"rests\",reason=\"AlreadyRegistered\"} 1",
            "{namespace=\"shop\",name=\"asked\",reason=\"PinMismatch\"} 1",
        ]
    );
}

#[test]
fn a_number_that_is_gone_has_no_series() {
    let numbers = Arc::new(Mutex::new(vec![number(
        "sales",
        false,
        &[("Ready", "True")],
    )]));
    let known = Arc::clone(&numbers);
    let resources = move || known.lock().expect("no thread panicked").clone();
    let metrics = Metrics::new(8, MetricsPerNumber::All, Box::new(resources), noon);
    metrics.set_leader(true);
    let lines = || {
        let text = encoded(&metrics);
        let lines = text.lines();
        lines.filter(|line| line.contains("name=\"sales\"")).count()
    };
    assert_eq!(lines(), 3, "the state, the reason and the attempts");
    numbers.lock().expect("no thread panicked").clear();
    assert_eq!(lines(), 0);
}
