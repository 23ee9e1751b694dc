//! The end of a round: the status to write, or the claim.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::facts::{Facts, wait_after_read};
use crate::api::{
    Budget, Disposition, GraphErrorStatus, Hold, LedgerEntry, Operation, Reason, Stall, Wait,
};
use crate::credentials::{Digests, SecretFault};
use crate::graph::{ReadOutcome, RegisterOutcome, RegistrationState, classify};
use crate::model::apply::{self, CallResult, note_read_trace};
use crate::model::decision::{Claim, Decision, OpenClaim, Requeue};
use crate::model::definition::TRY_EVERY;
use crate::model::ledger;
use crate::model::observe::Plan;
use crate::model::phase::{Phase, Standing, State};
use crate::model::render::render;
use crate::model::schedule::{ConfirmWindow, later, spread, until, with_jitter};
use crate::model::twins::UNSEEN;

/// How often the read of a forbidden Secret is retried.
const FORBIDDEN_POLL: Duration = Duration::from_secs(60);

impl Facts<'_> {
    /// Leaves the status as it is.
    pub(super) fn leave(&self) -> Decision {
        let status = self.observed.resource.status_or_unseen();
        Decision::Settle(Box::new(status), Requeue::OnChange)
    }

    /// Waits for the process that holds the claim, or closes the claim when that process is presumed gone or this one knows that it made
    /// no call.
    pub(super) fn await_claim(&self, claim: &LedgerEntry) -> Decision {
        let reason = match self.observed.open_claim {
            OpenClaim::Unsent => Reason::NotSent,
            OpenClaim::SeenFor(seen) if seen >= claim.ttl() => Reason::OutcomeUnknown,
            OpenClaim::SeenFor(seen) => {
                return self.settle(&self.state, Requeue::After(claim.ttl() - seen));
            }
        };
        let message = match reason {
            Reason::NotSent => format!("the {} was claimed and not made", claim.operation.noun()),
            _ => format!(
                "the process that claimed the {} is gone and recorded no outcome",
                claim.operation.noun()
            ),
        };
        let outcome = RegisterOutcome::without_answer(reason, &message);
        let result = CallResult {
            operation: claim.operation,
            id: &claim.id,
            outcome: &outcome,
            handled_before: self.handled_before(claim),
        };
        let status = render(&self.state, self.generation(), self.now);
        let applied = apply::apply_outcome(&status, &result, &self.apply_context());
        Decision::Settle(Box::new(applied), Requeue::After(Duration::ZERO))
    }

    pub(super) fn suspend(mut self) -> Decision {
        if self.state.is_registered() {
            return self.rest();
        }
        self.state.record.forget_observation();
        self.state.hold = Some(Hold::new(
            Reason::Suspended,
            "spec.suspend is true: no call is made".to_owned(),
        ));
        self.settle(&self.state, Requeue::OnChange)
    }

    pub(super) fn yield_to(mut self, owner: &str) -> Decision {
        self.state.hold = Some(Hold::new(
            Reason::DuplicatePhoneNumber,
            format!("The same phone number ID is named by {owner}, which takes precedence"),
        ));
        let requeue = match self.observed.peers.owner_is_unseen {
            true => Requeue::After(UNSEEN),
            false => Requeue::OnChange,
        };
        let state = self.state.clone();
        self.rest_in(state, requeue)
    }

    /// A Secret is missing or wrong: no call can be made.
    pub(super) fn hold_for_secret(mut self, fault: &SecretFault) -> Decision {
        self.state.hold = Some(Hold::new(fault.reason, fault.message.clone()));
        let poll = self.poll_for(fault);
        self.settle(&self.state, poll.map_or(Requeue::OnChange, Requeue::After))
    }

    /// When to look at a faulty Secret again, where no watch tells of its change.
    pub(super) fn poll_for(&self, fault: &SecretFault) -> Option<Duration> {
        // No watch event announces a permission that was granted.
        let forbidden = (fault.reason == Reason::SecretForbidden).then_some(FORBIDDEN_POLL);
        self.secret_poll().or(forbidden)
    }

    /// The API server drops fields that the next decision would rely on: no claim is written.
    pub(super) fn hold_for_definition(&self, fields: &str) -> Decision {
        let mut state = self.state_with_reading();
        state.hold = Some(Hold::new(
            Reason::DefinitionOutdated,
            format!(
                "the API server drops the status fields {fields}, which the operator relies on: its CRD is older"
            ),
        ));
        self.rest_in(state, Requeue::After(TRY_EVERY))
    }

    /// Stays stalled.
    pub(super) fn stay_stalled(self, stalled: State) -> Decision {
        let poll = self.poll();
        self.rest_in(stalled, poll)
    }

    /// Rests in this state until something changes. A number that was registered is observed all the same.
    fn rest_in(&self, mut state: State, requeue: Requeue) -> Decision {
        let policy = self.observed.policy;
        let interval = policy.observe_interval(self.observed.resource);
        let interval = interval.filter(|_| state.standing != Standing::Unregistered);
        let Some(interval) = interval else {
            state.record.forget_observation();
            return self.settle(&state, requeue);
        };
        match self.in_state(state).observe(interval) {
            Decision::Settle(status, Requeue::Observe(plan)) => {
                let poll = requeue.wait(self.now).or(plan.poll);
                Decision::Settle(status, Requeue::Observe(Plan { poll, ..plan }))
            }
            other => other,
        }
    }

    /// The state of a resource that stays stalled, as the inputs of a call have not changed. A new request lifts a stall, until a read
    /// stands against it as well.
    pub(super) fn stalled_still(&self, digests: &Digests) -> Option<State> {
        let changes = self.changes(digests);
        let (reason, lifted) = match self.request() {
            Some(_) => {
                let reason = self.answered()?;
                (reason, reason != Reason::BusinessAppNumber && changes.any())
            }
            None => (self.refused()?, self.is_lifted(digests)),
        };
        if lifted {
            return None;
        }
        let mut state = self.state.clone();
        state.hold = None;
        let stall = self.state.stall();
        // The token that a read was refused with is another one now; the PIN that Graph refused is not.
        let pin = self.state.verdict.filter(|verdict| verdict.is_about_pin());
        let reason = pin.filter(|_| changes.token).unwrap_or(reason);
        if changes.any() || stall.is_none_or(|stall| stall.reason != reason) {
            note_inputs(&mut state, digests);
            let unsure = changes.token && self.is_locked_by_pin();
            state.phase = Phase::Stalled(Stall {
                token_changed: unsure || stall.is_some_and(|stall| stall.token_changed),
                request: stall.and_then(|stall| stall.request.clone()),
                ..Stall::new(reason, self.last_error_text())
            });
        }
        Some(state)
    }

    /// Waits for the token, which met a rate limit in another call; a resource whose own wait ends later keeps that. The status tells
    /// no time: it is written once, however often the token meets its limit before this resource has its turn.
    pub(super) fn cool_down(&self, end: Timestamp, digests: &Digests) -> Decision {
        let wait = until(end, self.now);
        let requeue = Requeue::After(with_jitter(wait, self.observed.jitter));
        // A wait for the previous token's rate limit does not apply to this one.
        let obsolete = self.waits_for_token() && self.is_other_token(digests);
        if let Some(own) = self.earliest_call().filter(|own| *own > end && !obsolete) {
            return self.keep_waiting(self.state_with_reading(), own, requeue);
        }
        let mut state = self.state.clone();
        if obsolete && matches!(state.phase, Phase::Waiting(_)) {
            state.phase = Phase::Idle;
        }
        state.hold = Some(Hold::new(
            Reason::RateLimited,
            "The token has reached a rate limit of Graph in another call. This one is made once that is over.".to_owned(),
        ));
        self.settle(&state, requeue)
    }

    /// Adopts a number that Graph reports as registered: nothing is sent.
    pub(super) fn adopt(
        &self,
        operation: Operation,
        reading: &ReadOutcome,
        digests: &Digests,
    ) -> Decision {
        let mut state = self.state_with_reading();
        let unclear = self.is_unconfirmed() || self.is_unchecked();
        self.note_adoption(operation, &mut state, unclear, reading, digests);
        self.settle(&state, self.until_observed())
    }

    /// Notes that Graph shows the number as the call would leave it, and that the last call did it if its outcome was unclear. This also
    /// fulfils a request.
    pub(super) fn note_adoption(
        &self,
        operation: Operation,
        state: &mut State,
        unclear: bool,
        reading: &ReadOutcome,
        digests: &Digests,
    ) {
        let attempts = &mut state.record.attempts;
        let reason = match attempts.iter_mut().find(|a| a.counts()) {
            Some(attempt) if unclear => {
                apply::confirm(attempt);
                operation.confirmed()
            }
            _ => operation.not_needed(),
        };
        operation.succeed(state, reason, reading.message.clone(), self.now);
        note_inputs(state, digests);
        if let Some(request) = self.observed.resource.register_request() {
            state.record.last_handled_register_request = Some(request.to_owned());
        }
    }

    pub(super) fn stall_by_read(
        &self,
        reason: Reason,
        reading: &ReadOutcome,
        digests: &Digests,
    ) -> Decision {
        let mut state = self.state_with_reading();
        let wrong_pin = self.is_locked_by_pin() && self.refuses(digests);
        if !wrong_pin && (reading.error.is_some() || !self.refuses(digests)) {
            state.verdict = reading.error.as_ref().map(|_| reason);
            state.record.last_error.clone_from(&reading.error);
        }
        note_inputs(&mut state, digests);
        state.record.unclear_reads = 0;
        state.hold = None;
        state.phase = Phase::Stalled(Stall {
            request: self.request().map(str::to_owned),
            ..Stall::new(reason, reading.message.clone())
        });
        self.settle(&state, self.poll())
    }

    /// Waits to repeat a read whose answer does not say what it was made for; no attempt is spent.
    pub(super) fn read_later(
        &self,
        reason: Option<Reason>,
        reading: &ReadOutcome,
        what: &str,
    ) -> Decision {
        let mut state = self.state_with_reading();
        state.record.unclear_reads = state.record.unclear_reads.saturating_add(1);
        let in_a_row = state.record.unclear_reads;
        let wait = wait_after_read(reading, in_a_row, self.observed.policy);
        let due = later(self.now, with_jitter(wait, self.observed.jitter));
        let own = self.earliest_call().filter(|_| !self.is_confirming());
        let due = own.map_or(due, |own| own.max(due));
        if state.verdict.is_none() {
            state.record.last_error.clone_from(&reading.error);
        }
        let message = format!("{what}. {}", reading.message);
        state.hold = None;
        let wait = Wait::new(reason.unwrap_or(Reason::GraphUnavailable), message, due);
        state.phase = Phase::waits(wait, self.is_confirming());
        self.settle(&state, Requeue::After(until(due, self.now)))
    }

    /// Waits to repeat a read without a usable answer; no attempt is spent.
    pub(super) fn wait_by_read(
        &self,
        reason: Reason,
        reading: &ReadOutcome,
        digests: &Digests,
    ) -> Decision {
        let mut state = self.state.clone();
        note_read_trace(&mut state.record, reading);
        state.record.read_failures = state.record.read_failures.saturating_add(1);
        let wait = if reason == Reason::RateLimited {
            let cooldown = self.note_rate_limit(&mut state, reading, digests);
            until(cooldown.until, self.now)
        } else {
            wait_after_read(reading, state.record.read_failures, self.observed.policy)
        };
        let due = later(self.now, with_jitter(wait, self.observed.jitter));
        // An outcome is confirmed by reads at their own times.
        let own = self.earliest_call().filter(|_| !self.is_confirming());
        let later_own = own.filter(|own| *own > due);
        if let (Some(own), Reason::RateLimited) = (later_own, reason) {
            // The token's wait is over before the number's own, which is what people see.
            let requeue = Requeue::After(until(own, self.now));
            return self.keep_waiting(state, own, requeue);
        }
        let due = later_own.unwrap_or(due);
        let passing =
            |error: &GraphErrorStatus| classify(error).disposition() == Disposition::Retry;
        if state.verdict.is_none() && reading.error.as_ref().is_none_or(passing) {
            // A read without a usable answer neither gives a verdict nor lifts one.
            state.record.last_error.clone_from(&reading.error);
        }
        state.hold = None;
        let wait = Wait::new(reason, reading.message.clone(), due);
        state.phase = Phase::waits(wait, self.is_confirming());
        self.settle(&state, Requeue::After(until(due, self.now)))
    }

    /// Builds the status with the claim. Once it is stored, only this process may make the call.
    pub(super) fn claim(&self, operation: Operation, digests: &Digests) -> Decision {
        let mut state = self.state_with_reading();
        let handled_before = state.record.last_handled_register_request.clone();
        if let Some(request) = self.request() {
            state.record.last_handled_register_request = Some(request.to_owned());
        }
        let entry = LedgerEntry {
            seen: self.observed.reading.map(ReadOutcome::shows_number),
            ..LedgerEntry::open(
                operation,
                self.observed.fresh_id,
                self.observed.policy.claim_ttl,
                self.request(),
                self.now,
            )
        };
        ledger::push(&mut state.record.attempts, entry.clone(), self.now);
        if !self.refuses(digests) {
            // A verdict on other inputs must not apply to these, if the call gets no answer.
            state.verdict = None;
            state.record.last_error = None;
        }
        note_inputs(&mut state, digests);
        state.record.may_be_registered |= operation.registers();
        state.record.graph_api_version = Some(self.version().to_owned());
        state.record.read_failures = 0;
        state.record.unclear_reads = 0;
        state.record.token_wait = state
            .record
            .token_wait
            .filter(|wait| wait.until.0 > self.now && wait.digest != digests.token);
        state.hold = None;
        state.phase = Phase::InFlight(Box::new(entry.clone()));
        let mut status = render(&state, self.generation(), self.now);
        status.budget = self.budget(&status.attempts);
        Decision::Call(Box::new(Claim {
            entry,
            status,
            handled_before,
        }))
    }

    /// Ends the round with this state.
    pub(super) fn settle(&self, state: &State, requeue: Requeue) -> Decision {
        let mut status = render(state, self.generation(), self.now);
        let known = self.observed.resource.status.as_ref();
        if known != Some(&status) {
            // As time passes calls leave the 72 hours; that alone is not worth a write.
            status.budget = self.budget(&status.attempts);
        }
        Decision::Settle(Box::new(status), requeue)
    }

    /// What the register calls of this ledger and of the peers leave of Meta's limit.
    fn budget(&self, attempts: &[LedgerEntry]) -> Option<Budget> {
        let peers = &self.observed.peers.attempts;
        let all = [attempts, peers].into_iter();
        let calls = all.flat_map(|attempts| ledger::of(attempts, Operation::Register));
        ledger::budget(&calls.collect::<Vec<_>>(), self.now)
    }

    /// Polls for a resource that waits for a Secret, where Secrets are not watched.
    fn poll(&self) -> Requeue {
        self.secret_poll().map_or(Requeue::OnChange, Requeue::After)
    }

    /// The wait until Secrets are read again, where they are not watched.
    pub(super) fn secret_poll(&self) -> Option<Duration> {
        let poll = self.observed.policy.secret_poll?;
        Some(spread(poll, self.observed.jitter))
    }

    /// Keeps the wait, and comes in time for the next planned read.
    pub(super) fn wait_on(&self, due: Timestamp) -> Decision {
        let next_read = self
            .window()
            .filter(|_| !self.waits_to_read())
            .and_then(|window| window.next_read(self.now))
            .unwrap_or(due);
        let requeue = Requeue::After(until(due.min(next_read), self.now));
        let mut state = self.state_with_reading();
        if let Phase::Unconfirmed(wait) = &state.phase
            && self.is_disproved()
        {
            let message = format!("{}; it did not register the number", wait.message);
            state.phase = Phase::Waiting(Wait::new(wait.reason, message, due));
        }
        self.keep_waiting(state, due, requeue)
    }

    /// Whether this round's read, after the confirm window, shows that an unclear call did not take effect.
    fn is_disproved(&self) -> bool {
        let reading = self.observed.reading;
        let shown =
            reading.is_some_and(|reading| reading.state == RegistrationState::NotRegistered);
        shown && self.window().is_none_or(|window| window.end <= self.now)
    }

    /// Keeps the wait. A hold without an end is over by now: what it was for was looked at first.
    fn keep_waiting(&self, mut state: State, due: Timestamp, requeue: Requeue) -> Decision {
        if !self.has_wait() {
            // A stall was lifted: the wait is that of the last attempt.
            state.phase = self.last_wait(due);
        }
        state.hold = state.hold.filter(|hold| hold.until.is_some());
        self.rest_in(state, requeue)
    }

    /// The wait after the last attempt.
    fn last_wait(&self, due: Timestamp) -> Phase {
        let reason = self.last_ended().and_then(LedgerEntry::known_reason);
        let reason = reason.unwrap_or(Reason::OutcomeUnknown);
        let confirming = matches!(
            reason.disposition(),
            Disposition::Confirm | Disposition::ConfirmThenStall
        );
        Phase::waits(Wait::new(reason, self.last_error_text(), due), confirming)
    }

    /// The number was read a moment too early: another round.
    pub(super) fn read_again(&self) -> Decision {
        let status = self.observed.resource.status_or_unseen();
        Decision::Settle(Box::new(status), Requeue::After(Duration::ZERO))
    }

    /// Waits until `end` for a reason that is not the outcome of a call. The confirm window is over by then: nothing is left to
    /// confirm.
    pub(super) fn hold_until(&self, reason: Reason, what: &str, end: Timestamp) -> Decision {
        let end = later(end, Duration::ZERO);
        let mut state = self.state_with_reading();
        if let Phase::Unconfirmed(wait) = state.phase {
            state.phase = Phase::waits(wait, false);
        }
        state.hold = Some(Hold {
            until: Some(Time(end)),
            ..Hold::new(reason, what.to_owned())
        });
        self.rest_in(state, Requeue::After(until(end, self.now)))
    }

    /// Waits for the confirm window of a call for this number, made for this resource or a peer.
    pub(super) fn wait_for_window(&self, window: ConfirmWindow) -> Decision {
        if self.request().is_none() && self.own_window().is_some() && self.has_wait() {
            return self.wait_on(self.due().unwrap_or(window.end).max(window.end));
        }
        let end = later(window.end, Duration::ZERO);
        let next_read = window
            .next_read(self.now)
            .filter(|_| !self.waits_to_read())
            .unwrap_or(end);
        let requeue = Requeue::After(until(next_read.min(end), self.now));
        let departing = self.window_of(Operation::Deregister);
        let what = match departing.is_some_and(|departing| departing.end == window.end) {
            true => {
                "a deregister call for this number was made moments ago, and Meta needs five minutes for it"
            }
            false => "a call for this number was made moments ago",
        };
        let mut state = self.state_with_reading();
        state.hold = Some(Hold {
            until: Some(Time(end)),
            ..Hold::new(Reason::OutcomeUnknown, what.to_owned())
        });
        self.settle(&state, requeue)
    }

    /// Stalls if Graph has refused this PIN in a call that this status does not show: it would refuse it again.
    pub(super) fn stall_for_refused_pin(&self, reason: Reason, digests: &Digests) -> Decision {
        let mut state = self.state_with_reading();
        note_inputs(&mut state, digests);
        state.hold = None;
        state.verdict = Some(reason);
        let message = "Graph refused this PIN with this token in an earlier call for the number, made for a resource that \
            was deleted since or has lost its status; it is not sent again";
        state.phase = Phase::Stalled(Stall::new(reason, message.to_owned()));
        self.settle(&state, self.poll())
    }

    /// Whether this round's read does not settle the outcome of a call either.
    fn is_blind(&self) -> bool {
        let reading = self.observed.reading;
        reading.is_some_and(|reading| matches!(reading.state, RegistrationState::Unclear(_)))
    }

    /// Stalls after the confirm window if the answer from Graph does not justify another attempt.
    pub(super) fn stall_unconfirmed(&self, digests: &Digests) -> Option<Decision> {
        let attempt = self.attempts().iter().find(|attempt| attempt.counts())?;
        let reason = attempt.known_reason()?;
        // A verdict can come with a 5xx; a call requested despite one can end without an answer.
        let stalls = reason.disposition() == Disposition::ConfirmThenStall
            || self.is_unchecked()
            || attempt.is_unclear() && (self.state.verdict.is_some() || self.is_blind());
        if !stalls || self.is_lifted(digests) {
            return None;
        }
        let mut state = self.state_with_reading();
        note_inputs(&mut state, digests);
        state.hold = None;
        let message = format!(
            "{}, and no read shows the number as registered",
            self.last_error_text()
        );
        // What Graph has answered outlasts a requested call that fails in passing.
        let answered = reason.disposition() != Disposition::Confirm;
        state.verdict = state.verdict.or(answered.then_some(reason));
        state.phase = Phase::Stalled(Stall::new(reason, message));
        Some(self.settle(&state, self.poll()))
    }
}

/// Notes the inputs of an attempt, or of the read that stalls the resource.
pub(super) fn note_inputs(state: &mut State, digests: &Digests) {
    state.record.token_digest = Some(digests.token.clone());
    state.record.pin_digest = Some(digests.pin.clone());
    state.record.inputs_digest = Some(digests.inputs.clone());
}
