//! I5: from every state, when all faults stop, the resources settle.

use super::Checker;
use super::environment::{Action, next_wake, sound_step};
use super::search::Model;
use super::state::{Budget, NAMES, State, Stored};
use operator_core::api::Reason;
use operator_core::api::conditions;
use operator_core::api::conditions::{is_registered, is_true, reason_of};

/// More steps than any state needs.
const STEPS_MAX: usize = 600;

impl Checker {
    /// Why the resources do not settle from here, or which promise is broken on the way.
    pub(super) fn unsettled(&self, state: &State) -> Option<String> {
        let mut state = state.clone();
        state.left = Budget::default();
        let mut passed = Vec::new();
        for step in 0..STEPS_MAX {
            let known = self.fingerprint(&state);
            if self.settled.borrow().contains(&known) {
                self.settled.borrow_mut().extend(passed);
                return None;
            }
            passed.push(known);
            let went_on = self.fair_step(&mut state);
            if let Some(promise) = &state.broken {
                return Some(format!("{promise}, {step} steps after the faults stopped"));
            }
            if !went_on {
                let left = self.not_at_rest(&state);
                if left.is_none() {
                    self.settled.borrow_mut().extend(passed);
                }
                return left.map(|left| format!("I5: {left}, for ever: {}", self.shown(&state)));
            }
        }
        Some(format!(
            "I5: no end in {STEPS_MAX} steps: {}",
            self.shown(&state)
        ))
    }

    /// Everything that is due happens, operator by operator; then time passes until the next one wakes. False where
    /// nothing is left to happen.
    fn fair_step(&self, state: &mut State) -> bool {
        self.apply(state, Action::Land);
        if let Some((run, _)) = &state.graph.flying {
            let effects = super::graph::effects(state, run, false);
            self.apply(state, Action::Arrive(effects[0]));
        }
        for who in 0..state.operators.len() {
            self.apply(state, Action::Sync(who));
        }
        for who in 0..state.operators.len() {
            if let Some(action) = sound_step(state, who) {
                self.apply(state, action);
                return true;
            }
        }
        if self.not_at_rest(state).is_none() {
            return false; // Duplicates look again for ever.
        }
        let Some(wake) = next_wake(state) else {
            return false;
        };
        state.clock.0 = wake;
        true
    }

    /// Registered, or stalled for a reason that stands, or gone.
    pub(super) fn not_at_rest(&self, state: &State) -> Option<String> {
        let digest = &self.digests(state.pin).pin;
        let mut waits = None;
        let mut holds_up = false;
        for (place, stored) in state.server.objects.iter().enumerate() {
            let Some(stored) = stored else { continue };
            let (status, name) = (stored.status(), NAMES[place]);
            let reason = reason_of(status, conditions::STALLED);
            let stalled = is_true(status, conditions::STALLED);
            let (suspended, leaves) = (stored.resource().spec.suspend, stored.leaves());
            let duplicate = reason == Some(Reason::DuplicatePhoneNumber);
            holds_up |=
                !(duplicate || suspended || leaves || reason == Some(Reason::TokenRejected));
            if status.attempts.iter().any(|a| a.is_open()) {
                return Some(format!("{name} has an open claim"));
            }
            let ready = reason_of(status, conditions::READY);
            let held = suspended && ready == Some(Reason::Suspended);
            if leaves && stored.resource().has_finalizer() {
                return Some(format!("{name} is being deleted and does not go"));
            }
            if let Some(why) = self.not_found_yet(state, place, stored).filter(|_| !leaves) {
                return Some(format!("{name} {why}"));
            }
            let lost = stalled && status.loss.is_some();
            if is_registered(status) || lost || leaves || held {
                continue;
            }
            if !stalled {
                return Some(format!("{name} is neither registered nor stalled"));
            }
            if duplicate {
                waits = Some(name);
            } else if reason == Some(Reason::TokenRejected) {
                if !state.barred[place] {
                    return Some(format!("{name} is stalled for a token that is accepted"));
                }
            } else if status.pin_digest.as_ref() != Some(digest) {
                return Some(format!("{name} is stalled although its PIN was changed"));
            }
        }
        // Protocol, "Several resources of one number": who cannot call holds nobody up.
        let waits = waits.filter(|_| !holds_up);
        waits.map(|name| format!("{name} gives way, and no other can call"))
    }
}

impl Checker {
    /// Why an observation has to follow: what the status says of a number that was registered is not so, or it is not sure.
    fn not_found_yet(&self, state: &State, place: usize, stored: &Stored) -> Option<&'static str> {
        let (status, resource) = (stored.status(), stored.resource());
        if !self.bounds.wishes.observe || resource.spec.suspend || state.barred[place] {
            return None;
        }
        let registered = state.graph.since.is_some();
        if status.loss_suspected_time.is_some() {
            Some("may be lost")
        } else if is_registered(status) && !registered {
            Some("is lost, and nobody finds it")
        } else if status.loss.is_some() && registered {
            Some("is registered again, and nobody finds it")
        } else {
            None
        }
    }
}
