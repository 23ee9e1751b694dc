//! One reconciliation: observe → decide → act → record. The I/O around the pure core in [`operator_core::model`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use operator_core::api::{WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};
use operator_core::credentials::{CallInputs, Digests, SecretFault};
use operator_core::graph::{Call, ReadOutcome};
use operator_core::model::{
    Claim, Decision, Observed, OpenClaim, Peers, Requeue, cooldown_until, decide, event,
};
use thiserror::Error;
use tracing::{debug, info, warn};

use super::call::{CallTask, new_id};
use super::claims::{ClaimOutcome, RecordError};
use super::context::Context;
use super::secrets::{self, SecretError};
use crate::memory::{NumberGuard, key_of};
use crate::telemetry::Chain;
use crate::telemetry::metrics::{GraphOutcome, Operation};

/// More steps than any round needs: one that takes more is a bug in this program, and is ended.
const STEPS_MAX: usize = 8;

/// The wait for the watch after a resource was found gone or recreated.
const AFTER_GONE: Duration = Duration::from_secs(1);

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
        "the reconciliation did not settle in {STEPS_MAX} steps: a bug; please report it with the status of the resource"
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
        matches!(self, Self::Record(error) if error.is_not_found())
    }
}

/// The end of one round of decisions.
enum Round {
    /// Nothing is left to do until the action is due.
    Settled(Action),
    /// A claim was attempted, or the resource is another one by now: decide again, if it still exists.
    Claimed(ClaimOutcome),
}

/// Reconciles a resource: one round of decisions, and another one after a claim.
///
/// # Errors
/// When the API server could not be reached or rejected a request, on a conflict, or when the decisions do not settle.
pub async fn reconcile(
    context: &Arc<Context>,
    cached: &WhatsAppPhoneNumber,
) -> Result<Action, ReconcileError> {
    let first = match round(context, cached).await? {
        Round::Settled(action) => return Ok(action),
        Round::Claimed(outcome) => outcome,
    };
    // A resource that is gone or recreated has to wait for the watch: until then, each read and claim of it fails. The
    // watch also brings the last ledger of the old one, which counts.
    let (ClaimOutcome::Acquired(after) | ClaimOutcome::Conflict(after)) = first else {
        return Ok(Action::requeue(AFTER_GONE));
    };
    if after.uid() != cached.uid() {
        return Ok(Action::requeue(AFTER_GONE));
    }
    match round(context, &after).await? {
        Round::Settled(action) => Ok(action),
        Round::Claimed(ClaimOutcome::Acquired(again)) if again.uid() == cached.uid() => {
            Ok(Action::requeue(Duration::ZERO))
        }
        Round::Claimed(ClaimOutcome::Conflict(again)) if again.uid() == cached.uid() => {
            Err(ReconcileError::Contended)
        }
        Round::Claimed(_) => Ok(Action::requeue(AFTER_GONE)),
    }
}

async fn round(
    context: &Arc<Context>,
    cached: &WhatsAppPhoneNumber,
) -> Result<Round, ReconcileError> {
    let number = &cached.spec.phone_number_id;
    let guard = context.memory.locks.lock(number).await;
    let resource = if context.memory.notes.is_stale(cached) {
        context.recorder.newest(cached).await?
    } else {
        cached.clone()
    };
    if resource.uid() != cached.uid() {
        // Recreated, and possibly for another number, which the guard does not lock.
        return Ok(Round::Claimed(ClaimOutcome::Conflict(Box::new(resource))));
    }
    let mut state = RoundState::observe(context, resource, guard);
    for _ in 0..STEPS_MAX {
        match decide(&state.observed(), Timestamp::now()) {
            Decision::LoadSecrets => state.load_secrets().await?,
            Decision::Read => state.read().await,
            Decision::Register(claim) => return state.register(*claim).await,
            Decision::Settle(status, requeue) => {
                let action = state.settle(*status, requeue).await?;
                return Ok(Round::Settled(action));
            }
        }
    }
    Err(ReconcileError::Unsettled)
}

/// The findings of one round so far.
struct RoundState<'a> {
    context: &'a Arc<Context>,
    resource: WhatsAppPhoneNumber,
    guard: NumberGuard,
    peers: Peers,
    open_claim: OpenClaim,
    id: String,
    jitter: f64,
    inputs: Option<CallInputs>,
    digests: Option<Result<Digests, SecretFault>>,
    reading: Option<ReadOutcome>,
}

impl<'a> RoundState<'a> {
    fn observe(
        context: &'a Arc<Context>,
        resource: WhatsAppPhoneNumber,
        guard: NumberGuard,
    ) -> Self {
        Self {
            context,
            peers: peers(context, &resource),
            open_claim: context.memory.open_claim(&resource),
            resource,
            guard,
            id: new_id(),
            jitter: rand::random(),
            inputs: None,
            digests: None,
            reading: None,
        }
    }

    fn observed(&self) -> Observed<'_> {
        let token = self
            .digests
            .as_ref()
            .and_then(|digests| digests.as_ref().ok());
        Observed {
            resource: &self.resource,
            policy: &self.context.policy,
            peers: &self.peers,
            open_claim: self.open_claim,
            last_read: self.context.memory.notes.last_read(&self.uid()),
            inputs: self.digests.clone(),
            cool_down: token
                .and_then(|digests| self.context.memory.cooldowns.until(&digests.token)),
            reading: self.reading.clone(),
            fresh_id: &self.id,
            jitter: self.jitter,
        }
    }

    fn uid(&self) -> String {
        self.resource.uid().unwrap_or_default()
    }

    async fn load_secrets(&mut self) -> Result<(), ReconcileError> {
        let inputs = secrets::load(&self.context.client, &self.resource).await?;
        self.digests = Some(inputs.map(|inputs| {
            let digests = inputs.digests(&self.resource.spec);
            self.inputs = Some(inputs);
            digests
        }));
        Ok(())
    }

    async fn read(&mut self) {
        let Some(inputs) = &self.inputs else { return };
        let started = Instant::now();
        // The time before the call, as the answer may be as old as that.
        self.context
            .memory
            .notes
            .note_read(&self.uid(), Timestamp::now());
        let version = self.context.policy.version(&self.resource);
        let call = Call {
            spec: &self.resource.spec,
            version,
            inputs,
        };
        let reading = self.context.graph.read(&call).await;
        let label = GraphOutcome::of_read(reading.state);
        self.context
            .metrics
            .graph_request(Operation::Read, label, started.elapsed());
        debug!(trace = reading.fbtrace_id.as_deref(), "{}", reading.message);
        self.reading = Some(reading);
    }

    /// Claims, calls and records. The next round decides on the outcome.
    async fn register(self, claim: Claim) -> Result<Round, ReconcileError> {
        let (Some(inputs), Some(Ok(digests))) = (self.inputs, self.digests) else {
            return Err(ReconcileError::Unsettled);
        };
        if self.context.shutdown.is_cancelled() {
            return Ok(Round::Settled(Action::await_change()));
        }
        let call = CallTask {
            resource: self.resource,
            claim,
            id: self.id,
            inputs,
            token_digest: digests.token,
            guard: self.guard,
        };
        Ok(Round::Claimed(call.run(self.context).await?))
    }

    async fn settle(
        self,
        status: WhatsAppPhoneNumberStatus,
        requeue: Requeue,
    ) -> Result<Action, ReconcileError> {
        let context = self.context;
        if self.resource.status.as_ref() != Some(&status) {
            self.note_cool_down(&status);
            let after = context.recorder.write(&self.resource, status).await?;
            context.memory.notes.note_written(&after);
            context.remark_on_spec(&self.resource, &after);
            if let Some(draft) = context.announce(&self.resource, &after) {
                info!(reason = draft.reason, "{}", draft.note);
            }
        }
        if let Some(remark) = event::of_request(&self.resource) {
            context.publish(&self.resource, remark);
        }
        Ok(match requeue {
            Requeue::OnChange => Action::await_change(),
            Requeue::After(wait) => Action::requeue(wait),
        })
    }

    /// Starts the cool-down of the token, for all resources that use it, after a read that met a rate limit.
    fn note_cool_down(&self, status: &WhatsAppPhoneNumberStatus) {
        let (Some(reading), Some(Ok(digests))) = (&self.reading, &self.digests) else {
            return;
        };
        if let Some(until) = cooldown_until(reading, status, &self.context.policy, Timestamp::now())
        {
            self.context.memory.cooldowns.start(&digests.token, until);
        }
    }
}

/// The knowledge about the number beyond the resource.
fn peers(context: &Context, resource: &WhatsAppPhoneNumber) -> Peers {
    let number = &resource.spec.phone_number_id;
    let watched = context.store.others(number, &key_of(resource));
    let others: Vec<&WhatsAppPhoneNumber> = watched
        .iter()
        .filter_map(|other| other.0.as_ref().ok())
        .collect();
    let ledgers: Vec<_> = others.iter().flat_map(|other| other.attempts()).collect();
    let calls = context.memory.history.with_ledgers(number, &ledgers);
    Peers::of(resource, &others, calls)
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
