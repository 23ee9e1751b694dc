//! What can happen in a state, and what comes of it.

use super::Checker;
use super::graph::{Effect, effects, is_lie, looks};
use super::memory::{bring, sync};
use super::operator::Fate;
use super::server::{ask, bump, release, suspend, terminate};
use super::state::{Budget, Look, NAMES, Operator, Seconds, State, Step, Stored};
use operator_core::api::Operation;
use operator_core::model::schedule::META_WINDOW;
use testkit::world::{TTL, WINDOW};

/// The longest step of time.
const LONG: Seconds = META_WINDOW.as_secs() as Seconds;

/// The numbers are the operator's and the resource's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    // An operator's next step.
    Look(usize, usize, Look),
    Decide(usize),
    Finalize(usize, Fate),
    List(usize, bool),
    Claim(usize, Fate),
    ReadBack(usize, bool),
    Check(usize),
    Call(usize, Effect),
    Record(usize, bool),
    // The API server.
    Sync(usize),
    Replay(usize, usize),
    Land,
    // What goes wrong.
    Crash(usize),
    /// The process ends and its call is still under way.
    CrashInFlight(usize),
    Arrive(Effect),
    Elapse(Seconds),
    /// Nothing is to do until somebody wakes.
    Requeue,
    // People.
    Edit(usize),
    Request(usize),
    ChangePin,
    Delete(usize),
    Terminate(usize),
    Create(usize),
    Suspend(usize),
    Bar(usize),
    Release(usize),
    RegisterElsewhere,
    Lose,
}

impl Checker {
    pub(super) fn all_actions(&self, state: &State) -> Vec<Action> {
        let mut all = Vec::new();
        for who in 0..state.operators.len() {
            if state.left.switches > 0 || !interrupts(state, who) {
                operator_actions(state, who, &mut all);
            }
        }
        if state.server.late.is_some() {
            all.push(Action::Land);
        }
        if let Some((run, _)) = &state.graph.flying {
            let effects = effects(state, run, false);
            all.extend(effects.into_iter().map(Action::Arrive));
        }
        let rests = self.not_at_rest(state).is_none();
        time_actions(state, rests, &mut all);
        people_actions(state, &mut all);
        all
    }

    pub(super) fn apply(&self, state: &mut State, action: Action) {
        if let Some(who) = action.operator() {
            let interrupts = interrupts(state, who);
            state.left.switches = state.left.switches.saturating_sub(u8::from(interrupts));
            state.last = who;
        }
        match action {
            Action::Look(who, name, look) => {
                let truth = looks(state, name)[0];
                let due = is_due(&state.operators[who], name, state.now());
                let lie = u8::from(is_lie(state, look));
                let fault = u8::from(look != truth) - lie;
                state.history.lies += lie;
                spend(&mut state.left, |left| &mut left.lies, lie);
                spend(&mut state.left, |left| &mut left.reads, fault);
                spend(&mut state.left, |left| &mut left.passes, u8::from(!due));
                self.look(state, who, name, look);
            }
            Action::Elapse(time) => {
                let long = time == LONG;
                state.left.ticks -= u8::from(!long);
                state.left.long_ticks -= u8::from(long);
                state.clock.0 += time;
            }
            Action::Requeue => {
                let rests = self.not_at_rest(state).is_none();
                state.left.observations -= u8::from(rests);
                // A watch that lags for as long as nobody does anything only has the same pass refused again and again.
                (0..state.operators.len()).for_each(|who| sync(state, who));
                state.clock.0 = next_wake(state).unwrap_or(state.now());
            }
            Action::Sync(who) => sync(state, who),
            Action::Replay(who, name) => {
                spend(&mut state.left, |left| &mut left.replays, 1);
                if let Some(before) = state.server.before[name].clone() {
                    bring(state, who, name, before);
                }
            }
            Action::Land => {
                let before = state.server.late.clone().map(|(_, before, _)| before);
                if let (Some((name, after)), Some(before)) = (state.server.land(), before) {
                    super::promises::wrote(state, name, &before, &after);
                }
            }
            Action::Arrive(effect) => {
                if let Some((run, checked)) = state.graph.flying.take() {
                    self.arrive(state, &run, checked, effect);
                }
            }
            Action::Crash(who) => crash(state, who),
            Action::CrashInFlight(who) => {
                if let Step::Checked(run, checked) = &state.operators[who].step {
                    state.graph.flying = Some((run.clone(), *checked));
                }
                crash(state, who);
            }
            Action::RegisterElsewhere => {
                spend(&mut state.left, |left| &mut left.elsewhere, 1);
                state.change(Operation::Register, None);
            }
            Action::Lose => {
                spend(&mut state.left, |left| &mut left.losses, 1);
                state.change(Operation::Deregister, None);
            }
            _ if self.by_people(state, action) => {}
            _ => self.step(state, action),
        }
    }

    /// An operator's step from where it stands.
    fn step(&self, state: &mut State, action: Action) {
        match action {
            Action::Decide(who) => {
                if let Step::Looked(run) = take(state, who) {
                    self.hear(state, who, run);
                }
            }
            Action::Finalize(who, fate) => {
                let fault = u8::from(fate != Fate::Answered);
                spend(&mut state.left, |left| &mut left.lost, fault);
                if let Step::Finalizing(run) = take(state, who) {
                    self.finalize(state, who, run, fate);
                }
            }
            Action::List(who, answered) => {
                spend(&mut state.left, |left| &mut left.lost, u8::from(!answered));
                if let Step::Listing(run) = take(state, who) {
                    self.list(state, who, run, answered);
                }
            }
            Action::Claim(who, fate) => {
                spend(
                    &mut state.left,
                    |left| &mut left.lost,
                    u8::from(fate != Fate::Answered),
                );
                if let Step::Claiming(run) = take(state, who) {
                    self.claim(state, who, run, fate);
                }
            }
            Action::ReadBack(who, answered) => {
                spend(&mut state.left, |left| &mut left.lost, u8::from(!answered));
                if let Step::Doubting(run) = take(state, who) {
                    self.read_back(state, who, run, answered);
                }
            }
            Action::Check(who) => {
                if let Step::Held(run) = take(state, who) {
                    self.hear(state, who, run);
                }
            }
            Action::Call(who, effect) => {
                if let Step::Checked(run, checked) = take(state, who) {
                    let sound = effects(state, &run, false)[0];
                    let fault = u8::from(effect != sound);
                    spend(&mut state.left, |left| &mut left.calls, fault);
                    self.send(state, who, run, checked, effect);
                }
            }
            Action::Record(who, heard) => {
                spend(&mut state.left, |left| &mut left.lost, u8::from(!heard));
                if let Step::Recording(run) = take(state, who) {
                    self.record(state, who, run, heard);
                }
            }
            _ => {}
        }
    }
}

impl Action {
    /// Whose step it is.
    fn operator(self) -> Option<usize> {
        match self {
            Self::Look(who, ..)
            | Self::Decide(who)
            | Self::Finalize(who, _)
            | Self::List(who, _)
            | Self::Claim(who, _)
            | Self::ReadBack(who, _)
            | Self::Check(who)
            | Self::Call(who, _)
            | Self::Record(who, _) => Some(who),
            _ => None,
        }
    }
}

/// Whether another operator is in the middle of a pass.
fn interrupts(state: &State, who: usize) -> bool {
    let resting = matches!(state.operators[state.last].step, Step::Idle);
    state.last != who && !resting
}

/// Something of this kind happens so many times.
fn spend(left: &mut Budget, kind: impl FnOnce(&mut Budget) -> &mut u8, times: u8) {
    left.faults = left.faults.saturating_sub(times);
    let kind = kind(left);
    *kind = kind.saturating_sub(times);
}

/// Whether an event or the clock asks for a pass.
fn is_due(operator: &Operator, name: usize, now: Seconds) -> bool {
    let woken = operator.wakes[name].is_some_and(|wake| wake.0 <= now);
    matches!(operator.step, Step::Again(..)) || operator.pending[name] || woken
}

/// Whether the watch has something to bring.
fn lags(state: &State, who: usize) -> bool {
    let operator = &state.operators[who];
    let version = |stored: &Option<Stored>| stored.as_ref().map(|s| (s.uid(), s.version()));
    let cached = operator.cache.each_ref().map(version);
    cached != state.server.objects.each_ref().map(version)
        || operator.noticed < state.server.gone.len()
}

fn take(state: &mut State, who: usize) -> Step {
    std::mem::take(&mut state.operators[who].step)
}

impl Checker {
    /// What people do; false where the action is something else.
    fn by_people(&self, state: &mut State, action: Action) -> bool {
        match action {
            Action::Edit(name) => {
                spend(&mut state.left, |left| &mut left.edits, 1);
                state.server.edit(name, bump);
            }
            Action::Request(name) => {
                spend(&mut state.left, |left| &mut left.requests, 1);
                state.asked += 1;
                let value = state.asked;
                state.server.edit(name, |resource| ask(resource, value));
            }
            Action::ChangePin => {
                spend(&mut state.left, |left| &mut left.pins, 1);
                state.pin = !state.pin;
                for operator in &mut state.operators {
                    let cached = operator.cache.each_ref().map(Option::is_some);
                    operator.pending = cached;
                }
            }
            Action::Delete(name) => {
                spend(&mut state.left, |left| &mut left.deletions, 1);
                state.server.delete(name, state.now());
            }
            Action::Terminate(name) => {
                spend(&mut state.left, |left| &mut left.terminations, 1);
                let now = state.now();
                state.server.edit(name, |resource| terminate(resource, now));
            }
            Action::Suspend(name) => {
                spend(&mut state.left, |left| &mut left.suspensions, 1);
                state.server.edit(name, suspend);
            }
            Action::Release(name) => {
                spend(&mut state.left, |left| &mut left.releases, 1);
                state.server.edit(name, release);
            }
            Action::Bar(name) => {
                spend(&mut state.left, |left| &mut left.bars, 1);
                state.barred[name] = true;
            }
            Action::Create(name) => {
                spend(&mut state.left, |left| &mut left.creations, 1);
                state.server.create(name, self.bounds.wishes, state.now());
            }
            _ => return false,
        }
        true
    }
}

/// The process ends and starts again: it has forgotten everything, and lists what there is.
fn crash(state: &mut State, who: usize) {
    spend(&mut state.left, |left| &mut left.crashes, 1);
    let uids = state.server.gone.iter().map(|(_, last)| last.uid());
    state.history.forgotten.extend(uids);
    state.operators[who] = Operator {
        noticed: state.server.gone.len(),
        ..Operator::default()
    };
    sync(state, who);
}

fn operator_actions(state: &State, who: usize, all: &mut Vec<Action>) {
    let operator = &state.operators[who];
    let lossy = state.left.has(state.left.lost);
    match &operator.step {
        Step::Idle => {
            for name in 0..NAMES.len() {
                let due = is_due(operator, name, state.now());
                if operator.cache[name].is_some() && (due || state.left.has(state.left.passes)) {
                    let looks = looks(state, name).into_iter();
                    all.extend(looks.map(|look| Action::Look(who, name, look)));
                }
                let replayed =
                    state.server.before[name].is_some() && state.left.has(state.left.replays);
                all.extend(replayed.then_some(Action::Replay(who, name)));
            }
        }
        Step::Again(run) => {
            let looks = looks(state, run.name).into_iter();
            all.extend(looks.map(|look| Action::Look(who, run.name, look)));
        }
        Step::Looked(_) => all.push(Action::Decide(who)),
        Step::Finalizing(_) => {
            all.push(Action::Finalize(who, Fate::Answered));
            if lossy {
                let fates = [Fate::Unheard, Fate::Dropped];
                all.extend(fates.map(|fate| Action::Finalize(who, fate)));
            }
        }
        Step::Listing(_) => {
            all.push(Action::List(who, true));
            all.extend(lossy.then_some(Action::List(who, false)));
        }
        Step::Claiming(_) => {
            all.push(Action::Claim(who, Fate::Answered));
            if lossy {
                let fates = [Fate::Unheard, Fate::Dropped, Fate::Late];
                all.extend(fates.map(|fate| Action::Claim(who, fate)));
            }
        }
        Step::Doubting(..) => {
            all.push(Action::ReadBack(who, true));
            all.extend(lossy.then_some(Action::ReadBack(who, false)));
        }
        Step::Held(_) => all.push(Action::Check(who)),
        Step::Checked(run, _) => {
            let effects = effects(state, run, state.left.has(state.left.calls));
            all.extend(effects.into_iter().map(|effect| Action::Call(who, effect)));
            if state.left.has(state.left.crashes) && state.graph.flying.is_none() {
                all.push(Action::CrashInFlight(who));
            }
        }
        Step::Recording(..) => {
            all.push(Action::Record(who, true));
            all.extend(lossy.then_some(Action::Record(who, false)));
        }
    }
    // What its watch brings between two other steps, a process does not look at.
    let looks = matches!(operator.step, Step::Idle | Step::Held(_));
    all.extend((looks && lags(state, who)).then_some(Action::Sync(who)));
    all.extend((state.left.has(state.left.crashes)).then_some(Action::Crash(who)));
}

/// Half a claim's time, all of it, the confirm window, 72 hours; and where nothing is to do, until somebody wakes.
fn time_actions(state: &State, rests: bool, all: &mut Vec<Action>) {
    let times = [TTL / 2, TTL, WINDOW].map(|time| time.as_secs() as Seconds);
    let short = times.into_iter().filter(|_| state.left.ticks > 0);
    all.extend(short.map(Action::Elapse));
    all.extend((state.left.long_ticks > 0).then_some(Action::Elapse(LONG)));
    let mut steps = (0..state.operators.len()).filter_map(|who| sound_step(state, who));
    let passes = !rests || state.left.observations > 0;
    if steps.next().is_none() && next_wake(state).is_some() && passes {
        all.push(Action::Requeue);
    }
}

/// When the next operator wakes that does not do so now.
pub(super) fn next_wake(state: &State) -> Option<Seconds> {
    let wakes = state.operators.iter().flat_map(|operator| operator.wakes);
    wakes
        .flatten()
        .map(|wake| wake.0)
        .filter(|wake| *wake > state.now())
        .min()
}

fn people_actions(state: &State, all: &mut Vec<Action>) {
    let left = &state.left;
    for name in 0..NAMES.len() {
        if let Some(stored) = &state.server.objects[name] {
            let leaves = stored.leaves();
            all.extend((left.has(left.suspensions)).then_some(Action::Suspend(name)));
            let stays = left.has(left.terminations) && !leaves;
            all.extend(stays.then_some(Action::Terminate(name)));
            all.extend((left.has(left.edits)).then_some(Action::Edit(name)));
            all.extend((left.has(left.requests)).then_some(Action::Request(name)));
            let waits = leaves && stored.resource().has_finalizer();
            let goes = left.has(left.deletions) && !waits;
            all.extend(goes.then_some(Action::Delete(name)));
            all.extend((left.has(left.releases)).then_some(Action::Release(name)));
        } else {
            all.extend((left.has(left.creations)).then_some(Action::Create(name)));
        }
    }
    for name in (0..NAMES.len()).filter(|name| !state.barred[*name]) {
        all.extend((left.has(left.bars)).then_some(Action::Bar(name)));
    }
    all.extend((left.has(left.pins)).then_some(Action::ChangePin));
    let elsewhere = left.has(left.elsewhere) && state.graph.since.is_none();
    all.extend(elsewhere.then_some(Action::RegisterElsewhere));
    let lost = left.has(left.losses) && state.graph.since.is_some();
    all.extend(lost.then_some(Action::Lose));
}

/// The step that an operator takes when nothing goes wrong, where one is due.
pub(super) fn sound_step(state: &State, who: usize) -> Option<Action> {
    let operator = &state.operators[who];
    let due =
        |name: &usize| operator.cache[*name].is_some() && is_due(operator, *name, state.now());
    Some(match &operator.step {
        Step::Idle => {
            let name = (0..NAMES.len()).find(due)?;
            Action::Look(who, name, looks(state, name)[0])
        }
        Step::Again(run) => Action::Look(who, run.name, looks(state, run.name)[0]),
        Step::Looked(_) => Action::Decide(who),
        Step::Finalizing(_) => Action::Finalize(who, Fate::Answered),
        Step::Listing(_) => Action::List(who, true),
        Step::Claiming(_) => Action::Claim(who, Fate::Answered),
        Step::Doubting(..) => Action::ReadBack(who, true),
        Step::Held(_) => Action::Check(who),
        Step::Checked(run, _) => Action::Call(who, effects(state, run, false)[0]),
        Step::Recording(..) => Action::Record(who, true),
    })
}
