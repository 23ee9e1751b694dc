//! What a call is made of, and how it ended.

use std::time::Duration;

use crate::api::{GraphErrorStatus, PhoneNumberStatus, Reason, WhatsAppPhoneNumberSpec};
use crate::credentials::CallInputs;

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
    pub state: RegistrationState,
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
pub enum RegistrationState {
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
