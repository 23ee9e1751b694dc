//! Whoever names a number first, in whatever namespace, and cannot call for it, holds nobody up who can.

use serde_json::json;

use testkit::bed::{Bed, PIN, TOKEN, is};
use testkit::simulator::NumberConfig;

/// A younger resource of the same number, with all that it needs.
async fn mine_registers(bed: &Bed, id: &str) {
    bed.declare("mine", id).await;
    bed.until_registered("mine", "RegistrationSucceeded").await;
    assert_eq!(bed.posts(id), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_suspended_holds_nobody_up() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let _operator = bed.operator(&[]).await;
    bed.declare_with("a-stranger", "6100", json!({"suspend": true}))
        .await;
    bed.until("a-stranger", "suspended", |status| {
        status.observed_generation == 1
    })
    .await;
    mine_registers(&bed, "6100").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_without_secrets_holds_nobody_up() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let _operator = bed.operator(&[]).await;
    let missing = json!({"tokenSecretRef": {"name": "missing"}});
    bed.declare_with("a-stranger", "6101", missing.clone())
        .await;
    bed.until_waiting("a-stranger", "SecretNotFound").await;
    // One that lacks them as well waits for its own, and not for the other.
    bed.declare_with("b-stranger", "6101", missing).await;
    bed.until_waiting("b-stranger", "SecretNotFound").await;
    mine_registers(&bed, "6101").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_with_a_token_that_is_rejected_holds_nobody_up() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let data = [
        ("token", b"EAAstranger".as_slice()),
        ("pin", PIN.as_bytes()),
    ];
    bed.secret("stranger", &data).await;
    bed.simulator
        .set("6102", NumberConfig::fresh().token(TOKEN));
    let _operator = bed.operator(&[]).await;
    let theirs = json!({"tokenSecretRef": {"name": "stranger"}});
    bed.declare_with("a-stranger", "6102", theirs).await;
    bed.until_stalled("a-stranger", "TokenRejected").await;
    mine_registers(&bed, "6102").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_a_finalizer_keeps_holds_nobody_up() {
    let bed = Bed::new().await;
    bed.secrets().await;
    bed.simulator
        .set("6103", NumberConfig::fresh().pin("999999"));
    let _operator = bed.operator(&[]).await;
    bed.declare("a-stranger", "6103").await;
    bed.until_stalled("a-stranger", "PinMismatch").await;
    let kept = json!({"metadata": {"finalizers": ["example.com/kept"]}});
    bed.patch("a-stranger", kept).await;
    // It keeps its place while it exists: another one would send the same PIN.
    let data = [("token", TOKEN.as_bytes()), ("pin", b"999999".as_slice())];
    bed.secret("right", &data).await;
    let right = json!({"pinSecretRef": {"name": "right"}});
    bed.declare_with("mine", "6103", right).await;
    bed.until_stalled("mine", "DuplicatePhoneNumber").await;
    bed.delete("a-stranger").await;
    bed.until_registered("mine", "RegistrationSucceeded").await;
    assert_eq!(bed.posts("6103"), 2);
    bed.patch("a-stranger", json!({"metadata": {"finalizers": null}}))
        .await;
}

/// It is registered, and its account belongs to somebody else by now: it would never see what happens to the number.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_observe_its_number_any_more_holds_nobody_up() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let data = [("token", b"EAAelder".as_slice()), ("pin", PIN.as_bytes())];
    bed.secret("elder", &data).await;
    let of_elder = NumberConfig::fresh().token("EAAelder");
    bed.simulator.set("6104", of_elder);
    let _operator = bed
        .operator(&["--observe-interval=1s", "--confirm-window=1s"])
        .await;
    let theirs = json!({"tokenSecretRef": {"name": "elder"}});
    bed.declare_with("a-stranger", "6104", theirs).await;
    bed.until_registered("a-stranger", "RegistrationSucceeded")
        .await;
    bed.declare("mine", "6104").await;
    bed.until_stalled("mine", "DuplicatePhoneNumber").await;
    let of_mine = NumberConfig::registered().token(TOKEN);
    bed.simulator.set("6104", of_mine);
    bed.until("a-stranger", "not observed", |status| {
        is(status, "Observed", "False", "TokenRejected")
    })
    .await;
    bed.until_registered("mine", "AlreadyRegistered").await;
    assert_eq!(bed.posts("6104"), 1);
}
