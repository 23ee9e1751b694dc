//! `examples/try/` and `examples/manifests/`: taken by the API server, sound in themselves, and numbers end as the README says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use operator_core::api::conditions;
use serde_json::{Value, json};

use crate::chart::helm::{Helm, only};
use crate::docs::markdown::{code_spans, table};
use testkit::bed::Bed;
use testkit::operator::Operator;
use testkit::simulator::numbers_from_yaml;

/// The name of the Deployment, the Service and the volume's ConfigMap before its suffix.
const SIMULATOR: &str = "graph-simulator";

fn path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(file: &str) -> String {
    std::fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Runs kubectl in the bed's namespace on a path of the repository; returns what it said, on both ways out.
fn kubectl(bed: &Bed, args: &[&str], file: &str) -> String {
    let file = path(file);
    bed.kubectl(&[args, &[file.to_str().expect("a path in ASCII")]].concat())
}

/// The environment that the chart gives the operator with the example's values.
fn environment(namespace: &str) -> BTreeMap<String, String> {
    let values = path("examples/try/values.yaml");
    let flags = ["--values", values.to_str().expect("a path in ASCII")];
    let objects = Helm::alone().render("whatsapp-operator", namespace, &flags);
    let deployment = only(&objects, "Deployment");
    let variables = deployment.data["spec"]["template"]["spec"]["containers"][0]["env"].as_array();
    let variables = variables.expect("the container has variables").iter();
    let given = variables.filter_map(|variable| {
        let text = |key: &str| variable[key].as_str().map(str::to_owned);
        Some((text("name")?, text("value")?))
    });
    given.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_simulator_is_taken_and_reads_what_it_is_given() {
    let bed = Bed::new().await;
    let warn = "pod-security.kubernetes.io/warn";
    let labels = Patch::Merge(json!({"metadata": {"labels": {warn: "restricted"}}}));
    Api::<Namespace>::all(bed.client.clone())
        .patch(&bed.namespace, &PatchParams::default(), &labels)
        .await
        .expect("a label");
    let args = ["apply", "--server-side", "--validate=strict", "-k"];
    let said = kubectl(&bed, &args, "examples/try");
    assert!(!said.contains("Warning"), "{said}");

    let deployment = bed.api::<Deployment>().get(SIMULATOR).await;
    let pods = deployment.expect("the Deployment").spec;
    let pod = pods.template.spec.expect("a spec");
    let container = &pod.containers[0];
    let version = env!("CARGO_PKG_VERSION");
    let image = format!("ghcr.io/whatsapp-operator/graph-simulator:{version}");
    assert_eq!(container.image.as_deref(), Some(image.as_str()));

    // The file that it is told to read is in the volume.
    let args = container.args.as_deref().unwrap_or_default();
    let file = args.iter().find_map(|arg| arg.strip_prefix("--numbers="));
    let (directory, file) = file.and_then(|file| file.rsplit_once('/')).expect("a file");
    let mount = &container.volume_mounts.as_deref().unwrap_or_default()[0];
    assert_eq!(mount.mount_path, directory);
    let volume = &pod.volumes.as_deref().unwrap_or_default()[0];
    assert_eq!(volume.name, mount.name);
    let source = volume.config_map.as_ref().expect("a ConfigMap");
    let numbers = bed.api::<ConfigMap>().get(&source.name).await;
    let numbers = numbers.expect("kustomize gives both the same name").data;
    let numbers = numbers_from_yaml(&numbers.unwrap_or_default()[file]);
    assert_eq!(numbers.expect("numbers").len(), 10);

    // The operator finds it by the name of the Service.
    let service = bed.api::<Service>().get(SIMULATOR).await;
    let service = service.expect("the Service").spec.expect("a spec");
    let labels = pods.template.metadata.and_then(|pod| pod.labels);
    assert_eq!(service.selector, labels);
    let port = service.ports.as_deref().unwrap_or_default()[0].port;
    let environment = environment(&bed.namespace);
    assert_eq!(
        environment["GRAPH_BASE_URL"],
        format!("http://{SIMULATOR}:{port}")
    );
    let bind = format!("--bind=0.0.0.0:{port}");
    assert!(args.contains(&bind), "{args:?}");

    // The probe asks for what there is.
    let probe = container.readiness_probe.as_ref();
    let probe = probe.and_then(|probe| probe.http_get.as_ref());
    let probed = probe.and_then(|get| get.path.clone()).expect("a path");
    let answer = reqwest::get(format!("{}{probed}", bed.simulator.base_url())).await;
    assert!(answer.expect("an answer").status().is_success());
}

/// What the README of the example says that becomes of each number: its reason.
fn promised() -> BTreeMap<String, String> {
    let readme = text("examples/try/README.md");
    let rows = table(&readme, "number");
    let rows = rows.iter().map(|row| {
        let name = code_spans(row["number"])[0].to_owned();
        (name, code_spans(row["ends as"])[0].to_owned())
    });
    rows.collect()
}

/// The reason of `Ready` for each number.
async fn found(bed: &Bed) -> BTreeMap<String, String> {
    let numbers = bed.numbers().list(&ListParams::default()).await;
    let reasons = numbers.expect("a list").items.into_iter().map(|number| {
        let status = number.status.clone().unwrap_or_default();
        let ready = conditions::find(&status, conditions::READY);
        let reason = ready.map(|ready| ready.reason.clone());
        (number.name_any(), reason.unwrap_or_default())
    });
    reasons.collect()
}

async fn until_found(bed: &Bed, wanted: &BTreeMap<String, String>) {
    let deadline = tokio::time::Instant::now() + testkit::bed::DEADLINE;
    while found(bed).await != *wanted {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{:#?} instead of {wanted:#?}",
            found(bed).await
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The commands in the README's section `## Next steps` that change something, without the prompt.
fn commands() -> Vec<String> {
    let readme = text("examples/try/README.md");
    let (_, section) = readme.split_once("## Next steps").expect("the section");
    let lines = section.lines().take_while(|line| !line.starts_with("## "));
    let commands = lines.filter_map(|line| line.strip_prefix("$ "));
    let changes = [" apply ", " patch ", " replace ", " delete "];
    commands
        .filter(|command| changes.iter().any(|verb| command.contains(verb)))
        .map(str::to_owned)
        .collect()
}

/// Tells the simulator what `kubectl replace --raw PATH --filename FILE` would tell it through the API server's proxy, if that is what
/// the command does. Here it is behind no Service.
async fn tell_simulator(bed: &Bed, command: &str) -> bool {
    let Some(rest) = command.strip_prefix("kubectl replace --raw ") else {
        return false;
    };
    let (proxied, file) = rest.split_once(" --filename ").expect("a file");
    let (_, of_simulator) = proxied.split_once("/proxy/").expect("the proxy");
    let url = format!(
        "{}/{}",
        bed.simulator.base_url(),
        of_simulator.trim_matches('"')
    );
    let answer = reqwest::Client::new()
        .put(url)
        .body(text(file))
        .send()
        .await;
    assert!(
        answer.expect("an answer").status().is_success(),
        "{command}"
    );
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn the_numbers_end_as_the_readme_says() {
    let bed = Bed::new().await;
    let numbers = numbers_from_yaml(&text("examples/try/numbers.yaml")).expect("numbers");
    for (id, number) in &numbers {
        bed.simulator.set(id, number.clone());
    }
    let environment = environment(&bed.namespace);
    let environment: Vec<_> = environment
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let environment: Vec<_> = environment.iter().map(String::as_str).collect();
    // The chart's settings, but for what a pod has and a process on this machine has not.
    let args = [
        format!("--graph-base-url={}", bed.simulator.base_url()),
        format!("--watch-namespace={}", bed.namespace),
        "--bind-address=127.0.0.1:0".to_owned(),
        "--leader-elect=false".to_owned(),
    ];
    let _operator = Operator::start_in(&bed.kubeconfig, &environment, &args).await;
    kubectl(&bed, &["apply", "-k"], "examples/manifests");
    let mut wanted = promised();
    assert_eq!(wanted.len(), 10);
    until_found(&bed, &wanted).await;

    // What the README goes on with, as a shell runs it.
    let kubectl = bed.control_plane.kubectl();
    let commands = commands();
    assert_eq!(commands.len(), 5, "{commands:?}");
    for command in commands {
        if tell_simulator(&bed, &command).await {
            continue;
        }
        let alias = format!(
            "kubectl() {{ '{}' --namespace '{}' \"$@\"; }}; {command}",
            kubectl.get_program().display(),
            bed.namespace
        );
        let mut shell = Command::new("sh");
        shell.args(["-euc", &alias]).current_dir(path("."));
        for (name, value) in kubectl.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let output = shell.output().expect("a shell");
        assert!(output.status.success(), "{command}: {output:?}");
    }
    for name in ["late-secret", "wrong-pin", "suspended"] {
        wanted.insert(name.to_owned(), "RegistrationSucceeded".to_owned());
    }
    wanted.insert("lost-number".to_owned(), "RegistrationLost".to_owned());
    wanted.remove("leaving-number");
    until_found(&bed, &wanted).await;
    let totals = bed.simulator.totals().counts;
    assert_eq!(totals.deregister_calls, 1);
    assert_eq!(totals.register_calls_while_registered, 0);
    assert!(bed.simulator.violations().is_empty());
}

#[test]
fn both_ways_to_apply_the_numbers_are_of_the_same_files() {
    let kustomization: Value =
        serde_norway::from_str(&text("examples/manifests/Kustomization")).expect("YAML");
    let listed = kustomization["resources"].as_array().into_iter().flatten();
    let listed: Vec<_> = listed.filter_map(Value::as_str).collect();
    let files = path("examples/manifests").read_dir().expect("a directory");
    let mut files: Vec<_> = files
        .map(|file| {
            file.expect("a file")
                .file_name()
                .into_string()
                .expect("ASCII")
        })
        .filter(|file| file.ends_with(".yaml"))
        .collect();
    files.sort();
    assert_eq!(listed, files);
}
