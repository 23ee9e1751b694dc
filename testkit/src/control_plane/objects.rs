//! What tests and the demo put into a cluster: definitions, namespaces, tokens.

use k8s_openapi::{
    api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::{Namespace, ServiceAccount},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
    runtime::wait::{self, conditions},
};
use serde::Deserialize;
use std::time::Duration;

/// How long the API server may take to serve a new resource.
const ESTABLISHED_WITHIN: Duration = Duration::from_secs(30);

/// Who applies, as `managedFields` has it.
const FIELD_MANAGER: &str = "whatsapp-operator-test-bed";

/// Why an object could not be put into the cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not the YAML of custom resource definitions.
    #[error("failed to read a CustomResourceDefinition from YAML: {0}")]
    Yaml(#[from] serde_norway::Error),
    /// The API server refused it.
    #[error("the API server refused: {0}")]
    Api(#[from] kube::Error),
    /// Watching for the definition to be served failed.
    #[error("failed to watch a CustomResourceDefinition: {0}")]
    Wait(#[from] wait::Error),
    /// The definition was stored but is not served.
    #[error(
        "CustomResourceDefinition {0} is not Established after {ESTABLISHED_WITHIN:?}: see its conditions"
    )]
    NotEstablished(String),
    /// The API server answered a TokenRequest without a token.
    #[error("the API server gave no token for ServiceAccount {0}")]
    NoToken(String),
}

/// Applies every CustomResourceDefinition in `yaml` and waits until all of them are served.
pub async fn apply_crds(client: &Client, yaml: &str) -> Result<(), Error> {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for document in serde_norway::Deserializer::from_str(yaml) {
        let crd = CustomResourceDefinition::deserialize(document)?;
        let name = crd.name_any();
        let params = PatchParams::apply(FIELD_MANAGER).force();
        crds.patch(&name, &params, &Patch::Apply(&crd)).await?;
        let established =
            wait::await_condition(crds.clone(), &name, conditions::is_crd_established());
        tokio::time::timeout(ESTABLISHED_WITHIN, established)
            .await
            .map_err(|_| Error::NotEstablished(name))??;
    }
    Ok(())
}

/// Creates a namespace with a random name.
///
/// It stays: without a controller manager no namespace is ever deleted for good.
pub async fn create_namespace(client: &Client) -> Result<String, Error> {
    let name = format!("test-{:012x}", rand::random::<u64>() >> 16);
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    Api::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await?;
    Ok(name)
}

/// A token for an existing ServiceAccount, as a pod that runs as it would get.
pub async fn service_account_token(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<String, Error> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let request = TokenRequest {
        spec: Some(TokenRequestSpec::default()),
        ..TokenRequest::default()
    };
    let answer = accounts
        .create_token_request(name, &PostParams::default(), &request)
        .await?;
    answer
        .status
        .and_then(|status| status.token)
        .ok_or_else(|| Error::NoToken(name.to_owned()))
}
