//! The two calls to Meta's Graph API: read a phone number, and register it.
//!
//! A call is three pieces: [`request`] builds it (pure, the only place where secrets go into a message), [`client`] sends
//! it (I/O, once, with no retry and no redirect), [`response`] makes a result of the answer (pure; [`codes`] and [`usage`]
//! know Meta's error codes and rate limit headers). A refusal, a rate limit or a lost answer is a result, not an error.
//!
//! What matters most is the line between [`Reason::GraphUnreachable`] (no connection was made, so nothing was sent and
//! nothing was spent) and [`Reason::OutcomeUnknown`] (the request may have acted). When in doubt it is the latter.
//!
//! The contract: `POST /{version}/{phone-number-id}/register` and `GET /{version}/{phone-number-id}` of Meta's OpenAPI
//! file (facebook/openapi, business-messaging-api v23.0), with error codes from the Cloud API's error code page and the
//! register edge's reference, as the OpenAPI file knows only generic ones.

use std::time::Duration;

use crate::api::{GraphErrorStatus, PhoneNumberStatus, WhatsAppPhoneNumberSpec};
use crate::reason::Reason;
use crate::secrets::CallInputs;

mod body;
pub mod client;
pub mod codes;
pub mod request;
pub mod response;
pub mod usage;

pub use client::{GraphClient, GraphClientError, GraphSettings, check_base_url};
use codes::ErrorSignature;

/// What one call is made of.
pub struct Call<'a> {
    /// The number and what to ask for it.
    pub spec: &'a WhatsAppPhoneNumberSpec,
    /// The version of the Graph API, for example `v23.0`.
    pub version: &'a str,
    /// The secrets.
    pub inputs: &'a CallInputs,
}

/// How a register call ended. Every text in it is scrubbed.
#[derive(Clone, Debug, PartialEq)]
pub struct RegisterOutcome {
    /// The outcome in one word.
    pub reason: Reason,
    /// What Graph, or something on the way, answered instead of success.
    pub error: Option<GraphErrorStatus>,
    /// The HTTP status, if there was an answer.
    pub http_status: Option<u16>,
    /// The trace ID of the answer.
    pub fbtrace_id: Option<String>,
    /// For how long Graph asks not to be called.
    pub retry_after: Option<Duration>,
    /// What happened, in one line for people.
    pub message: String,
}

/// How a read ended. Every text in it is scrubbed.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadOutcome {
    /// What the answer says about the registration.
    pub verdict: Verdict,
    /// What Graph said of the number, without the time.
    pub phone_number: Option<PhoneNumberStatus>,
    /// What Graph, or something on the way, answered instead of the number.
    pub error: Option<GraphErrorStatus>,
    /// The trace ID of the answer.
    pub fbtrace_id: Option<String>,
    /// For how long Graph asks not to be called.
    pub retry_after: Option<Duration>,
    /// What happened, in one line for people.
    pub message: String,
}

/// What a read says about the registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The number is registered with the Cloud API.
    Registered,
    /// It is not.
    NotRegistered,
    /// No call can succeed until a person changes something.
    Stall(Reason),
    /// Nothing is known: read again later.
    Wait(Reason),
    /// Graph answered, and the answer says neither yes nor no.
    Unknown,
}

impl RegisterOutcome {
    /// The outcome of a call that nobody answered, or that was not made.
    pub fn without_answer(reason: Reason, message: &str) -> Self {
        Self {
            reason,
            error: None,
            http_status: None,
            fbtrace_id: None,
            retry_after: None,
            message: message.to_owned(),
        }
    }
}

/// The reason that an error stands for which is kept in a status.
pub fn classify(error: &GraphErrorStatus) -> Reason {
    codes::classify(ErrorSignature {
        http_status: error
            .http_status
            .and_then(|status| u16::try_from(status).ok())
            .unwrap_or(0),
        code: error.code,
        subcode: error.subcode,
        transient: error.transient.unwrap_or(false),
    })
}
