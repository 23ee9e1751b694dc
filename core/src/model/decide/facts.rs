//! What is known of one resource in one round, and the times that follow from it. Nothing here returns a decision.
//!
//! A call is *unclear* while it may have acted without its answer saying so, *unconfirmed* while no read has settled that,
//! and *unchecked* while its refusal may mean that it was not needed. A verdict is *lifted* by a change of a call's
//! inputs.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::{LedgerEntry, Operation, Reason};
use crate::credentials::Digests;
use crate::graph::{ReadOutcome, RegistrationState};
use crate::model::apply::{self, ApplyContext};
use crate::model::cooldown::Cooldown;
use crate::model::decision::{Inputs, Observed};
use crate::model::goal::{Goal, goal};
use crate::model::ledger;
use crate::model::phase::{Phase, Standing, State};
use crate::model::policy::Policy;
use crate::model::schedule::{ConfirmWindow, sane_next};

/// How often a read is repeated if its answer does not say whether the number is registered.
pub(super) const UNCLEAR_READS: i32 = 3;

/// The longest wait between two reads, whatever an answer asks for. Only a rate limit waits longer: it is the token's, with a cool-down.
const READ_CAP: Duration = Duration::from_secs(600);

/// What was observed of a resource, and what follows from it.
pub(super) struct Facts<'a> {
    pub(super) observed: &'a Observed<'a>,
    pub(super) now: Timestamp,
    /// The resource's state, with the faults of other clocks corrected.
    pub(super) state: State,
    pub(super) goal: Goal<'a>,
    /// The calls for this resource of the kind that the goal is about.
    own: Vec<LedgerEntry>,
}

/// Which of a call's inputs have changed since the last attempt.
#[derive(Clone, Copy)]
pub(super) struct Changes {
    /// Another token. The digests of the others are keyed by the token, so these have changed as well: the old ones say nothing about
    /// the PIN.
    pub(super) token: bool,
    pub(super) pin: bool,
    pub(super) others: bool,
}

impl<'a> Facts<'a> {
    pub(super) fn new(observed: &'a Observed<'a>, now: Timestamp) -> Self {
        let resource = observed.resource;
        let mut state = State::parse(&resource.status_or_unseen());
        if state.record.observed_generation < 0 {
            Self::take_over(&mut state, &observed.peers.earlier);
            // The finalizer tells what a status that was wiped cannot.
            state.record.may_be_registered |= resource.has_finalizer();
        }
        state.record.attempts = ledger::with_sane_times(&state.record.attempts, now);
        state.record.read_failures = state.record.read_failures.max(0);
        state.record.unclear_reads = state.record.unclear_reads.max(0);
        if let Phase::Unconfirmed(wait) | Phase::Waiting(wait) = &mut state.phase {
            wait.until = sane_next(&wait.until, now);
        }
        if let Some(wait) = &mut state.record.token_wait {
            wait.until = sane_next(&wait.until, now);
        }
        if let Some(until) = state.hold.as_mut().and_then(|hold| hold.until.as_mut()) {
            *until = sane_next(until, now);
        }
        let mut facts = Self {
            goal: Goal::Rest,
            observed,
            now,
            state,
            own: Vec::new(),
        };
        if let Standing::Lost(loss) = &facts.state.standing {
            facts.state.standing = Standing::Lost(facts.recovering(loss.clone()));
        }
        facts.goal = goal(resource, &facts.state, observed.peers, observed.policy);
        facts.own = ledger::of(&facts.state.record.attempts, facts.operation());
        facts.own.retain(|attempt| !attempt.earlier);
        facts
    }

    /// The same facts with another state.
    pub(super) fn in_state(&self, state: State) -> Self {
        Self {
            state,
            own: self.own.clone(),
            ..*self
        }
    }

    pub(super) fn generation(&self) -> i64 {
        let metadata = &self.observed.resource.metadata;
        metadata.generation.unwrap_or_default()
    }

    pub(super) fn version(&self) -> &'a str {
        self.observed.policy.version(self.observed.resource)
    }

    /// The value of the annotation that requests the call.
    pub(super) fn request(&self) -> Option<&'a str> {
        match self.goal {
            Goal::Call(request) => Some(request),
            Goal::Retain
            | Goal::Deregister
            | Goal::Suspend
            | Goal::Rest
            | Goal::Observe(_)
            | Goal::Yield(_)
            | Goal::Register
            | Goal::Recover => None,
        }
    }

    pub(super) fn apply_context(&self) -> ApplyContext<'a> {
        ApplyContext {
            policy: self.observed.policy,
            generation: self.generation(),
            cooldown: self.observed.cooldown,
            jitter: self.observed.jitter,
            now: self.now,
        }
    }

    /// The state, updated with the read of this round.
    pub(super) fn state_with_reading(&self) -> State {
        let mut state = self.state.clone();
        let readings = [self.observed.reading, self.observed.details];
        for reading in readings.into_iter().flatten() {
            apply::note_reading(&mut state.record, reading, self.version(), self.now);
        }
        let reading = self.observed.reading.map(|reading| reading.state);
        if reading == Some(RegistrationState::Registered) {
            state.record.loss_suspected_time = None;
        }
        let told = matches!(
            reading,
            Some(RegistrationState::Registered | RegistrationState::NotRegistered)
        );
        if let Some(observation) = state.record.observation.as_mut().filter(|_| told) {
            observation.fault = None;
        }
        // For a registered number, one read is a suspicion only.
        if reading == Some(RegistrationState::NotRegistered)
            && !state.is_registered()
            && self.window_of(Operation::Register).is_none()
        {
            state.record.may_be_registered = false;
        }
        state
    }

    /// The window after the last call of this kind for the number, while it lasts: a read may show the number as it was before, and
    /// after a deregister call nobody registers or adopts it.
    pub(super) fn window_of(&self, operation: Operation) -> Option<ConfirmWindow> {
        let mut calls = self.all_attempts(operation);
        let unseen = &self.observed.peers.unseen_attempts;
        calls.extend(ledger::of(unseen, operation));
        let length = self.observed.policy.confirm_window;
        let window = ledger::others_window(&calls, length, self.now);
        window.filter(|window| window.end > self.now)
    }

    /// Notes that the token has met a rate limit in this read. Returns its cool-down.
    pub(super) fn note_rate_limit(
        &self,
        state: &mut State,
        reading: &ReadOutcome,
        digests: &Digests,
    ) -> Cooldown {
        let (known, asked) = (self.observed.cooldown, reading.retry_after);
        let cooldown = Cooldown::after(known, asked, self.observed.policy.backoff, self.now);
        state.record.token_wait = Some(cooldown.stored(&digests.token));
        cooldown
    }

    /// The handled value of the annotation before a claim, as far as the ledger shows.
    pub(super) fn handled_before(&self, claim: &LedgerEntry) -> Option<&str> {
        let others = self.attempts().iter().filter(|a| a.id != claim.id);
        others
            .filter(|attempt| apply::is_spent(attempt))
            .find_map(|attempt| attempt.request.as_deref())
    }

    /// The kind of call that the goal is about.
    fn operation(&self) -> Operation {
        match self.goal {
            Goal::Deregister => Operation::Deregister,
            Goal::Retain
            | Goal::Suspend
            | Goal::Rest
            | Goal::Observe(_)
            | Goal::Yield(_)
            | Goal::Register
            | Goal::Recover
            | Goal::Call(_) => Operation::Register,
        }
    }

    /// This resource's calls of the kind that the goal is about, newest first.
    pub(super) fn attempts(&self) -> &[LedgerEntry] {
        &self.own
    }

    /// The calls of one kind that Meta counts for the number, as far as they are known.
    pub(super) fn all_attempts(&self, operation: Operation) -> Vec<LedgerEntry> {
        let peers = &self.observed.peers.attempts;
        [&self.state.record.attempts, peers]
            .into_iter()
            .flat_map(|attempts| ledger::of(attempts, operation))
            .collect()
    }

    /// The newest attempt that has ended.
    pub(super) fn last_ended(&self) -> Option<&LedgerEntry> {
        self.attempts().iter().find(|attempt| !attempt.is_open())
    }

    // === What became of the last call ===

    /// Whether the last call for this resource may have acted, and nothing has settled that: its answer was lost, or is a server error.
    /// After a lost answer the outcome is unknown ([`Self::is_confirming`]); a server error counts as a failure until a read says
    /// otherwise.
    pub(super) fn is_unconfirmed(&self) -> bool {
        self.unsettled().is_some_and(LedgerEntry::is_unclear)
    }

    /// Whether the answer to the last call for this resource may mean that it was not needed, and no read has followed.
    pub(super) fn is_unchecked(&self) -> bool {
        self.unsettled().is_some_and(LedgerEntry::is_unchecked)
    }

    /// The last counted call, unless the resource is stalled for that call's reason. A stall caused by a rejected read does
    /// not settle the call.
    fn unsettled(&self) -> Option<&LedgerEntry> {
        let last = self.attempts().iter().find(|attempt| attempt.counts());
        last.filter(|attempt| {
            self.stalled()
                .is_none_or(|reason| Some(reason) != attempt.known_reason())
        })
    }

    /// The reason why the resource is stalled; a registered one never is, although its requested call may be.
    pub(super) fn stalled(&self) -> Option<Reason> {
        let stall = self.state.stall().filter(|_| !self.state.is_registered());
        stall.map(|stall| stall.reason)
    }

    /// The reason why the requested call is not made, if a read has given one.
    pub(super) fn answered(&self) -> Option<Reason> {
        let request = self.request()?;
        let stall = self.state.stall()?;
        (stall.request.as_deref() == Some(request)).then_some(stall.reason)
    }

    /// The reason why no automatic attempt is made until something changes, if there is one.
    pub(super) fn refused(&self) -> Option<Reason> {
        if let Some(reason) = self.stalled() {
            return Some(reason);
        }
        if self.is_unconfirmed() || self.is_unchecked() {
            return None;
        }
        self.state.verdict
    }

    /// Whether the inputs of a call have changed so that the verdict no longer applies.
    pub(super) fn is_lifted(&self, digests: &Digests) -> bool {
        let changes = self.changes(digests);
        if self.has_verdict(|reason| reason == Reason::BusinessAppNumber) {
            false
        } else if self.is_locked_by_pin() {
            changes.pin && !changes.token
        } else {
            changes.any()
        }
    }

    /// Whether Graph's verdict applies to these inputs as well.
    pub(super) fn refuses(&self, digests: &Digests) -> bool {
        self.state.verdict.is_some() && !self.is_lifted(digests)
    }

    /// Whether a verdict on the PIN applies, which only another PIN lifts.
    pub(super) fn is_locked_by_pin(&self) -> bool {
        self.has_verdict(Reason::is_about_pin)
    }

    fn has_verdict(&self, is: impl Fn(Reason) -> bool) -> bool {
        let mut verdicts = [self.stalled(), self.state.verdict].into_iter().flatten();
        verdicts.any(is)
    }

    pub(super) fn changes(&self, digests: &Digests) -> Changes {
        let record = &self.state.record;
        let differs =
            |known: &Option<String>, now: &String| known.as_ref().is_some_and(|k| k != now);
        Changes {
            token: differs(&record.token_digest, &digests.token),
            pin: differs(&record.pin_digest, &digests.pin),
            others: record.inputs_digest.as_ref() != Some(&digests.inputs),
        }
    }

    /// The last error from Graph, for a message that is written again.
    pub(super) fn last_error_text(&self) -> String {
        let error = self.state.record.last_error.as_ref();
        match error.and_then(|error| error.message.as_deref()) {
            Some(message) => format!("Graph answered: {message}"),
            None => "the last register call failed".to_owned(),
        }
    }

    // === When a call or a read may be made ===

    /// The end of the wait that is stored, and its reason: that of the phase, or of a hold that ends later. A new generation ends
    /// the wait for a read, which spends nothing.
    fn stored_wait(&self) -> Option<(Timestamp, Option<Reason>)> {
        let hold = self.state.hold.as_ref();
        let held = hold.and_then(|hold| Some((hold.until.as_ref()?.0, Some(hold.reason))));
        let ended = self.state.awaits_read() && !self.waits_to_read();
        let own = self.state.wait().filter(|_| !ended).map(|wait| {
            let reason = (!wait.confirming).then_some(wait.reason);
            (wait.until.0, reason)
        });
        own.into_iter().chain(held).max_by_key(|(until, _)| *until)
    }

    /// Whether the stored wait is one for another read.
    pub(super) fn waits_to_read(&self) -> bool {
        let is_new = self.generation() != self.state.record.observed_generation;
        self.state.awaits_read() && !is_new
    }

    /// Whether a wait is stored.
    pub(super) fn has_wait(&self) -> bool {
        self.stored_wait().is_some()
    }

    /// The time of the next automatic attempt: the stored one, else the one that follows from the last attempt.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let stored = self.stored_wait().map(|(until, _)| until);
        stored.or_else(|| apply::due_after(self.attempts(), self.observed.policy))
    }

    /// The earliest time of the next call. A requested call ignores the backoff: it waits for the confirm window and for the
    /// next read. Once handed back, it waits like any other.
    pub(super) fn earliest_call(&self) -> Option<Timestamp> {
        if self.request().is_none() || self.is_handed_back() {
            return self.due();
        }
        let window = self.window().map(|window| window.end);
        let stored = self.stored_wait().map(|(until, _)| until);
        window.max(stored.filter(|_| self.state.awaits_read()))
    }

    /// Whether the last attempt was for this request and handed it back.
    fn is_handed_back(&self) -> bool {
        let last = self.last_ended();
        self.request().is_some() && last.is_some_and(|a| a.request.as_deref() == self.request())
    }

    /// Whether the current wait is a rate limit on the token; another token need not wait for it.
    pub(super) fn waits_for_token(&self) -> bool {
        let reason = match self.stored_wait() {
            Some((_, reason)) => reason,
            None => self.last_ended().and_then(LedgerEntry::known_reason),
        };
        reason == Some(Reason::RateLimited)
    }

    /// Whether a wait for a token's rate limit is that of another token.
    pub(super) fn is_other_token(&self, digests: &Digests) -> bool {
        let record = &self.state.record;
        let limited = record.token_wait.as_ref().map(|wait| &wait.digest);
        limited.or(record.token_digest.as_ref()) != Some(&digests.token)
    }

    /// Whether another resource took precedence when this one was looked at last.
    pub(super) fn has_given_way(&self) -> bool {
        let hold = self.state.hold.as_ref();
        hold.is_some_and(|hold| hold.reason == Reason::DuplicatePhoneNumber)
    }

    /// Whether a Secret was missing or wrong when it was read last.
    pub(super) fn lacks_secret(&self) -> bool {
        let hold = self.state.hold.as_ref();
        hold.is_some_and(|hold| hold.reason.is_secret_fault())
    }

    /// Whether a planned read of the confirm window is due, or the one after it: an outcome is unknown until that read.
    pub(super) fn confirming_read_due(&self) -> bool {
        let sound = match self.observed.inputs {
            Inputs::Unread | Inputs::Ready(_) => true,
            Inputs::Faulty(_) => false,
        };
        let is_due = self.window().is_some_and(|window| {
            if window.end > self.now {
                window.read_due(self.observed.last_read, self.now)
            } else {
                self.is_confirming() || self.is_unconfirmed() && !self.was_read_since(window)
            }
        });
        sound && is_due && self.observed.reading.is_none() && !self.waits_to_read()
    }

    /// Whether this process has read the number since the window ended.
    pub(super) fn was_read_since(&self, window: ConfirmWindow) -> bool {
        self.observed
            .last_read
            .is_some_and(|read| read >= window.end)
    }

    /// The earliest time of a call after this round's read. While an outcome is confirmed, the stored time is that of a read.
    pub(super) fn earliest_call_after_read(&self) -> Option<Timestamp> {
        let backoff = self.request().is_none() || self.is_handed_back();
        let after = apply::due_after(self.attempts(), self.observed.policy);
        self.earliest_call()
            .max(after.filter(|_| backoff && self.is_confirming()))
    }

    /// Whether an outcome is being confirmed, which stays unknown while reads fail.
    pub(super) fn is_confirming(&self) -> bool {
        matches!(self.state.phase, Phase::Unconfirmed(_)) && self.is_unconfirmed()
    }

    /// Whether the read of this round began before this resource's own confirm window was over.
    pub(super) fn read_too_early(&self) -> bool {
        let read = self.observed.reading.and(self.observed.last_read);
        read.zip(self.own_window())
            .is_some_and(|(read, window)| read < window.end)
    }

    /// The window after an unclear call for this resource.
    pub(super) fn own_window(&self) -> Option<ConfirmWindow> {
        let length = self.observed.policy.confirm_window;
        ledger::unclear_window(self.attempts(), length, self.now)
    }

    /// The window in which no call may be made: after an unclear call for this resource, or any call for a peer.
    pub(super) fn window(&self) -> Option<ConfirmWindow> {
        let length = self.observed.policy.confirm_window;
        let peers = &self.observed.peers;
        let theirs = [&peers.attempts, &peers.unseen_attempts]
            .into_iter()
            .filter_map(|attempts| ledger::others_window(attempts, length, self.now));
        let departing = self
            .window_of(Operation::Deregister)
            .filter(|_| self.operation().registers());
        theirs
            .chain(self.own_window())
            .chain(departing)
            .max_by_key(|window| window.end)
    }
}

impl Changes {
    pub(super) fn any(self) -> bool {
        self.token || self.pin || self.others
    }
}

/// The wait before another read: as long as the answer asks, else a backoff by the number of reads in a row without a usable answer.
/// Reads spend nothing, so it stays short: any proxy can ask for a day.
pub(super) fn wait_after_read(reading: &ReadOutcome, in_a_row: i32, policy: &Policy) -> Duration {
    let in_a_row = u32::try_from(in_a_row).unwrap_or(u32::MAX);
    reading
        .retry_after
        .unwrap_or_else(|| policy.backoff.after(in_a_row))
        .min(READ_CAP)
}
