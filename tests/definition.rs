//! A CRD that is older than the operator: the API server drops fields of the status without a word.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use testkit::bed::{Bed, is, message};
use testkit::gateway::{Conduct, Request};
use testkit::simulator::NumberConfig;
use testkit::world::prune;

/// Takes a field out of every status that is written, until it is told to stop.
pub struct Outdated {
    field: &'static str,
    lasts: AtomicBool,
}

impl Outdated {
    /// Without this field.
    pub fn of(field: &'static str) -> Arc<Self> {
        let lasts = AtomicBool::new(true);
        Arc::new(Self { field, lasts })
    }
}

impl Conduct for Outdated {
    fn rewritten(&self, request: &Request) -> Option<Value> {
        let mut body = request.body.clone();
        let status = body.get_mut("status")?;
        prune(status, self.field);
        self.lasts.load(Ordering::SeqCst).then_some(body)
    }
}

/// One annotation led to ten calls where the API server did not keep what it was handled for.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_not_kept_makes_no_call_until_the_definition_is_upgraded() {
    let bed = Bed::new().await;
    bed.secrets().await;
    bed.simulator.set("5000", NumberConfig::registered());
    let outdated = Outdated::of("lastHandledRegisterRequest");
    let gates = bed.gates(Arc::clone(&outdated) as Arc<dyn Conduct>).await;
    bed.declare("support", "5000").await;
    let operator = gates.operator(&bed, &[]).await;
    bed.until_registered("support", "AlreadyRegistered").await;
    bed.request("support", "once").await;
    let number = bed
        .until("support", "told of its definition", |status| {
            is(status, "Failed", "True", "DefinitionOutdated")
        })
        .await;
    let text = message(&number, "Failed");
    assert!(text.contains("lastHandledRegisterRequest"), "{text}");
    let url = format!("http://{}/metrics", operator.address());
    let metrics = reqwest::get(url).await.expect("an answer").text().await;
    let told = "whatsapp_operator_definition_outdated 1";
    assert!(metrics.expect("a text").contains(told));
    assert_eq!(bed.posts("5000"), 0);
    let claims = number.status.expect("a status").attempts;
    assert!(claims.iter().all(|entry| !entry.counts()), "{claims:?}");
    operator.terminate().await;

    outdated.lasts.store(false, Ordering::SeqCst);
    let _operator = gates.operator(&bed, &[]).await;
    bed.until("support", "the request handled", |status| {
        status.last_handled_register_request.as_deref() == Some("once")
            && is(status, "Failed", "False", "RegistrationSucceeded")
    })
    .await;
    assert_eq!(bed.posts("5000"), 1);
}
