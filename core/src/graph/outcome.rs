//! The inputs of a call, and its outcome.

use std::time::Duration;

use crate::api::{GraphErrorStatus, PhoneNumberStatus, Reason, WhatsAppPhoneNumberSpec};
use crate::credentials::CallInputs;

/// The inputs of one call.
pub struct Call<'a> {
    /// The number and its options.
    pub spec: &'a WhatsAppPhoneNumberSpec,
    /// The version of the Graph API, for example `v23.0`.
    pub version: &'a str,
    pub inputs: &'a CallInputs,
}

/// The outcome of a register call. All its texts are scrubbed.
#[derive(Clone, Debug, PartialEq)]
pub struct RegisterOutcome {
    pub reason: Reason,
    /// The error, from Graph or a proxy.
    pub error: Option<GraphErrorStatus>,
    /// The HTTP status, if there was an answer.
    pub http_status: Option<u16>,
    /// The trace ID of the answer.
    pub fbtrace_id: Option<String>,
    /// The time for which Graph asks not to be called.
    pub retry_after: Option<Duration>,
    /// What happened, in one line for the user.
    pub message: String,
}

/// The fields of the number that a read asks for. One that Graph does not know makes it reject the whole read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadFields {
    #[default]
    All,
    /// Those that say whether the number is registered.
    Deciding,
    /// Those that say more about a number that was registered: the review of its name, and whether it is on the Business app.
    Optional,
}

/// The outcome of a read. All its texts are scrubbed.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadOutcome {
    /// The fields that were requested.
    pub fields: ReadFields,
    pub state: RegistrationState,
    /// The number as Graph reports it, without the time.
    pub phone_number: Option<PhoneNumberStatus>,
    /// The error, from Graph or a proxy.
    pub error: Option<GraphErrorStatus>,
    /// The trace ID of the answer.
    pub fbtrace_id: Option<String>,
    /// The time for which Graph asks not to be called.
    pub retry_after: Option<Duration>,
    /// The largest share of a rate limit that is used up, in percent.
    pub usage: Option<u32>,
    /// The version of the Graph API that has answered.
    pub version: Option<String>,
    /// What happened, in one line for the user.
    pub message: String,
}

/// The state of the registration, as a read shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistrationState {
    /// The number is registered with the Cloud API.
    Registered,
    /// The number is not registered with the Cloud API.
    NotRegistered,
    /// No call can succeed until the user changes something.
    Stall(Reason),
    /// There is no usable answer: read again later.
    Wait(Reason),
    /// There is an answer that says neither: an error with this reason, or fields that match nothing.
    Unclear(Option<Reason>),
    /// The node is a phone number, and lacks a requested field.
    LacksField,
}

impl ReadOutcome {
    /// Whether Graph has answered with the number, so that its state is the number's and not that of a fault.
    pub const fn is_definite(&self) -> bool {
        match self.state {
            RegistrationState::Registered | RegistrationState::NotRegistered => true,
            RegistrationState::Stall(_) => self.phone_number.is_some(),
            RegistrationState::Wait(_)
            | RegistrationState::Unclear(_)
            | RegistrationState::LacksField => false,
        }
    }

    /// Whether the read has to be repeated, as it had no usable answer.
    pub const fn is_a_wait(&self) -> bool {
        matches!(self.state, RegistrationState::Wait(_))
    }

    /// Whether the token may see the number: the answer has fields of it.
    pub const fn shows_number(&self) -> bool {
        self.phone_number.is_some()
    }
}

impl RegisterOutcome {
    /// The outcome of a call that was not answered, or not made.
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
