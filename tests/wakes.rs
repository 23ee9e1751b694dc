//! What wakes a resource that rests, and that resting costs nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use futures::future::{BoxFuture, FutureExt, ready};
use serde_json::json;

use testkit::bed::Bed;
use testkit::gateway::{Before, Conduct, Kind, Request};
use testkit::operator::Operator;

/// The reconciliations that have ended without a failure.
const PASSES: &str = "reconciliations_total{result=\"success\"";

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_the_selector_matches_again_goes_on() {
    let bed = Bed::new().await;
    let operator = bed.operator(&["--selector=shard=a"]).await;
    for (name, id) in [("moved", "3301"), ("stayed", "3302")] {
        bed.declare(name, id).await;
        label(&bed, name, "a").await;
        bed.until_waiting(name, "SecretNotFound").await;
    }
    label(&bed, "moved", "b").await;
    until_known(&operator, 1).await;
    bed.secrets().await;
    // The change of the Secret, which wakes this one, is over.
    bed.until_registered("stayed", "RegistrationSucceeded")
        .await;
    label(&bed, "moved", "a").await;
    bed.until_registered("moved", "RegistrationSucceeded").await;
    assert_eq!((bed.posts("3301"), bed.posts("3302")), (1, 1));
}

async fn label(bed: &Bed, name: &str, shard: &str) {
    let labels = json!({"metadata": {"labels": {"shard": shard}}});
    bed.patch(name, labels).await;
}

/// Waits until the operator knows of so many numbers.
async fn until_known(operator: &Operator, numbers: usize) {
    let all = |known: f64| known as usize == numbers;
    operator.until_metric("phone_numbers", all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_is_wiped_under_the_operator_is_found_again() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let _operator = bed.operator(&[]).await;
    bed.declare("wiped", "3303").await;
    bed.until_registered("wiped", "RegistrationSucceeded").await;
    bed.patch_status("wiped", json!(null)).await;
    bed.until_registered("wiped", "AlreadyRegistered").await;
    assert_eq!(bed.posts("3303"), 1);
}

/// Counts whatever is asked, watches aside: they begin anew from time to time.
#[derive(Default)]
struct Count(AtomicUsize);

impl Conduct for Count {
    fn before<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Before> {
        if request.kind != Kind::Watch {
            self.0.fetch_add(1, SeqCst);
        }
        ready(Before::Pass).boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_at_what_rests_costs_no_request() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let count = Arc::new(Count::default());
    let gates = bed.gates(Arc::clone(&count) as _).await;
    let operator = gates.operator(&bed, &[]).await;
    bed.declare("registered", "3304").await;
    bed.until_registered("registered", "RegistrationSucceeded")
        .await;
    bed.until_event("registered", "RegistrationSucceeded").await;
    bed.declare("twin", "3304").await;
    bed.until_stalled("twin", "DuplicatePhoneNumber").await;
    bed.until_event("twin", "DuplicatePhoneNumber").await;
    bed.declare_with("suspended", "3305", json!({"suspend": true}))
        .await;
    bed.until_event("suspended", "Suspended").await;
    let resting = ["registered", "twin", "suspended"];
    let before = (count.0.load(SeqCst), operator.metric(PASSES).await);
    for name in resting {
        bed.patch(name, json!({"metadata": {"annotations": {"looked": "at"}}}))
            .await;
    }
    let looked = before.1 + resting.len() as f64;
    operator
        .until_metric(PASSES, |passes| passes >= looked)
        .await;
    assert_eq!(count.0.load(SeqCst), before.0, "requests for nothing");
}
