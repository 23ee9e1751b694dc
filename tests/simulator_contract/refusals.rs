//! What the contract does not allow is refused and noted.

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use serde_json::{Value, json};

use super::client::{ID, Tested, control, read, register, register_with, request, send};
use testkit::simulator::{NumberConfig, Simulator};

fn body(extra: Value) -> Value {
    let mut body = json!({"messaging_product": "whatsapp", "pin": "123456"});
    if let (Some(body), Value::Object(extra)) = (body.as_object_mut(), extra) {
        body.extend(extra);
    }
    body
}

#[tokio::test]
async fn bodies_beyond_the_contract_are_refused() -> Tested {
    let simulator = Simulator::start().await;
    let bodies = [
        json!([]),
        json!({"pin": "123456"}),
        json!({"messaging_product": "whatsapp"}),
        body(json!({"messaging_product": "instagram"})),
        body(json!({"pin": 123456})),
        body(json!({"pin": "12345"})),
        body(json!({"pin": "1234567"})),
        body(json!({"pin": "12345\n"})),
        body(json!({"pin": "１２３４５６"})),
        body(json!({"tier": "PROD"})),
        body(json!({"backup": null})),
        body(json!({"backup": {"password": "p", "other": "o"}})),
        body(json!({"data_localization_region": "FR"})),
        body(json!({"meta_store_retention_minutes": 61})),
        body(json!({"meta_store_retention_minutes": "60"})),
        body(json!({"appsecret_proof": "00"})),
    ];
    for (index, body) in bodies.iter().enumerate() {
        simulator.set(ID, NumberConfig::default().spent(0));
        let answer = send(register_with(&simulator, body)).await?;
        assert_eq!((answer.status, answer.code()), (400, &json!(100)), "{body}");
        assert_eq!(simulator.violations().len(), index + 1, "{body}");
    }
    let report = simulator.number(ID);
    assert_eq!(
        (report.state.registered, report.counts.violations),
        (false, bodies.len())
    );
    Ok(())
}

#[tokio::test]
async fn paths_beyond_the_contract_are_refused() -> Tested {
    let simulator = Simulator::start().await;
    let paths = [
        (Method::GET, format!("/v23.0/{ID}/register")),
        (Method::POST, format!("/v23.0/{ID}")),
        (Method::PUT, format!("/v23.0/{ID}/register")),
        (Method::POST, format!("/v23.0/{ID}/register/")),
        (Method::POST, format!("//v23.0/{ID}/register")),
        (Method::POST, format!("/23.0/{ID}/register")),
        (Method::GET, format!("/v23/{ID}")),
        (Method::GET, "/v23.0/me".to_owned()),
        (Method::GET, format!("/{ID}")),
        (Method::GET, format!("/v23.0/{ID}?access_token=a-token")),
        (Method::GET, format!("/v23.0/{ID}?fields=id,nonsense")),
        (Method::GET, format!("/v23.0/{ID}?fields=")),
        (Method::POST, format!("/v23.0/{ID}/register?pin=123456")),
    ];
    for (index, (method, path)) in paths.into_iter().enumerate() {
        let answer = send(request(&simulator, method.clone(), &path)).await?;
        assert_eq!(answer.status, 400, "{method} {path}");
        assert!(answer.code().is_i64(), "{method} {path}: {answer:?}");
        assert_eq!(simulator.violations().len(), index + 1, "{method} {path}");
    }
    let violations = serde_json::to_string(&simulator.violations())?;
    assert!(!violations.contains("a-token"), "{violations}");
    Ok(())
}

#[tokio::test]
async fn headers_beyond_the_contract_are_refused() -> Tested {
    let simulator = Simulator::start().await;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("{}/v23.0/{ID}/register", simulator.base_url());
    let right = [
        (AUTHORIZATION, "Bearer a-token"),
        (USER_AGENT, "whatsapp-operator/0.1.0"),
        (CONTENT_TYPE, "application/json"),
    ];
    let wrong = [
        (AUTHORIZATION, "", 401),
        (AUTHORIZATION, "Bearer", 401),
        (AUTHORIZATION, "OAuth a-token", 401),
        (AUTHORIZATION, "Bearer a token", 401),
        (USER_AGENT, "whatsapp-operator/0.1.0-rc.1", 400),
        (USER_AGENT, "whatsapp-operator", 400),
        (USER_AGENT, "", 400),
        (CONTENT_TYPE, "", 400),
        (CONTENT_TYPE, "text/plain", 400),
    ];
    for (index, (name, value, status)) in wrong.into_iter().enumerate() {
        let mut request = client.post(&url).body(body(json!({})).to_string());
        for (other, right) in &right {
            request = request.header(other, if *other == name { value } else { *right });
        }
        let answer = send(request).await?;
        assert_eq!(answer.status, status, "{name}: {value:?}");
        assert_eq!(simulator.violations().len(), index + 1, "{name}: {value:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_the_contract_allows_is_no_violation() -> Tested {
    let simulator = Simulator::start().await;
    let fields = "id,display_phone_number,verified_name,quality_rating,\
                  code_verification_status,platform_type,status";
    let answer = read(&simulator, fields).await?;
    assert_eq!(
        answer.body.as_object().map(|node| node.len()),
        Some(7),
        "{answer:?}"
    );
    assert_eq!(answer.header("facebook-api-version"), "v23.0");
    assert_eq!(register(&simulator, "123456").await?.status, 200);
    assert!(
        simulator.violations().is_empty(),
        "{:?}",
        simulator.violations()
    );
    Ok(())
}

#[tokio::test]
async fn the_control_endpoint_says_what_is_wrong() -> Tested {
    let simulator = Simulator::start().await;
    let path = format!("numbers/{ID}");
    let bad = [
        (json!({"registred": true}), "registred"),
        (json!({"pin": "12"}), "six digits"),
        (json!({"script": ["hang_up"]}), "hang_up"),
        (json!({"script": [{"step": "natural", "code": 1}]}), "code"),
        (
            json!({"script": [{"step": "error", "code": 1, "colour": 1}]}),
            "colour",
        ),
        (json!({"script": [{"step": "error"}]}), "code"),
        (
            json!({"script": [{"step": "wait", "acted": true}]}),
            "acted",
        ),
        (
            json!({"script": [{"step": "raw", "http_status": 99}]}),
            "http_status",
        ),
        (
            json!({"script": [{"step": "natural", "times": 0}]}),
            "times",
        ),
        (
            json!({"script": [{"step": "natural", "operation": "write"}]}),
            "operation",
        ),
    ];
    for (body, hint) in bad {
        let answer = control(&simulator, Method::PUT, &path, body.clone()).await?;
        assert_eq!(answer.status, 400, "{body}");
        let text = answer.body["error"].as_str().unwrap_or_default();
        assert!(text.contains(hint), "{body}: {text}");
    }
    assert_eq!(
        control(&simulator, Method::GET, &path, Value::Null)
            .await?
            .status,
        404
    );
    assert_eq!(
        control(&simulator, Method::GET, "nonsense", Value::Null)
            .await?
            .status,
        404
    );
    assert_eq!(
        control(&simulator, Method::PUT, "numbers/x", json!({}))
            .await?
            .status,
        400
    );
    Ok(())
}
