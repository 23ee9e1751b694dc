//! One register call, from its claim to its record.
//!
//! It runs as a task of its own, so that it is completed when the reconciliation that started it is cancelled or the
//! process shuts down. The task holds the lock of the number.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use tracing::{Instrument, info, warn};

use operator_core::api::{LedgerEntry, Reason, WhatsAppPhoneNumber};
use operator_core::credentials::CallInputs;
use operator_core::graph::{Call, RegisterOutcome};
use operator_core::model::twins::{blocks_call, registered_meanwhile};
use operator_core::model::{ApplyContext, CallResult, Claim, apply_outcome};

use super::claims::{ClaimOutcome, RecordError, Recorded};
use super::context::Context;
use crate::memory::{NumberGuard, key_of};
use crate::telemetry::Chain;
use crate::telemetry::metrics::{GraphOutcome, Operation};

/// A call from its claim to its record; it outlives the reconciliation that decided on it.
pub struct CallTask {
    /// The version of the resource that the decision was made on.
    pub resource: WhatsAppPhoneNumber,
    pub claim: Claim,
    /// The ID of the claim.
    pub id: String,
    pub inputs: CallInputs,
    /// The digest of the token, for its cool-down.
    pub token_digest: String,
    /// The lock of the number.
    pub guard: NumberGuard,
}

impl CallTask {
    /// Runs the call in a task of its own, and waits for it.
    ///
    /// # Errors
    /// When the claim was rejected, or it is unknown whether it is stored. Nothing was sent.
    pub async fn run(self, context: &Arc<Context>) -> Result<ClaimOutcome, RecordError> {
        let context = Arc::clone(context);
        let span = tracing::info_span!("call", attempt = %self.id);
        let tasks = context.tasks.clone();
        let task = tasks.spawn(async move { self.claim_and_call(&context).await }.instrument(span));
        task.await.unwrap_or_else(|error| {
            // Nothing cancels the task, so it panicked; the next reconciliation finds what it wrote so far.
            warn!(
                panicked = error.is_panic(),
                "The task of a call ended early"
            );
            Ok(ClaimOutcome::Gone)
        })
    }

    async fn claim_and_call(self, context: &Context) -> Result<ClaimOutcome, RecordError> {
        // The clock starts before the claim is written, so that no other process considers it abandoned earlier.
        let started = Instant::now();
        let Some(entry) = self.claim.status.attempts.first().cloned() else {
            return Ok(ClaimOutcome::Gone);
        };
        let send_before = started + entry.ttl() / 2;
        let held = match self.write_claim(context, &entry, send_before).await? {
            ClaimOutcome::Acquired(held) => held,
            lost => return Ok(lost),
        };
        let outcome = match self.reason_not_to_send(context, &held, send_before).await {
            Some(why) => RegisterOutcome::without_answer(Reason::NotSent, &why),
            None => self.call(context).await,
        };
        context.metrics.registration_attempt(outcome.reason);
        info!(
            reason = outcome.reason.as_str(),
            trace = outcome.fbtrace_id.as_deref(),
            "{}",
            outcome.message
        );
        let recorded = self.record(context, &held, &outcome).await;
        drop(self.guard);
        Ok(recorded.map_or(ClaimOutcome::Gone, |after| {
            ClaimOutcome::Acquired(Box::new(after))
        }))
    }

    async fn write_claim(
        &self,
        context: &Context,
        entry: &LedgerEntry,
        send_before: Instant,
    ) -> Result<ClaimOutcome, RecordError> {
        let status = self.claim.status.clone();
        let claimed = context
            .recorder
            .claim(&self.resource, status, &self.id, send_before.into())
            .await;
        match &claimed {
            Ok(ClaimOutcome::Acquired(held)) => {
                context.memory.notes.note_written(held);
                let number = &self.resource.spec.phone_number_id;
                context
                    .memory
                    .history
                    .note(number, std::slice::from_ref(entry));
                context.remark_on_spec(&self.resource, held);
            }
            // A write without an answer may still be stored; then this process closes the claim as `NotSent`.
            Ok(ClaimOutcome::Conflict(_) | ClaimOutcome::Gone) | Err(_) => {
                context.memory.notes.note_unsent(&self.id);
            }
        }
        claimed
    }

    /// Returns why the call must not be made although the claim is held. Nothing may come between this check and the call.
    async fn reason_not_to_send(
        &self,
        context: &Context,
        held: &WhatsAppPhoneNumber,
        send_before: Instant,
    ) -> Option<String> {
        let claim = self.claim.status.attempts.first();
        if claim.is_some_and(|claim| registered_meanwhile(held, claim)) {
            return Some("the number was registered after the claim was decided on".to_owned());
        }
        let key = key_of(held);
        if !context
            .store
            .others(&held.spec.phone_number_id, &key)
            .is_empty()
        {
            match self.blocking_peer(context, held).await {
                Ok(None) => {}
                Ok(Some(peer)) => {
                    return Some(format!(
                        "{peer} has the same phone number and is registered, or a call for it is in flight or was made moments ago"
                    ));
                }
                Err(error) => {
                    return Some(format!(
                        "failed to list the other resources of the number: {}",
                        Chain(&error)
                    ));
                }
            }
        }
        (Instant::now() >= send_before).then(|| {
            "the API server took so long that another process may consider the claim abandoned"
                .to_owned()
        })
    }

    /// Lists the number's resources from the API server and returns the first peer that blocks the call.
    async fn blocking_peer(
        &self,
        context: &Context,
        held: &WhatsAppPhoneNumber,
    ) -> Result<Option<String>, kube::Error> {
        let selector = format!("spec.phoneNumberID={}", held.spec.phone_number_id);
        let params = ListParams::default().fields(&selector);
        for namespace in context.scope.namespaces() {
            let api: Api<WhatsAppPhoneNumber> = match namespace {
                Some(namespace) => Api::namespaced(context.client.clone(), namespace),
                None => Api::all(context.client.clone()),
            };
            let list = tokio::time::timeout(Duration::from_secs(10), api.list(&params));
            let list = list
                .await
                .map_err(|_| kube::Error::Service("no answer in 10 s".into()))??;
            let (now, window) = (Timestamp::now(), context.policy.confirm_window);
            let mut peers = list.items.iter().filter(|peer| peer.uid() != held.uid());
            if let Some(peer) = peers.find(|peer| blocks_call(held, peer, window, now)) {
                return Ok(Some(peer.qualified_name()));
            }
        }
        Ok(None)
    }

    /// Makes the one call.
    async fn call(&self, context: &Context) -> RegisterOutcome {
        let started = Instant::now();
        let version = context.policy.version(&self.resource);
        let call = Call {
            spec: &self.resource.spec,
            version,
            inputs: &self.inputs,
        };
        let outcome = context.graph.register(&call).await;
        let label = GraphOutcome::of_register(outcome.reason);
        context
            .metrics
            .graph_request(Operation::Register, label, started.elapsed());
        outcome
    }

    async fn record(
        &self,
        context: &Context,
        held: &WhatsAppPhoneNumber,
        outcome: &RegisterOutcome,
    ) -> Option<WhatsAppPhoneNumber> {
        let handled_before = self.claim.handled_before.as_deref();
        let result = CallResult {
            id: &self.id,
            outcome,
            handled_before,
        };
        let jitter = rand::random();
        self.note_outcome(context, &result, jitter);
        let recorded = context
            .recorder
            .record(held, &result, &context.policy, jitter)
            .await;
        let Some(Recorded { before, after }) = recorded else {
            info!("The resource is gone; the outcome is not recorded");
            return None;
        };
        context.memory.notes.note_written(&after);
        context.announce(&before, &after);
        Some(after)
    }

    /// Notes the outcome in memory, as the record may follow much later.
    fn note_outcome(&self, context: &Context, result: &CallResult<'_>, jitter: f64) {
        let at = ApplyContext {
            policy: &context.policy,
            generation: 0,
            jitter,
            now: Timestamp::now(),
        };
        let applied = apply_outcome(self.claim.status.clone(), result, &at);
        let entry = applied.attempts.get(..1).unwrap_or_default();
        context
            .memory
            .history
            .note(&self.resource.spec.phone_number_id, entry);
        if let (Reason::RateLimited, Some(next)) =
            (result.outcome.reason, applied.next_attempt_time)
        {
            context.memory.cooldowns.start(&self.token_digest, next.0);
        }
    }
}

/// A new ID for a claim: 128 random bits.
pub fn new_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}
