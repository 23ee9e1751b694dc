//! Values that are wrong are refused before anything is installed, with words that help.

use super::helm::{Helm, chart};

/// What is set, and what the refusal must say.
const REFUSED: &[(&str, &str)] = &[
    ("replicas=2", "replicas"),
    ("image.repo=x", "repo"),
    ("replicaCount=-1", "replicaCount"),
    ("replicaCount=two", "replicaCount"),
    ("image.digest=abc", "digest"),
    ("image.pullPolicy=Sometimes", "pullPolicy"),
    ("watchNamespaces=payments", "watchNamespaces"),
    ("watchNamespaces={Not_A_Name}", "watchNamespaces"),
    ("secretWatch=maybe", "secretWatch"),
    ("concurrency=0", "concurrency"),
    ("concurrency=1001", "concurrency"),
    ("attemptLimit=0", "attemptLimit"),
    ("attemptLimit=11", "attemptLimit"),
    ("retryBase=soon", "retryBase"),
    ("retryBase=0s", "retryBase"),
    ("retryBase=19h", "retryCap"),
    ("confirmWindow=100h", "confirmWindow"),
    ("graph.apiVersion=23", "apiVersion"),
    ("graph.baseUrl=graph.facebook.com", "baseUrl"),
    (
        "graph.baseUrl=http://graph.example.com",
        "graph.allowInsecure=true",
    ),
    ("graph.baseUrl=null", "graph.baseUrl is null"),
    ("metrics.perNumber=null", "metrics.perNumber is null"),
    (
        "deregistration.deadline=null",
        "deregistration.deadline is null",
    ),
    ("observeInterval=daily", "observeInterval"),
    ("graph.timeoutSeconds=0", "timeoutSeconds"),
    ("graph.timeoutSeconds=601", "timeoutSeconds"),
    ("graph.timeoutSeconds=30s", "timeoutSeconds"),
    ("graph.caBundle=text", "caBundle"),
    ("logging.format=xml", "format"),
    (
        "terminationGracePeriodSeconds=-1",
        "terminationGracePeriodSeconds",
    ),
    ("crds.enabled=1", "crds"),
    ("serviceAccount.automount=true", "automount"),
    (
        "podDisruptionBudget.unhealthyPodEvictionPolicy=Never",
        "unhealthyPodEvictionPolicy",
    ),
    (
        "podDisruptionBudget.minAvailable=1,podDisruptionBudget.maxUnavailable=1",
        "allows one of them",
    ),
    (
        "metrics.service.enabled=false,metrics.serviceMonitor.enabled=true",
        "metrics.podMonitor",
    ),
    ("metrics.perNumber=some", "perNumber"),
    ("metrics.service.port=0", "port"),
    ("metrics.serviceMonitor.interval=often", "interval"),
    (
        "admissionPolicy.validationActions={Shout}",
        "validationActions",
    ),
    ("image.repository=a/b:0.1", "repository"),
    (
        "image.repository=ghcr.io/a/b",
        "Write it into image.registry, and only the rest, a/b",
    ),
    ("image.registry=https://ghcr.io", "registry"),
    ("global.imageRegistry=ghcr.io/", "imageRegistry"),
    ("crds.annotations.a=1", "annotations"),
    ("hostUsers=no", "hostUsers"),
    ("extraContainers[0].name=a", "image"),
    ("podSpec.containers={}", "extraContainers"),
    ("metrics.podMonitor.renderMode=never", "renderMode"),
    (
        "metrics.podMonitor.enabled=true,metrics.podMonitor.renderMode=failIfMissing",
        "does not know the kind PodMonitor",
    ),
    (
        "metrics.prometheusRule.overrides.WhatsAppOperatorDown.expr=1",
        "expr",
    ),
    (
        "admissionPolicy.allowedPhoneNumberIDs.validationActions={Warn,Deny}",
        "validationActions",
    ),
    ("image.repository=https://a/b", "repository"),
    ("watchNamespaces={a,a}", "watchNamespaces"),
    ("selector=shard in a", "not a label selector"),
    ("retryBase=1d", "retryBase"),
    ("retryCap=10s", "retryCap"),
    ("graph.baseUrl=https://u:p@graph.example.com", "no user"),
    ("graph.baseUrl=https://graph.example.com?x=1", "no query"),
    (
        "graph.baseUrl=http://localhost.example.com",
        "graph.allowInsecure=true",
    ),
    (
        "https_proxy=proxy.example.com",
        "https_proxy cannot be used",
    ),
    ("https_proxy=socks5://proxy", "https_proxy cannot be used"),
    ("http_proxy=http://proxy/path", "http_proxy cannot be used"),
    (
        "https_proxy=http://u:p@proxy:3128",
        "HTTPS_PROXY by extraEnv",
    ),
    ("http_proxy=http://u@proxy", "HTTP_PROXY by extraEnv"),
    (
        "strategy.rollingUpdate.maxSurge=0",
        "maxSurge and maxUnavailable at 0",
    ),
    (
        "strategy.rollingUpdate.maxSurge=0%,strategy.rollingUpdate.maxUnavailable=0%",
        "maxSurge and maxUnavailable at 0",
    ),
    ("logging.level=verbose", "logging.level"),
    ("livenessProbe.host=x", "livenessProbe"),
    ("serviceAccount.create=false", "serviceAccount.name"),
    (
        "admissionPolicy.validationActions={Warn,Deny}",
        "validationActions",
    ),
    ("fullnameOverride=1a", "fullnameOverride"),
];

/// Values of which the refusal must not repeat the password.
const WITH_PASSWORD: &[&str] = &[
    "graph.baseUrl=https://user:hunter2@graph.example.com",
    "graph.baseUrl=user:hunter2 @graph.example.com",
    "http_proxy=http://user:hunter2@proxy.example.com:3128",
    "https_proxy=https://user:hunter2@proxy.example.com",
    "https_proxy=http://user:hunter2%zz@proxy.example.com",
    "https_proxy=user:hunter2@proxy.example.com:3128",
    "https_proxy=user:hunter2:proxy.example.com:3128",
    "https_proxy=http:// hunter2",
    "https_proxy={hunter2}",
];

/// What an umbrella chart may set.
const TAKEN: &[&str] = &[
    "enabled=true",
    "global.anything.below=1",
    "global.imageRegistry=registry.example.com:5000/mirror",
    "global.imageRegistry=null",
    "global.imagePullSecrets[0].name=registry",
    "global.imagePullSecrets[0]=registry",
    "global.commonLabels.team=payments",
    "graph.baseUrl=http://127.0.0.1:8090",
    "graph.baseUrl=http://simulator:8090,graph.allowInsecure=true",
    "https_proxy=http://proxy.example.com:3128,http_proxy=https://proxy/",
    "https_proxy=null",
    "strategy.type=Recreate,strategy.rollingUpdate.maxSurge=0",
    "strategy.rollingUpdate.maxSurge=0,strategy.rollingUpdate.maxUnavailable=1",
    "strategy.rollingUpdate.maxSurge=0,strategy.rollingUpdate.maxUnavailable=null",
    "selector=shard!=b",
    "terminationGracePeriodSeconds=null",
    "nodeSelector.pool=small",
    "hostUsers=false",
    "podSpec.activeDeadlineSeconds=null",
    "image.registry=,image.repository=whatsapp-operator",
    "podAnnotations.example\\.com/a=b",
];

/// What is set, and what the notes then warn of.
const WARNED: &[(&str, &str)] = &[
    ("graph.allowInsecure=true", "may travel unencrypted"),
    ("replicaCount=0", "nothing is registered until it is raised"),
    ("replicaCount=1", "There is one replica"),
    (
        "replicaCount=2,leaderElection.enabled=false",
        "all of them reconcile every number",
    ),
    ("replicaCount=2", "may evict all replicas at once"),
    (
        "podDisruptionBudget.enabled=true,podDisruptionBudget.minAvailable=1",
        "minAvailable=1 with replicaCount=1: no node with the operator can be drained",
    ),
    (
        "replicaCount=2,podDisruptionBudget.enabled=true,podDisruptionBudget.minAvailable=2",
        "minAvailable=2 with replicaCount=2: no node with the operator can be drained",
    ),
    (
        "replicaCount=2,podDisruptionBudget.enabled=true,podDisruptionBudget.minAvailable=51%",
        "minAvailable=51% with replicaCount=2: no node with the operator can be drained",
    ),
    (
        "replicaCount=2,podDisruptionBudget.enabled=true,podDisruptionBudget.minAvailable=100%",
        "minAvailable=100% with replicaCount=2: no node with the operator can be drained",
    ),
    (
        "replicaCount=2,podDisruptionBudget.enabled=true,podDisruptionBudget.maxUnavailable=0",
        "maxUnavailable=0 with replicaCount=2: no node with the operator can be drained",
    ),
    (
        "replicaCount=2,podDisruptionBudget.enabled=true,podDisruptionBudget.maxUnavailable=0%",
        "maxUnavailable=0% with replicaCount=2: no node with the operator can be drained",
    ),
    (
        "terminationGracePeriodSeconds=59",
        "shorter than twice graph.timeoutSeconds, 30: a stopped pod can lose the answer",
    ),
    (
        "metrics.prometheusRule.enabled=true,metrics.perNumber=none",
        "alerts about numbers never fire",
    ),
    (
        "selector=shard=a",
        "releases do not see each other's resources",
    ),
    (
        "watchNamespaces={a}",
        "releases do not see each other's resources",
    ),
    (
        "crds.enabled=false",
        "install the CRD separately, in this version",
    ),
    ("crds.keep=false", "their ledgers are lost"),
    ("rbac.create=false", "give the ServiceAccount"),
    (
        "metrics.serviceMonitor.enabled=true,metrics.podMonitor.enabled=true",
        "scrapes every pod twice",
    ),
    (
        "deregistration.enabled=true",
        "can take its number off the air",
    ),
    (
        "deregistration.enabled=true",
        "helm upgrade test CHART --namespace default --reset-then-reuse-values --set deregistration.enabled=false",
    ),
    (
        "watchNamespaces={a},rbac.removeFinalizers=false",
        "can stay Terminating",
    ),
    ("rbac.readCRD=false", "Deleting the CRD takes every number"),
    (
        "metrics.podMonitor.enabled=true,metrics.podMonitor.renderMode=skipIfMissing",
        "metrics.podMonitor is left out: the cluster does not know the kind PodMonitor",
    ),
    (
        "admissionPolicy.allowedPhoneNumberIDs.enabled=true",
        "kubectl annotate namespace NAMESPACE --overwrite whatsapp-operator.dev/allowed-phone-number-ids",
    ),
];

/// What a release with two replicas is installed with, so that there is nothing to warn of.
const CALM: &str = "replicaCount=2,podDisruptionBudget.enabled=true,deregistration.enabled=false";

/// What else there is nothing to warn of, besides that.
const CALM_TOO: &[&str] = &[
    "podDisruptionBudget.minAvailable=1",
    "podDisruptionBudget.minAvailable=50%",
    "podDisruptionBudget.minAvailable=0",
    "podDisruptionBudget.maxUnavailable=1%",
    "podDisruptionBudget.maxUnavailable=2",
    "terminationGracePeriodSeconds=60",
    "graph.timeoutSeconds=600",
    "metrics.prometheusRule.enabled=true,metrics.perNumber=unregistered",
    "metrics.perNumber=none",
];

#[test]
fn wrong_values_are_refused() {
    let (helm, chart) = (Helm::alone(), chart());
    let chart = chart.to_str().expect("a path that is text");
    for (set, expected) in REFUSED {
        let said = helm.refuse(&["template", "test", chart, "--set", set]);
        assert!(said.contains(expected), "{set}: {said}");
    }
}

#[test]
fn a_refusal_does_not_repeat_a_password() {
    let (helm, chart) = (Helm::alone(), chart());
    let chart = chart.to_str().expect("a path that is text");
    for set in WITH_PASSWORD {
        // With a network policy the URL is also taken apart.
        let more = "--set=networkPolicy.enabled=true";
        let said = helm.refuse(&["template", "test", chart, more, "--set", set]);
        assert!(!said.contains("hunter2"), "{set}: {said}");
    }
}

#[test]
fn what_a_parent_chart_sets_is_taken() {
    let helm = Helm::alone();
    for set in TAKEN {
        helm.render("test", "test", &["--set", set]);
    }
}

#[test]
fn the_notes_warn_of_what_may_surprise() {
    let calm = notes(CALM);
    for (set, expected) in WARNED {
        let said = notes(set);
        assert!(said.contains(expected), "{set}: {said}");
        assert!(!calm.contains(expected), "without {set}: {calm}");
    }
    assert!(!calm.contains("Please note"), "{calm}");
    for set in CALM_TOO {
        let said = notes(&format!("{CALM},{set}"));
        assert!(!said.contains("Please note"), "{set}: {said}");
    }
}

#[test]
fn a_pod_has_time_for_the_claim_the_call_and_the_record() {
    for (timeout, grace) in [(1, 32), (30, 90), (600, 1230)] {
        let set = format!("--set=graph.timeoutSeconds={timeout}");
        let objects = Helm::alone().render("test", "test", &[&set]);
        let deployment = super::helm::only(&objects, "Deployment");
        let pod = &deployment.data["spec"]["template"]["spec"];
        assert_eq!(pod["terminationGracePeriodSeconds"], grace);
    }
}

/// The notes after an installation, in one line.
fn notes(set: &str) -> String {
    let chart = chart();
    let chart = chart.to_str().expect("a path that is text");
    let said = Helm::alone().run(&["install", "test", chart, "--dry-run=client", "--set", set]);
    let (_, notes) = said.split_once("NOTES:").expect("there are notes");
    notes.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_setting_of_the_operator_has_a_value() {
    let flags = [
        "--set=watchNamespaces={a}",
        "--set=selector=shard=a",
        "--set=leaderElection.enabled=true",
    ];
    let objects = Helm::alone().render("test", "test", &flags);
    let deployment = super::helm::only(&objects, "Deployment");
    let env = &deployment.data["spec"]["template"]["spec"]["containers"][0]["env"];
    let env = env.as_array().expect("variables").iter();
    let mut named: Vec<_> = env
        .filter_map(|variable| variable["name"].as_str())
        .collect();
    // Every pod binds to the port that its probes and its Service know.
    named.push("BIND_ADDRESS");
    named.sort_unstable();
    let flags = crate::docs::flags();
    let mut known: Vec<_> = flags
        .iter()
        .filter_map(|flag| flag.get_env()?.to_str())
        .collect();
    known.sort_unstable();
    assert_eq!(named, known);
}
