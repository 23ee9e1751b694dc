//! Writes every status: claims, the outcomes of calls, and the rest.
//!
//! Every write carries the `resourceVersion` that it was decided on, and goes through a client without automatic retries:
//! after a retry, the conflict with the client's own first write would look like one with another writer.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use thiserror::Error;
use tokio::time::Instant;
use tracing::{debug, warn};

use operator_core::api::{MANAGER, WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};
use operator_core::model::ledger::holds_claim;
use operator_core::model::{ApplyContext, CallResult, Policy, apply_outcome};

use crate::telemetry::Chain;

/// How long one request to the API server may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The wait after a failed request, growing up to [`RETRY_CAP`].
const RETRY_BASE: Duration = Duration::from_millis(100);
/// The longest wait after a failed request.
const RETRY_CAP: Duration = Duration::from_secs(5);

/// A failed write or read of the resource.
#[derive(Debug, Error)]
pub enum RecordError {
    #[error("failed to {verb} the resource")]
    Api {
        verb: &'static str,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("failed to {verb} the resource: no answer from the API server in {} s", REQUEST_TIMEOUT.as_secs())]
    Timeout { verb: &'static str },
}

impl RecordError {
    /// Whether another writer has modified the resource.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// Whether the resource is gone.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    fn code(&self) -> Option<u16> {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::Timeout { .. } => None,
        }
    }
}

/// The outcome of a claim, with the newest version of the resource where it still exists.
#[derive(Debug)]
pub enum ClaimOutcome {
    /// This process holds or held the claim; no other may make the call.
    Acquired(Box<WhatsAppPhoneNumber>),
    /// Another writer came first, and nothing was sent: decide again on this version.
    Conflict(Box<WhatsAppPhoneNumber>),
    /// The resource is gone.
    Gone,
}

/// Writes claims, outcomes and other statuses.
#[derive(Clone)]
pub struct Recorder {
    client: Client,
}

impl Recorder {
    /// A recorder over a client without automatic retries.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Replaces the status if the resource still has the `resourceVersion` that was decided on.
    ///
    /// # Errors
    /// When the write fails or its outcome is unknown; also on a conflict.
    pub async fn write(
        &self,
        resource: &WhatsAppPhoneNumber,
        status: WhatsAppPhoneNumberStatus,
    ) -> Result<WhatsAppPhoneNumber, RecordError> {
        let mut written = resource.clone();
        written.metadata.managed_fields = None;
        written.status = Some(status);
        let params = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        let api = self.api(resource);
        let name = resource.name_any();
        bounded(
            "write the status of",
            api.replace_status(&name, &params, &written),
        )
        .await
    }

    /// Reads the newest version from the API server.
    ///
    /// # Errors
    /// When the API server fails; also when the resource is gone.
    pub async fn newest(
        &self,
        resource: &WhatsAppPhoneNumber,
    ) -> Result<WhatsAppPhoneNumber, RecordError> {
        bounded("read", self.api(resource).get(&resource.name_any())).await
    }

    /// Writes a claim. Any answer but success is settled by a read of the resource: if that shows the claim's ID, the claim
    /// is held. The reads are retried until `deadline`.
    ///
    /// # Errors
    /// When the reads do not settle it in time, or when the claim is not there and the write failed other than by a
    /// conflict. After a timeout the claim may still be stored later.
    pub async fn claim(
        &self,
        resource: &WhatsAppPhoneNumber,
        status: WhatsAppPhoneNumberStatus,
        id: &str,
        deadline: Instant,
    ) -> Result<ClaimOutcome, RecordError> {
        let refused = match self.write(resource, status).await {
            Ok(written) => return Ok(ClaimOutcome::Acquired(Box::new(written))),
            Err(error) => error,
        };
        debug!(error = %Chain(&refused), "The write of the claim was not confirmed; reading the resource to settle it");
        let mut wait = RETRY_BASE;
        loop {
            match self.newest(resource).await {
                Ok(newest) if holds_claim(&newest, resource, id) => {
                    return Ok(ClaimOutcome::Acquired(Box::new(newest)));
                }
                Ok(newest) if refused.is_conflict() => {
                    return Ok(ClaimOutcome::Conflict(Box::new(newest)));
                }
                Ok(_) => return Err(refused),
                Err(error) if error.is_not_found() => return Ok(ClaimOutcome::Gone),
                Err(error) if Instant::now() + wait >= deadline => return Err(error),
                Err(_) => tokio::time::sleep(wait).await,
            }
            wait = (wait * 2).min(RETRY_CAP);
        }
    }

    /// Records the outcome of a claim; retries until it is stored or the resource is gone. Returns the resource before and
    /// after.
    pub async fn record(
        &self,
        claimed: &WhatsAppPhoneNumber,
        result: &CallResult<'_>,
        policy: &Policy,
        jitter: f64,
    ) -> Option<Recorded> {
        let mut newest = Some(claimed.clone());
        let mut wait = RETRY_BASE;
        loop {
            let error = match self
                .record_once(newest.take(), claimed, result, policy, jitter)
                .await
            {
                Ok(recorded) => return recorded,
                Err(error) => error,
            };
            if !error.is_conflict() {
                warn!(error = %Chain(&error), "The outcome is not recorded yet; retrying");
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_CAP);
        }
    }

    async fn record_once(
        &self,
        known: Option<WhatsAppPhoneNumber>,
        claimed: &WhatsAppPhoneNumber,
        result: &CallResult<'_>,
        policy: &Policy,
        jitter: f64,
    ) -> Result<Option<Recorded>, RecordError> {
        let before = match known {
            Some(known) => known,
            None => match self.newest(claimed).await {
                Ok(newest) if newest.uid() == claimed.uid() => newest,
                Ok(_) => return Ok(None),
                Err(error) if error.is_not_found() => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        // A status that was wiped since looks unseen, and the request in the resource counts as handled.
        let status = before.status_or_unseen();
        let generation = status.observed_generation.max(0);
        let at = ApplyContext {
            policy,
            generation,
            jitter,
            now: Timestamp::now(),
        };
        let applied = apply_outcome(status.clone(), result, &at);
        if applied == status {
            return Ok(Some(Recorded {
                after: before.clone(),
                before,
            }));
        }
        let after = self.write(&before, applied).await?;
        Ok(Some(Recorded { before, after }))
    }

    fn api(&self, resource: &WhatsAppPhoneNumber) -> Api<WhatsAppPhoneNumber> {
        Api::namespaced(
            self.client.clone(),
            &resource.namespace().unwrap_or_default(),
        )
    }
}

/// A resource before and after its outcome was recorded.
#[derive(Debug)]
pub struct Recorded {
    pub before: WhatsAppPhoneNumber,
    pub after: WhatsAppPhoneNumber,
}

async fn bounded<T>(
    verb: &'static str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, RecordError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(RecordError::Api {
            verb,
            source: Box::new(source),
        }),
        Err(_) => Err(RecordError::Timeout { verb }),
    }
}
