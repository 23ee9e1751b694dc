//! A Graph whose certificate comes from an authority that nobody else knows. It is the API server that is taken for one: it
//! has such a certificate, and what it answers does not matter.

use serde_json::json;

use super::release::Release;
use testkit::bed::{Bed, is, message};

/// Installs with Graph at the API server's address; returns how the number stands after the first read.
async fn first_read(bed: &Bed, id: &str, more: &[&str]) -> String {
    let namespaces = format!("watchNamespaces={{{}}}", bed.namespace);
    let graph = format!("graph.baseUrl={}", bed.control_plane.url());
    let flags = ["--set", &namespaces, "--set", &graph];
    let release = Release::install(bed, &[&flags, more].concat());
    bed.secrets().await;
    bed.declare_with("private", id, json!({})).await;
    let _operator = release.start().await;
    let looked = |status: &operator_core::api::WhatsAppPhoneNumberStatus| {
        status.read_failures > 0 || !status.attempts.is_empty()
    };
    let number = bed.until("private", "looked at", looked).await;
    let status = number.status.as_ref().expect("a status");
    let unreachable = is(status, "Registered", "False", "GraphUnreachable");
    format!("unreachable={unreachable}: {}", message(&number, "Ready"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_authority_is_trusted_where_it_is_named() {
    let (known, unknown) = (Bed::new().await, Bed::new().await);
    let certificate = known.control_plane.certificate_path();
    let bundle = format!("graph.caBundle={}", certificate.display());
    let said = first_read(&known, "6301", &["--set-file", &bundle]).await;
    assert!(said.starts_with("unreachable=false"), "{said}");
    let said = first_read(&unknown, "6302", &[]).await;
    assert!(said.starts_with("unreachable=true"), "{said}");
}
