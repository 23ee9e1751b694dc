//! What an answer means by the tables of docs/design/protocol.md and the table of reasons, written a second time and from the other end: from the step of a script
//! that made it. Where this and the operator differ, one of the two is wrong.

use operator_core::api::Reason;
use operator_core::graph::RegistrationState;

use super::RAW;
use super::TIMEOUT;
use testkit::simulator::{Action, ErrorStep, Shown};

/// The operator reads so much of a body.
const LARGEST_BODY: usize = 64 * 1024;

/// What came back, as the client can tell.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// No answer, or none in time.
    Nothing,
    /// An HTTP status, and what the body says.
    Said(u16, Said),
}

/// What a body says.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// `"success": true` in one of its forms.
    Success,
    /// Another JSON object.
    Object,
    /// Not what Graph would say.
    Unreadable,
    /// It breaks off, or never ends.
    Cut,
    /// The state of a number.
    Number(Shown),
    /// The error that asks for an `appsecret_proof`.
    ProofMissing,
    /// An error of Graph.
    Error {
        code: Option<i64>,
        subcode: Option<i64>,
        transient: bool,
    },
}

/// What came of a deregister call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// The number is off.
    Done,
    /// It may be: a read tells.
    Unknown,
    /// Graph will not, or the number is off already: a read tells. Where it is registered, people have to go on.
    Refused,
    /// Another call may follow.
    Again,
    /// Not in the next 72 hours.
    Blocked,
}

/// The reason for each code.
const CODES: &[(Reason, &[i64])] = &[
    (Reason::TokenRejected, &[0, 102, 104, 190]),
    (
        Reason::PermissionDenied,
        &[3, 5, 10, 200, 250, 299, 131_005],
    ),
    (Reason::PhoneNumberNotFound, &[33, 803]),
    (Reason::PinMismatch, &[133_005]),
    (Reason::PinLocked, &[133_008, 133_009]),
    (Reason::AccountLocked, &[131_031, 368]),
    (Reason::OwnershipNotVerified, &[133_006]),
    (Reason::CertificateUnavailable, &[131_045]),
    (Reason::InvalidRequest, &[131_008, 131_009, 2_500]),
    (Reason::RecentlyDeregistered, &[133_015]),
    (Reason::DeregistrationIncomplete, &[133_000]),
    (Reason::RegistrationBlocked, &[133_016]),
    (
        Reason::RateLimited,
        &[4, 17, 32, 341, 613, 80_007, 80_008, 130_429],
    ),
    (
        Reason::GraphUnavailable,
        &[1, 2, 131_000, 131_016, 131_057, 133_004, 2_494_100],
    ),
];

/// Every code of the table.
pub fn codes() -> impl Iterator<Item = i64> {
    CODES.iter().flat_map(|(_, codes)| codes.iter().copied())
}

/// The codes after which the operator tries again by itself, soon.
pub fn retried_codes() -> impl Iterator<Item = i64> {
    let retried = |reason: &Reason| matches!(reason, Reason::GraphUnavailable);
    let rows = CODES.iter().filter(move |(reason, _)| retried(reason));
    rows.flat_map(|(_, codes)| codes.iter().copied())
}

/// What a step's answer is for a client that waits for [`TIMEOUT`]; `None` where Graph answers as it would without the
/// step. `late` says when a held call is released: after the client has gone. Without a wildcard, so that a new action
/// does not compile until it has a meaning.
pub fn of_action(action: &Action, late: bool) -> Option<Answer> {
    let slow = |millis: u64| (u128::from(millis) >= TIMEOUT.as_millis()).then_some(Answer::Nothing);
    let said = |status, said| Some(Answer::Said(status, said));
    match action {
        Action::Natural {} | Action::Lag { .. } => None,
        Action::Error(step) => Some(of_error(step)),
        Action::RateLimited {
            regain_minutes,
            http_status,
            code,
            ..
        } => Some(rate_limit(*regain_minutes, *http_status, *code)),
        Action::ServerError {} => said(500, error(2, None, true)),
        Action::Html { http_status } => said(http_status.unwrap_or(502), Said::Unreadable),
        Action::Empty { http_status } => said(http_status.unwrap_or(500), Said::Unreadable),
        Action::Truncated { .. } => said(200, Said::Cut),
        Action::Raw {
            http_status, body, ..
        } => Some(of_raw(*http_status, body)),
        Action::HangUpBefore {} | Action::HangUpAfter {} => Some(Answer::Nothing),
        Action::Slow { millis } | Action::Stall { millis } => slow(*millis),
        // Too slow for any answer; what comes of it has a status and breaks off.
        Action::Trickle { bytes_per_second } => {
            (*bytes_per_second < 10).then_some(Answer::Said(200, Said::Cut))
        }
        Action::Huge { bytes } if *bytes > LARGEST_BODY => said(200, Said::Cut),
        Action::Huge { .. } | Action::SuccessLie {} => said(200, Said::Success),
        Action::SuccessString {} | Action::SuccessExample {} => said(200, Said::Success),
        Action::SuccessFalse {} | Action::SuccessMissing {} => said(200, Said::Object),
        Action::MalformedTokenEcho {} => said(400, error(190, None, false)),
        Action::Wait {} | Action::WaitAfter {} => late.then_some(Answer::Nothing),
    }
}

/// An error body.
pub fn error(code: i64, subcode: Option<i64>, transient: bool) -> Said {
    Said::Error {
        code: Some(code),
        subcode,
        transient,
    }
}

fn of_error(step: &ErrorStep) -> Answer {
    let transient = step.is_transient == Some(true);
    let status = step.http_status.unwrap_or_else(|| usual_status(step.code));
    Answer::Said(status, error(step.code, step.subcode, transient))
}

fn rate_limit(minutes: Option<u64>, status: Option<u16>, code: Option<i64>) -> Answer {
    let code = code.unwrap_or(if minutes.is_some() { 80_008 } else { 4 });
    let status = status.unwrap_or_else(|| usual_status(code));
    Answer::Said(status, error(code, Some(2_446_079), true))
}

/// The status that the simulator gives to a code, by Meta's pages.
fn usual_status(code: i64) -> u16 {
    match code {
        4 => 429,
        10 | 200 | 368 | 131_005 | 131_031 => 403,
        104 | 190 => 401,
        803 => 404,
        2 | 3 | 131_000 | 131_016 | 131_045 | 131_057 | 133_000 => 500,
        133_004 => 503,
        _ => 400,
    }
}

fn of_raw(status: u16, body: &str) -> Answer {
    let known = RAW.iter().find(|raw| (raw.0, raw.2) == (status, body));
    let (_, _, _, said) =
        known.unwrap_or_else(|| panic!("no raw answer {status} {body:?}: add it to RAW"));
    Answer::Said(status, said())
}

/// Protocol, "Reading the number": by `error.code` first, then subcode, `is_transient`, and the HTTP status last.
fn reason_of(status: u16, code: Option<i64>, subcode: Option<i64>, transient: bool) -> Reason {
    let row = |code| CODES.iter().find(move |(_, codes)| codes.contains(&code));
    match (code, subcode) {
        (Some(100), Some(33)) => Reason::PhoneNumberNotFound,
        (Some(100), Some(2_388_001)) => Reason::CertificateUnavailable,
        (Some(100), _) => Reason::InvalidRequest,
        (Some(code), _) if row(code).is_some() => row(code).expect("a row").0,
        _ if status == 429 => Reason::RateLimited,
        _ if transient || status >= 500 => Reason::GraphUnavailable,
        _ if status >= 400 => Reason::InvalidRequest,
        _ => Reason::RegistrationRejected,
    }
}

// === impl Answer ===

impl Answer {
    /// What it means as the answer to a register call.
    pub fn of_register(&self) -> Reason {
        let Self::Said(status, said) = self else {
            return Reason::OutcomeUnknown;
        };
        let success = (200..300).contains(status);
        match said {
            _ if (300..400).contains(status) => Reason::OutcomeUnknown,
            Said::Error {
                code,
                subcode,
                transient,
            } => reason_of(*status, *code, *subcode, *transient),
            Said::ProofMissing => Reason::AppSecretRejected,
            _ if *status == 429 => Reason::RateLimited,
            Said::Success if success => Reason::RegistrationSucceeded,
            Said::Object | Said::Number(_) if success => Reason::RegistrationRejected,
            _ => Reason::OutcomeUnknown,
        }
    }

    /// Whether a register call that is answered so may have acted: the confirm window opens (protocol, "Reading the number").
    pub fn is_unclear(&self) -> bool {
        let server_fault = matches!(self, Self::Said(500.., _));
        let reason = self.of_register();
        let unknown = matches!(
            reason,
            Reason::OutcomeUnknown | Reason::RegistrationRejected
        );
        unknown || server_fault && reason != Reason::RegistrationSucceeded
    }

    /// What it means as the answer to a deregister call (protocol, "Observing and leaving").
    pub fn of_deregister(&self) -> Departure {
        match self.of_register() {
            Reason::RegistrationSucceeded => Departure::Done,
            Reason::OutcomeUnknown => Departure::Unknown,
            Reason::RateLimited | Reason::GraphUnavailable => Departure::Again,
            Reason::RegistrationBlocked => Departure::Blocked,
            _ => Departure::Refused,
        }
    }

    /// Whether a deregister call that is answered so may have acted.
    pub fn leaves_doubt(&self) -> bool {
        let server_fault = matches!(self, Self::Said(500.., _));
        match self.of_deregister() {
            Departure::Done => false,
            Departure::Unknown | Departure::Refused => true,
            Departure::Again | Departure::Blocked => server_fault,
        }
    }

    /// Whether it is the 422 that is settled by a read: it may mean "registered already".
    pub fn is_unchecked(&self) -> bool {
        matches!(self, Self::Said(422, _)) && self.of_register() == Reason::InvalidRequest
    }

    /// What it means as the answer to a read (protocol, "Reading the number").
    pub fn of_read(&self) -> RegistrationState {
        let Self::Said(status, said) = self else {
            return RegistrationState::Wait(Reason::GraphUnavailable);
        };
        match said {
            Said::Error {
                code,
                subcode,
                transient,
            } => of_read_error(*status, reason_of(*status, *code, *subcode, *transient)),
            Said::ProofMissing => RegistrationState::Stall(Reason::AppSecretRejected),
            _ if *status == 429 => RegistrationState::Wait(Reason::RateLimited),
            Said::Number(shown) if (200..300).contains(status) => of_number(shown),
            Said::Success | Said::Object if (200..300).contains(status) => {
                RegistrationState::Unclear(None)
            }
            _ => RegistrationState::Wait(Reason::GraphUnavailable),
        }
    }
}

fn of_read_error(status: u16, reason: Reason) -> RegistrationState {
    match reason {
        Reason::TokenRejected
        | Reason::PermissionDenied
        | Reason::PhoneNumberNotFound
        | Reason::AccountLocked => RegistrationState::Stall(reason),
        _ if status == 429 => RegistrationState::Wait(Reason::RateLimited),
        Reason::RateLimited
        | Reason::GraphUnavailable
        | Reason::RecentlyDeregistered
        | Reason::RegistrationBlocked => RegistrationState::Wait(reason),
        Reason::RegistrationRejected => RegistrationState::Unclear(Some(Reason::InvalidRequest)),
        _ => RegistrationState::Unclear(Some(reason)),
    }
}

fn of_number(shown: &Shown) -> RegistrationState {
    let platform = shown.platform_type.as_deref();
    match (platform, shown.status.as_deref()) {
        (_, Some("BANNED")) => RegistrationState::Stall(Reason::AccountLocked),
        (_, Some("DELETED" | "MIGRATED")) => RegistrationState::Stall(Reason::PhoneNumberNotFound),
        (Some("CLOUD_API"), Some("CONNECTED" | "FLAGGED" | "RATE_LIMITED" | "RESTRICTED")) => {
            RegistrationState::Registered
        }
        (Some("NOT_APPLICABLE"), _) | (_, Some("DISCONNECTED" | "UNVERIFIED")) => {
            RegistrationState::NotRegistered
        }
        (platform, Some("PENDING")) if platform != Some("CLOUD_API") => {
            RegistrationState::NotRegistered
        }
        _ => RegistrationState::Unclear(None),
    }
}
