//! The state of the watches: which have listed everything, which fail, and which count as absent.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::clock::Clock;

/// How long the API server may refuse the list of a namespace before it counts as not watched: a role may still be created.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// How long a watch may fail before this is reported.
const FAILED_FOR: Duration = Duration::from_secs(60);

/// A watch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId {
    /// The kind of what it watches.
    pub kind: &'static str,
    /// The namespace; none means all.
    pub namespace: Option<String>,
}

impl WatchId {
    /// The watch of the resources in a namespace.
    pub fn resources(namespace: Option<&str>) -> Self {
        Self {
            kind: "WhatsAppPhoneNumber",
            namespace: namespace.map(str::to_owned),
        }
    }

    /// Whether the others can continue without it: a namespace among several, and Secrets, which can be polled.
    fn is_dispensable(&self) -> bool {
        self.namespace.is_some() || *self == Self::secrets(None)
    }

    /// The watch of the Secrets in a namespace.
    pub fn secrets(namespace: Option<&str>) -> Self {
        Self {
            kind: "Secret",
            namespace: namespace.map(str::to_owned),
        }
    }
}

impl fmt::Display for WatchId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(formatter, "{} in {namespace}", self.kind),
            None => write!(formatter, "{} in all namespaces", self.kind),
        }
    }
}

/// Why a watch fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchFault {
    /// The API server refuses the list: no permission, or no such kind or namespace.
    Refused,
    /// Anything else, which is temporary.
    Failed,
}

/// The state of every watch.
pub struct WatchStates {
    clock: Clock,
    states: watch::Sender<BTreeMap<WatchId, WatchState>>,
}

#[derive(Clone, Debug, Default)]
struct WatchState {
    /// Whether it has listed everything once.
    listed: bool,
    /// Since when it fails.
    failing: Option<Instant>,
    /// Since when it is refused.
    refused: Option<Instant>,
    /// Whether its namespace counts as not watched.
    left_out: bool,
}

impl WatchStates {
    /// Watches that have not listed anything.
    pub fn new(watches: impl IntoIterator<Item = WatchId>, clock: Clock) -> Self {
        let states = watches.into_iter().map(|id| (id, WatchState::default()));
        Self {
            clock,
            states: watch::Sender::new(states.collect()),
        }
    }

    /// A watch has delivered something.
    pub fn succeeded(&self, id: &WatchId) {
        self.change(id, |state| {
            (state.failing, state.refused, state.left_out) = (None, None, false);
        });
    }

    /// A watch has listed everything.
    pub fn listed(&self, id: &WatchId) {
        self.change(id, |state| {
            *state = WatchState {
                listed: true,
                ..WatchState::default()
            };
        });
    }

    /// A watch has failed. Returns whether its namespace counts as not watched from now on.
    pub fn failed(&self, id: &WatchId, fault: WatchFault) -> bool {
        let now = self.clock.instant();
        let mut leaves_out = false;
        self.change(id, |state| {
            state.failing.get_or_insert(now);
            state.refused = match fault {
                WatchFault::Refused => Some(state.refused.unwrap_or(now)),
                WatchFault::Failed => None,
            };
            let long = state
                .refused
                .is_some_and(|since| now - since >= REFUSED_FOR);
            leaves_out = long && id.is_dispensable() && !state.left_out;
            state.left_out |= leaves_out;
        });
        leaves_out
    }

    /// Whether a watch works.
    pub fn is_up(&self, id: &WatchId) -> bool {
        let states = self.states.borrow();
        states
            .get(id)
            .is_some_and(|state| state.listed && state.failing.is_none())
    }

    /// Whether a watch counts as absent.
    pub fn is_left_out(&self, id: &WatchId) -> bool {
        let states = self.states.borrow();
        states.get(id).is_some_and(|state| state.left_out)
    }

    /// Whether a watch has failed for so long that this is reported.
    pub fn is_down(&self, id: &WatchId) -> bool {
        let now = self.clock.instant();
        self.states
            .borrow()
            .get(id)
            .is_some_and(|state| state.is_down(now))
    }

    /// Waits until every watch of resources has listed everything, or counts as absent.
    pub async fn synced(&self) {
        let resources = WatchId::resources(None).kind;
        let settled = |states: &BTreeMap<WatchId, WatchState>| {
            let mut watches = states.iter().filter(|(id, _)| id.kind == resources);
            watches.all(|(_, state)| state.listed || state.left_out)
        };
        // The sender is here, so the wait can end only this way.
        let _ = self.states.subscribe().wait_for(settled).await;
    }

    /// The watches to wait for: those that have listed nothing, or have failed for a long time.
    pub fn missing(&self) -> Vec<String> {
        let now = self.clock.instant();
        self.named(|state| !state.left_out && (!state.listed || state.is_down(now)))
    }

    /// The watches that count as absent.
    pub fn left_out(&self) -> Vec<String> {
        self.named(|state| state.left_out)
    }

    fn named(&self, wanted: impl Fn(&WatchState) -> bool) -> Vec<String> {
        let states = self.states.borrow();
        let wanted = states.iter().filter(|(_, state)| wanted(state));
        wanted.map(|(id, _)| id.to_string()).collect()
    }

    fn change(&self, id: &WatchId, change: impl FnOnce(&mut WatchState)) {
        self.states.send_modify(|states| {
            if let Some(state) = states.get_mut(id) {
                change(state);
            }
        });
    }
}

impl WatchState {
    fn is_down(&self, now: Instant) -> bool {
        self.failing.is_some_and(|since| now - since >= FAILED_FOR)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::WatchFault::{Failed, Refused};
    use super::*;

    /// Two watches, and the seconds of their clock.
    fn two() -> (WatchStates, Arc<AtomicU64>) {
        let uptime = Arc::new(AtomicU64::new(0));
        let (began, seconds) = (Instant::now(), Arc::clone(&uptime));
        let clock = Clock {
            monotonic: Arc::new(move || began + Duration::from_secs(seconds.load(Relaxed))),
            ..Clock::default()
        };
        let watches = [
            WatchId::resources(Some("sales")),
            WatchId::resources(Some("support")),
        ];
        (WatchStates::new(watches, clock), uptime)
    }

    #[tokio::test]
    async fn a_namespace_that_is_refused_for_long_counts_as_not_watched() {
        let (watches, uptime) = two();
        let support = WatchId::resources(Some("support"));
        watches.listed(&WatchId::resources(Some("sales")));
        assert_eq!(watches.missing(), ["WhatsAppPhoneNumber in support"]);
        assert!(!watches.failed(&support, Refused));
        uptime.store(9, Relaxed);
        assert!(!watches.failed(&support, Refused));
        uptime.store(10, Relaxed);
        assert!(watches.failed(&support, Refused));
        assert!(!watches.failed(&support, Refused), "told once");
        watches.synced().await;
        assert_eq!(watches.missing(), Vec::<String>::new());
        assert_eq!(watches.left_out(), ["WhatsAppPhoneNumber in support"]);
        watches.listed(&support);
        assert_eq!(watches.left_out(), Vec::<String>::new());
    }

    #[test]
    fn any_other_failure_holds_back() {
        let (watches, uptime) = two();
        for (seconds, fault) in [(0, Refused), (9, Failed), (10, Refused), (19, Refused)] {
            uptime.store(seconds, Relaxed);
            assert!(
                !watches.failed(&WatchId::resources(Some("sales")), fault),
                "{seconds}"
            );
        }
        // If all namespaces are one watch, nothing would be left.
        let all = WatchStates::new([WatchId::resources(None)], Clock::default());
        assert!(!all.failed(&WatchId::resources(None), Refused));
        assert_eq!(all.missing(), ["WhatsAppPhoneNumber in all namespaces"]);
    }

    #[test]
    fn a_watch_that_fails_for_a_minute_is_missed() {
        let (watches, uptime) = two();
        let sales = WatchId::resources(Some("sales"));
        watches.listed(&sales);
        watches.listed(&WatchId::resources(Some("support")));
        watches.failed(&sales, Failed);
        assert!(!watches.is_up(&sales) && !watches.is_down(&sales));
        uptime.store(60, Relaxed);
        assert!(watches.is_down(&sales));
        assert_eq!(watches.missing(), ["WhatsAppPhoneNumber in sales"]);
        watches.succeeded(&sales);
        assert!(watches.is_up(&sales));
        assert_eq!(watches.missing(), Vec::<String>::new());
    }
}
