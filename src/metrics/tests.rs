//! The text of `/metrics`.

use kube::core::DeserializeGuard;
use serde_json::json;

use super::*;

fn number(name: &str, suspend: bool, conditions: &[(&str, &str)]) -> Arc<Watched> {
    let conditions: Vec<_> = conditions
        .iter()
        .map(|(type_, status)| {
            json!({"type": type_, "status": status, "reason": "X", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"})
        })
        .collect();
    let object = json!({
        "apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppPhoneNumber",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"phoneNumberID": "1", "tokenSecretRef": {"name": "t"}, "pinSecretRef": {"name": "p"}, "suspend": suspend},
        "status": {"observedGeneration": 1, "conditions": conditions},
    });
    let number = serde_json::from_value(object).expect("a valid resource");
    Arc::new(DeserializeGuard(Ok(number)))
}

fn text(numbers: Vec<Arc<Watched>>) -> String {
    Metrics::new(Box::new(move || numbers.clone()))
        .encode()
        .expect("metrics as text")
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
fn names_and_types_are_those_of_the_design() {
    let text = text(vec![]);
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
            "leader gauge",
            "build info",
            "phone_numbers gauge",
            "phone_number_condition gauge",
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
            "whatsapp_operator_leader 0",
            concat!(
                "whatsapp_operator_build_info{version=\"",
                env!("CARGO_PKG_VERSION"),
                "\"} 1"
            ),
            "whatsapp_operator_phone_numbers{state=\"registered\"} 0",
            "whatsapp_operator_phone_numbers{state=\"failed\"} 0",
            "whatsapp_operator_phone_numbers{state=\"waiting\"} 0",
            "whatsapp_operator_phone_numbers{state=\"unknown\"} 0",
            "whatsapp_operator_phone_numbers{state=\"suspended\"} 0",
        ],
    );
    assert!(
        !text.contains("reason=\"InvalidPin\""),
        "a reason that no attempt ends with:\n{text}"
    );
}

#[test]
fn what_happens_is_counted_and_measured() {
    let metrics = Metrics::new(Box::new(Vec::new));
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
        &metrics.encode().expect("metrics as text"),
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
    assert_lines(
        &metrics.encode().expect("metrics as text"),
        &["whatsapp_operator_leader 0"],
    );
}

#[test]
fn each_condition_has_one_series_for_each_status() {
    let text = text(vec![number(
        "sales",
        false,
        &[("Ready", "Unknown"), ("Reconciling", "True")],
    )]);
    let series = |type_, status, value| {
        format!(
            "whatsapp_operator_phone_number_condition{{namespace=\"shop\",name=\"sales\",type=\"{type_}\",status=\"{status}\"}} {value}"
        )
    };
    let expected: Vec<String> = [
        ("Ready", ["0", "0", "1"]),
        ("Reconciling", ["1", "0", "0"]),
        ("Stalled", ["0", "1", "0"]),
    ]
    .into_iter()
    .flat_map(|(type_, values)| {
        ["True", "False", "Unknown"]
            .into_iter()
            .zip(values)
            .map(move |(status, value)| series(type_, status, value))
    })
    .collect();
    let found: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("whatsapp_operator_phone_number_condition"))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn each_number_counts_in_one_state() {
    let numbers = vec![
        number("a", false, &[("Registered", "True"), ("Failed", "True")]),
        number("b", true, &[("Registered", "True")]),
        number("c", true, &[("Registered", "False"), ("Failed", "True")]),
        number("d", false, &[("Registered", "False"), ("Stalled", "True")]),
        number("e", false, &[("Failed", "True"), ("Reconciling", "True")]),
        number(
            "f",
            false,
            &[("Registered", "Unknown"), ("Reconciling", "True")],
        ),
        number("g", false, &[]),
    ];
    assert_lines(
        &text(numbers),
        &[
            "whatsapp_operator_phone_numbers{state=\"registered\"} 2",
            "whatsapp_operator_phone_numbers{state=\"failed\"} 2",
            "whatsapp_operator_phone_numbers{state=\"waiting\"} 1",
            "whatsapp_operator_phone_numbers{state=\"unknown\"} 1",
            "whatsapp_operator_phone_numbers{state=\"suspended\"} 1",
        ],
    );
}
