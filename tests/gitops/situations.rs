//! What Argo CD and Flux say of statuses that the operator wrote, in every phase that people meet.

use operator_core::api::WhatsAppPhoneNumber;
use serde_json::{Map, Value, json};

use super::{argo_cd, flux};
use crate::definition::Outdated;
use testkit::bed::{Bed, PIN, TOKEN, is};
use testkit::simulator::{NumberConfig, Step};

/// A resource as the tools get it: JSON of the API server.
fn as_given(number: &WhatsAppPhoneNumber) -> Value {
    serde_json::to_value(number).expect("JSON")
}

/// Checks what both tools say of a resource, and that Argo CD's message has this part.
#[track_caller]
fn expect(number: &WhatsAppPhoneNumber, argo: &str, says: &str, flux: &str) {
    let given = as_given(number);
    let health = argo_cd::health(&given);
    let shown = serde_json::to_string_pretty(&given).expect("JSON");
    assert_eq!(health.status, argo, "Argo CD of {shown}");
    assert!(health.message.contains(says), "{health:?} of {shown}");
    assert_eq!(flux::health(&given), flux, "Flux of {shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn before_a_number_is_registered() {
    let bed = Bed::new().await;
    let unseen = bed.declare("unseen", "9001").await;
    expect(
        &unseen,
        "Progressing",
        "Waiting for the operator",
        "InProgress",
    );

    let _operator = bed.operator(&[]).await;
    let number = bed.until_waiting("unseen", "SecretNotFound").await;
    expect(&number, "Progressing", "whatsapp", "InProgress");

    bed.simulator
        .set("9002", NumberConfig::fresh().script(vec![Step::wait()]));
    bed.secrets().await;
    bed.declare("called", "9002").await;
    let number = bed.until_waiting("called", "Registering").await;
    expect(&number, "Progressing", "register", "InProgress");
    let held = bed.simulator.until("9002", |number| number.held > 0).await;
    held.expect("the call is under way");
    bed.simulator.release("9002");

    bed.declare_with("resting", "9003", json!({"suspend": true}))
        .await;
    let number = bed
        .until("resting", "Suspended", |status| {
            is(status, "Ready", "False", "Suspended")
        })
        .await;
    expect(&number, "Suspended", "suspend", "Current");

    let limited = json!({"step": "rate_limited", "regain_minutes": 0, "retry_after": "600"});
    let step: Step = serde_json::from_value(limited).expect("a step");
    bed.simulator
        .set("9004", NumberConfig::fresh().script(vec![step]));
    bed.secret(
        "other",
        &[
            ("token", b"EAAanotherTOKEN0123456789"),
            ("pin", PIN.as_bytes()),
        ],
    )
    .await;
    let other = json!({"tokenSecretRef": {"name": "other"}, "pinSecretRef": {"name": "other"}});
    bed.declare_with("limited", "9004", other).await;
    let number = bed.until_waiting("limited", "RateLimited").await;
    expect(&number, "Progressing", "Next attempt at", "InProgress");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_stalled() {
    let bed = Bed::new().await;
    bed.secret(
        "whatsapp",
        &[("token", TOKEN.as_bytes()), ("pin", b"111111")],
    )
    .await;
    bed.simulator.set("9011", NumberConfig::fresh().pin(PIN));
    let _operator = bed.operator(&[]).await;
    bed.declare("wrong", "9011").await;
    let number = bed.until_stalled("wrong", "PinMismatch").await;
    expect(&number, "Degraded", "133005", "Failed");
    expect(
        &number,
        "Degraded",
        "Put the number's PIN into the Secret",
        "Failed",
    );

    // An edit that changes nothing for a call is looked at, and the number stays as it is.
    bed.patch("wrong", json!({"spec": {"deletionPolicy": "Deregister"}}))
        .await;
    let number = bed
        .until("wrong", "observed", |status| {
            status.observed_generation == 2
        })
        .await;
    expect(&number, "Degraded", "133005", "Failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_number_is_registered() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let operator = bed.operator(&[]).await;
    bed.declare("works", "9021").await;
    let number = bed.until_registered("works", "RegistrationSucceeded").await;
    expect(&number, "Healthy", "", "Current");

    // What a person asked for can fail; the number works on.
    bed.simulator.script("9021", vec![Step::error(131_000)]);
    bed.request("works", "once more").await;
    let number = bed
        .until("works", "failed", |status| {
            is(status, "Failed", "True", "GraphUnavailable")
        })
        .await;
    expect(
        &number,
        "Healthy",
        "the requested call failed. Graph answered",
        "Current",
    );

    bed.patch("works", json!({"spec": {"suspend": true}})).await;
    let number = bed
        .until("works", "observed", |status| {
            status.observed_generation == 2
        })
        .await;
    expect(&number, "Healthy", "", "Current");

    // Nobody has looked at the newest generation.
    operator.terminate().await;
    bed.patch("works", json!({"spec": {"suspend": false}}))
        .await;
    let number = bed.get("works").await;
    expect(
        &number,
        "Progressing",
        "Waiting for the operator",
        "InProgress",
    );

    bed.patch(
        "works",
        json!({"metadata": {"finalizers": ["example.com/held"]}}),
    )
    .await;
    bed.delete("works").await;
    expect_leaving(&bed.get("works").await, "InProgress");
    bed.patch("works", json!({"metadata": {"finalizers": []}}))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_is_lost() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let _operator = bed
        .operator(&["--observe-interval=1s", "--confirm-window=1s"])
        .await;
    for (name, id, policy) in [("told", "9041", "Report"), ("mended", "9042", "Register")] {
        bed.declare_with(name, id, json!({"lossPolicy": policy}))
            .await;
        bed.until_registered(name, "RegistrationSucceeded").await;
        let lost = NumberConfig::fresh().status("DISCONNECTED");
        bed.simulator.set(id, lost.script(vec![Step::wait()]));
    }
    let number = bed.until_stalled("told", "RegistrationLost").await;
    expect(&number, "Degraded", "lossPolicy", "Failed");

    // Registered again: on its way until the answer is there.
    let called = bed.simulator.until("9042", |number| number.held > 0).await;
    called.expect("the call is under way");
    let number = bed.get("mended").await;
    expect(&number, "Progressing", "register", "InProgress");
    bed.simulator.release("9042");
    let number = bed
        .until_registered("mended", "RegistrationSucceeded")
        .await;
    expect(&number, "Healthy", "", "Current");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_leaves() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let _operator = bed
        .operator(&["--confirm-window=1s", "--deregister-deadline=15s"])
        .await;
    bed.declare_with("leaves", "9051", json!({"deletionPolicy": "Deregister"}))
        .await;
    bed.until_registered("leaves", "RegistrationSucceeded")
        .await;
    let steps = vec![Step::wait().on_deregister()];
    bed.simulator.script("9051", steps);
    bed.delete("leaves").await;
    let called = bed.simulator.until("9051", |number| number.held > 0).await;
    called.expect("the call is under way");
    let number = bed.until_waiting("leaves", "Deregistering").await;
    expect_leaving(&number, "InProgress");
    bed.simulator.release("9051");

    bed.declare_with("stays", "9052", json!({"deletionPolicy": "Deregister"}))
        .await;
    bed.until_registered("stays", "RegistrationSucceeded").await;
    let refused = vec![Step::error(200).on_deregister()];
    bed.simulator.script("9052", refused);
    bed.delete("stays").await;
    let number = bed.until_stalled("stays", "DeregistrationFailed").await;
    expect_leaving(&number, "Failed");
}

/// Argo CD says so of all that is being deleted, before its script runs.
#[track_caller]
fn expect_leaving(number: &WhatsAppPhoneNumber, flux: &str) {
    let health = argo_cd::health(&as_given(number));
    assert_eq!(
        (health.status.as_str(), health.message.as_str()),
        ("Progressing", "Pending deletion")
    );
    assert_eq!(flux::health(&as_given(number)), flux);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_definition_is_outdated() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let gates = bed.gates(Outdated::of("mayBeRegistered") as _).await;
    let _operator = gates.operator(&bed, &[]).await;
    bed.declare("fresh", "9061").await;
    let number = bed.until_waiting("fresh", "DefinitionOutdated").await;
    expect(&number, "Progressing", "mayBeRegistered", "InProgress");
    assert_eq!(bed.posts("9061"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_actions_of_argo_cd_do_what_they_say() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let unseen = bed.declare("works", "9031").await;
    assert_eq!(argo_cd::enabled(&as_given(&unseen)), ["suspend"]);
    let _operator = bed.operator(&[]).await;
    let number = bed.until_registered("works", "RegistrationSucceeded").await;
    assert_eq!(
        argo_cd::enabled(&as_given(&number)),
        ["register", "suspend"]
    );

    choose(&bed, "register").await;
    let number = bed
        .until("works", "called again", |status| {
            status.last_handled_register_request.is_some()
                && status.attempts.iter().all(|attempt| attempt.end.is_some())
        })
        .await;
    assert_eq!(bed.posts("9031"), 2);
    expect(&number, "Healthy", "", "Current");

    choose(&bed, "suspend").await;
    let number = bed
        .until("works", "observed", |status| {
            status.observed_generation == 2
        })
        .await;
    assert!(number.spec.suspend);
    assert_eq!(argo_cd::enabled(&as_given(&number)), ["resume"]);
    choose(&bed, "resume").await;
    let number = bed
        .until("works", "observed", |status| {
            status.observed_generation == 3
        })
        .await;
    assert!(!number.spec.suspend);
    assert_eq!(bed.posts("9031"), 2);
}

/// Chooses an action as Argo CD does: what the script changed goes to the API server as a merge patch.
async fn choose(bed: &Bed, action: &str) {
    let before = as_given(&bed.get("works").await);
    let after = argo_cd::act(action, &before);
    let patch = change(&before, &after).expect("the action changes something");
    assert!(
        patch["status"].is_null(),
        "{action} writes the status: {patch}"
    );
    bed.patch("works", patch).await;
}

/// The merge patch that makes one value of another, if they differ.
fn change(before: &Value, after: &Value) -> Option<Value> {
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        return (before != after).then(|| after.clone());
    };
    let gone = old.keys().filter(|key| !new.contains_key(*key));
    let gone = gone.map(|key| (key.clone(), Value::Null));
    let changed = new.iter().filter_map(|(key, value)| {
        let changed = change(old.get(key).unwrap_or(&Value::Null), value)?;
        Some((key.clone(), changed))
    });
    let patch: Map<String, Value> = gone.chain(changed).collect();
    (!patch.is_empty()).then_some(Value::Object(patch))
}
