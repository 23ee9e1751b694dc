//! Statuses as the operator writes them: made by its own functions from answers of Graph.

use std::time::Duration;

use jiff::Timestamp;
use operator_core::api::Operation;
use operator_core::api::{LedgerEntry, PhoneNumberStatus, WhatsAppPhoneNumberStatus};
use operator_core::credentials::Scrubber;
use operator_core::graph::response::{Answer, Exchange, register_outcome};
use operator_core::model::Policy;
use operator_core::model::schedule::Backoff;
use operator_core::model::{ApplyContext, CallResult, apply_outcome};

/// When the calls were made: 2026-03-01T12:00:00Z.
const CALLED: i64 = 1_772_366_400;

/// A wrong PIN, as Graph answers it.
pub const WRONG_PIN: &str = r#"{"error": {"message": "(#133005) Two-step verification PIN mismatch", "type": "OAuthException",
    "code": 133005, "error_data": {"messaging_product": "whatsapp", "details": "The PIN does not match."},
    "fbtrace_id": "AbCdEfGhIjK"}}"#;

/// A rate limit, as Graph answers it.
pub const RATE_LIMIT: &str = r#"{"error": {"message": "(#80007) Rate limit hit", "type": "OAuthException",
    "code": 80007, "fbtrace_id": "ZyXwVuTsRqP"}}"#;

/// A success.
pub const SUCCESS: &str = r#"{"success": true}"#;

/// The status of a resource after one register call that had this answer.
pub fn after(http_status: u16, body: &str, generation: i64) -> WhatsAppPhoneNumberStatus {
    let now = Timestamp::from_second(CALLED).expect("a time");
    let answer = Answer {
        status: http_status,
        body: body.as_bytes().to_vec(),
        ..Answer::default()
    };
    let outcome = register_outcome(&Exchange::Answered(answer), &Scrubber::default(), now);
    let result = CallResult {
        operation: Operation::Register,
        id: "claim",
        outcome: &outcome,
        handled_before: None,
    };
    let course = ApplyContext {
        policy: &policy(),
        cooldown: None,
        generation,
        jitter: 0.0,
        now,
    };
    apply_outcome(&claimed(now), &result, &course)
}

fn claimed(now: Timestamp) -> WhatsAppPhoneNumberStatus {
    let claim = LedgerEntry::open(
        Operation::Register,
        "claim",
        Duration::from_secs(60),
        None,
        now,
    );
    let shown = PhoneNumberStatus {
        display_phone_number: Some("+49 30 901820".to_owned()),
        verified_name: Some("Lucky Shrub".to_owned()),
        status: Some("PENDING".to_owned()),
        platform_type: Some("NOT_APPLICABLE".to_owned()),
        ..PhoneNumberStatus::default()
    };
    WhatsAppPhoneNumberStatus {
        attempts: vec![claim],
        phone_number: Some(shown),
        graph_api_version: Some("v23.0".to_owned()),
        ..WhatsAppPhoneNumberStatus::unseen()
    }
}

fn policy() -> Policy {
    Policy {
        attempt_limit: 8,
        backoff: Backoff {
            base: Duration::from_secs(30),
            cap: Duration::from_secs(18 * 3600),
        },
        confirm_window: Duration::from_secs(120),
        claim_ttl: Duration::from_secs(60),
        graph_api_version: "v23.0".to_owned(),
        life: operator_core::model::Life::default(),
        secret_poll: None,
    }
}
