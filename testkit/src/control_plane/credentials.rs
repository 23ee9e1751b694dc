//! Keys, tokens and kubeconfig files of a control plane.

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use kube::config::{
    AuthInfo, Cluster, Context, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext,
};
use pem::Pem;
use std::{fs, io, path::Path};

/// Name of the cluster, the context and the user in a kubeconfig.
const NAME: &str = "whatsapp-operator-test";

/// A token that nobody can guess.
pub fn random_token() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Writes a token file in which `token` belongs to a member of `system:masters`.
pub fn write_admin_token(path: &Path, token: &str) -> io::Result<()> {
    fs::write(path, format!("{token},admin,admin,\"system:masters\"\n"))
}

/// Writes a new key pair for the tokens of ServiceAccounts.
pub fn write_service_account_keys(private: &Path, public: &Path) -> io::Result<()> {
    let unspecified = |_| io::Error::other("failed to generate an ECDSA key");
    let keys = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(unspecified)?;
    let private_der = keys.to_pkcs8v1().map_err(unspecified)?;
    let public_der: PublicKeyX509Der<'_> = keys.public_key().as_der().map_err(unspecified)?;
    write_pem(private, "PRIVATE KEY", private_der.as_ref())?;
    write_pem(public, "PUBLIC KEY", public_der.as_ref())
}

fn write_pem(path: &Path, tag: &str, der: &[u8]) -> io::Result<()> {
    fs::write(path, pem::encode(&Pem::new(tag, der)))
}

/// How to reach the API server at `url` with `token`.
pub fn kubeconfig(url: &str, certificate_authority: &Path, token: &str) -> Kubeconfig {
    let cluster = Cluster {
        server: Some(url.to_owned()),
        certificate_authority: Some(certificate_authority.display().to_string()),
        ..Cluster::default()
    };
    let user = AuthInfo {
        token: Some(token.to_owned().into()),
        ..AuthInfo::default()
    };
    let context = Context {
        cluster: NAME.to_owned(),
        user: Some(NAME.to_owned()),
        ..Context::default()
    };
    Kubeconfig {
        clusters: vec![NamedCluster {
            name: NAME.to_owned(),
            cluster: Some(cluster),
            ..NamedCluster::default()
        }],
        auth_infos: vec![NamedAuthInfo {
            name: NAME.to_owned(),
            auth_info: Some(user),
            ..NamedAuthInfo::default()
        }],
        contexts: vec![NamedContext {
            name: NAME.to_owned(),
            context: Some(context),
            ..NamedContext::default()
        }],
        current_context: Some(NAME.to_owned()),
        ..Kubeconfig::default()
    }
}

/// Writes a kubeconfig for programs such as kubectl and helm.
pub fn write_kubeconfig(path: &Path, kubeconfig: &Kubeconfig) -> io::Result<()> {
    let yaml = serde_norway::to_string(kubeconfig).map_err(io::Error::other)?;
    fs::write(path, yaml)
}
