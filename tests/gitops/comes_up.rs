//! Each example comes up on an API server that has nothing but what its README says comes before: applied as people do it, and
//! then as Argo CD and Flux do it, in their order, each step at its first try.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};

use super::{directory, yaml};
use crate::chart::helm::{Helm, said};
use testkit::control_plane::ControlPlane;

/// The name of the operator's Application, HelmRelease and Kustomization.
const OPERATOR: &str = "whatsapp-operator";

/// A cluster without anything.
struct Cluster(ControlPlane);

impl Cluster {
    async fn new() -> Self {
        Self(testkit::start().await.expect("a control plane"))
    }

    /// Runs kubectl with an input.
    fn try_kubectl(&self, args: &[&str], input: &str) -> Result<String, String> {
        let mut command = self.0.kubectl();
        let pipes = command.args(args).stdin(Stdio::piped());
        let mut kubectl = pipes
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        let mut stdin = kubectl.stdin.take().expect("the input is piped");
        // One that reads no input may have ended.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = kubectl.wait_with_output().expect("kubectl ends");
        let told = said(&output);
        if output.status.success() {
            Ok(told)
        } else {
            Err(told)
        }
    }

    /// The same; it must succeed.
    fn kubectl(&self, args: &[&str], input: &str) -> String {
        let ran = self.try_kubectl(args, input);
        ran.unwrap_or_else(|error| panic!("kubectl {args:?}: {error}"))
    }

    /// Applies objects, into a namespace where they do not name theirs.
    fn apply(&self, namespace: Option<&str>, objects: &str) -> Result<String, String> {
        let mut args = vec![
            "apply",
            "--server-side",
            "--validate=strict",
            "--filename=-",
        ];
        args.extend(namespace.into_iter().flat_map(|name| ["--namespace", name]));
        self.try_kubectl(&args, objects)
    }

    /// Applies files as people do.
    fn apply_files(&self, files: &[PathBuf]) {
        let files = files
            .iter()
            .map(|file| format!("--filename={}", file.display()));
        let files: Vec<_> = files.collect();
        let files = files.iter().map(String::as_str);
        let args = ["apply", "--server-side", "--validate=strict"].into_iter();
        self.kubectl(&args.chain(files).collect::<Vec<_>>(), "");
    }

    /// The definitions of another project, and the namespace that it is installed into.
    fn has(&self, namespace: &str, definitions: &[&str]) {
        self.kubectl(&["create", "namespace", namespace], "");
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gitops/definitions");
        let files: Vec<_> = definitions
            .iter()
            .map(|name| here.join(format!("{name}.yaml")))
            .collect();
        self.apply_files(&files);
        let served = [
            "wait",
            "crd",
            "--all",
            "--for=condition=Established",
            "--timeout=60s",
        ];
        self.kubectl(&served, "");
    }

    /// Installs what the chart makes of values, as Argo CD and Flux do: into a namespace that is there.
    fn install(&self, namespace: &str, values: &Value) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), values.to_string()).expect("a file");
        let chart = crate::chart::helm::chart();
        let [chart, values] =
            [chart.as_path(), file.path()].map(|path| path.to_str().expect("a path that is text"));
        let fixed = ["template", OPERATOR, chart, "--namespace", namespace];
        let objects = Helm::alone().run(&[&fixed[..], &["--values", values]].concat());
        let applied = self.apply(None, &objects);
        applied.unwrap_or_else(|error| panic!("the chart: {error}"));
        let served = [
            "wait",
            "crd",
            "--all",
            "--for=condition=Established",
            "--timeout=60s",
        ];
        self.kubectl(&served, "");
    }

    /// Applies the number of an example with its Secret, as it comes from a repository.
    fn take_number(&self, namespace: &str) {
        for file in ["sops/number.secret.yaml", "sops/number.yaml"] {
            let applied = self.apply(Some(namespace), &super::example(file));
            applied.unwrap_or_else(|error| panic!("{file}: {error}"));
        }
    }

    /// The objects of a kind in a namespace.
    fn list(&self, kind: &str, namespace: &str) -> Vec<Value> {
        let args = ["get", kind, "--namespace", namespace, "--output=json"];
        let list: Value = serde_json::from_str(&self.kubectl(&args, "")).expect("JSON");
        list["items"].as_array().expect("a list").clone()
    }
}

fn files(names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(|name| directory().join(name)).collect()
}

fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
}

#[tokio::test(flavor = "multi_thread")]
async fn with_argo_cd() {
    let cluster = Cluster::new().await;
    cluster.has("argocd", &["argo-cd"]);
    let names = [
        "argo-cd/namespaces.yaml",
        "argo-cd/operator.yaml",
        "argo-cd/numbers.yaml",
    ];
    cluster.apply_files(&files(&names));
    cluster.kubectl(
        &["create", "configmap", "argocd-cm", "--namespace=argocd"],
        "",
    );
    let patch = format!(
        "--patch-file={}",
        directory().join("argo-cd/argocd-cm.yaml").display()
    );
    cluster.kubectl(
        &[
            "patch",
            "configmap",
            "argocd-cm",
            "--namespace=argocd",
            &patch,
        ],
        "",
    );

    let wave = |application: &Value| {
        let wave = &application["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"];
        text(wave).parse::<i32>().expect("a number")
    };
    let mut applications = cluster.list("applications.argoproj.io", "argocd");
    applications.sort_by_key(wave);
    for application in &applications {
        let spec = &application["spec"];
        assert_eq!(
            spec["syncPolicy"]["retry"]["limit"], -1,
            "it never gives up"
        );
        let namespace = text(&spec["destination"]["namespace"]);
        if application["metadata"]["name"] == OPERATOR {
            cluster.install(namespace, &spec["source"]["helm"]["valuesObject"]);
        } else {
            cluster.take_number(namespace);
        }
    }
    assert_eq!(applications.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_flux() {
    let cluster = Cluster::new().await;
    let controllers = [
        "helm-controller",
        "kustomize-controller",
        "source-controller",
    ];
    cluster.has("flux-system", &controllers);
    cluster.apply_files(&files(&["flux/sync.yaml", "flux/numbers.yaml"]));

    let kind = "kustomizations.kustomize.toolkit.fluxcd.io";
    let mut waiting = cluster.list(kind, "flux-system");
    assert_eq!(waiting.len(), 2);
    let mut done: Vec<String> = Vec::new();
    while !waiting.is_empty() {
        let is_due = |kustomization: &Value| {
            let depends_on = kustomization["spec"]["dependsOn"].as_array();
            let mut depends_on = depends_on.into_iter().flatten();
            depends_on.all(|one| done.iter().any(|done| one["name"] == done.as_str()))
        };
        let due = waiting
            .iter()
            .position(is_due)
            .expect("none waits for ever");
        let kustomization = waiting.remove(due);
        let name = text(&kustomization["metadata"]["name"]);
        if name == OPERATOR {
            cluster.apply_files(&files(&["flux/operator.yaml"]));
            let releases = cluster.list("helmreleases.helm.toolkit.fluxcd.io", OPERATOR);
            cluster.install(OPERATOR, &releases[0]["spec"]["values"]);
        } else {
            cluster.take_number(text(&kustomization["spec"]["targetNamespace"]));
        }
        done.push(name.to_owned());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_kustomize() {
    let cluster = Cluster::new().await;
    let overlay = Path::new(env!("CARGO_MANIFEST_DIR")).join("kustomize/example");
    let overlay = overlay.to_str().expect("a path that is text");
    cluster.kubectl(&["apply", "--server-side", "--kustomize", overlay], "");
    let served = [
        "wait",
        "crd",
        "--all",
        "--for=condition=Established",
        "--timeout=60s",
    ];
    cluster.kubectl(&served, "");
    cluster.take_number("messaging");
}

/// What fills the Secrets, and what looks at images, on a cluster that has the operator.
#[tokio::test(flavor = "multi_thread")]
async fn beside_the_operator() {
    let cluster = Cluster::new().await;
    cluster.has("external-secrets", &["external-secrets", "kyverno"]);
    cluster.kubectl(&["create", "namespace", OPERATOR], "");
    cluster.install(OPERATOR, &json!({}));
    cluster.apply_files(&files(&["kyverno/verify-image.yaml"]));
    cluster.apply_files(&files(&[
        "external-secrets/token.yaml",
        "external-secrets/number.yaml",
    ]));
}

/// Without what comes before, the operator's release would fail: what the tests above do proves something.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_namespace_of_the_numbers_it_fails() {
    let cluster = Cluster::new().await;
    cluster.kubectl(&["create", "namespace", OPERATOR], "");
    let values = &yaml("argo-cd/operator.yaml")[0]["spec"]["source"]["helm"]["valuesObject"];
    let watched = text(&values["watchNamespaces"][0]);
    let set = format!("--set=watchNamespaces={{{watched}}}");
    let chart = crate::chart::helm::chart();
    let chart = chart.to_str().expect("a path that is text");
    let objects = Helm::alone().run(&["template", OPERATOR, chart, &set]);
    let refusal = cluster
        .apply(None, &objects)
        .expect_err("a namespace is missing");
    assert!(
        refusal.contains(&format!("namespaces \"{watched}\" not found")),
        "{refusal}"
    );
}
