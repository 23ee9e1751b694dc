//! Reads the Secrets that a resource references.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};
use operator_core::api::{Reason, WhatsAppPhoneNumber};
use operator_core::credentials::{CallInputs, SecretFault, secret_names};
use thiserror::Error;
use zeroize::Zeroize;

use super::missing::is_missing;

/// The timeout of the read of one Secret.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A Secret could not be read.
#[derive(Debug, Error)]
pub enum SecretError {
    #[error("failed to read the Secret {name}")]
    Api {
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("failed to read the Secret {name}: no answer from the API server in {} s", TIMEOUT.as_secs())]
    Timeout { name: String },
}

impl SecretError {
    /// Whether the operator is not allowed to read the Secret.
    fn is_forbidden(&self) -> bool {
        matches!(self, Self::Api { source, .. } if matches!(source.as_ref(), kube::Error::Api(status) if status.code == 403))
    }
}

/// The data of the Secrets that a resource references. Zeroed on drop, also after a failed read.
#[derive(Default)]
struct SecretBytes(BTreeMap<String, BTreeMap<String, ByteString>>);

impl Drop for SecretBytes {
    fn drop(&mut self) {
        for value in self.0.values_mut().flat_map(BTreeMap::values_mut) {
            value.0.zeroize();
        }
    }
}

/// Reads the Secrets that a resource references, and extracts the inputs of a call.
///
/// # Errors
/// When the API server could not be reached or failed. A missing, forbidden or malformed Secret is a fault instead.
pub async fn load(
    client: &Client,
    resource: &WhatsAppPhoneNumber,
) -> Result<Result<CallInputs, SecretFault>, SecretError> {
    let namespace = resource.namespace().unwrap_or_default();
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let mut bytes = SecretBytes::default();
    for name in secret_names(&resource.spec) {
        match get(&api, name).await {
            Ok(Some(secret)) => {
                let data = secret.data.unwrap_or_default();
                bytes.0.insert(name.to_owned(), data);
            }
            Ok(None) => {}
            Err(error) if error.is_forbidden() => return Ok(Err(forbidden(name))),
            Err(error) => return Err(error),
        }
    }
    Ok(CallInputs::from_secrets(&resource.spec, |name| {
        bytes.0.get(name)
    }))
}

async fn get(api: &Api<Secret>, name: &str) -> Result<Option<Secret>, SecretError> {
    match tokio::time::timeout(TIMEOUT, api.get(name)).await {
        Ok(Ok(secret)) => Ok(Some(secret)),
        Ok(Err(error)) if is_missing::<Secret>(&error, name) => Ok(None),
        Ok(Err(source)) => Err(SecretError::Api {
            name: name.to_owned(),
            source: Box::new(source),
        }),
        Err(_) => Err(SecretError::Timeout {
            name: name.to_owned(),
        }),
    }
}

fn forbidden(name: &str) -> SecretFault {
    let reason = Reason::SecretForbidden;
    SecretFault {
        reason,
        message: format!(
            "The operator is not allowed to read the Secret {name}. {}",
            reason.advice()
        ),
    }
}
