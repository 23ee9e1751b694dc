//! The end of a resource whose number is to be taken off the Cloud API: the finalizer, and the one call that needs it.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::facts::{Facts, UNCLEAR_READS, wait_after_read};
use super::settle::note_inputs;
use crate::api::{DeletionPolicy, Disposition, Hold, LedgerEntry, Operation, Reason, Stall};
use crate::credentials::{Digests, SecretFault};
use crate::graph::{ReadFields, ReadOutcome, RegistrationState};
use crate::model::apply::due_after;
use crate::model::decision::{
    Decision, Farewell, FarewellOutcome, Finalize, Inputs, Requeue, Survey,
};
use crate::model::definition::TRY_EVERY;
use crate::model::ledger;
use crate::model::phase::{Phase, State};
use crate::model::schedule::{META_WINDOW, later, plus, until, whole_seconds, with_jitter};
use crate::model::twins::declares;

/// How long a deletion waits for a Secret that is missing or may not be read: if a whole namespace is deleted, Secrets and permissions
/// may be deleted first.
const SECRET_GRACE: Duration = Duration::from_secs(300);

/// The share of the time until the deadline after which a number that Graph refuses to deregister is read once more.
const LAST_LOOK: f64 = 0.9;

impl Facts<'_> {
    // === The finalizer ===

    /// Sets the finalizer if it is missing, or removes it if it is not wanted; `None` if it is as it should be.
    pub(super) fn finalizer(&self) -> Option<Decision> {
        let resource = self.observed.resource;
        if self.observed.finalizer_refused || resource.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let finalize = match (self.deregisters(), resource.has_finalizer()) {
            (true, false) => Finalize::Set,
            (false, true) => Finalize::Clear,
            (true, true) | (false, false) => return None,
        };
        Some(Decision::Finalize(finalize))
    }

    /// The same for a number that may be registered, before anything else is done for it.
    pub(super) fn finalizer_of_registered(&self) -> Option<Decision> {
        let registered = self.state.record.may_be_registered || self.state.is_registered();
        let held = self.observed.resource.has_finalizer();
        self.finalizer().filter(|_| registered || held)
    }

    /// Whether the number is to be taken off the Cloud API when the resource is deleted.
    fn deregisters(&self) -> bool {
        let wanted = self.observed.resource.spec.deletion_policy == DeletionPolicy::Deregister;
        wanted && self.observed.policy.life.deregistration
    }

    // === The deletion ===

    /// Works toward the deregister call, or releases the resource.
    pub(super) fn deregister(self) -> Decision {
        if let Some(farewell) = self.farewell() {
            return Decision::Finalize(Finalize::LetGo(farewell));
        }
        let digests = match self.observed.inputs {
            Inputs::Unread => return Decision::LoadSecrets,
            Inputs::Faulty(fault) => return self.leave_without_secret(fault),
            Inputs::Ready(digests) => digests,
        };
        if let Some(decision) = self.await_departure(digests) {
            return decision;
        }
        let Some(reading) = self.observed.reading else {
            return Decision::Read(ReadFields::All);
        };
        if let Some(decision) = self.heed_before_departure(reading, digests) {
            return decision;
        }
        self.hold_departure_back(reading, digests)
            .unwrap_or_else(|| self.claim(Operation::Deregister, digests))
    }

    /// Why the resource is released without another look at the number, if it is.
    fn farewell(&self) -> Option<Farewell> {
        let resource = self.observed.resource;
        let left = |why: &str| Some(self.left_registered(why));
        if self.is_deregistered() {
            let hold = self.state.hold.as_ref();
            let why = hold.map_or("a read shows it", |hold| hold.message.as_str());
            return Some(Farewell::new(FarewellOutcome::Deregistered, why));
        }
        if !self.state.record.may_be_registered && !self.state.is_registered() {
            let why = match self.state.loss() {
                Some(_) => "the registration of its number was lost before",
                None => "its number was not registered for it",
            };
            return Some(Farewell::new(FarewellOutcome::NotRegistered, why));
        }
        if resource.spec.deletion_policy == DeletionPolicy::Retain {
            return left("spec.deletionPolicy is Retain");
        }
        if !self.observed.policy.life.deregistration {
            return left("the operator deregisters no numbers (--deregistration=false)");
        }
        if resource.spec.suspend {
            return left("spec.suspend is true");
        }
        if self.now >= self.deadline() {
            return left("the deadline is over (--deregister-deadline)");
        }
        if self.was_deregistered_before() {
            return left(
                "it was deregistered for an earlier resource of this name in the last 72 hours: a tool that deletes and creates again \
                 must not take the number off the air each time",
            );
        }
        if self.observed.peers.declared {
            return left("another resource names it");
        }
        match self.observed.survey {
            Some(Ok(survey)) if survey.definition_deleted => {
                left("the CRD itself is being deleted")
            }
            Some(Ok(survey)) if self.is_declared_in(survey) => left("another resource names it"),
            Some(_) | None => None,
        }
    }

    /// The number stays registered, as far as is known.
    fn left_registered(&self, why: &str) -> Farewell {
        let in_doubt = self.is_unconfirmed() && !self.is_failed() && !self.is_seen_registered();
        if in_doubt {
            Farewell::new(FarewellOutcome::InDoubt, why)
        } else {
            Farewell::new(FarewellOutcome::LeftRegistered, why)
        }
    }

    /// Whether this round's read, after the confirm window, shows that the call did not take the number off.
    fn is_seen_registered(&self) -> bool {
        let reading = self.observed.reading;
        reading.is_some_and(|reading| reading.state == RegistrationState::Registered)
            && self
                .own_window()
                .is_none_or(|window| window.end <= self.now)
    }

    fn let_go(&self, farewell: Farewell) -> Option<Decision> {
        Some(Decision::Finalize(Finalize::LetGo(farewell)))
    }

    /// The time at which the deletion ends in any case, unless a claim is open.
    fn deadline(&self) -> Timestamp {
        let deleted = self.deleted();
        plus(deleted, self.observed.policy.life.deregister_deadline)
    }

    fn deleted(&self) -> Timestamp {
        let deleted = self.observed.resource.metadata.deletion_timestamp.as_ref();
        deleted.map_or(self.now, |deleted| deleted.0.min(self.now))
    }

    fn is_deregistered(&self) -> bool {
        let hold = self.state.hold.as_ref();
        hold.is_some_and(|hold| hold.reason == Reason::Deregistered)
    }

    /// Whether the last deregister call was refused although the number is registered.
    fn is_failed(&self) -> bool {
        let stall = self.state.stall();
        stall.is_some_and(|stall| stall.reason == Reason::DeregistrationFailed)
    }

    /// Whether a deregister call for an earlier resource of this name has or may have acted: this process remembers it, or the ledger
    /// took it over.
    fn was_deregistered_before(&self) -> bool {
        let ledger = &self.state.record.attempts;
        let taken_over = ledger.iter().filter(|attempt| attempt.earlier);
        let mut earlier = taken_over.chain(&self.observed.peers.earlier);
        earlier.any(|attempt| {
            attempt.may_have_acted() && plus(attempt.time(self.now), META_WINDOW) > self.now
        })
    }

    fn is_declared_in(&self, survey: &Survey) -> bool {
        let own = self.observed.resource.metadata.uid.as_ref();
        let mut others = survey
            .peers
            .iter()
            .filter(|peer| peer.metadata.uid.as_ref() != own);
        others.any(declares)
    }

    /// The wait for a missing Secret is short; for another fault of a Secret it is as long as for anything else.
    fn leave_without_secret(&self, fault: &SecretFault) -> Decision {
        let missing = match fault.reason {
            // The operator's own permissions in a namespace go with it as well.
            Reason::SecretNotFound | Reason::SecretKeyMissing | Reason::SecretForbidden => {
                Some(self.secret_missing_since())
            }
            _ => None,
        };
        let end = missing.map_or(self.deadline(), |since| plus(since, SECRET_GRACE));
        if self.now >= end {
            let farewell = self.left_registered(&fault.message);
            return Decision::Finalize(Finalize::LetGo(farewell));
        }
        let poll = self.poll_for(fault);
        let wake = poll.map_or(end, |poll| end.min(plus(self.now, poll)));
        let hold = Hold {
            since: missing.map(Time),
            ..Hold::new(Reason::Deregistering, fault.message.clone())
        };
        self.stay_with(self.state.clone(), hold, wake)
    }

    /// Since when a Secret is missing, as far as this deletion has seen: one that is deleted and made again is waited for.
    fn secret_missing_since(&self) -> Timestamp {
        let hold = self.state.hold.as_ref();
        let since = hold.and_then(|hold| hold.since.as_ref());
        since.map_or_else(|| whole_seconds(self.now), |since| since.0.min(self.now))
    }

    /// Waits for the time of the next read or call, which new inputs end.
    fn await_departure(&self, digests: &Digests) -> Option<Decision> {
        if self.observed.reading.is_some() {
            return None;
        }
        let new_token = self.changes(digests).token;
        let rests = self.is_failed() && !new_token;
        if rests && !self.last_look_is_due() {
            return Some(self.rest_until_the_deadline(&self.state));
        }
        let cooldown = self.observed.cooldown.map(|cooldown| cooldown.until);
        if let Some(end) = cooldown.filter(|end| *end > self.now) {
            let why = "the token has reached a rate limit of Graph".to_owned();
            let own = self.departure_wait().filter(|_| !new_token);
            let own = own.filter(|(until, _)| *until >= end);
            if own.is_none() && end <= self.deadline() {
                // The status names no time: it is written once, however often the token meets its limit meanwhile.
                let wait = with_jitter(until(end, self.now), self.observed.jitter);
                return Some(self.stay(self.state.clone(), &why, None, later(self.now, wait)));
            }
            let (end, why) = own.unwrap_or((end, why));
            return Some(self.wait_to_leave(self.state.clone(), &why, end));
        }
        if rests || self.confirming_read_due() || new_token && !self.is_failed() {
            return None;
        }
        let (due, message) = self.departure_wait()?;
        (due > self.now).then(|| self.wait_to_leave(self.state.clone(), &message, due))
    }

    /// The stored wait, and its purpose.
    fn departure_wait(&self) -> Option<(Timestamp, String)> {
        let hold = self.state.hold.as_ref();
        let held = hold.filter(|hold| hold.reason == Reason::Deregistering);
        let held = held.and_then(|hold| Some((hold.until.as_ref()?.0, hold.message.clone())));
        let own = self.own_departure_wait();
        held.into_iter().chain(own).max_by_key(|(until, _)| *until)
    }

    /// The wait after the last deregister call.
    fn own_departure_wait(&self) -> Option<(Timestamp, String)> {
        let own = self.state.wait().filter(|_| self.is_departure());
        own.map(|wait| (wait.until.0, wait.message.clone()))
    }

    /// Whether the phase is that of a deregister call.
    fn is_departure(&self) -> bool {
        let mut own = self.state.record.attempts.iter().filter(|a| !a.earlier);
        own.next()
            .is_some_and(|newest| newest.operation == Operation::Deregister)
    }

    /// What a read decides; `None` if the call may follow.
    fn heed_before_departure(&self, reading: &ReadOutcome, digests: &Digests) -> Option<Decision> {
        match reading.state {
            RegistrationState::LacksField if reading.fields == ReadFields::All => {
                Some(Decision::Read(ReadFields::Deciding))
            }
            RegistrationState::NotRegistered => match self.window_of(Operation::Register) {
                Some(window) => {
                    let why = "it was registered moments ago, and what Graph says of it may lag";
                    Some(self.wait_to_leave(self.state_with_reading(), why, window.end))
                }
                None => self.departed(reading),
            },
            RegistrationState::Stall(Reason::PhoneNumberNotFound)
                if reading.phone_number.is_some() =>
            {
                self.departed(reading)
            }
            RegistrationState::Stall(Reason::AccountLocked) if reading.phone_number.is_some() => {
                self.let_go(self.left_registered(&reading.message))
            }
            RegistrationState::Stall(Reason::PhoneNumberNotFound | Reason::BusinessAppNumber) => {
                self.let_go(self.left_registered(&reading.message))
            }
            RegistrationState::Stall(_) | RegistrationState::Wait(_) => {
                Some(self.read_before_departure(reading, digests))
            }
            RegistrationState::Unclear(_) | RegistrationState::LacksField
                if self.state.record.unclear_reads < UNCLEAR_READS =>
            {
                Some(self.read_before_departure(reading, digests))
            }
            RegistrationState::Unclear(_)
            | RegistrationState::LacksField
            | RegistrationState::Registered => match self.observed.details {
                None => Some(Decision::Read(ReadFields::Optional)),
                Some(details) => {
                    let number = details.phone_number.as_ref();
                    let on_app = number.and_then(|number| number.on_business_app);
                    let why = "it is connected to the WhatsApp Business app, where Meta refuses to deregister it: disconnect it there";
                    (on_app == Some(true)).then(|| self.let_go(self.left_registered(why)))?
                }
            },
        }
    }

    /// The number is off the Cloud API.
    fn departed(&self, reading: &ReadOutcome) -> Option<Decision> {
        let why = &reading.message;
        self.let_go(Farewell::new(FarewellOutcome::Deregistered, why))
    }

    /// Reads again later: Graph gave no usable answer, or refuses the token.
    fn read_before_departure(&self, reading: &ReadOutcome, digests: &Digests) -> Decision {
        let policy = self.observed.policy;
        let mut state = self.state_with_reading();
        if !self.is_failed() {
            note_inputs(&mut state, digests);
        }
        let unclear = !matches!(
            reading.state,
            RegistrationState::Stall(_) | RegistrationState::Wait(_)
        );
        let in_a_row = if unclear {
            &mut state.record.unclear_reads
        } else {
            state.record.read_failures = self.state.record.read_failures;
            &mut state.record.read_failures
        };
        *in_a_row = in_a_row.saturating_add(1);
        let wait = if reading.state == RegistrationState::Wait(Reason::RateLimited) {
            let cooldown = self.note_rate_limit(&mut state, reading, digests);
            until(cooldown.until, self.now)
        } else {
            wait_after_read(reading, *in_a_row, policy)
        };
        let end = later(self.now, with_jitter(wait, self.observed.jitter));
        self.wait_to_leave(state, &reading.message, end)
    }

    /// Holds the call back, if there is a reason to.
    fn hold_departure_back(&self, reading: &ReadOutcome, digests: &Digests) -> Option<Decision> {
        let state = || self.state_with_reading();
        if self.observed.dropped_fields.is_some() {
            let why =
                "the API server drops status fields that the operator relies on: its CRD is older";
            let end = plus(self.now, TRY_EVERY);
            return Some(self.wait_to_leave(state(), why, later(end, Duration::ZERO)));
        }
        // The wait after the call stays as the record has it, whatever was waited for since.
        let own = self.own_departure_wait();
        let own = own.filter(|_| !self.changes(digests).token);
        if let Some(window) = self.window().filter(|window| window.end > self.now) {
            let why = "a call for the number was made moments ago".to_owned();
            let (end, why) = own
                .filter(|(end, _)| *end >= window.end)
                .unwrap_or((later(window.end, Duration::ZERO).min(self.deadline()), why));
            return Some(self.wait_to_leave(state(), &why, end));
        }
        if self.read_too_early() {
            return Some(self.read_again());
        }
        if let Some(reason) = self.refused_departure()
            && reading.state == RegistrationState::Registered
            && !(self.is_failed() && self.changes(digests).token)
        {
            return Some(self.fail_departure(reason, digests));
        }
        let waits = self.departure_due().into_iter().chain(own);
        let last = waits.max_by_key(|(end, _)| *end);
        if let Some((end, why)) = last.filter(|(end, _)| *end > self.now) {
            return Some(self.wait_to_leave(state(), &why, end));
        }
        match self.observed.survey {
            None => Some(Decision::Survey),
            Some(Ok(_)) => None,
            Some(Err(why)) => {
                let why = format!("failed to list the other resources of the number: {why}");
                let end = plus(self.now, self.observed.policy.backoff.after(1));
                Some(self.wait_to_leave(state(), &why, later(end, Duration::ZERO)))
            }
        }
    }

    /// The earliest time of the next call that the ledger allows, and what it waits for.
    fn departure_due(&self) -> Option<(Timestamp, String)> {
        let attempts = self.all_attempts(Operation::Deregister);
        // None is left for people, who deregister elsewhere.
        let limit = Operation::Deregister.limit();
        let waits = [
            due_after(self.attempts(), self.observed.policy),
            ledger::blocked_until(&attempts, self.now),
            ledger::budget_opens(&attempts, limit, self.now),
        ];
        let end = waits.into_iter().flatten().max()?;
        let why = "the last deregister calls failed".to_owned();
        Some((later(end, Duration::ZERO), why))
    }

    /// The reason for which Graph has refused the last deregister call, unless it is temporary.
    fn refused_departure(&self) -> Option<Reason> {
        let last = self.attempts().iter().find(|attempt| attempt.counts())?;
        let reason = last.known_reason()?;
        let disposition = Operation::Deregister.disposition(reason);
        (disposition == Disposition::ConfirmThenStall).then_some(reason)
    }

    /// Graph refuses the call, and the number is registered: only a person can continue.
    fn fail_departure(&self, reason: Reason, digests: &Digests) -> Decision {
        let mut state = self.state_with_reading();
        note_inputs(&mut state, digests);
        let message = format!(
            "{} ({reason}), and the number is still registered",
            self.last_error_text()
        );
        state.phase = Phase::Stalled(Stall::new(Reason::DeregistrationFailed, message));
        self.rest_until_the_deadline(&state)
    }

    /// Rests until the last look, and from then on until the deadline. Where Secrets are not watched, another token is looked for.
    fn rest_until_the_deadline(&self, state: &State) -> Decision {
        let end = match self.last_look() {
            look if look > self.now => look,
            _ => self.deadline(),
        };
        let rest = until(end, self.now);
        let wait = self.secret_poll().map_or(rest, |poll| poll.min(rest));
        let mut state = state.clone();
        // What was waited for meanwhile is over.
        state.hold = None;
        self.settle(&state, Requeue::After(wait))
    }

    /// When the number is read once more, some time before a deletion that is left to people ends: one of them may have deregistered it.
    fn last_look(&self) -> Timestamp {
        let most = self.observed.policy.life.deregister_deadline;
        plus(self.deleted(), most.mul_f64(LAST_LOOK))
    }

    fn last_look_is_due(&self) -> bool {
        let look = self.last_look();
        look <= self.now && self.observed.last_read.is_none_or(|read| read < look)
    }

    /// Waits until a time; if that is after the deadline, the resource is released at once.
    fn wait_to_leave(&self, state: State, why: &str, end: Timestamp) -> Decision {
        let window = self.own_window().filter(|_| self.is_unconfirmed());
        let window = window.filter(|window| window.end > self.now && window.end < self.deadline());
        if let Some(window) = window.filter(|_| end > self.deadline()) {
            // The read at its end may still tell what became of the call.
            return self.stay(state, why, Some(window.end), window.end);
        }
        if end > self.deadline() {
            let why =
                format!("{why}, for longer than the deletion may wait (--deregister-deadline)");
            return Decision::Finalize(Finalize::LetGo(self.left_registered(&why)));
        }
        self.stay(state, why, Some(end), end)
    }

    fn stay(&self, state: State, why: &str, end: Option<Timestamp>, wake: Timestamp) -> Decision {
        let hold = Hold {
            until: end.map(Time),
            ..Hold::new(Reason::Deregistering, why.to_owned())
        };
        self.stay_with(state, hold, wake)
    }

    fn stay_with(&self, mut state: State, hold: Hold, wake: Timestamp) -> Decision {
        if !self.is_departure() {
            // The outcome of the last register call no longer matters.
            state.phase = Phase::Idle;
        }
        state.hold = Some(hold);
        let next_read = self.window().and_then(|window| window.next_read(self.now));
        let confirming = next_read.filter(|_| self.is_unconfirmed());
        let wake = confirming
            .map_or(wake, |read| read.min(wake))
            .min(self.deadline());
        self.settle(&state, Requeue::After(until(wake, self.now)))
    }

    /// The deregister calls for earlier resources of this name, which a new one takes over with its first write.
    pub(super) fn take_over(state: &mut State, earlier: &[LedgerEntry]) {
        let known = &mut state.record.attempts;
        let new = earlier
            .iter()
            .filter(|entry| entry.operation == Operation::Deregister && !entry.is_open());
        let new: Vec<_> = new
            .filter(|entry| known.iter().all(|k| k.id != entry.id))
            .map(|entry| LedgerEntry {
                earlier: true,
                ..entry.clone()
            })
            .collect();
        known.extend(new);
    }
}

impl Farewell {
    fn new(outcome: FarewellOutcome, why: &str) -> Self {
        Self {
            outcome,
            why: why.to_owned(),
        }
    }
}
