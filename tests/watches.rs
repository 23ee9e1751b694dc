//! What the watches bring is not lost, and watches that bring nothing hold nothing up.

use serde_json::json;
use testkit::bed::Bed;
use testkit::control_plane::{ControlPlane, apply_crds};
use testkit::operator::Operator;
use testkit::start_with_crd;

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_whose_watches_never_synced_ends_when_told_to() {
    let bed = Bed::new().await;
    let kubeconfig = bed
        .control_plane
        .kubeconfig_for_token("unknown")
        .expect("a kubeconfig");
    let operator = Operator::launch(&kubeconfig, &bed.args(&[]));
    operator.until_logged("A watch failed").await;
    let (status, log) = operator.terminate().await;
    assert_eq!(status, "0", "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_twin_in_another_watched_namespace_takes_over() {
    let (first, second) = (Bed::new().await, Bed::new().await);
    first.secrets().await;
    second.secrets().await;
    let namespaces = format!("--watch-namespace={},{}", first.namespace, second.namespace);
    let _operator = first.operator(&[&namespaces]).await;
    first.declare("elder", "3101").await;
    first
        .until_registered("elder", "RegistrationSucceeded")
        .await;
    second.declare("younger", "3101").await;
    second
        .until_stalled("younger", "DuplicatePhoneNumber")
        .await;
    first.delete("elder").await;
    second
        .until_registered("younger", "AlreadyRegistered")
        .await;
    assert_eq!(first.posts("3101"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_does_not_stop_the_others() {
    // An API server of its own, whose definition lets a status through that this version cannot read.
    let control_plane = start_with_crd().await.expect("a control plane");
    let control_plane: &'static ControlPlane = Box::leak(Box::new(control_plane));
    let bed = Bed::on(control_plane).await;
    let strict = operator_core::api::crd_yaml().expect("the definition");
    let lax = strict.replace("format: int32", "format: int64");
    assert_ne!(strict, lax);
    apply_crds(&bed.client, &lax)
        .await
        .expect("the lax definition");
    bed.secrets().await;
    bed.declare("odd", "3201").await;
    bed.patch_status("odd", json!({"readFailures": 3_000_000_000_u32}))
        .await;
    let operator = bed.operator(&[]).await;
    bed.declare("sound", "3202").await;
    bed.until_registered("sound", "RegistrationSucceeded").await;
    operator.until_logged("The resource cannot be parsed").await;
    assert_eq!(bed.posts("3201"), 0);
    bed.patch_status("odd", json!({"readFailures": null})).await;
    bed.until_registered("odd", "RegistrationSucceeded").await;
}
