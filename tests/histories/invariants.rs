//! What must hold whatever happens: I1 to I6, each as one function. A [`Witness`] stands beside the model, sees what
//! really happens at Graph and at the API server, and asks them at every call and every write. It keeps its own books,
//! so that nothing here is true only because the operator believes it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use kube::ResourceExt as _;

use super::model::{Cluster, Inputs, Name, all_secrets, name_of};
use operator_core::api::conditions;
use operator_core::api::conditions::{is_registered, is_true, reason_of};
use operator_core::api::{DeletionPolicy, Disposition, LossPolicy, Reason};
use operator_core::api::{LedgerEntry, WhatsAppPhoneNumber};
use operator_core::graph::{RegisterOutcome, RegistrationState};
use operator_core::model::schedule::{AFTER_DEREGISTRATION, META_LIMIT, META_WINDOW};
use testkit::world::{WINDOW, policy};

/// A register call at the moment in which it arrives at Graph.
pub(crate) struct Sending<'a> {
    /// The ID of its claim.
    pub(crate) id: &'a str,
    /// What it is made of.
    pub(crate) inputs: Inputs,
    /// Which start of which process sends it.
    pub(crate) incarnation: u32,
    /// When, by a clock that nobody sets.
    pub(crate) at: Duration,
    /// The annotation's value that asked for it.
    pub(crate) request: Option<&'a str>,
    /// The version of the resource that it was decided on.
    pub(crate) decided_on: &'a WhatsAppPhoneNumber,
    /// When the pass that decided it has read the number, and what that said.
    pub(crate) reading: Option<(Duration, RegistrationState)>,
    /// Since when the number was registered before this call.
    pub(crate) registered: Option<Duration>,
    /// Whether Graph answers it with a rate limit.
    pub(crate) rate_limited: bool,
}

/// A register call that has arrived.
struct Post {
    id: String,
    uid: String,
    at: Duration,
    /// Whether its outcome is not known, or not for certain.
    unclear: bool,
}

/// A deregister call that has arrived.
struct Deregister {
    id: String,
    at: Duration,
}

/// What an outsider has seen.
#[derive(Default)]
pub(crate) struct Witness {
    /// Whether the time of day could be trusted so far.
    pub(crate) sound_clock: bool,
    /// Whether the history began with a status that no operator writes.
    pub(crate) odd: bool,
    /// How often a status was stored.
    pub(crate) writes: usize,
    posts: Vec<Post>,
    deregisters: Vec<Deregister>,
    /// Which start of a process decided on a claim.
    claims: HashMap<String, u32>,
    /// The claims that a start of a process has seen in any resource of the number.
    seen: HashMap<u32, HashSet<String>>,
    /// Why a resource is not to be called for, and the inputs that this was found for.
    verdicts: HashMap<String, (Reason, Inputs)>,
    /// How many calls that may have acted were made for a value of the annotation.
    spent: HashMap<(String, String), u32>,
}

/// I1: no POST when the number is known to be registered.
///
/// Protocol, "Reading the number": "Every POST is preceded by such a read in the same pass (look before you leap)", and "after an unclear outcome, and after any 5xx, no further POST leaves before `--confirm-window` has
/// passed since the last one and a read after it still does not say registered". "What makes it try again": "After Registered: only the
/// annotation."
///
/// The truth counts, not what was read: no POST follows an own one that acted. Two allowances: "Unknown counts as not
/// registered, on budget" ("Reading the number"), and what others register shows after the status's lag only.
fn i1_no_call_for_a_registered_number(witness: &Witness, sending: &Sending<'_>) {
    let read = sending.reading.map(|(_, verdict)| verdict);
    let asked = sending.request.is_some();
    let status = sending.decided_on.status.as_ref();
    let registered = status.is_some_and(is_registered);
    let lost = status.and_then(|status| status.loss.as_ref());
    let recovers = sending.decided_on.spec.loss_policy == LossPolicy::Register;
    assert!(
        asked || lost.is_none_or(|loss| recovers && !loss.repeated),
        "I7: a call for a lost number that nobody asked for"
    );
    assert!(
        read != Some(RegistrationState::Registered) || asked && registered,
        "I1: Graph has just said that it is registered"
    );
    assert!(asked || !registered, "I1: the status says Registered");
    assert!(read.is_some(), "I1: a call without a look");
    if !witness.sound_clock {
        return; // The confirm window is measured by the time of day.
    }
    for post in witness
        .posts
        .iter()
        .filter(|post| witness.knows(sending, post))
    {
        let acted = sending.registered == Some(post.at);
        let excused = asked || read == Some(RegistrationState::Unclear(None));
        assert!(
            !acted || excused,
            "I1: {} has registered the number, and {} is sent",
            post.id,
            sending.id
        );
        let own = post.uid == sending.uid();
        let looked = sending.reading.map_or(sending.at, |(at, _)| at);
        let in_window = looked < post.at + WINDOW;
        assert!(
            !(own && post.unclear && in_window),
            "I1: {} is not settled, and {} is sent",
            post.id,
            sending.id
        );
    }
}

/// I2: one claim, one POST.
///
/// Protocol, "The claim": "A claim leads to at most one POST, by the process that wrote it"; "a claim found open without its process
/// is left alone". "What makes it try again": "One process never has two calls for one number at a time, and for `--confirm-window` after a POST
/// no other resource of that number POSTs, even if the first was deleted". 2: "one value gives at most one POST that may
/// have acted".
fn i2_one_claim_one_call(witness: &Witness, sending: &Sending<'_>, cluster: &Cluster) {
    let again = witness.posts.iter().any(|post| post.id == sending.id);
    assert!(!again, "I2: two calls for {}", sending.id);
    let writer = witness.claims.get(sending.id);
    assert_eq!(
        writer,
        Some(&sending.incarnation),
        "I2: {} is not this process's claim",
        sending.id
    );
    if let Some(newest) = cluster.same(sending.decided_on) {
        let open: Vec<_> = newest
            .attempts()
            .iter()
            .filter(|a| a.is_open())
            .map(|a| &a.id)
            .collect();
        assert_eq!(open, [sending.id], "I2: the open claims at the call");
    }
    if let Some(value) = sending.request {
        let spent = witness.spent.get(&(sending.uid(), value.to_owned()));
        assert!(
            spent.is_none_or(|spent| *spent == 0),
            "I2: two calls for the annotation's {value}"
        );
    }
    if !witness.sound_clock {
        return;
    }
    let seen = witness.seen.get(&sending.incarnation);
    for call in &witness.deregisters {
        let known = seen.is_some_and(|seen| seen.contains(&call.id));
        let moments_ago = sending.at < call.at + AFTER_DEREGISTRATION;
        assert!(
            !(known && moments_ago),
            "I2: {} was taken off moments before {}",
            call.id,
            sending.id
        );
    }
    for post in witness
        .posts
        .iter()
        .filter(|post| witness.knows(sending, post))
    {
        let other = post.uid != sending.uid() && sending.at < post.at + WINDOW;
        assert!(
            !other,
            "I2: {} was sent for another resource moments before {}",
            post.id, sending.id
        );
    }
}

/// I1': no deregister for a number that another resource names. I2 and I3 for deregister calls. I7: none that nobody asked for.
fn deregisters_are_asked_for(
    witness: &Witness,
    (id, incarnation, at): (&str, u32, Duration),
    decided_on: &WhatsAppPhoneNumber,
    cluster: &Cluster,
) {
    let mut others = super::model::NAMES
        .iter()
        .filter_map(|name| cluster.newest(name));
    let declared = others.any(|other| {
        other.uid() != decided_on.uid() && other.metadata.deletion_timestamp.is_none()
    });
    assert!(!declared, "I1': another resource names the number");
    let wanted = decided_on.spec.deletion_policy == DeletionPolicy::Deregister;
    let deleted = decided_on.metadata.deletion_timestamp.is_some();
    assert!(
        wanted && deleted && decided_on.has_finalizer() && !decided_on.spec.suspend,
        "I7: nobody asked for it: {decided_on:#?}"
    );
    assert!(
        witness.deregisters.iter().all(|known| known.id != id),
        "I2: two calls for {id}"
    );
    assert_eq!(
        witness.claims.get(id),
        Some(&incarnation),
        "I2: {id} is not this process's"
    );
    if let Some(newest) = cluster.same(decided_on) {
        let open = newest.attempts().iter().filter(|attempt| attempt.is_open());
        let open: Vec<_> = open.map(|attempt| attempt.id.as_str()).collect();
        assert_eq!(open, [id], "I2: the open claims at the call");
    }
    if witness.sound_clock {
        let seen = witness.seen.get(&incarnation);
        let known = |id: &String| seen.is_some_and(|seen| seen.contains(id));
        let recent = witness
            .deregisters
            .iter()
            .filter(|call| call.at + META_WINDOW > at && known(&call.id));
        assert!(
            recent.count() < META_LIMIT,
            "I3: an eleventh deregister call"
        );
    }
}

/// I3: the budget.
///
/// Protocol, "Schedule and budget": "No more than `--attempt-limit` automatic attempts per **number** in 72 h: open claims count; the ledger of
/// a number is that of all visible resources with its ID plus what the process remembers of deleted ones (wiped status or
/// a restart after deletion loses it: documented limit)", and with the annotation "never an 11th POST in 72 h".
fn i3_budget(witness: &Witness, sending: &Sending<'_>) {
    if !witness.sound_clock {
        return; // 72 hours are measured by the time of day.
    }
    let recent = |post: &&Post| post.at + META_WINDOW > sending.at && witness.knows(sending, post);
    let made = witness.posts.iter().filter(recent).count();
    let limit = match sending.request {
        Some(_) => META_LIMIT,
        None => policy().attempt_limit,
    };
    assert!(
        made < limit,
        "I3: {made} calls in 72 h before {}",
        sending.id
    );
}

/// I4: stalled stays stalled until the input changes.
///
/// Protocol, "What makes it try again": "After Stalled: a change of what a call is made of, or the annotation; any other new generation, or a
/// Secret touched without a change, costs nothing. Compared are `tokenDigest`, `pinDigest` and `inputsDigest`, all written with the
/// claim, or with the stall if a read caused it", so inputs that went and came back between two of these have not
/// changed, and inputs that came back after one have. "Under a new token […] `PinMismatch` and `PinLocked` are then not
/// retried, the new digests become the baseline".
fn i4_stalled_stays_stalled(witness: &Witness, sending: &Sending<'_>) {
    if sending.request.is_some() {
        return;
    }
    // Where the claim was for other inputs, its write has taken the verdict away.
    if let Some((reason, refused)) = witness.verdicts.get(&sending.uid()) {
        let changed = lifts(*reason, *refused, sending.inputs);
        assert!(
            changed,
            "I4: {:?} is tried again after {reason}",
            sending.inputs
        );
    }
}

/// I5: everything settles when the faults stop.
///
/// Protocol, "Conditions": "`Reconciling`: working, or waiting to try again", "`Stalled`: will not try again until something changes",
/// and "no status write when nothing but time would change". So each resource ends as registered, or as stalled for a
/// reason, within so many passes and writes; it is no longer on its way then.
pub(crate) fn i5_settles(resource: &WhatsAppPhoneNumber, passes: usize, writes: usize) {
    let status = resource.status.as_ref().expect("a status");
    assert!(
        resource.metadata.deletion_timestamp.is_none(),
        "I5: it is still there: {resource:#?}"
    );
    let stalled =
        is_true(status, conditions::STALLED) && reason_of(status, conditions::STALLED).is_some();
    assert!(
        is_registered(status) || stalled,
        "I5: not settled: {status:#?}"
    );
    assert!(
        status.next_attempt_time.is_none(),
        "I5: settled and waiting: {status:#?}"
    );
    assert!(
        passes < 300 && writes < 100,
        "I5: {passes} passes and {writes} writes until it settled"
    );
}

/// I6: secrets stay inside.
///
/// Protocol, "Secrets": "Token, PIN and backup are […] never in a log, event, status, metric, panic or `Debug`. Graph can echo the
/// token: every text from Graph is scrubbed of the secrets at hand".
fn i6_secrets_stay_inside(stored: &WhatsAppPhoneNumber) {
    let text = serde_json::to_string(&stored.status).expect("a status is JSON");
    for secret in all_secrets() {
        assert!(!text.contains(secret), "I6: {secret} in {text}");
    }
}

/// Whether a change of inputs takes a verdict away.
fn lifts(reason: Reason, from: Inputs, to: Inputs) -> bool {
    match reason {
        Reason::PinMismatch | Reason::PinLocked => from.token == to.token && from.pin != to.pin,
        Reason::BusinessAppNumber => false,
        _ => from != to,
    }
}

/// Whether a stall is one that only Graph can have given.
fn from_graph(reason: Reason) -> bool {
    let local = [
        Reason::DuplicatePhoneNumber,
        Reason::InvalidToken,
        Reason::InvalidPin,
        Reason::InvalidBackup,
        // Where the process that claimed the call turns up and made none, there was nothing to be unknown.
        Reason::OutcomeUnknown,
    ];
    !local.contains(&reason)
}

impl Sending<'_> {
    fn uid(&self) -> String {
        self.decided_on.uid().unwrap_or_default()
    }
}

impl Witness {
    pub(crate) fn new(sound_clock: bool) -> Self {
        Self {
            sound_clock,
            ..Self::default()
        }
    }

    /// A process has seen a version of a resource, with the claims in it.
    pub(crate) fn seen(&mut self, incarnation: u32, resource: &WhatsAppPhoneNumber) {
        let ids = resource.attempts().iter().map(|attempt| attempt.id.clone());
        self.seen.entry(incarnation).or_default().extend(ids);
    }

    /// A process has decided on a claim.
    pub(crate) fn claims(&mut self, incarnation: u32, id: &str) {
        self.claims.insert(id.to_owned(), incarnation);
        self.seen
            .entry(incarnation)
            .or_default()
            .insert(id.to_owned());
    }

    /// A call arrives at Graph.
    pub(crate) fn posts(
        &mut self,
        sending: &Sending<'_>,
        cluster: &Cluster,
        view: &BTreeMap<Name, WhatsAppPhoneNumber>,
    ) {
        // Where the process knows of another resource, it has listed the others between claim and call ("What makes it try again").
        let others = view
            .keys()
            .filter(|name| **name != name_of(sending.decided_on));
        if others.count() > 0 {
            for other in super::model::NAMES
                .iter()
                .filter_map(|name| cluster.newest(name))
            {
                self.seen(sending.incarnation, other);
            }
        }
        i1_no_call_for_a_registered_number(self, sending);
        i2_one_claim_one_call(self, sending, cluster);
        i3_budget(self, sending);
        i4_stalled_stays_stalled(self, sending);
        self.posts.push(Post {
            id: sending.id.to_owned(),
            uid: sending.uid(),
            at: sending.at,
            unclear: true,
        });
        if let Some(value) = sending.request.filter(|_| !sending.rate_limited) {
            *self
                .spent
                .entry((sending.uid(), value.to_owned()))
                .or_default() += 1;
        }
    }

    /// A deregister call arrives at Graph.
    pub(crate) fn deregisters(
        &mut self,
        claimed: (&str, u32, Duration),
        decided_on: &WhatsAppPhoneNumber,
        cluster: &Cluster,
    ) {
        deregisters_are_asked_for(self, claimed, decided_on, cluster);
        let (id, _, at) = claimed;
        self.deregisters.push(Deregister {
            id: id.to_owned(),
            at,
        });
    }

    /// A process has recorded the outcome of its call.
    pub(crate) fn records(
        &mut self,
        id: &str,
        after: &WhatsAppPhoneNumber,
        outcome: &RegisterOutcome,
        inputs: Inputs,
    ) {
        let entry = after.attempts().iter().find(|attempt| attempt.id == id);
        let clear = entry.is_some_and(|attempt| !attempt.is_unclear());
        for post in self.posts.iter_mut().filter(|post| post.id == id) {
            post.unclear &= !clear;
        }
        let newest = after
            .attempts()
            .first()
            .is_some_and(|attempt| attempt.id == id);
        if newest && outcome.reason.disposition() == Disposition::ConfirmThenStall {
            // An answer without success is a verdict as well, though a read may turn it over: the one before gives way.
            self.verdicts.remove(&after.uid().unwrap_or_default());
        }
        // 422 may mean "registered already": a read comes before the verdict (`InvalidRequest`).
        let verdict =
            outcome.reason.disposition() == Disposition::Stall && outcome.http_status != Some(422);
        if verdict && newest && !after.status.as_ref().is_some_and(is_registered) {
            self.verdicts
                .insert(after.uid().unwrap_or_default(), (outcome.reason, inputs));
        }
    }

    /// A status is stored: the verdict and the inputs that it was found for are those of the last claim, or of the read
    /// that stalled the resource.
    pub(crate) fn stores(&mut self, stored: &WhatsAppPhoneNumber) {
        self.writes += 1;
        i6_secrets_stay_inside(stored);
        let (Some(status), uid) = (&stored.status, stored.uid().unwrap_or_default()) else {
            return;
        };
        if is_registered(status) || status.loss.is_some() || self.odd {
            // A read has confirmed what was unclear, or an answer has said so.
            let own = self.posts.iter_mut().filter(|post| post.uid == uid);
            own.for_each(|post| post.unclear = false);
            self.verdicts.remove(&uid);
            return;
        }
        let Some(inputs) = Inputs::of(status) else {
            return;
        };
        let stalled = reason_of(status, conditions::STALLED).filter(|reason| from_graph(*reason));
        let claimed = stored.attempts().first().is_some_and(LedgerEntry::is_open);
        let earlier = self.verdicts.remove(&uid);
        let kept = earlier.and_then(|(reason, refused)| match lifts(reason, refused, inputs) {
            true if stalled.is_some() || claimed => None,
            true => Some((reason, refused)),
            false => Some((reason, inputs)),
        });
        let found = stalled
            .filter(|_| status.last_error.is_some())
            .map(|reason| {
                // A verdict outlasts what a requested call met in passing, and gives way to another verdict.
                let newest = status.verdict == Some(reason);
                let first = kept.map(|(first, _)| first).filter(|_| !newest);
                (first.unwrap_or(reason), inputs)
            });
        if let Some(verdict) = found.or(kept) {
            self.verdicts.insert(uid, verdict);
        }
    }

    /// Whether the process that sends can know of an earlier call: it was made for the same resource, or stood in a
    /// resource that the process has seen.
    fn knows(&self, sending: &Sending<'_>, post: &Post) -> bool {
        let seen = self.seen.get(&sending.incarnation);
        post.uid == sending.uid() || seen.is_some_and(|seen| seen.contains(&post.id))
    }
}
