//! The next step for a resource: `decide(&Observed, now) -> Decision`.
//!
//! A reconciliation calls it repeatedly until it gets a [`Decision::Settle`] or a [`Decision::Register`]. Every other decision names the one thing
//! that is missing (the Secrets, a read of the number). [`Observed`] holds what is
//! known so far; what is missing is `None`. The order of the steps in [`decide`] and `Case::proceed` puts what costs
//! nothing first and the call last.
//!
//! The files below this one, each built on the one before: `case` reads the status, `due` computes when a call may be
//! made, `settle` builds the next status, `wait` says why a call is held back.

mod case;
mod due;
mod settle;
mod wait;

use jiff::Timestamp;

use self::case::Case;
pub use self::due::cooldown_until;
use super::decision::{Decision, Inputs, Observed, Requeue};
use crate::api::conditions::is_registered;
use crate::graph::RegistrationState;

/// Returns the next step for a resource.
pub fn decide(observed: &Observed<'_>, now: Timestamp) -> Decision {
    let case = Case::new(observed, now);
    if observed.resource.metadata.deletion_timestamp.is_some() {
        return Decision::Settle(Box::new(case.status), Requeue::OnChange);
    }
    if let Some(claim) = case
        .status
        .attempts
        .iter()
        .find(|attempt| attempt.is_open())
    {
        return case.open_claim(claim);
    }
    if observed.resource.spec.suspend {
        return case.suspend();
    }
    if is_registered(&case.status) && case.request.is_none() {
        return case.rest();
    }
    if let Some(owner) = &observed.peers.owner {
        return case.yield_to(owner);
    }
    case.proceed()
}

impl Case<'_> {
    fn proceed(self) -> Decision {
        if let Some(decision) = self.wait_for_its_time() {
            return decision;
        }
        let digests = match &self.observed.inputs {
            Inputs::Unread => return Decision::LoadSecrets,
            Inputs::Ready(digests) => digests,
            Inputs::Faulty(fault) => return self.fault(fault),
        };
        if let Some(decision) = self.stay_stalled(digests) {
            return decision;
        }
        let must_read = self.must_read();
        let reading = self.observed.reading.filter(|_| must_read);
        if let Some(reading) = reading {
            match reading.state {
                RegistrationState::Registered => return self.adopt(reading, digests),
                RegistrationState::Wait(reason) => {
                    return self.wait_by_read(reason, reading, digests);
                }
                RegistrationState::Stall(reason) if self.request.is_none() => {
                    return self.stall_by_read(reason, reading, digests);
                }
                // `Stall` gets here only for a requested call. Otherwise the call may follow.
                RegistrationState::Stall(_)
                | RegistrationState::NotRegistered
                | RegistrationState::Unknown => {}
            }
        }
        // After the read: the token may have met a rate limit elsewhere since, which does not invalidate Graph's answer.
        if let Some(end) = self.observed.cool_down.filter(|end| *end > self.now) {
            return self.cool_down(end, digests);
        }
        if must_read && reading.is_none() {
            return Decision::Read;
        }
        self.hold_back(digests)
            .unwrap_or_else(|| self.claim(digests))
    }
}
