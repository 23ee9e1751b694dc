//! Several writers of one resource: what merges, what does not, what is bounded.

use serde_json::{Value, json};

use super::{Place, Tested, number, refusal};

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
    Ok(())
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
    let params = kube::api::PatchParams::default();
    let patch = kube::api::Patch::Merge(patch);
    let numbers = place.numbers();
    numbers.patch_status(name, &params, &patch).await.map(drop)
}
