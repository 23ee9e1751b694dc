//! The README's permissions are enough: the operator's program, with them and no others, registers a number.

use std::collections::BTreeMap;
use std::error::Error;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, ResourceExt};
use whatsapp_operator::api::{WhatsAppPhoneNumber, crd_yaml};
use whatsapp_operator::conditions::is_registered;

use super::markdown::table;
use super::{spec, text};
use crate::support;
use crate::support::control_plane::{apply_crds, create_namespace, service_account_token};
use crate::support::simulator::Simulator;

/// How long the operator may take.
const WITHIN: Duration = Duration::from_secs(60);

/// The name of everything that is made here.
const NAME: &str = "operator";

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_permissions_of_the_readme_are_enough() -> Result<(), Box<dyn Error>> {
    let control_plane = support::shared().await;
    let admin = control_plane.client().await?;
    apply_crds(&admin, &crd_yaml()?).await?;
    let namespace = create_namespace(&admin).await?;
    grant(&admin, &namespace).await?;
    declare(&admin, &namespace).await?;
    let token = service_account_token(&admin, &namespace, NAME).await?;
    let simulator = Simulator::start().await;
    let log = tempfile::NamedTempFile::new()?;
    let mut operator = Running(
        Command::new(env!("CARGO_BIN_EXE_whatsapp-operator"))
            .env("KUBECONFIG", control_plane.kubeconfig_for_token(&token)?)
            .args(["run", "--leader-elect", "--bind-address=127.0.0.1:0"])
            .arg(format!("--watch-namespace={namespace}"))
            .arg(format!("--lease-namespace={namespace}"))
            .arg(format!("--graph-base-url={}", simulator.base_url()))
            .stderr(Stdio::from(log.reopen()?))
            .spawn()?,
    );

    let numbers: Api<WhatsAppPhoneNumber> = Api::namespaced(admin.clone(), &namespace);
    let registered = |number: Option<&WhatsAppPhoneNumber>| {
        let status = number.and_then(|number| number.status.as_ref());
        status.is_some_and(is_registered)
    };
    let outcome = tokio::time::timeout(WITHIN, await_condition(numbers, NAME, registered)).await;
    let lines = std::fs::read_to_string(log.path())?;
    let registered = outcome.is_ok_and(|watched| watched.is_ok());
    assert!(registered, "not registered in {WITHIN:?}:\n{lines}");

    let stopped = Command::new("kill")
        .arg(operator.0.id().to_string())
        .status()?;
    assert!(stopped.success(), "SIGTERM cannot be sent");
    let exit = tokio::task::spawn_blocking(move || operator.0.wait()).await??;
    let lines = std::fs::read_to_string(log.path())?;
    assert!(exit.success(), "{exit}:\n{lines}");
    assert!(!lines.to_lowercase().contains("forbidden"), "{lines}");

    let events: Api<Event> = Api::namespaced(admin.clone(), &namespace);
    let events = events.list(&ListParams::default()).await?;
    let reasons: Vec<_> = events
        .iter()
        .filter_map(|event| event.reason.as_deref())
        .collect();
    assert_eq!(reasons, ["RegistrationSucceeded"], "{lines}");
    let leases: Api<Lease> = Api::namespaced(admin, &namespace);
    let leases = leases.list(&ListParams::default()).await?;
    let names: Vec<_> = leases.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names, ["whatsapp-operator"]);
    Ok(())
}

/// Gives a service account what the README's table says, and nothing else.
async fn grant(admin: &Client, namespace: &str) -> Result<(), kube::Error> {
    let params = PostParams::default();
    let account = ServiceAccount {
        metadata: named(),
        ..ServiceAccount::default()
    };
    let role = Role {
        metadata: named(),
        rules: Some(rules()),
    };
    let binding = RoleBinding {
        metadata: named(),
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            kind: "Role".to_owned(),
            name: NAME.to_owned(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: NAME.to_owned(),
            namespace: Some(namespace.to_owned()),
            ..Subject::default()
        }]),
    };
    Api::namespaced(admin.clone(), namespace)
        .create(&params, &account)
        .await?;
    Api::namespaced(admin.clone(), namespace)
        .create(&params, &role)
        .await?;
    Api::namespaced(admin.clone(), namespace)
        .create(&params, &binding)
        .await?;
    Ok(())
}

/// The rows of the README's table as rules.
fn rules() -> Vec<PolicyRule> {
    let table = table(&text("README.md"), "API group");
    let groups = table.column("API group").into_iter();
    let verbs = table.column("verbs").into_iter();
    groups
        .zip(table.names("resource"))
        .zip(verbs)
        .map(|((group, resource), verbs)| {
            let group = if group == "core" {
                ""
            } else {
                group.trim_matches('`')
            };
            PolicyRule {
                api_groups: Some(vec![group.to_owned()]),
                resources: Some(vec![resource]),
                verbs: verbs.split(", ").map(str::to_owned).collect(),
                ..PolicyRule::default()
            }
        })
        .collect()
}

/// Declares a number and its Secret.
async fn declare(admin: &Client, namespace: &str) -> Result<(), kube::Error> {
    let params = PostParams::default();
    let data = [("token", "EAAtest0123456789"), ("pin", "123456\n")];
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(spec().token_secret_ref.name),
            ..ObjectMeta::default()
        },
        string_data: Some(BTreeMap::from(
            data.map(|(key, value)| (key.to_owned(), value.to_owned())),
        )),
        ..Secret::default()
    };
    let number = WhatsAppPhoneNumber::new(NAME, spec());
    Api::namespaced(admin.clone(), namespace)
        .create(&params, &secret)
        .await?;
    Api::namespaced(admin.clone(), namespace)
        .create(&params, &number)
        .await?;
    Ok(())
}

fn named() -> ObjectMeta {
    ObjectMeta {
        name: Some(NAME.to_owned()),
        ..ObjectMeta::default()
    }
}
