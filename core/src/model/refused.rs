//! The PIN that Graph has refused for a number. A process remembers it also when the resource is deleted and made again, as tools
//! that replace by force do at every sync.

use super::phase::{Phase, State};
use crate::api::{Reason, WhatsAppPhoneNumberStatus};
use crate::credentials::Digests;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedPin {
    /// The ID of the call that was refused.
    pub attempt: String,
    /// The digests of token and PIN; the others are those of the same call.
    pub digests: Digests,
    /// PinMismatch or PinLocked.
    pub reason: Reason,
}

impl RefusedPin {
    /// The refusal in a status, as long as its digests are those of the call that was refused.
    pub fn of(status: &WhatsAppPhoneNumberStatus) -> Option<Self> {
        let reason = match State::parse(status).phase {
            Phase::Stalled(stall) if !stall.token_changed => stall.reason,
            Phase::Waiting(wait) => wait.reason,
            Phase::Stalled(_) | Phase::Idle | Phase::InFlight(_) | Phase::Unconfirmed(_) => {
                return None;
            }
        };
        let mut refused = status.attempts.iter().filter(|_| reason.is_about_pin());
        let attempt = refused.find(|attempt| attempt.known_reason() == Some(reason))?;
        Some(Self {
            attempt: attempt.id.clone(),
            digests: Digests {
                token: status.token_digest.clone()?,
                pin: status.pin_digest.clone()?,
                inputs: status.inputs_digest.clone()?,
            },
            reason,
        })
    }

    /// Whether this token and this PIN were refused.
    pub fn applies_to(&self, digests: &Digests) -> bool {
        self.digests.token == digests.token && self.digests.pin == digests.pin
    }
}
