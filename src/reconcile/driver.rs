//! Drives one reconciliation: performs the effects that [`operator_core::model::machine`] asks for. Nothing is decided here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::runtime::controller::Action;
use operator_core::api::{self, LedgerEntry, WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};
use operator_core::credentials::CallInputs;
use operator_core::graph::{Call, ReadFields};
use operator_core::model::machine::{
    Effect, Failure, Input, Machine, PatchFault, Process as _, Purpose, Unavailable, WriteFault,
};
use operator_core::model::{Requeue, event};
use thiserror::Error;
use tracing::{Instrument, debug, info_span, warn};

use super::claims::RecordError;
use super::context::Context;
use super::host::Host;
use super::secrets::{self, SecretError};
use super::slots::Slot;
use crate::memory::NumberGuard;
use crate::telemetry::Chain;
use crate::telemetry::metrics::{GraphOutcome, Operation, Unrecorded};

/// The shortest time after which a resource at rest is reconciled again, in case the process missed a change. That costs no request
/// if no call can follow.
const HEARTBEAT: Duration = Duration::from_hours(4);

/// The wait between two attempts to record an outcome from which on the failure is reported.
const TELL_OF_RECORD: Duration = Duration::from_secs(1);

/// The wait after a call whose task panicked.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// The resource has changed so that its reconciliation has to begin again.
struct Outdated;

/// A failed reconciliation. It is retried.
#[derive(Debug, Error)]
pub enum ReconcileError {
    /// The resource could not be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A Secret could not be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("conflict: the resource was modified concurrently")]
    Contended,
    #[error(
        "the reconciliation did not settle: a bug; please report it with the status of the resource"
    )]
    Unsettled,
}

impl ReconcileError {
    /// Whether another writer came first, which is not a fault.
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Record(error) => error.is_conflict(),
            Self::Contended => true,
            Self::Secret(_) | Self::Unsettled => false,
        }
    }

    /// Whether the resource is gone.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Record(error) if error.is_gone())
    }

    /// Whether the API server does not take a write as it is.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Record(error) if error.is_refusal())
    }
}

/// Reconciles a resource in a slot.
///
/// # Errors
/// When the API server could not be reached or rejected a request, on a conflict, or when the decisions do not settle.
pub async fn reconcile(
    context: &Arc<Context>,
    cached: &WhatsAppPhoneNumber,
    slot: Slot,
) -> Result<Action, ReconcileError> {
    let mut driver = Driver::new(context, cached, slot);
    let mut effect = Effect::Lock;
    loop {
        effect = match effect {
            Effect::End(end) => return driver.end(end),
            Effect::Lock => match driver.lock().await {
                Ok(()) => driver.step(Input::Locked),
                Err(Outdated) => return Ok(Action::requeue(Duration::ZERO)),
            },
            Effect::Write {
                purpose: Purpose::Claim,
                ..
            } => match driver.call(effect).await {
                Ok((after, effect)) => {
                    driver = after;
                    effect
                }
                Err(action) => return Ok(action),
            },
            effect => {
                let input = driver.perform(effect).await;
                driver.step(input)
            }
        };
    }
}

/// A machine, and what its effects need and leave.
struct Driver {
    context: Arc<Context>,
    machine: Machine,
    slot: Option<Slot>,
    /// The lock of the number; none while another reconciliation holds it beyond the deadline of a deletion.
    guard: Option<NumberGuard>,
    inputs: Option<CallInputs>,
    /// Why the last effect failed, if it did.
    error: Option<ReconcileError>,
    /// The kind of the last call that was claimed.
    operation: api::Operation,
    /// Counts an outcome that is not stored yet.
    unrecorded: Option<Unrecorded>,
}

impl Driver {
    fn new(context: &Arc<Context>, cached: &WhatsAppPhoneNumber, slot: Slot) -> Self {
        Self {
            context: Arc::clone(context),
            machine: Machine::new(Arc::new(cached.clone())),
            slot: Some(slot),
            guard: None,
            inputs: None,
            error: None,
            operation: api::Operation::Register,
            unrecorded: None,
        }
    }

    fn step(&mut self, input: Input) -> Effect {
        self.machine.step(input, &mut Host::of(&self.context))
    }

    /// Performs effects from a claim to its record, in a separate task, which completes even if this reconciliation is cancelled
    /// or the process shuts down. Returns the effect that follows.
    ///
    /// # Errors
    /// What ends the reconciliation instead: the process shuts down already, or the task panicked.
    async fn call(mut self, claim: Effect) -> Result<(Self, Effect), Action> {
        if self.context.shutdown.is_cancelled() {
            return Err(Action::await_change());
        }
        let context = Arc::clone(&self.context);
        let entry = claimed(&claim);
        let span = info_span!("call", attempt = entry.map(|entry| entry.id.as_str()));
        self.operation = entry.map_or(self.operation, |entry| entry.operation);
        let task = async move {
            let mut effect = claim;
            while !matches!(effect, Effect::Lock | Effect::End(_)) {
                let input = self.perform(effect).await;
                effect = self.step(input);
            }
            (self, effect)
        };
        let ended = context.tasks.spawn(task.instrument(span)).await;
        ended.map_err(|error| {
            // Nothing cancels the task, so it panicked; the next reconciliation finds what it wrote so far.
            warn!(
                panicked = error.is_panic(),
                "The task of a call ended early"
            );
            Action::requeue(AFTER_PANIC)
        })
    }

    /// Performs an effect.
    async fn perform(&mut self, effect: Effect) -> Input {
        match effect {
            Effect::ReadResource { wait } => {
                if !wait.is_zero() {
                    self.wait_to_record(wait).await;
                }
                let resource = self.machine.resource();
                let newest = self.context.recorder.newest(resource).await;
                if let Err(error) = &newest
                    && !(error.is_gone() || wait.is_zero())
                {
                    warn!(error = %Chain(error), "The outcome is not recorded yet; retrying");
                }
                self.newest(newest)
            }
            Effect::ReadBack { until } => {
                let left = until.saturating_sub(Host::of(&self.context).uptime());
                let resource = self.machine.resource();
                let newest = self.context.recorder.newest_within(resource, left).await;
                self.newest(newest)
            }
            Effect::LoadSecrets => {
                let found = secrets::load(&self.context.client, self.machine.resource()).await;
                let found = self.heard(found).map(|found| {
                    found.map(|inputs| {
                        let digests = inputs.digests(&self.machine.resource().spec);
                        self.inputs = Some(inputs);
                        digests
                    })
                });
                Input::Secrets(found)
            }
            Effect::ReadNumber(fields) => self.read_number(fields).await,
            Effect::Write {
                on,
                status,
                purpose,
            } => self.write(&on, *status, purpose).await,
            Effect::ListPeers(operation) => {
                let resource = self.machine.resource();
                let survey = self.context.survey(resource, operation).await;
                Input::Peers(survey.map_err(|error| {
                    warn!(error = %Chain(&error), "Failed to list the other resources of the number");
                    // Who may see this resource need see neither other namespaces nor the operator's account.
                    "the API server refused that or did not answer; the operator's log has the details".to_owned()
                }))
            }
            Effect::Finalizer { on, set } => self.patch_finalizer(&on, set).await,
            Effect::Call(operation) => self.call_graph(operation).await,
            // The caller takes them before.
            Effect::Lock | Effect::End(_) => Input::Locked,
        }
    }

    async fn write(
        &mut self,
        on: &WhatsAppPhoneNumber,
        status: WhatsAppPhoneNumberStatus,
        purpose: Purpose,
    ) -> Input {
        let recorder = &self.context.recorder;
        let written = match purpose {
            Purpose::Try => recorder.try_write(on, status).await,
            Purpose::Settle | Purpose::Claim | Purpose::Record => recorder.write(on, status).await,
        };
        if let (Ok(after), false) = (&written, purpose == Purpose::Try) {
            self.context.tell(on, after, purpose);
        }
        self.written(written, purpose)
    }

    async fn patch_finalizer(&mut self, on: &WhatsAppPhoneNumber, set: bool) -> Input {
        let patched = self.context.recorder.patch_finalizer(on, set).await;
        let fault = match &patched {
            Err(error) if error.is_refusal() => {
                warn!(error = %Chain(error), "The API server does not take a patch of the finalizer");
                PatchFault::Refused
            }
            Err(error) if error.is_turned_away() => PatchFault::NotStored,
            Err(error) if error.is_gone() => PatchFault::Gone,
            _ => PatchFault::Unclear,
        };
        let patched = self.heard(patched).map(Arc::new);
        Input::Patched(patched.map_err(|Unavailable| fault))
    }

    /// Takes the lock of the number. Its holder may need a long time, so no slot is held while waiting for the lock. Because nobody waits
    /// for a lock in a slot, the wait for a slot ends. Nor does a deletion wait for it beyond its deadline, after which no call is made.
    ///
    /// # Errors
    /// When the resource was deleted meanwhile: another reconciliation knows the deadline.
    async fn lock(&mut self) -> Result<(), Outdated> {
        self.guard = None;
        self.inputs = None;
        self.unrecorded = None;
        let resource = self.machine.resource();
        let locks = &self.context.memory.locks;
        self.guard = locks.try_lock(&resource.spec.phone_number_id);
        if self.guard.is_none() {
            self.slot = None;
            let lock = locks.lock(&resource.spec.phone_number_id);
            let given_up = self.context.given_up(resource);
            self.guard = tokio::select! {
                guard = lock => Some(guard),
                () = given_up => None,
            };
            let release = self.context.policy.release_time(resource);
            if self.guard.is_none() && release.is_none() {
                return Err(Outdated);
            }
        }
        if self.slot.is_none() {
            let resource = self.machine.resource();
            self.slot = self.context.slots.again(resource).await;
        }
        Ok(())
    }

    /// Waits before the next attempt to record the outcome. The number stays locked, but the slot is free for others: the API server may
    /// refuse for as long as, for example, a policy makes it.
    async fn wait_to_record(&mut self, wait: Duration) {
        self.slot = None;
        if wait >= TELL_OF_RECORD && self.unrecorded.is_none() {
            self.unrecorded = Some(self.context.metrics.unrecorded());
            let why = self.error.as_ref().map(|error| Chain(error).to_string());
            let told = event::of_unrecorded(self.operation, &why.unwrap_or_default());
            self.context.publish(self.machine.resource(), told);
        }
        tokio::time::sleep(wait).await;
    }

    async fn read_number(&mut self, fields: ReadFields) -> Input {
        let Some(call) = self.graph_call() else {
            return Input::Secrets(Err(Unavailable));
        };
        let started = Instant::now();
        let reading = self.context.graph.read(&call, fields).await;
        let label = GraphOutcome::of_read(reading.state);
        self.context
            .metrics
            .graph_request(Operation::Read, label, started.elapsed());
        debug!(trace = reading.fbtrace_id.as_deref(), "{}", reading.message);
        self.tell_of_version(reading.version.as_deref());
        Input::Reading(Box::new(reading))
    }

    /// Reports once that the requested version has expired.
    fn tell_of_version(&self, answered: Option<&str>) {
        let resource = self.machine.resource();
        let asked = self.context.policy.version(resource);
        let Some(answered) = answered.filter(|answered| *answered != asked) else {
            return;
        };
        if self.context.memory.versions.is_new(asked) {
            self.context.metrics.version_expired();
            warn!(
                asked,
                answered, "The version of the Graph API that was asked for is past its end"
            );
            let told = event::of_version(asked, answered);
            self.context.publish(resource, told);
        }
    }

    /// Makes the one call.
    async fn call_graph(&mut self, operation: api::Operation) -> Input {
        let Some(call) = self.graph_call() else {
            return Input::Secrets(Err(Unavailable));
        };
        let started = Instant::now();
        let outcome = match operation {
            api::Operation::Register => self.context.graph.register(&call).await,
            api::Operation::Deregister => self.context.graph.deregister(&call).await,
        };
        let label = GraphOutcome::of_call(outcome.reason);
        self.context
            .metrics
            .graph_request(operation.into(), label, started.elapsed());
        Input::Called(Box::new(outcome))
    }

    /// The inputs of a call to Graph; none before the Secrets were read.
    fn graph_call(&self) -> Option<Call<'_>> {
        let resource = self.machine.resource();
        Some(Call {
            spec: &resource.spec,
            version: self.context.policy.version(resource),
            inputs: self.inputs.as_ref()?,
        })
    }

    fn newest(&mut self, newest: Result<WhatsAppPhoneNumber, RecordError>) -> Input {
        let gone = newest.as_ref().is_err_and(RecordError::is_gone);
        let newest = self.heard(newest).map(|newest| Some(Arc::new(newest)));
        Input::Newest(if gone { Ok(None) } else { newest })
    }

    fn written(
        &mut self,
        written: Result<WhatsAppPhoneNumber, RecordError>,
        purpose: Purpose,
    ) -> Input {
        let fault = match &written {
            Ok(_) => None,
            Err(error) if error.is_conflict() => Some(WriteFault::Conflict),
            Err(error) if error.is_gone() => Some(WriteFault::Gone),
            Err(_) => Some(WriteFault::Unclear),
        };
        match (purpose, &written) {
            (Purpose::Record, Err(error)) if !error.is_conflict() => {
                warn!(error = %Chain(error), "The outcome is not recorded yet; retrying");
            }
            (Purpose::Claim, Err(error)) => {
                debug!(error = %Chain(error), "The write of the claim was not confirmed; reading the resource to settle it");
            }
            _ => {}
        }
        let written = self.heard(written).map(Arc::new);
        Input::Written(written.map_err(|Unavailable| fault.unwrap_or(WriteFault::Unclear)))
    }

    /// Keeps an error for the end of the reconciliation.
    fn heard<T, E: Into<ReconcileError>>(
        &mut self,
        result: Result<T, E>,
    ) -> Result<T, Unavailable> {
        result.map_err(|error| {
            self.error = Some(error.into());
            Unavailable
        })
    }

    fn end(self, end: Result<Requeue, Failure>) -> Result<Action, ReconcileError> {
        match end {
            Ok(requeue) => {
                let resource = self.machine.resource();
                let remark = event::of_request(resource);
                let note = remark.as_ref().map(|remark| remark.note.as_str());
                let is_new = self.context.memory.notes.is_new_remark(resource, note);
                if let Some(remark) = remark.filter(|_| is_new) {
                    self.context.publish(resource, remark);
                }
                let wait = requeue.wait(Timestamp::now());
                let rest = heartbeat(rand::random());
                Ok(Action::requeue(match requeue {
                    Requeue::After(wait) => wait,
                    Requeue::OnChange | Requeue::Observe(_) => {
                        wait.map_or(rest, |wait| wait.min(rest))
                    }
                }))
            }
            Err(Failure::Effect | Failure::Gone) => {
                Err(self.error.unwrap_or(ReconcileError::Unsettled))
            }
            Err(Failure::Contended) => Err(ReconcileError::Contended),
            Err(Failure::Unsettled) => Err(ReconcileError::Unsettled),
        }
    }
}

/// The time until a resource at rest is reconciled again, spread by a random number from 0 to 1.
fn heartbeat(jitter: f64) -> Duration {
    HEARTBEAT.mul_f64(1.0 + jitter)
}

/// The claim that an effect writes.
fn claimed(effect: &Effect) -> Option<&LedgerEntry> {
    match effect {
        Effect::Write { status, .. } => status.attempts.first(),
        _ => None,
    }
}

/// Logs the result of a reconciliation.
pub fn log(result: &Result<Action, ReconcileError>) {
    match result {
        Ok(_) => debug!("Reconciled"),
        Err(error) if error.is_conflict() => {
            debug!("Conflict: the resource was modified concurrently")
        }
        Err(error) if error.is_gone() => debug!("The resource is gone"),
        Err(error) => {
            warn!(error = %Chain(error), "Failed to reconcile; retrying")
        }
    }
}
