//! What the process remembers beside the statuses: it makes things safer or faster, and nothing is wrong without it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::sync::OwnedMutexGuard;

use crate::api::{RegisterAttempt, WhatsAppPhoneNumber};
use crate::conditions::reason_of;
use crate::decide::OpenClaim;
use crate::ledger;
use crate::reason::{Reason, condition};
use crate::schedule::{META_WINDOW, plus, sane_next, sane_past};

/// How often what is too old is thrown away.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// The right to work on one phone number: one process never has two calls for a number at a time.
pub type NumberGuard = OwnedMutexGuard<()>;

/// What the process remembers.
pub struct Memory {
    clock: Clock,
    state: Mutex<State>,
}

/// The two clocks of a process; tests set them.
#[derive(Clone)]
pub struct Clock {
    /// The time of day.
    pub wall: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// A clock that nobody sets.
    pub monotonic: Arc<dyn Fn() -> Instant + Send + Sync>,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            wall: Arc::new(Timestamp::now),
            monotonic: Arc::new(Instant::now),
        }
    }
}

struct State {
    /// One lock per phone number.
    locks: HashMap<String, Arc<tokio::sync::Mutex<()>>>,
    /// The register calls of a number that this process made, or that stood in a status which is gone.
    attempts: HashMap<String, Vec<RegisterAttempt>>,
    /// Until when a token cools down, by its digest.
    cool_downs: HashMap<String, Timestamp>,
    /// Since when an open claim has been seen in a resource, by UID.
    open_claims: HashMap<String, (String, Instant)>,
    /// Claims of this process whose call was certainly not made, although the claim may yet be stored.
    unsent: HashSet<String>,
    /// When the number was last read for a resource, by UID.
    reads: HashMap<String, Timestamp>,
    /// The newest version of a resource that this process wrote, by UID.
    written: HashMap<String, u64>,
    /// How many passes in a row failed for a resource, by UID.
    failures: HashMap<String, u32>,
    swept: Instant,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(Clock::default())
    }
}

impl Memory {
    /// The memory of a process that has just started.
    pub fn new(clock: Clock) -> Self {
        let state = State {
            locks: HashMap::new(),
            attempts: HashMap::new(),
            cool_downs: HashMap::new(),
            open_claims: HashMap::new(),
            unsent: HashSet::new(),
            reads: HashMap::new(),
            written: HashMap::new(),
            failures: HashMap::new(),
            swept: (clock.monotonic)(),
        };
        Self {
            clock,
            state: Mutex::new(state),
        }
    }

    /// Waits for the right to work on a number.
    pub async fn lock(&self, number: &str) -> NumberGuard {
        let lock = Arc::clone(self.state().locks.entry(number.to_owned()).or_default());
        lock.lock_owned().await
    }

    /// Takes note of a resource as a watch brings it: since when a claim is open, and whether its token cools down,
    /// which is how a restarted process learns of it.
    pub fn saw(&self, resource: &WhatsAppPhoneNumber) {
        if let Some((digest, until)) = cool_down_of(resource, (self.clock.wall)()) {
            self.cool_down(digest, until);
        }
        let uid = resource.uid().unwrap_or_default();
        let open = open_claim(resource);
        let mut state = self.state();
        match open {
            Some(id)
                if state
                    .open_claims
                    .get(&uid)
                    .is_some_and(|(seen, _)| *seen == id) => {}
            Some(id) => {
                state
                    .open_claims
                    .insert(uid, (id, (self.clock.monotonic)()));
            }
            None => {
                state.open_claims.remove(&uid);
            }
        }
    }

    /// What is known of the open claim in a resource.
    pub fn open_claim(&self, resource: &WhatsAppPhoneNumber) -> OpenClaim {
        self.saw(resource);
        let uid = resource.uid().unwrap_or_default();
        let state = self.state();
        match state.open_claims.get(&uid) {
            Some((id, _)) if state.unsent.contains(id) => OpenClaim::Unsent,
            Some((_, since)) => OpenClaim::SeenFor((self.clock.monotonic)() - *since),
            None => OpenClaim::SeenFor(Duration::ZERO),
        }
    }

    /// Takes note of a claim of this process whose call will never be made.
    pub fn will_not_send(&self, id: &str) {
        self.state().unsent.insert(id.to_owned());
    }

    /// Remembers register calls of a number. How a call ended is not forgotten for an older version that shows it open.
    pub fn remember(&self, number: &str, attempts: &[RegisterAttempt]) {
        let now = (self.clock.wall)();
        let mut state = self.state();
        state.sweep(now, (self.clock.monotonic)());
        let known = state.attempts.entry(number.to_owned()).or_default();
        for attempt in attempts {
            let same = known.iter_mut().find(|known| known.id == attempt.id);
            match same {
                Some(known) if attempt.is_open() && !known.is_open() => {}
                Some(known) => known.clone_from(attempt),
                None => known.push(attempt.clone()),
            }
        }
        known.sort_by_key(|attempt| std::cmp::Reverse(attempt.start_time.0));
        forget_old(known, now);
    }

    /// The remembered register calls of a number. One from the future counts as now, and stays where it was put: else
    /// the time in which nothing is sent after it would move on with the clock.
    pub fn attempts(&self, number: &str) -> Vec<RegisterAttempt> {
        let now = (self.clock.wall)();
        let mut state = self.state();
        let Some(known) = state.attempts.get_mut(number) else {
            return Vec::new();
        };
        for attempt in known.iter_mut() {
            attempt.start_time = sane_past(&attempt.start_time, now);
            attempt.finish_time = attempt.finish_time.as_ref().map(|t| sane_past(t, now));
        }
        known.clone()
    }

    /// All that is known of a number's register calls: the remembered ones, and those in the ledgers of other resources.
    /// There too one from the future counts as now, and stays where it was put.
    pub fn calls(&self, number: &str, others: &[&RegisterAttempt]) -> Vec<RegisterAttempt> {
        let now = (self.clock.wall)();
        let (mut ahead, others): (Vec<_>, Vec<_>) = others
            .iter()
            .map(|attempt| (*attempt).clone())
            .partition(|attempt| ledger::is_ahead(attempt, now));
        let put = self.attempts(number);
        ahead.retain(|attempt| {
            let mut same = put.iter().filter(|known| known.id == attempt.id);
            !same.any(|known| known.is_open() == attempt.is_open())
        });
        self.remember(number, &ahead);
        let mut calls = self.attempts(number);
        calls.retain(|known| others.iter().all(|attempt| attempt.id != known.id));
        calls.extend(others);
        calls
    }

    /// Forgets what belongs to a resource that is gone; the register calls of its number stay.
    pub fn forget(&self, uid: &str) {
        let mut state = self.state();
        state.open_claims.remove(uid);
        state.reads.remove(uid);
        state.written.remove(uid);
        state.failures.remove(uid);
    }

    /// Lets a token cool down.
    pub fn cool_down(&self, token_digest: &str, until: Timestamp) {
        let mut state = self.state();
        let known = state
            .cool_downs
            .entry(token_digest.to_owned())
            .or_insert(until);
        *known = until.max(*known);
    }

    /// Until when a token cools down.
    pub fn cools_until(&self, token_digest: &str) -> Option<Timestamp> {
        self.state().cool_downs.get(token_digest).copied()
    }

    /// Takes note of a read of the number for a resource.
    pub fn read(&self, uid: &str, at: Timestamp) {
        self.state().reads.insert(uid.to_owned(), at);
    }

    /// When the number was last read for a resource.
    pub fn last_read(&self, uid: &str) -> Option<Timestamp> {
        self.state().reads.get(uid).copied()
    }

    /// Takes note of a write, so that an older version from the cache is noticed.
    pub fn wrote(&self, resource: &WhatsAppPhoneNumber) {
        if let (Some(uid), Some(version)) = (resource.uid(), version_of(resource)) {
            self.state().written.insert(uid, version);
        }
    }

    /// Whether the cached resource is older than what this process wrote, or may be older than what others did: the last
    /// pass failed on it.
    pub fn is_stale(&self, resource: &WhatsAppPhoneNumber) -> bool {
        let uid = resource.uid().unwrap_or_default();
        let state = self.state();
        if state.failures.contains_key(&uid) {
            return true;
        }
        let written = state.written.get(&uid).copied();
        written.is_some_and(|written| version_of(resource).is_some_and(|version| version < written))
    }

    /// Counts a failed pass; returns how many failed in a row.
    pub fn pass_failed(&self, uid: &str) -> u32 {
        let mut state = self.state();
        let failures = state.failures.entry(uid.to_owned()).or_default();
        *failures = failures.saturating_add(1);
        *failures
    }

    /// Forgets the failed passes of a resource.
    pub fn pass_succeeded(&self, uid: &str) {
        self.state().failures.remove(uid);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Throws away what is too old to matter, from time to time.
    fn sweep(&mut self, now: Timestamp, monotonic: Instant) {
        if monotonic - self.swept < SWEEP_EVERY {
            return;
        }
        self.swept = monotonic;
        self.attempts.retain(|_, attempts| {
            forget_old(attempts, now);
            attempts.iter().any(RegisterAttempt::counts)
        });
        self.cool_downs.retain(|_, until| *until > now);
        self.locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        let open: HashSet<&String> = self.open_claims.values().map(|(id, _)| id).collect();
        self.unsent.retain(|id| open.contains(id));
    }
}

/// Forgets calls of more than 72 h ago, open ones too: nobody closes the claim of a resource that is gone.
fn forget_old(attempts: &mut Vec<RegisterAttempt>, now: Timestamp) {
    ledger::prune(attempts, now);
    attempts.retain(|attempt| plus(attempt.time(now), META_WINDOW) > now);
}

/// The cool-down that a resource's status tells of: the digest of its token, and the time.
fn cool_down_of(resource: &WhatsAppPhoneNumber, now: Timestamp) -> Option<(&str, Timestamp)> {
    let status = resource.status.as_ref()?;
    let limited = reason_of(status, condition::FAILED) == Some(Reason::RateLimited);
    let until = sane_next(status.next_attempt_time.as_ref()?, now).0;
    let digest = status.token_digest.as_deref().filter(|_| limited)?;
    Some((digest, until))
}

fn open_claim(resource: &WhatsAppPhoneNumber) -> Option<String> {
    let attempts = crate::index::attempts(resource);
    attempts
        .iter()
        .find(|attempt| attempt.is_open())
        .map(|attempt| attempt.id.clone())
}

/// Resource versions of one object compare as numbers (KEP-5504; true of every release before as well).
fn version_of(resource: &WhatsAppPhoneNumber) -> Option<u64> {
    resource.resource_version()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::duplicates::tests::{claimed, resource};

    #[test]
    fn after_a_failed_pass_the_cache_is_not_trusted() {
        let (memory, resource) = (Memory::default(), resource("a", 0));
        let uid = resource.uid().unwrap_or_default();
        assert!(!memory.is_stale(&resource));
        assert_eq!(memory.pass_failed(&uid), 1);
        assert!(memory.is_stale(&resource));
        memory.pass_succeeded(&uid);
        assert!(!memory.is_stale(&resource));
    }

    #[test]
    fn a_call_from_the_future_is_put_to_now_once() {
        let memory = Memory::default();
        let ahead = Timestamp::now() + Duration::from_secs(7200);
        let open = RegisterAttempt::claim("a", Duration::from_secs(60), None, ahead);
        memory.remember("1", &[open]);
        let first = memory.attempts("1");
        assert!(first[0].start_time.0 <= Timestamp::now());
        assert_eq!(memory.attempts("1"), first);
    }

    #[test]
    fn a_call_from_the_future_in_another_ledger_is_put_to_now_once() {
        let memory = Memory::default();
        let now = Timestamp::now();
        let ahead = now + Duration::from_secs(7200);
        let entry = |id: &str, at| RegisterAttempt {
            finish_time: Some(Time(at)),
            ..RegisterAttempt::claim(id, Duration::from_secs(60), None, at)
        };
        let (early, late) = (entry("early", ahead), entry("late", ahead));
        let first = memory.calls("1", &[&early]);
        assert!(first[0].time(ahead) <= Timestamp::now());
        assert_eq!(memory.calls("1", &[&early]), first);
        assert_eq!(memory.calls("1", &[&early, &late]).len(), 2);
        // What a sound clock has written stands in the ledger as it is.
        let sound = entry("early", now);
        assert!(memory.calls("1", &[&sound]).contains(&sound));
    }

    #[test]
    fn an_open_claim_of_a_resource_that_is_gone_is_forgotten_after_72_hours() {
        let memory = Memory::default();
        let claimed = |ago| {
            let at = Timestamp::now() - Duration::from_secs(ago);
            RegisterAttempt::claim("a", Duration::from_secs(60), None, at)
        };
        memory.remember("1", &[claimed(71 * 3600)]);
        memory.remember("2", &[claimed(73 * 3600)]);
        assert_eq!(memory.attempts("1").len(), 1);
        assert!(memory.attempts("2").is_empty());
    }

    #[test]
    fn the_age_of_a_claim_is_its_own() {
        let uptime = Arc::new(AtomicU64::new(0));
        let (began, seconds) = (Instant::now(), Arc::clone(&uptime));
        let monotonic = move || began + Duration::from_secs(seconds.load(Relaxed));
        let memory = Memory::new(Clock {
            monotonic: Arc::new(monotonic),
            ..Clock::default()
        });
        let claimed = |id: &str| {
            let mut resource = claimed(resource("number", 1));
            let status = resource.status.get_or_insert_default();
            id.clone_into(&mut status.attempts[0].id);
            resource
        };
        let seen = |seconds| OpenClaim::SeenFor(Duration::from_secs(seconds));
        memory.saw(&claimed("a"));
        uptime.store(50, Relaxed);
        assert_eq!(memory.open_claim(&claimed("a")), seen(50));
        assert_eq!(memory.open_claim(&claimed("b")), seen(0));
        uptime.store(60, Relaxed);
        assert_eq!(memory.open_claim(&claimed("b")), seen(10));
        memory.will_not_send("b");
        assert_eq!(memory.open_claim(&claimed("b")), OpenClaim::Unsent);
    }

    #[test]
    fn a_token_cools_down_until_the_latest_time_that_is_known() {
        let memory = Memory::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(memory.cools_until("token"), None);
        memory.cool_down("token", at(20));
        memory.cool_down("token", at(10));
        assert_eq!(memory.cools_until("token"), Some(at(20)));
        assert_eq!(memory.cools_until("other"), None);
    }

    #[test]
    fn an_older_version_does_not_open_an_attempt_again() {
        let memory = Memory::default();
        let now = Timestamp::now();
        let open = RegisterAttempt::claim("a", Duration::from_secs(60), None, now);
        let ended = RegisterAttempt {
            finish_time: Some(Time(now)),
            reason: Some(Reason::RegistrationBlocked.to_string()),
            ..open.clone()
        };
        memory.remember("1", std::slice::from_ref(&open));
        memory.remember("1", std::slice::from_ref(&ended));
        // The resource is deleted before its cached version shows the record.
        memory.remember("1", std::slice::from_ref(&open));
        assert_eq!(memory.attempts("1"), [ended]);
    }
}
