//! What the watches bring is not lost, and watches that bring nothing hold nothing up.

use crate::support::bed::Bed;
use crate::support::operator::Operator;

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
