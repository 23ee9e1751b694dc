//! Notes about each resource, while it exists: what this process did and saw.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::ResourceExt;
use operator_core::api::WhatsAppPhoneNumber;
use operator_core::credentials::secret_names;
use operator_core::model::OpenClaim;
use operator_core::model::observe::Plan;

use super::clock::Clock;

/// The interval at which claims that can no longer be stored are dropped.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// How long a refusal to patch the finalizer of a resource counts.
const PATCH_AGAIN: Duration = Duration::from_secs(600);

/// The wait before a look at a status that another writer may have changed: a watch can be faster than the answer to this process's
/// own write.
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// The shortest time between two such looks at one resource, so that two writers cannot undo each other's changes any faster.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Notes for each resource, by UID.
pub struct ObjectNotes {
    clock: Clock,
    notes: Mutex<Notes>,
}

struct Notes {
    by_uid: HashMap<String, Note>,
    /// The number of Secrets that are polled where they are not watched, for all resources together.
    polled: usize,
    /// Claims of this process whose call was certainly not made, although the claim may still be stored.
    unsent: HashSet<String>,
    swept: Instant,
}

#[derive(Default)]
struct Note {
    /// The open claim, and the time at which it was first seen.
    open_claim: Option<(String, Instant)>,
    /// The last read of the number for the resource.
    last_read: Option<Timestamp>,
    /// When the number is observed next.
    plan: Option<Plan>,
    /// When the API server last refused to patch its finalizer.
    finalizer_refused: Option<Instant>,
    /// The newest version that this process wrote.
    written: Option<u64>,
    /// The number of failed reconciliations in a row.
    failures: u32,
    /// Whether a look at another writer's status is planned.
    look_planned: bool,
    /// The last such look.
    looked: Option<Instant>,
    /// The number of Secrets that are polled for the resource.
    polled: usize,
    /// The remark on its annotation that was published last.
    remark: Option<String>,
}

impl Default for ObjectNotes {
    fn default() -> Self {
        Self::new(Clock::default())
    }
}

impl ObjectNotes {
    pub fn new(clock: Clock) -> Self {
        let notes = Notes {
            by_uid: HashMap::new(),
            polled: 0,
            unsent: HashSet::new(),
            swept: clock.instant(),
        };
        Self {
            clock,
            notes: Mutex::new(notes),
        }
    }

    /// Notes a resource from a watch: when its claim was first seen open, and how many Secrets it waits for.
    pub fn note_seen(&self, resource: &WhatsAppPhoneNumber) {
        let open = resource.attempts().iter().find(|entry| entry.is_open());
        let mut notes = self.notes();
        notes.note_polled(resource);
        let Some(open) = open else {
            if let Some(note) = notes.by_uid.get_mut(&uid_of(resource)) {
                note.open_claim = None;
            }
            return;
        };
        let note = notes.of(&uid_of(resource));
        if note
            .open_claim
            .as_ref()
            .is_none_or(|(id, _)| *id != open.id)
        {
            note.open_claim = Some((open.id.clone(), self.clock.instant()));
        }
    }

    /// The knowledge about the open claim in a resource.
    pub fn open_claim(&self, resource: &WhatsAppPhoneNumber) -> OpenClaim {
        self.note_seen(resource);
        let notes = self.notes();
        let note = notes.by_uid.get(&uid_of(resource));
        match note.and_then(|note| note.open_claim.as_ref()) {
            Some((id, _)) if notes.unsent.contains(id) => OpenClaim::Unsent,
            Some((_, since)) => OpenClaim::SeenFor(self.clock.instant() - *since),
            None => OpenClaim::SeenFor(Duration::ZERO),
        }
    }

    /// Notes a claim of this process whose call will never be made.
    pub fn note_unsent(&self, id: &str) {
        let mut notes = self.notes();
        notes.sweep(self.clock.instant());
        notes.unsent.insert(id.to_owned());
    }

    /// Drops the notes about a resource that is gone; the register calls of its number stay in the history.
    pub fn forget(&self, uid: &str) {
        let mut notes = self.notes();
        if let Some(note) = notes.by_uid.remove(uid) {
            notes.polled -= note.polled;
        }
    }

    /// The number of Secrets that are polled where they are not watched, for all resources together.
    pub fn polled_secrets(&self) -> usize {
        self.notes().polled
    }

    /// Notes a read of the number for a resource.
    pub fn note_read(&self, resource: &WhatsAppPhoneNumber, at: Timestamp) {
        self.notes().of(&uid_of(resource)).last_read = Some(at);
    }

    /// The time of the last read of the number for a resource.
    pub fn last_read(&self, resource: &WhatsAppPhoneNumber) -> Option<Timestamp> {
        self.notes().by_uid.get(&uid_of(resource))?.last_read
    }

    /// Notes when the number of a resource is observed next.
    pub fn note_plan(&self, resource: &WhatsAppPhoneNumber, plan: Plan) {
        self.notes().of(&uid_of(resource)).plan = Some(plan);
    }

    /// When the number of a resource is observed next.
    pub fn plan(&self, resource: &WhatsAppPhoneNumber) -> Option<Plan> {
        self.notes().by_uid.get(&uid_of(resource))?.plan
    }

    /// Notes that the API server refuses to patch the finalizer of a resource. Returns whether that is new.
    pub fn note_finalizer_refused(&self, resource: &WhatsAppPhoneNumber) -> bool {
        let now = self.clock.instant();
        let mut notes = self.notes();
        let known = notes.of(&uid_of(resource)).finalizer_refused.replace(now);
        known.is_none()
    }

    /// Whether the API server has recently refused to patch the finalizer of a resource.
    pub fn finalizer_refused(&self, resource: &WhatsAppPhoneNumber) -> bool {
        let notes = self.notes();
        let note = notes.by_uid.get(&uid_of(resource));
        let refused = note.and_then(|note| note.finalizer_refused);
        refused.is_some_and(|at| self.clock.instant() - at < PATCH_AGAIN)
    }

    /// Forgets all plans: those from before this process led are overdue, and would all run at once.
    pub fn forget_plans(&self) {
        for note in self.notes().by_uid.values_mut() {
            note.plan = None;
        }
    }

    /// Notes a write, so that an older version from the cache is recognized.
    pub fn note_written(&self, resource: &WhatsAppPhoneNumber) {
        if let Some(version) = version_of(resource) {
            self.notes().of(&uid_of(resource)).written = Some(version);
        }
    }

    /// Whether the cached resource is older than the last write of this process, or may be older than that of another
    /// writer because the last reconciliation failed.
    pub fn is_stale(&self, resource: &WhatsAppPhoneNumber) -> bool {
        let notes = self.notes();
        let Some(note) = notes.by_uid.get(&uid_of(resource)) else {
            return false;
        };
        note.failures > 0 || note.is_newer_than(resource)
    }

    /// Whether this version is older than the last write of this process.
    pub fn is_older_than_written(&self, resource: &WhatsAppPhoneNumber) -> bool {
        let notes = self.notes();
        let note = notes.by_uid.get(&uid_of(resource));
        note.is_some_and(|note| note.is_newer_than(resource))
    }

    /// Plans a look at a resource whose status has changed. Returns when; none if this process wrote it, or a look is planned already.
    pub fn plan_look(&self, resource: &WhatsAppPhoneNumber) -> Option<Duration> {
        let now = self.clock.instant();
        let mut notes = self.notes();
        let note = notes.of(&uid_of(resource));
        if note.look_planned || !note.is_foreign(resource) {
            return None;
        }
        note.look_planned = true;
        let free = note.looked.map(|looked| looked + LOOK_EVERY);
        let wait = free.map_or(Duration::ZERO, |free| free.saturating_duration_since(now));
        Some(wait.max(LOOK_AFTER))
    }

    /// Takes a planned look. Returns false if the last version is this process's own after all.
    pub fn look(&self, resource: &WhatsAppPhoneNumber) -> bool {
        let now = self.clock.instant();
        let mut notes = self.notes();
        let note = notes.of(&uid_of(resource));
        note.look_planned = false;
        let foreign = note.is_foreign(resource);
        if foreign {
            note.looked = Some(now);
        }
        foreign
    }

    /// Notes the remark on the annotation of a resource, or that there is none. Returns whether it is a new one.
    pub fn is_new_remark(&self, resource: &WhatsAppPhoneNumber, remark: Option<&str>) -> bool {
        let mut notes = self.notes();
        let Some(remark) = remark else {
            if let Some(note) = notes.by_uid.get_mut(&uid_of(resource)) {
                note.remark = None;
            }
            return false;
        };
        let note = notes.of(&uid_of(resource));
        let is_new = note.remark.as_deref() != Some(remark);
        note.remark = Some(remark.to_owned());
        is_new
    }

    /// Counts a failed reconciliation. Returns the number of failures in a row.
    pub fn note_failure(&self, uid: &str) -> u32 {
        let mut notes = self.notes();
        let note = notes.of(uid);
        note.failures = note.failures.saturating_add(1);
        note.failures
    }

    /// Resets the count of failed reconciliations.
    pub fn note_success(&self, uid: &str) {
        if let Some(note) = self.notes().by_uid.get_mut(uid) {
            note.failures = 0;
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notes {
    fn of(&mut self, uid: &str) -> &mut Note {
        self.by_uid.entry(uid.to_owned()).or_default()
    }

    fn note_polled(&mut self, resource: &WhatsAppPhoneNumber) {
        let (uid, polled) = (uid_of(resource), polled_secrets(resource));
        let before = self.by_uid.get(&uid).map_or(0, |note| note.polled);
        if polled != before {
            self.of(&uid).polled = polled;
            self.polled = self.polled - before + polled;
        }
    }

    fn sweep(&mut self, monotonic: Instant) {
        if monotonic - self.swept < SWEEP_EVERY {
            return;
        }
        self.swept = monotonic;
        let claims = self
            .by_uid
            .values()
            .filter_map(|note| note.open_claim.as_ref());
        let open: HashSet<&String> = claims.map(|(id, _)| id).collect();
        self.unsent.retain(|id| open.contains(id));
    }
}

impl Note {
    /// Whether this process wrote a newer version.
    fn is_newer_than(&self, resource: &WhatsAppPhoneNumber) -> bool {
        let older = |written| version_of(resource).is_some_and(|version| version < written);
        self.written.is_some_and(older)
    }

    /// Whether another writer wrote this version after this process did, which had decided on everything before that.
    fn is_foreign(&self, resource: &WhatsAppPhoneNumber) -> bool {
        let newer = |written| version_of(resource).is_none_or(|version| version > written);
        self.written.is_none_or(newer)
    }
}

/// The number of Secrets that a change of may lift a stall, end the wait for a Secret, or have the number observed again.
fn polled_secrets(resource: &WhatsAppPhoneNumber) -> usize {
    match waits_for_secret(resource) {
        true => secret_names(&resource.spec).len(),
        false => 0,
    }
}

/// Whether a change of a Secret may change something for the resource now.
pub fn waits_for_secret(resource: &WhatsAppPhoneNumber) -> bool {
    let leaves = resource.metadata.deletion_timestamp.is_some() && resource.has_finalizer();
    let waits = resource.status.as_ref().is_some_and(|status| {
        let hold = status.hold.as_ref();
        status.stall.is_some()
            || hold.is_some_and(|hold| hold.reason.is_secret_fault())
            || status.observation_waits_for_secret()
    });
    leaves || waits
}

fn uid_of(resource: &WhatsAppPhoneNumber) -> String {
    resource.uid().unwrap_or_default()
}

/// The resource version as a number: versions of one object compare as such (KEP-5504, and every release before it).
fn version_of(resource: &WhatsAppPhoneNumber) -> Option<u64> {
    resource.resource_version()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use operator_core::api::{Observation, ObservationFault, Reason, Stall};
    use operator_core::model::{Policy, Requeue};
    use testkit::builders::{claimed, resource};
    use testkit::world::{self, Step, World};

    use super::*;

    #[test]
    fn after_a_failure_the_cache_is_not_trusted() {
        let (notes, resource) = (ObjectNotes::default(), resource("a", 0));
        let uid = resource.uid().unwrap_or_default();
        assert!(!notes.is_stale(&resource));
        assert_eq!(notes.note_failure(&uid), 1);
        assert!(notes.is_stale(&resource));
        notes.note_success(&uid);
        assert!(!notes.is_stale(&resource));
    }

    #[test]
    fn a_remark_is_new_once() {
        let (notes, resource) = (ObjectNotes::default(), resource("a", 0));
        assert!(notes.is_new_remark(&resource, Some("too long")));
        assert!(!notes.is_new_remark(&resource, Some("too long")));
        assert!(notes.is_new_remark(&resource, Some("longer")));
        assert!(!notes.is_new_remark(&resource, None));
        assert!(notes.is_new_remark(&resource, Some("longer")));
    }

    #[test]
    fn secrets_are_counted_for_resources_that_wait_for_one() {
        let notes = ObjectNotes::default();
        let with_uid = |name: &str, stall: Option<Stall>| {
            let mut resource = resource(name, 0);
            resource.metadata.uid = Some(name.to_owned());
            resource.status.get_or_insert_default().stall = stall;
            resource
        };
        let stall = Stall::new(Reason::PinMismatch, String::new());
        for name in ["a", "b"] {
            notes.note_seen(&with_uid(name, None));
            notes.note_seen(&with_uid(name, Some(stall.clone())));
            notes.note_seen(&with_uid(name, Some(stall.clone())));
        }
        assert_eq!(notes.polled_secrets(), 4, "token and PIN of both");
        notes.note_seen(&with_uid("a", None));
        assert_eq!(notes.polled_secrets(), 2);
        notes.forget("b");
        assert_eq!(notes.polled_secrets(), 0);
        let mut unobserved = with_uid("c", None);
        unobserved.status.get_or_insert_default().observation = Some(Observation {
            fault: Some(ObservationFault {
                reason: Reason::SecretNotFound,
                message: String::new(),
                token_digest: None,
            }),
        });
        notes.note_seen(&unobserved);
        assert_eq!(notes.polled_secrets(), 2);
    }

    /// What is counted, the policy that follows from it and the decisions of each resource, together: the API server has 300 of them
    /// in `tests/secret_polls.rs`.
    #[test]
    fn ten_thousand_that_are_stalled_read_at_most_a_hundred_secrets_a_minute() {
        const NUMBERS: usize = 10_000;
        let notes = ObjectNotes::default();
        let mut world = World::after(world::pin_mismatch());
        for number in 0..NUMBERS {
            let mut stalled = world.resource.clone();
            stalled.metadata.uid = Some(number.to_string());
            notes.note_seen(&stalled);
        }
        let watched = Policy {
            secret_poll: Some(Duration::from_secs(60)),
            ..world::policy()
        };
        world.policy = watched.polling(notes.polled_secrets());
        let waits = (0..1000_u16).map(|share| {
            world.jitter = f64::from(share) / 1000.0;
            let steps = world.pass();
            let [Step::Secrets, Step::Settle(Requeue::After(wait))] = steps[..] else {
                panic!("{steps:?}");
            };
            usize::try_from(wait.as_secs()).unwrap()
        });
        let waits: Vec<usize> = waits.collect();
        // The Secrets that are read in each minute of ten days, from a time on when the looks are spread.
        let mut minutes = vec![0; 10 * 24 * 60];
        for number in 0..NUMBERS {
            let (mut at, mut chance) = (2 * number * 60 / 50, number);
            while let Some(minute) = minutes.get_mut(at / 60) {
                *minute += secret_names(&world.resource.spec).len();
                chance = (chance * 7919 + 104_729) % NUMBERS;
                at += waits[chance % waits.len()];
            }
        }
        let all: usize = minutes.iter().sum();
        let busiest = minutes.iter().max().copied().unwrap_or_default();
        let average = all / minutes.len();
        assert!((45..=55).contains(&average), "{average} a minute");
        assert!(busiest <= 100, "{busiest} in one minute");
    }

    #[test]
    fn the_age_of_a_claim_is_its_own() {
        let uptime = Arc::new(AtomicU64::new(0));
        let (began, seconds) = (Instant::now(), Arc::clone(&uptime));
        let monotonic = move || began + Duration::from_secs(seconds.load(Relaxed));
        let notes = ObjectNotes::new(Clock {
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
        notes.note_seen(&claimed("a"));
        uptime.store(50, Relaxed);
        assert_eq!(notes.open_claim(&claimed("a")), seen(50));
        assert_eq!(notes.open_claim(&claimed("b")), seen(0));
        uptime.store(60, Relaxed);
        assert_eq!(notes.open_claim(&claimed("b")), seen(10));
        notes.note_unsent("b");
        assert_eq!(notes.open_claim(&claimed("b")), OpenClaim::Unsent);
    }

    #[test]
    fn another_writers_status_is_looked_at_once_a_minute_and_in_the_end() {
        let uptime = Arc::new(AtomicU64::new(0));
        let (began, seconds) = (Instant::now(), Arc::clone(&uptime));
        let monotonic = move || began + Duration::from_secs(seconds.load(Relaxed));
        let notes = ObjectNotes::new(Clock {
            monotonic: Arc::new(monotonic),
            ..Clock::default()
        });
        let resource = resource("number", 1);
        assert_eq!(notes.plan_look(&resource), Some(LOOK_AFTER));
        assert_eq!(notes.plan_look(&resource), None, "planned already");
        uptime.store(1, Relaxed);
        assert!(notes.look(&resource));
        uptime.store(11, Relaxed);
        assert_eq!(notes.plan_look(&resource), Some(Duration::from_secs(50)));
        uptime.store(61, Relaxed);
        assert!(notes.look(&resource));
        uptime.store(500, Relaxed);
        assert_eq!(notes.plan_look(&resource), Some(LOOK_AFTER));
    }
}
