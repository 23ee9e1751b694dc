//! The outcome of a call, from its answer.
//!
//! Strict in meaning where `body` is lenient in form: only a JSON object is an answer from Graph, and only one that says
//! so is a success.

use http::HeaderMap;
use jiff::Timestamp;
use serde_json::Value;

use super::body::{Content, GraphError, says_success, text};
use super::outcome::{ReadFields, ReadOutcome, RegisterOutcome, RegistrationState};
use super::rate_limit;
use crate::api::text::{NAME, TEXT, WORD};
use crate::api::{Disposition, GraphErrorStatus, PhoneNumberStatus, REGISTER_REQUESTED_AT, Reason};
use crate::credentials::Scrubber;

/// The result of sending a request.
#[derive(Debug)]
pub enum Exchange {
    /// The request was answered.
    Answered(Answer),
    /// Nothing was sent; the text says why.
    NotSent(String),
    /// The request may have been sent, and there is no answer; the text says why.
    Lost(String),
}

/// An HTTP answer.
#[derive(Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// The body, as far as it was read.
    pub body: Vec<u8>,
    /// Why the body is incomplete, if it is.
    pub fault: Option<String>,
}

/// Reads from an answer what the outcomes of both calls have in common.
struct Reader<'a> {
    answer: &'a Answer,
    content: Content,
    scrubber: &'a Scrubber,
}

/// The outcome of a register call.
pub fn register_outcome(
    exchange: &Exchange,
    scrubber: &Scrubber,
    now: Timestamp,
) -> RegisterOutcome {
    let without_answer =
        |reason, text: &str| RegisterOutcome::without_answer(reason, &scrubber.scrub(text));
    match exchange {
        Exchange::NotSent(why) => without_answer(Reason::GraphUnreachable, why),
        Exchange::Lost(why) => without_answer(Reason::OutcomeUnknown, why),
        Exchange::Answered(answer) => {
            let reader = Reader::new(answer, scrubber);
            let reason = register_reason(answer.status, &reader.content);
            let succeeded = reason == Reason::RegistrationSucceeded;
            RegisterOutcome {
                reason,
                error: (!succeeded).then(|| reader.error()),
                http_status: Some(answer.status),
                fbtrace_id: reader.fbtrace_id(),
                retry_after: rate_limit::retry_after(&answer.headers, now),
                message: reader.message(match reason {
                    Reason::RegistrationSucceeded => ": success",
                    Reason::RegistrationRejected => " without success",
                    _ => "",
                }),
            }
        }
    }
}

/// The outcome of a deregister call.
pub fn deregister_outcome(
    exchange: &Exchange,
    scrubber: &Scrubber,
    now: Timestamp,
) -> RegisterOutcome {
    let outcome = register_outcome(exchange, scrubber, now);
    match outcome.reason {
        Reason::RegistrationSucceeded => RegisterOutcome {
            reason: Reason::Deregistered,
            ..outcome
        },
        _ => outcome,
    }
}

/// The outcome of a read of these fields.
pub fn read_outcome(
    exchange: &Exchange,
    fields: ReadFields,
    scrubber: &Scrubber,
    now: Timestamp,
) -> ReadOutcome {
    let without_answer = |reason, text: &str| ReadOutcome {
        fields,
        state: RegistrationState::Wait(reason),
        phone_number: None,
        error: None,
        fbtrace_id: None,
        retry_after: None,
        usage: None,
        version: None,
        message: scrubber.scrub(text),
    };
    match exchange {
        Exchange::NotSent(why) => without_answer(Reason::GraphUnreachable, why),
        Exchange::Lost(why) => without_answer(Reason::GraphUnavailable, why),
        Exchange::Answered(answer) => {
            let reader = Reader::new(answer, scrubber);
            let number = reader.phone_number();
            let shown = number.as_ref().map(|number| reader.scrubbed(number));
            ReadOutcome {
                fields,
                state: read_state(answer, &reader.content, number.as_ref()),
                error: number.is_none().then(|| reader.error()),
                fbtrace_id: reader.fbtrace_id(),
                retry_after: rate_limit::retry_after(&answer.headers, now),
                usage: rate_limit::usage(&answer.headers),
                version: reader.version(),
                message: reader.message(&shown.as_ref().map(summary).unwrap_or_default()),
                phone_number: shown,
            }
        }
    }
}

/// The reason for an answer to a register call. A redirect is not followed, and the server that sent it may have acted.
fn register_reason(status: u16, content: &Content) -> Reason {
    match content {
        _ if is_redirect(status) => Reason::OutcomeUnknown,
        Content::Error(error) => error.reason(status),
        _ if status == 429 => Reason::RateLimited,
        Content::Object(object) if is_success(status) => {
            if says_success(object) {
                Reason::RegistrationSucceeded
            } else {
                Reason::RegistrationRejected
            }
        }
        Content::Object(_) | Content::Unreadable => Reason::OutcomeUnknown,
    }
}

/// The state of the registration for an answer to a read. Only JSON of Graph's is one: a page of a proxy, a redirect or an
/// incomplete body is not, whatever its status.
fn read_state(
    answer: &Answer,
    content: &Content,
    number: Option<&PhoneNumberStatus>,
) -> RegistrationState {
    match content {
        Content::Error(error) => error_state(error, answer.status),
        _ if answer.status == 429 => RegistrationState::Wait(Reason::RateLimited),
        Content::Object(_) if is_success(answer.status) => {
            number.map_or(RegistrationState::Unclear(None), number_state)
        }
        Content::Object(_) | Content::Unreadable => {
            RegistrationState::Wait(Reason::GraphUnavailable)
        }
    }
}

/// The state of the registration for an error; its code takes precedence.
fn error_state(error: &GraphError, http_status: u16) -> RegistrationState {
    match error.reason(http_status) {
        reason if reason.ends_reads() => RegistrationState::Stall(reason),
        _ if http_status == 429 => RegistrationState::Wait(Reason::RateLimited),
        reason if reason.disposition() == Disposition::Retry => RegistrationState::Wait(reason),
        _ if error.is_phone_number_lacking_a_field() => RegistrationState::LacksField,
        // This one is about a call.
        Reason::RegistrationRejected => RegistrationState::Unclear(Some(Reason::InvalidRequest)),
        reason => RegistrationState::Unclear(Some(reason)),
    }
}

/// The state of the registration for the fields of a number. Meta has no field "registered"; CONNECTED alone misleads.
fn number_state(number: &PhoneNumberStatus) -> RegistrationState {
    match (number.platform_type.as_deref(), number.status.as_deref()) {
        (_, Some("BANNED")) => RegistrationState::Stall(Reason::AccountLocked),
        (_, Some("DELETED" | "MIGRATED")) => RegistrationState::Stall(Reason::PhoneNumberNotFound),
        (Some("CLOUD_API"), Some("CONNECTED" | "FLAGGED" | "RATE_LIMITED" | "RESTRICTED")) => {
            RegistrationState::Registered
        }
        (Some("NOT_APPLICABLE"), _) | (_, Some("DISCONNECTED" | "UNVERIFIED")) => {
            RegistrationState::NotRegistered
        }
        (Some("CLOUD_API"), Some("PENDING")) => RegistrationState::Unclear(None),
        (_, Some("PENDING")) => RegistrationState::NotRegistered,
        _ => RegistrationState::Unclear(None),
    }
}

fn summary(number: &PhoneNumberStatus) -> String {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    format!(
        ": status {}, platform_type {}",
        or_none(&number.status),
        or_none(&number.platform_type)
    )
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

fn is_redirect(status: u16) -> bool {
    (300..400).contains(&status)
}

// === impl Reader ===

impl<'a> Reader<'a> {
    fn new(answer: &'a Answer, scrubber: &'a Scrubber) -> Self {
        Self {
            answer,
            content: Content::parse(&answer.body),
            scrubber,
        }
    }

    /// The fields of the number, unredacted, if the answer has any.
    fn phone_number(&self) -> Option<PhoneNumberStatus> {
        let Content::Object(object) = &self.content else {
            return None;
        };
        let field = |name| object.get(name).and_then(text);
        let number = PhoneNumberStatus {
            status: field("status"),
            platform_type: field("platform_type"),
            code_verification_status: field("code_verification_status"),
            display_phone_number: field("display_phone_number"),
            verified_name: field("verified_name"),
            quality_rating: field("quality_rating"),
            name_status: field("name_status"),
            new_name_status: field("new_name_status"),
            on_business_app: object.get("is_on_biz_app").and_then(Value::as_bool),
            observed_time: None,
        };
        (is_success(self.answer.status) && number != PhoneNumberStatus::default()).then_some(number)
    }

    fn scrubbed(&self, number: &PhoneNumberStatus) -> PhoneNumberStatus {
        PhoneNumberStatus {
            status: self.clean(number.status.as_deref(), WORD),
            platform_type: self.clean(number.platform_type.as_deref(), WORD),
            code_verification_status: self.clean(number.code_verification_status.as_deref(), WORD),
            display_phone_number: self.clean(number.display_phone_number.as_deref(), WORD),
            verified_name: self.clean(number.verified_name.as_deref(), NAME),
            quality_rating: self.clean(number.quality_rating.as_deref(), WORD),
            name_status: self.clean(number.name_status.as_deref(), WORD),
            new_name_status: self.clean(number.new_name_status.as_deref(), WORD),
            on_business_app: number.on_business_app,
            observed_time: None,
        }
    }

    fn error(&self) -> GraphErrorStatus {
        let none = GraphError::default();
        let error = match &self.content {
            Content::Error(error) => error,
            Content::Object(_) | Content::Unreadable => &none,
        };
        GraphErrorStatus {
            http_status: Some(i32::from(self.answer.status)),
            type_: self.clean(error.type_.as_deref(), WORD),
            code: error.code,
            subcode: error.subcode,
            message: self.clean(error.message_with_details().as_deref(), TEXT),
            user_title: self.clean(error.user_title.as_deref(), NAME),
            user_message: self.clean(error.user_message.as_deref(), TEXT),
            fbtrace_id: self.fbtrace_id(),
            transient: error.transient,
        }
    }

    /// The version that has answered: where the one that was asked for is past its end, Graph answers with the oldest that is not.
    fn version(&self) -> Option<String> {
        let header = self.answer.headers.get("facebook-api-version")?;
        self.clean(header.to_str().ok(), WORD)
    }

    /// The trace ID of the error, else that of a header. A header may be present and blank.
    fn fbtrace_id(&self) -> Option<String> {
        let from_error = match &self.content {
            Content::Error(error) => error.fbtrace_id.as_deref(),
            Content::Object(_) | Content::Unreadable => None,
        };
        let header = |name| {
            self.answer
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        [
            from_error,
            header("x-fb-trace-id"),
            header("x-fb-request-id"),
        ]
        .into_iter()
        .find_map(|text| self.clean(text, WORD))
    }

    /// The message of the outcome, in one line.
    fn message(&self, what: &str) -> String {
        let status = self.answer.status;
        let detail = match &self.content {
            Content::Error(error) => self.error_text(error),
            Content::Object(_) if !what.is_empty() => what.to_owned(),
            Content::Object(_) => " with JSON that is not a Graph answer to this call".to_owned(),
            Content::Unreadable => self.unreadable_text(),
        };
        let trace = self
            .fbtrace_id()
            .map(|id| format!(", trace {id}"))
            .unwrap_or_default();
        format!("Graph answered HTTP {status}{detail}{trace}")
    }

    fn error_text(&self, error: &GraphError) -> String {
        let mut line = error
            .code
            .map(|code| format!(", code {code}"))
            .unwrap_or_default();
        if let Some(subcode) = error.subcode {
            line += &format!(", subcode {subcode}");
        }
        if let Some(message) = self.clean(error.message.as_deref(), TEXT) {
            line += &format!(": \"{message}\"");
        }
        if let Some(details) = self.clean(error.details.as_deref(), TEXT) {
            line += &format!(" (details: {details})");
        }
        if error.asks_for_login() {
            line += &format!(
                " (the user of the token has to log in and pass a check of Facebook's; as the token stays, set the annotation \
                 {REGISTER_REQUESTED_AT} to a new value after that)"
            );
        }
        if let Some(node) = self.clean(error.foreign_node(), WORD) {
            line += &format!(" (this is the ID of a {node})");
        }
        line
    }

    fn unreadable_text(&self) -> String {
        match (&self.answer.fault, self.answer.body.is_empty()) {
            (Some(fault), _) => format!(" with a body that {}", self.scrubber.scrub(fault)),
            (None, true) => " with an empty body".to_owned(),
            (None, false) => " with a body that is not a Graph answer".to_owned(),
        }
    }

    /// Redacts a text from an answer; returns `None` if nothing is left.
    fn clean(&self, text: Option<&str>, max_chars: usize) -> Option<String> {
        text.map(|text| self.scrubber.scrub_to(text, max_chars))
            .filter(|text| !text.is_empty())
    }
}
