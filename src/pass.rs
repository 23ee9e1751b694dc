//! One pass over a resource: observe → decide → act → record. I/O around the pure core in [`crate::decide`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};
use thiserror::Error;
use tracing::{debug, info, warn};
use zeroize::Zeroize;

use crate::api::{WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};
use crate::attempt::{Attempt, Made, new_id};
use crate::controller::Context;
use crate::decide::{Claim, Decision, Observed, OpenClaim, Others, Wake, cools_until, decide};
use crate::digest::Digests;
use crate::duplicates;
use crate::graph::{Call, ReadOutcome};
use crate::index::key_of;
use crate::memory::NumberGuard;
use crate::metrics::{GraphOutcome, Operation};
use crate::notice;
use crate::reason::Reason;
use crate::record::RecordError;
use crate::secrets::{CallInputs, SecretFault, secret_names};

/// More steps than any pass needs: a pass that goes on for longer is a fault of this program, and ends.
const STEPS_MAX: usize = 8;

/// How long a pass waits for the watch to say what became of a resource that is gone.
const AFTER_GONE: Duration = Duration::from_secs(1);

/// How long reading one Secret may take.
const SECRET_TIMEOUT: Duration = Duration::from_secs(30);

/// The API server could not be reached or refused: the pass is made again.
#[derive(Debug, Error)]
pub enum PassError {
    /// The resource could not be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A Secret could not be read.
    #[error("failed to read the Secret {name}")]
    Secret {
        /// The Secret.
        name: String,
        /// What the API server said.
        #[source]
        source: Box<kube::Error>,
    },
    /// A Secret could not be read in time.
    #[error("failed to read the Secret {name}: no answer from the API server in {} s", SECRET_TIMEOUT.as_secs())]
    SecretTimeout {
        /// The Secret.
        name: String,
    },
    /// Somebody else has written before both claims that were tried.
    #[error("others go on writing the resource")]
    Contended,
    /// The steps of a pass never came to an end.
    #[error(
        "a pass did not settle in {STEPS_MAX} steps; please report this with the resource's status"
    )]
    Unsettled,
}

impl PassError {
    /// Whether somebody else has written in between: nothing is wrong.
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Record(error) => error.is_conflict(),
            Self::Contended => true,
            _ => false,
        }
    }

    /// Whether the operator may not read a Secret.
    fn is_forbidden(&self) -> bool {
        matches!(self, Self::Secret { source, .. } if matches!(source.as_ref(), kube::Error::Api(status) if status.code == 403))
    }

    /// Whether the resource is gone.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Record(error) if error.is_not_found())
    }
}

/// How a pass ended.
enum Ended {
    /// Nothing is left to do until then.
    Settled(Action),
    /// An attempt was made: decide again, on this version if the resource is still there.
    Attempted(Option<Box<WhatsAppPhoneNumber>>),
    /// Somebody else has written before the claim, or the resource is another one by now: the same.
    Lost(Option<Box<WhatsAppPhoneNumber>>),
}

/// Makes a pass over a resource, and another one after an attempt.
///
/// # Errors
/// When the API server could not be reached or refused.
pub async fn make(
    context: &Arc<Context>,
    cached: &WhatsAppPhoneNumber,
) -> Result<Action, PassError> {
    // Gone or made anew: not at once again, or it would be read and claimed in vain until the watch says so. The watch
    // brings what became of the one that is gone before the new one; its ledger counts.
    let same = |after: &WhatsAppPhoneNumber| after.uid() == cached.uid();
    let after = match make_one(context, cached).await? {
        Ended::Settled(action) => return Ok(action),
        Ended::Attempted(Some(after)) | Ended::Lost(Some(after)) if same(&after) => after,
        Ended::Attempted(_) | Ended::Lost(_) => return Ok(Action::requeue(AFTER_GONE)),
    };
    match make_one(context, &after).await? {
        Ended::Settled(action) => Ok(action),
        Ended::Attempted(Some(again)) if same(&again) => Ok(Action::requeue(Duration::ZERO)),
        Ended::Lost(Some(again)) if same(&again) => Err(PassError::Contended),
        Ended::Attempted(_) | Ended::Lost(_) => Ok(Action::requeue(AFTER_GONE)),
    }
}

async fn make_one(
    context: &Arc<Context>,
    cached: &WhatsAppPhoneNumber,
) -> Result<Ended, PassError> {
    let guard = context.memory.lock(&cached.spec.phone_number_id).await;
    let resource = if context.memory.is_stale(cached) {
        context.recorder.newest(cached).await?
    } else {
        cached.clone()
    };
    if resource.uid() != cached.uid() {
        // Made anew meanwhile, and maybe for another number, whose lock this is not.
        return Ok(Ended::Lost(Some(Box::new(resource))));
    }
    let mut pass = Pass::observe(context, resource, guard);
    for _ in 0..STEPS_MAX {
        match decide(&pass.observed(), Timestamp::now()) {
            Decision::LoadSecrets => pass.load_secrets().await?,
            Decision::Read => pass.read().await,
            Decision::Register(claim) => return pass.register(*claim).await,
            Decision::Settle(status, wake) => {
                return pass.settle(*status, wake).await.map(Ended::Settled);
            }
        }
    }
    Err(PassError::Unsettled)
}

/// The data of the Secrets that a resource names; cleared from memory however the reading of them ends.
#[derive(Default)]
struct Found(BTreeMap<String, BTreeMap<String, ByteString>>);

impl Drop for Found {
    fn drop(&mut self) {
        for value in self.0.values_mut().flat_map(BTreeMap::values_mut) {
            value.0.zeroize();
        }
    }
}

/// What one pass has found out so far.
struct Pass<'a> {
    context: &'a Arc<Context>,
    resource: WhatsAppPhoneNumber,
    guard: NumberGuard,
    others: Others,
    open_claim: OpenClaim,
    id: String,
    jitter: f64,
    inputs: Option<CallInputs>,
    digests: Option<Result<Digests, SecretFault>>,
    reading: Option<ReadOutcome>,
}

impl<'a> Pass<'a> {
    fn observe(
        context: &'a Arc<Context>,
        resource: WhatsAppPhoneNumber,
        guard: NumberGuard,
    ) -> Self {
        Self {
            context,
            others: others(context, &resource),
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
            others: &self.others,
            open_claim: self.open_claim,
            last_read: self.context.memory.last_read(&self.uid()),
            inputs: self.digests.clone(),
            cool_down: token.and_then(|digests| self.context.memory.cools_until(&digests.token)),
            reading: self.reading.clone(),
            fresh_id: &self.id,
            jitter: self.jitter,
        }
    }

    fn uid(&self) -> String {
        self.resource.uid().unwrap_or_default()
    }

    async fn load_secrets(&mut self) -> Result<(), PassError> {
        let namespace = self.resource.namespace().unwrap_or_default();
        let api: Api<Secret> = Api::namespaced(self.context.client.clone(), &namespace);
        let mut found = Found::default();
        for name in secret_names(&self.resource.spec) {
            match get_secret(&api, name).await {
                Ok(Some(secret)) => {
                    let data = secret.data.unwrap_or_default();
                    found.0.insert(name.to_owned(), data);
                }
                Ok(None) => {}
                Err(error) if error.is_forbidden() => {
                    self.digests = Some(Err(forbidden(name)));
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        let inputs = CallInputs::from_secrets(&self.resource.spec, |name| found.0.get(name));
        self.digests = Some(match inputs {
            Ok(inputs) => {
                let digests = inputs.digests(&self.resource.spec);
                self.inputs = Some(inputs);
                Ok(digests)
            }
            Err(fault) => Err(fault),
        });
        Ok(())
    }

    async fn read(&mut self) {
        let Some(inputs) = &self.inputs else { return };
        let started = Instant::now();
        // The time before the call: what Graph says may be as old as that.
        self.context.memory.read(&self.uid(), Timestamp::now());
        let version = self.context.policy.version(&self.resource);
        let call = Call {
            spec: &self.resource.spec,
            version,
            inputs,
        };
        let reading = self.context.graph.read(&call).await;
        let label = GraphOutcome::of_read(reading.verdict);
        self.context
            .metrics
            .graph_request(Operation::Read, label, started.elapsed());
        debug!(trace = reading.fbtrace_id.as_deref(), "{}", reading.message);
        self.reading = Some(reading);
    }

    /// Claims, calls and records; what follows from the outcome is decided in the next pass.
    async fn register(self, claim: Claim) -> Result<Ended, PassError> {
        let (Some(inputs), Some(Ok(digests))) = (self.inputs, self.digests) else {
            return Err(PassError::Unsettled);
        };
        if self.context.shutdown.is_cancelled() {
            return Ok(Ended::Settled(Action::await_change()));
        }
        let attempt = Attempt {
            resource: self.resource,
            claim,
            id: self.id,
            inputs,
            token_digest: digests.token,
            guard: self.guard,
        };
        Ok(match attempt.make(self.context).await? {
            Made::Recorded(after) => Ended::Attempted(after),
            Made::Lost(newest) => Ended::Lost(newest),
        })
    }

    async fn settle(
        self,
        status: WhatsAppPhoneNumberStatus,
        wake: Wake,
    ) -> Result<Action, PassError> {
        let context = self.context;
        if self.resource.status.as_ref() != Some(&status) {
            self.note_cool_down(&status);
            let after = context.recorder.write(&self.resource, status).await?;
            context.memory.wrote(&after);
            context.remark_on_spec(&self.resource, &after);
            if let Some(notice) = context.announce(&self.resource, &after) {
                info!(reason = notice.reason, "{}", notice.note);
            }
        }
        if let Some(remark) = notice::of_request(&self.resource) {
            context.publish(&self.resource, remark);
        }
        Ok(match wake {
            Wake::OnChange => Action::await_change(),
            Wake::After(wait) => Action::requeue(wait),
        })
    }

    /// A read that met a rate limit lets the token cool down for every resource that uses it.
    fn note_cool_down(&self, status: &WhatsAppPhoneNumberStatus) {
        let (Some(reading), Some(Ok(digests))) = (&self.reading, &self.digests) else {
            return;
        };
        if let Some(until) = cools_until(reading, status, &self.context.policy, Timestamp::now()) {
            self.context.memory.cool_down(&digests.token, until);
        }
    }
}

/// What is known of the number beyond the resource.
fn others(context: &Context, resource: &WhatsAppPhoneNumber) -> Others {
    let number = &resource.spec.phone_number_id;
    let watched = context.index.others(number, &key_of(resource));
    let others: Vec<&WhatsAppPhoneNumber> = watched
        .iter()
        .filter_map(|other| other.0.as_ref().ok())
        .collect();
    duplicates::known(resource, &others, &context.memory)
}

fn forbidden(name: &str) -> SecretFault {
    let reason = Reason::SecretForbidden;
    SecretFault {
        reason,
        message: format!(
            "The operator may not read the Secret {name}. {}",
            reason.advice()
        ),
    }
}

async fn get_secret(api: &Api<Secret>, name: &str) -> Result<Option<Secret>, PassError> {
    match tokio::time::timeout(SECRET_TIMEOUT, api.get_opt(name)).await {
        Ok(Ok(secret)) => Ok(secret),
        Ok(Err(source)) => Err(PassError::Secret {
            name: name.to_owned(),
            source: Box::new(source),
        }),
        Err(_) => Err(PassError::SecretTimeout {
            name: name.to_owned(),
        }),
    }
}

/// Says in the log what became of a pass.
pub fn log(result: &Result<Action, PassError>) {
    match result {
        Ok(_) => debug!("Pass made"),
        Err(error) if error.is_conflict() => debug!("Somebody else has written in between"),
        Err(error) if error.is_gone() => debug!("The resource is gone"),
        Err(error) => {
            warn!(error = %crate::record::Chain(error), "The pass could not be made; it is made again")
        }
    }
}
