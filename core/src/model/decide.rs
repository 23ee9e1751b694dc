//! The next step for a resource: `decide(&Observed, now) -> Decision`.
//!
//! A reconciliation asks again and again until it gets a [`Decision::Settle`]: each answer names the one thing that is
//! missing (the Secrets, a read of the number) or the one thing to do (claim and call). What has been found out stands in
//! [`Observed`]; what is not there yet is `None`. The order of the steps in [`decide`] and `Case::proceed` is the rule
//! that what costs nothing comes first and the call comes last.
//!
//! Below this file, each on the one before: `case` reads the status, `due` says when a call may be made, `settle` says
//! what is written, `wait` holds calls back.

mod case;
mod due;
mod settle;
mod wait;

use jiff::Timestamp;

use self::case::Case;
pub use self::due::cooldown_until;
use super::decision::{Decision, Observed, Requeue};
use crate::api::conditions::is_registered;
use crate::graph::RegistrationState;

/// Decides what to do next for a resource.
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
            None => return Decision::LoadSecrets,
            Some(Ok(digests)) => digests,
            Some(Err(fault)) => return self.fault(fault),
        };
        if let Some(decision) = self.stay_stalled(digests) {
            return decision;
        }
        let must_read = self.must_read();
        let reading = self.observed.reading.as_ref().filter(|_| must_read);
        if let Some(reading) = reading {
            match reading.state {
                RegistrationState::Registered => return self.adopt(reading, digests),
                RegistrationState::Wait(reason) => {
                    return self.wait_by_read(reason, reading, digests);
                }
                RegistrationState::Stall(reason) if self.request.is_none() => {
                    return self.stall_by_read(reason, reading, digests);
                }
                // A person asked for the call: the look only says whether the one before took effect.
                RegistrationState::Stall(_)
                | RegistrationState::NotRegistered
                | RegistrationState::Unknown => {}
            }
        }
        // After what was read: the token may have met a limit elsewhere meanwhile, which takes nothing back that Graph
        // has said.
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
