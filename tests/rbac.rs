//! The operator needs the permissions that the README lists, and no others.

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use kube::api::{ObjectMeta, PostParams};

use crate::support::bed::Bed;
use crate::support::control_plane::service_account_token;
use crate::support::operator::Operator;

const NAME: &str = "whatsapp-operator";

fn rule(group: &str, resource: &str, verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    }
}

/// The README's list; with `secret_watch` false only `get` on Secrets.
fn rules(secret_watch: bool) -> Vec<PolicyRule> {
    let secrets: &[&str] = if secret_watch {
        &["get", "list", "watch"]
    } else {
        &["get"]
    };
    vec![
        rule(
            "whatsapp-operator.dev",
            "whatsappphonenumbers",
            &["get", "list", "watch"],
        ),
        rule(
            "whatsapp-operator.dev",
            "whatsappphonenumbers/status",
            &["update"],
        ),
        rule("", "secrets", secrets),
        rule("events.k8s.io", "events", &["create", "patch"]),
        rule("coordination.k8s.io", "leases", &["get", "create", "patch"]),
    ]
}

/// Starts an operator as a ServiceAccount with these permissions in the bed's namespace.
async fn operator_with(bed: &Bed, rules: Vec<PolicyRule>, flags: &[&str]) -> Operator {
    let meta = || ObjectMeta {
        name: Some(NAME.to_owned()),
        ..ObjectMeta::default()
    };
    let params = PostParams::default();
    let account = ServiceAccount {
        metadata: meta(),
        ..ServiceAccount::default()
    };
    let role = Role {
        metadata: meta(),
        rules: Some(rules),
    };
    let binding = RoleBinding {
        metadata: meta(),
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            kind: "Role".to_owned(),
            name: NAME.to_owned(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: NAME.to_owned(),
            namespace: Some(bed.namespace.clone()),
            ..Subject::default()
        }]),
    };
    bed.api::<ServiceAccount>()
        .create(&params, &account)
        .await
        .expect("an account");
    bed.api::<Role>()
        .create(&params, &role)
        .await
        .expect("a role");
    bed.api::<RoleBinding>()
        .create(&params, &binding)
        .await
        .expect("a binding");
    let token = service_account_token(&bed.client, &bed.namespace, NAME)
        .await
        .expect("a token");
    let kubeconfig = bed
        .control_plane
        .kubeconfig_for_token(&token)
        .expect("a kubeconfig");
    Operator::start(&kubeconfig, &bed.args(flags)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_permissions_are_enough() {
    let bed = Bed::new().await;
    let lease = format!("--lease-namespace={}", bed.namespace);
    let operator = operator_with(&bed, rules(true), &["--leader-elect=true", &lease]).await;
    bed.declare("modest", "6001").await;
    bed.until_waiting("modest", "SecretNotFound").await;
    bed.secrets().await;
    bed.until_registered("modest", "RegistrationSucceeded")
        .await;
    bed.until_event("modest", "RegistrationSucceeded").await;
    let (_, log) = operator.terminate().await;
    assert!(!log.contains("orbidden"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_watch_get_on_secrets_is_enough() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let operator = operator_with(&bed, rules(false), &["--secret-watch=false"]).await;
    bed.declare("modest", "6002").await;
    bed.until_registered("modest", "RegistrationSucceeded")
        .await;
    let (_, log) = operator.terminate().await;
    assert!(!log.contains("orbidden"), "{log}");
}
