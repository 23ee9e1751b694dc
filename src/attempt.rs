//! One register attempt from its claim to its record. I/O.
//!
//! It runs as a task of its own, so that it ends as it should when the pass that started it is cancelled or the process
//! is told to stop. It holds the number's lock meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use tracing::{Instrument, info, warn};

use crate::api::{RegisterAttempt, WhatsAppPhoneNumber};
use crate::conclude::{Course, Ending, conclude};
use crate::controller::Context;
use crate::decide::Claim;
use crate::duplicates::{holds_back, registered_meanwhile};
use crate::graph::{Call, RegisterOutcome};
use crate::index::key_of;
use crate::memory::NumberGuard;
use crate::metrics::{GraphOutcome, Operation};
use crate::reason::Reason;
use crate::record::{Chain, Claimed, RecordError, Recorded};
use crate::secrets::CallInputs;

/// Everything that an attempt needs; it outlives the pass that decided on it.
pub struct Attempt {
    /// The resource as decided on.
    pub resource: WhatsAppPhoneNumber,
    /// The claim to write.
    pub claim: Claim,
    /// The claim's ID.
    pub id: String,
    /// The secrets.
    pub inputs: CallInputs,
    /// The digest of the token, for its cool-down.
    pub token_digest: String,
    /// The right to work on the number.
    pub guard: NumberGuard,
}

/// What became of an attempt, with the newest version of the resource where it is still there.
#[derive(Debug)]
pub enum Made {
    /// The claim was held; its outcome is recorded.
    Recorded(Option<Box<WhatsAppPhoneNumber>>),
    /// Somebody else has written before the claim: nothing was sent.
    Lost(Option<Box<WhatsAppPhoneNumber>>),
}

impl Attempt {
    /// Makes the attempt in a task of its own and waits for it.
    ///
    /// # Errors
    /// When it cannot be found out whether the claim is stored; nothing was sent then.
    pub async fn make(self, context: &Arc<Context>) -> Result<Made, RecordError> {
        let context = Arc::clone(context);
        let span = tracing::info_span!("attempt", attempt = %self.id);
        let tasks = context.tasks.clone();
        let task = tasks.spawn(async move { self.claim_and_call(&context).await }.instrument(span));
        task.await.unwrap_or_else(|error| {
            // The task was not cancelled by anyone; what it wrote so far is found by the next pass.
            warn!(%error, "The task of an attempt ended early");
            Ok(Made::Recorded(None))
        })
    }

    async fn claim_and_call(self, context: &Context) -> Result<Made, RecordError> {
        // The clock starts before the claim is written, so that it never says that there is more time than others see.
        let started = Instant::now();
        let Some(entry) = self.claim.status.attempts.first().cloned() else {
            return Ok(Made::Lost(None));
        };
        let send_before = started + entry.ttl() / 2;
        let held = match self.write_claim(context, &entry, send_before).await? {
            Claimed::Mine(held) => held,
            Claimed::Lost(newest) => return Ok(Made::Lost(newest)),
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
        Ok(Made::Recorded(recorded.map(Box::new)))
    }

    /// Writes the claim.
    async fn write_claim(
        &self,
        context: &Context,
        entry: &RegisterAttempt,
        send_before: Instant,
    ) -> Result<Claimed, RecordError> {
        let status = self.claim.status.clone();
        let claimed = context
            .recorder
            .claim(&self.resource, status, &self.id, send_before.into())
            .await;
        match &claimed {
            Ok(Claimed::Mine(held)) => {
                context.memory.wrote(held);
                let number = &self.resource.spec.phone_number_id;
                context.memory.remember(number, std::slice::from_ref(entry));
                context.remark_on_spec(&self.resource, held);
            }
            // A write that was not answered may still land.
            Ok(Claimed::Lost(_)) | Err(_) => context.memory.will_not_send(&self.id),
        }
        claimed
    }

    /// Why the call must not be made although the claim is held. Nothing may come between this and the call.
    async fn reason_not_to_send(
        &self,
        context: &Context,
        held: &WhatsAppPhoneNumber,
        send_before: Instant,
    ) -> Option<String> {
        let claim = self.claim.status.attempts.first();
        if claim.is_some_and(|claim| registered_meanwhile(held, claim)) {
            return Some("the number was registered meanwhile".to_owned());
        }
        let key = key_of(held);
        if !context
            .index
            .others(&held.spec.phone_number_id, &key)
            .is_empty()
        {
            match self.rival(context, held).await {
                Ok(None) => {}
                Ok(Some(rival)) => {
                    return Some(format!(
                        "{rival} has the same phone number and is registered, or a call for it is being made or was made moments ago"
                    ));
                }
                Err(error) => {
                    return Some(format!(
                        "the other resources of the number could not be listed: {}",
                        Chain(&error)
                    ));
                }
            }
        }
        (Instant::now() >= send_before).then(|| {
            "the API server took so long that the claim might be taken for abandoned".to_owned()
        })
    }

    /// Another resource of the number that holds the call back, as the API server has them now.
    async fn rival(
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
            let mut others = list.items.iter().filter(|other| other.uid() != held.uid());
            if let Some(rival) = others.find(|other| holds_back(held, other, window, now)) {
                let key = key_of(rival);
                return Ok(Some(format!("{}/{}", key.namespace, key.name)));
            }
        }
        Ok(None)
    }

    /// The one call.
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
        let ending = Ending {
            id: &self.id,
            outcome,
            handled_before,
        };
        let jitter = rand::random();
        self.remember(context, &ending, jitter);
        let recorded = context
            .recorder
            .record(held, &ending, &context.policy, jitter)
            .await;
        let Some(Recorded { before, after }) = recorded else {
            info!("The resource is gone; there is nothing to record the outcome in");
            return None;
        };
        context.memory.wrote(&after);
        context.announce(&before, &after);
        Some(after)
    }

    /// Takes note of the outcome in the process, which the record may follow much later.
    fn remember(&self, context: &Context, ending: &Ending<'_>, jitter: f64) {
        let course = Course {
            policy: &context.policy,
            generation: 0,
            jitter,
            now: Timestamp::now(),
        };
        let concluded = conclude(self.claim.status.clone(), ending, &course);
        let entry = concluded.attempts.get(..1).unwrap_or_default();
        context
            .memory
            .remember(&self.resource.spec.phone_number_id, entry);
        if let (Reason::RateLimited, Some(next)) =
            (ending.outcome.reason, concluded.next_attempt_time)
        {
            context.memory.cool_down(&self.token_digest, next.0);
        }
    }
}

/// A new ID for a claim: 128 random bits.
pub fn new_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}
