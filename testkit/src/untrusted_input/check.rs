//! What must hold of everything that is made of foreign bytes. Also compiled into `fuzz/`, so only what is public is used.

use serde_json::json;

use super::schema::status_faults;
use operator_core::api::text::{MESSAGE, NAME, TEXT, WORD};
use operator_core::api::{GraphErrorStatus, PhoneNumberStatus, WhatsAppPhoneNumberStatus};
use operator_core::graph::{ReadOutcome, RegisterOutcome};
use operator_core::model::event::EventDraft;

/// The longest message of an outcome: two texts of Graph's, a trace ID and some words.
const OUTCOME: usize = 2 * TEXT + 300;

/// One line of so many characters, without what looks like a token of Meta's.
pub fn text(text: &str, max_chars: usize) {
    line(text, max_chars);
    assert!(!holds_token(text), "like a token: {text:?}");
}

/// One line of so many characters.
pub fn line(text: &str, max_chars: usize) {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202e}');
    assert!(!text.chars().any(breaks), "not one plain line: {text:?}");
    let chars = text.chars().count();
    assert!(
        chars <= max_chars,
        "{chars} characters are more than {max_chars}: {text:?}"
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
    line(&outcome.message, OUTCOME);
    assert!(!holds_token(&outcome.message), "{}", outcome.message);
    outcome.error.as_ref().map(error);
    optional(&outcome.fbtrace_id, WORD);
    wait(outcome.retry_after);
}

/// The outcome of a read.
pub fn read_outcome(outcome: &ReadOutcome) {
    line(&outcome.message, OUTCOME);
    assert!(!holds_token(&outcome.message), "{}", outcome.message);
    outcome.error.as_ref().map(error);
    outcome.phone_number.as_ref().map(phone_number);
    optional(&outcome.fbtrace_id, WORD);
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
    optional(&error.message, TEXT);
    optional(&error.user_message, TEXT);
    optional(&error.user_title, NAME);
    optional(&error.type_, WORD);
    optional(&error.fbtrace_id, WORD);
}

fn phone_number(number: &PhoneNumberStatus) {
    optional(&number.verified_name, NAME);
    for word in [
        &number.status,
        &number.platform_type,
        &number.code_verification_status,
        &number.display_phone_number,
        &number.quality_rating,
    ] {
        optional(word, WORD);
    }
}

fn optional(shown: &Option<String>, max_chars: usize) {
    if let Some(shown) = shown {
        text(shown, max_chars);
    }
}

/// A status that the operator made from its own earlier ones: the API server takes it, and its texts are short.
pub fn status(status: &WhatsAppPhoneNumberStatus) {
    takes(status);
    status.last_error.as_ref().map(error);
    status.phone_number.as_ref().map(phone_number);
    let registration = status.registration.as_ref().map(|found| &found.message);
    let wait = status.wait.as_ref().map(|found| &found.message);
    let stall = status.stall.as_ref().map(|found| &found.message);
    let hold = status.hold.as_ref().map(|found| &found.message);
    for message in [registration, wait, stall, hold].into_iter().flatten() {
        line(message, OUTCOME);
    }
}

/// A status that the API server takes, with messages as they should be.
pub fn takes(status: &WhatsAppPhoneNumberStatus) {
    let faults = status_faults(&json!(status));
    assert!(faults.is_empty(), "{faults:?}");
    for condition in &status.conditions {
        line(&condition.message, MESSAGE);
    }
}

/// An event.
pub fn notice(notice: &EventDraft) {
    line(&notice.note, MESSAGE);
    assert!((1..=128).contains(&notice.reason.len()) && !notice.action.is_empty());
}

/// `EAA` and four more letters or digits.
fn holds_token(text: &str) -> bool {
    let rest = |at: usize| text.bytes().skip(at + 3).take(4);
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    text.match_indices("EAA")
        .any(|(at, _)| rest(at).count() == 4 && rest(at).all(is_word))
}
