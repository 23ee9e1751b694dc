//! Graph: the number's true state, what reads show of it, and what becomes of register calls.

use super::Checker;
use super::state::{Called, Look, Moment, Outcome, Run, Seconds, State};
use testkit::world::{TTL, WINDOW};

/// How long a read may show what was: spec/graph-facts.md.
pub(super) const LAG: Seconds = 90;

/// What a register call does, and what its process learns of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// The number is registered.
    Acts(Outcome),
    Nothing(Outcome),
}

impl Effect {
    /// Whether Graph does here what it should.
    pub(super) fn is_sound(self) -> bool {
        matches!(
            self,
            Self::Acts(Outcome::Success) | Self::Nothing(Outcome::PinMismatch)
        )
    }
}

/// What a register call with this PIN may come to.
pub(super) fn effects(right_pin: bool, faults: bool) -> Vec<Effect> {
    let (sound, mut faulty) = if right_pin {
        let faulty = vec![
            Effect::Acts(Outcome::NoAnswer),
            Effect::Acts(Outcome::Fault),
            Effect::Nothing(Outcome::Fault),
            Effect::Nothing(Outcome::Rejected),
            Effect::Nothing(Outcome::Unreachable),
        ];
        (Effect::Acts(Outcome::Success), faulty)
    } else {
        (Effect::Nothing(Outcome::PinMismatch), Vec::new())
    };
    faulty.push(Effect::Nothing(Outcome::NoAnswer));
    faulty.truncate(if faults { faulty.len() } else { 0 });
    faulty.insert(0, sound);
    faulty
}

/// What a read may show: the first is the truth.
pub(super) fn looks(state: &State, name: usize) -> Vec<Look> {
    if state.barred[name] {
        return vec![Look::Refused];
    }
    let faults = state.left.has(state.left.reads);
    let (truth, lags) = match state.graph.since {
        None => (Look::NotRegistered, false),
        Some(since) => (Look::Registered, state.now() < since.0 + LAG),
    };
    let mut looks = vec![truth];
    looks.extend((faults && lags).then_some(Look::NotRegistered));
    looks.extend(faults.then_some(Look::Failed));
    looks
}

impl Checker {
    /// A register call comes to an end; if it was sent, it reaches Graph now.
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
            uid: run.uid(),
            at: state.moment(),
            outcome,
            request: run.entry().request.clone(),
            late,
            shows_late: pause + u64::from(LAG) > known_by,
        });
        if matches!(effect, Effect::Acts(_)) && state.graph.since.is_none() {
            state.graph.since = Some(state.moment());
            state.graph.by = Some(run.entry().id.clone());
        }
        outcome
    }
}
