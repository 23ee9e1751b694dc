//! With the roles of the chart the operator does all of its work, is refused nothing, and uses every verb.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::runtime::wait::await_condition;
use operator_core::api::WhatsAppPhoneNumber;
use serde_json::json;

use super::release::{Release, Right};
use testkit::bed::{Bed, DEADLINE, resource};
use testkit::control_plane::audit::Request;
use testkit::simulator::{NumberConfig, Step};

#[tokio::test(flavor = "multi_thread")]
async fn in_all_namespaces_every_right_is_used_and_none_is_missing() {
    let bed = Bed::new().await;
    let selector = format!("selector=test={}", bed.namespace);
    let release = Release::install(&bed, &["--set", &selector]);
    assert!(release.kinds().contains("ClusterRoleBinding"));
    does_all_of_its_work(&bed, &release, "6101").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_some_namespaces_there_is_no_cluster_role() {
    let (bed, second) = (Bed::new().await, Bed::new().await);
    let namespaces = format!("watchNamespaces={{{},{}}}", bed.namespace, second.namespace);
    let flags = [
        "--set",
        &namespaces,
        "--set",
        "rbac.aggregateClusterRoles=false,rbac.readCRD=false,rbac.removeFinalizers=false",
    ];
    let release = Release::install(&bed, &flags);
    let kinds = release.kinds();
    assert!(
        !kinds.iter().any(|kind| kind.starts_with("Cluster")),
        "{kinds:?}"
    );
    does_all_of_its_work(&bed, &release, "6102").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_watch_on_secrets_get_is_enough() {
    let bed = Bed::new().await;
    let namespaces = format!("watchNamespaces={{{}}}", bed.namespace);
    let flags = ["--set", &namespaces, "--set", "secretWatch=false"];
    let release = Release::install(&bed, &flags);
    let on_secrets: Vec<_> = release
        .granted()
        .into_iter()
        .filter(|(_, resource, _)| resource == "secrets")
        .map(|(_, _, verb)| verb)
        .collect();
    assert_eq!(on_secrets, ["get"]);
    does_all_of_its_work(&bed, &release, "6103").await;
}

/// The namespace controller deletes the operator's RoleBinding together with everything else.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_deleted_keeps_no_number() {
    let (bed, going) = (Bed::new().await, Bed::new().await);
    let namespaces = format!("watchNamespaces={{{},{}}}", bed.namespace, going.namespace);
    let flags = [
        "--set",
        &namespaces,
        "--set",
        "rbac.aggregateClusterRoles=false,rbac.readCRD=false,deregistration.deadline=5s",
    ];
    let release = Release::install(&bed, &flags);
    going.secrets().await;
    let _operator = release.start().await;
    let policy = json!({"deletionPolicy": "Deregister"});
    going.declare_with("resting", "6104", policy.clone()).await;
    going
        .until_registered("resting", "RegistrationSucceeded")
        .await;
    let held = NumberConfig::fresh().script(vec![Step::wait()]);
    bed.simulator.set("6105", held);
    going.declare_with("called", "6105", policy).await;
    let held = bed.simulator.until("6105", |report| report.held == 1).await;
    held.expect("the call is held");

    let all = ListParams::default();
    let bindings = going.api::<RoleBinding>();
    let deleted = bindings
        .delete_collection(&DeleteParams::default(), &all)
        .await;
    deleted.expect("no rights any more");
    bed.simulator.release("6105");
    for name in ["resting", "called"] {
        going.delete(name).await;
    }
    for name in ["resting", "called"] {
        let gone = |number: Option<&WhatsAppPhoneNumber>| number.is_none();
        let gone = await_condition(going.numbers(), name, gone);
        let gone = tokio::time::timeout(DEADLINE, gone).await;
        gone.unwrap_or_else(|_| panic!("{name} is still there"))
            .expect("a watch");
    }
    let deregisters = |id| bed.simulator.number(id).counts.deregister_calls;
    assert_eq!((deregisters("6104"), deregisters("6105")), (0, 0));
}

/// The whole main job, with what makes the operator use each of its rights.
async fn does_all_of_its_work(bed: &Bed, release: &Release<'_>, id: &str) {
    let script = vec![Step::wait()];
    bed.simulator.set(id, NumberConfig::fresh().script(script));
    bed.secrets().await;
    let operator = release.start().await;
    let mut number = resource("modest", id, json!({"deletionPolicy": "Deregister"}));
    number.metadata.labels = Some([("test".to_owned(), bed.namespace.clone())].into());
    let created = bed.numbers().create(&PostParams::default(), &number).await;
    created.expect("a number");
    // Somebody writes the resource while the call is under way: the result goes to the newest version, which is read.
    let held = bed.simulator.until(id, |report| report.held == 1).await;
    held.expect("the call is held");
    bed.patch(
        "modest",
        json!({"metadata": {"labels": {"team": "payments"}}}),
    )
    .await;
    bed.simulator.release(id);
    bed.until_registered("modest", "RegistrationSucceeded")
        .await;
    // The same event comes twice: the second time it is counted in the first.
    for request in ["once more", "and again"] {
        bed.request("modest", request).await;
        bed.until("modest", "registered anew", |status| {
            status.last_handled_register_request.as_deref() == Some(request)
                && status.attempts.iter().all(|attempt| attempt.end.is_some())
        })
        .await;
    }
    bed.until_event("modest", "RegistrationSucceeded").await;
    // Before the number goes, the operator looks whether the CRD goes too.
    bed.delete("modest").await;
    bed.until_event("modest", "Deregistered").await;
    let (status, log) = operator.terminate().await;
    assert_eq!(status, "0", "{log}");
    assert_eq!(bed.posts(id), 3);
    uses_what_is_granted(release);
}

fn uses_what_is_granted(release: &Release<'_>) {
    // Where the chart may not grant it, the operator goes on without.
    let may_lack = |request: &Request| {
        let object = request.object_ref.as_ref();
        object.is_some_and(|object| object.resource == "customresourcedefinitions")
            && !release.kinds().contains("ClusterRole")
    };
    let mut asked = release.asked();
    asked.retain(|request| !may_lack(request));
    let forbidden: Vec<_> = asked
        .iter()
        .filter(|request| request.was_forbidden())
        .collect();
    assert!(forbidden.is_empty(), "not granted: {forbidden:#?}");
    let used: BTreeSet<Right> = asked
        .iter()
        .filter_map(|request| {
            let object = request.object_ref.as_ref()?;
            let resource = match object.subresource.as_str() {
                "" => object.resource.clone(),
                subresource => format!("{}/{subresource}", object.resource),
            };
            Some((object.api_group.clone(), resource, request.verb.clone()))
        })
        .collect();
    assert_eq!(used, release.granted(), "used, and granted");
}
