//! A registered number is read from time to time; what that says of it, on a real API server. Register calls are counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use axum::http::StatusCode;
use futures::future::{BoxFuture, FutureExt, join_all, ready};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use operator_core::api::{WhatsAppPhoneNumberStatus, conditions};
use serde_json::json;

use testkit::bed::{Bed, DEADLINE, TOKEN, is, message};
use testkit::from_environment;
use testkit::gateway::{After, Before, Conduct, Kind, Request};
use testkit::simulator::{Action, NumberConfig, NumberReport, Step};

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

/// Loses the answer to the write that tells of a loss, which is stored.
struct LosesTheAnswer(AtomicUsize);

impl Conduct for LosesTheAnswer {
    fn after<'a>(&'a self, request: &'a Request, _: StatusCode) -> BoxFuture<'a, After> {
        let told = request.kind == Kind::Status && !request.body["status"]["loss"].is_null();
        let lost = told && self.0.fetch_add(1, SeqCst) == 0;
        ready(if lost { After::Lose } else { After::Answer }).boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_is_told_although_the_answer_to_its_write_is_lost() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let conduct = Arc::new(LosesTheAnswer(AtomicUsize::new(0)));
    let gates = bed.gates(Arc::clone(&conduct) as _).await;
    let operator = gates.operator(&bed, OFTEN).await;
    observed(&bed, "untold", "4020").await;
    bed.simulator
        .set("4020", NumberConfig::fresh().status("DISCONNECTED"));
    bed.until("untold", "lost", lost).await;
    bed.until_event("untold", "RegistrationLost").await;
    operator
        .until_metric("registrations_lost_total", |lost| lost == 1.0)
        .await;
    assert!(conduct.0.load(SeqCst) > 0, "no answer was lost");
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
async fn another_resource_of_a_lost_number_makes_no_call() {
    let bed = Bed::new().await;
    bed.secrets().await;
    bed.simulator.set("4021", NumberConfig::registered());
    let _operator = bed.operator(OFTEN).await;
    observed(&bed, "first", "4021").await;
    bed.declare_with("second", "4021", json!({"lossPolicy": "Register"}))
        .await;
    let yields = |status: &_| is(status, conditions::READY, "False", "DuplicatePhoneNumber");
    bed.until("second", "one that yields", yields).await;
    bed.simulator
        .set("4021", NumberConfig::fresh().status("DISCONNECTED"));
    bed.until("first", "lost", lost).await;
    let reads = bed.simulator.number("4021").counts.reads;
    until_reads(&bed, "4021", reads + 6).await;
    bed.until("second", "one that yields", yields).await;
    assert_eq!(bed.posts("4021"), 0);
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

/// The Secret of many numbers is deleted and made again: with two hundred, `SHARING=200 cargo test a_shared_secret`.
#[tokio::test(flavor = "multi_thread")]
async fn a_shared_secret_that_is_deleted_and_made_again_flips_nothing() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let count = from_environment("SHARING", 20);
    let interval = format!("--observe-interval={}s", 1.max(count / 40));
    let operator = bed.operator(&[&interval, OFTEN[1]]).await;
    let names: Vec<(String, String)> = (0..count)
        .map(|n| (format!("sharing-{n}"), format!("46{n:03}")))
        .collect();
    let declared = names.iter().map(|(name, id)| observed(&bed, name, id));
    join_all(declared).await;
    let since: Vec<_> = transitions(&bed).await;
    let secrets = bed.api::<Secret>();
    let deleted = secrets.delete("whatsapp", &DeleteParams::default()).await;
    deleted.expect("deleted");
    for (name, _) in &names {
        let unobserved = |status: &_| is(status, OBSERVED, "False", "SecretNotFound");
        bed.until(name, "unobserved", unobserved).await;
    }
    bed.secrets().await;
    for (name, _) in &names {
        let is_observed = |status: &_| is(status, OBSERVED, "True", "ObservationSucceeded");
        bed.until(name, "observed again", is_observed).await;
    }
    assert_eq!(transitions(&bed).await, since);
    assert_eq!(bed.simulator.totals().counts.register_calls, names.len());
    drop(operator);
}

/// Each number's `Registered` and `Ready`, and since when they are as they are.
async fn transitions(bed: &Bed) -> Vec<(String, Vec<Condition>)> {
    let numbers = bed.numbers().list(&ListParams::default()).await;
    let numbers = numbers.expect("a list").items.into_iter().map(|number| {
        let status = number.status.clone().unwrap_or_default();
        let kept = |type_| conditions::find(&status, type_).cloned();
        let shown = [REGISTERED, conditions::READY].into_iter().filter_map(kept);
        (number.name_any(), shown.collect())
    });
    numbers.collect()
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

/// Graph answers limits, server errors, pages and nothing in turn: nothing flips, nothing is called, and what is really lost is
/// found and told once. With a thousand numbers: `OBSERVED=1000 cargo test a_faulty_graph_flips`.
#[tokio::test(flavor = "multi_thread")]
async fn a_faulty_graph_flips_nothing_and_hides_no_loss() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let writes = Arc::new(Writes::default());
    let gates = bed.gates(Arc::clone(&writes) as _).await;
    let numbers: Vec<Observed> = Observed::some(from_environment("OBSERVED", 40));
    // So many reads a second that two cores keep up with them.
    let interval = Duration::from_secs(2.max(numbers.len() as u64 / 40));
    let observe = format!("--observe-interval={}s", interval.as_secs());
    let short = [
        observe.as_str(),
        "--confirm-window=1s",
        "--retry-base=200ms",
        "--graph-timeout=2s",
    ];
    let operator = gates.operator(&bed, &short).await;
    for number in &numbers {
        bed.simulator.set(&number.id, NumberConfig::registered());
    }
    let declared = stream::iter(&numbers).map(|number| bed.declare(&number.name, &number.id));
    declared.buffer_unordered(16).for_each(async |_| {}).await;
    for number in &numbers {
        bed.until_registered(&number.name, "AlreadyRegistered")
            .await;
    }
    writes.0.store(0, SeqCst);
    for number in &numbers {
        if number.is_lost {
            let lost = NumberConfig::fresh().status("DISCONNECTED");
            bed.simulator.set(&number.id, lost);
        }
        bed.simulator.script(&number.id, faults(number.nth));
    }
    // The faults take two observations, and a loss is certain after the second one that shows it.
    let deadline = 10 * interval + DEADLINE;
    let simulator = &bed.simulator;
    for number in &numbers {
        let through = |report: &NumberReport| report.script.is_empty();
        let through = simulator.until_within(&number.id, deadline, through);
        through.await.expect("all faults");
    }
    let reads = |number: &Observed| simulator.number(&number.id).counts.reads;
    let before: Vec<usize> = numbers.iter().map(reads).collect();
    for (number, before) in numbers.iter().zip(before) {
        let read = move |report: &NumberReport| report.counts.reads >= before + 8;
        let read = simulator.until_within(&number.id, deadline, read);
        read.await.expect("it is read that often");
    }
    for number in numbers.iter().filter(|number| number.is_lost) {
        bed.until(&number.name, "lost", lost).await;
    }
    let losses = "registrations_lost_total";
    operator.until_metric(losses, |lost| lost == 10.0).await;
    for number in &numbers {
        let status = bed.get(&number.name).await.status.expect("a status");
        let expected = if number.is_lost { "False" } else { "True" };
        let registered = conditions::find(&status, REGISTERED).expect("a condition");
        assert_eq!(registered.status, expected, "{}", number.name);
        let told = bed.events(&number.name).await.into_iter();
        let told = told.filter(|event| event.reason.as_deref() == Some("RegistrationLost"));
        assert_eq!(told.count(), usize::from(number.is_lost));
    }
    assert_eq!(bed.simulator.totals().counts.register_calls, 0);
    // A suspicion, a loss, an observation that failed again and again and one that did not.
    let written = writes.0.load(SeqCst);
    assert!(written <= numbers.len() * 4, "{written} writes");
    println!("{written} writes for {} numbers", numbers.len());
}

/// A number that is observed.
struct Observed {
    nth: usize,
    name: String,
    id: String,
    is_lost: bool,
}

impl Observed {
    /// As many as this, ten of which are lost.
    fn some(how_many: usize) -> Vec<Self> {
        let one = |nth| Self {
            nth,
            name: format!("number-{nth}"),
            id: format!("41{nth:04}"),
            is_lost: nth % (how_many / 10) == 0,
        };
        (0..how_many).map(one).collect()
    }
}

/// Faults of every kind, one after the other.
fn faults(n: usize) -> Vec<Step> {
    let page = Action::Raw {
        http_status: 502,
        headers: BTreeMap::new(),
        body: "<html>Sorry, something went wrong</html>".to_owned(),
    };
    // Without usage headers: with them, nothing is observed for a while.
    let limit = Action::Raw {
        http_status: 429,
        headers: [("Retry-After".to_owned(), "1".to_owned())].into(),
        body: json!({"error": {"code": 4, "message": "Application request limit reached"}})
            .to_string(),
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
    if n.is_multiple_of(10) {
        let nothing = Action::Stall { millis: 5_000 };
        steps.push(Step::new(nothing).on_read());
    }
    // All numbers share the token, and each of these holds all of them up.
    if n.is_multiple_of(50) {
        steps.push(Step::new(limit).on_read());
    }
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
