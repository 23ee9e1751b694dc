//! The examples: of kinds that exist, taken by the API server, and complete in themselves.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};

use super::{Tested, directory, yaml};
use crate::chart::helm::{Helm, kind};
use testkit::bed::Bed;

/// Directories in which every number finds its Secrets.
const COMPLETE: [&str; 2] = ["external-secrets", "sops"];

/// The files below a directory of the examples that hold objects, but for what tests of Argo CD's hold.
fn files(below: &str) -> Vec<String> {
    let mut pending: Vec<PathBuf> = vec![directory().join(below)];
    let mut files = Vec::new();
    while let Some(path) = pending.pop() {
        for entry in path.read_dir().expect("a directory") {
            let path = entry.expect("an entry").path();
            let hidden = path
                .file_name()
                .is_none_or(|name| name.as_encoded_bytes()[0] == b'.');
            if path.is_dir() {
                pending.push(path);
            } else if !hidden && path.extension() == Some("yaml".as_ref()) {
                let path = path.strip_prefix(directory()).expect("a file below");
                files.push(path.to_str().expect("a path in ASCII").to_owned());
            }
        }
    }
    files.retain(|file| !Path::new(file).starts_with("argo-cd/resource_customizations"));
    files.sort();
    files
}

/// An object as the API server would store it, which must know every field.
fn stored(bed: &Bed, object: &Value) -> Value {
    let mut object = object.clone();
    // These two are of the whole cluster.
    if object["kind"] != "Namespace" && object["kind"] != "ImageValidatingPolicy" {
        object["metadata"]["namespace"] = json!(bed.namespace);
    }
    let mut command = bed.control_plane.kubectl();
    command.args([
        "apply",
        "--server-side",
        "--dry-run=server",
        "--validate=strict",
    ]);
    command.args(["--output=json", "--filename=-"]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut kubectl = command.spawn().expect("kubectl starts");
    let mut stdin = kubectl.stdin.take().expect("the input is piped");
    stdin
        .write_all(object.to_string().as_bytes())
        .expect("kubectl reads");
    drop(stdin);
    let output = kubectl.wait_with_output().expect("kubectl ends");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && error.is_empty(),
        "{error}: {object}"
    );
    serde_json::from_slice(&output.stdout).expect("kubectl prints JSON")
}

/// A control plane of its own, which knows the kinds of all the projects that there are examples for.
async fn with_every_kind() -> Bed {
    let control_plane = testkit::start_with_crd().await.expect("a control plane");
    let bed = Bed::on(Box::leak(Box::new(control_plane))).await;
    let definitions = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gitops/definitions");
    let definitions = definitions.to_str().expect("a path in ASCII");
    bed.kubectl(&["apply", "--server-side", "--filename", definitions]);
    let served = ["--for=condition=Established", "--timeout=60s"];
    bed.kubectl(&[&["wait", "crd", "--all"], &served[..]].concat());
    bed
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_is_taken() {
    let bed = with_every_kind().await;
    let mut kinds = BTreeSet::new();
    for file in files("") {
        for object in yaml(&file) {
            let stored = stored(&bed, &object);
            kinds.insert(stored["apiVersion"].as_str().unwrap_or_default().to_owned());
        }
    }
    for group in [
        "argoproj.io",
        "toolkit.fluxcd.io",
        "external-secrets.io",
        "kyverno.io",
    ] {
        assert!(
            kinds.iter().any(|kind| kind.contains(group)),
            "{group}: {kinds:?}"
        );
    }
}

/// A key of a Secret, as `name/key`.
fn key(secret: &Value, key: &Value) -> String {
    format!(
        "{}/{}",
        secret.as_str().unwrap_or_default(),
        key.as_str().unwrap_or_default()
    )
}

/// The keys of Secrets that an object brings about.
fn made(object: &Value) -> Vec<String> {
    if object["kind"] == "ExternalSecret" {
        let entries = object["spec"]["data"].as_array().into_iter().flatten();
        let target = &object["spec"]["target"]["name"];
        return entries
            .map(|entry| key(target, &entry["secretKey"]))
            .collect();
    }
    if object["kind"] != "Secret" {
        return Vec::new();
    }
    let values = object["stringData"].as_object().into_iter().flatten();
    values
        .map(|(name, _)| key(&object["metadata"]["name"], &json!(name)))
        .collect()
}

/// The keys of Secrets that a number needs, with the defaults of the API server.
fn needed(number: &Value) -> Vec<String> {
    let spec = &number["spec"];
    let one = ["tokenSecretRef", "pinSecretRef", "appSecretRef"].map(|field| (field, "key"));
    let two = ["passwordKey", "dataKey"].map(|key| ("backupSecretRef", key));
    let references = one.into_iter().chain(two);
    references
        .map(|(field, name)| (&spec[field], name))
        .filter(|(reference, _)| reference.is_object())
        .map(|(reference, name)| key(&reference["name"], &reference[name]))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_number_of_the_examples_finds_its_secrets() {
    let bed = Bed::new().await;
    for directory in COMPLETE {
        let objects: Vec<Value> = files(directory)
            .iter()
            .flat_map(|file| yaml(file))
            .collect();
        let made: BTreeSet<String> = objects.iter().flat_map(made).collect();
        let numbers = objects
            .iter()
            .filter(|object| object["kind"] == "WhatsAppPhoneNumber");
        let needed: BTreeSet<String> = numbers
            .flat_map(|number| needed(&stored(&bed, number)))
            .collect();
        assert!(!needed.is_empty(), "{directory} has a number");
        assert_eq!(
            needed, made,
            "{directory}: what is needed, and what is made"
        );
    }
}

/// The chart refuses values that it does not know.
#[test]
fn the_values_of_the_examples_fit_the_chart() -> Tested {
    let application = yaml("argo-cd/operator.yaml").remove(0);
    let mut objects = yaml("flux/operator.yaml").into_iter();
    let release = objects.rfind(|object| object["kind"] == "HelmRelease");
    let values = [
        application["spec"]["source"]["helm"]["valuesObject"].clone(),
        release.ok_or("no HelmRelease")?["spec"]["values"].clone(),
    ];
    for values in values {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), values.to_string())?;
        let file = file.path().to_str().ok_or("a path in ASCII")?;
        let objects = Helm::alone().render("operator", "operator", &["--values", file]);
        let made: Vec<&str> = objects.iter().map(kind).collect();
        assert!(made.contains(&"PodDisruptionBudget"), "{made:?}");
        let grants = objects
            .iter()
            .filter(|object| kind(object) == "RoleBinding");
        let namespaces: Vec<_> = grants
            .filter_map(|grant| grant.metadata.namespace.as_deref())
            .collect();
        assert!(namespaces.contains(&"messaging"), "{namespaces:?}");
    }
    Ok(())
}

/// Only what is a Secret's value is encrypted, and the rule finds the file.
#[test]
fn the_rule_for_sops_fits_its_secret() -> Tested {
    let rule = yaml("sops/.sops.yaml").remove(0)["creation_rules"][0].take();
    let pattern = |field: &str| {
        let text = rule[field].as_str().unwrap_or_default();
        regex::Regex::new(text)
    };
    let (path, encrypted) = (pattern("path_regex")?, pattern("encrypted_regex")?);
    let secrets = files("sops").into_iter().filter(|file| path.is_match(file));
    let secrets: Vec<String> = secrets.collect();
    assert_eq!(secrets, ["sops/number.secret.yaml"]);
    for secret in yaml(&secrets[0]) {
        let fields = secret.as_object().ok_or("no object")?.keys();
        let hidden: Vec<_> = fields.filter(|field| encrypted.is_match(field)).collect();
        assert_eq!(hidden, ["stringData"]);
    }
    Ok(())
}
