//! One namespace, one record, one number does not stop the rest; and a strange answer of the API server loses nothing.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use futures::future::{BoxFuture, FutureExt, ready, select_all};
use kube::runtime::wait::await_condition;
use operator_core::api::WhatsAppPhoneNumber;
use serde_json::json;

use testkit::bed::{Bed, DEADLINE, TOKEN};
use testkit::gateway::{Before, Conduct, Kind, Request};
use testkit::simulator::{NumberConfig, Step};

/// Refuses every record about one number, for as long as it is told to.
struct RefusesRecords {
    about: &'static str,
    refuses: AtomicBool,
}

impl Conduct for RefusesRecords {
    fn before<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Before> {
        let record = matches!(request.kind, Kind::Record | Kind::Status);
        let refused = record && request.about == self.about && self.refuses.load(SeqCst);
        ready(if refused {
            Before::Refuse(403)
        } else {
            Before::Pass
        })
        .boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_refused_keeps_no_slot() {
    let (first, second) = (Bed::new().await, Bed::new().await);
    first.secrets().await;
    second.secrets().await;
    let conduct = Arc::new(RefusesRecords {
        about: "refused",
        refuses: AtomicBool::new(true),
    });
    let gates = first.gates(Arc::clone(&conduct) as _).await;
    let namespaces = format!("--watch-namespace={},{}", first.namespace, second.namespace);
    let operator = gates
        .operator(&first, &[&namespaces, "--concurrency=1"])
        .await;
    first.declare("refused", "3401").await;
    let waiting = |count: f64| move |value: f64| value == count;
    operator
        .until_metric("unrecorded_outcomes", waiting(1.0))
        .await;
    let event = first.until_event("refused", "OutcomeNotRecorded").await;
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    second.declare("other", "3402").await;
    second
        .until_registered("other", "RegistrationSucceeded")
        .await;
    conduct.refuses.store(false, SeqCst);
    first
        .until_registered("refused", "RegistrationSucceeded")
        .await;
    operator
        .until_metric("unrecorded_outcomes", waiting(0.0))
        .await;
    assert_eq!((first.posts("3401"), first.posts("3402")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_number_keeps_no_slot() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let held = NumberConfig::fresh().script(vec![Step::wait()]);
    bed.simulator.set("3403", held);
    // One for the call, and one that its twin would wait in.
    let _operator = bed
        .operator(&["--concurrency=2", "--graph-timeout=5m"])
        .await;
    bed.declare("called", "3403").await;
    let in_flight = bed.simulator.until("3403", |report| report.held == 1).await;
    in_flight.expect("the call is held");
    bed.declare("twin", "3403").await;
    bed.declare("other", "3404").await;
    bed.until_registered("other", "RegistrationSucceeded").await;
    bed.simulator.release("3403");
    bed.until_registered("called", "RegistrationSucceeded")
        .await;
    bed.until_stalled("twin", "DuplicatePhoneNumber").await;
    assert_eq!(bed.posts("3403"), 1);
}

/// Graph answers no read of a number that is observed.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_are_observed_hold_up_no_other() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let _operator = bed
        .operator(&[
            "--concurrency=1",
            "--observe-interval=1s",
            "--confirm-window=1s",
            "--graph-timeout=15s",
            "--deregister-deadline=3s",
        ])
        .await;
    let ids = ["3410", "3411", "3412", "3413", "3414", "3415"];
    for id in ids {
        let name = format!("observed-{id}");
        let policy = json!({"deletionPolicy": "Deregister"});
        bed.declare_with(&name, id, policy).await;
        bed.until_registered(&name, "RegistrationSucceeded").await;
    }
    for id in ids {
        let held = vec![Step::wait().on_read().times(1_000)];
        bed.simulator.script(id, held);
    }
    let held = ids.map(|id| bed.simulator.until(id, |report| report.held == 1).boxed());
    let (held, ..) = select_all(held).await;
    held.expect("a read is held");
    bed.declare("other", "3416").await;
    bed.until_registered("other", "RegistrationSucceeded").await;
    bed.delete("observed-3415").await;
    let gone = |number: Option<&WhatsAppPhoneNumber>| number.is_none();
    let gone = await_condition(bed.numbers(), "observed-3415", gone);
    let gone = tokio::time::timeout(DEADLINE, gone).await;
    gone.expect("it is gone in time").expect("a watch");
    assert_eq!(bed.posts("3416"), 1);
}

/// Answers requests 404, each once, as something in front of the API server may.
struct NotFound(Mutex<Vec<(Kind, &'static str)>>);

impl Conduct for NotFound {
    fn before<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Before> {
        let mut left = self.0.lock().expect("the list");
        let asked = |(kind, about): &(Kind, &str)| *kind == request.kind && *about == request.about;
        let before = match left.iter().position(asked) {
            Some(place) => {
                left.remove(place);
                Before::Refuse(404)
            }
            None => Before::Pass,
        };
        ready(before).boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn not_every_404_says_that_something_is_gone() {
    let bed = Bed::new().await;
    bed.secret("wrong", &[("token", TOKEN.as_bytes()), ("pin", b"000000")])
        .await;
    bed.secrets().await;
    let conduct = Arc::new(NotFound(Mutex::new(vec![
        (Kind::Record, "recorded"),
        (Kind::ReadResource, "recorded"),
        (Kind::ReadSecret, "whatsapp"),
        (Kind::Status, "kept"),
    ])));
    let gates = bed.gates(Arc::clone(&conduct) as _).await;
    let _operator = gates.operator(&bed, &[]).await;
    bed.simulator
        .set("3405", NumberConfig::fresh().pin("123456"));
    let wrong = json!({"tokenSecretRef": {"name": "wrong"}, "pinSecretRef": {"name": "wrong"}});
    bed.declare_with("recorded", "3405", wrong).await;
    bed.until_stalled("recorded", "PinMismatch").await;
    bed.declare("read", "3406").await;
    bed.until_registered("read", "RegistrationSucceeded").await;
    let absent = json!({"tokenSecretRef": {"name": "absent"}});
    bed.declare_with("kept", "3407", absent).await;
    bed.until_waiting("kept", "SecretNotFound").await;
    assert_eq!(conduct.0.lock().expect("the list").len(), 0);
    assert_eq!((bed.posts("3405"), bed.posts("3406")), (1, 1));
}

/// A resource whose outcome cannot be recorded keeps the lock of its number for as long as that lasts.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_refused_holds_up_no_deletion_of_a_twin() {
    let (first, second) = (Bed::new().await, Bed::new().await);
    first.secrets().await;
    second.secrets().await;
    let conduct = Arc::new(RefusesRecords {
        about: "refused",
        refuses: AtomicBool::new(false),
    });
    let gates = first.gates(Arc::clone(&conduct) as _).await;
    let namespaces = format!("--watch-namespace={},{}", first.namespace, second.namespace);
    let deadline = "--deregister-deadline=3s";
    let operator = gates
        .operator(&first, &[&namespaces, deadline, "--confirm-window=1s"])
        .await;
    first.declare("refused", "3420").await;
    first
        .until_registered("refused", "RegistrationSucceeded")
        .await;
    let policy = json!({"deletionPolicy": "Deregister"});
    second.declare_with("twin", "3420", policy).await;
    second.until_stalled("twin", "DuplicatePhoneNumber").await;
    let held = json!({"metadata": {"finalizers": ["whatsapp-operator.dev/deregister"]}});
    second.patch("twin", held).await;
    conduct.refuses.store(true, SeqCst);
    first.request("refused", "now").await;
    operator
        .until_metric("unrecorded_outcomes", |count| count == 1.0)
        .await;
    // It is looked at, and waits for the lock, when it is deleted.
    let edit = json!({"spec": {"observeInterval": "5h"}});
    second.patch("twin", edit).await;
    second.delete("twin").await;
    second.until_gone("twin").await;
    assert_eq!(first.posts("3420"), 2);
    conduct.refuses.store(false, SeqCst);
}
