//! A cluster whose etcd is restored from a backup, under an operator that runs on: its watches stand at versions that the API
//! server has never heard of.

use std::time::Duration;

use kube::api::ListParams;
use kube::runtime::wait::await_condition;
use operator_core::api::{WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};
use serde_json::json;

use super::took;
use testkit::bed::{Bed, PIN, TOKEN, is};
use testkit::control_plane::ControlPlane;
use testkit::simulator::{NumberConfig, Step};
use testkit::start_with_crd;

/// Within this time a number must be seen: the API server's start, the wait of a watch that failed, and the time that a watch may be
/// silent, on a busy machine.
const SEEN_WITHIN: Duration = Duration::from_secs(150);

/// The same as [`Bed::until`], with more patience.
async fn until(bed: &Bed, name: &str, wanted: impl Fn(&WhatsAppPhoneNumberStatus) -> bool) {
    let reached = |number: Option<&WhatsAppPhoneNumber>| {
        number
            .and_then(|number| number.status.as_ref())
            .is_some_and(&wanted)
    };
    let waiting = await_condition(bed.numbers(), name, reached);
    let Ok(waited) = tokio::time::timeout(SEEN_WITHIN, waiting).await else {
        panic!("{name} was not seen: {:#?}", bed.get(name).await.status);
    };
    waited.expect("a watch");
}

async fn until_registered(bed: &Bed, name: &str) {
    until(bed, name, operator_core::api::conditions::is_registered).await;
}

/// The version that the API server is at.
async fn version(bed: &Bed) -> u64 {
    let list = bed.numbers().list(&ListParams::default()).await;
    let version = list.expect("a list").metadata.resource_version;
    version.expect("a version").parse().expect("a number")
}

/// Moves the API server's version on, as a busy cluster does all the time.
async fn churn(bed: &Bed, writes: usize) {
    for n in 0..writes {
        bed.secret("churn", &[("n", n.to_string().as_bytes())])
            .await;
    }
}

/// Whether the watches of the operator stand at a version that is far away when the API server comes back, or near.
#[derive(Clone, Copy, PartialEq)]
enum Ahead {
    /// Nothing that happens after the restore has so high a version.
    Far,
    /// Soon after the restore everything has a higher one: events come, and what was before them is never told.
    Little,
}

async fn restored(ahead: Ahead) {
    let before: &'static ControlPlane =
        Box::leak(Box::new(start_with_crd().await.expect("a control plane")));
    let bed = Bed::on(before).await;
    bed.secrets().await;
    bed.simulator
        .set("7103", NumberConfig::fresh().script(vec![Step::wait()]));
    let operator = bed.operator(&["--graph-timeout=20s"]).await;
    bed.declare("kept", "7101").await;
    bed.until_registered("kept", "RegistrationSucceeded").await;
    bed.declare_with("prepared", "7102", json!({"suspend": true}))
        .await;
    bed.until("prepared", "suspended", |status| {
        is(status, "Ready", "False", "Suspended")
    })
    .await;
    bed.declare("called", "7103").await;
    let held = bed.simulator.until("7103", |report| report.held == 1).await;
    held.expect("the call is held");
    let late = json!({"tokenSecretRef": {"name": "late"}, "pinSecretRef": {"name": "late"}});
    bed.declare_with("waits", "7104", late).await;
    bed.until_waiting("waits", "SecretNotFound").await;

    let backup = before.back_up().expect("a backup");
    bed.simulator.release("7103");
    bed.until_registered("called", "RegistrationSucceeded")
        .await;
    bed.patch("prepared", json!({"spec": {"suspend": false}}))
        .await;
    bed.until_registered("prepared", "RegistrationSucceeded")
        .await;
    if ahead == Ahead::Far {
        churn(&bed, 500).await;
    }
    bed.declare("forgotten", "7105").await;
    bed.until_registered("forgotten", "RegistrationSucceeded")
        .await;
    bed.until_event("forgotten", "RegistrationSucceeded").await;
    let watched = version(&bed).await;
    before.kill().await.expect("both programs end");

    let after = ControlPlane::restore(&backup).await.expect("it starts");
    let after: &'static ControlPlane = Box::leak(Box::new(after));
    let bed = Bed {
        client: after.client().await.expect("a client"),
        kubeconfig: after.kubeconfig_path(),
        control_plane: after,
        ..bed
    };
    match ahead {
        Ahead::Far => assert!(version(&bed).await < watched, "the versions begin again"),
        Ahead::Little => {
            churn(&bed, 200).await;
            assert!(version(&bed).await > watched);
            bed.declare("noise", "7107").await;
        }
    }

    // What was in the backup is looked after.
    until_registered(&bed, "called").await;
    // What Git applies again is adopted, and what is new is called for.
    bed.declare("forgotten", "7105").await;
    bed.patch("prepared", json!({"spec": {"suspend": false}}))
        .await;
    bed.declare("new", "7106").await;
    bed.secret(
        "late",
        &[("token", TOKEN.as_bytes()), ("pin", PIN.as_bytes())],
    )
    .await;
    for name in ["forgotten", "prepared", "new", "waits", "kept"] {
        until_registered(&bed, name).await;
    }
    for id in ["7101", "7102", "7103", "7104", "7105", "7106"] {
        took(&bed, id, 1);
    }
    if ahead == Ahead::Far {
        assert!(version(&bed).await < watched, "it was shown at all times");
    }
    let (status, log) = operator.terminate().await;
    assert_eq!(status, "0", "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_restored_from_a_backup_of_etcd_is_seen_and_takes_no_second_call() {
    tokio::join!(restored(Ahead::Far), restored(Ahead::Little));
}
