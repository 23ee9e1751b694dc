//! The body of an answer: an error, another object, or neither.
//!
//! Parsing is lenient in form: numbers as text, missing fields, `error_data` of any kind. Meta's pages, its samples and
//! real answers differ in all of these.

use serde_json::{Map, Value};

use super::codes::{ErrorSignature, classify_signature, is_phone_number, node_lacking_a_field};
use crate::api::Reason;

/// The content of a body.
pub(super) enum Content {
    /// An error from Graph.
    Error(Box<GraphError>),
    /// Another JSON object.
    Object(Map<String, Value>),
    /// Anything that is not an answer from Graph.
    Unreadable,
}

/// The field `error` of an answer, unredacted.
#[derive(Default)]
pub(super) struct GraphError {
    pub(super) message: Option<String>,
    pub(super) type_: Option<String>,
    pub(super) code: Option<i64>,
    pub(super) subcode: Option<i64>,
    pub(super) transient: Option<bool>,
    pub(super) user_title: Option<String>,
    pub(super) user_message: Option<String>,
    pub(super) details: Option<String>,
    pub(super) fbtrace_id: Option<String>,
}

/// Whether the answer has `"success": true`, directly or in the form of the example on the reference page
/// (`{"successful_registration": {"value": {"success": true}}}`). One of Meta's samples has the value as text.
pub(super) fn says_success(object: &Map<String, Value>) -> bool {
    let is_true = |value: &Value| truth(value) == Some(true);
    object.get("success").is_some_and(is_true)
        || object
            .values()
            .any(|example| example.pointer("/value/success").is_some_and(is_true))
}

// === impl Content ===

impl Content {
    pub(super) fn parse(body: &[u8]) -> Self {
        let body = body.trim_ascii();
        // The example on the reference page has a stray backslash before the first brace.
        let Ok(Value::Object(object)) =
            serde_json::from_slice(body.strip_prefix(b"\\").unwrap_or(body))
        else {
            return Self::Unreadable;
        };
        match object.get("error") {
            Some(Value::Object(error)) => GraphError::parse(error)
                .map_or(Self::Unreadable, |error| Self::Error(Box::new(error))),
            _ => Self::Object(object),
        }
    }
}

// === impl GraphError ===

impl GraphError {
    /// Returns `None` for an object without any field that all of Graph's errors have: gateways write `error` objects
    /// too.
    fn parse(error: &Map<String, Value>) -> Option<Self> {
        let field = |name| error.get(name).and_then(text);
        let number = |name| error.get(name).and_then(integer);
        let parsed = Self {
            message: field("message"),
            type_: field("type"),
            code: number("code"),
            subcode: number("error_subcode"),
            transient: error.get("is_transient").and_then(truth),
            user_title: field("error_user_title"),
            user_message: field("error_user_msg"),
            details: error.get("error_data").and_then(details),
            fbtrace_id: field("fbtrace_id"),
        };
        let is_graph =
            parsed.code.is_some() || parsed.type_.is_some() || parsed.fbtrace_id.is_some();
        is_graph.then_some(parsed)
    }

    pub(super) fn reason(&self, http_status: u16) -> Reason {
        classify_signature(ErrorSignature {
            http_status,
            code: self.code,
            subcode: self.subcode,
            transient: self.transient.unwrap_or_default(),
            message: self.message_with_details().as_deref(),
        })
    }

    /// Whether the token is refused until its user has logged in: 459, a checkpoint; 464, an unconfirmed user.
    pub(super) fn asks_for_login(&self) -> bool {
        self.code == Some(190) && matches!(self.subcode, Some(459 | 464))
    }

    /// Whether a read of a phone number asked for a field that Graph does not know.
    pub(super) fn is_phone_number_lacking_a_field(&self) -> bool {
        self.node().is_some_and(is_phone_number)
    }

    /// The type of the node, where the ID is not that of a phone number.
    pub(super) fn foreign_node(&self) -> Option<&str> {
        self.node().filter(|node| !is_phone_number(node))
    }

    /// The type of the node that lacks a field which a read asked for.
    fn node(&self) -> Option<&str> {
        let message = self.message.as_deref().filter(|_| self.code == Some(100))?;
        node_lacking_a_field(message)
    }

    pub(super) fn message_with_details(&self) -> Option<String> {
        match (&self.message, &self.details) {
            (Some(message), Some(details)) => Some(format!("{message} (details: {details})")),
            (message, details) => message.clone().or_else(|| details.clone()),
        }
    }
}

/// The text of `error_data`: its `details`, or the text that it is, or any other value as JSON.
fn details(data: &Value) -> Option<String> {
    match data.get("details").unwrap_or(data) {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// A text, or a number as text.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()).filter(|text| !text.trim().is_empty()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// An integer, or one as text: some relays write codes as text.
fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn truth(value: &Value) -> Option<bool> {
    value
        .as_bool()
        .or_else(|| value.as_str()?.trim().parse().ok())
}
