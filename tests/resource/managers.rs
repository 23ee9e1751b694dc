//! Several writers of one resource: what merges, what does not, what is bounded.

use kube::api::{Patch, PatchParams};
use operator_core::api::{MANAGER, WhatsAppPhoneNumber};
use serde_json::{Value, json};

use super::states::{SUCCESS, WRONG_PIN, after};
use super::{Place, Tested, applied, number, number_with_id, refusal};
use testkit::bed::Bed;

#[tokio::test]
async fn two_managers_own_disjoint_fields() -> Tested {
    let place = Place::new().await?;
    let spec = number("shared")["spec"].take();
    place.apply("git", "shared", json!({"spec": spec})).await?;
    let more = json!({"spec": {"suspend": true, "appSecretRef": {"name": "app"}}});
    place.apply("platform", "shared", more).await?;
    // Each applies again without a conflict, and takes nothing away from the other.
    let spec = number("shared")["spec"].take();
    let stored = place.apply("git", "shared", json!({"spec": spec})).await?;
    assert!(stored.spec.suspend && stored.spec.app_secret_ref.is_some());

    let less = json!({"spec": {"suspend": true}});
    let stored = place.apply("platform", "shared", less).await?;
    assert_eq!(
        stored.spec.app_secret_ref, None,
        "what it no longer applies goes"
    );
    let taken =
        json!({"spec": {"phoneNumberID": "106540352242922", "tokenSecretRef": {"name": "mine"}}});
    let (code, message) = refusal(place.apply("platform", "shared", taken).await);
    assert_eq!(code, 409);
    assert!(message.contains(".spec.tokenSecretRef.name"), "{message}");
    Ok(())
}

#[tokio::test]
async fn references_to_secrets_merge_by_field() -> Tested {
    let place = Place::new().await?;
    let spec = number("shared")["spec"].take();
    place.apply("git", "shared", json!({"spec": spec})).await?;
    let key = json!({"spec": {"tokenSecretRef": {"key": "other"}}});
    let stored = place.apply("platform", "shared", key).await?.spec;
    assert_eq!(stored.token_secret_ref.name, "whatsapp");
    assert_eq!(stored.token_secret_ref.key, "other");
    // The default does not come back when the one who says nothing of the key applies again.
    let spec = number("shared")["spec"].take();
    let stored = place.apply("git", "shared", json!({"spec": spec})).await?;
    assert_eq!(stored.spec.token_secret_ref.key, "other");
    Ok(())
}

/// A tool that applies every few minutes makes no new version, and so no work for anybody.
#[tokio::test]
async fn applying_the_same_again_changes_nothing() -> Tested {
    let place = Place::new().await?;
    let spec = number("same")["spec"].take();
    let first = place.apply("git", "same", json!({"spec": spec})).await?;
    place.report("same", &after(200, SUCCESS, 1)).await?;
    place.shown(&["annotate", "wapn/same", "team=messaging"]);
    place.shown(&["label", "wapn/same", "shard=a"]);
    let before = place.numbers().get("same").await?;
    assert_eq!(before.metadata.generation, first.metadata.generation);
    let again = place.apply("git", "same", json!({"spec": spec})).await?;
    // With its version, its generation, what others wrote, and what the API server filled in.
    assert_eq!(again, before);
    Ok(())
}

/// Defaults and the status are no difference to what was declared, for those who apply in kubectl's old way neither.
#[tokio::test]
async fn what_the_api_server_and_the_operator_add_is_no_difference() -> Tested {
    let place = Place::new().await?;
    let given = number("plain").to_string();
    let apply = |how: &[&str]| {
        let args = [&["apply", "--filename=-"], how].concat();
        let printed = place.kubectl_with(&args, &given);
        assert!(printed.succeeded, "{}", printed.stderr);
        printed.stdout
    };
    assert!(apply(&[]).contains("created"));
    place.report("plain", &after(400, WRONG_PIN, 1)).await?;
    assert!(apply(&[]).contains("unchanged"));
    // Over to server-side apply, as when a tool is told to use it.
    let before = place.numbers().get("plain").await?;
    apply(&["--server-side", "--field-manager=argocd-controller"]);
    let after = place.numbers().get("plain").await?;
    assert_eq!(after.metadata.generation, before.metadata.generation);
    assert_eq!((after.spec, after.status), (before.spec, before.status));
    Ok(())
}

/// The operator writes the status and nothing else, so nobody who declares numbers can be in its way.
#[tokio::test(flavor = "multi_thread")]
async fn the_operator_and_two_managers_do_not_fight() -> Tested {
    let bed = Bed::new().await;
    bed.secrets().await;
    let operator = bed.operator(&[]).await;
    let spec = number_with_id("shared", "9061")["spec"].take();
    let labels = json!({"metadata": {"name": "shared", "labels": {"team": "messaging"}}});
    let parts = [("git", json!({"spec": spec})), ("platform", labels)];
    // Never with force: a conflict would be an error.
    let apply = async || {
        for (manager, part) in &parts {
            let patch = Patch::Apply(applied("shared", part.clone()));
            let params = PatchParams::apply(manager);
            bed.numbers().patch("shared", &params, &patch).await?;
        }
        Ok::<_, kube::Error>(())
    };
    apply().await?;
    let meanwhile = async {
        for round in 0.. {
            apply().await?;
            let round = format!("round={round}");
            bed.kubectl(&["annotate", "--overwrite", "wapn/shared", &round]);
        }
        Ok::<_, kube::Error>(())
    };
    let number = tokio::select! {
        number = bed.until_registered("shared", "RegistrationSucceeded") => number,
        ended = meanwhile => return Err(format!("an apply failed: {ended:?}").into()),
    };
    assert_eq!(bed.posts("9061"), 1);
    assert_eq!(number.metadata.generation, Some(1));
    let owned = owned_by(&number, MANAGER);
    assert_eq!(owned, [("status".to_owned(), vec!["f:status".to_owned()])]);
    assert_eq!(owned_by(&number, "git")[0].1, ["f:spec"]);
    assert_eq!(owned_by(&number, "platform")[0].1, ["f:metadata"]);
    // At rest, they change nothing.
    let number = bed.get("shared").await;
    apply().await?;
    assert_eq!(bed.get("shared").await, number);
    drop(operator);
    Ok(())
}

/// What a manager owns of a number: the subresource, and the fields at the top.
fn owned_by(number: &WhatsAppPhoneNumber, manager: &str) -> Vec<(String, Vec<String>)> {
    let entries = number.metadata.managed_fields.iter().flatten();
    let own = entries.filter(|entry| entry.manager.as_deref() == Some(manager));
    own.map(|entry| {
        let fields = entry
            .fields_v1
            .as_ref()
            .and_then(|fields| fields.0.as_object());
        let fields = fields.into_iter().flatten().map(|(name, _)| name.clone());
        (
            entry.subresource.clone().unwrap_or_default(),
            fields.collect(),
        )
    })
    .collect()
}

#[tokio::test]
async fn conditions_merge_by_type() -> Tested {
    let place = Place::new().await?;
    place.create(&number("shared")).await?;
    for (manager, type_) in [("operator", "Registered"), ("checker", "Reachable")] {
        let status = json!({"conditions": [condition(type_, "Found")]});
        place.apply_status(manager, "shared", status).await?;
    }
    let status = json!({"conditions": [condition("Registered", "FoundAgain")]});
    let stored = place.apply_status("operator", "shared", status).await?;
    let conditions = stored.status.ok_or("no status")?.conditions;
    let mut reasons: Vec<_> = conditions.iter().map(|c| (&*c.type_, &*c.reason)).collect();
    reasons.sort_unstable();
    assert_eq!(
        reasons,
        [("Reachable", "Found"), ("Registered", "FoundAgain")]
    );
    Ok(())
}

#[tokio::test]
async fn one_type_stands_once() -> Tested {
    let place = Place::new().await?;
    place.create(&number("twice")).await?;
    let twice =
        json!({"status": {"conditions": [condition("Ready", "A"), condition("Ready", "B")]}});
    let answer = patch_status(&place, "twice", twice).await;
    let (code, message) = refusal(answer);
    assert_eq!(code, 422, "{message}");
    assert!(
        message.contains("status.conditions[1]: Duplicate value"),
        "{message}"
    );
    Ok(())
}

/// The ledger is one value: half of it from somebody else would be a wrong count.
#[tokio::test]
async fn attempts_do_not_merge() -> Tested {
    let place = Place::new().await?;
    place.create(&number("shared")).await?;
    let attempts = |id: &str| {
        let attempt = json!({"id": id, "startTime": "2026-03-01T12:00:00Z", "ttlSeconds": 60});
        json!({"attempts": [attempt]})
    };
    place.apply_status("one", "shared", attempts("a")).await?;
    let (code, message) = refusal(place.apply_status("two", "shared", attempts("b")).await);
    assert_eq!(code, 409);
    assert!(message.contains(".status.attempts"), "{message}");
    Ok(())
}

#[tokio::test]
async fn conditions_keep_the_bounds_of_metav1() -> Tested {
    let place = Place::new().await?;
    place.create(&number("bounds")).await?;
    let cases = [
        ("reason", json!("Two words"), "reason in body should match"),
        (
            "reason",
            json!(""),
            "reason in body should be at least 1 chars long",
        ),
        ("reason", json!("9Lives"), "reason in body should match"),
        ("reason", json!("A".repeat(1_025)), "reason: Too long"),
        ("type", json!("-Ready"), "type in body should match"),
        ("type", json!("a".repeat(317)), "type: Too long"),
        ("status", json!("true"), "status: Unsupported value"),
        ("message", json!("a".repeat(32_769)), "message: Too long"),
        ("message", Value::Null, "message: Required value"),
        (
            "observedGeneration",
            json!(-1),
            "observedGeneration in body should be greater than or equal to 0",
        ),
        (
            "lastTransitionTime",
            json!("yesterday"),
            "lastTransitionTime in body must be of type date-time",
        ),
    ];
    for (field, value, says) in cases {
        let mut condition = condition("Ready", "Found");
        condition[field] = value;
        let status = json!({"status": {"conditions": [condition]}});
        let (code, message) = refusal(patch_status(&place, "bounds", status).await);
        assert_eq!(code, 422, "{message}");
        let path = format!("status.conditions[0].{field}: ");
        let named = message.contains(&path) && message.contains(says);
        assert!(named, "{says}: {message}");
    }
    Ok(())
}

fn condition(type_: &str, reason: &str) -> Value {
    json!({
        "type": type_,
        "status": "True",
        "reason": reason,
        "message": "A message.",
        "lastTransitionTime": "2026-03-01T12:00:00Z",
    })
}

/// Merges JSON into the status, also such as the operator's types cannot hold.
async fn patch_status(place: &Place, name: &str, patch: Value) -> kube::Result<()> {
    let params = PatchParams::default();
    let patch = Patch::Merge(patch);
    let numbers = place.numbers();
    numbers.patch_status(name, &params, &patch).await.map(drop)
}
