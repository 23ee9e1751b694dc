//! From the declaration of a number to its conditions.

use std::time::Duration;

use serde_json::json;

use testkit::bed::{Bed, PIN, TOKEN, is, message};
use testkit::simulator::{NumberConfig, Operation, Step};

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_number_is_registered_with_one_call() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let _operator = bed.operator(&[]).await;
    bed.declare("fresh", "1001").await;
    let number = bed.until_registered("fresh", "RegistrationSucceeded").await;
    let report = bed.simulator.number("1001");
    assert_eq!((report.counts.register_calls, report.counts.reads), (1, 1));
    assert!(bed.simulator.violations().is_empty());

    let status = number.status.expect("a status");
    assert_eq!(status.observed_generation, 1);
    assert_eq!(status.attempts.len(), 1);
    assert_eq!(status.graph_api_version.as_deref(), Some("v23.0"));
    let end = status.attempts[0].end.as_ref().expect("it has ended");
    assert_eq!(status.fbtrace_id, end.fbtrace_id);
    assert!(status.fbtrace_id.is_some() && status.registration_time.is_some());
    assert!(status.next_attempt_time.is_none() && status.last_error.is_none());
    let types: Vec<_> = status.conditions.iter().map(|c| c.type_.as_str()).collect();
    assert_eq!(types.len(), 3, "no Reconciling, no Stalled: {types:?}");
    assert!(
        status
            .conditions
            .iter()
            .all(|c| c.observed_generation == Some(1))
    );

    bed.kubectl(&[
        "wait",
        "--for=condition=Registered",
        "--timeout=10s",
        "wapn/fresh",
    ]);
    bed.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "--timeout=10s",
        "wapn/fresh",
    ]);
    let event = bed.until_event("fresh", "RegistrationSucceeded").await;
    assert_eq!(event.action.as_deref(), Some("Register"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_number_is_adopted_without_a_call() {
    let bed = Bed::new().await;
    bed.secrets().await;
    bed.simulator
        .set("1002", NumberConfig::registered().pin(PIN));
    let _operator = bed.operator(&[]).await;
    bed.declare("adopted", "1002").await;
    let number = bed.until_registered("adopted", "AlreadyRegistered").await;
    assert_eq!(bed.posts("1002"), 0);
    let seen = number
        .status
        .and_then(|status| status.phone_number)
        .expect("what Graph said");
    assert_eq!(seen.status.as_deref(), Some("CONNECTED"));
    assert_eq!(seen.platform_type.as_deref(), Some("CLOUD_API"));
    assert!(seen.observed_time.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_pin_is_tried_once_until_it_changes() {
    let bed = Bed::new().await;
    bed.secret(
        "whatsapp",
        &[("token", TOKEN.as_bytes()), ("pin", b"111111")],
    )
    .await;
    bed.simulator.set("1003", NumberConfig::fresh().pin(PIN));
    let operator = bed.operator(&[]).await;
    bed.declare("wrong", "1003").await;
    let number = bed.until_stalled("wrong", "PinMismatch").await;
    assert_eq!(bed.posts("1003"), 1);
    assert!(
        message(&number, "Ready").contains("133005"),
        "{}",
        message(&number, "Ready")
    );

    // Neither a restart, nor a Secret that is touched, nor another generation makes a second call.
    operator.terminate().await;
    let operator = bed.operator(&[]).await;
    bed.kubectl(&["annotate", "secret", "whatsapp", "touched=yes"]);
    bed.patch("wrong", json!({"spec": {"deletionPolicy": "Deregister"}}))
        .await;
    bed.until("wrong", "observed", |status| {
        status.observed_generation == 2
    })
    .await;
    bed.until_stalled("wrong", "PinMismatch").await;
    assert_eq!(bed.posts("1003"), 1);

    bed.secrets().await;
    bed.until_registered("wrong", "RegistrationSucceeded").await;
    assert_eq!(bed.posts("1003"), 2);
    drop(operator);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_is_waited_out_by_every_number_of_the_token() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let limited = json!({"step": "rate_limited", "regain_minutes": 0, "retry_after": "10"});
    let step: Step = serde_json::from_value(limited).expect("a step");
    bed.simulator
        .set("1004", NumberConfig::fresh().script(vec![step]));
    let _operator = bed.operator(&[]).await;
    bed.declare("limited", "1004").await;
    let number = bed.until_waiting("limited", "RateLimited").await;
    assert!(number.status.expect("a status").next_attempt_time.is_some());
    bed.declare("other", "1005").await;
    bed.until_waiting("other", "RateLimited").await;
    assert_eq!(
        bed.simulator.number("1005").counts.reads,
        0,
        "the token cools down for reads too"
    );
    bed.until_registered("limited", "RegistrationSucceeded")
        .await;
    bed.until_registered("other", "RegistrationSucceeded").await;
    assert_eq!((bed.posts("1004"), bed.posts("1005")), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_error_is_confirmed_and_tried_again() {
    let bed = Bed::new().await;
    bed.secrets().await;
    bed.simulator.set(
        "1006",
        NumberConfig::fresh().script(vec![Step::server_error()]),
    );
    let _operator = bed.operator(&[]).await;
    bed.declare("unlucky", "1006").await;
    let waiting = bed.until_waiting("unlucky", "GraphUnavailable").await;
    let status = waiting.status.as_ref().expect("a status");
    assert!(is(status, "Registered", "False", "GraphUnavailable"));
    bed.until_registered("unlucky", "RegistrationSucceeded")
        .await;
    assert_eq!(bed.posts("1006"), 2);
    assert!(
        bed.simulator.number("1006").counts.reads >= 3,
        "the number is read in the window and after"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_annotation_that_is_too_long_is_remarked_upon_once() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let _operator = bed.operator(&[]).await;
    bed.declare("long", "1017").await;
    bed.until_registered("long", "RegistrationSucceeded").await;
    bed.request("long", &"x".repeat(300)).await;
    bed.until_event("long", "InvalidRegisterRequest").await;
    bed.patch("long", json!({"spec": {"suspend": true}})).await;
    bed.until("long", "suspended", |status| {
        status.observed_generation == 2
    })
    .await;
    bed.patch("long", json!({"spec": {"suspend": false}})).await;
    bed.until("long", "resumed", |status| status.observed_generation == 3)
        .await;
    let events = bed.events("long").await;
    let remarks = events
        .iter()
        .filter(|event| event.reason.as_deref() == Some("InvalidRegisterRequest"));
    assert_eq!(remarks.count(), 1);
    assert_eq!(bed.posts("1017"), 1);
}

/// Meta's support asks for the trace ID of the last try.
#[tokio::test(flavor = "multi_thread")]
async fn each_try_has_an_event_of_its_own() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let script = vec![Step::server_error().times(2)];
    bed.simulator
        .set("1016", NumberConfig::fresh().script(script));
    let _operator = bed.operator(&["--confirm-window=1s"]).await;
    bed.declare("retried", "1016").await;
    let number = bed
        .until_registered("retried", "RegistrationSucceeded")
        .await;
    bed.until_event("retried", "RegistrationSucceeded").await;
    let attempts = number.status.expect("a status").attempts;
    let events = bed.events("retried").await;
    for attempt in &attempts[1..] {
        let end = attempt.end.as_ref().expect("an end");
        let trace = end.fbtrace_id.as_deref().expect("a trace ID");
        let told = events
            .iter()
            .filter_map(|event| event.note.as_deref())
            .any(|note| note.contains(trace));
        assert!(told, "no event has {trace}: {events:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_was_lost_is_confirmed_without_a_second_call() {
    let bed = Bed::new().await;
    bed.secrets().await;
    for (name, id, step) in [
        ("hung-up", "1007", Step::hang_up_after()),
        ("failed", "1008", Step::server_error().acted()),
    ] {
        bed.simulator
            .set(id, NumberConfig::fresh().script(vec![step]));
        bed.declare(name, id).await;
    }
    let _operator = bed.operator(&[]).await;
    for (name, id) in [("hung-up", "1007"), ("failed", "1008")] {
        bed.until_registered(name, "OutcomeConfirmed").await;
        assert_eq!(bed.posts(id), 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_was_lost_before_it_acted_is_tried_again_after_the_window() {
    let bed = Bed::new().await;
    bed.secrets().await;
    bed.simulator.set(
        "1009",
        NumberConfig::fresh().script(vec![Step::hang_up_before()]),
    );
    let _operator = bed.operator(&[]).await;
    bed.declare("lost", "1009").await;
    let unknown = bed.until_waiting("lost", "OutcomeUnknown").await;
    let status = unknown.status.as_ref().expect("a status");
    assert!(is(status, "Registered", "Unknown", "OutcomeUnknown"));
    assert!(is(status, "Failed", "False", "OutcomeUnknown"));
    bed.until_registered("lost", "RegistrationSucceeded").await;
    let report = bed.simulator.number("1009");
    assert_eq!(report.counts.register_calls, 2);
    let times: Vec<_> = report
        .log
        .iter()
        .filter(|call| call.operation == Operation::Register)
        .map(|call| call.time)
        .collect();
    let gap = Duration::try_from(times[1].duration_since(times[0])).expect("in order");
    assert!(
        gap >= Duration::from_secs(3),
        "a second call {gap:?} after the first: within the confirm window"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_number_is_left_alone() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let _operator = bed.operator(&[]).await;
    bed.declare_with("resting", "1010", json!({"suspend": true}))
        .await;
    bed.until("resting", "Suspended", |status| {
        is(status, "Ready", "False", "Suspended")
    })
    .await;
    let report = bed.simulator.number("1010");
    assert_eq!((report.counts.register_calls, report.counts.reads), (0, 0));
    bed.patch("resting", json!({"spec": {"suspend": false}}))
        .await;
    bed.until_registered("resting", "RegistrationSucceeded")
        .await;
    bed.patch("resting", json!({"spec": {"suspend": true}}))
        .await;
    let number = bed
        .until("resting", "observed", |status| {
            status.observed_generation == 3
        })
        .await;
    assert!(is(
        &number.status.expect("a status"),
        "Registered",
        "True",
        "RegistrationSucceeded"
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_annotation_asks_for_one_call() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let _operator = bed.operator(&[]).await;
    bed.declare("again", "1011").await;
    bed.until_registered("again", "RegistrationSucceeded").await;
    bed.request("again", "2026-11-22T10:00:00Z").await;
    bed.until("again", "handled", |status| {
        status.last_handled_register_request.as_deref() == Some("2026-11-22T10:00:00Z")
            && status
                .attempts
                .first()
                .is_some_and(|attempt| attempt.end.is_some())
    })
    .await;
    assert_eq!(bed.posts("1011"), 2);

    // A failure stands in Failed, the number stays registered, and nothing is tried again by itself.
    bed.simulator.script("1011", vec![Step::error(131_000)]);
    bed.request("again", "2026-11-22T11:00:00Z").await;
    let number = bed
        .until("again", "failed", |status| {
            is(status, "Failed", "True", "GraphUnavailable")
        })
        .await;
    let status = number.status.expect("a status");
    assert!(is(&status, "Registered", "True", "RegistrationSucceeded"));
    assert!(status.next_attempt_time.is_none());
    assert_eq!(bed.posts("1011"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_annotation_that_came_along_counts_as_handled() {
    let bed = Bed::new().await;
    bed.secrets().await;
    bed.simulator.set("1012", NumberConfig::registered());
    bed.declare("restored", "1012").await;
    bed.request("restored", "from a backup").await;
    let _operator = bed.operator(&[]).await;
    let number = bed.until_registered("restored", "AlreadyRegistered").await;
    let handled = number
        .status
        .and_then(|status| status.last_handled_register_request);
    assert_eq!(handled.as_deref(), Some("from a backup"));
    assert_eq!(bed.posts("1012"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_resource_adopts_the_number() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let _operator = bed.operator(&[]).await;
    bed.declare("old-name", "1013").await;
    bed.until_registered("old-name", "RegistrationSucceeded")
        .await;
    bed.declare("new-name", "1013").await;
    let number = bed.until_stalled("new-name", "DuplicatePhoneNumber").await;
    assert!(message(&number, "Failed").contains("old-name"));
    bed.delete("old-name").await;
    bed.until_registered("new-name", "AlreadyRegistered").await;
    assert_eq!(bed.posts("1013"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn deprecated_fields_are_sent_and_remarked_upon() {
    let bed = Bed::new().await;
    bed.secrets().await;
    bed.secret(
        "backup",
        &[("password", b"open sesame"), ("data", b"c29tZSBkYXRh")],
    )
    .await;
    let _operator = bed.operator(&[]).await;
    let more = json!({
        "dataLocalizationRegion": "DE", "metaStoreRetentionMinutes": 60,
        "graphAPIVersion": "v24.0", "backupSecretRef": {"name": "backup"},
    });
    bed.declare_with("full", "1014", more).await;
    let number = bed.until_registered("full", "RegistrationSucceeded").await;
    assert_eq!(
        number.status.and_then(|s| s.graph_api_version).as_deref(),
        Some("v24.0")
    );
    bed.until_event("full", "DeprecatedField").await;
    assert!(bed.simulator.violations().is_empty());
}
