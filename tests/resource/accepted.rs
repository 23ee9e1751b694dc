//! What the API server accepts, and what it fills in.

use kube::api::PostParams;
use serde_json::{Value, json};

use super::{Place, Tested, number};

#[tokio::test]
async fn a_minimal_number_gets_its_defaults() -> Tested {
    let place = Place::new().await?;
    let stored = apply(&place, &number("minimal"));
    let spec = json!({
        "phoneNumberID": "106540352242922",
        "tokenSecretRef": {"name": "whatsapp", "key": "token"},
        "pinSecretRef": {"name": "whatsapp", "key": "pin"},
        "suspend": false,
        "deletionPolicy": "Retain",
        "lossPolicy": "Report",
    });
    assert_eq!(stored["spec"], spec, "nothing more and nothing less");
    assert_eq!(stored["status"], json!({"observedGeneration": -1}));
    Ok(())
}

#[tokio::test]
async fn a_full_number_stays_as_it_is() -> Tested {
    let place = Place::new().await?;
    let mut full = number("full");
    full["spec"] = full_spec();
    assert_eq!(apply(&place, &full)["spec"], full_spec());
    Ok(())
}

#[tokio::test]
async fn optional_references_get_their_keys() -> Tested {
    let place = Place::new().await?;
    let mut given = number("references");
    given["spec"]["backupSecretRef"] = json!({"name": "backup"});
    given["spec"]["appSecretRef"] = json!({"name": "app"});
    let spec = apply(&place, &given)["spec"].take();
    let backup = json!({"name": "backup", "passwordKey": "password", "dataKey": "data"});
    assert_eq!(spec["backupSecretRef"], backup);
    let app = json!({"name": "app", "key": "appSecret"});
    assert_eq!(spec["appSecretRef"], app);
    Ok(())
}

/// Helm charts and Kustomize write null for what is not set.
#[tokio::test]
async fn null_is_the_same_as_nothing() -> Tested {
    let place = Place::new().await?;
    let mut given = number("nulls");
    let optional = [
        "graphAPIVersion",
        "backupSecretRef",
        "appSecretRef",
        "dataLocalizationRegion",
        "metaStoreRetentionMinutes",
        "suspend",
        "deletionPolicy",
        "observeInterval",
        "lossPolicy",
    ];
    for field in optional {
        given["spec"][field] = Value::Null;
    }
    given["spec"]["tokenSecretRef"]["key"] = Value::Null;
    let nulls = apply(&place, &given)["spec"].take();
    let nothing = apply(&place, &number("nothing"))["spec"].take();
    assert_eq!(nulls, nothing);
    Ok(())
}

#[tokio::test]
async fn the_longest_values_are_accepted() -> Tested {
    let place = Place::new().await?;
    let mut given = number("longest");
    let name = format!("{}.{}", "a".repeat(126), "b".repeat(126));
    given["spec"]["phoneNumberID"] = json!("9".repeat(32));
    given["spec"]["graphAPIVersion"] = json!("v12345678.123456");
    given["spec"]["tokenSecretRef"] = json!({"name": name, "key": "K._-".repeat(63)});
    let stored = apply(&place, &given);
    assert_eq!(stored["spec"]["tokenSecretRef"]["name"], json!(name));
    Ok(())
}

#[tokio::test]
async fn every_country_of_the_contract_is_accepted() -> Tested {
    let place = Place::new().await?;
    let countries = [
        "AE", "AU", "BH", "BR", "CA", "CH", "DE", "GB", "ID", "IN", "JP", "KR", "SG", "ZA",
    ];
    for country in countries {
        let mut given = number(&country.to_lowercase());
        given["spec"]["dataLocalizationRegion"] = json!(country);
        place.create(&given).await?;
    }
    Ok(())
}

/// An empty status, and null in its place, say again that nobody has seen the resource.
#[tokio::test]
async fn a_status_without_a_generation_counts_as_unseen() -> Tested {
    let place = Place::new().await?;
    place.create(&number("unseen")).await?;
    for status in [json!({}), Value::Null, json!({"readFailures": 2})] {
        let stored = put_status(&place, "unseen", &status).await?;
        assert_eq!(stored["status"]["observedGeneration"], -1, "after {status}");
    }
    let applied = place.apply_status("somebody", "unseen", json!({"fbtraceID": "A"}));
    let status = applied.await?.status.ok_or("no status")?;
    assert_eq!(status.observed_generation, -1);
    Ok(())
}

fn full_spec() -> Value {
    json!({
        "phoneNumberID": "106540352242922",
        "graphAPIVersion": "v23.0",
        "tokenSecretRef": {"name": "token", "key": "a"},
        "pinSecretRef": {"name": "pin", "key": "b"},
        "backupSecretRef": {"name": "backup", "passwordKey": "c", "dataKey": "d"},
        "appSecretRef": {"name": "app", "key": "e"},
        "dataLocalizationRegion": "DE",
        "metaStoreRetentionMinutes": 60,
        "suspend": true,
        "deletionPolicy": "Deregister",
        "observeInterval": "1h30m",
        "lossPolicy": "Register",
    })
}

/// What is stored after `kubectl apply`, which must not warn.
fn apply(place: &Place, number: &Value) -> Value {
    let args = ["apply", "--filename=-", "--output=json"];
    let printed = place.kubectl_with(&args, &number.to_string());
    assert!(
        printed.succeeded && printed.stderr.is_empty(),
        "{}",
        printed.stderr
    );
    serde_json::from_str(&printed.stdout).expect("kubectl prints JSON")
}

/// Replaces the status by exactly this JSON.
async fn put_status(place: &Place, name: &str, status: &Value) -> Result<Value, kube::Error> {
    let resource = kube::api::ApiResource::erase::<operator_core::api::WhatsAppPhoneNumber>(&());
    let numbers: kube::Api<kube::api::DynamicObject> =
        kube::Api::namespaced_with(place.client.clone(), &place.namespace, &resource);
    let mut number = numbers.get(name).await?;
    number.data["status"] = status.clone();
    let params = PostParams::default();
    let stored = numbers.replace_status(name, &params, &number).await?;
    Ok(stored.data)
}
