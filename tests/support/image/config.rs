//! What the image says about itself, and how it is to be run.

use std::collections::BTreeMap;

use super::Origin;
use super::root::{CERTIFICATES, PROGRAM};

/// The user and group `nonroot`, as numbers: for a name, Kubernetes could not tell that it is not root.
pub const USER: &str = "65532:65532";

/// What is started; the arguments are the pod's.
pub const ENTRYPOINT: [&str; 1] = [PROGRAM];

/// The port of `/livez`, `/readyz` and `/metrics`.
pub const PORT: &str = "8080/tcp";

/// The environment. Named here, the certificates stay trusted when a pod adds others with `SSL_CERT_DIR`.
pub fn environment() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([("SSL_CERT_FILE", CERTIFICATES)])
}

/// The labels, by the names of the OCI's image specification.
pub fn labels(origin: &Origin) -> BTreeMap<&'static str, String> {
    let repository = env!("CARGO_PKG_REPOSITORY");
    BTreeMap::from([
        (
            "org.opencontainers.image.title",
            env!("CARGO_PKG_NAME").to_owned(),
        ),
        (
            "org.opencontainers.image.description",
            env!("CARGO_PKG_DESCRIPTION").to_owned(),
        ),
        ("org.opencontainers.image.url", repository.to_owned()),
        ("org.opencontainers.image.source", repository.to_owned()),
        (
            "org.opencontainers.image.documentation",
            format!("{repository}/blob/main/README.md"),
        ),
        (
            "org.opencontainers.image.licenses",
            env!("CARGO_PKG_LICENSE").to_owned(),
        ),
        (
            "org.opencontainers.image.version",
            env!("CARGO_PKG_VERSION").to_owned(),
        ),
        ("org.opencontainers.image.revision", origin.revision.clone()),
    ])
}
