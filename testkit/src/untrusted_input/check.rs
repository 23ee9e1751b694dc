//! What must hold of everything that is made of foreign bytes. Also compiled into `fuzz/`, so only what is public is used.

use serde_json::{Value, json};

use super::schema::status_faults;
use operator_core::api::text::{Bound, STATUS_MAX_BYTES, stored_bytes};
use operator_core::api::{GraphErrorStatus, PhoneNumberStatus, WhatsAppPhoneNumberStatus};
use operator_core::graph::{ReadOutcome, RegisterOutcome};
use operator_core::model::event::EventDraft;

/// The longest message of an outcome: two texts of Graph's, a trace ID and some words.
const OUTCOME_MAX_BYTES: usize = 2 * Bound::TEXT.bytes + 300;

/// A resource may not grow beyond this by the operator's doing.
const RESOURCE_MAX_BYTES: usize = 16 * 1024;

/// The longest note that an event may carry.
const NOTE_MAX_BYTES: usize = 1_024;

/// One line within a bound, without what looks like a token of Meta's.
pub fn text(text: &str, bound: Bound) {
    line(text, bound.bytes);
    assert!(
        text.chars().count() <= bound.chars,
        "too many characters: {text:?}"
    );
    assert!(!holds_token(text), "like a token: {text:?}");
}

/// One line of so many bytes as stored.
pub fn line(text: &str, bytes: usize) {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202e}');
    assert!(!text.chars().any(breaks), "not one plain line: {text:?}");
    let size = stored_bytes(text);
    assert!(
        size <= bytes,
        "{size} bytes are more than {bytes}: {text:?}"
    );
}

/// No secret stands in the text.
pub fn secrets_absent(shown: &str, secrets: &[&str]) {
    for secret in secrets {
        assert!(!shown.contains(secret), "{secret:?} stands in {shown:?}");
    }
}

/// The outcome of a register call.
pub fn register_outcome(outcome: &RegisterOutcome) {
    line(&outcome.message, OUTCOME_MAX_BYTES);
    assert!(!holds_token(&outcome.message), "{}", outcome.message);
    outcome.error.as_ref().map(error);
    optional(&outcome.fbtrace_id, Bound::WORD);
    wait(outcome.retry_after);
}

/// The outcome of a read.
pub fn read_outcome(outcome: &ReadOutcome) {
    line(&outcome.message, OUTCOME_MAX_BYTES);
    assert!(!holds_token(&outcome.message), "{}", outcome.message);
    outcome.error.as_ref().map(error);
    outcome.phone_number.as_ref().map(phone_number);
    optional(&outcome.fbtrace_id, Bound::WORD);
    wait(outcome.retry_after);
}

/// How long Graph asks not to be called.
pub fn wait(wait: Option<std::time::Duration>) {
    let longest = operator_core::graph::rate_limit::MAX_WAIT;
    assert!(
        wait.is_none_or(|wait| !wait.is_zero() && wait <= longest),
        "{wait:?}"
    );
}

fn error(error: &GraphErrorStatus) {
    optional(&error.message, Bound::TEXT);
    optional(&error.user_message, Bound::TEXT);
    optional(&error.user_title, Bound::NAME);
    optional(&error.type_, Bound::WORD);
    optional(&error.fbtrace_id, Bound::WORD);
}

fn phone_number(number: &PhoneNumberStatus) {
    optional(&number.verified_name, Bound::NAME);
    for word in [
        &number.status,
        &number.platform_type,
        &number.code_verification_status,
        &number.display_phone_number,
        &number.quality_rating,
    ] {
        optional(word, Bound::WORD);
    }
}

fn optional(shown: &Option<String>, bound: Bound) {
    if let Some(shown) = shown {
        text(shown, bound);
    }
}

/// A status that the operator made from its own earlier ones: the API server takes it, and it is small.
pub fn status(status: &WhatsAppPhoneNumberStatus) {
    takes(status);
    status.last_error.as_ref().map(error);
    status.phone_number.as_ref().map(phone_number);
    let value = json!(status);
    let (size, whole) = (
        json_bytes(&value),
        json_bytes(&value) + managed_fields_bytes(&value),
    );
    assert!(
        size <= STATUS_MAX_BYTES,
        "a status of {size} bytes: {value}"
    );
    assert!(
        whole <= RESOURCE_MAX_BYTES,
        "{whole} bytes with managed fields: {value}"
    );
}

/// A status that the API server takes, with messages as they should be.
pub fn takes(status: &WhatsAppPhoneNumberStatus) {
    let faults = status_faults(&json!(status));
    assert!(faults.is_empty(), "{faults:?}");
    for condition in &status.conditions {
        line(&condition.message, Bound::MESSAGE.bytes);
    }
}

/// An event.
pub fn notice(notice: &EventDraft) {
    line(&notice.note, usize::MAX);
    assert!(notice.note.len() <= NOTE_MAX_BYTES, "{notice:?}");
    assert!((1..=128).contains(&notice.reason.len()) && !notice.action.is_empty());
}

/// `EAA` and four more letters or digits.
fn holds_token(text: &str) -> bool {
    let rest = |at: usize| text.bytes().skip(at + 3).take(4);
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    text.match_indices("EAA")
        .any(|(at, _)| rest(at).count() == 4 && rest(at).all(is_word))
}

/// The size of a value as the API server stores it.
pub fn json_bytes(value: &Value) -> usize {
    let text = |text: &str| stored_bytes(text) + 2;
    match value {
        Value::String(string) => text(string),
        Value::Array(items) => items.iter().map(|item| json_bytes(item) + 1).sum::<usize>() + 2,
        Value::Object(fields) => {
            let field = |(name, value): (&String, _)| text(name) + json_bytes(value) + 2;
            fields.iter().map(field).sum::<usize>() + 2
        }
        other => other.to_string().len(),
    }
}

/// The size of what the API server notes about the fields of a status.
pub fn managed_fields_bytes(status: &Value) -> usize {
    let entry = json!({
        "manager": operator_core::api::MANAGER, "operation": "Update", "apiVersion": "whatsapp-operator.dev/v1alpha1",
        "time": "2026-11-22T12:00:00Z", "fieldsType": "FieldsV1", "subresource": "status",
        "fieldsV1": {"f:status": managed(status)},
    });
    json_bytes(&entry) + "\"managedFields\":[],".len()
}

fn managed(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| (format!("f:{name}"), managed(value));
            let mut noted: serde_json::Map<_, _> = fields.iter().map(field).collect();
            if let Some(conditions) = fields.get("conditions").and_then(Value::as_array) {
                let entry = |item: &Value| {
                    let mut fields = managed(item);
                    fields["."] = json!({});
                    (format!("k:{}", json!({"type": item["type"]})), fields)
                };
                let items: serde_json::Map<_, _> = conditions.iter().map(entry).collect();
                noted.insert("f:conditions".to_owned(), items.into());
            }
            noted.insert(".".to_owned(), json!({}));
            noted.into()
        }
        _ => json!({}),
    }
}
