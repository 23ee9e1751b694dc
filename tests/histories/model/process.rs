//! A process of the operator: its memory, what its watches have brought, and the one attempt that it may have under way.
//! It drives the real machine, effect by effect, so that it can die between any two.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt as _;
use operator_core::credentials::Digests;
use operator_core::model::Cooldown;

use super::super::invariants::{Sending, Witness};
use super::clock::Clock;
use super::cluster::{Cluster, Name, Refusal, name_of};
use super::graph::{Graph, Inputs, TIMEOUT};
use operator_core::api::{
    LedgerEntry, Operation, Reason, WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus,
};
use operator_core::credentials::SecretFault;
use operator_core::graph::{RegisterOutcome, RegistrationState};
use operator_core::model::machine::{
    self, Effect, Failure, Input, Machine, Note, PatchFault, Purpose, WriteFault,
};
use operator_core::model::observe::Plan;
use operator_core::model::{Life, OpenClaim, Peers, Policy, Requeue, Survey, twins};
use testkit::world::{check_status, check_wake, hours, policy, secs};
use whatsapp_operator::memory::Memory;

/// What becomes of the next write to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is refused.
    Refused,
    /// It lands, and its answer is lost.
    AnswerLost,
    /// It is not answered, and lands later, if nothing was written before.
    LandsLate,
}

/// How far an attempt has come: the points between which a process can die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Decided on, the claim not written.
    Claiming,
    /// The claim is stored, nothing is sent.
    Stored,
    /// Sent, no answer yet.
    Sent,
    /// The outcome is known and not recorded.
    Answered,
    /// Recorded.
    Recorded,
}

/// A claim and its call under way.
pub(crate) struct Flight {
    machine: Machine,
    next: Option<Next>,
    /// The open entry of the claim.
    entry: LedgerEntry,
    inputs: Inputs,
    reading: Option<(Duration, RegistrationState)>,
    /// When the answer comes, once it is sent.
    pub(crate) answer_at: Duration,
    outcome: Option<RegisterOutcome>,
    pub(crate) phase: Phase,
}

/// What a process does next in a flight.
enum Next {
    Perform(Effect),
    /// It takes in what came of the last effect.
    Hear(Input),
}

pub(crate) struct Process {
    /// Which start of which process this is.
    pub(crate) incarnation: u32,
    policy: Policy,
    memory: Memory,
    pub(crate) view: BTreeMap<Name, WhatsAppPhoneNumber>,
    /// When each resource is looked at next, by a clock that nobody sets.
    pub(crate) due: BTreeMap<Name, Duration>,
    pub(crate) flight: Option<Flight>,
    /// Until when its watches bring nothing.
    pub(crate) deaf_until: Duration,
    /// Whether it is stopped (SIGSTOP).
    pub(crate) stopped: bool,
    pub(crate) faults: VecDeque<Fault>,
    pub(crate) jitter: f64,
    claims: u32,
}

/// All that is around a process.
pub(crate) struct Around {
    pub(crate) clock: Clock,
    pub(crate) cluster: Cluster,
    pub(crate) graph: Graph,
    pub(crate) secrets: Option<(u8, u8)>,
    pub(crate) witness: Witness,
}

impl Around {
    fn inputs(&self, resource: &WhatsAppPhoneNumber) -> Option<Inputs> {
        self.secrets.map(|(token, pin)| Inputs {
            token,
            pin,
            region: resource.spec.data_localization_region.is_some(),
            version: resource.spec.graph_api_version.is_some(),
        })
    }
}

impl Process {
    pub(crate) fn start(incarnation: u32, clock: &Clock) -> Self {
        Self {
            incarnation,
            policy: Policy {
                life: Life {
                    observe_interval: hours(24),
                    ..Life::default()
                },
                ..policy()
            },
            memory: Memory::new(&clock.for_memory()),
            view: BTreeMap::new(),
            due: BTreeMap::new(),
            flight: None,
            deaf_until: Duration::ZERO,
            stopped: false,
            faults: VecDeque::new(),
            jitter: 0.0,
            claims: 0,
        }
    }

    /// A watch brings a version of a resource, as `ResourceStore::observe` takes it in.
    pub(crate) fn watch(
        &mut self,
        name: Name,
        version: Option<&WhatsAppPhoneNumber>,
        around: &mut Around,
    ) {
        let before = self.view.remove(name);
        if let Some(before) = &before {
            let kept = version
                .map(WhatsAppPhoneNumber::attempts)
                .unwrap_or_default();
            let lost = |a: &LedgerEntry| kept.iter().all(|kept| kept.id != a.id);
            if version.is_none() || before.attempts().iter().any(lost) {
                self.memory.history.note(before, before.attempts());
            }
        }
        match version {
            Some(resource) => {
                self.memory.note_seen(resource);
                around.witness.seen(self.incarnation, resource);
                let now = around.clock.uptime();
                if before.as_ref().is_none_or(|before| wakes(before, resource)) {
                    self.due.insert(name, now);
                }
                if before
                    .as_ref()
                    .is_some_and(|before| leaves(before, resource))
                {
                    self.due.extend(self.view.keys().map(|other| (*other, now)));
                }
                self.view.insert(name, resource.clone());
            }
            None => {
                self.memory
                    .notes
                    .forget(&before.and_then(|b| b.uid()).unwrap_or_default());
                self.due.remove(name);
                // The others of the number are looked at when one is gone.
                let now = around.clock.uptime();
                self.due.extend(self.view.keys().map(|name| (*name, now)));
            }
        }
    }

    /// One reconciliation of a resource, up to a claim.
    pub(crate) fn pass(&mut self, name: Name, around: &mut Around) {
        if self.flight.is_some() {
            return; // It holds the number's lock.
        }
        self.due.remove(name);
        let Some(cached) = self.view.get(name).cloned() else {
            return;
        };
        self.round(Machine::new(Arc::new(cached)), around);
    }

    /// A round of decisions, up to a claim.
    fn round(&mut self, mut machine: Machine, around: &mut Around) {
        let (mut input, mut reading) = (Input::Locked, None);
        loop {
            let effect = machine.step(input, &mut Host(self, around));
            let resource = Arc::clone(machine.resource());
            input = match effect {
                Effect::ReadResource { .. } => self.newest(&resource, around),
                Effect::LoadSecrets => {
                    let found = around.inputs(&resource);
                    let found = found.map(|inputs| inputs.digests().clone());
                    Input::Secrets(Ok(found.ok_or_else(missing)))
                }
                Effect::ReadNumber(fields) => {
                    let with = around.inputs(&resource).expect("read without Secrets");
                    let (uptime, now) = (around.clock.uptime(), around.clock.now());
                    let read = around.graph.read(fields, with, uptime, now);
                    reading = Some((uptime, read.state));
                    Input::Reading(Box::new(read))
                }
                Effect::Write {
                    ref status,
                    purpose: Purpose::Claim,
                    ..
                } => {
                    self.claims += 1;
                    self.flight = Some(Flight {
                        entry: status.attempts[0].clone(),
                        inputs: around.inputs(&resource).expect("a call without Secrets"),
                        next: Some(Next::Perform(effect)),
                        machine,
                        reading,
                        answer_at: Duration::ZERO,
                        outcome: None,
                        phase: Phase::Claiming,
                    });
                    return;
                }
                Effect::Write {
                    on,
                    status,
                    purpose: Purpose::Try,
                } => {
                    let mut tried = WhatsAppPhoneNumber::clone(&on);
                    tried.status = Some(*status);
                    Input::Written(Ok(Arc::new(tried)))
                }
                Effect::Write { on, status, .. } => self.put_status(&on, *status, around),
                Effect::ReadBack { .. } => self.newest(&resource, around),
                Effect::ListPeers(_) => survey(around),
                Effect::Finalizer { on, set } => self.patch_finalizer(&on, set, around),
                Effect::End(end) => return self.end(&resource, end, around),
                effect => panic!("{effect:?} in a round of {resource:#?}"),
            };
        }
    }

    fn newest(&self, resource: &WhatsAppPhoneNumber, around: &mut Around) -> Input {
        let newest = around.cluster.newest(name_of(resource)).cloned();
        if let Some(newest) = &newest {
            around.witness.seen(self.incarnation, newest);
        }
        Input::Newest(Ok(newest.map(Arc::new)))
    }

    fn end(
        &mut self,
        resource: &WhatsAppPhoneNumber,
        end: Result<Requeue, Failure>,
        around: &Around,
    ) {
        match end {
            Ok(requeue) => {
                let uid = resource.uid().unwrap_or_default();
                self.memory.notes.note_success(&uid);
                let is_there = around.cluster.same(resource).is_some();
                if !around.witness.odd && is_there {
                    check_wake(resource, requeue);
                }
                if let Some(wait) = requeue.wait(around.clock.now()) {
                    self.wake_after(name_of(resource), wait, around);
                }
            }
            Err(Failure::Gone) => {}
            Err(Failure::Effect | Failure::Contended) => self.fail(resource, around),
            Err(Failure::Unsettled) => panic!("it does not settle: {resource:#?}"),
        }
    }

    /// The pass could not be made: again, on the newest version, with growing waits.
    fn fail(&mut self, resource: &WhatsAppPhoneNumber, around: &Around) {
        let failures = self
            .memory
            .notes
            .note_failure(&resource.uid().unwrap_or_default());
        self.wake_after(name_of(resource), secs(1 << failures.min(6)), around);
    }

    fn wake_after(&mut self, name: Name, wait: Duration, around: &Around) {
        let at = around.clock.uptime() + wait;
        let due = self.due.entry(name).or_insert(at);
        *due = at.min(*due);
    }

    fn put_status(
        &mut self,
        decided_on: &WhatsAppPhoneNumber,
        status: WhatsAppPhoneNumberStatus,
        around: &mut Around,
    ) -> Input {
        let mut written = decided_on.clone();
        written.status = Some(status);
        let stored = match self.faults.pop_front() {
            None => store(&written, around),
            Some(Fault::Refused) => Err(Refusal::Failed),
            Some(Fault::AnswerLost) => store(&written, around).and(Err(Refusal::Failed)),
            Some(Fault::LandsLate) => {
                around.cluster.late.push(written);
                Err(Refusal::Failed)
            }
        };
        Input::Written(stored.map(Arc::new).map_err(|refusal| match refusal {
            Refusal::Conflict => WriteFault::Conflict,
            Refusal::Gone => WriteFault::Gone,
            Refusal::Failed => WriteFault::Unclear,
        }))
    }

    /// Takes the attempt under way one step further: up to where the process may die.
    pub(crate) fn step(&mut self, around: &mut Around) {
        let Some(mut flight) = self.flight.take() else {
            return;
        };
        let mut effect = match flight.next.take() {
            Some(Next::Perform(effect)) => effect,
            Some(Next::Hear(input)) => flight.machine.step(input, &mut Host(self, around)),
            None => return,
        };
        loop {
            let resource = Arc::clone(flight.machine.resource());
            let input = match effect {
                Effect::Write {
                    on,
                    status,
                    purpose: Purpose::Claim,
                } => {
                    around.witness.claims(self.incarnation, &flight.entry.id);
                    let written = self.put_status(&on, *status, around);
                    if matches!(written, Input::Written(Ok(_))) {
                        flight.phase = Phase::Stored;
                        break flight.next = Some(Next::Hear(written));
                    }
                    written
                }
                Effect::ReadBack { .. } if flight.phase == Phase::Claiming => {
                    flight.phase = Phase::Stored;
                    break flight.next = Some(Next::Hear(self.newest(&resource, around)));
                }
                Effect::ListPeers(_) => survey(around),
                Effect::Call(operation) => {
                    let outcome = match operation {
                        Operation::Register => self.send(&mut flight, around),
                        Operation::Deregister => self.take_off(&mut flight, around),
                    };
                    flight.outcome = Some(outcome.clone());
                    flight.phase = Phase::Sent;
                    break flight.next = Some(Next::Hear(Input::Called(Box::new(outcome))));
                }
                Effect::Write { .. } if flight.phase != Phase::Answered => {
                    flight.phase = Phase::Answered;
                    break flight.next = Some(Next::Perform(effect));
                }
                Effect::Write { on, status, .. } => {
                    let written = self.put_status(&on, *status, around);
                    if let Input::Written(Ok(after)) = &written {
                        flight.is_recorded(after, around);
                        flight.phase = Phase::Recorded;
                        break flight.next = Some(Next::Hear(written));
                    }
                    written
                }
                Effect::ReadResource { .. } => {
                    break flight.next = Some(Next::Hear(self.newest(&resource, around)));
                }
                // Past the deadline of a deletion it goes on without the record.
                Effect::ReadBack { .. } => self.newest(&resource, around),
                Effect::Finalizer { on, set } => self.patch_finalizer(&on, set, around),
                Effect::Lock => {
                    if flight.phase == Phase::Answered {
                        flight.is_recorded(&resource, around);
                    }
                    return self.round(flight.machine, around);
                }
                Effect::End(end) => return self.end(&resource, end, around),
                effect => panic!("{effect:?} in a flight of {resource:#?}"),
            };
            effect = flight.machine.step(input, &mut Host(self, around));
        }
        self.flight = Some(flight);
    }

    fn patch_finalizer(
        &mut self,
        on: &WhatsAppPhoneNumber,
        set: bool,
        around: &mut Around,
    ) -> Input {
        let mut patch = || around.cluster.patch_finalizer(on, set);
        let patched = match self.faults.pop_front() {
            None => patch(),
            Some(Fault::AnswerLost) => patch().and(Err(Refusal::Failed)),
            Some(Fault::Refused | Fault::LandsLate) => Err(Refusal::Failed),
        };
        Input::Patched(match patched {
            Ok(after) => Ok(Arc::new(after)),
            Err(Refusal::Gone) => Err(PatchFault::Gone),
            Err(Refusal::Conflict) => Err(PatchFault::NotStored),
            Err(Refusal::Failed) => Err(PatchFault::Unclear),
        })
    }

    /// The one deregister call.
    fn take_off(&mut self, flight: &mut Flight, around: &mut Around) -> RegisterOutcome {
        let (uptime, now) = (around.clock.uptime(), around.clock.now());
        let (arrived, outcome, takes) = around.graph.take_off(flight.inputs, now);
        if arrived {
            let decided_on = flight.machine.resource();
            let id = &flight.entry.id;
            let claimed = (id.as_str(), self.incarnation, uptime);
            around
                .witness
                .deregisters(claimed, decided_on, &around.cluster);
        }
        flight.answer_at = uptime + takes.min(TIMEOUT);
        if takes >= TIMEOUT && arrived {
            return RegisterOutcome::without_answer(Reason::OutcomeUnknown, "no answer in 30 s");
        }
        outcome
    }

    /// The one register call.
    fn send(&mut self, flight: &mut Flight, around: &mut Around) -> RegisterOutcome {
        let (uptime, now) = (around.clock.uptime(), around.clock.now());
        let registered = around.graph.registered;
        let (arrived, outcome, takes) = around.graph.post(flight.inputs, uptime, now);
        if arrived {
            let sending = Sending {
                id: &flight.entry.id,
                incarnation: self.incarnation,
                at: uptime,
                request: flight.entry.request.as_deref(),
                inputs: flight.inputs,
                decided_on: flight.machine.resource(),
                reading: flight.reading,
                registered,
                rate_limited: outcome.reason == Reason::RateLimited,
            };
            around.witness.posts(&sending, &around.cluster, &self.view);
        }
        flight.answer_at = uptime + takes.min(TIMEOUT);
        if takes >= TIMEOUT && arrived {
            return RegisterOutcome::without_answer(Reason::OutcomeUnknown, "no answer in 30 s");
        }
        outcome
    }
}

impl Flight {
    fn is_recorded(&self, after: &WhatsAppPhoneNumber, around: &mut Around) {
        if !self.entry.operation.registers() {
            return;
        }
        let not_sent = RegisterOutcome::without_answer(Reason::NotSent, "not sent");
        let outcome = self.outcome.as_ref().unwrap_or(&not_sent);
        let id = &self.entry.id;
        around.witness.records(id, after, outcome, self.inputs);
    }
}

/// The process as its machine sees it.
struct Host<'a>(&'a mut Process, &'a Around);

impl machine::Process for Host<'_> {
    fn policy(&self) -> &Policy {
        &self.0.policy
    }

    fn now(&self) -> Timestamp {
        self.1.clock.now()
    }

    fn uptime(&self) -> Duration {
        self.1.clock.uptime()
    }

    fn fresh_id(&mut self) -> String {
        format!("claim-{}-{}", self.0.incarnation, self.0.claims)
    }

    fn jitter(&mut self) -> f64 {
        self.0.jitter
    }

    fn is_stale(&self, resource: &WhatsAppPhoneNumber) -> bool {
        self.0.memory.notes.is_stale(resource)
    }

    fn peers(&self, resource: &WhatsAppPhoneNumber) -> Peers {
        let own = name_of(resource);
        let others = self.0.view.iter().filter(|(name, _)| **name != own);
        let others: Vec<_> = others.map(|(_, other)| other).collect();
        self.0.memory.peers(resource, &others, &[])
    }

    fn has_peers(&self, resource: &WhatsAppPhoneNumber) -> bool {
        self.0.view.keys().any(|name| *name != name_of(resource))
    }

    fn open_claim(&mut self, resource: &WhatsAppPhoneNumber) -> OpenClaim {
        self.0.memory.open_claim(resource)
    }

    fn last_read(&self, resource: &WhatsAppPhoneNumber) -> Option<Timestamp> {
        self.0.memory.notes.last_read(resource)
    }

    fn cooldown(&self, token: &str) -> Option<Cooldown> {
        self.0.memory.cooldowns.of(token)
    }

    fn plan(&self, resource: &WhatsAppPhoneNumber) -> Option<Plan> {
        self.0.memory.notes.plan(resource)
    }

    fn finalizer_refused(&self, resource: &WhatsAppPhoneNumber) -> bool {
        self.0.memory.notes.finalizer_refused(resource)
    }

    fn busy(&self, token: &str) -> Option<Timestamp> {
        self.0.memory.busy.of(token).map(|busy| busy.until)
    }

    fn refused_pin(&self, resource: &WhatsAppPhoneNumber, digests: &Digests) -> Option<Reason> {
        self.0.memory.refused_pins.of(resource, digests)
    }

    fn dropped_fields(&self) -> Option<String> {
        self.0.memory.definition.dropped_fields()
    }

    fn tries_definition(&self) -> bool {
        self.0.memory.definition.is_due()
    }

    fn note(&mut self, note: Note<'_>) {
        self.0.memory.note(note);
    }
}

/// Stores a status, with what must hold of each one that is stored.
pub(crate) fn store(
    written: &WhatsAppPhoneNumber,
    around: &mut Around,
) -> Result<WhatsAppPhoneNumber, Refusal> {
    let stored = around.cluster.put_status(written)?;
    if !around.witness.odd {
        check_status(&stored);
    }
    around.witness.stores(&stored);
    Ok(stored)
}

/// What the API server says of the number.
fn survey(around: &Around) -> Input {
    let all = super::cluster::NAMES.into_iter();
    let all = all.filter_map(|name| around.cluster.newest(name).cloned());
    Input::Peers(Ok(Survey {
        peers: all.collect(),
        definition_deleted: false,
    }))
}

/// Whether a change is worth a pass: that of a status alone is not, as in `controller::resource_changes`.
fn wakes(before: &WhatsAppPhoneNumber, after: &WhatsAppPhoneNumber) -> bool {
    let said = |resource: &WhatsAppPhoneNumber| {
        let metadata = &resource.metadata;
        let (uid, annotations) = (metadata.uid.clone(), metadata.annotations.clone());
        let deleted = metadata.deletion_timestamp.clone();
        let finalizers = metadata.finalizers.clone();
        (uid, metadata.generation, annotations, deleted, finalizers)
    };
    said(before) != said(after)
}

/// Whether others of the number may go ahead now, as in `Index::apply`.
fn leaves(before: &WhatsAppPhoneNumber, after: &WhatsAppPhoneNumber) -> bool {
    before.uid() != after.uid() || twins::lost_precedence(before, after)
}

fn missing() -> SecretFault {
    SecretFault {
        reason: Reason::SecretNotFound,
        message: "the Secret meta does not exist".to_owned(),
    }
}
