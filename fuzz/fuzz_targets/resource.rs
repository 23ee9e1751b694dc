//! A resource as JSON that the CRD admits, and answers to its calls.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use operator_core::api::WhatsAppPhoneNumber;
use operator_core::graph::ReadFields;
use operator_core::graph::response::{Answer, Exchange, read_outcome, register_outcome};
use testkit::untrusted_input::player::Player;
use operator_core::credentials::Scrubber;
use operator_core::model::event;
use testkit::untrusted_input::{check, schema};
use whatsapp_operator_fuzz::{inputs, take};

fn answer(what: u8) -> Exchange {
    let (status, body): (u16, &str) = match what % 9 {
        0 => (200, r#"{"success":true}"#),
        1 => (200, r#"{"platform_type":"CLOUD_API","status":"CONNECTED"}"#),
        2 => (
            200,
            r#"{"platform_type":"NOT_APPLICABLE","status":"PENDING"}"#,
        ),
        3 => (400, r#"{"error":{"code":133005,"message":"PIN"}}"#),
        4 => (400, r#"{"error":{"code":133016,"message":"too many"}}"#),
        5 => (429, ""),
        6 => (500, "<html>"),
        7 => (422, r#"{"error":{"code":100,"message":"no"}}"#),
        _ => return Exchange::NotSent("no connection".to_owned()),
    };
    Exchange::Answered(Answer {
        status,
        body: body.as_bytes().to_vec(),
        ..Answer::default()
    })
}

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let answers = [
        take(&mut data),
        take(&mut data),
        take(&mut data),
        take(&mut data),
    ];
    let Ok(value) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    let status = value
        .get("status")
        .cloned()
        .unwrap_or_else(|| serde_json::json!({}));
    if !schema::status_faults(&status).is_empty() {
        return; // The API server would not have stored it.
    }
    let Ok(resource) = serde_json::from_value::<WhatsAppPhoneNumber>(value) else {
        return;
    };
    if resource
        .metadata
        .generation
        .is_some_and(|generation| generation < 0)
    {
        return; // The API server counts it.
    }
    if let Some(remark) = event::of_request(&resource) {
        check::notice(&remark);
    }
    let scrubber = Scrubber::new(&inputs());
    let digests = inputs().digests(&resource.spec);
    let mut player = Player::new(resource, Ok(digests));
    player.own = false;
    for pair in answers.windows(2) {
        let read = read_outcome(&answer(pair[0]), ReadFields::All, &scrubber, player.now());
        let register = register_outcome(&answer(pair[1]), &scrubber, player.now());
        player.pass(&read, &register);
        player.sleep(Duration::from_secs(u64::from(pair[0]) * 600));
    }
});
