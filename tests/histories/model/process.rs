//! A process of the operator: its memory, what its watches have brought, and the one attempt that it may have under way.
//! It does what `pass`, `attempt` and `record` do around the core, step by step, so that it can die between any two.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kube::ResourceExt as _;

use super::super::invariants::{Sending, Witness};
use super::clock::Clock;
use super::cluster::{Cluster, Name, Refusal, name_of};
use super::graph::{Graph, Inputs, TIMEOUT};
use operator_core::api::Reason;
use operator_core::api::{WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};
use operator_core::credentials::SecretFault;
use operator_core::graph::{ReadOutcome, RegisterOutcome, RegistrationState};
use operator_core::model::ledger::holds_claim;
use operator_core::model::twins;
use operator_core::model::{ApplyContext, CallResult, apply_outcome};
use operator_core::model::{
    Claim, Decision, Observed, Peers, Policy, Requeue, cooldown_until, decide,
};
use testkit::world::{TTL, check_status, check_wake, policy, secs};
use whatsapp_operator::memory::Memory;

/// More steps than a pass may take: the bound in `pass`.
const STEPS_MAX: usize = 8;

/// The wait for the watch where the resource was made anew: the one in `pass`.
const AFTER_GONE: Duration = Duration::from_secs(1);

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

/// An attempt under way.
pub(crate) struct Flight {
    resource: WhatsAppPhoneNumber,
    claim: Claim,
    id: String,
    inputs: Inputs,
    reading: Option<(Duration, RegistrationState)>,
    started: Duration,
    /// When the answer comes, once it is sent.
    pub(crate) answer_at: Duration,
    outcome: Option<RegisterOutcome>,
    /// The resource as last seen, to record in.
    held: Option<WhatsAppPhoneNumber>,
    pub(crate) phase: Phase,
}

pub(crate) struct Process {
    /// Which start of which process this is.
    pub(crate) incarnation: u32,
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
            let lost =
                |a: &operator_core::api::LedgerEntry| kept.iter().all(|kept| kept.id != a.id);
            if version.is_none() || before.attempts().iter().any(lost) {
                self.memory
                    .history
                    .note(&before.spec.phone_number_id, before.attempts());
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

    /// One pass over a resource, and another one on a version that turned out to be newer.
    pub(crate) fn pass(&mut self, name: Name, around: &mut Around) {
        if self.flight.is_some() {
            return; // It holds the number's lock.
        }
        self.due.remove(name);
        let Some(cached) = self.view.get(name).cloned() else {
            return;
        };
        let resource = if self.memory.notes.is_stale(&cached) {
            let newest = around.cluster.newest(name).cloned();
            let Some(newest) = newest else { return };
            if newest.uid() != cached.uid() {
                return self.wait_for_watch(name, around);
            }
            around.witness.seen(self.incarnation, &newest);
            newest
        } else {
            cached
        };
        self.pass_over(resource, around);
    }

    fn pass_over(&mut self, resource: WhatsAppPhoneNumber, around: &mut Around) {
        let name = name_of(&resource);
        let policy = policy();
        let others: Vec<_> = self
            .view
            .iter()
            .filter(|(other, _)| **other != name)
            .map(|(_, o)| o)
            .collect();
        let number = &resource.spec.phone_number_id;
        let ledgers: Vec<_> = others.iter().flat_map(|other| other.attempts()).collect();
        let calls = self.memory.history.with_ledgers(number, &ledgers);
        let peers = Peers::of(&resource, &others, calls);
        let open_claim = self.memory.open_claim(&resource);
        let id = format!("claim-{}-{}", self.incarnation, self.claims);
        let (mut inputs, mut reading, mut read_at) = (None, None::<ReadOutcome>, None);
        for _ in 0..STEPS_MAX {
            let token = inputs
                .as_ref()
                .and_then(|inputs: &Result<_, _>| inputs.as_ref().ok());
            let cool_down = token.and_then(|d: &operator_core::credentials::Digests| {
                self.memory.cooldowns.until(&d.token)
            });
            let uid = resource.uid().unwrap_or_default();
            let observed = Observed {
                resource: &resource,
                policy: &policy,
                peers: &peers,
                open_claim,
                last_read: self.memory.notes.last_read(&uid),
                inputs: inputs.clone(),
                cool_down,
                reading: reading.clone(),
                fresh_id: &id,
                jitter: self.jitter,
            };
            match decide(&observed, around.clock.now()) {
                Decision::LoadSecrets => {
                    assert!(inputs.is_none(), "the Secrets were asked for twice");
                    let found = around.inputs(&resource);
                    inputs = Some(
                        found
                            .map(|inputs| inputs.digests().clone())
                            .ok_or_else(missing),
                    );
                }
                Decision::Read => {
                    assert!(reading.is_none(), "a read was asked for twice");
                    let with = around.inputs(&resource).expect("read without Secrets");
                    self.memory.notes.note_read(&uid, around.clock.now());
                    let (uptime, now) = (around.clock.uptime(), around.clock.now());
                    let read = around.graph.read(with, uptime, now);
                    read_at = Some((uptime, read.state));
                    reading = Some(read);
                }
                Decision::Register(claim) => {
                    let with = around.inputs(&resource).expect("a call without Secrets");
                    self.claims += 1;
                    self.flight = Some(Flight {
                        resource,
                        claim: *claim,
                        id,
                        inputs: with,
                        reading: read_at,
                        started: around.clock.uptime(),
                        answer_at: Duration::ZERO,
                        outcome: None,
                        held: None,
                        phase: Phase::Claiming,
                    });
                    return;
                }
                Decision::Settle(status, wake) => {
                    let token = token.map(|digests| digests.token.clone());
                    self.settle(&resource, *status, wake, (reading.as_ref(), token), around);
                    return;
                }
            }
        }
        panic!("a pass does not end: {:#?}", resource.status);
    }

    fn settle(
        &mut self,
        resource: &WhatsAppPhoneNumber,
        status: WhatsAppPhoneNumberStatus,
        wake: Requeue,
        (reading, token): (Option<&ReadOutcome>, Option<String>),
        around: &mut Around,
    ) {
        let mut settled = resource.clone();
        if resource.status.as_ref() != Some(&status) {
            let now = around.clock.now();
            let until =
                reading.and_then(|reading| cooldown_until(reading, &status, &policy(), now));
            if let (Some(token), Some(until)) = (token, until) {
                self.memory.cooldowns.start(&token, until);
            }
            match self.put_status(resource, status, around) {
                Ok(after) => {
                    self.memory.notes.note_written(&after);
                    settled = after;
                }
                Err(_) => return self.fail(resource, around),
            }
        }
        self.memory
            .notes
            .note_success(&resource.uid().unwrap_or_default());
        if !around.witness.odd {
            check_wake(&settled, wake);
        }
        if let Requeue::After(wait) = wake {
            self.wake_after(name_of(resource), wait, around);
        }
    }

    /// The resource was made anew: the watch brings what became of the one before it.
    fn wait_for_watch(&mut self, name: Name, around: &Around) {
        self.wake_after(name, AFTER_GONE, around);
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
    ) -> Result<WhatsAppPhoneNumber, Refusal> {
        let mut written = decided_on.clone();
        written.status = Some(status);
        match self.faults.pop_front() {
            None => store(&written, around),
            Some(Fault::Refused) => Err(Refusal::Failed),
            Some(Fault::AnswerLost) => store(&written, around).and(Err(Refusal::Failed)),
            Some(Fault::LandsLate) => {
                around.cluster.late.push(written);
                Err(Refusal::Failed)
            }
        }
    }

    /// Takes the attempt under way one step further.
    pub(crate) fn step(&mut self, around: &mut Around) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        self.flight = match flight.phase {
            Phase::Claiming => self.write_claim(flight, around),
            Phase::Stored => Some(self.send(flight, around)),
            Phase::Sent => Some(self.take_answer(flight, around)),
            Phase::Answered => self.record(flight, around),
            Phase::Recorded => {
                // The pass goes on with what was recorded.
                match &flight.held {
                    Some(held) if held.uid() == flight.resource.uid() => {
                        self.pass_over(held.clone(), around);
                    }
                    Some(held) => self.wait_for_watch(name_of(held), around),
                    None => {}
                }
                self.flight.take()
            }
        };
    }

    fn write_claim(&mut self, mut flight: Flight, around: &mut Around) -> Option<Flight> {
        around.witness.claims(self.incarnation, &flight.id);
        let name = name_of(&flight.resource);
        let status = flight.claim.status.clone();
        let refused = match self.put_status(&flight.resource, status, around) {
            Ok(held) => return Some(self.hold(flight, held)),
            Err(refused) => refused,
        };
        let newest = around.cluster.newest(name).cloned();
        if let Some(newest) = &newest
            && holds_claim(newest, &flight.resource, &flight.id)
        {
            return Some(self.hold(flight, newest.clone()));
        }
        self.memory.notes.note_unsent(&flight.id);
        match (refused, newest) {
            (Refusal::Conflict, Some(newest)) => {
                around.witness.seen(self.incarnation, &newest);
                flight.held = Some(newest);
                flight.phase = Phase::Recorded; // Decide again, on the newest.
                Some(flight)
            }
            (_, None) => None,
            (_, Some(_)) => {
                self.fail(&flight.resource, around);
                None
            }
        }
    }

    fn hold(&self, mut flight: Flight, held: WhatsAppPhoneNumber) -> Flight {
        self.memory.notes.note_written(&held);
        let number = &flight.resource.spec.phone_number_id;
        let entry = flight.claim.status.attempts.first();
        self.memory
            .history
            .note(number, entry.map(std::slice::from_ref).unwrap_or_default());
        flight.held = Some(held);
        flight.phase = Phase::Stored;
        flight
    }

    fn send(&mut self, mut flight: Flight, around: &mut Around) -> Flight {
        let (uptime, now) = (around.clock.uptime(), around.clock.now());
        let own = name_of(&flight.resource);
        let rival = self.view.keys().any(|name| *name != own) && {
            let mut others = super::cluster::NAMES
                .into_iter()
                .filter(|name| *name != own);
            let called = |other| twins::is_called_for(other, policy().confirm_window, now);
            others.any(|name| around.cluster.newest(name).is_some_and(called))
        };
        flight.phase = Phase::Sent;
        flight.answer_at = uptime;
        if rival || uptime >= flight.started + TTL / 2 {
            let why = if rival {
                "another has a call"
            } else {
                "too late"
            };
            flight.outcome = Some(RegisterOutcome::without_answer(Reason::NotSent, why));
            return flight;
        }
        let registered = around.graph.registered;
        let (arrived, outcome, takes) = around.graph.post(flight.inputs, uptime, now);
        if arrived {
            let sending = Sending {
                id: &flight.id,
                incarnation: self.incarnation,
                at: uptime,
                request: flight.claim.status.attempts[0].request.as_deref(),
                inputs: flight.inputs,
                decided_on: &flight.resource,
                reading: flight.reading,
                registered,
                rate_limited: outcome.reason == Reason::RateLimited,
            };
            around.witness.posts(&sending, &around.cluster, &self.view);
        }
        flight.answer_at = uptime + takes.min(TIMEOUT);
        flight.outcome = Some(outcome);
        if takes >= TIMEOUT && arrived {
            let lost = RegisterOutcome::without_answer(Reason::OutcomeUnknown, "no answer in 30 s");
            flight.outcome = Some(lost);
        }
        flight
    }

    /// Takes note of the outcome in the process, as `Attempt::remember` does.
    fn take_answer(&mut self, mut flight: Flight, around: &mut Around) -> Flight {
        flight.phase = Phase::Answered;
        let Some(outcome) = &flight.outcome else {
            return flight;
        };
        let policy = policy();
        let result = result(&flight, outcome);
        let concluded = apply_outcome(
            flight.claim.status.clone(),
            &result,
            &self.apply_context(&policy, 0, around),
        );
        let number = &flight.resource.spec.phone_number_id;
        self.memory
            .history
            .note(number, concluded.attempts.get(..1).unwrap_or_default());
        if let (Reason::RateLimited, Some(next)) = (outcome.reason, concluded.next_attempt_time) {
            self.memory
                .cooldowns
                .start(&flight.inputs.digests().token, next.0);
        }
        flight
    }

    fn record(&mut self, mut flight: Flight, around: &mut Around) -> Option<Flight> {
        let known = flight.held.take();
        let before = known.or_else(|| around.cluster.same(&flight.resource).cloned());
        let (Some(before), Some(outcome)) = (before, flight.outcome.clone()) else {
            return None; // The resource is gone.
        };
        let status = before.status_or_unseen();
        let policy = policy();
        let at = self.apply_context(&policy, status.observed_generation.max(0), around);
        let concluded = apply_outcome(status.clone(), &result(&flight, &outcome), &at);
        let after = if concluded == status {
            Ok(before)
        } else {
            self.put_status(&before, concluded, around)
        };
        if let Ok(after) = after {
            self.memory.notes.note_written(&after);
            around
                .witness
                .records(&flight.id, &after, &outcome, flight.inputs);
            flight.held = Some(after);
            flight.phase = Phase::Recorded;
        }
        Some(flight)
    }

    fn apply_context<'a>(
        &self,
        policy: &'a Policy,
        generation: i64,
        around: &Around,
    ) -> ApplyContext<'a> {
        ApplyContext {
            policy,
            generation,
            jitter: self.jitter,
            now: around.clock.now(),
        }
    }
}

fn result<'a>(flight: &'a Flight, outcome: &'a RegisterOutcome) -> CallResult<'a> {
    CallResult {
        id: &flight.id,
        outcome,
        handled_before: flight.claim.handled_before.as_deref(),
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

/// Whether a change is worth a pass: that of a status alone is not, as in `controller::resource_changes`.
fn wakes(before: &WhatsAppPhoneNumber, after: &WhatsAppPhoneNumber) -> bool {
    let said = |resource: &WhatsAppPhoneNumber| {
        let metadata = &resource.metadata;
        let (uid, annotations) = (metadata.uid.clone(), metadata.annotations.clone());
        (uid, metadata.generation, annotations)
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
