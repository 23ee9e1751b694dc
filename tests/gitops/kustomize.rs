//! `kustomize/`: built by kubectl, taken by the API server, and sound in itself. That the base is the chart's, the chart's
//! own tests say.

use std::path::Path;

use serde::Deserialize as _;
use serde_json::{Value, json};

use super::Tested;
use testkit::bed::Bed;

fn path(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn documents(text: &str) -> Vec<Value> {
    let documents = serde_norway::Deserializer::from_str(text);
    documents
        .map(|document| Value::deserialize(document).expect("YAML"))
        .collect()
}

/// What kustomize makes of a directory.
fn built(bed: &Bed, directory: &Path) -> String {
    let directory = directory.to_str().expect("a path in ASCII");
    bed.kubectl(&["kustomize", directory])
}

/// The one object of a kind and a name.
fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

/// The value of a variable of the operator.
fn variable<'a>(deployment: &'a Value, name: &str) -> Option<&'a str> {
    let all = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array();
    let mut all = all.expect("the container has variables").iter();
    all.find(|variable| variable["name"] == name)?["value"].as_str()
}

/// Checks that every binding is of a role that is there to an account that is there.
fn bound(objects: &[Value]) {
    let bindings = objects.iter().filter(|object| {
        object["kind"]
            .as_str()
            .is_some_and(|kind| kind.ends_with("RoleBinding"))
    });
    for binding in bindings {
        let role = &binding["roleRef"];
        object(
            objects,
            role["kind"].as_str().expect("a kind"),
            role["name"].as_str().expect("a name"),
        );
        for subject in binding["subjects"].as_array().expect("subjects") {
            let account = object(
                objects,
                "ServiceAccount",
                subject["name"].as_str().expect("a name"),
            );
            assert_eq!(
                account["metadata"]["namespace"], subject["namespace"],
                "{binding}"
            );
        }
    }
}

/// Checks that replicas avoid each other's nodes, and that a drain takes one at a time.
fn apart(objects: &[Value], deployment: &Value) {
    let pods = &deployment["spec"]["selector"];
    let spread = &deployment["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"];
    let term = &spread["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"];
    assert_eq!(term["topologyKey"], "kubernetes.io/hostname");
    assert_eq!(term["labelSelector"], *pods);
    let budget = object(objects, "PodDisruptionBudget", "whatsapp-operator");
    let namespace = &deployment["metadata"]["namespace"];
    assert_eq!(budget["metadata"]["namespace"], *namespace);
    assert_eq!(budget["spec"]["selector"], *pods);
    assert_eq!(budget["spec"]["maxUnavailable"], 1);
}

/// Has the API server take what kustomize made, without storing it.
async fn taken(bed: &Bed, name: &str, text: &str) {
    let objects = documents(text);
    for object in &objects {
        if let Some(namespace) = object["metadata"]["namespace"].as_str() {
            ensure_namespace(bed, namespace).await;
        }
    }
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join(format!("{name}.yaml"));
    std::fs::write(&file, text).expect("a file");
    let mut command = bed.control_plane.kubectl();
    command.args([
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
    ]);
    command
        .arg("--validate=strict")
        .arg("--filename")
        .arg(&file);
    let output = command.output().expect("kubectl runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && error.is_empty(), "{error}");
    let lines = String::from_utf8_lossy(&output.stdout).lines().count();
    assert_eq!(lines, objects.len());
}

/// Objects in a namespace are refused where it does not exist, also in a dry run.
async fn ensure_namespace(bed: &Bed, name: &str) {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let namespaces: kube::Api<k8s_openapi::api::core::v1::Namespace> =
        kube::Api::all(bed.client.clone());
    let params = kube::api::PatchParams::apply("test");
    let patch = kube::api::Patch::Apply(&object);
    namespaces
        .patch(name, &params, &patch)
        .await
        .expect("a namespace");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_base_is_taken() {
    let bed = Bed::new().await;
    let text = built(&bed, &path("kustomize/base"));
    taken(&bed, "base", &text).await;
    let objects = documents(&text);
    bound(&objects);
    for object in &objects {
        let label = &object["metadata"]["labels"]["app.kubernetes.io/managed-by"];
        assert_eq!(label, "kustomize", "{}", object["metadata"]["name"]);
    }
    let deployment = object(&objects, "Deployment", "whatsapp-operator");
    assert_eq!(
        variable(deployment, "LEASE_NAMESPACE"),
        None,
        "the pod's own"
    );
    assert_eq!(variable(deployment, "LEADER_ELECT"), Some("true"));
}

/// The example moves the operator, ties it to one namespace and takes away what it does not need there.
#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_an_overlay_does_what_it_says() {
    let bed = Bed::new().await;
    let text = built(&bed, &path("kustomize/example"));
    taken(&bed, "example", &text).await;
    let objects = documents(&text);
    bound(&objects);
    object(&objects, "Namespace", "platform");
    let everywhere = objects
        .iter()
        .any(|object| object["kind"] == "ClusterRoleBinding");
    assert!(!everywhere, "nothing is granted in every namespace");

    let deployment = object(&objects, "Deployment", "whatsapp-operator");
    assert_eq!(deployment["metadata"]["namespace"], "platform");
    assert_eq!(deployment["spec"]["replicas"], 2);
    apart(&objects, deployment);
    let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
    assert!(
        image
            .as_str()
            .is_some_and(|image| image.contains("@sha256:")),
        "{image}"
    );
    let watched = variable(deployment, "WATCH_NAMESPACES").expect("a namespace");
    let granted = object(&objects, "RoleBinding", "whatsapp-operator");
    assert_eq!(granted["metadata"]["namespace"], watched);

    assert_eq!(variable(deployment, "SECRET_WATCH"), Some("false"));
    let role = granted["roleRef"]["name"].as_str().expect("a name");
    let rules = object(&objects, "ClusterRole", role)["rules"]
        .as_array()
        .expect("rules");
    let secrets = rules
        .iter()
        .find(|rule| rule["resources"] == json!(["secrets"]));
    assert_eq!(
        secrets.expect("a rule for Secrets")["verbs"],
        json!(["get"])
    );
}

/// A prefix and a hash change the names of Secrets; the component has the numbers follow.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_follow_the_names_of_their_secrets() -> Tested {
    let bed = Bed::new().await;
    let directory = tempfile::tempdir()?;
    let here = directory.path();
    // kustomize wants relative paths.
    let component = here.join("secret-names");
    std::fs::create_dir(&component)?;
    for file in ["kustomization.yaml", "references.yaml"] {
        std::fs::copy(
            path("kustomize/secret-names").join(file),
            component.join(file),
        )?;
    }
    let numbers = here.join("numbers");
    std::fs::create_dir(&numbers)?;
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "components": ["../secret-names"], "resources": ["number.json"], "namePrefix": "eu-",
        "secretGenerator": [{"name": "all", "literals": ["token=EAAx", "pin=000000"]}],
    });
    std::fs::write(
        numbers.join("kustomization.yaml"),
        kustomization.to_string(),
    )?;
    let references = [
        "tokenSecretRef",
        "pinSecretRef",
        "appSecretRef",
        "backupSecretRef",
    ];
    let mut number = serde_json::to_value(testkit::bed::resource("support", "9051", json!({})))?;
    for reference in references {
        number["spec"][reference]["name"] = json!("all");
    }
    std::fs::write(numbers.join("number.json"), number.to_string())?;

    let objects = documents(&built(&bed, &numbers));
    let secret = objects.iter().find(|object| object["kind"] == "Secret");
    let name = &secret.ok_or("no Secret")?["metadata"]["name"];
    assert!(
        name.as_str()
            .is_some_and(|name| name.starts_with("eu-all-")),
        "{name}"
    );
    let number = object(&objects, "WhatsAppPhoneNumber", "eu-support");
    for reference in references {
        assert_eq!(number["spec"][reference]["name"], *name, "{reference}");
    }
    Ok(())
}
