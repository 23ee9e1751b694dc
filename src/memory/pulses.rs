//! Signs of life: what must make progress at all times, and when each last did.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::clock::Clock;
use super::watches::WatchId;

/// How long something may make no progress before the process counts as dead. Everything here makes progress once in 45 seconds; the rest is
/// margin, because a restart loses the outcomes of the calls in flight.
const STILL_FOR: Duration = Duration::from_secs(300);

/// What must make progress at all times, whatever the API server and Graph do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mover {
    /// The runtime: it runs tasks and its timers fire.
    Runtime,
    /// The loop of a watch: it waits for events no longer than it should, or for its next try.
    Watch(WatchId),
}

/// When everything last made progress.
pub struct Pulses {
    clock: Clock,
    moved: Mutex<BTreeMap<Mover, Instant>>,
}

impl Pulses {
    /// Everything has made progress just now: the runtime and these watches.
    pub fn new(watches: impl IntoIterator<Item = WatchId>, clock: Clock) -> Self {
        let now = clock.instant();
        let watches = watches.into_iter().map(Mover::Watch);
        let moved = watches.chain([Mover::Runtime]).map(|mover| (mover, now));
        Self {
            moved: Mutex::new(moved.collect()),
            clock,
        }
    }

    /// It makes progress.
    pub fn beat(&self, mover: &Mover) {
        let now = self.clock.instant();
        if let Some(moved) = self.moved().get_mut(mover) {
            *moved = now;
        }
    }

    /// What has made no progress for too long, in words.
    pub fn still(&self) -> Vec<String> {
        let now = self.clock.instant();
        let moved = self.moved();
        let still = moved.iter().filter_map(|(mover, moved)| {
            let since = now.saturating_duration_since(*moved);
            (since >= STILL_FOR).then(|| format!("{mover} for {} s", since.as_secs()))
        });
        still.collect()
    }

    fn moved(&self) -> MutexGuard<'_, BTreeMap<Mover, Instant>> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Mover {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime => formatter.write_str("the runtime"),
            Self::Watch(id) => write!(formatter, "the watch of {id}"),
        }
    }
}
