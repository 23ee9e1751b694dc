//! What is different between the kinds of calls: everything that a claim, a clock, a record, the ledger and the windows need not
//! know.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::phase::State;
use super::schedule::{AFTER_DEREGISTRATION, META_LIMIT};
use crate::api::{AttemptOutcome, Disposition, Hold, Operation, Reason};
use crate::graph::RegistrationState;

impl Operation {
    /// How many calls Meta allows for a number in 72 hours, failed ones included.
    pub const fn limit(self) -> usize {
        match self {
            Self::Register | Self::Deregister => META_LIMIT,
        }
    }

    /// The name of a call in messages.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Register => "register call",
            Self::Deregister => "deregister call",
        }
    }

    /// The reason while a call is in flight.
    pub const fn in_flight(self) -> Reason {
        match self {
            Self::Register => Reason::Registering,
            Self::Deregister => Reason::Deregistering,
        }
    }

    /// The consequence of a call that ended with this reason.
    pub const fn disposition(self, reason: Reason) -> Disposition {
        match self {
            Self::Register => reason.disposition(),
            Self::Deregister => match reason {
                Reason::Deregistered => Disposition::Done,
                Reason::RateLimited
                | Reason::RegistrationBlocked
                | Reason::GraphUnavailable
                | Reason::GraphUnreachable
                | Reason::NotSent => Disposition::Retry,
                Reason::OutcomeUnknown => Disposition::Confirm,
                // Meta gives the same answer for a number that is not registered and for one that it keeps: a read shows which it is.
                _ => Disposition::ConfirmThenStall,
            },
        }
    }

    /// The outcome of a call that ended with this reason.
    pub const fn outcome(self, reason: Reason) -> AttemptOutcome {
        match (self, reason) {
            (_, Reason::NotSent | Reason::GraphUnreachable) => AttemptOutcome::NotSent,
            (_, Reason::OutcomeUnknown) => AttemptOutcome::Unknown,
            (Self::Register, reason) if reason.is_registered() => AttemptOutcome::Succeeded,
            (Self::Deregister, Reason::Deregistered) => AttemptOutcome::Succeeded,
            (Self::Register | Self::Deregister, _) => AttemptOutcome::Failed,
        }
    }

    /// Whether a read shows what the call is for: then it is not needed, or has taken effect.
    pub const fn is_shown_by(self, read: RegistrationState) -> bool {
        match self {
            Self::Register => matches!(read, RegistrationState::Registered),
            Self::Deregister => matches!(read, RegistrationState::NotRegistered),
        }
    }

    /// The reason of a call that a later read shows to have taken effect.
    pub const fn confirmed(self) -> Reason {
        match self {
            Self::Register => Reason::OutcomeConfirmed,
            Self::Deregister => Reason::Deregistered,
        }
    }

    /// The reason where the first read shows what the call would be for.
    pub const fn not_needed(self) -> Reason {
        match self {
            Self::Register => Reason::AlreadyRegistered,
            Self::Deregister => Reason::Deregistered,
        }
    }

    /// Whether this refusal may mean that the call was not needed: Meta documents no separate answer for that.
    pub const fn asks_for_check(self, reason: Option<Reason>, http_status: Option<i32>) -> bool {
        match self {
            Self::Register => {
                matches!(
                    (reason, http_status),
                    (Some(Reason::InvalidRequest), Some(422))
                )
            }
            // Each refusal does.
            Self::Deregister => false,
        }
    }

    /// Makes the state that of a number for which the call took effect.
    pub fn succeed(self, state: &mut State, reason: Reason, message: String, now: Timestamp) {
        match self {
            Self::Register => state.register(reason, message, now),
            Self::Deregister => state.deregister(message),
        }
    }

    /// What lies over the phase after a call that did not succeed: a resource that is being deleted shows that, and not what its number
    /// was before.
    pub fn holds(self, message: &str, until: Option<Time>) -> Option<Hold> {
        match self {
            Self::Register => None,
            Self::Deregister => Some(Hold {
                until,
                ..Hold::new(self.in_flight(), message.to_owned())
            }),
        }
    }

    /// Whether the number may be registered once such a call was made.
    pub const fn registers(self) -> bool {
        match self {
            Self::Register => true,
            Self::Deregister => false,
        }
    }

    /// How long no other resource of the number may do anything after such a call, apart from the confirm window: Meta needs a few
    /// minutes to take a number off (error 133015).
    pub const fn aftermath(self) -> Duration {
        match self {
            Self::Register => Duration::ZERO,
            Self::Deregister => AFTER_DEREGISTRATION,
        }
    }
}
