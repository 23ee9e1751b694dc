//! What is spent, and how fast: calls and the times between them, on a real API server.

use jiff::Timestamp;
use serde_json::json;

use testkit::bed::{Bed, TOKEN};
use testkit::simulator::{NumberConfig, Step};

/// When the register calls of a number arrived.
fn times(bed: &Bed, id: &str) -> Vec<Timestamp> {
    let report = bed.simulator.number(id);
    report.register_log().map(|entry| entry.time).collect()
}

/// The most dangerous outcome to repeat is not repeated fastest.
#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_back_off() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let script = vec![Step::hang_up_before().times(3)];
    bed.simulator
        .set("4000", NumberConfig::fresh().script(script));
    bed.declare("lost", "4000").await;
    let _operator = bed
        .operator(&["--retry-base=1s", "--retry-cap=1h", "--confirm-window=1s"])
        .await;
    bed.until_registered("lost", "RegistrationSucceeded").await;
    let times = times(&bed, "4000");
    assert_eq!(times.len(), 4);
    let gaps: Vec<i64> = times
        .windows(2)
        .map(|pair| pair[1].duration_since(pair[0]).as_secs())
        .collect();
    let enough = [1, 3, 9];
    assert!(
        gaps.iter().zip(enough).all(|(gap, least)| *gap >= least),
        "{gaps:?} seconds"
    );
}

/// What changed may be what the reads failed for.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_generation_ends_the_wait_for_a_read() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let script = vec![Step::server_error().on_read()];
    bed.simulator
        .set("4100", NumberConfig::registered().script(script));
    bed.declare("waits", "4100").await;
    let _operator = bed.operator(&["--retry-base=5m", "--retry-cap=1h"]).await;
    bed.until_waiting("waits", "GraphUnavailable").await;
    bed.patch("waits", json!({"spec": {"graphAPIVersion": "v24.0"}}))
        .await;
    bed.until_registered("waits", "AlreadyRegistered").await;
    assert_eq!(bed.posts("4100"), 0);
}

/// A number that had bad luck does not hold up the others of its token.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_without_a_time_is_the_tokens_own() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let script = vec![Step::server_error().times(3), Step::rate_limited(None)];
    bed.simulator
        .set("4200", NumberConfig::fresh().script(script));
    bed.declare("unlucky", "4200").await;
    let window = "--confirm-window=1s";
    let _operator = bed
        .operator(&["--retry-base=1s", "--retry-cap=1h", window])
        .await;
    bed.until_waiting("unlucky", "RateLimited").await;
    bed.declare("other", "4201").await;
    bed.until_registered("other", "RegistrationSucceeded").await;
    // The first number backs off by its own failures: 27 s.
    assert_eq!(bed.posts("4200"), 4);
}

/// Tools that replace by force delete a resource and make it again at every sync.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_pin_is_sent_once_however_often_the_resource_is_replaced() {
    let bed = Bed::new().await;
    bed.secrets().await;
    bed.simulator
        .set("4300", NumberConfig::fresh().pin("999999"));
    bed.declare("replaced", "4300").await;
    let _operator = bed.operator(&["--confirm-window=1s"]).await;
    bed.until_stalled("replaced", "PinMismatch").await;
    for _ in 0..3 {
        bed.delete("replaced").await;
        bed.declare("replaced", "4300").await;
        bed.until_stalled("replaced", "PinMismatch").await;
    }
    assert_eq!(bed.posts("4300"), 1);
    let data = [("token", TOKEN.as_bytes()), ("pin", b"999999".as_slice())];
    bed.secret("whatsapp", &data).await;
    bed.until_registered("replaced", "RegistrationSucceeded")
        .await;
    assert_eq!(bed.posts("4300"), 2);
}

/// Another version makes no PIN right.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_pin_is_not_sent_again_with_another_version() {
    let bed = Bed::new().await;
    bed.secrets().await;
    bed.simulator
        .set("4400", NumberConfig::fresh().pin("999999"));
    bed.declare("wrong", "4400").await;
    let _operator = bed.operator(&[]).await;
    bed.until_stalled("wrong", "PinMismatch").await;
    bed.patch("wrong", json!({"spec": {"graphAPIVersion": "v24.0"}}))
        .await;
    bed.until("wrong", "the new generation observed", |status| {
        status.observed_generation == 2
    })
    .await;
    bed.until_stalled("wrong", "PinMismatch").await;
    // The right one is noticed.
    assert_eq!(bed.posts("4400"), 1);
    let data = [("token", TOKEN.as_bytes()), ("pin", b"999999".as_slice())];
    bed.secret("whatsapp", &data).await;
    bed.until_registered("wrong", "RegistrationSucceeded").await;
    assert_eq!(bed.posts("4400"), 2);
}
