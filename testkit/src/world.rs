//! A small world around the pure core: one resource, its Secrets, a Graph that answers as told, and a clock that only
//! moves when it is told to. It drives the real machine, one round of decisions at a time.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use operator_core::api::Operation;
use operator_core::api::Reason;
use operator_core::api::conditions;
use operator_core::api::conditions::{find, is_true, reason_of};
use operator_core::api::{
    AttemptEnd, AttemptOutcome, DEREGISTER_FINALIZER, GraphErrorStatus, LedgerEntry,
    PhoneNumberStatus, REGISTER_REQUESTED_AT, WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus,
};
use operator_core::credentials::Digests;
use operator_core::credentials::SecretFault;
use operator_core::graph::{ReadFields, ReadOutcome, RegisterOutcome, RegistrationState, classify};
use operator_core::model::machine::{
    Effect, Input, Machine, Note, PatchFault, Process, Purpose, Unavailable, WriteFault,
};
use operator_core::model::observe::Plan;
use operator_core::model::schedule::{Backoff, plus};
use operator_core::model::{ApplyContext, CallResult, apply_outcome};
use operator_core::model::{
    Cooldown, Farewell, Life, OpenClaim, Peers, Policy, RefusedPin, Requeue, Survey,
};

/// When every test begins.
pub const START: i64 = 1_800_000_000;

/// `--confirm-window`, as the default is.
pub const WINDOW: Duration = Duration::from_secs(120);

/// Twice `--graph-timeout`, as the default is.
pub const TTL: Duration = Duration::from_secs(60);

pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub const fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3600)
}

/// What becomes of a claim and its call.
#[derive(Clone, Debug)]
pub enum Fate {
    /// The call is made and its outcome recorded.
    Answered(Box<RegisterOutcome>),
    /// Somebody else wrote in between: the claim is not stored.
    Conflict,
    /// The claim's write was not answered, and landed: this process will not send.
    StoredUnsent,
    /// The process ends after the claim; the call was made or not.
    Crash,
}

/// What a pass did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Secrets,
    Read,
    /// The optional read.
    Details,
    /// The finalizer was set, or taken off.
    Finalizer(bool),
    /// The other resources of the number were listed.
    List,
    Claim,
    Settle(Requeue),
}

pub struct World {
    pub resource: WhatsAppPhoneNumber,
    pub policy: Policy,
    pub peers: Peers,
    pub now: Timestamp,
    /// The time by a clock that nobody sets.
    pub uptime: Duration,
    pub secrets: Result<Digests, SecretFault>,
    pub reading: ReadOutcome,
    /// The answer to a read of the deciding fields only, where that is another one.
    pub short_reading: Option<ReadOutcome>,
    /// The answer to the optional read: whether the number is one of the Business app, and the review of a new name.
    pub details: PhoneNumberStatus,
    /// Whether that read meets a rate limit.
    pub details_limited: bool,
    /// What becomes of the next claims; success where nothing is left.
    pub fates: VecDeque<Fate>,
    pub cool_downs: HashMap<String, Cooldown>,
    /// The status fields that the API server does not know, by their paths.
    pub unknown_fields: Vec<String>,
    /// The fields that the process has seen dropped.
    pub dropped_fields: Option<String>,
    /// Whether the process has tried a status with every field within ten minutes.
    pub definition_tried: bool,
    /// The PINs that Graph refused, as the process remembers them.
    pub refused_pins: Vec<RefusedPin>,
    pub last_read: Option<Timestamp>,
    /// When the process observes the number next.
    pub plan: Option<Plan>,
    /// The tokens whose limit is nearly used up.
    pub busy: HashMap<String, Timestamp>,
    pub jitter: f64,
    /// What becomes of the newest claim.
    fate: Option<Fate>,
    /// The claims whose call was made, with the request each was made for.
    pub posts: Vec<(Timestamp, Option<String>)>,
    /// The deregister calls that were made.
    pub deregisters: Vec<Timestamp>,
    /// What the API server says before a deregister call.
    pub survey: Result<Survey, String>,
    /// Whether the API server refuses to patch the finalizer.
    pub patch_refused: bool,
    /// Whether the process has seen that.
    finalizer_refused: bool,
    /// What became of the number when the resource went.
    pub farewell: Option<Farewell>,
    /// How often the patch that lets the resource go was not answered, and the finalizer was not seen off.
    pub farewells_in_doubt: u32,
    /// How many versions were noted as the newest.
    pub noted: u32,
    /// Whether the resource was found gone or without the finalizer.
    pub departed: bool,
    /// Why statuses were written that are stored although the answer did not say so.
    pub found_stored: Vec<Purpose>,
    /// The claims that were written and not recorded, with the handled value before.
    pub lost: Vec<(String, Option<String>)>,
    /// Whether other resources of the number are known.
    pub known_peers: bool,
    /// Whether the known version of the resource may be outdated.
    pub stale: bool,
    /// Whether every open claim has been seen for long enough to count as abandoned.
    pub claims_are_old: bool,
    seen: Option<(String, Duration)>,
    unsent: BTreeSet<String>,
    /// How many claims were written: the next one's ID.
    pub claims: u32,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// A resource that nobody has seen, with sound Secrets, and a number that is not registered.
    pub fn new() -> Self {
        let mut resource = WhatsAppPhoneNumber::new("berlin", crate::builders::spec());
        resource.metadata.namespace = Some("shop".to_owned());
        resource.metadata.generation = Some(1);
        resource.status = Some(WhatsAppPhoneNumberStatus::unseen());
        Self {
            resource,
            policy: policy(),
            peers: Peers::default(),
            now: Timestamp::from_second(START).unwrap(),
            uptime: Duration::ZERO,
            secrets: Ok(digests("token", "pin")),
            reading: reading(RegistrationState::NotRegistered),
            short_reading: None,
            details_limited: false,
            details: PhoneNumberStatus {
                on_business_app: Some(false),
                ..PhoneNumberStatus::default()
            },
            fates: VecDeque::new(),
            fate: None,
            cool_downs: HashMap::new(),
            refused_pins: Vec::new(),
            unknown_fields: Vec::new(),
            dropped_fields: None,
            definition_tried: false,
            last_read: None,
            plan: None,
            busy: HashMap::new(),
            jitter: 0.0,
            posts: Vec::new(),
            deregisters: Vec::new(),
            survey: Ok(Survey::default()),
            patch_refused: false,
            finalizer_refused: false,
            farewell: None,
            farewells_in_doubt: 0,
            departed: false,
            noted: 0,
            lost: Vec::new(),
            known_peers: false,
            stale: false,
            claims_are_old: false,
            found_stored: Vec::new(),
            seen: None,
            unsent: BTreeSet::new(),
            claims: 0,
        }
    }

    /// A resource whose first call had this outcome, in the pass before.
    pub fn after(outcome: RegisterOutcome) -> Self {
        let mut world = Self::new();
        world.answer(outcome);
        assert!(world.pass().contains(&Step::Claim));
        world
    }

    /// A resource that was registered by its first call.
    pub fn registered() -> Self {
        Self::after(success())
    }

    pub fn answer(&mut self, outcome: RegisterOutcome) {
        self.fates.push_back(Fate::Answered(Box::new(outcome)));
    }

    pub fn fate(&mut self, fate: Fate) {
        self.fates.push_back(fate);
    }

    pub fn wait(&mut self, wait: Duration) {
        self.now = plus(self.now, wait);
        self.uptime += wait;
    }

    pub fn annotate(&mut self, value: &str) {
        let entry = (REGISTER_REQUESTED_AT.to_owned(), value.to_owned());
        self.resource.metadata.annotations = Some([entry].into());
    }

    pub fn remove_annotation(&mut self) {
        self.resource.metadata.annotations = None;
    }

    /// Another process takes over, which knows only what the status says.
    pub fn restart(&mut self) {
        self.last_read = None;
        self.plan = None;
        self.busy.clear();
        self.cool_downs.clear();
        self.refused_pins.clear();
        self.dropped_fields = None;
        self.definition_tried = false;
    }

    /// Takes over a change of the spec, as the API server does.
    pub fn suspend(&mut self, suspend: bool) {
        self.resource.spec.suspend = suspend;
        self.bump();
    }

    pub fn bump(&mut self) {
        let generation = self.resource.metadata.generation.get_or_insert(0);
        *generation += 1;
    }

    /// The token met a rate limit in another call.
    pub fn cool_down(&mut self, token: &str, until: Timestamp) {
        let cooldown = Cooldown { until, in_a_row: 1 };
        self.cool_downs.insert(token.to_owned(), cooldown);
    }

    pub fn lose_secret(&mut self) {
        self.secrets = Err(SecretFault {
            reason: Reason::SecretNotFound,
            message: "the Secret meta does not exist".to_owned(),
        });
    }

    fn answer_to_read(&self, fields: ReadFields) -> ReadOutcome {
        let answer = match (fields, &self.short_reading) {
            (ReadFields::Deciding, Some(answer)) => answer.clone(),
            (ReadFields::Optional, _) if self.details_limited => {
                reading(RegistrationState::Wait(Reason::RateLimited))
            }
            (ReadFields::Optional, _) => ReadOutcome {
                phone_number: Some(self.details.clone()),
                ..reading(RegistrationState::Unclear(None))
            },
            _ => self.reading.clone(),
        };
        ReadOutcome { fields, ..answer }
    }

    /// One round of decisions; returns what it did.
    pub fn pass(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut machine = Machine::new(Arc::new(self.resource.clone()));
        let mut input = Input::Locked;
        loop {
            input = match machine.step(input, self) {
                Effect::LoadSecrets => {
                    steps.push(Step::Secrets);
                    Input::Secrets(Ok(self.secrets.clone()))
                }
                Effect::ReadNumber(fields) => {
                    assert!(steps.contains(&Step::Secrets), "read without a token");
                    steps.push(if fields == ReadFields::Optional {
                        Step::Details
                    } else {
                        Step::Read
                    });
                    Input::Reading(Box::new(self.answer_to_read(fields)))
                }
                Effect::Write {
                    status,
                    purpose: Purpose::Claim,
                    ..
                } => {
                    assert!(steps.contains(&Step::Secrets), "a call without inputs");
                    steps.push(Step::Claim);
                    match self.write_claim(*status) {
                        Some(input) => input,
                        None => break,
                    }
                }
                Effect::ReadBack { .. } => Input::Newest(match self.fate {
                    Some(Fate::Conflict) => Ok(Some(Arc::new(self.resource.clone()))),
                    _ => Err(Unavailable),
                }),
                Effect::ListPeers(_) => {
                    steps.push(Step::List);
                    Input::Peers(self.survey.clone())
                }
                Effect::Finalizer { set, .. } => {
                    steps.push(Step::Finalizer(set));
                    let patched = self.patch_finalizer(set);
                    let leaves = self.resource.metadata.deletion_timestamp.is_some();
                    if leaves && patched.as_ref().is_ok_and(|after| !after.has_finalizer()) {
                        machine.step(Input::Patched(patched), self);
                        return steps;
                    }
                    Input::Patched(patched)
                }
                Effect::Call(Operation::Deregister) => match self.fate.take() {
                    Some(Fate::Answered(outcome)) => {
                        assert!(steps.contains(&Step::Read), "a call without a read");
                        assert!(
                            self.resource.has_finalizer(),
                            "a call without the finalizer"
                        );
                        if !matches!(outcome.reason, Reason::NotSent | Reason::GraphUnreachable) {
                            self.deregisters.push(self.now);
                        }
                        Input::Called(outcome)
                    }
                    fate => panic!("a call after {fate:?}"),
                },
                Effect::Call(Operation::Register) => match self.fate.take() {
                    Some(Fate::Answered(outcome)) => {
                        assert!(steps.contains(&Step::Read), "a call without a read");
                        let needless = self.reading.state == RegistrationState::Registered;
                        assert!(!needless || self.status().registration.is_some());
                        if !matches!(outcome.reason, Reason::NotSent | Reason::GraphUnreachable) {
                            let request = self.last_attempt().request.clone();
                            self.posts.push((self.now, request));
                        }
                        Input::Called(outcome)
                    }
                    fate => panic!("a call after {fate:?}"),
                },
                Effect::Write {
                    status,
                    purpose: Purpose::Try,
                    ..
                } => {
                    let mut tried = self.resource.clone();
                    tried.status = Some(self.kept_of(*status));
                    Input::Written(Ok(Arc::new(tried)))
                }
                Effect::Write { status, .. } => Input::Written(Ok(self.store(*status))),
                Effect::End(Ok(requeue)) => {
                    steps.push(Step::Settle(requeue));
                    self.check();
                    self.check_wake(requeue);
                    return steps;
                }
                // What follows a claim is the next pass.
                Effect::Lock => break,
                Effect::End(Err(_)) if matches!(self.fate, Some(Fate::StoredUnsent)) => break,
                effect => panic!("{effect:?} after {steps:?}"),
            };
        }
        self.check();
        steps
    }

    /// Passes, each when the one before asked for it, until one waits for a change or for longer than this.
    pub fn run_for(&mut self, wait: Duration) -> Vec<Step> {
        let end = plus(self.now, wait);
        let mut all = Vec::new();
        for _ in 0..500 {
            let steps = self.pass();
            let wake = steps.last().copied();
            all.extend(steps);
            let Some(Step::Settle(requeue)) = wake else {
                continue;
            };
            match requeue.wait(self.now) {
                None => return all,
                Some(next) if plus(self.now, next) > end => {
                    self.wait(end.duration_since(self.now).unsigned_abs());
                    return all;
                }
                Some(next) => self.wait(next),
            }
        }
        panic!("500 passes in {wait:?}: {:?}", self.status());
    }

    /// The API server gives the resource a time of deletion, and waits for its finalizers.
    pub fn delete(&mut self) {
        assert!(self.resource.has_finalizer(), "it would be gone");
        self.resource.metadata.deletion_timestamp = Some(Time(self.now));
        self.bump();
    }

    /// Somebody else sets the finalizer.
    pub fn patch_finalizer_by_hand(&mut self) {
        self.resource.metadata.finalizers = Some(vec![DEREGISTER_FINALIZER.to_owned()]);
    }

    pub(crate) fn patch_finalizer(
        &mut self,
        set: bool,
    ) -> Result<Arc<WhatsAppPhoneNumber>, PatchFault> {
        if self.patch_refused {
            return Err(PatchFault::Refused);
        }
        let finalizers = set.then(|| vec![DEREGISTER_FINALIZER.to_owned()]);
        self.resource.metadata.finalizers = finalizers;
        Ok(Arc::new(self.resource.clone()))
    }

    fn store(&mut self, status: WhatsAppPhoneNumberStatus) -> Arc<WhatsAppPhoneNumber> {
        self.resource.status = Some(self.kept_of(status));
        if self.unknown_fields.is_empty() {
            self.check();
        }
        Arc::new(self.resource.clone())
    }

    /// What the API server keeps of a status.
    fn kept_of(&self, status: WhatsAppPhoneNumberStatus) -> WhatsAppPhoneNumberStatus {
        if self.unknown_fields.is_empty() {
            return status;
        }
        let mut json = serde_json::to_value(status).expect("a status is JSON");
        for path in &self.unknown_fields {
            prune(&mut json, path);
        }
        serde_json::from_value(json).expect("a status")
    }

    /// Writes a claim, and decides its fate. Returns the answer, if the process lives to hear it.
    fn write_claim(&mut self, status: WhatsAppPhoneNumberStatus) -> Option<Input> {
        let claim = status.attempts[0].clone();
        assert_eq!(claim.id, format!("claim-{}", self.claims));
        assert!(claim.is_open());
        assert_eq!(claim.ttl(), self.policy.claim_ttl);
        self.claims += 1;
        let fate = self.fates.pop_front();
        let fate = fate.unwrap_or_else(|| {
            Fate::Answered(Box::new(match claim.operation {
                Operation::Register => success(),
                Operation::Deregister => deregistered(),
            }))
        });
        let before = self.resource.status_or_unseen();
        let handled_before = before.last_handled_register_request;
        let answer = match &fate {
            Fate::Conflict => Some(Input::Written(Err(WriteFault::Conflict))),
            Fate::StoredUnsent => {
                self.store(status);
                Some(Input::Written(Err(WriteFault::Unclear)))
            }
            Fate::Crash => {
                self.store(status);
                match claim.operation {
                    Operation::Register => self.posts.push((self.now, claim.request)),
                    Operation::Deregister => self.deregisters.push(self.now),
                }
                self.lost.push((claim.id, handled_before));
                None
            }
            Fate::Answered(_) => Some(Input::Written(Ok(self.store(status)))),
        };
        self.fate = Some(fate);
        answer
    }

    /// Records the outcome of a claim whose process has lost it.
    pub fn record(&mut self, id: &str, before: Option<&str>, outcome: &RegisterOutcome) {
        let result = CallResult {
            operation: Operation::Register,
            id,
            outcome,
            handled_before: before,
        };
        let course = ApplyContext {
            policy: &self.policy,
            generation: self.status().observed_generation.max(0),
            cooldown: None,
            jitter: self.jitter,
            now: self.now,
        };
        let status = apply_outcome(self.status(), &result, &course);
        if let (Reason::RateLimited, Some(wait)) = (outcome.reason, &status.token_wait) {
            self.cool_downs.insert(wait.digest.clone(), wait.into());
        }
        self.resource.status = Some(status);
    }

    // --- what is seen from outside ---

    pub fn status(&self) -> &WhatsAppPhoneNumberStatus {
        self.resource.status.as_ref().expect("a status")
    }

    pub fn status_mut(&mut self) -> &mut WhatsAppPhoneNumberStatus {
        self.resource.status.as_mut().expect("a status")
    }

    /// Sets the end of the wait that is stored.
    pub fn waits_until(&mut self, until: Timestamp) {
        let wait = self.status_mut().wait.as_mut().expect("a wait");
        wait.until = Time(until);
    }

    pub fn is(&self, type_: &str) -> bool {
        is_true(self.status(), type_)
    }

    /// `Registered`, `Failed`, whether `Reconciling` and `Stalled` are there, and the reason of `Failed`.
    pub fn shown(&self) -> String {
        let of = |type_| find(self.status(), type_).map_or("-", |c| c.status.as_str());
        let reason = reason_of(self.status(), conditions::FAILED);
        format!(
            "Registered={} Failed={}{}{} {}",
            of(conditions::REGISTERED),
            of(conditions::FAILED),
            if self.is(conditions::RECONCILING) {
                " Reconciling"
            } else {
                ""
            },
            if self.is(conditions::STALLED) {
                " Stalled"
            } else {
                ""
            },
            reason.map_or("-", Reason::as_str),
        )
    }

    /// How long it is until the operator comes back by itself.
    pub fn next_in(&self) -> Option<Duration> {
        let next = self.status().next_attempt_time.as_ref()?;
        Some(Duration::try_from(next.0.duration_since(self.now)).unwrap_or_default())
    }

    /// Why the newest entry of the ledger ended.
    pub fn last_attempt(&self) -> &LedgerEntry {
        self.status().attempts.first().expect("an attempt")
    }

    /// Another pass finds the resource as this one left it, and changes nothing.
    pub fn is_at_rest(&mut self) -> bool {
        let before = self.resource.status.clone();
        let steps = self.pass();
        let called = steps.iter().any(|s| matches!(s, Step::Read | Step::Claim));
        !called && before == self.resource.status
    }

    // --- what must hold after every pass ---

    fn check(&self) {
        check_status(&self.resource);
    }

    fn check_wake(&self, wake: Requeue) {
        check_wake(&self.resource, wake);
        if !self.lagging() {
            assert_eq!(
                Some(self.status().observed_generation),
                self.resource.metadata.generation
            );
        }
    }

    /// A pass that is followed by another at once may leave the generation to that one.
    fn lagging(&self) -> bool {
        self.resource.metadata.deletion_timestamp.is_some()
            || self.status().attempts.iter().any(LedgerEntry::is_open)
            || self.last_read == Some(self.now)
            || self
                .status()
                .attempts
                .first()
                .is_some_and(|a| a.end.is_some())
    }
}

impl Process for World {
    fn policy(&self) -> &Policy {
        &self.policy
    }

    fn now(&self) -> Timestamp {
        self.now
    }

    fn uptime(&self) -> Duration {
        self.uptime
    }

    fn fresh_id(&mut self) -> String {
        format!("claim-{}", self.claims)
    }

    fn jitter(&mut self) -> f64 {
        self.jitter
    }

    fn is_stale(&self, _: &WhatsAppPhoneNumber) -> bool {
        self.stale
    }

    fn peers(&self, _: &WhatsAppPhoneNumber) -> Peers {
        self.peers.clone()
    }

    fn has_peers(&self, _: &WhatsAppPhoneNumber) -> bool {
        self.known_peers
    }

    fn open_claim(&mut self, resource: &WhatsAppPhoneNumber) -> OpenClaim {
        let open = resource.attempts().iter().find(|a| a.is_open());
        let Some(id) = open.map(|attempt| attempt.id.clone()) else {
            return OpenClaim::SeenFor(Duration::ZERO);
        };
        if self.unsent.contains(&id) {
            return OpenClaim::Unsent;
        }
        if self.claims_are_old {
            return OpenClaim::SeenFor(Duration::MAX);
        }
        let uptime = self.uptime;
        let seen = self.seen.take().filter(|(seen, _)| *seen == id);
        let (_, since) = self.seen.insert(seen.unwrap_or((id, uptime)));
        OpenClaim::SeenFor(uptime - *since)
    }

    fn last_read(&self, _: &WhatsAppPhoneNumber) -> Option<Timestamp> {
        self.last_read
    }

    fn cooldown(&self, token: &str) -> Option<Cooldown> {
        self.cool_downs.get(token).copied()
    }

    fn plan(&self, _: &WhatsAppPhoneNumber) -> Option<Plan> {
        self.plan
    }

    fn busy(&self, token: &str) -> Option<Timestamp> {
        self.busy.get(token).copied()
    }

    fn refused_pin(&self, resource: &WhatsAppPhoneNumber, digests: &Digests) -> Option<Reason> {
        let shown = |id: &str| resource.attempts().iter().any(|attempt| attempt.id == id);
        let mut known = self.refused_pins.iter();
        let fitting = known.find(|known| known.applies_to(digests) && !shown(&known.attempt));
        fitting.map(|known| known.reason)
    }

    fn dropped_fields(&self) -> Option<String> {
        self.dropped_fields.clone()
    }

    fn tries_definition(&self) -> bool {
        !self.definition_tried
    }

    fn finalizer_refused(&self, _: &WhatsAppPhoneNumber) -> bool {
        self.finalizer_refused
    }

    fn note(&mut self, note: Note<'_>) {
        match note {
            Note::FinalizerRefused(_) => self.finalizer_refused = true,
            Note::Stored { purpose, .. } => self.found_stored.push(purpose),
            Note::Farewell(_, farewell) => self.farewell = Some(farewell.clone()),
            Note::Read(_) => self.last_read = Some(self.now),
            Note::Unsent(id) => {
                self.unsent.insert(id.to_owned());
            }
            Note::Cooldown(wait) => {
                self.cool_downs.insert(wait.digest.clone(), wait.into());
            }
            Note::Unlimited(token) => {
                let now = self.now;
                self.cool_downs
                    .retain(|known, cooldown| known != token || cooldown.until > now);
            }
            Note::Planned(_, plan) => self.plan = Some(plan),
            Note::Busy(token, until) => {
                self.busy.insert(token.to_owned(), until);
            }
            Note::RefusedPin(_, refused) => self.refused_pins.push(refused.clone()),
            Note::Dropped(fields) => {
                self.definition_tried &= self.dropped_fields.is_some();
                self.dropped_fields.get_or_insert_with(|| fields.join(", "));
            }
            Note::Tried(fields) => {
                self.dropped_fields = (!fields.is_empty()).then(|| fields.join(", "));
                self.definition_tried = true;
            }
            Note::FarewellInDoubt(..) => self.farewells_in_doubt += 1,
            Note::Departed(_) => self.departed = true,
            Note::Written(_) => self.noted += 1,
            Note::Call(..) | Note::Outcome(..) | Note::Unrecorded => {}
        }
    }
}

/// Takes the field with this path out of a status, as an API server does whose CRD lacks it.
pub fn prune(json: &mut serde_json::Value, path: &str) {
    match (json, path.split_once('.')) {
        (serde_json::Value::Array(items), _) => {
            items.iter_mut().for_each(|item| prune(item, path));
        }
        (serde_json::Value::Object(fields), Some((name, rest))) => {
            if let Some(child) = fields.get_mut(name) {
                prune(child, rest);
            }
        }
        (serde_json::Value::Object(fields), None) => {
            fields.remove(path);
        }
        _ => {}
    }
}

/// What must hold of every status that is stored.
pub fn check_status(resource: &WhatsAppPhoneNumber) {
    let status = resource.status.as_ref().expect("a status");
    let bytes = serde_json::to_vec(status).expect("a status is JSON").len();
    assert!(bytes < 16 * 1024, "a status of {bytes} bytes");
    let truth = |type_| find(status, type_).map(|c| c.status.clone());
    assert_eq!(truth(conditions::REGISTERED), truth(conditions::READY));
    let is = |type_| is_true(status, type_);
    assert!(!(is(conditions::STALLED) && is(conditions::RECONCILING)));
    let kept = reason_of(status, conditions::STALLED) == Some(Reason::DeregistrationFailed);
    assert!(!(is(conditions::STALLED) && is(conditions::REGISTERED) && !kept));
    if is(conditions::STALLED) {
        let reason = |type_| reason_of(status, type_);
        assert_eq!(reason(conditions::STALLED), reason(conditions::FAILED));
    }
    for condition in &status.conditions {
        let observed = condition.observed_generation;
        assert_eq!(observed, Some(status.observed_generation));
        assert!(!condition.message.contains('\n'));
    }
    let generation = resource.metadata.generation.unwrap_or_default();
    assert!(status.observed_generation <= generation);
    let counted = status.attempts.iter().filter(|a| a.counts()).count();
    assert!(counted <= 20 && status.attempts.len() <= 22);
    // Until it has gone, it does not look like one that works.
    let newest = status.attempts.first().map(|attempt| attempt.operation);
    if resource.metadata.deletion_timestamp.is_some() && newest == Some(Operation::Deregister) {
        let failed = reason_of(status, conditions::READY) == Some(Reason::DeregistrationFailed);
        assert!(failed || !is_true(status, conditions::READY), "{status:#?}");
    }
}

/// Whoever waits says until when, or waits for something that wakes it.
pub fn check_wake(resource: &WhatsAppPhoneNumber, wake: Requeue) {
    let status = resource.status.as_ref().expect("a status");
    let waits_for_change = [Reason::SecretNotFound, Reason::SecretKeyMissing];
    let reason = reason_of(status, conditions::FAILED);
    let waits = is_true(status, conditions::RECONCILING);
    if waits && !reason.is_some_and(|reason| waits_for_change.contains(&reason)) {
        assert_ne!(wake, Requeue::OnChange, "for ever: {status:#?}");
        // An observation may be hours away.
        let observes = matches!(wake, Requeue::Observe(plan) if plan.poll.is_none());
        assert!(!observes, "until it is observed: {status:#?}");
    }
}

pub fn policy() -> Policy {
    Policy {
        attempt_limit: 8,
        backoff: Backoff {
            base: secs(30),
            cap: hours(18),
        },
        confirm_window: WINDOW,
        claim_ttl: TTL,
        graph_api_version: "v23.0".to_owned(),
        life: Life::default(),
        secret_poll: None,
    }
}

/// The digests of a token and a PIN: as with the real ones, the others say nothing under another token.
pub fn digests(token: &str, pin: &str) -> Digests {
    Digests {
        token: token.to_owned(),
        pin: format!("{pin} under {token}"),
        inputs: format!("nothing else under {token}"),
    }
}

pub fn success() -> RegisterOutcome {
    RegisterOutcome {
        http_status: Some(200),
        fbtrace_id: Some("Atrace".to_owned()),
        ..RegisterOutcome::without_answer(Reason::RegistrationSucceeded, "Graph answered HTTP 200")
    }
}

/// An error of Graph's with this HTTP status, code and subcode.
pub fn refused(http_status: u16, code: i64, subcode: Option<i64>) -> RegisterOutcome {
    let error = graph_error(http_status, code, subcode);
    RegisterOutcome {
        http_status: Some(http_status),
        fbtrace_id: error.fbtrace_id.clone(),
        error: Some(error.clone()),
        ..RegisterOutcome::without_answer(classify(&error), "Graph answered with an error")
    }
}

/// A 200 without `success: true`.
pub fn rejected() -> RegisterOutcome {
    let error = GraphErrorStatus {
        http_status: Some(200),
        ..GraphErrorStatus::default()
    };
    RegisterOutcome {
        http_status: Some(200),
        error: Some(error),
        ..RegisterOutcome::without_answer(Reason::RegistrationRejected, "no success")
    }
}

pub fn unknown() -> RegisterOutcome {
    RegisterOutcome::without_answer(Reason::OutcomeUnknown, "no answer in 30 s")
}

pub fn unreachable() -> RegisterOutcome {
    RegisterOutcome::without_answer(Reason::GraphUnreachable, "no connection")
}

pub fn rate_limited(wait: Option<Duration>) -> RegisterOutcome {
    RegisterOutcome {
        retry_after: wait,
        ..refused(429, 80_007, None)
    }
}

pub fn deregistered() -> RegisterOutcome {
    RegisterOutcome {
        reason: Reason::Deregistered,
        ..success()
    }
}

pub fn pin_mismatch() -> RegisterOutcome {
    refused(400, 133_005, None)
}

pub fn graph_error(http_status: u16, code: i64, subcode: Option<i64>) -> GraphErrorStatus {
    GraphErrorStatus {
        http_status: Some(i32::from(http_status)),
        code: Some(code),
        subcode,
        message: Some("what Graph says".to_owned()),
        fbtrace_id: Some("Aerror".to_owned()),
        ..GraphErrorStatus::default()
    }
}

pub fn reading(state: RegistrationState) -> ReadOutcome {
    let number = PhoneNumberStatus {
        display_phone_number: Some("+49 30 901820".to_owned()),
        ..PhoneNumberStatus::default()
    };
    ReadOutcome {
        fields: ReadFields::All,
        state,
        phone_number: (!matches!(state, RegistrationState::Wait(_))).then_some(number),
        error: None,
        fbtrace_id: Some("Aread".to_owned()),
        retry_after: None,
        usage: None,
        version: None,
        message: "Graph answered HTTP 200".to_owned(),
    }
}

/// A read that met an error of Graph's.
pub fn failed_reading(state: RegistrationState, error: GraphErrorStatus) -> ReadOutcome {
    ReadOutcome {
        phone_number: None,
        error: Some(error),
        ..reading(state)
    }
}

/// An ended call, for a ledger.
pub fn attempt(id: &str, at: Timestamp, reason: Reason) -> LedgerEntry {
    LedgerEntry {
        end: Some(AttemptEnd {
            outcome: AttemptOutcome::Failed,
            reason: Some(reason.to_string()),
            ..AttemptEnd::unknown(at)
        }),
        ..LedgerEntry::open(Operation::Register, id, TTL, None, at)
    }
}
