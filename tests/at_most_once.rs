//! One claim, one call: under crashes, restarts, signals, two replicas and two resources. The simulator counts.

use std::time::Duration;

use futures::future::join_all;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use operator_core::api::{
    AttemptOutcome, LedgerEntry, REGISTER_REQUESTED_AT, WhatsAppPhoneNumber,
    WhatsAppPhoneNumberStatus,
};

use testkit::bed::{Bed, is, resource};
use testkit::operator::Operator;
use testkit::proxy::Proxy;
use testkit::simulator::{NumberConfig, Step};

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_the_call_acted_makes_no_second_call() {
    let bed = Bed::new().await;
    bed.secrets().await;
    bed.simulator.set(
        "3001",
        NumberConfig::fresh().script(vec![Step::wait_after()]),
    );
    let operator = bed.operator(&["--graph-timeout=2s"]).await;
    bed.declare("crashed", "3001").await;
    bed.simulator
        .until("3001", |report| report.held == 1)
        .await
        .expect("the call is held");
    operator.kill().await;
    let _operator = bed.operator(&["--graph-timeout=2s"]).await;
    let number = bed.until_registered("crashed", "OutcomeConfirmed").await;
    assert_eq!(bed.posts("3001"), 1);
    let attempts = number.status.expect("a status").attempts;
    assert_eq!(attempts.len(), 1, "the lost call is the one that counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_call_acted_waits_out_the_claim_and_the_window() {
    let bed = Bed::new().await;
    bed.secrets().await;
    bed.simulator.set(
        "3002",
        NumberConfig::fresh().script(vec![Step::hang_up_before()]),
    );
    // The first call is cut off before it acts, and the process dies while it waits to confirm that.
    let operator = bed.operator(&["--confirm-window=8s"]).await;
    bed.declare("crashed", "3002").await;
    bed.until_waiting("crashed", "OutcomeUnknown").await;
    operator.kill().await;
    let _operator = bed.operator(&["--confirm-window=8s"]).await;
    bed.until_registered("crashed", "RegistrationSucceeded")
        .await;
    let report = bed.simulator.number("3002");
    assert_eq!(report.counts.register_calls, 2);
    assert_eq!(report.counts.register_calls_while_registered, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_waits_for_the_call_and_records_it() {
    let bed = Bed::new().await;
    bed.secrets().await;
    bed.simulator
        .set("3003", NumberConfig::fresh().script(vec![Step::wait()]));
    let operator = bed.operator(&[]).await;
    bed.declare("slow", "3003").await;
    bed.simulator
        .until("3003", |report| report.held == 1)
        .await
        .expect("the call is held");
    operator.signal("TERM");
    operator.until_logged("Stopping").await;
    bed.simulator.release("3003");
    let status = operator.ended().await;
    assert_eq!(status, "0", "{}", operator.log());
    let number = bed.until_registered("slow", "RegistrationSucceeded").await;
    assert_eq!(number.status.expect("a status").attempts.len(), 1);
    assert_eq!(bed.posts("3003"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_operators_without_a_leader_make_one_call() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let (_one, _two) = tokio::join!(bed.operator(&[]), bed.operator(&[]));
    let numbers: Vec<(String, String)> = (0..20)
        .map(|n| (format!("shared-{n}"), format!("31{n:02}")))
        .collect();
    join_all(numbers.iter().map(|(name, id)| bed.declare(name, id))).await;
    for (name, id) in &numbers {
        bed.until(name, "Registered", |status| {
            status
                .conditions
                .iter()
                .any(|c| c.type_ == "Registered" && c.status == "True")
        })
        .await;
        let report = bed.simulator.number(id);
        let status = bed.get(name).await.status;
        assert_eq!(report.counts.register_calls, 1, "{report:#?}, {status:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_leader_election_one_works_and_the_other_takes_over() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let lease = format!("--lease-namespace={}", bed.namespace);
    let flags = [
        "--leader-elect=true",
        "--lease-name=operator",
        lease.as_str(),
    ];
    let first = bed.operator(&flags).await;
    first.until_logged("This process leads").await;
    let second = bed.operator(&flags).await;
    bed.declare("before", "3004").await;
    bed.until_registered("before", "RegistrationSucceeded")
        .await;
    let (status, log) = first.terminate().await;
    assert_eq!(status, "0", "{log}");
    second.until_logged("This process leads").await;
    bed.declare("after", "3005").await;
    bed.until_registered("after", "RegistrationSucceeded").await;
    assert_eq!((bed.posts("3004"), bed.posts("3005")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_resources_of_one_number_make_one_call() {
    let bed = Bed::new().await;
    bed.secrets().await;
    bed.simulator.set(
        "3006",
        NumberConfig::fresh().latency(Duration::from_millis(300)),
    );
    let _operator = bed.operator(&[]).await;
    tokio::join!(bed.declare("twin-a", "3006"), bed.declare("twin-b", "3006"));
    let registered = |status: &operator_core::api::WhatsAppPhoneNumberStatus| {
        status
            .conditions
            .iter()
            .any(|c| c.type_ == "Registered" && c.status == "True")
            || is(status, "Stalled", "True", "DuplicatePhoneNumber")
    };
    bed.until("twin-a", "settled", registered).await;
    bed.until("twin-b", "settled", registered).await;
    let counts = bed.simulator.number("3006").counts;
    assert_eq!((counts.register_calls, counts.max_concurrent), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_whose_status_was_wiped_is_adopted() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let operator = bed.operator(&[]).await;
    bed.declare("wiped", "3007").await;
    let number = bed.until_registered("wiped", "RegistrationSucceeded").await;
    operator.terminate().await;
    // As a restore without status, or a copy to another cluster.
    bed.delete("wiped").await;
    let mut copy = number.clone();
    copy.status = None;
    copy.metadata = kube::api::ObjectMeta {
        name: number.metadata.name.clone(),
        ..Default::default()
    };
    bed.numbers()
        .create(&Default::default(), &copy)
        .await
        .expect("the copy");
    let _operator = bed.operator(&[]).await;
    bed.until_registered("wiped", "AlreadyRegistered").await;
    assert_eq!(bed.posts("3007"), 1);
}

/// The annotation came with the resource, so it asks for nothing. A status that is wiped forgets that, and must not make it
/// look new when the result is written into it.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_is_wiped_during_the_call_asks_for_no_other_one() {
    let bed = Bed::new().await;
    bed.secrets().await;
    bed.simulator
        .set("3012", NumberConfig::fresh().script(vec![Step::wait()]));
    let _operator = bed.operator(&[]).await;
    let mut number = resource("wiped-soon", "3012", json!({}));
    number.metadata.annotations =
        Some([(REGISTER_REQUESTED_AT.to_owned(), "from Git".to_owned())].into());
    let numbers = bed.numbers();
    let made = numbers.create(&Default::default(), &number).await;
    made.expect("a number");
    bed.simulator
        .until("3012", |report| report.held == 1)
        .await
        .expect("the call is held");
    let mut wiped = bed.get("wiped-soon").await;
    wiped.status = Some(WhatsAppPhoneNumberStatus::unseen());
    let written = numbers
        .replace_status("wiped-soon", &Default::default(), &wiped)
        .await;
    written.expect("the status is wiped");
    bed.simulator.release("3012");
    let number = bed
        .until_registered("wiped-soon", "RegistrationSucceeded")
        .await;
    let status = number.status.expect("a status");
    assert_eq!(
        status.last_handled_register_request.as_deref(),
        Some("from Git")
    );
    bed.patch("wiped-soon", json!({"spec": {"suspend": true}}))
        .await;
    bed.until("wiped-soon", "at rest", |status| {
        status.observed_generation == 2
    })
    .await;
    assert_eq!(bed.posts("3012"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_was_answered_too_late_sends_nothing() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let url = bed.control_plane.url();
    let server = url
        .trim_start_matches("https://")
        .parse()
        .expect("an address");
    let proxy = Proxy::to(server).await;
    let kubeconfig = proxy.kubeconfig(&bed.kubeconfig, url);
    bed.simulator.set(
        "3010",
        NumberConfig::fresh().script(vec![Step::wait().on_read()]),
    );
    // A claim may be sent on for 3 s: half of twice the timeout.
    let _operator = Operator::start(&kubeconfig, &bed.args(&["--graph-timeout=3s"])).await;
    // A connection that is open already: no answer is needed to send a claim on it.
    bed.declare("first", "3011").await;
    bed.until_registered("first", "RegistrationSucceeded").await;
    bed.declare("late", "3010").await;
    bed.simulator
        .until("3010", |report| report.held == 1)
        .await
        .expect("the read is held");
    proxy.freeze(true);
    bed.simulator.release("3010");
    let number = bed
        .until("late", "claimed", |status| {
            status.attempts.first().is_some_and(LedgerEntry::is_open)
        })
        .await;
    // Time itself is what this is about.
    let claimed = tokio::time::Instant::now();
    tokio::time::sleep_until(claimed + Duration::from_secs(4)).await;
    proxy.freeze(false);
    let closed = bed
        .until("late", "closed", |status| {
            status
                .attempts
                .first()
                .is_some_and(|attempt| attempt.outcome() == Some(AttemptOutcome::NotSent))
        })
        .await;
    let id = |number: &WhatsAppPhoneNumber| {
        number
            .status
            .as_ref()
            .map(|status| status.attempts[0].id.clone())
    };
    assert_eq!(
        id(&closed),
        id(&number),
        "the late claim is the one that was not sent"
    );
    assert_eq!(bed.posts("3010"), 0);
    bed.until_registered("late", "RegistrationSucceeded").await;
    assert_eq!(bed.posts("3010"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_another_operator_made_meanwhile_holds_this_one_back() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let script = vec![Step::wait().on_read()];
    bed.simulator
        .set("3008", NumberConfig::fresh().script(script));
    // Of the same age or older, and the first by its name: it goes ahead.
    bed.declare("mine", "3008").await;
    bed.declare("theirs", "3008").await;
    let _operator = bed.operator(&["--confirm-window=60s"]).await;
    bed.simulator
        .until("3008", |report| report.held == 1)
        .await
        .expect("the read is held");
    // What the other operator writes, from the claim to the outcome, while this one looks.
    let now = jiff::Timestamp::now();
    let attempt = json!({
        "id": "theirs", "startTime": now, "finishTime": now, "ttlSeconds": 20,
        "outcome": "Failed", "reason": "GraphUnavailable", "httpStatus": 500,
    });
    let patch = Patch::Merge(json!({"status": {"attempts": [attempt]}}));
    bed.numbers()
        .patch_status("theirs", &PatchParams::default(), &patch)
        .await
        .expect("the other operator's record");
    bed.simulator.release("3008");
    bed.until_waiting("mine", "NotSent").await;
    assert_eq!(bed.posts("3008"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_claim_of_a_living_process_is_left_alone() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let script = vec![Step::wait_after()];
    bed.simulator
        .set("3012", NumberConfig::fresh().script(script));
    let _caller = bed.operator(&["--graph-timeout=30s"]).await;
    bed.declare("claimed", "3012").await;
    bed.simulator
        .until("3012", |report| report.held == 1)
        .await
        .expect("the call is held");
    let finder = bed.operator(&["--graph-timeout=30s"]).await;
    bed.patch("claimed", json!({"spec": {"deletionPolicy": "Deregister"}}))
        .await;
    // Only the finder can have looked: the caller waits for its answer.
    bed.until("claimed", "observed", |status| {
        status.observed_generation == 2
    })
    .await;
    bed.simulator.release("3012");
    let number = bed
        .until_registered("claimed", "RegistrationSucceeded")
        .await;
    let attempts = number.status.expect("a status").attempts;
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].outcome(), Some(AttemptOutcome::Succeeded));
    assert!(!finder.log().contains("OutcomeUnknown"), "{}", finder.log());
    assert_eq!(bed.posts("3012"), 1);
}
