//! No secret leaves memory: not in logs at debug level, events, statuses or metrics, also when Graph echoes it.

use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use serde_json::json;

use testkit::bed::{Bed, PIN, TOKEN};
use testkit::simulator::{NumberConfig, Step};

const PASSWORD: &str = "open-sesame-backup-password";
const DATA: &str = "c2VjcmV0LWJhY2t1cC1kYXRhLW9mLWFuLWFjY291bnQ=";
const APP_SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The SHA-256 of the token is the one trace of it that may be seen.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_appear_nowhere() {
    let bed = Bed::new().await;
    bed.secrets().await;
    bed.secret(
        "backup",
        &[("password", PASSWORD.as_bytes()), ("data", DATA.as_bytes())],
    )
    .await;
    bed.secret("app", &[("appSecret", APP_SECRET.as_bytes())])
        .await;
    let operator = bed.operator(&["--log-level=debug"]).await;
    let echo = |secret: &str| {
        let body = json!({"error": {
            "message": format!("(#131009) {secret} is not valid, {secret}"), "type": "OAuthException", "code": 131_009,
            "error_user_title": secret, "error_user_msg": format!("…{secret}…"), "fbtrace_id": secret,
            "error_data": {"messaging_product": "whatsapp", "details": format!("details of {secret}")},
        }});
        let raw = json!({"step": "raw", "http_status": 400, "body": body.to_string()});
        serde_json::from_value::<Step>(raw).expect("a step")
    };
    let secrets = [TOKEN, PIN, PASSWORD, DATA, APP_SECRET];
    let more = json!({"backupSecretRef": {"name": "backup"}, "appSecretRef": {"name": "app"}});
    let mut numbers = vec![(
        "malformed".to_owned(),
        "4000".to_owned(),
        serde_json::from_value(json!("malformed_token_echo")).expect("a step"),
    )];
    for (n, secret) in secrets.iter().enumerate() {
        numbers.push((format!("echo-{n}"), format!("400{}", n + 1), echo(secret)));
    }
    for (name, id, step) in &numbers {
        let config = NumberConfig::fresh()
            .app_secret(APP_SECRET)
            .script(vec![step.clone()]);
        bed.simulator.set(id, config);
        bed.declare_with(name, id, more.clone()).await;
    }
    bed.declare_with("sound", "4009", more.clone()).await;
    bed.until_registered("sound", "RegistrationSucceeded").await;
    for (name, ..) in &numbers {
        bed.until(name, "stalled", |status| {
            status.conditions.iter().any(|c| c.type_ == "Stalled")
        })
        .await;
        bed.until_event(
            name,
            if name == "malformed" {
                "TokenRejected"
            } else {
                "InvalidRequest"
            },
        )
        .await;
    }
    let metrics = reqwest::get(format!("http://{}/metrics", operator.address()))
        .await
        .expect("metrics");
    let metrics = metrics.text().await.expect("text");
    assert!(
        metrics.contains("whatsapp_operator_phone_number_state"),
        "{metrics}"
    );
    let events = bed
        .api::<Event>()
        .list(&ListParams::default())
        .await
        .expect("events");
    let resources = bed
        .numbers()
        .list(&ListParams::default())
        .await
        .expect("numbers");
    let describe = bed.kubectl(&["describe", "wapn"]);
    let (status, log) = operator.terminate().await;
    assert_eq!(status, "0");
    let places = [
        ("log", log),
        ("metrics", metrics),
        (
            "events",
            serde_json::to_string(&events.items).expect("JSON"),
        ),
        (
            "resources",
            serde_json::to_string(&resources.items).expect("JSON"),
        ),
        ("describe", describe),
    ];
    for (place, text) in &places {
        assert!(
            text.len() > 1_000,
            "{place} is empty: nothing was looked at"
        );
        for secret in secrets {
            let found = text
                .find(secret)
                .map(|at| &text[at.saturating_sub(200)..at]);
            assert!(found.is_none(), "a secret in the {place}, after: {found:?}");
        }
    }
}
