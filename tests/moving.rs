//! Numbers that move: restored, replaced, to another cluster or namespace. A registered number takes no further call, and a
//! claim takes one, whatever tool moves its resource. Renamed resources are in `replicas` and `registration`, statuses that are
//! wiped in `at_most_once` and `wakes`.

mod etcd;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use operator_core::api::{AttemptOutcome, LedgerEntry, WhatsAppPhoneNumber};
use serde_json::{Value, json};

use testkit::bed::{Bed, is, message, resource};
use testkit::control_plane::ControlPlane;
use testkit::simulator::{NumberConfig, Step};
use testkit::start_with_crd;

/// A resource as a backup tool makes it from its copy: without what the API server gave the old one, and without status.
fn copy_of(number: &WhatsAppPhoneNumber) -> WhatsAppPhoneNumber {
    WhatsAppPhoneNumber {
        metadata: ObjectMeta {
            name: number.metadata.name.clone(),
            annotations: number.metadata.annotations.clone(),
            ..ObjectMeta::default()
        },
        spec: number.spec.clone(),
        status: None,
    }
}

/// Restores a resource with its status, in two requests, as the API server wants it.
async fn restore_with_status(bed: &Bed, number: &WhatsAppPhoneNumber) {
    let name = number.metadata.name.clone().expect("a name");
    let params = PostParams::default();
    let created = bed.numbers().create(&params, &copy_of(number)).await;
    let mut created = created.expect("a number");
    created.status = number.status.clone();
    let written = bed.numbers().replace_status(&name, &params, &created).await;
    written.expect("the status is taken");
}

/// Writes manifests of numbers into a file for kubectl.
fn manifest(numbers: &[Value]) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".json").tempfile();
    let file = file.expect("a file");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": numbers});
    std::fs::write(file.path(), list.to_string()).expect("a manifest");
    file
}

/// A number as it stands in Git.
fn in_git(name: &str, id: &str, more: Value) -> Value {
    let mut number = serde_json::to_value(resource(name, id, more)).expect("JSON");
    number.as_object_mut().expect("an object").remove("status");
    number
}

/// How often Graph was called for a number that was registered.
fn calls_for_nothing(bed: &Bed, id: &str) -> usize {
    bed.simulator
        .number(id)
        .counts
        .register_calls_while_registered
}

/// Checks that a number took this many register calls, none of them while it was registered, one at a time.
#[track_caller]
fn took(bed: &Bed, id: &str, calls: usize) {
    let counts = bed.simulator.number(id).counts;
    assert_eq!(counts.register_calls, calls, "{id}: {counts:?}");
    assert_eq!(calls_for_nothing(bed, id), 0, "{id}: {counts:?}");
    assert!(counts.max_concurrent <= 1, "{id}: {counts:?}");
}

/// Has the operator decide on a generation of the spec.
async fn until_decided(bed: &Bed, name: &str, generation: i64) -> WhatsAppPhoneNumber {
    let decided = |status: &operator_core::api::WhatsAppPhoneNumberStatus| {
        status.observed_generation == generation
    };
    bed.until(name, "decided on", decided).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_is_restored_with_its_status_takes_no_call() {
    let bed = Bed::new().await;
    bed.secrets().await;
    bed.simulator
        .set("7002", NumberConfig::fresh().pin("999999"));
    let operator = bed.operator(&[]).await;
    bed.declare("works", "7001").await;
    bed.declare("wrong", "7002").await;
    let works = bed.until_registered("works", "RegistrationSucceeded").await;
    let wrong = bed.until_stalled("wrong", "PinMismatch").await;
    operator.terminate().await;

    // The cluster is another one: nobody there remembers anything.
    bed.delete("works").await;
    bed.delete("wrong").await;
    restore_with_status(&bed, &works).await;
    restore_with_status(&bed, &wrong).await;
    let _operator = bed.operator(&[]).await;
    // An edit shows that the operator has looked.
    for name in ["works", "wrong"] {
        bed.patch(name, json!({"spec": {"graphAPIVersion": "v24.0"}}))
            .await;
        until_decided(&bed, name, 2).await;
    }
    bed.until_registered("works", "RegistrationSucceeded").await;
    bed.until_stalled("wrong", "PinMismatch").await;
    took(&bed, "7001", 1);
    took(&bed, "7002", 1);
}

/// A backup that was taken in the middle of a call holds its open claim, whose process is not there any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_restored_open_is_waited_out_and_looked_after() {
    let bed = Bed::new().await;
    bed.secrets().await;
    for (id, step) in [("7011", Step::wait_after()), ("7012", Step::wait())] {
        bed.simulator
            .set(id, NumberConfig::fresh().script(vec![step]));
    }
    let operator = bed.operator(&["--graph-timeout=5s"]).await;
    let mut backup = Vec::new();
    for (name, id) in [("acts", "7011"), ("never", "7012")] {
        bed.declare(name, id).await;
        let held = bed.simulator.until(id, |report| report.held == 1).await;
        held.expect("the call is held");
        let number = bed.get(name).await;
        let status = number.status.as_ref().expect("a status");
        assert!(status.attempts.iter().any(|attempt| attempt.end.is_none()));
        backup.push(number);
    }
    operator.kill().await;
    // One call has acted, the other one was lost on the way.
    for number in &backup {
        bed.delete(number.metadata.name.as_deref().expect("a name"))
            .await;
        restore_with_status(&bed, number).await;
    }
    let _operator = bed.operator(&[]).await;
    let number = bed.until("acts", "registered", |status| {
        is(status, "Registered", "True", "OutcomeConfirmed")
            || is(status, "Registered", "True", "AlreadyRegistered")
    });
    number.await;
    took(&bed, "7011", 1);
    let number = bed.until_registered("never", "RegistrationSucceeded").await;
    let status = number.status.expect("a status");
    let outcomes: Vec<_> = status.attempts.iter().map(LedgerEntry::outcome).collect();
    assert_eq!(outcomes.len(), 2, "each call has its claim: {outcomes:?}");
    assert_eq!(outcomes[0], Some(AttemptOutcome::Succeeded));
}

/// A backup that is written over the status while a call is under way: the result is stored all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_status_over_an_open_claim_leads_to_no_second_call() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let script = vec![Step::error(131_000), Step::wait()];
    bed.simulator
        .set("7021", NumberConfig::fresh().script(script));
    let _operator = bed.operator(&[]).await;
    bed.declare("patched", "7021").await;
    let old = bed.until_waiting("patched", "GraphUnavailable").await;
    let held = bed.simulator.until("7021", |report| report.held == 1).await;
    held.expect("the second call is held");
    let old = serde_json::to_value(old.status).expect("JSON");
    bed.patch_status("patched", old).await;
    bed.simulator.release("7021");
    bed.until_registered("patched", "RegistrationSucceeded")
        .await;
    bed.patch("patched", json!({"spec": {"suspend": true}}))
        .await;
    until_decided(&bed, "patched", 2).await;
    took(&bed, "7021", 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_replace_takes_no_call() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let _operator = bed.operator(&[]).await;
    bed.declare("replaced", "7031").await;
    let number = bed
        .until_registered("replaced", "RegistrationSucceeded")
        .await;
    let uid = number.metadata.uid;

    let file = manifest(&[in_git(
        "replaced",
        "7031",
        json!({"graphAPIVersion": "v24.0"}),
    )]);
    let file = file.path().to_str().expect("a path in ASCII");
    bed.kubectl(&["replace", "-f", file]);
    let number = until_decided(&bed, "replaced", 2).await;
    assert_eq!(number.metadata.uid, uid, "it is the same resource");
    bed.until_registered("replaced", "RegistrationSucceeded")
        .await;
    took(&bed, "7031", 1);

    // By force it is another one, which adopts the number.
    bed.kubectl(&["replace", "--force", "-f", file]);
    let number = bed.until_registered("replaced", "AlreadyRegistered").await;
    assert_ne!(number.metadata.uid, uid);
    took(&bed, "7031", 1);
}

/// Argo CD with `Replace=true,Force=true` deletes and creates at every sync, also in the middle of a call.
#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_replaces_by_force_at_every_sync_takes_one_call() {
    let bed = Bed::new().await;
    bed.secrets().await;
    bed.simulator
        .set("7041", NumberConfig::fresh().script(vec![Step::wait()]));
    let _operator = bed.operator(&[]).await;
    bed.declare("synced", "7041").await;
    let held = bed.simulator.until("7041", |report| report.held == 1).await;
    held.expect("the call is held");
    for _ in 0..3 {
        bed.delete("synced").await;
        bed.declare("synced", "7041").await;
    }
    bed.simulator.release("7041");
    for _ in 0..3 {
        bed.until_registered("synced", "AlreadyRegistered").await;
        bed.delete("synced").await;
        bed.declare("synced", "7041").await;
    }
    bed.until_registered("synced", "AlreadyRegistered").await;
    took(&bed, "7041", 1);
}

/// Two clusters do not know of each other: the number is suspended in the old one before the new one has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_number_moves_to_another_cluster_without_a_call() {
    let blue = Bed::new().await;
    let green: &'static ControlPlane =
        Box::leak(Box::new(start_with_crd().await.expect("another cluster")));
    let green = Bed::on(green).await;
    let graph = format!("--graph-base-url={}", blue.simulator.base_url());
    blue.secrets().await;
    green.secrets().await;
    let _blue = blue.operator(&[]).await;
    let _green = green.operator(&[&graph]).await;
    blue.simulator
        .set("7052", NumberConfig::fresh().pin("999999"));
    blue.declare("moves", "7051").await;
    blue.declare("wrong", "7052").await;
    blue.until_registered("moves", "RegistrationSucceeded")
        .await;
    blue.until_stalled("wrong", "PinMismatch").await;

    for name in ["moves", "wrong"] {
        blue.patch(name, json!({"spec": {"suspend": true}})).await;
        until_decided(&blue, name, 2).await;
    }
    green.declare("moves", "7051").await;
    green.until_registered("moves", "AlreadyRegistered").await;
    // A new token there changes nothing here.
    blue.secret(
        "whatsapp",
        &[("token", b"EAAanotherTOKEN0123456789"), ("pin", b"111111")],
    )
    .await;
    blue.delete("moves").await;
    blue.delete("wrong").await;
    green
        .patch("moves", json!({"spec": {"suspend": true}}))
        .await;
    until_decided(&green, "moves", 2).await;
    green.until_registered("moves", "AlreadyRegistered").await;
    took(&blue, "7051", 1);
    took(&blue, "7052", 1);
}

/// The new resource gives way until the old one is gone, in whichever order a tool does it.
#[tokio::test(flavor = "multi_thread")]
async fn a_number_moves_to_another_namespace_without_a_call() {
    let (old, new) = (Bed::new().await, Bed::new().await);
    old.secrets().await;
    new.secrets().await;
    let namespaces = format!("--watch-namespace={},{}", old.namespace, new.namespace);
    let _operator = old.operator(&[&namespaces]).await;
    for (name, id) in [("first-made", "7061"), ("first-deleted", "7062")] {
        old.declare(name, id).await;
        old.until_registered(name, "RegistrationSucceeded").await;
    }
    new.declare("first-made", "7061").await;
    let number = new
        .until_stalled("first-made", "DuplicatePhoneNumber")
        .await;
    assert!(!message(&number, "Failed").contains(&old.namespace));
    old.delete("first-made").await;
    old.delete("first-deleted").await;
    new.declare("first-deleted", "7062").await;
    for name in ["first-made", "first-deleted"] {
        new.until_registered(name, "AlreadyRegistered").await;
    }
    took(&old, "7061", 1);
    took(&old, "7062", 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_or_region_takes_no_call_for_a_registered_number() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let _operator = bed.operator(&[]).await;
    bed.declare("works", "7071").await;
    bed.until_registered("works", "RegistrationSucceeded").await;
    bed.patch("works", json!({"spec": {"graphAPIVersion": "v24.0"}}))
        .await;
    until_decided(&bed, "works", 2).await;
    bed.patch("works", json!({"spec": {"dataLocalizationRegion": "DE"}}))
        .await;
    until_decided(&bed, "works", 3).await;
    bed.until_registered("works", "RegistrationSucceeded").await;
    took(&bed, "7071", 1);
}

/// The definition and the resources stay when the operator is uninstalled. Months later the ledger is out of date.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_comes_back_months_later_takes_no_call_for_registered_numbers() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let operator = bed.operator(&[]).await;
    bed.declare("works", "7081").await;
    let number = bed.until_registered("works", "RegistrationSucceeded").await;
    let (status, log) = operator.terminate().await;
    assert_eq!(status, "0", "{log}");

    let mut attempts = serde_json::to_value(number.status.expect("a status").attempts);
    let attempts = attempts.as_mut().expect("JSON");
    for attempt in attempts.as_array_mut().expect("a list") {
        attempt["startTime"] = json!("2026-01-05T10:00:00Z");
        attempt["finishTime"] = json!("2026-01-05T10:00:01Z");
    }
    bed.patch_status(
        "works",
        json!({"attempts": attempts, "registrationTime": "2026-01-05T10:00:01Z"}),
    )
    .await;
    bed.patch("works", json!({"spec": {"graphAPIVersion": "v24.0"}}))
        .await;
    bed.simulator.set("7082", NumberConfig::registered());
    bed.declare("came-meanwhile", "7082").await;
    bed.declare("new", "7083").await;

    let _operator = bed.operator(&[]).await;
    until_decided(&bed, "works", 2).await;
    bed.until_registered("works", "RegistrationSucceeded").await;
    bed.until_registered("came-meanwhile", "AlreadyRegistered")
        .await;
    bed.until_registered("new", "RegistrationSucceeded").await;
    took(&bed, "7081", 1);
    took(&bed, "7082", 0);
    took(&bed, "7083", 1);
}

/// A restored namespace comes back with everything in it: Secrets after numbers, as backup tools happen to order them.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_are_restored_before_their_secrets_wait_and_are_adopted() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let _operator = bed.operator(&[]).await;
    bed.declare("works", "7091").await;
    let number = bed.until_registered("works", "RegistrationSucceeded").await;
    bed.delete("works").await;
    let secrets = bed.api::<Secret>();
    let deleted = secrets.delete("whatsapp", &DeleteParams::default()).await;
    deleted.expect("the Secret goes");
    let created = bed
        .numbers()
        .create(&PostParams::default(), &copy_of(&number))
        .await;
    created.expect("a number");
    bed.until_waiting("works", "SecretNotFound").await;
    bed.secrets().await;
    bed.until_registered("works", "AlreadyRegistered").await;
    took(&bed, "7091", 1);
}
