//! The API server takes everything that the chart makes, and the pods keep to Pod Security's "restricted".

use std::io::Write;
use std::process::{Command, Output, Stdio};

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use serde_json::json;

use super::helm::{Helm, combinations, kind, only};
use testkit::bed::Bed;
use testkit::tools::STRICT_DECODE;

/// Kinds of the Prometheus Operator, which the API server does not know.
const OF_OTHERS: [&str; 3] = ["ServiceMonitor", "PodMonitor", "PrometheusRule"];

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_takes_every_combination() {
    let bed = Bed::new().await;
    let helm = Helm::alone();
    for values in combinations() {
        let flags = ["--values", values.to_str().expect("a path that is text")];
        let objects = helm.render("test", &bed.namespace, &flags);
        let known: Vec<_> = objects
            .into_iter()
            .filter(|object| !OF_OTHERS.contains(&kind(object)))
            .collect();
        let said = dry_run(&bed, &known);
        assert!(said.status.success(), "{}: {said:?}", values.display());
        let warnings = String::from_utf8_lossy(&said.stderr);
        assert!(warnings.is_empty(), "{}: {warnings}", values.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_keep_to_the_restricted_standard() {
    let bed = Bed::new().await;
    restrict(&bed).await;
    let helm = Helm::alone();
    for values in combinations() {
        let flags = ["--values", values.to_str().expect("a path that is text")];
        let objects = helm.render("test", &bed.namespace, &flags);
        let deployment = only(&objects, "Deployment");
        let said = dry_run(&bed, &[pod(deployment)]);
        assert!(said.status.success(), "{}: {said:?}", values.display());
    }
    let flags = ["--set", "securityContext.allowPrivilegeEscalation=true"];
    let lax = helm.render("test", &bed.namespace, &flags);
    let said = dry_run(&bed, &[pod(only(&lax, "Deployment"))]);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(
        said.contains("violates PodSecurity"),
        "the check is none: {said}"
    );
}

#[test]
fn the_types_of_the_prometheus_operator_fit() {
    let helm = Helm::alone();
    let mut seen = 0;
    for values in combinations() {
        let flags = ["--values", values.to_str().expect("a path that is text")];
        let objects = helm.render("test", "test", &flags);
        for object in objects
            .iter()
            .filter(|object| OF_OTHERS.contains(&kind(object)))
        {
            let said = with_input(STRICT_DECODE.command(&[]), std::slice::from_ref(object));
            assert!(said.status.success(), "{}: {said:?}", values.display());
            seen += 1;
        }
    }
    assert!(seen >= OF_OTHERS.len(), "each kind is rendered somewhere");
}

/// Has the bed's namespace refuse pods that do not keep to the standard.
async fn restrict(bed: &Bed) {
    let enforce = "pod-security.kubernetes.io/enforce";
    let patch = json!({"metadata": {"labels": {enforce: "restricted"}}});
    Api::<Namespace>::all(bed.client.clone())
        .patch(
            &bed.namespace,
            &PatchParams::default(),
            &Patch::Merge(patch),
        )
        .await
        .expect("a label");
}

/// The pod that a Deployment would make.
fn pod(deployment: &DynamicObject) -> DynamicObject {
    let template = &deployment.data["spec"]["template"];
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": template["metadata"],
        "spec": template["spec"],
    });
    // The classes that a values file names are not there.
    let spec = pod["spec"].as_object_mut().expect("an object");
    for class in ["priorityClassName", "runtimeClassName"] {
        spec.remove(class);
    }
    pod["metadata"]["name"] = "pod".into();
    pod["metadata"]["namespace"] = deployment.metadata.namespace.clone().into();
    serde_json::from_value(pod).expect("a pod is an object")
}

/// What the API server says to objects, without keeping them. A namespace that is watched need not be there: what would
/// be in it is asked for in the bed's.
fn dry_run(bed: &Bed, objects: &[DynamicObject]) -> Output {
    let mut objects = objects.to_vec();
    for object in &mut objects {
        let namespace = &mut object.metadata.namespace;
        *namespace = namespace.as_ref().map(|_| bed.namespace.clone());
    }
    let mut kubectl = bed.control_plane.kubectl();
    kubectl.args([
        "apply",
        "--server-side",
        "--dry-run=server",
        "--validate=strict",
        "-f",
        "-",
    ]);
    with_input(kubectl, &objects)
}

/// Runs a program with objects as its standard input.
fn with_input(mut program: Command, objects: &[DynamicObject]) -> Output {
    let pipes = program
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut program = pipes.spawn().expect("the program runs");
    let mut stdin = program.stdin.take().expect("a pipe");
    for object in objects {
        let text = serde_json::to_string(object).expect("an object is JSON");
        writeln!(stdin, "---\n{text}").expect("the program reads");
    }
    drop(stdin);
    program.wait_with_output().expect("the program ends")
}
