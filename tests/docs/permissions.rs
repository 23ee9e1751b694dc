//! The documented permissions are enough: the operator's program, with them and no others, does the main job.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding};
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::markdown::{code_spans, table};
use super::text;
use testkit::bed::{Bed, message};
use testkit::control_plane::service_account_token;
use testkit::operator::Operator;

/// The name of everything that is made here.
const NAME: &str = "operator";

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_permissions_are_enough() {
    let bed = Bed::new().await;
    let lease = format!("--lease-namespace={}", bed.namespace);
    let operator = operator_with(&bed, rules(), &["--leader-elect=true", &lease]).await;
    bed.declare("modest", "6001").await;
    bed.until_waiting("modest", "SecretNotFound").await;
    bed.secrets().await;
    bed.until_registered("modest", "RegistrationSucceeded")
        .await;
    bed.until_event("modest", "RegistrationSucceeded").await;
    ends_without_a_refusal(operator).await;
    let leases = bed.api::<Lease>().list(&ListParams::default()).await;
    let names: Vec<_> = leases
        .expect("leases")
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    assert_eq!(names, ["whatsapp-operator"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_watch_get_on_secrets_is_enough() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let needs_watch = |rule: &PolicyRule| {
        rule.resources == Some(vec!["secrets".to_owned()])
            && rule.verbs.iter().any(|verb| verb == "watch")
    };
    let all = rules();
    let modest: Vec<_> = all
        .iter()
        .filter(|rule| !needs_watch(rule))
        .cloned()
        .collect();
    assert_eq!(
        modest.len() + 1,
        all.len(),
        "the page has a row for watching Secrets"
    );
    let operator = operator_with(&bed, modest, &["--secret-watch=false"]).await;
    bed.declare("modest", "6002").await;
    bed.until_registered("modest", "RegistrationSucceeded")
        .await;
    ends_without_a_refusal(operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_may_not_be_watched_does_not_hold_up_the_end() {
    let (bed, forbidden) = (Bed::new().await, Bed::new().await);
    let kubeconfig = kubeconfig_with(&bed, rules()).await;
    let namespaces = format!(
        "--watch-namespace={},{}",
        bed.namespace, forbidden.namespace
    );
    bed.declare("waiting", "6003").await;
    let operator = Operator::launch(&kubeconfig, &bed.args(&[&namespaces]));
    operator.until_logged("A watch failed").await;
    let (status, log) = operator.terminate().await;
    assert_eq!(status, "0", "{log}");
    assert_eq!(bed.posts("6003"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_numbers_are_registered_once_the_last_namespace_may_be_watched() {
    let (bed, late) = (Bed::new().await, Bed::new().await);
    bed.secrets().await;
    let kubeconfig = kubeconfig_with(&bed, rules()).await;
    let namespaces = format!("--watch-namespace={},{}", bed.namespace, late.namespace);
    let names = ["one", "two", "three"];
    for (name, id) in names.iter().zip(["6004", "6005", "6006"]) {
        bed.declare(name, id).await;
    }
    let operator = Operator::launch(&kubeconfig, &bed.args(&[&namespaces]));
    operator.until_logged("A watch failed").await;
    assert!(!operator.log().contains("The watches are synced"));
    grant(&late, &bed, rules()).await;
    for name in names {
        bed.until_registered(name, "RegistrationSucceeded").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_selector_that_may_not_be_checked_does_not_stop_the_start() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let numbers =
        |rule: &PolicyRule| rule.resources == Some(vec!["whatsappphonenumbers".to_owned()]);
    let denied = rules().into_iter().filter(|rule| !numbers(rule)).collect();
    let kubeconfig = kubeconfig_with(&bed, denied).await;
    let operator = Operator::launch(&kubeconfig, &bed.args(&["--selector=!legacy"]));
    operator
        .until_logged("Failed to check the label selector")
        .await;
    operator.until_logged("A watch failed").await;
    let granted = Patch::Merge(json!({"rules": rules()}));
    let params = PatchParams::default();
    bed.api::<Role>()
        .patch(NAME, &params, &granted)
        .await
        .expect("the role");
    bed.declare("modest", "6009").await;
    bed.until_registered("modest", "RegistrationSucceeded")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_may_not_be_read_is_said_so() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let secrets = |rule: &PolicyRule| rule.resources == Some(vec!["secrets".to_owned()]);
    let denied = rules().into_iter().filter(|rule| !secrets(rule)).collect();
    let _operator = operator_with(&bed, denied, &["--secret-watch=false"]).await;
    bed.declare("modest", "6008").await;
    let number = bed.until_waiting("modest", "SecretForbidden").await;
    assert!(message(&number, "Failed").contains("whatsapp"));
    assert_eq!(bed.simulator.number("6008").counts.reads, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_refused_is_tried_again_with_growing_waits() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let status = |rule: &PolicyRule| rule.verbs == ["update"];
    let denied = rules().into_iter().filter(|rule| !status(rule)).collect();
    let operator = operator_with(&bed, denied, &[]).await;
    bed.declare("modest", "6007").await;
    operator.until_logged("Failed to reconcile").await;
    let log = operator.log();
    let passes = log.matches("Failed to reconcile").count();
    let reads = bed.simulator.number("6007").counts.reads;
    assert!(
        reads <= passes + 1,
        "{reads} reads in {passes} passes: {log}"
    );
    let granted = Patch::Merge(json!({"rules": rules()}));
    let params = PatchParams::default();
    bed.api::<Role>()
        .patch(NAME, &params, &granted)
        .await
        .expect("the role");
    bed.until_registered("modest", "RegistrationSucceeded")
        .await;
    assert_eq!(bed.posts("6007"), 1);
}

async fn ends_without_a_refusal(operator: Operator) {
    let (status, log) = operator.terminate().await;
    assert_eq!(status, "0", "{log}");
    assert!(!log.to_lowercase().contains("forbidden"), "{log}");
}

/// Starts an operator as a ServiceAccount with these permissions in the bed's namespace.
async fn operator_with(bed: &Bed, rules: Vec<PolicyRule>, flags: &[&str]) -> Operator {
    let kubeconfig = kubeconfig_with(bed, rules).await;
    Operator::start(&kubeconfig, &bed.args(flags)).await
}

/// The kubeconfig of a ServiceAccount with these permissions in the bed's namespace.
async fn kubeconfig_with(bed: &Bed, rules: Vec<PolicyRule>) -> PathBuf {
    create::<ServiceAccount>(bed, json!({})).await;
    grant(bed, bed, rules).await;
    let token = service_account_token(&bed.client, &bed.namespace, NAME)
        .await
        .expect("a token");
    bed.control_plane
        .kubeconfig_for_token(&token)
        .expect("a kubeconfig")
}

/// Grants permissions in a bed's namespace to the ServiceAccount of another's, or of the same.
async fn grant(bed: &Bed, to: &Bed, rules: Vec<PolicyRule>) {
    create::<Role>(bed, json!({"rules": rules})).await;
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NAME});
    let account = json!({"kind": "ServiceAccount", "name": NAME, "namespace": to.namespace});
    create::<RoleBinding>(bed, json!({"roleRef": role, "subjects": [account]})).await;
}

/// Creates an object of the one name.
async fn create<K>(bed: &Bed, mut object: Value)
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: Clone + Debug + DeserializeOwned + Serialize,
{
    object["metadata"] = json!({"name": NAME});
    let object: K = serde_json::from_value(object).expect("an object");
    let (api, params) = (bed.api::<K>(), PostParams::default());
    api.create(&params, &object).await.expect("the object");
}

/// The rows of the table as rules.
fn rules() -> Vec<PolicyRule> {
    let rule = |row: &BTreeMap<&str, &str>| PolicyRule {
        api_groups: Some(vec![match row["API group"] {
            "core" => String::new(),
            group => group.trim_matches('`').to_owned(),
        }]),
        resources: Some(vec![code_spans(row["resource"])[0].to_owned()]),
        verbs: row["verbs"].split(", ").map(str::to_owned).collect(),
        ..PolicyRule::default()
    };
    table(&text("docs/reference/permissions.md"), "API group")
        .iter()
        .map(rule)
        .collect()
}
