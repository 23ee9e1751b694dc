//! Writes every status: claims, the outcomes of calls, and the rest; and reads the resource back.
//!
//! Every write carries the `resourceVersion` that it was decided on, and goes through a client without automatic retries:
//! after a retry, the conflict with the client's own first write would look like one with another writer.

use std::future::Future;
use std::time::Duration;

use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use thiserror::Error;
use tokio::time::Instant;

use operator_core::api::{
    DEREGISTER_FINALIZER, MANAGER, WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus,
};

use super::missing::is_missing;

/// How long one request to the API server may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The wait after a failed request, growing up to [`RETRY_CAP`].
const RETRY_BASE: Duration = Duration::from_millis(100);
/// The longest wait after a failed request.
const RETRY_CAP: Duration = Duration::from_secs(5);

/// A failed write or read of the resource.
#[derive(Debug, Error)]
pub enum RecordError {
    #[error("the resource is gone")]
    Gone,
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

    /// Whether the API server has certainly not done what was asked, and may do it another time: another writer came first, it is busy, or
    /// it does not know who asks.
    pub fn is_turned_away(&self) -> bool {
        self.code()
            .is_some_and(|code| [401, 409, 429].contains(&code))
    }

    /// Whether the API server does not take the request as it is, today and probably tomorrow: a right is missing, or an admission rule
    /// is against it.
    pub fn is_refusal(&self) -> bool {
        let refused =
            |code| (400..500).contains(&code) && ![401, 404, 408, 409, 429].contains(&code);
        self.code().is_some_and(refused)
    }

    /// The code that the API server answered with, if it did.
    fn code(&self) -> Option<u16> {
        let Self::Api { source, .. } = self else {
            return None;
        };
        let kube::Error::Api(status) = source.as_ref() else {
            return None;
        };
        Some(status.code)
    }

    /// Whether the resource is gone.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone)
    }
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
        self.replace_status(resource, status, false).await
    }

    /// What the API server would store of this status.
    ///
    /// # Errors
    /// As those of [`Recorder::write`].
    pub async fn try_write(
        &self,
        resource: &WhatsAppPhoneNumber,
        status: WhatsAppPhoneNumberStatus,
    ) -> Result<WhatsAppPhoneNumber, RecordError> {
        self.replace_status(resource, status, true).await
    }

    async fn replace_status(
        &self,
        resource: &WhatsAppPhoneNumber,
        status: WhatsAppPhoneNumberStatus,
        dry_run: bool,
    ) -> Result<WhatsAppPhoneNumber, RecordError> {
        let mut written = resource.clone();
        written.metadata.managed_fields = None;
        written.status = Some(status);
        let params = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            dry_run,
        };
        let api = self.api(resource);
        let name = resource.name_any();
        let request = api.replace_status(&name, &params, &written);
        bounded("write the status of", &name, request).await
    }

    /// Sets or removes the finalizer if the resource still has the `resourceVersion` that was decided on, which keeps other
    /// finalizers.
    ///
    /// # Errors
    /// When the patch fails or its outcome is unknown; also on a conflict.
    pub async fn patch_finalizer(
        &self,
        resource: &WhatsAppPhoneNumber,
        set: bool,
    ) -> Result<WhatsAppPhoneNumber, RecordError> {
        let others = resource.finalizers().iter().map(String::as_str);
        let others = others.filter(|name| *name != DEREGISTER_FINALIZER);
        let finalizers: Vec<&str> = others.chain(set.then_some(DEREGISTER_FINALIZER)).collect();
        let patch = Patch::Merge(json!({"metadata": {
            "uid": resource.uid(),
            "resourceVersion": resource.resource_version(),
            "finalizers": finalizers,
        }}));
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let api = self.api(resource);
        let name = resource.name_any();
        bounded(
            "patch the finalizer of",
            &name,
            api.patch(&name, &params, &patch),
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
        let name = resource.name_any();
        bounded("read", &name, self.api(resource).get(&name)).await
    }

    /// Reads the newest version, again after growing waits until this time has passed.
    ///
    /// # Errors
    /// When no read was answered in time; also when the resource is gone.
    pub async fn newest_within(
        &self,
        resource: &WhatsAppPhoneNumber,
        time: Duration,
    ) -> Result<WhatsAppPhoneNumber, RecordError> {
        let deadline = Instant::now() + time;
        let mut wait = RETRY_BASE;
        loop {
            match self.newest(resource).await {
                Err(error) if !error.is_gone() && Instant::now() + wait < deadline => {
                    tokio::time::sleep(wait).await;
                }
                result => return result,
            }
            wait = (wait * 2).min(RETRY_CAP);
        }
    }

    fn api(&self, resource: &WhatsAppPhoneNumber) -> Api<WhatsAppPhoneNumber> {
        Api::namespaced(
            self.client.clone(),
            &resource.namespace().unwrap_or_default(),
        )
    }
}

async fn bounded<T>(
    verb: &'static str,
    name: &str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, RecordError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) if is_missing::<WhatsAppPhoneNumber>(&source, name) => {
            Err(RecordError::Gone)
        }
        Ok(Err(source)) => Err(RecordError::Api {
            verb,
            source: Box::new(source),
        }),
        Err(_) => Err(RecordError::Timeout { verb }),
    }
}
