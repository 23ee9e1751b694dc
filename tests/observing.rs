//! A registered number is read from time to time; what that says of it, on a real API server. Register calls are counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use futures::future::{BoxFuture, FutureExt, ready};
use operator_core::api::{WhatsAppPhoneNumberStatus, conditions};
use serde_json::json;

use testkit::bed::{Bed, TOKEN, is, message};
use testkit::gateway::{Before, Conduct, Kind, Request};
use testkit::simulator::{Action, NumberConfig, Step};

/// An interval that a test can wait for; a suspected loss is looked at again after the confirm window.
const OFTEN: &[&str] = &["--observe-interval=1s", "--confirm-window=1s"];

const REGISTERED: &str = conditions::REGISTERED;
const OBSERVED: &str = conditions::OBSERVED;

fn lost(status: &WhatsAppPhoneNumberStatus) -> bool {
    is(status, REGISTERED, "False", "RegistrationLost")
}

/// A number that is registered and observed.
async fn observed(bed: &Bed, name: &str, id: &str) {
    bed.declare(name, id).await;
    let is_observed = |status: &_| is(status, OBSERVED, "True", "ObservationSucceeded");
    bed.until(name, "observed", is_observed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_number_is_told_once_and_adopted_when_it_is_registered_again() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let operator = bed.operator(OFTEN).await;
    observed(&bed, "lost", "4001").await;
    bed.simulator
        .set("4001", NumberConfig::fresh().status("DISCONNECTED"));
    let found = bed.until("lost", "lost", lost).await;
    assert!(
        message(&found, REGISTERED).contains("lossPolicy"),
        "{found:?}"
    );
    let event = bed.until_event("lost", "RegistrationLost").await;
    assert_eq!(event.action.as_deref(), Some("Read"));
    operator
        .until_metric("registrations_lost_total", |lost| lost == 1.0)
        .await;

    // Neither a new token nor a new PIN makes a call.
    let token = TOKEN.replace("EAA", "EAAB");
    bed.secret(
        "whatsapp",
        &[("token", token.as_bytes()), ("pin", b"654321")],
    )
    .await;
    let reads = bed.simulator.number("4001").counts.reads;
    until_reads(&bed, "4001", reads + 4).await;
    bed.simulator.set("4001", NumberConfig::registered());
    bed.until_registered("lost", "AlreadyRegistered").await;
    let told = bed.events("lost").await;
    let told = told
        .iter()
        .filter(|event| event.reason.as_deref() == Some("RegistrationLost"));
    assert_eq!(told.count(), 1);
    assert_eq!(bed.posts("4001"), 1);
}

async fn until_reads(bed: &Bed, id: &str, reads: usize) {
    let read = bed
        .simulator
        .until(id, move |report| report.counts.reads >= reads)
        .await;
    read.expect("it is read that often");
}

#[tokio::test(flavor = "multi_thread")]
async fn loss_policy_register_registers_again_once() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let _operator = bed.operator(OFTEN).await;
    let policy = json!({"lossPolicy": "Register"});
    bed.declare_with("again", "4002", policy).await;
    let is_observed = |status: &_| is(status, OBSERVED, "True", "ObservationSucceeded");
    bed.until("again", "observed", is_observed).await;
    bed.simulator.set("4002", NumberConfig::fresh());
    let recovered = |status: &WhatsAppPhoneNumberStatus| {
        status.last_loss_time.is_some() && is(status, REGISTERED, "True", "RegistrationSucceeded")
    };
    bed.until("again", "registered again", recovered).await;
    assert_eq!(bed.posts("4002"), 2);
    // A second loss within 24 hours stalls.
    bed.simulator.set("4002", NumberConfig::fresh());
    let found = bed.until("again", "lost", lost).await;
    assert!(message(&found, REGISTERED).contains("second loss in 24 hours"));
    let reads = bed.simulator.number("4002").counts.reads;
    until_reads(&bed, "4002", reads + 4).await;
    assert_eq!(bed.posts("4002"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_of_the_business_app_is_not_registered_again() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let _operator = bed.operator(OFTEN).await;
    bed.declare_with("app", "4003", json!({"lossPolicy": "Register"}))
        .await;
    bed.until("app", "observed", |status| {
        is(status, OBSERVED, "True", "ObservationSucceeded")
    })
    .await;
    let moved = NumberConfig::fresh()
        .platform_type("ON_PREMISE")
        .status("DISCONNECTED");
    bed.simulator
        .set("4003", moved.field("is_on_biz_app", true));
    let stalled = |status: &_| is(status, conditions::STALLED, "True", "BusinessAppNumber");
    bed.until("app", "stalled", stalled).await;
    assert_eq!(bed.posts("4003"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_shows_before_it_is_needed() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let _operator = bed.operator(OFTEN).await;
    observed(&bed, "expired", "4004").await;
    bed.simulator
        .set("4004", NumberConfig::registered().token("EAAother"));
    let refused = |status: &_| is(status, OBSERVED, "False", "TokenRejected");
    let found = bed.until("expired", "unobserved", refused).await;
    assert!(is(
        found.status.as_ref().expect("a status"),
        conditions::READY,
        "True",
        "RegistrationSucceeded"
    ));
    bed.until_event("expired", "TokenRejected").await;
    bed.simulator
        .set("4004", NumberConfig::registered().token("EAAother"));
    bed.secret("whatsapp", &[("token", b"EAAother"), ("pin", b"123456")])
        .await;
    bed.until("expired", "observed", |status| {
        is(status, OBSERVED, "True", "ObservationSucceeded")
    })
    .await;
    assert_eq!(bed.posts("4004"), 1);
}

/// Counts the writes of statuses.
#[derive(Default)]
struct Writes(AtomicUsize);

impl Conduct for Writes {
    fn before<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Before> {
        if matches!(request.kind, Kind::Status) {
            self.0.fetch_add(1, SeqCst);
        }
        ready(Before::Pass).boxed()
    }
}

/// Graph answers limits, server errors, pages and nothing in turn: nothing flips, nothing is called, and what is really lost is found.
#[tokio::test(flavor = "multi_thread")]
async fn a_faulty_graph_flips_nothing_and_hides_no_loss() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let writes = Arc::new(Writes::default());
    let gates = bed.gates(Arc::clone(&writes) as _).await;
    let interval = "--observe-interval=2s";
    let operator = gates
        .operator(
            &bed,
            &[
                interval,
                "--confirm-window=1s",
                "--retry-base=200ms",
                "--graph-timeout=2s",
            ],
        )
        .await;
    let names: Vec<(String, String)> = (0..20)
        .map(|n| (format!("number-{n}"), format!("41{n:02}")))
        .collect();
    for (n, (name, id)) in names.iter().enumerate() {
        let config = NumberConfig::registered();
        bed.simulator.set(
            id,
            if n % 5 == 0 {
                config
            } else {
                config.script(faults(n))
            },
        );
        bed.declare(name, id).await;
    }
    for (name, _) in &names {
        bed.until_registered(name, "AlreadyRegistered").await;
    }
    for (n, (_, id)) in names.iter().enumerate() {
        if n % 5 == 0 {
            bed.simulator.set(
                id,
                NumberConfig::fresh()
                    .status("DISCONNECTED")
                    .script(faults(n)),
            );
        }
    }
    for (n, (name, _)) in names.iter().enumerate() {
        if n % 5 == 0 {
            bed.until(name, "lost", lost).await;
        }
    }
    let reads = |id: &str| bed.simulator.number(id).counts.reads;
    let before: Vec<usize> = names.iter().map(|(_, id)| reads(id)).collect();
    for ((_, id), before) in names.iter().zip(before) {
        until_reads(&bed, id, before + 4).await;
    }
    operator
        .until_metric("registrations_lost_total", |lost| lost == 4.0)
        .await;
    for (n, (name, id)) in names.iter().enumerate() {
        let status = bed.get(name).await.status.expect("a status");
        let expected = if n % 5 == 0 { "False" } else { "True" };
        let registered = conditions::find(&status, REGISTERED).expect("a condition");
        assert_eq!(registered.status, expected, "{name}");
        assert_eq!(bed.posts(id), 0, "{name}");
    }
    let written = writes.0.load(SeqCst);
    assert!(written < 20 * 10, "{written} writes");
}

/// Faults of every kind, one after the other.
fn faults(n: usize) -> Vec<Step> {
    let page = Action::Raw {
        http_status: 502,
        headers: BTreeMap::new(),
        body: "<html>Sorry, something went wrong</html>".to_owned(),
    };
    let mut steps = vec![
        Step::server_error().on_read(),
        Step::new(page).on_read(),
        Step::hang_up_before().on_read(),
        Step::error(1).on_read(),
        Step::error(131_016).on_read(),
    ];
    let kinds = steps.len();
    steps.rotate_left(n % kinds);
    steps
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_past_its_end_and_an_approved_name_are_told() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let config = NumberConfig::registered()
        .answer_header("facebook-api-version", "v24.0")
        .field("new_name_status", "APPROVED");
    bed.simulator.set("4005", config);
    let operator = bed.operator(OFTEN).await;
    bed.declare("old", "4005").await;
    let event = bed.until_event("old", "GraphAPIVersionExpired").await;
    assert!(
        event
            .note
            .as_deref()
            .is_some_and(|note| note.contains("v24.0")),
        "{event:?}"
    );
    operator
        .until_metric("graph_api_versions_expired", |expired| expired == 1.0)
        .await;
    let event = bed.until_event("old", "DisplayNameApproved").await;
    assert!(
        event
            .note
            .as_deref()
            .is_some_and(|note| note.contains("14 days")),
        "{event:?}"
    );
    let number = bed
        .get("old")
        .await
        .status
        .and_then(|status| status.phone_number);
    assert_eq!(
        number.and_then(|number| number.on_business_app),
        Some(false)
    );
}
