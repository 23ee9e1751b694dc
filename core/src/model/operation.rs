//! What is different between the kinds of calls: everything that a claim, a clock, a record, the ledger and the windows need not
//! know.

use jiff::Timestamp;

use super::phase::State;
use super::schedule::META_LIMIT;
use crate::api::{AttemptOutcome, Disposition, Operation, Reason};
use crate::graph::RegistrationState;

impl Operation {
    /// How many calls Meta allows for a number in 72 hours, failed ones included.
    pub const fn limit(self) -> usize {
        match self {
            Self::Register => META_LIMIT,
        }
    }

    /// The name of a call in messages.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Register => "register call",
        }
    }

    /// The reason while a call is in flight.
    pub const fn in_flight(self) -> Reason {
        match self {
            Self::Register => Reason::Registering,
        }
    }

    /// The consequence of a call that ended with this reason.
    pub const fn disposition(self, reason: Reason) -> Disposition {
        match self {
            Self::Register => reason.disposition(),
        }
    }

    /// The outcome of a call that ended with this reason.
    pub const fn outcome(self, reason: Reason) -> AttemptOutcome {
        match (self, reason) {
            (_, Reason::NotSent | Reason::GraphUnreachable) => AttemptOutcome::NotSent,
            (_, Reason::OutcomeUnknown) => AttemptOutcome::Unknown,
            (Self::Register, reason) if reason.is_registered() => AttemptOutcome::Succeeded,
            (Self::Register, _) => AttemptOutcome::Failed,
        }
    }

    /// Whether a read shows what the call is for: then it is not needed, or has taken effect.
    pub const fn is_shown_by(self, read: RegistrationState) -> bool {
        match self {
            Self::Register => matches!(read, RegistrationState::Registered),
        }
    }

    /// The reason of a call that a later read shows to have taken effect.
    pub const fn confirmed(self) -> Reason {
        match self {
            Self::Register => Reason::OutcomeConfirmed,
        }
    }

    /// The reason where the first read shows what the call would be for.
    pub const fn not_needed(self) -> Reason {
        match self {
            Self::Register => Reason::AlreadyRegistered,
        }
    }

    /// Whether this refusal may mean that the call was not needed: Meta documents no answer of its own for that.
    pub const fn asks_for_check(self, reason: Option<Reason>, http_status: Option<i32>) -> bool {
        match self {
            Self::Register => {
                matches!(
                    (reason, http_status),
                    (Some(Reason::InvalidRequest), Some(422))
                )
            }
        }
    }

    /// Makes the state that of a number for which the call took effect.
    pub fn succeed(self, state: &mut State, reason: Reason, message: String, now: Timestamp) {
        match self {
            Self::Register => state.register(reason, message, now),
        }
    }
}
