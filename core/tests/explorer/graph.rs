//! Graph: the number's true state, what reads show of it, and what becomes of calls.

use super::Checker;
use super::state::{Called, Look, Moment, Outcome, Run, Seconds, State};
use operator_core::api::Operation;
use testkit::world::{TTL, WINDOW};

/// How long a read may show what was: spec/graph-facts.md.
pub(super) const LAG: Seconds = 90;

/// What a call does, and what its process learns of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// The number is registered, or taken off.
    Acts(Outcome),
    Nothing(Outcome),
}

/// What a call may come to. The first is what Graph should do.
pub(super) fn effects(state: &State, run: &Run, faults: bool) -> Vec<Effect> {
    use Effect::{Acts, Nothing};
    use Outcome::{Fault, NoAnswer, PinMismatch, Refused, Rejected, Success, Unreachable};
    let acting = [Acts(Success), Acts(NoAnswer), Acts(Fault), Nothing(Fault)];
    let registered = state.graph.since.is_some();
    let mut effects = match (run.operation(), run.pin == Some(true), registered) {
        (Operation::Register, true, _) => {
            [&acting[..], &[Nothing(Rejected), Nothing(Unreachable)]].concat()
        }
        (Operation::Register, false, _) => vec![Nothing(PinMismatch)],
        (Operation::Deregister, _, true) => {
            [&acting[..], &[Nothing(Refused), Nothing(Unreachable)]].concat()
        }
        (Operation::Deregister, _, false) => vec![Nothing(Refused)],
    };
    effects.push(Nothing(NoAnswer));
    effects.truncate(if faults { effects.len() } else { 1 });
    effects
}

/// What a read may show: the first is the truth.
pub(super) fn looks(state: &State, name: usize) -> Vec<Look> {
    if state.barred[name] {
        return vec![Look::Refused];
    }
    let faults = state.left.has(state.left.reads);
    let lies = state.left.has(state.left.lies) && truth(state) == Look::Registered;
    let mut looks = vec![truth(state)];
    if faults && lags(state) {
        looks.push(before(state));
    } else if lies {
        looks.push(Look::NotRegistered);
    }
    looks.extend(faults.then_some(Look::Failed));
    looks
}

/// Whether a read that shows this is neither the truth nor late.
pub(super) fn is_lie(state: &State, look: Look) -> bool {
    let shows = matches!(look, Look::Registered | Look::NotRegistered);
    shows && look != truth(state) && !lags(state)
}

fn truth(state: &State) -> Look {
    match state.graph.since {
        Some(_) => Look::Registered,
        None => Look::NotRegistered,
    }
}

/// What was true before the last change.
fn before(state: &State) -> Look {
    match state.graph.since {
        Some(_) => Look::NotRegistered,
        None => Look::Registered,
    }
}

/// Whether a read may still show what was.
fn lags(state: &State) -> bool {
    let changed = state.graph.since.or(state.graph.gone);
    changed.is_some_and(|changed| state.now() < changed.0 + LAG)
}

impl Checker {
    /// A call comes to an end; if it was sent, it reaches Graph now.
    pub(super) fn arrive(
        &self,
        state: &mut State,
        run: &Run,
        checked: Moment,
        effect: Effect,
    ) -> Outcome {
        let (Effect::Acts(outcome) | Effect::Nothing(outcome)) = effect;
        if outcome == Outcome::Unreachable {
            return outcome; // Nothing was sent.
        }
        // The limit of the protocol's "The claim", 4, and the only one: half of the claim's time is left at the check, and whoever finds
        // the claim waits for all of it and then for the window.
        let pause = u64::from(state.now() - checked.0);
        let known_by = (TTL / 2 + WINDOW).as_secs();
        let late = pause > known_by;
        self.called_promises(state, run, late);
        state.history.calls.push(Called {
            id: run.entry().id.clone(),
            registers: run.operation().registers(),
            name: run.name,
            uid: run.uid(),
            at: state.moment(),
            outcome,
            request: run.entry().request.clone(),
            late,
            shows_late: pause + u64::from(LAG) > known_by,
            outlived: pause > (TTL / 2).as_secs(),
        });
        if matches!(effect, Effect::Acts(_)) {
            state.change(run.operation(), Some(&run.entry().id));
        }
        outcome
    }
}

impl State {
    /// The number is registered or taken off, where it is not so already, by the call of this claim or by somebody else.
    pub(super) fn change(&mut self, operation: Operation, by: Option<&String>) {
        let now = self.moment();
        let graph = &mut self.graph;
        if operation.registers() == graph.since.is_some() {
            return;
        }
        (graph.since, graph.gone) = match operation {
            Operation::Register => (Some(now), None),
            Operation::Deregister => (None, Some(now)),
        };
        graph.by = by.cloned();
    }
}
