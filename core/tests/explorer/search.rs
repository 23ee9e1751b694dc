//! Breadth-first exploration of every reachable state, with the shortest way to the first broken promise.
//!
//! Not a library: stateright 0.31, the one that is kept up, cannot be had without its HTTP server (`tiny_http`), brings 15
//! more crates, and says itself that its `eventually` misses counterexamples where paths meet or go round, which is what
//! liveness is about here. This is all that is needed of it.
//!
//! A state is known by 64 bits of hash, as in TLC and stateright: two of a million states fall together with a
//! probability of 1 in 30 million.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::{self, Debug};
use std::time::{Duration, Instant};

/// What is explored.
pub(super) trait Model {
    type State: Clone;
    type Action: Copy + Debug;

    fn beginnings(&self) -> Vec<Self::State>;
    fn actions(&self, state: &Self::State) -> Vec<Self::Action>;
    fn next(&self, state: &Self::State, action: Self::Action) -> Self::State;
    /// What makes two states the same.
    fn fingerprint(&self, state: &Self::State) -> u64;
    /// Which promise is broken in this state, or on the way that it goes on from here when all faults stop.
    fn broken(&self, state: &Self::State) -> Option<String>;
    /// One line for people.
    fn shown(&self, state: &Self::State) -> String;
}

/// How much was explored.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) states: usize,
    pub(super) transitions: usize,
    pub(super) depth: usize,
    pub(super) time: Duration,
    /// Whether every reachable state was seen.
    pub(super) complete: bool,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            states,
            transitions,
            depth,
            time,
            complete,
        } = self;
        let how = if *complete { "all" } else { "the first" };
        write!(
            f,
            "{how} {states} states, {transitions} transitions, depth {depth}, {:.1} s",
            time.as_secs_f64()
        )
    }
}

/// How a state was first reached: from which one, by what.
type Ways<A> = HashMap<u64, Option<(u64, A)>>;

/// Explores until every state was seen, or so many.
///
/// # Errors
/// The shortest way to a broken promise, for people.
pub(super) fn explore<M: Model>(model: &M, most: usize) -> Result<Figures, String> {
    let began = Instant::now();
    let mut ways: Ways<M::Action> = HashMap::new();
    let mut level = Vec::new();
    for state in model.beginnings() {
        if let Entry::Vacant(way) = ways.entry(model.fingerprint(&state)) {
            way.insert(None);
            level.push(state);
        }
    }
    let (mut transitions, mut depth) = (0, 0);
    while !level.is_empty() && ways.len() < most {
        let mut deeper = Vec::new();
        for state in level {
            let from = model.fingerprint(&state);
            for action in model.actions(&state) {
                transitions += 1;
                let next = model.next(&state, action);
                let Entry::Vacant(way) = ways.entry(model.fingerprint(&next)) else {
                    continue;
                };
                way.insert(Some((from, action)));
                if let Some(promise) = model.broken(&next) {
                    return Err(trace(model, &ways, &next, &promise));
                }
                deeper.push(next);
            }
        }
        level = deeper;
        depth += usize::from(!level.is_empty());
    }
    Ok(Figures {
        states: ways.len(),
        transitions,
        depth,
        time: began.elapsed(),
        complete: level.is_empty(),
    })
}

/// The way to a state, step by step.
fn trace<M: Model>(model: &M, ways: &Ways<M::Action>, to: &M::State, promise: &str) -> String {
    let mut steps = Vec::new();
    let mut at = model.fingerprint(to);
    while let Some(Some((from, action))) = ways.get(&at) {
        steps.push(*action);
        at = *from;
    }
    let mut beginnings = model.beginnings().into_iter();
    let beginning = beginnings.find(|state| model.fingerprint(state) == at);
    let mut state = beginning.expect("every way begins at a beginning");
    let mut text = format!("{promise}\n   0 {}\n", model.shown(&state));
    for (number, action) in steps.iter().rev().enumerate() {
        state = model.next(&state, *action);
        let number = number + 1;
        text += &format!("{number:4} {action:?}\n     {}\n", model.shown(&state));
    }
    text
}
