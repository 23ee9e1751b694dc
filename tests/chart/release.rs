//! A release on the API server. There is no node, so its pod does not start; what the pod would run is run here: the
//! operator's program with the pod's environment and arguments, and the rights of its ServiceAccount.

use std::collections::BTreeSet;

use kube::core::DynamicObject;
use tempfile::TempDir;

use super::helm::{Helm, chart, kind, objects, only};
use testkit::bed::Bed;
use testkit::control_plane::{audit, service_account_token};
use testkit::operator::Operator;

/// A verb on a resource of an API group, with its subresource.
pub type Right = (String, String, String);

/// Where the pod has its files.
const MOUNT: &str = "/etc/whatsapp-operator/ca";

/// An installed release.
pub struct Release<'a> {
    bed: &'a Bed,
    objects: Vec<DynamicObject>,
    files: TempDir,
}

impl<'a> Release<'a> {
    /// Installs the chart into the bed's namespace, with short waits and the bed's simulator.
    pub fn install(bed: &'a Bed, flags: &[&str]) -> Self {
        let helm = Helm::on(bed.kubeconfig.clone());
        let chart = chart();
        let chart = chart.to_str().expect("a path that is text");
        let graph = format!("graph.baseUrl={}", bed.simulator.base_url());
        let fixed = [
            "install",
            "release",
            chart,
            "--namespace",
            &bed.namespace,
            "--set",
            // The tests share one definition.
            "crds.enabled=false,retryBase=1s,retryCap=4s,confirmWindow=3s,graph.timeoutSeconds=10,logging.level=debug",
            "--set",
            &graph,
        ];
        helm.run(&[&fixed, flags].concat());
        let manifest = helm.run(&["get", "manifest", "release", "--namespace", &bed.namespace]);
        let objects = objects(&manifest);
        Self {
            bed,
            files: files(&objects),
            objects,
        }
    }

    /// Starts what the pod would run.
    pub async fn start(&self) -> Operator {
        let container = &self.pod()["containers"][0];
        let variables = container["env"].as_array().expect("an environment").iter();
        let environment: Vec<_> = variables
            .map(|variable| {
                let value =
                    text(&variable["value"]).replace(MOUNT, &self.files.path().to_string_lossy());
                format!("{}={value}", text(&variable["name"]))
            })
            .collect();
        let environment: Vec<_> = environment.iter().map(String::as_str).collect();
        let arguments = container["args"].as_array().expect("arguments").iter();
        let mut arguments: Vec<_> = arguments.skip(1).map(|a| text(a).to_owned()).collect();
        // All tests run on one machine.
        arguments.push("--bind-address=127.0.0.1:0".to_owned());
        let token = service_account_token(&self.bed.client, &self.bed.namespace, self.account());
        let token = token
            .await
            .expect("the chart's ServiceAccount gets a token");
        let kubeconfig = self.bed.control_plane.kubeconfig_for_token(&token);
        let kubeconfig = kubeconfig.expect("a kubeconfig");
        Operator::start_in(&kubeconfig, &environment, &arguments).await
    }

    /// What the roles that are bound to the operator grant.
    pub fn granted(&self) -> BTreeSet<Right> {
        let bound: Vec<_> = self
            .objects
            .iter()
            .filter(|object| kind(object).ends_with("RoleBinding"))
            .map(|binding| text(&binding.data["roleRef"]["name"]))
            .collect();
        let roles = self.objects.iter().filter(|object| {
            let name = object.metadata.name.as_deref().unwrap_or_default();
            ["Role", "ClusterRole"].contains(&kind(object)) && bound.contains(&name)
        });
        let rules = roles.flat_map(|role| role.data["rules"].as_array().expect("rules"));
        rules.flat_map(rights).collect()
    }

    /// What the operator has asked for so far.
    pub fn asked(&self) -> Vec<audit::Request> {
        let control_plane = self.bed.control_plane;
        let requests = control_plane.requests_of(&self.bed.namespace, self.account());
        requests.expect("the audit log can be read")
    }

    /// The kinds of what was installed.
    pub fn kinds(&self) -> BTreeSet<&str> {
        self.objects.iter().map(kind).collect()
    }

    fn account(&self) -> &str {
        text(&self.pod()["serviceAccountName"])
    }

    fn pod(&self) -> &serde_json::Value {
        &only(&self.objects, "Deployment").data["spec"]["template"]["spec"]
    }
}

/// What the pod has mounted, in a directory.
fn files(objects: &[DynamicObject]) -> TempDir {
    let directory = TempDir::new().expect("a directory");
    let maps = objects.iter().filter(|object| kind(object) == "ConfigMap");
    for (name, content) in maps.flat_map(|map| map.data["data"].as_object().expect("data")) {
        std::fs::write(directory.path().join(name), text(content)).expect("a file");
    }
    directory
}

/// Each verb on each resource of a rule.
fn rights(rule: &serde_json::Value) -> Vec<Right> {
    let list = |name: &str| -> Vec<String> {
        let items = rule[name].as_array().expect("a list").iter();
        items.map(|item| text(item).to_owned()).collect()
    };
    let mut rights = Vec::new();
    for group in list("apiGroups") {
        for resource in list("resources") {
            for verb in list("verbs") {
                rights.push((group.clone(), resource.clone(), verb));
            }
        }
    }
    rights
}

fn text(value: &serde_json::Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
}
