//! Several operators on the same resources, leaders that are stopped and wake up late, namespaces and resources that go
//! away in the middle of a call. The simulator counts: one register call for each number, whatever the end looks like.

mod gone;
mod leaderless;
mod lost_leader;
mod observed;
mod paused;
mod renamed;
mod stops;
mod witness;

use kube::api::{Patch, PatchParams};
use operator_core::api::conditions::is_registered;
use operator_core::api::{AttemptOutcome, LedgerEntry, WhatsAppPhoneNumberStatus};
use serde_json::{Value, json};

use testkit::bed::Bed;

/// The name of the Lease in each bed's namespace.
const LEASE: &str = "operator";

/// What a leader and its standby say of themselves.
const LEADS: &str = "This process leads";
const LOST: &str = "not leading any more";

/// The flags of replicas that elect a leader.
fn election(bed: &Bed) -> Vec<String> {
    vec![
        "--leader-elect=true".to_owned(),
        format!("--lease-name={LEASE}"),
        format!("--lease-namespace={}", bed.namespace),
    ]
}

/// The same flags as the operators take them, and more.
fn with<'a>(flags: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    flags
        .iter()
        .map(String::as_str)
        .chain(more.iter().copied())
        .collect()
}

/// Changes the Lease as no candidate would.
async fn patch_lease(bed: &Bed, spec: Value) {
    let leases = bed.api::<k8s_openapi::api::coordination::v1::Lease>();
    let patch = Patch::Merge(json!({"spec": spec}));
    leases
        .patch(LEASE, &PatchParams::default(), &patch)
        .await
        .expect("the Lease");
}

/// Lets others take the Lease at once, without the wait until it expires.
async fn free_lease(bed: &Bed) {
    patch_lease(bed, json!({"holderIdentity": null})).await;
}

/// Waits until a number is registered, for whatever reason.
async fn until_any_registered(bed: &Bed, name: &str) -> WhatsAppPhoneNumberStatus {
    let number = bed.until(name, "Registered", is_registered).await;
    number.status.expect("a status")
}

/// How the entries of a ledger ended, newest first.
fn outcomes(status: &WhatsAppPhoneNumberStatus) -> Vec<Option<AttemptOutcome>> {
    status.attempts.iter().map(LedgerEntry::outcome).collect()
}
