//! A state of the model: the API server, Graph, the Secret, the operators, and what may still go wrong.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use operator_core::api::{
    DeletionPolicy, LedgerEntry, Operation, WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus,
};
use operator_core::model::machine::{Effect, Input, Machine};
use operator_core::model::observe::Plan;
use operator_core::model::twins::KnownCall;
use operator_core::model::{OpenClaim, Peers};
use testkit::world::START;

/// Seconds since the beginning.
pub(super) type Seconds = u32;

/// A time that matters only by how far away it is: two states that differ by the time of day alone are the same, and
/// what lies more than 73 hours back is long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(pub(super) Seconds);

/// The oldest that anything looks at, and an hour.
const LONG_AGO: i64 = 73 * 3600;

thread_local! {
    /// The time of the state whose hash is being taken.
    static NOW: Cell<Seconds> = const { Cell::new(0) };
}

impl Hash for Moment {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_second(i64::from(self.0), state);
    }
}

fn hash_second<H: Hasher>(second: i64, state: &mut H) {
    let ago = i64::from(NOW.get()) - second;
    ago.min(LONG_AGO).hash(state);
}

/// What no decision looks at.
#[derive(Clone, Copy, Default)]
pub(super) struct Silent<T>(pub(super) T);

impl<T> Hash for Silent<T> {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// The names that resources can have.
pub(super) const NAMES: [&str; 2] = ["a", "b"];

#[derive(Clone, Hash)]
pub(super) struct State {
    /// The time, by every clock.
    pub(super) clock: Silent<Seconds>,
    pub(super) server: Server,
    pub(super) graph: Graph,
    /// Whether the Secret holds the right PIN.
    pub(super) pin: bool,
    /// By name: whether Graph rejects the resource's token, for ever.
    pub(super) barred: [bool; NAMES.len()],
    pub(super) operators: Vec<Operator>,
    /// The operator that made the last step.
    pub(super) last: usize,
    /// How many claims were decided on so far: the next one's ID.
    pub(super) claims: u8,
    /// The value of the annotation that was set last.
    pub(super) asked: u8,
    pub(super) left: Budget,
    pub(super) history: History,
    /// The promise that was broken on the way here.
    pub(super) broken: Option<String>,
}

/// What may still happen beside the operators' own steps.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub(super) struct Budget {
    /// Steps that one operator makes while another one is in the middle of a pass.
    pub(super) switches: u8,
    /// All of the following together, but for the time.
    pub(super) faults: u8,
    /// Passes that nothing asked for.
    pub(super) passes: u8,
    /// Processes that end and start again.
    pub(super) crashes: u8,
    /// Writes to the API server that are not answered, and reads that fail.
    pub(super) lost: u8,
    /// Calls that are not simply answered.
    pub(super) calls: u8,
    /// Reads of the number that show what was, or fail.
    pub(super) reads: u8,
    /// Steps of time while there is something to do.
    pub(super) ticks: u8,
    /// Steps of 72 hours.
    pub(super) long_ticks: u8,
    /// New generations that change nothing in a call.
    pub(super) edits: u8,
    /// New values of the annotation.
    pub(super) requests: u8,
    /// Changes of the PIN in the Secret.
    pub(super) pins: u8,
    pub(super) deletions: u8,
    /// Deletions that a foreign finalizer holds up.
    pub(super) terminations: u8,
    pub(super) creations: u8,
    /// Changes of `suspend`.
    pub(super) suspensions: u8,
    /// Tokens that Graph rejects from then on.
    pub(super) bars: u8,
    /// Watch events that come again.
    pub(super) replays: u8,
    /// Registrations by somebody else.
    pub(super) elsewhere: u8,
    /// Registrations that are lost.
    pub(super) losses: u8,
    /// Reads of a registered number that say that it is not.
    pub(super) lies: u8,
    /// Changes of `deletionPolicy`.
    pub(super) releases: u8,
    /// Observations of a number with which all is well: time passes for them.
    pub(super) observations: u8,
}

impl State {
    pub(super) fn now(&self) -> Seconds {
        self.clock.0
    }

    pub(super) fn moment(&self) -> Moment {
        Moment(self.now())
    }

    /// The hash of a part of the state, at its time.
    pub(super) fn print(&self, part: &impl Hash) -> u64 {
        NOW.set(self.now());
        let mut hasher = DefaultHasher::new();
        part.hash(&mut hasher);
        hasher.finish()
    }
}

impl Budget {
    /// All that can happen to a number that is to be registered, so many times each.
    pub(super) const fn each(times: u8) -> Self {
        Self {
            switches: times,
            faults: times,
            passes: times,
            crashes: times,
            lost: times,
            calls: times,
            reads: times,
            ticks: times,
            long_ticks: times,
            edits: times,
            requests: times,
            pins: times,
            deletions: times,
            terminations: times,
            creations: times,
            suspensions: times,
            bars: times,
            replays: times,
            elsewhere: times,
            losses: 0,
            lies: 0,
            releases: 0,
            observations: 0,
        }
    }

    /// Whether time may pass while there is something to do: else what one process does for itself is one step.
    pub(super) fn time_may_pass(&self) -> bool {
        self.ticks > 0 || self.long_ticks > 0
    }

    /// Whether one more of a kind is left.
    pub(super) fn has(&self, kind: u8) -> bool {
        self.faults > 0 && kind > 0
    }
}

// --- the API server ---

#[derive(Clone, Default, Hash)]
pub(super) struct Server {
    /// The resources, by the place of their name.
    pub(super) objects: [Option<Stored>; NAMES.len()],
    /// What they were before the last write.
    pub(super) before: [Option<Stored>; NAMES.len()],
    /// The last versions of deleted resources: what the watches' delete events carry.
    pub(super) gone: Vec<(usize, Stored)>,
    pub(super) uids: u8,
    /// When the newest resource was created; of each one, whether that was in the second of the one before.
    pub(super) created: Silent<Seconds>,
    pub(super) ties: Vec<bool>,
    /// A write of a claim that was not answered, and is not done yet.
    pub(super) late: Option<(usize, Stored, Print<WhatsAppPhoneNumberStatus>)>,
}

/// A version of a resource.
#[derive(Clone)]
pub(super) struct Stored(Rc<Version>);

struct Version {
    resource: Arc<WhatsAppPhoneNumber>,
    uid: u8,
    version: u32,
    /// The hash of all but the times.
    hash: u64,
    /// The times that decisions look at.
    times: Vec<i64>,
}

impl Stored {
    pub(super) fn new(mut resource: WhatsAppPhoneNumber, uid: u8, version: u32) -> Self {
        resource.metadata.uid = Some(uid.to_string());
        resource.metadata.resource_version = Some(version.to_string());
        let mut hasher = DefaultHasher::new();
        let metadata = &resource.metadata;
        (uid, version, metadata.generation, &metadata.annotations).hash(&mut hasher);
        let deleted = metadata.deletion_timestamp.as_ref();
        let deregisters = resource.spec.deletion_policy == DeletionPolicy::Deregister;
        (resource.spec.suspend, deregisters, deleted.is_some()).hash(&mut hasher);
        metadata.finalizers.hash(&mut hasher);
        let status = resource.status.as_ref().expect("the CRD defaults it");
        let mut times = hash_status(status, &mut hasher);
        // Another one counts as able to call for its first minute.
        let unseen = status.observed_generation < 0;
        let created = metadata.creation_timestamp.as_ref();
        times.extend(created.filter(|_| unseen).map(second));
        times.extend(deleted.filter(|_| resource.has_finalizer()).map(second));
        Self(Rc::new(Version {
            resource: Arc::new(resource),
            uid,
            version,
            hash: hasher.finish(),
            times,
        }))
    }

    pub(super) fn shared(&self) -> Arc<WhatsAppPhoneNumber> {
        Arc::clone(&self.0.resource)
    }

    pub(super) fn resource(&self) -> &WhatsAppPhoneNumber {
        &self.0.resource
    }

    pub(super) fn status(&self) -> &WhatsAppPhoneNumberStatus {
        let status = self.0.resource.status.as_ref();
        status.expect("the CRD defaults it")
    }

    pub(super) fn attempts(&self) -> &[LedgerEntry] {
        self.0.resource.attempts()
    }

    /// Whether it is being deleted.
    pub(super) fn leaves(&self) -> bool {
        self.0.resource.metadata.deletion_timestamp.is_some()
    }

    pub(super) fn uid(&self) -> u8 {
        self.0.uid
    }

    pub(super) fn version(&self) -> u32 {
        self.0.version
    }
}

impl Hash for Stored {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash.hash(state);
        self.0
            .times
            .iter()
            .for_each(|time| hash_second(*time, state));
    }
}

// --- Graph ---

#[derive(Clone, Hash, Default)]
pub(super) struct Graph {
    /// Since when the number is registered.
    pub(super) since: Option<Moment>,
    /// Since when it no longer is.
    pub(super) gone: Option<Moment>,
    /// The claim whose call did the last of that; none, where it was somebody else.
    pub(super) by: Option<String>,
    /// A call whose process is gone, and that may yet arrive.
    pub(super) flying: Option<(Box<Run>, Moment)>,
}

// --- an operator ---

#[derive(Clone, Hash, Default)]
pub(super) struct Operator {
    /// What its watch has brought.
    pub(super) cache: [Option<Stored>; NAMES.len()],
    /// How many deletions its watch has brought.
    pub(super) noticed: usize,
    pub(super) memory: Memory,
    pub(super) step: Step,
    /// Whether an event asks for a pass.
    pub(super) pending: [bool; NAMES.len()],
    /// When it looks at a resource again by itself.
    pub(super) wakes: [Option<Moment>; NAMES.len()],
}

/// What the operator's `Memory` keeps.
#[derive(Clone, Hash, Default)]
pub(super) struct Memory {
    pub(super) calls: Print<Vec<KnownCall>>,
    /// By UID: when its number is observed next.
    pub(super) plans: BTreeMap<u8, Print<Plan>>,
    /// By UID: the open claim, and since when it was seen.
    pub(super) open_claims: BTreeMap<u8, (String, Moment)>,
    pub(super) unsent: BTreeSet<String>,
    pub(super) reads: BTreeMap<u8, Moment>,
    pub(super) written: BTreeMap<u8, u32>,
}

/// Where a process stands: between any two of these, anything may happen.
#[derive(Clone, Hash, Default)]
pub(super) enum Step {
    #[default]
    Idle,
    /// A round has ended in a claim; the next one goes on from the version that it left.
    Again(Box<Run>),
    /// The Secrets and the number were read.
    Looked(Box<Run>),
    /// The finalizer is to be set or taken off.
    Finalizing(Box<Run>),
    /// The other resources of the number are to be listed.
    Listing(Box<Run>),
    /// The claim is decided on and not written.
    Claiming(Box<Run>),
    /// The claim's write was not answered with success.
    Doubting(Box<Run>),
    /// The claim is held.
    Held(Box<Run>),
    /// Nothing speaks against the call, as of then. Nothing may come between this and the call.
    Checked(Box<Run>, Moment),
    /// The call has an outcome, which is to be recorded.
    Recording(Box<Run>),
}

/// A machine, and what it was told: two that were told the same are the same.
#[derive(Clone)]
pub(super) struct Run {
    pub(super) name: usize,
    pub(super) machine: Machine,
    /// Whether it is in the round after a claim.
    pub(super) second: bool,
    /// The version that is decided on.
    pub(super) view: Stored,
    /// What was known at the beginning of the round.
    pub(super) found: Option<(Peers, OpenClaim)>,
    pub(super) pin: Option<bool>,
    pub(super) reading: Option<(Moment, Look)>,
    /// The status with the claim.
    pub(super) claim: Option<Print<WhatsAppPhoneNumberStatus>>,
    /// When the claim's clock was started.
    pub(super) started: Moment,
    /// The version with the claim in it.
    pub(super) held: Option<Stored>,
    pub(super) outcome: Option<Outcome>,
    /// The newest version that the machine was shown, where that is not the one decided on.
    pub(super) newest: Option<Stored>,
    pub(super) next: Next,
}

/// What a process does next; what that is follows from all else.
#[derive(Clone)]
pub(super) enum Next {
    Nothing,
    Perform(Effect),
    Hear(Input),
}

/// What a read of the number brought.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) enum Look {
    Registered,
    NotRegistered,
    Failed,
    /// The token is rejected.
    Refused,
}

impl Run {
    pub(super) fn new(name: usize, cached: Stored) -> Self {
        Self {
            name,
            machine: Machine::new(cached.shared()),
            second: false,
            view: cached,
            found: None,
            pin: None,
            reading: None,
            claim: None,
            started: Moment(0),
            held: None,
            outcome: None,
            newest: None,
            next: Next::Nothing,
        }
    }

    /// The round after a claim.
    pub(super) fn again(self) -> Box<Self> {
        let view = self.newest.unwrap_or(self.view);
        Box::new(Self {
            second: true,
            machine: self.machine,
            ..Self::new(self.name, view)
        })
    }

    /// The claim in the ledger.
    pub(super) fn entry(&self) -> &LedgerEntry {
        let claim = self.claim.as_ref().expect("there is a claim");
        &claim.0.attempts[0]
    }

    pub(super) fn is_requested(&self) -> bool {
        self.entry().request.is_some()
    }

    pub(super) fn operation(&self) -> Operation {
        self.entry().operation
    }

    pub(super) fn uid(&self) -> u8 {
        self.view.uid()
    }
}

/// What a process learns of its call.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    Success,
    PinMismatch,
    /// 500, of a kind that passes.
    Fault,
    /// 200 without success.
    Rejected,
    /// 400: Graph says the same of a number that is not registered and of one that it keeps.
    Refused,
    NoAnswer,
    Unreachable,
    NotSent,
}

impl Hash for Run {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.name, self.second, &self.view, self.pin, self.reading).hash(state);
        if let Some((peers, open_claim)) = &self.found {
            (&peers.owner, peers.owner_is_unseen).hash(state);
            hash_all(hash_attempts(&peers.attempts, state), state);
            match open_claim {
                OpenClaim::SeenFor(time) => Some(time).hash(state),
                OpenClaim::Unsent => None::<u8>.hash(state),
            }
        }
        (&self.held, self.outcome, &self.newest).hash(state);
        if let Some(claim) = &self.claim {
            self.started.hash(state);
            claim.hash(state);
        }
    }
}

// --- what happened: for the promises only ---

#[derive(Clone, Hash, Default)]
pub(super) struct History {
    /// The calls that reached Graph.
    pub(super) calls: Vec<Called>,
    /// By UID: when its registration was found lost, the last two times.
    pub(super) losses: BTreeMap<u8, [Option<Moment>; 2]>,
    /// How many reads have lied.
    pub(super) lies: u8,
    /// By UID: the digest of the inputs with which Graph's verdict stalled the resource.
    pub(super) stalled: BTreeMap<u8, String>,
    /// The UIDs of deleted resources whose ledgers a process may have forgotten by a restart.
    pub(super) forgotten: BTreeSet<u8>,
    /// The UIDs of resources called for by a process whose watch had not brought the other one yet. Protocol, "Several resources of one number" lists
    /// the others only "where the cache shows another resource of the number".
    pub(super) unseen: BTreeSet<u8>,
}

/// A call that reached Graph.
#[derive(Clone, Hash)]
pub(super) struct Called {
    pub(super) id: String,
    /// Whether it is a register call, not a deregister call.
    pub(super) registers: bool,
    pub(super) name: usize,
    pub(super) uid: u8,
    pub(super) at: Moment,
    pub(super) outcome: Outcome,
    pub(super) request: Option<String>,
    /// Its process was paused between check and call for longer than claim and window last: the protocol's "The claim", 4.
    pub(super) late: bool,
    /// It was under way for so long that the read at the end of the window may not show it: Graph lags.
    pub(super) shows_late: bool,
    /// It came after its claim may have counted as abandoned, so that what follows from the ledger ends earlier than it should.
    pub(super) outlived: bool,
}

// --- hashing what comes from outside ---

/// A value with the hash of what matters in it.
#[derive(Clone, Default)]
pub(super) struct Print<T>(pub(super) T);

impl Hash for Print<Vec<KnownCall>> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let entries: Vec<_> = self.0.iter().map(|call| call.entry.clone()).collect();
        hash_all(hash_attempts(&entries, state), state);
        for call in &self.0 {
            (&call.resource, &call.uid).hash(state);
        }
    }
}

impl Hash for Print<Plan> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.failures.hash(state);
        hash_second(self.0.at.as_second() - START, state);
    }
}

impl Hash for Print<WhatsAppPhoneNumberStatus> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_all(hash_status(&self.0, state), state);
    }
}

/// All that a decision can depend on: messages, trace IDs and what Graph says of the number are for people. Returns the
/// times.
fn hash_status<H: Hasher>(status: &WhatsAppPhoneNumberStatus, state: &mut H) -> Vec<i64> {
    status.observed_generation.hash(state);
    for condition in &status.conditions {
        (&condition.type_, &condition.status, &condition.reason).hash(state);
    }
    status.registration_time.is_some().hash(state);
    let mut times = hash_attempts(&status.attempts, state);
    status.next_attempt_time.is_some().hash(state);
    times.extend(status.next_attempt_time.as_ref().map(second));
    let wait = status.wait.as_ref();
    let reads = (status.read_failures, status.unclear_reads);
    (wait.map(|w| (w.reason, w.confirming)), reads).hash(state);
    times.extend(wait.map(|w| second(&w.until)));
    let stall = status.stall.as_ref();
    let stalled = stall.map(|s| (s.reason, s.token_changed, &s.request));
    (stalled, status.verdict).hash(state);
    let hold = status.hold.as_ref();
    hold.map(|h| (h.reason, h.until.is_some())).hash(state);
    times.extend(hold.and_then(|h| h.until.as_ref()).map(second));
    status.registration.is_some().hash(state);
    let loss = status.loss.as_ref();
    loss.map(|loss| (loss.reason, loss.repeated, loss.recovering))
        .hash(state);
    let losses = [&status.loss_suspected_time, &status.last_loss_time];
    losses.map(Option::is_some).hash(state);
    times.extend(losses.into_iter().flatten().map(second));
    let observation = status.observation.as_ref();
    let fault = observation.map(|observation| observation.fault.as_ref());
    let fault = fault.map(|fault| fault.map(|fault| (fault.reason, &fault.token_digest)));
    (fault, status.may_be_registered).hash(state);
    (&status.token_digest, &status.pin_digest).hash(state);
    status.last_handled_register_request.hash(state);
    times
}

fn hash_attempts<H: Hasher>(attempts: &[LedgerEntry], state: &mut H) -> Vec<i64> {
    let mut times = Vec::new();
    attempts.len().hash(state);
    for attempt in attempts {
        let kind = (attempt.operation.registers(), attempt.earlier);
        (&attempt.id, kind, attempt.is_open()).hash(state);
        let end = attempt.end.as_ref();
        end.map(|end| (&end.reason, end.http_status)).hash(state);
        attempt.count.hash(state);
        end.map(|end| end.outcome as u8).hash(state);
        attempt.request.hash(state);
        times.push(second(&attempt.start_time));
        times.extend(end.map(|end| second(&end.time)));
    }
    times
}

fn hash_all<H: Hasher>(times: Vec<i64>, state: &mut H) {
    times.into_iter().for_each(|time| hash_second(time, state));
}

/// Since the beginning.
fn second(time: &Time) -> i64 {
    time.0.as_second() - START
}
