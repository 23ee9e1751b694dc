//! What Graph answers, by the real parsers: every text echoes the secrets, which none of them may let through.

use http::HeaderMap;
use jiff::Timestamp;
use serde_json::json;

use operator_core::api::{Operation, Reason};
use operator_core::credentials::Digests;
use operator_core::credentials::Scrubber;
use operator_core::graph::response::{
    Answer, Exchange, deregister_outcome, read_outcome, register_outcome,
};
use operator_core::graph::{ReadFields, ReadOutcome, RegisterOutcome};
use testkit::builders::{PIN, TOKEN, inputs, spec};
use testkit::world::START;

/// What calls are made of with the wrong PIN and with the right one.
pub(super) fn digests() -> [Digests; 2] {
    let mut wrong = inputs();
    wrong.pin = "000000".into();
    [wrong, inputs()].map(|inputs| inputs.digests(&spec()))
}

/// By `Outcome`.
pub(super) fn outcomes(operation: Operation) -> Vec<RegisterOutcome> {
    let echo = format!("no call with {TOKEN} and {PIN}");
    let success = answer(200, json!({"success": true, "note": echo}));
    let pin_mismatch = error(400, 133_005, &echo);
    let fault = error(500, 2, &echo);
    let rejected = answer(200, json!({"success": false, "note": echo}));
    let refused = error(400, 100, &echo);
    let answered = [
        success,
        pin_mismatch,
        fault,
        rejected,
        refused,
        Exchange::Lost(echo.clone()),
        Exchange::NotSent(echo),
    ];
    let scrubber = Scrubber::new(&inputs());
    let read = |exchange: &Exchange| match operation {
        Operation::Register => register_outcome(exchange, &scrubber, now()),
        Operation::Deregister => deregister_outcome(exchange, &scrubber, now()),
    };
    let mut outcomes: Vec<RegisterOutcome> = answered.iter().map(read).collect();
    let not_sent = RegisterOutcome::without_answer(Reason::NotSent, "too late, or not alone");
    outcomes.push(not_sent);
    outcomes
}

/// By `Look`.
pub(super) fn readings() -> [ReadOutcome; 4] {
    let number = |platform: &str, status: &str| {
        answer(
            200,
            json!({"id": "106540352242922", "platform_type": platform, "status": status,
                   "verified_name": format!("{TOKEN} {PIN}")}),
        )
    };
    let answered = [
        number("CLOUD_API", "CONNECTED"),
        number("NOT_APPLICABLE", "DISCONNECTED"),
        error(500, 2, TOKEN),
        error(401, 190, TOKEN),
    ];
    let scrubber = Scrubber::new(&inputs());
    answered.map(|exchange| read_outcome(&exchange, ReadFields::All, &scrubber, now()))
}

/// The optional read: it is no number of the Business app.
pub(super) fn details() -> ReadOutcome {
    let exchange = answer(
        200,
        json!({"id": "106540352242922", "is_on_biz_app": false}),
    );
    let scrubber = Scrubber::new(&inputs());
    read_outcome(&exchange, ReadFields::Optional, &scrubber, now())
}

fn error(status: u16, code: i64, message: &str) -> Exchange {
    answer(
        status,
        json!({"error": {"code": code, "message": message, "fbtrace_id": "Atrace"}}),
    )
}

fn answer(status: u16, body: serde_json::Value) -> Exchange {
    Exchange::Answered(Answer {
        status,
        headers: HeaderMap::new(),
        body: body.to_string().into_bytes(),
        fault: None,
    })
}

fn now() -> Timestamp {
    Timestamp::from_second(START).expect("a time")
}
