//! What the watches bring is not lost, and watches that bring nothing hold nothing up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, pending, ready};
use serde_json::json;
use tokio::sync::watch;

use testkit::bed::{Bed, DEADLINE};
use testkit::control_plane::{ControlPlane, apply_crds, service_account_token};
use testkit::gateway::{Before, Conduct, Kind, Request};
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

/// An operator that may do what a role of the cluster's or roles of the namespace allow its account.
async fn restricted(bed: &Bed, more: &[&str]) -> Operator {
    let token = service_account_token(&bed.client, &bed.namespace, "operator");
    let token = token.await.expect("a token");
    let kubeconfig = bed.control_plane.kubeconfig_for_token(&token);
    Operator::launch(&kubeconfig.expect("a kubeconfig"), &bed.args(more))
}

fn bind(bed: &Bed, role: &str) {
    let account = format!("--serviceaccount={}:operator", bed.namespace);
    let name = role.rsplit('=').next().expect("a name");
    bed.kubectl(&["create", "rolebinding", name, role, &account]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_refused_does_not_stop_the_others() {
    let (bed, refused) = (Bed::new().await, Bed::new().await);
    bed.kubectl(&["create", "serviceaccount", "operator"]);
    bind(&bed, "--clusterrole=cluster-admin");
    let namespaces = format!("--watch-namespace={},{}", bed.namespace, refused.namespace);
    let operator = restricted(&bed, &[&namespaces]).await;
    operator.until_logged("The watches are synced").await;
    // A second resource of the number, so that they are listed before the call.
    bed.declare("elder", "3501").await;
    bed.declare_with("younger", "3501", json!({"suspend": true}))
        .await;
    bed.until_event("younger", "Suspended").await;
    bed.secrets().await;
    bed.until_registered("elder", "RegistrationSucceeded").await;
    // The watch of Secrets there is left out by now or soon.
    let ready = operator.until_page("/readyz", "ok\n").await;
    let named = format!("WhatsAppPhoneNumber in {}", refused.namespace);
    assert!(ready.contains(&named), "{ready}");
    assert_eq!(bed.posts("3501"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_cannot_be_watched_are_polled() {
    let bed = Bed::new().await;
    bed.kubectl(&["create", "serviceaccount", "operator"]);
    let roles = [
        (
            "numbers",
            "get,list,watch",
            "whatsappphonenumbers.whatsapp-operator.dev",
        ),
        (
            "status",
            "update",
            "whatsappphonenumbers.whatsapp-operator.dev/status",
        ),
        ("secrets", "get", "secrets"),
    ];
    for (role, verbs, resource) in roles {
        let (verbs, resource) = (format!("--verb={verbs}"), format!("--resource={resource}"));
        bed.kubectl(&["create", "role", role, &verbs, &resource]);
        bind(&bed, &format!("--role={role}"));
    }
    let operator = restricted(&bed, &[]).await;
    bed.declare("polled", "3502").await;
    bed.until_waiting("polled", "SecretNotFound").await;
    operator.until_logged("Secrets are polled").await;
    bed.secrets().await;
    bed.until_registered("polled", "RegistrationSucceeded")
        .await;
    let down = operator.metric("watch_up{kind=\"Secret\"").await;
    assert_eq!((down as i64, bed.posts("3502")), (0, 1));
}

/// Never answers a list, for as long as it is told to.
#[derive(Default)]
struct Hangs {
    hangs: AtomicBool,
    hung: watch::Sender<usize>,
}

impl Conduct for Hangs {
    fn before<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Before> {
        if request.kind == Kind::List && self.hangs.load(SeqCst) {
            self.hung.send_modify(|hung| *hung += 1);
            return pending().boxed();
        }
        ready(Before::Pass).boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_never_answered_is_asked_for_again() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let conduct = Arc::new(Hangs::default());
    let gates = bed.gates(Arc::clone(&conduct) as _).await;
    let operator = gates.operator(&bed, &[]).await;
    conduct.hangs.store(true, SeqCst);
    let mut hung = conduct.hung.subscribe();
    // Both watches, of which one may only be about to begin.
    let both = async {
        while *hung.borrow_and_update() < 2 {
            gates.api_server.expire_watches();
            let _ = tokio::time::timeout(Duration::from_secs(1), hung.changed()).await;
        }
    };
    let both = tokio::time::timeout(DEADLINE, both).await;
    both.expect("the lists of both watches hang");
    conduct.hangs.store(false, SeqCst);
    bed.declare("heard", "3503").await;
    bed.until_registered("heard", "RegistrationSucceeded").await;
    operator.until_metric("watch_up", |up| up == 2.0).await;
}
