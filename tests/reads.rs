//! What each answer to a read leads to, on a real API server: calls are counted.

use std::collections::BTreeMap;

use serde_json::json;

use testkit::bed::{Bed, PIN, TOKEN, message};
use testkit::simulator::{Action, NumberConfig, Step};

/// Waits so short that a read is repeated within the test.
const SOON: &[&str] = &["--retry-base=200ms"];

/// The next reads are answered so.
fn answers(http_status: u16, body: &str, times: u32) -> Step {
    let action = Action::Raw {
        http_status,
        headers: BTreeMap::new(),
        body: body.to_owned(),
    };
    Step::new(action).on_read().times(times)
}

fn error(code: i64, message: &str) -> String {
    json!({"error": {"code": code, "message": message, "type": "GraphMethodException", "fbtrace_id": "AreadTrace"}})
        .to_string()
}

/// A number that is registered, whose reads are answered so before they show it.
fn registered_behind(step: Step) -> NumberConfig {
    NumberConfig::registered().script(vec![step])
}

/// None of these answers says that the number is not registered. When it can be read again, it is adopted.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_passes_costs_no_call() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let transient = json!({"error": {"code": 2, "message": "Service temporarily unavailable", "is_transient": true}});
    let passing = [
        ("unknown-error", 400, error(1, "An unknown error occurred")),
        ("transient", 400, transient.to_string()),
        ("proxy", 403, "<html>403 Forbidden</html>".to_owned()),
        ("not-found", 404, "default backend - 404".to_owned()),
        ("proxy-login", 407, String::new()),
        (
            "page",
            200,
            "<html>Sign in to the network</html>".to_owned(),
        ),
        (
            "no-platform",
            200,
            json!({"id": "1", "status": "CONNECTED"}).to_string(),
        ),
        ("other-error", 400, error(100, "(#100) Invalid parameter")),
    ];
    for (n, (name, http_status, body)) in passing.iter().enumerate() {
        let id = format!("30{n:02}");
        bed.simulator
            .set(&id, registered_behind(answers(*http_status, body, 3)));
        bed.declare(name, &id).await;
    }
    let _operator = bed.operator(SOON).await;
    for (n, (name, ..)) in passing.iter().enumerate() {
        bed.until_registered(name, "AlreadyRegistered").await;
        let counts = bed.simulator.number(&format!("30{n:02}")).counts;
        assert_eq!((counts.register_calls, counts.reads), (0, 4), "{name}");
    }
}

/// These stand against any call.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_stands_against_any_call_stalls_without_one() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let proof = "API calls from the server require an appsecret_proof argument";
    let foreign = "(#100) Tried accessing nonexisting field (display_phone_number) on node type (WhatsAppBusinessAccount)";
    let against = [
        (
            "locked",
            403,
            error(368, "blocked"),
            "AccountLocked",
            "Business Support",
        ),
        (
            "proof",
            400,
            error(100, proof),
            "AppSecretRejected",
            "appSecretRef",
        ),
        (
            "foreign",
            400,
            error(100, foreign),
            "PhoneNumberNotFound",
            "this is the ID of a WhatsAppBusinessAccount",
        ),
        (
            "method",
            400,
            error(100, "Unsupported request - method type: get"),
            "PermissionDenied",
            "system user",
        ),
        (
            "token",
            500,
            error(190, "expired"),
            "TokenRejected",
            "valid token",
        ),
    ];
    for (n, (name, http_status, body, ..)) in against.iter().enumerate() {
        let id = format!("31{n:02}");
        bed.simulator
            .set(&id, registered_behind(answers(*http_status, body, 9)));
        bed.declare(name, &id).await;
    }
    let _operator = bed.operator(SOON).await;
    for (n, (name, _, _, reason, says)) in against.iter().enumerate() {
        let number = bed.until_stalled(name, reason).await;
        let text = message(&number, "Failed");
        assert!(text.contains(says), "{name}: {text}");
        let counts = bed.simulator.number(&format!("31{n:02}")).counts;
        assert_eq!((counts.register_calls, counts.reads), (0, 1), "{name}");
    }
}

/// An error that is neither is asked for again three times.
#[tokio::test(flavor = "multi_thread")]
async fn an_unclear_error_stalls_after_three_more_reads() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let body = error(100, "(#100) Invalid parameter");
    bed.simulator
        .set("3200", registered_behind(answers(400, &body, 9)));
    bed.declare("unclear", "3200").await;
    let _operator = bed.operator(SOON).await;
    bed.until_stalled("unclear", "InvalidRequest").await;
    let counts = bed.simulator.number("3200").counts;
    assert_eq!((counts.register_calls, counts.reads), (0, 4));
}

/// One field that Graph does not know fails the whole read: those that decide are asked for at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_graph_lacks_is_left_out() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let lacking = "(#100) Tried accessing nonexisting field (quality_rating) on node type (WhatsAppBusinessPhoneNumber)";
    let step = answers(400, &error(100, lacking), 1);
    bed.simulator.set("3300", registered_behind(step));
    bed.declare("lacking", "3300").await;
    let _operator = bed.operator(&["--retry-base=1h", "--retry-cap=1h"]).await;
    bed.until_registered("lacking", "AlreadyRegistered").await;
    let counts = bed.simulator.number("3300").counts;
    assert_eq!((counts.register_calls, counts.reads), (0, 2));
}

/// Fields that fit nothing leave one call, and no second one where its outcome cannot be seen either.
#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_cannot_be_told_gets_one_call() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let elsewhere = NumberConfig::fresh()
        .status("CONNECTED")
        .platform_type("ON_PREMISE");
    bed.simulator
        .set("3400", elsewhere.script(vec![Step::hang_up_before()]));
    bed.declare("blind", "3400").await;
    let _operator = bed
        .operator(&["--retry-base=200ms", "--confirm-window=1s"])
        .await;
    bed.until_stalled("blind", "OutcomeUnknown").await;
    assert_eq!(bed.posts("3400"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_secret_that_is_required_heals_when_it_comes() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let secret = "0123456789abcdef0123456789abcdef";
    bed.simulator
        .set("3500", NumberConfig::fresh().app_secret(secret));
    bed.declare("support", "3500").await;
    let _operator = bed.operator(SOON).await;
    bed.until_stalled("support", "AppSecretRejected").await;
    assert_eq!(bed.posts("3500"), 0);
    bed.secret("app", &[("appSecret", secret.as_bytes())]).await;
    bed.patch(
        "support",
        json!({"spec": {"appSecretRef": {"name": "app"}}}),
    )
    .await;
    bed.until_registered("support", "RegistrationSucceeded")
        .await;
    assert_eq!(bed.posts("3500"), 1);
}

/// Meta refuses register calls for it, whoever makes them.
#[tokio::test(flavor = "multi_thread")]
async fn a_number_of_the_business_app_gets_one_call() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let refusal = error(
        100,
        "(#100) Register endpoint is not available for SMB businesses.",
    );
    let step = Step::new(Action::Raw {
        http_status: 400,
        headers: BTreeMap::new(),
        body: refusal,
    });
    bed.simulator
        .set("3600", NumberConfig::fresh().script(vec![step]));
    bed.declare("shop", "3600").await;
    let _operator = bed.operator(SOON).await;
    let number = bed.until_stalled("shop", "BusinessAppNumber").await;
    let text = message(&number, "Failed");
    assert!(text.contains("coexistence"), "{text}");
    let before = number.status.expect("a status").token_digest;
    let other = format!("{TOKEN}other");
    let data = [("token", other.as_bytes()), ("pin", PIN.as_bytes())];
    bed.secret("whatsapp", &data).await;
    bed.until("shop", "the new token noted", |status| {
        status.token_digest != before
    })
    .await;
    bed.until_stalled("shop", "BusinessAppNumber").await;
    assert_eq!(bed.posts("3600"), 1);
}

/// The annotation spends nothing where a read stands against the call.
#[tokio::test(flavor = "multi_thread")]
async fn a_requested_call_is_preceded_by_a_read_as_well() {
    let bed = Bed::new().await;
    bed.secrets().await;
    bed.simulator.set("3700", NumberConfig::registered());
    bed.declare("support", "3700").await;
    let _operator = bed.operator(SOON).await;
    bed.until_registered("support", "AlreadyRegistered").await;
    let body = error(10, "Application does not have permission");
    bed.simulator.script("3700", vec![answers(403, &body, 9)]);
    bed.request("support", "first").await;
    let number = bed
        .until("support", "the request told as failed", |status| {
            testkit::bed::is(status, "Failed", "True", "PermissionDenied")
        })
        .await;
    let status = number.status.expect("a status");
    assert_eq!(status.last_handled_register_request, None);
    assert!(testkit::bed::is(
        &status,
        "Ready",
        "True",
        "AlreadyRegistered"
    ));
    assert_eq!(bed.posts("3700"), 0);
    bed.simulator.script("3700", vec![]);
    bed.request("support", "second").await;
    bed.until("support", "the request handled", |status| {
        status.last_handled_register_request.as_deref() == Some("second")
            && testkit::bed::is(status, "Failed", "False", "RegistrationSucceeded")
    })
    .await;
    assert_eq!(bed.posts("3700"), 1);
}
