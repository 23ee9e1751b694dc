//! The life of releases on an API server of their own, as the definition belongs to the whole cluster.

use std::io::Write;
use std::process::Output;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::{Api, Client};
use operator_core::api::WhatsAppPhoneNumber;
use serde_json::json;

use super::helm::{Helm, chart, said};
use testkit::bed::resource;
use testkit::control_plane::{ControlPlane, create_namespace};

/// The name of the definition.
const CRD: &str = "whatsappphonenumbers.whatsapp-operator.dev";

/// Helm and a cluster that nothing is installed on.
struct Cluster {
    helm: Helm,
    client: Client,
    control_plane: ControlPlane,
}

impl Cluster {
    async fn new() -> Self {
        let control_plane = testkit::start().await.expect("a control plane");
        Self {
            helm: Helm::on(control_plane.kubeconfig_path()),
            client: control_plane.client().await.expect("a client"),
            control_plane,
        }
    }

    async fn namespace(&self) -> String {
        create_namespace(&self.client).await.expect("a namespace")
    }

    /// Runs helm with the chart as `install`, `upgrade` and their like want it.
    fn helm(&self, command: &[&str], namespace: &str, flags: &[&str]) -> String {
        let chart = chart();
        let chart = chart.to_str().expect("a path that is text");
        self.run(&[command, &[chart], flags].concat(), namespace)
    }

    /// Runs helm in a namespace.
    fn run(&self, command: &[&str], namespace: &str) -> String {
        self.helm
            .run(&[command, &["--namespace", namespace]].concat())
    }

    fn output(&self, namespace: &str, args: &[&str]) -> Output {
        let mut kubectl = self.control_plane.kubectl();
        let kubectl = kubectl.args(["--namespace", namespace]).args(args);
        kubectl.output().expect("kubectl runs")
    }

    /// Runs kubectl, which must succeed; returns what it said, on both ways out.
    fn kubectl(&self, namespace: &str, args: &[&str]) -> String {
        let output = self.output(namespace, args);
        assert!(
            output.status.success(),
            "kubectl {args:?}: {}",
            said(&output)
        );
        said(&output)
    }

    /// Applies an object as people do.
    fn apply(&self, namespace: &str, object: &serde_json::Value) -> String {
        let applied = self.try_apply(namespace, object);
        applied.unwrap_or_else(|refusal| panic!("kubectl apply: {refusal}"))
    }

    /// Applies an object that may be refused; returns what was said.
    fn try_apply(&self, namespace: &str, object: &serde_json::Value) -> Result<String, String> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        write!(file, "{object}").expect("the file can be written");
        let file = file.path().to_str().expect("a path that is text");
        let output = self.output(namespace, &["apply", "-f", file]);
        let said = said(&output);
        if output.status.success() {
            Ok(said)
        } else {
            Err(said)
        }
    }

    async fn crd(&self) -> Option<CustomResourceDefinition> {
        let crds = Api::<CustomResourceDefinition>::all(self.client.clone());
        let crd = crds.get_opt(CRD).await.expect("the API server answers");
        crd.filter(|crd| crd.metadata.deletion_timestamp.is_none())
    }

    /// Waits until the API server serves the definition.
    async fn until_served(&self) {
        let served = kube::runtime::conditions::is_crd_established();
        let crds = Api::<CustomResourceDefinition>::all(self.client.clone());
        let waiting = kube::runtime::wait::await_condition(crds, CRD, served);
        let waited = tokio::time::timeout(testkit::bed::DEADLINE, waiting).await;
        waited
            .expect("the definition is served in time")
            .expect("a watch");
    }

    /// Declares a number.
    async fn declare(&self, namespace: &str) {
        self.until_served().await;
        let number = resource("support", "6201", json!({}));
        let numbers: Api<WhatsAppPhoneNumber> = Api::namespaced(self.client.clone(), namespace);
        let created = numbers.create(&PostParams::default(), &number).await;
        created.expect("a number");
    }

    async fn has_number(&self, namespace: &str) -> bool {
        let numbers: Api<WhatsAppPhoneNumber> = Api::namespaced(self.client.clone(), namespace);
        numbers
            .get_opt("support")
            .await
            .expect("the API server answers")
            .is_some()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn releases_come_and_go_and_the_resources_stay() {
    let cluster = Cluster::new().await;
    let (first, second) = (cluster.namespace().await, cluster.namespace().await);
    let uninstall = || cluster.run(&["uninstall", "wa"], &first);

    let notes = cluster.helm(&["install", "wa"], &first, &[]);
    assert!(notes.contains("kubectl wait wapn/support"), "{notes}");
    cluster.declare(&first).await;

    cluster.helm(&["upgrade", "wa"], &first, &["--set=replicaCount=2"]);
    cluster.run(&["rollback", "wa", "1"], &first);
    assert!(cluster.has_number(&first).await);

    // A second one, of the same name in another namespace: the definition is there already.
    let chart = chart();
    let chart = chart.to_str().expect("a path that is text");
    let again = ["install", "wa", chart, "--namespace", &second];
    let refusal = cluster.helm.refuse(&again);
    assert!(refusal.contains(CRD), "{refusal}");
    let shard = ["--set=crds.enabled=false,selector=shard=b"];
    cluster.helm(&["install", "wa"], &second, &shard);

    // The first goes; definition, resources and the second stay.
    uninstall();
    assert!(cluster.crd().await.is_some(), "the definition is kept");
    assert!(cluster.has_number(&first).await);
    let listed = cluster.helm.run(&["list", "--all-namespaces", "--short"]);
    assert_eq!(listed.trim(), "wa");

    // What was kept is taken over under the same name and namespace, and with a flag under others.
    cluster.helm(&["install", "wa"], &first, &[]);
    assert!(cluster.has_number(&first).await);
    uninstall();
    cluster.helm(&["install", "other"], &first, &["--take-ownership"]);
    cluster.run(&["uninstall", "other"], &first);
    cluster.helm(&["install", "wa"], &first, &["--set=crds.enabled=false"]);
    assert!(cluster.has_number(&first).await);
    uninstall();

    // A definition that is not to be kept goes.
    let forget = ["--take-ownership", "--set=crds.keep=false"];
    cluster.helm(&["install", "wa"], &first, &forget);
    uninstall();
    assert!(cluster.crd().await.is_none(), "the definition goes");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_get_advice_and_the_rights_that_they_need() {
    let cluster = Cluster::new().await;
    let namespace = cluster.namespace().await;
    let policy = ["--set=admissionPolicy.enabled=true"];
    cluster.helm(&["install", "wa"], &namespace, &policy);
    cluster.until_served().await;
    advice_comes_with_the_change_that_needs_it(&cluster, &namespace);
    people_may_use_the_resource_and_not_its_status(&cluster, &namespace);
}

fn advice_comes_with_the_change_that_needs_it(cluster: &Cluster, namespace: &str) {
    let apply = |more| {
        let number = serde_json::to_value(resource("support", "6202", more)).expect("JSON");
        cluster.apply(namespace, &number)
    };
    let advised = |more, words: &str| {
        let said = apply(more);
        said.contains("Warning") && said.contains(words)
    };
    // A policy works some time after it was made.
    let deadline = std::time::Instant::now() + testkit::bed::DEADLINE;
    let deregister = || json!({"deletionPolicy": "Deregister"});
    while !advised(deregister(), "spec.deletionPolicy Deregister") {
        assert!(std::time::Instant::now() < deadline, "no advice");
        apply(json!({}));
    }
    assert!(!advised(deregister(), ""), "it was said already");
    let region = || json!({"dataLocalizationRegion": "DE"});
    assert!(advised(
        region(),
        "spec.dataLocalizationRegion is deprecated"
    ));
    assert!(!advised(region(), ""), "it was said already");
    let retention = json!({"metaStoreRetentionMinutes": 60});
    assert!(advised(
        retention,
        "spec.metaStoreRetentionMinutes is deprecated"
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_holds_the_numbers_that_it_is_allowed() {
    let cluster = Cluster::new().await;
    let [operator, sales, support] = [
        cluster.namespace().await,
        cluster.namespace().await,
        cluster.namespace().await,
    ];
    let allow = |namespace: &str, ids: &str| {
        let annotation = format!("whatsapp-operator.dev/allowed-phone-number-ids={ids}");
        let annotate = [
            "annotate",
            "namespace",
            namespace,
            "--overwrite",
            &annotation,
        ];
        cluster.kubectl(namespace, &annotate);
    };
    let apply = |namespace: &str, name: &str, id: &str| {
        let number = serde_json::to_value(resource(name, id, json!({}))).expect("JSON");
        cluster.try_apply(namespace, &number)
    };
    allow(&sales, "6301, 6302,");
    // What is there before the policy stays, and can be changed and deleted.
    cluster.helm(&["install", "wa"], &operator, &[]);
    cluster.until_served().await;
    assert!(apply(&support, "older", "6309").is_ok());
    let policy = ["--set=admissionPolicy.allowedPhoneNumberIDs.enabled=true"];
    cluster.helm(&["upgrade", "wa"], &operator, &policy);

    // A policy works some time after it was made.
    let deadline = std::time::Instant::now() + testkit::bed::DEADLINE;
    let refusal = loop {
        assert!(std::time::Instant::now() < deadline, "nothing is refused");
        match apply(&support, "taken", "6301") {
            Ok(_) => cluster.kubectl(&support, &["delete", "wapn", "taken"]),
            Err(refusal) => break refusal,
        };
    };
    let told = format!("spec.phoneNumberID 6301 is not allowed in namespace {support}");
    assert!(refusal.contains(&told), "{refusal}");
    let way = format!(
        "kubectl annotate namespace {support} --overwrite whatsapp-operator.dev/allowed-phone-number-ids=6301"
    );
    assert!(refusal.contains(&way), "{refusal}");
    assert!(refusal.contains("(Forbidden)"), "{refusal}");

    assert!(apply(&sales, "first", "6301").is_ok());
    assert!(apply(&sales, "second", "6302").is_ok());
    let refusal = apply(&sales, "third", "630").expect_err("a part of an ID is none");
    assert!(
        refusal.contains("allowed-phone-number-ids=6301,6302,630"),
        "{refusal}"
    );
    allow(&sales, "6302");
    let change = [
        "patch",
        "wapn",
        "first",
        "--type=merge",
        "--patch",
        r#"{"spec":{"suspend":true}}"#,
    ];
    cluster.kubectl(&sales, &change);
    cluster.kubectl(&sales, &["delete", "wapn", "first"]);
    let refusal = apply(&sales, "first", "6301").expect_err("it is no longer allowed");
    assert!(refusal.contains("is not allowed in namespace"), "{refusal}");
    cluster.kubectl(&support, &["label", "wapn", "older", "a=b"]);

    // A release for some namespaces says nothing of others.
    let part = format!("--set=watchNamespaces={{{sales}}}");
    cluster.helm(&["upgrade", "wa"], &operator, &[policy[0], &part]);
    let deadline = std::time::Instant::now() + testkit::bed::DEADLINE;
    while apply(&support, "elsewhere", "6303").is_err() {
        assert!(
            std::time::Instant::now() < deadline,
            "it is refused elsewhere"
        );
    }
    assert!(apply(&sales, "third", "630").is_err());
}

fn people_may_use_the_resource_and_not_its_status(cluster: &Cluster, namespace: &str) {
    // Without a controller manager nothing adds the roles to those of the cluster: they are granted as they are.
    for user in ["view", "edit"] {
        let role = format!("--clusterrole=wa-whatsapp-operator-{user}.{namespace}");
        let who = format!("--user={user}");
        cluster.kubectl(namespace, &["create", "rolebinding", user, &role, &who]);
    }
    let may = |user: &str, verb: &str, part: &str| {
        let (user, part) = (format!("--as={user}"), format!("--subresource={part}"));
        let question = ["auth", "can-i", verb, "whatsappphonenumbers", &part, &user];
        said(&cluster.output(namespace, &question)).trim() == "yes"
    };
    assert!(may("view", "list", "") && !may("view", "create", ""));
    for verb in ["create", "update", "patch", "delete", "deletecollection"] {
        assert!(may("edit", verb, ""), "edit may not {verb}");
        for user in ["view", "edit"] {
            assert!(!may(user, verb, "status"), "{user} may {verb} the status");
        }
    }
}
