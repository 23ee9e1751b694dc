//! One operator process, in atomic steps: what `pass`, `attempt`, `record` and `memory` do around the core. Every
//! decision is made by the real `decide`, `apply_outcome`, `ahead` and ledger; each function here names what it mirrors.

use std::rc::Rc;
use std::time::Duration;

use super::graph::Effect;
use super::server::Refused;
use super::state::{Attempt, Look, Moment, NAMES, Outcome, Pass, Seconds, State, Step, Stored};
use super::{Checker, Mutant, time};
use operator_core::api::WhatsAppPhoneNumberStatus;
use operator_core::model::twins;
use operator_core::model::{ApplyContext, CallResult, apply_outcome};
use operator_core::model::{Claim, Decision, Observed, OpenClaim, Peers, Requeue, decide};
use testkit::world::TTL;

/// More steps than a pass may take: the bound in `pass`.
const STEPS_MAX: usize = 8;

/// The wait after a pass that failed: `FAILURE_BASE` in `controller`, in whole seconds.
const AFTER_FAILURE: Seconds = 1;

/// More claims than any history within the bounds needs.
const CLAIMS_MAX: u8 = 20;

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fate {
    Answered,
    /// It was done, and the answer was lost.
    Unheard,
    /// It was never done, and not answered.
    Dropped,
    /// It is not answered, and done later.
    Late,
}

impl Checker {
    /// `pass::make_one`, up to the read of the number.
    pub(super) fn look(&self, state: &mut State, who: usize, name: usize, look: Look) {
        let operator = &mut state.operators[who];
        let (second, cached) = match std::mem::take(&mut operator.step) {
            Step::Again(_, view) => (true, Some(view)),
            _ => {
                operator.pending[name] = false;
                operator.wakes[name] = None;
                (false, operator.cache[name].clone())
            }
        };
        let Some(cached) = cached else { return };
        let view = if operator.memory.is_stale(&cached) {
            match &state.server.objects[name] {
                Some(newest) => newest.clone(),
                None => return, // `is_gone`: the pass ends and waits for a change
            }
        } else {
            cached.clone()
        };
        if view.uid() != cached.uid() {
            // Made anew meanwhile: its watch brings it, and before it what became of the other one.
            return rest(state, who, name, None);
        }
        let now = state.now();
        let pass = Pass {
            name,
            second,
            peers: match self.is(Mutant::OthersForgotten) {
                true => Peers::default(),
                false => others(state, who, name, &view),
            },
            open_claim: match state.operators[who].memory.open_claim(&view, now) {
                OpenClaim::SeenFor(_) if self.is(Mutant::NoAge) => OpenClaim::SeenFor(TTL),
                known => known,
            },
            view,
            pin: None,
            reading: None,
        };
        self.go_on(state, who, pass, Some(look));
    }

    /// The loop of `pass::make_one`, from one thing that others can see to the next.
    pub(super) fn go_on(
        &self,
        state: &mut State,
        who: usize,
        mut pass: Pass,
        mut look: Option<Look>,
    ) {
        for _ in 0..STEPS_MAX {
            match self.decide(state, who, &pass) {
                Decision::LoadSecrets => pass.pin = Some(state.pin),
                Decision::Read => {
                    let Some(mut look) = look.take() else { break };
                    if self.is(Mutant::NoLook) {
                        look = Look::NotRegistered;
                    }
                    let (uid, now) = (pass.view.uid(), state.now());
                    state.operators[who].memory.reads.insert(uid, Moment(now));
                    pass.reading = Some((Moment(now), look));
                    if state.left.time_may_pass() {
                        state.operators[who].step = Step::Looked(pass);
                        return;
                    }
                }
                Decision::Register(claim) => return register(state, who, pass, *claim),
                Decision::Settle(status, wake) => return settle(state, who, &pass, *status, wake),
            }
        }
        state.broken = Some("a pass does not end".to_owned());
    }

    fn decide(&self, state: &State, who: usize, pass: &Pass) -> Decision {
        let memory = &state.operators[who].memory;
        let fresh_id = format!("claim-{}", state.claims);
        let observed = Observed {
            resource: pass.view.resource(),
            policy: &self.policy,
            peers: &pass.peers,
            open_claim: pass.open_claim,
            last_read: memory.reads.get(&pass.view.uid()).map(|at| time(at.0)),
            inputs: pass.pin.map(|right| Ok(self.digests(right).clone())),
            cool_down: None,
            reading: pass.reading.map(|(_, look)| self.reading(look).clone()),
            fresh_id: &fresh_id,
            jitter: 0.0,
        };
        decide(&observed, time(state.now()))
    }

    /// `Recorder::claim`, its write.
    pub(super) fn claim(&self, state: &mut State, who: usize, mut attempt: Attempt, fate: Fate) {
        attempt.started = state.moment();
        let (name, view) = (attempt.pass.name, attempt.pass.view.clone());
        let mut status = attempt.claim.status.clone();
        let mut view = view;
        if self.is(Mutant::NoFence) {
            view = state.server.objects[name].clone().unwrap_or(view);
        }
        if self.is(Mutant::RequestNotStored) {
            status.last_handled_register_request = attempt.claim.handled_before.clone();
        }
        match fate {
            Fate::Answered | Fate::Unheard => {
                let written = state.server.write(name, &view, status);
                if let Ok(held) = &written {
                    super::promises::wrote(state, name, &view, held);
                }
                match (written, fate) {
                    (Ok(held), Fate::Answered) => mine(state, who, attempt, held),
                    (Err(Refused::Conflict), Fate::Answered) => {
                        state.operators[who].step = Step::Doubting(attempt, true);
                    }
                    _ => state.operators[who].step = Step::Doubting(attempt, false),
                }
            }
            Fate::Dropped => state.operators[who].step = Step::Doubting(attempt, false),
            Fate::Late => {
                state.server.late = Some((name, view, super::state::Print(status)));
                state.operators[who].step = Step::Doubting(attempt, false);
            }
        }
    }

    /// `Recorder::claim`, where the write was not answered with success: my ID there means that I hold it.
    pub(super) fn read_back(
        &self,
        state: &mut State,
        who: usize,
        attempt: Attempt,
        conflict: bool,
        answered: bool,
    ) {
        let name = attempt.pass.name;
        let newest = state.server.objects[name].clone();
        let memory = &mut state.operators[who].memory;
        match newest {
            Some(newest) if answered && holds_claim(&newest, &attempt) => {
                mine(state, who, attempt, newest);
            }
            Some(newest)
                if answered
                    && conflict
                    && newest.uid() != attempt.uid()
                    && !self.is(Mutant::ActsOnRecreated) =>
            {
                memory.unsent.insert(attempt.id.clone());
                rest(state, who, name, None);
            }
            Some(newest) if answered && conflict => {
                memory.unsent.insert(attempt.id.clone());
                again(state, who, name, attempt.pass.second, Some(newest));
            }
            None if answered => {
                memory.unsent.insert(attempt.id.clone());
                again(state, who, name, attempt.pass.second, None);
                // Until its watch brings the deletion, the process claims in vain, as often as there is time for it:
                // once is enough here.
                super::memory::sync(state, who);
            }
            _ => {
                memory.unsent.insert(attempt.id.clone());
                rest(state, who, name, Some(state.now() + AFTER_FAILURE));
            }
        }
    }

    /// `Attempt::reason_not_to_send`.
    pub(super) fn check(&self, state: &mut State, who: usize, attempt: Attempt) {
        let known = state.operators[who].cache[1 - attempt.pass.name].is_some()
            && !self.is(Mutant::NoRivals);
        let cached = &state.operators[who].cache[1 - attempt.pass.name];
        if cached.is_none() && state.server.objects[1 - attempt.pass.name].is_some() {
            state.history.unseen.insert(attempt.uid());
        }
        let too_late =
            state.now() >= attempt.started.0 + seconds(TTL) / 2 && !self.is(Mutant::NoDeadline);
        let held = attempt.held.as_ref().map(Stored::resource);
        let registered = held
            .is_some_and(|held| twins::registered_meanwhile(held, attempt.entry()))
            && !self.is(Mutant::NotRegisteredMeanwhile);
        if registered || known && self.rival(state, &attempt) || too_late {
            self.called(state, who, attempt, Outcome::NotSent);
        } else {
            let now = state.moment();
            state.operators[who].step = Step::Checked(attempt, now);
        }
    }

    /// `Attempt::rival`.
    fn rival(&self, state: &State, attempt: &Attempt) -> bool {
        let (now, window) = (time(state.now()), self.policy.confirm_window);
        let Some(held) = &attempt.held else {
            return true;
        };
        let others = state.server.objects.iter().flatten();
        let mut others = others.filter(|other| other.uid() != held.uid());
        others.any(|other| twins::blocks_call(held.resource(), other.resource(), window, now))
    }

    /// The one call, if it arrives.
    pub(super) fn send(
        &self,
        state: &mut State,
        who: usize,
        attempt: Attempt,
        checked: Moment,
        effect: Effect,
    ) {
        let outcome = self.arrive(state, &attempt, checked, effect);
        self.called(state, who, attempt, outcome);
    }

    /// `Attempt::record`, before its first write.
    fn called(&self, state: &mut State, who: usize, attempt: Attempt, outcome: Outcome) {
        // `Attempt::remember`
        let applied = self.apply_outcome(
            state,
            attempt.claim.status.clone(),
            &attempt,
            outcome,
            Some(0),
        );
        let now = time(state.now());
        let memory = &mut state.operators[who].memory;
        memory.remember(&applied.attempts[..1], now);
        let held = attempt.held.clone();
        state.operators[who].step = Step::Recording(attempt, outcome, held);
    }

    /// `Recorder::record_once`, and what follows in `Attempt::record`.
    pub(super) fn record(
        &self,
        state: &mut State,
        who: usize,
        attempt: Attempt,
        outcome: Outcome,
        known: Option<Stored>,
        heard: bool,
    ) {
        let (name, second) = (attempt.pass.name, attempt.pass.second);
        let newest = || state.server.objects[name].clone();
        let before = known.or_else(newest);
        let Some(before) = before.filter(|before| before.uid() == attempt.uid()) else {
            return again(state, who, name, second, None);
        };
        let status = match self.is(Mutant::Overwrites) {
            true => attempt.claim.status.clone(),
            false => before.status().clone(),
        };
        let applied = self.apply_outcome(state, status, &attempt, outcome, None);
        if applied == *before.status() {
            state.operators[who].memory.wrote(&before);
            return again(state, who, name, second, Some(before));
        }
        let written = state.server.write(name, &before, applied);
        if let Ok(after) = &written {
            super::promises::wrote(state, name, &before, after);
        }
        match written {
            Ok(after) if heard => {
                state.operators[who].memory.wrote(&after);
                again(state, who, name, second, Some(after));
            }
            _ => state.operators[who].step = Step::Recording(attempt, outcome, None),
        }
    }

    fn apply_outcome(
        &self,
        state: &State,
        status: WhatsAppPhoneNumberStatus,
        attempt: &Attempt,
        outcome: Outcome,
        generation: Option<i64>,
    ) -> WhatsAppPhoneNumberStatus {
        let result = CallResult {
            id: &attempt.id,
            outcome: self.outcome(outcome),
            handled_before: attempt.claim.handled_before.as_deref(),
        };
        let course = ApplyContext {
            policy: &self.policy,
            generation: generation.unwrap_or_else(|| status.observed_generation.max(0)),
            jitter: 0.0,
            now: time(state.now()),
        };
        apply_outcome(status, &result, &course)
    }
}

/// `pass::others`.
fn others(state: &State, who: usize, name: usize, view: &Stored) -> Peers {
    let operator = &state.operators[who];
    let other = operator.cache[1 - name].as_ref();
    let owner = twins::owner(view.resource(), other.map(Stored::resource));
    let mut all = operator.memory.attempts.0.clone();
    for attempt in other.map(Stored::attempts).unwrap_or_default() {
        all.retain(|known| known.id != attempt.id);
        all.push(attempt.clone());
    }
    let own = view.resource().attempts();
    all.retain(|attempt| own.iter().all(|own| own.id != attempt.id));
    Peers {
        owner: owner.map(|_| format!("shop/{}", NAMES[1 - name])),
        attempts: all,
    }
}

/// `Pass::register`, up to the claim's write.
fn register(state: &mut State, who: usize, pass: Pass, claim: Claim) {
    let attempt = Attempt {
        pass,
        id: format!("claim-{}", state.claims),
        claim: Rc::new(claim),
        started: state.moment(),
        held: None,
    };
    state.claims += 1;
    let few = state.claims < CLAIMS_MAX;
    state.promise(few, || "I5: claims without end".to_owned());
    state.operators[who].step = Step::Claiming(attempt);
}

/// `Attempt::write_claim`, where the claim is held.
fn mine(state: &mut State, who: usize, mut attempt: Attempt, held: Stored) {
    let now = time(state.now());
    let memory = &mut state.operators[who].memory;
    memory.wrote(&held);
    memory.remember(std::slice::from_ref(attempt.entry()), now);
    attempt.held = Some(held);
    state.operators[who].step = Step::Held(attempt);
}

/// `ledger::holds_claim`.
fn holds_claim(newest: &Stored, attempt: &Attempt) -> bool {
    let mut attempts = newest.attempts().iter();
    newest.uid() == attempt.uid() && attempts.any(|a| a.id == attempt.id && a.is_open())
}

/// `Pass::settle`.
fn settle(
    state: &mut State,
    who: usize,
    pass: &Pass,
    status: WhatsAppPhoneNumberStatus,
    wake: Requeue,
) {
    let name = pass.name;
    if *pass.view.status() != status {
        match state.server.write(name, &pass.view, status) {
            Ok(after) => {
                super::promises::wrote(state, name, &pass.view, &after);
                state.operators[who].memory.wrote(&after);
            }
            Err(Refused::Conflict) => {
                return rest(state, who, name, Some(state.now() + AFTER_FAILURE));
            }
            Err(Refused::NotFound) => return rest(state, who, name, None),
        }
    }
    let wake = match wake {
        Requeue::OnChange => None,
        Requeue::After(wait) => Some(state.now() + seconds(wait)),
    };
    rest(state, who, name, wake);
}

/// What `pass::make` does after `Ended::Attempted`.
fn again(state: &mut State, who: usize, name: usize, second: bool, after: Option<Stored>) {
    match after {
        Some(after) if !second => state.operators[who].step = Step::Again(name, after),
        _ => rest(state, who, name, Some(state.now())),
    }
}

/// The pass is over.
fn rest(state: &mut State, who: usize, name: usize, wake: Option<Seconds>) {
    state.operators[who].step = Step::Idle;
    state.operators[who].wakes[name] = wake.map(Moment);
}

/// Never earlier.
fn seconds(wait: Duration) -> Seconds {
    let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Seconds::try_from(whole).expect("less than 73 hours")
}
