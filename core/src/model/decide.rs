//! The next step for a resource: `decide(&Observed, now) -> Decision`.
//!
//! A round calls it repeatedly until it gets a [`Decision::Settle`] or a [`Decision::Call`]. Every other decision names the one
//! thing that is missing (the Secrets, a read of the number). [`Observed`] holds what is known so far. What costs nothing comes
//! first, the call last.
//!
//! `facts` is what is known, and the times that follow from it; `settle` builds the status that ends a round. `observe` is about a
//! number that was registered, `leave` about a resource that is being deleted.

mod facts;
mod leave;
mod observe;
mod settle;

use jiff::Timestamp;

use self::facts::{Facts, UNCLEAR_READS};
use super::decision::{Decision, Inputs, Observed};
use super::goal::Goal;
use super::ledger;
use super::phase::Phase;
use crate::api::{Operation, REGISTER_REQUESTED_AT, Reason};
use crate::credentials::Digests;
use crate::graph::{ReadFields, ReadOutcome, RegistrationState};

/// Returns the next step for a resource.
pub fn decide(observed: &Observed<'_>, now: Timestamp) -> Decision {
    use Phase::{Idle, InFlight, Stalled, Unconfirmed, Waiting};
    let facts = Facts::new(observed, now);
    if !matches!(facts.state.phase, InFlight(_))
        && let Some(decision) = facts.finalizer_of_registered()
    {
        return decision;
    }
    match (&facts.state.phase, facts.goal) {
        (Idle | Unconfirmed(_) | Waiting(_) | Stalled(_), Goal::Retain) => facts.leave(),
        (
            InFlight(claim),
            Goal::Retain
            | Goal::Deregister
            | Goal::Suspend
            | Goal::Rest
            | Goal::Observe(_)
            | Goal::Yield(_)
            | Goal::Register
            | Goal::Recover
            | Goal::Call(_),
        ) => facts.await_claim(claim),
        (Idle | Unconfirmed(_) | Waiting(_) | Stalled(_), Goal::Deregister) => facts.deregister(),
        (Idle | Unconfirmed(_) | Waiting(_) | Stalled(_), Goal::Suspend) => facts.suspend(),
        (Idle | Unconfirmed(_) | Waiting(_) | Stalled(_), Goal::Rest) => facts.rest(),
        (Idle | Unconfirmed(_) | Waiting(_) | Stalled(_), Goal::Observe(interval)) => {
            facts.observe_only(interval)
        }
        (Idle | Unconfirmed(_) | Waiting(_) | Stalled(_), Goal::Yield(owner)) => {
            facts.give_way(owner)
        }
        (
            Idle | Unconfirmed(_) | Waiting(_) | Stalled(_),
            Goal::Register | Goal::Recover | Goal::Call(_),
        ) => facts.proceed(Operation::Register),
    }
}

impl Facts<'_> {
    /// Yields to another resource, if this one could call; otherwise it says what it lacks, which the other one takes into account.
    fn give_way(self, owner: &str) -> Decision {
        match self.observed.inputs {
            // It checked its Secrets when it yielded for the first time.
            _ if self.has_given_way() => self.yield_to(owner),
            Inputs::Unread => Decision::LoadSecrets,
            Inputs::Faulty(fault) => self.hold_for_secret(fault),
            Inputs::Ready(digests) => match self.stalled_still(digests) {
                Some(stalled) => self.stay_stalled(stalled),
                None => self.yield_to(owner),
            },
        }
    }

    /// Works toward a call: its time, its inputs, a read of the number, and at last the claim.
    fn proceed(self, operation: Operation) -> Decision {
        if let Some(decision) = self.wait_for_its_time() {
            return decision;
        }
        let digests = match self.observed.inputs {
            Inputs::Unread => return Decision::LoadSecrets,
            Inputs::Ready(digests) => digests,
            Inputs::Faulty(fault) => return self.hold_for_secret(fault),
        };
        if let Some(stalled) = self.stalled_still(digests) {
            return self.stay_stalled(stalled);
        }
        let reading = self.observed.reading;
        if let Some(decision) = reading.and_then(|reading| self.heed(operation, reading, digests)) {
            return decision;
        }
        // After the read: the token may have met a rate limit elsewhere since, which does not invalidate Graph's answer.
        let cooldown = self.observed.cooldown.map(|cooldown| cooldown.until);
        if let Some(end) = cooldown.filter(|end| *end > self.now) {
            return self.cool_down(end, digests);
        }
        if reading.is_none() {
            return Decision::Read(ReadFields::All);
        }
        self.hold_back(operation, digests)
            .or_else(|| self.finalizer())
            .unwrap_or_else(|| self.claim(operation, digests))
    }

    /// Waits until the earliest time of a call; in the confirm window the number is read in between. `None` if the time has come, if a
    /// change of the inputs ended the wait, and if a read or a stall has to be dealt with first.
    fn wait_for_its_time(&self) -> Option<Decision> {
        let due = self.earliest_call().filter(|due| *due > self.now)?;
        if self.request().is_none() && self.refused().is_some() {
            // A stalled resource has no time. If a change has lifted the stall, the time is that of a failed read since.
            match self.observed.inputs {
                Inputs::Unread => return Some(Decision::LoadSecrets),
                Inputs::Ready(digests) if self.is_lifted(digests) => {}
                Inputs::Ready(_) | Inputs::Faulty(_) => return None,
            }
        }
        if self.waits_for_token() || self.lacks_secret() {
            match self.observed.inputs {
                Inputs::Unread => return Some(Decision::LoadSecrets),
                Inputs::Ready(digests)
                    if self.waits_for_token() && self.is_other_token(digests) =>
                {
                    return None;
                }
                Inputs::Faulty(_) if self.lacks_secret() => return None,
                Inputs::Ready(_) | Inputs::Faulty(_) => {}
            }
        }
        // A read in the confirm window is handled like any other read.
        if self.confirming_read_due() || self.observed.reading.is_some() {
            return None;
        }
        Some(self.wait_on(due))
    }

    /// What a read decides; `None` where a call may follow.
    fn heed(
        &self,
        operation: Operation,
        reading: &ReadOutcome,
        digests: &Digests,
    ) -> Option<Decision> {
        match reading.state {
            // A call that was requested for such a number is made all the same.
            state if operation.is_shown_by(state) => {
                if self.state.is_registered() {
                    return None;
                }
                if let Some(window) = self.window_of(Operation::Deregister) {
                    return Some(self.wait_for_window(window));
                }
                let adopted = || self.adopt(operation, reading, digests);
                Some(self.finalizer().unwrap_or_else(adopted))
            }
            RegistrationState::Wait(reason) => Some(self.wait_by_read(reason, reading, digests)),
            RegistrationState::Stall(reason) => Some(self.stall_by_read(reason, reading, digests)),
            RegistrationState::LacksField if reading.fields == ReadFields::All => {
                Some(Decision::Read(ReadFields::Deciding))
            }
            RegistrationState::LacksField => {
                self.doubt(Some(Reason::InvalidRequest), reading, digests)
            }
            RegistrationState::Unclear(reason) => self.doubt(reason, reading, digests),
            RegistrationState::NotRegistered | RegistrationState::Registered => None,
        }
    }

    /// If an answer says neither, the read is repeated a few times. Then an error stalls, unless the call is requested; other
    /// answers allow one call. In a confirm window the reads continue anyway.
    fn doubt(
        &self,
        reason: Option<Reason>,
        reading: &ReadOutcome,
        digests: &Digests,
    ) -> Option<Decision> {
        if self.window().is_some_and(|window| window.end > self.now) {
            return None;
        }
        if self.state.record.unclear_reads < UNCLEAR_READS {
            let what = "a read does not tell whether the number is registered";
            return Some(self.read_later(reason, reading, what));
        }
        let reason = reason.filter(|_| self.request().is_none())?;
        Some(self.stall_by_read(reason, reading, digests))
    }

    /// A lost number may be on the Business app by now, and Meta refuses register calls for such numbers: the optional read shows it.
    fn guard_recovery(&self, digests: &Digests) -> Option<Decision> {
        let Some(details) = self.observed.details else {
            return Some(Decision::Read(ReadFields::Optional));
        };
        let number = details.phone_number.as_ref();
        match number.and_then(|number| number.on_business_app) {
            Some(true) => {
                let what = "a read shows that the number is connected to the WhatsApp Business app";
                let details = ReadOutcome {
                    message: what.to_owned(),
                    ..details.clone()
                };
                let stalled = self.stall_by_read(Reason::BusinessAppNumber, &details, digests);
                Some(stalled)
            }
            Some(false) => None,
            // Only a person may call without knowing.
            None if self.request().is_some() => None,
            None if details.state == RegistrationState::Wait(Reason::RateLimited) => {
                Some(self.wait_by_read(Reason::RateLimited, details, digests))
            }
            None => {
                let what = format!(
                    "no read tells whether the number is connected to the WhatsApp Business app, for which Meta refuses register calls. To \
                     have it registered all the same, set the annotation {REGISTER_REQUESTED_AT} to a new value"
                );
                Some(self.read_later(None, details, &what))
            }
        }
    }

    /// Holds the call back, if there is a reason to.
    fn hold_back(&self, operation: Operation, digests: &Digests) -> Option<Decision> {
        if let Some(fields) = self.observed.dropped_fields {
            return Some(self.hold_for_definition(fields));
        }
        if let Some(window) = self.window().filter(|window| window.end > self.now) {
            return Some(self.wait_for_window(window));
        }
        if self.read_too_early() {
            return Some(self.read_again());
        }
        if self.request().is_none() {
            let refused = self.observed.refused_pin;
            let stalled = refused.map(|reason| self.stall_for_refused_pin(reason, digests));
            if let Some(decision) = stalled.or_else(|| self.stall_unconfirmed(digests)) {
                return Some(decision);
            }
        }
        let due = self.earliest_call_after_read();
        if let Some(due) = due.filter(|due| *due > self.now)
            && !(self.waits_for_token() && self.is_other_token(digests))
        {
            return Some(self.wait_on(due));
        }
        if self.state.loss().is_some()
            && let Some(decision) = self.guard_recovery(digests)
        {
            return Some(decision);
        }
        let attempts = self.all_attempts(operation);
        if let Some(end) = ledger::blocked_until(&attempts, self.now) {
            return Some(self.hold_until(
                Reason::RegistrationBlocked,
                "Meta has blocked register calls for this number",
                end,
            ));
        }
        let most = operation.limit();
        let limit = match self.request() {
            Some(_) => most,
            None => self.observed.policy.attempt_limit.min(most),
        };
        let opens = ledger::budget_opens(&attempts, limit, self.now)?;
        let message = format!(
            "{limit} {}s were made in 72 hours: the limit is reached (Meta blocks a number after {most})",
            operation.noun()
        );
        Some(self.hold_until(Reason::AttemptBudgetExhausted, &message, opens))
    }
}
