//! The status subresource: the spec and the status are written apart, and by those who may.

use std::time::{Duration, Instant};

use k8s_openapi::api::{
    core::v1::ServiceAccount,
    rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject},
};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use operator_core::api::WhatsAppPhoneNumber;
use serde_json::json;

use super::states::{SUCCESS, after};
use super::{Place, Tested, number, refusal};
use testkit::control_plane::service_account_token;

/// How long a new role may take to have an effect.
const GRANTED_WITHIN: Duration = Duration::from_secs(20);

#[tokio::test]
async fn the_status_cannot_be_written_with_the_spec() -> Tested {
    let place = Place::new().await?;
    let mut given = number("apart");
    given["status"] = json!({"observedGeneration": 1, "fbtraceID": "forged"});
    let created = place.create(&given).await?;
    let status = created.status.ok_or("no status")?;
    assert_eq!((status.observed_generation, status.fbtrace_id), (-1, None));

    let mut number = place.numbers().get("apart").await?;
    number.spec.suspend = true;
    number.status = Some(after(200, SUCCESS, 1));
    let params = PostParams::default();
    let stored = place.numbers().replace("apart", &params, &number).await?;
    assert!(stored.spec.suspend);
    assert_eq!(stored.metadata.generation, Some(2));
    let status = stored.status.ok_or("no status")?;
    assert_eq!(
        (status.observed_generation, status.conditions.len()),
        (-1, 0)
    );
    Ok(())
}

#[tokio::test]
async fn the_spec_cannot_be_written_with_the_status() -> Tested {
    let place = Place::new().await?;
    place.create(&number("apart")).await?;
    let mut number = place.numbers().get("apart").await?;
    number.spec.suspend = true;
    number.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
    number.status = Some(after(200, SUCCESS, 1));
    let params = PostParams::default();
    let numbers = place.numbers();
    let stored = numbers.replace_status("apart", &params, &number).await?;
    assert!(!stored.spec.suspend);
    assert_eq!(stored.metadata.generation, Some(1));
    assert_eq!(stored.metadata.labels, None);
    assert_eq!(stored.status.ok_or("no status")?.observed_generation, 1);
    Ok(())
}

#[tokio::test]
async fn who_may_edit_numbers_may_not_write_their_status() -> Tested {
    let place = Place::new().await?;
    place.create(&number("mine")).await?;
    let editor = editor_of(&place, "editor", "whatsappphonenumbers").await?;
    let suspend = Patch::Merge(json!({"spec": {"suspend": true}}));
    let params = PatchParams::default();
    granted(async || editor.patch("mine", &params, &suspend).await.is_ok()).await;
    let forged = Patch::Merge(json!({"status": {"fbtraceID": "forged"}}));
    let (code, message) = refusal(editor.patch_status("mine", &params, &forged).await);
    assert_eq!(code, 403);
    assert!(message.contains("whatsappphonenumbers/status"), "{message}");
    // It is no way round either.
    let stored = editor.patch("mine", &params, &forged).await?;
    assert_eq!(stored.status.and_then(|status| status.fbtrace_id), None);
    Ok(())
}

#[tokio::test]
async fn who_may_write_the_status_may_not_edit_numbers() -> Tested {
    let place = Place::new().await?;
    place.create(&number("theirs")).await?;
    let reporter = editor_of(&place, "reporter", "whatsappphonenumbers/status").await?;
    let report = Patch::Merge(json!({"status": {"observedGeneration": 1}}));
    let params = PatchParams::default();
    granted(async || {
        reporter
            .patch_status("theirs", &params, &report)
            .await
            .is_ok()
    })
    .await;
    let suspend = Patch::Merge(json!({"spec": {"suspend": true}}));
    let (code, message) = refusal(reporter.patch("theirs", &params, &suspend).await);
    assert_eq!(code, 403, "{message}");
    let both = Patch::Merge(json!({"spec": {"suspend": true}, "status": {"readFailures": 1}}));
    let stored = reporter.patch_status("theirs", &params, &both).await?;
    assert!(!stored.spec.suspend);
    Ok(())
}

/// The numbers, as a service account sees them that may write only this resource.
async fn editor_of(
    place: &Place,
    name: &str,
    resource: &str,
) -> Result<Api<WhatsAppPhoneNumber>, Box<dyn std::error::Error>> {
    let (admin, namespace) = (&place.client, &place.namespace);
    let account = ServiceAccount {
        metadata: named(name),
        ..ServiceAccount::default()
    };
    let params = PostParams::default();
    Api::namespaced(admin.clone(), namespace)
        .create(&params, &account)
        .await?;
    grant(admin, namespace, name, resource).await?;
    let token = service_account_token(admin, namespace, name).await?;
    let client = place.control_plane.client_for_token(&token).await?;
    Ok(Api::namespaced(client, namespace))
}

async fn grant(admin: &Client, namespace: &str, account: &str, resource: &str) -> kube::Result<()> {
    let verbs = [
        "get", "list", "watch", "create", "update", "patch", "delete",
    ];
    let rule = PolicyRule {
        api_groups: Some(vec!["whatsapp-operator.dev".to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        verbs: verbs.map(str::to_owned).to_vec(),
        ..PolicyRule::default()
    };
    let role = Role {
        metadata: named(account),
        rules: Some(vec![rule]),
    };
    let subject = Subject {
        kind: "ServiceAccount".to_owned(),
        name: account.to_owned(),
        namespace: Some(namespace.to_owned()),
        ..Subject::default()
    };
    let binding = RoleBinding {
        metadata: named(account),
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            kind: "Role".to_owned(),
            name: account.to_owned(),
        },
        subjects: Some(vec![subject]),
    };
    let params = PostParams::default();
    let roles = Api::namespaced(admin.clone(), namespace);
    roles.create(&params, &role).await?;
    let bindings = Api::namespaced(admin.clone(), namespace);
    bindings.create(&params, &binding).await?;
    Ok(())
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

/// Waits until a request is allowed: the API server learns of new roles from a watch.
async fn granted(mut allowed: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + GRANTED_WITHIN;
    while !allowed().await {
        assert!(
            Instant::now() < deadline,
            "not granted in {GRANTED_WITHIN:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
