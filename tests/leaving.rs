//! The end of a resource with `deletionPolicy: Deregister`, on a real API server: deregister calls are counted.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use futures::future::{BoxFuture, FutureExt, ready};
use futures::{StreamExt, stream};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, CustomResourceExt};
use operator_core::api::{WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus, conditions};
use serde_json::{Value, json};

use testkit::bed::{Bed, DEADLINE, is};
use testkit::from_environment;
use testkit::gateway::{After, Before, Conduct, Kind, Request};
use testkit::simulator::{NumberConfig, Step};
use testkit::{control_plane::ControlPlane, start_with_crd};

const SOON: &[&str] = &["--confirm-window=1s", "--retry-base=200ms"];

/// A registered number that is to be deregistered.
async fn registered(bed: &Bed, name: &str, id: &str) {
    let policy = json!({"deletionPolicy": "Deregister"});
    bed.declare_with(name, id, policy).await;
    let known = bed.until_registered(name, "RegistrationSucceeded").await;
    assert!(known.has_finalizer());
}

/// Waits until the resource is as wanted.
async fn until(bed: &Bed, name: &str, wanted: impl Fn(Option<&WhatsAppPhoneNumber>) -> bool) {
    let waiting = await_condition(bed.numbers(), name, wanted);
    let waited = tokio::time::timeout(DEADLINE, waiting).await;
    let waited = waited.unwrap_or_else(|_| panic!("{name} is not as wanted in time"));
    waited.expect("a watch");
}

fn deregisters(bed: &Bed, id: &str) -> usize {
    bed.simulator.number(id).counts.deregister_calls
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_number_is_taken_off_once() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let operator = bed.operator(SOON).await;
    registered(&bed, "leaving", "4201").await;
    bed.delete("leaving").await;
    bed.until_gone("leaving").await;
    assert_eq!((deregisters(&bed, "4201"), bed.posts("4201")), (1, 1));
    assert!(!bed.simulator.number("4201").state.registered);
    let event = bed.until_event("leaving", "Deregistered").await;
    assert_eq!(event.action.as_deref(), Some("Deregister"));
    operator
        .until_metric("deregistrations_total{outcome=\"deregistered\"", |n| {
            n == 1.0
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_with_retain_goes_without_a_call() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let _operator = bed.operator(SOON).await;
    registered(&bed, "kept", "4202").await;
    // The finalizer comes off with the policy.
    bed.patch("kept", json!({"spec": {"deletionPolicy": "Retain"}}))
        .await;
    let released =
        |number: Option<&WhatsAppPhoneNumber>| number.is_some_and(|n| !n.has_finalizer());
    until(&bed, "kept", released).await;
    bed.delete("kept").await;
    bed.until_gone("kept").await;
    assert_eq!(deregisters(&bed, "4202"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_another_resource_names_stays() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let operator = bed.operator(SOON).await;
    registered(&bed, "first", "4203").await;
    bed.declare("second", "4203").await;
    bed.until_stalled("second", "DuplicatePhoneNumber").await;
    bed.delete("first").await;
    bed.until_gone("first").await;
    bed.until_registered("second", "AlreadyRegistered").await;
    assert_eq!((deregisters(&bed, "4203"), bed.posts("4203")), (0, 1));
    bed.until_event("first", "LeftRegistered").await;
    operator
        .until_metric("deregistrations_total{outcome=\"left_registered\"", |n| {
            n == 1.0
        })
        .await;
}

/// Only the API server knows of the other: this operator's selector leaves it out.
#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_a_resource_of_another_shard_names_stays() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let operator = bed.operator(&[SOON[0], SOON[1], "--selector=!shard"]).await;
    registered(&bed, "here", "4204").await;
    bed.declare("there", "4204").await;
    bed.until_stalled("there", "DuplicatePhoneNumber").await;
    bed.patch("there", json!({"metadata": {"labels": {"shard": "b"}}}))
        .await;
    operator
        .until_metric("phone_numbers", |known| known == 1.0)
        .await;
    bed.delete("here").await;
    bed.until_gone("here").await;
    assert_eq!(deregisters(&bed, "4204"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_finalizer_is_set_again_where_somebody_dropped_it() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let _operator = bed.operator(SOON).await;
    registered(&bed, "replaced", "4205").await;
    bed.patch("replaced", json!({"metadata": {"finalizers": null}}))
        .await;
    let held = |number: Option<&WhatsAppPhoneNumber>| number.is_some_and(|n| n.has_finalizer());
    until(&bed, "replaced", held).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_and_a_crash_lead_to_no_second_call_that_is_not_needed() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let operator = bed.operator(SOON).await;
    registered(&bed, "silent", "4206").await;
    let step = Step::hang_up_after().on_deregister();
    bed.simulator.script("4206", vec![step]);
    registered(&bed, "crashed", "4207").await;
    bed.simulator
        .script("4207", vec![Step::wait_after().on_deregister()]);
    bed.delete("silent").await;
    bed.delete("crashed").await;
    let called = bed
        .simulator
        .until("4207", |report| report.counts.deregister_calls > 0)
        .await;
    called.expect("a call");
    drop(operator);
    bed.simulator.release("4207");
    let _operator = bed
        .operator(&[SOON[0], SOON[1], "--graph-timeout=1s"])
        .await;
    bed.until_gone("silent").await;
    bed.until_gone("crashed").await;
    assert_eq!(
        (deregisters(&bed, "4206"), deregisters(&bed, "4207")),
        (1, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_left_to_people_until_the_deadline() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let _operator = bed
        .operator(&[SOON[0], SOON[1], "--deregister-deadline=10s"])
        .await;
    registered(&bed, "refused", "4208").await;
    bed.simulator
        .script("4208", vec![Step::error(200).on_deregister().times(9)]);
    bed.delete("refused").await;
    let failed = |status: &WhatsAppPhoneNumberStatus| {
        is(status, conditions::STALLED, "True", "DeregistrationFailed")
    };
    bed.until("refused", "failed", failed).await;
    bed.until_gone("refused").await;
    assert_eq!(deregisters(&bed, "4208"), 1);
    bed.until_event("refused", "LeftRegistered").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn turned_off_nothing_is_called_and_what_is_there_comes_off() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let operator = bed.operator(SOON).await;
    registered(&bed, "off", "4209").await;
    drop(operator);
    let _operator = bed
        .operator(&[SOON[0], SOON[1], "--deregistration=false"])
        .await;
    bed.delete("off").await;
    bed.until_gone("off").await;
    let policy = json!({"deletionPolicy": "Deregister"});
    bed.declare_with("never", "4210", policy).await;
    bed.until_registered("never", "RegistrationSucceeded").await;
    bed.until_event("never", "DeregisterIgnored").await;
    assert!(!bed.get("never").await.has_finalizer());
    assert_eq!(deregisters(&bed, "4209"), 0);
}

/// A tool that replaces by force deletes and creates again at every sync, also over a restart of the operator.
#[tokio::test(flavor = "multi_thread")]
async fn replaced_by_force_a_number_is_taken_off_once() {
    let bed = Bed::new().await;
    bed.secrets().await;
    bed.simulator.set("4211", NumberConfig::registered());
    let mut operator = bed.operator(SOON).await;
    let policy = || json!({"deletionPolicy": "Deregister"});
    bed.declare_with("forced", "4211", policy()).await;
    bed.until_registered("forced", "AlreadyRegistered").await;
    for round in 0..3 {
        bed.delete("forced").await;
        bed.until_gone("forced").await;
        assert_eq!(deregisters(&bed, "4211"), 1, "round {round}");
        // Somebody has it registered by hand meanwhile; five minutes would be too long for a test.
        bed.simulator.set("4211", NumberConfig::registered());
        let created = bed.declare_with("forced", "4211", policy()).await;
        let known = |status: &WhatsAppPhoneNumberStatus| !status.attempts.is_empty();
        bed.until("forced", "taken over", known).await;
        drop(operator);
        operator = bed.operator(SOON).await;
        drop(created);
        let seen = |status: &WhatsAppPhoneNumberStatus| status.observed_generation > 0;
        bed.until("forced", "seen", seen).await;
        mark_registered(&bed, "forced").await;
        // Kubernetes knows whole seconds only.
        let called = bed.get("forced").await.attempts()[0]
            .start_time
            .0
            .as_second();
        while jiff::Timestamp::now().as_second() <= called {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    drop(operator);
}

/// The number may be registered for this resource, as if its five minutes were over.
async fn mark_registered(bed: &Bed, name: &str) {
    bed.patch_status(name, json!({"mayBeRegistered": true}))
        .await;
    bed.patch(
        name,
        json!({"metadata": {"finalizers": ["whatsapp-operator.dev/deregister"]}}),
    )
    .await;
}

/// Refuses lists of numbers, on demand.
#[derive(Default)]
struct NoLists(AtomicBool);

impl Conduct for NoLists {
    fn before<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Before> {
        let refused = request.kind == Kind::ListRivals && self.0.load(SeqCst);
        ready(if refused {
            Before::Refuse(403)
        } else {
            Before::Pass
        })
        .boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_refused_makes_no_call() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let conduct = Arc::new(NoLists::default());
    let gates = bed.gates(Arc::clone(&conduct) as _).await;
    let _operator = gates.operator(&bed, SOON).await;
    registered(&bed, "unlisted", "4212").await;
    conduct.0.store(true, SeqCst);
    bed.delete("unlisted").await;
    let waits = |status: &WhatsAppPhoneNumberStatus| {
        let hold = status.hold.as_ref();
        hold.is_some_and(|hold| hold.message.contains("failed to list"))
    };
    let seen = bed.until("unlisted", "waiting", waits).await;
    let told = serde_json::to_string(&seen.status).expect("a status");
    assert!(!told.contains("gate"), "the server's own words: {told}");
    assert_eq!(deregisters(&bed, "4212"), 0);
    conduct.0.store(false, SeqCst);
    bed.until_gone("unlisted").await;
    assert_eq!(deregisters(&bed, "4212"), 1);
}

/// A whole namespace goes, Secrets first. With five hundred numbers: `LEAVING=500 cargo test a_namespace_that_is_deleted`.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_deleted_leaves_nothing_unsaid() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let operator = bed
        .operator(&[SOON[0], SOON[1], "--deregister-deadline=8s"])
        .await;
    let count = from_environment("LEAVING", 50);
    let names: Vec<String> = (0..count).map(|n| format!("number-{n}")).collect();
    let policy = || json!({"deletionPolicy": "Deregister"});
    let declared = stream::iter(names.iter().enumerate())
        .map(async |(n, name)| bed.declare_with(name, &format!("43{n:03}"), policy()).await);
    declared.buffer_unordered(16).for_each(async |_| {}).await;
    for name in &names {
        bed.until_registered(name, "RegistrationSucceeded").await;
    }
    let numbers = bed.numbers();
    let all = (DeleteParams::default(), ListParams::default());
    let first = ListParams::default().fields("metadata.name=number-0");
    numbers
        .delete_collection(&all.0, &first)
        .await
        .expect("deleted");
    bed.until_gone("number-0").await;
    bed.api::<k8s_openapi::api::core::v1::Secret>()
        .delete("whatsapp", &all.0)
        .await
        .expect("deleted");
    numbers
        .delete_collection(&all.0, &all.1)
        .await
        .expect("deleted");
    for name in &names {
        bed.until_gone(name).await;
    }
    // Each is told of once, as what became of it.
    let mut called = 0;
    for (n, name) in names.iter().enumerate() {
        let report = bed.simulator.number(&format!("43{n:03}"));
        assert!(report.counts.deregister_calls <= 1, "{report:?}");
        called += report.counts.deregister_calls;
        let told = if report.state.registered {
            "LeftRegistered"
        } else {
            "Deregistered"
        };
        bed.until_event(name, told).await;
    }
    let total = operator.metric("deregistrations_total").await;
    let gone = operator
        .metric("deregistrations_total{outcome=\"deregistered\"")
        .await;
    assert_eq!((total, gone), (count as f64, called as f64));
    assert!(called >= 1);
    println!("{called} of {count} were deregistered");
}

/// Whoever deletes the CRD has all resources deleted, and did not ask for their numbers to be taken off.
#[tokio::test(flavor = "multi_thread")]
async fn the_crd_that_is_deleted_takes_no_number_off() {
    let control_plane = start_with_crd().await.expect("a control plane");
    let control_plane: &'static ControlPlane = Box::leak(Box::new(control_plane));
    let bed = Bed::on(control_plane).await;
    bed.secrets().await;
    let _operator = bed.operator(SOON).await;
    registered(&bed, "swept", "4213").await;
    delete_definition(bed.client.clone()).await;
    until_definition_gone(&bed).await;
    assert_eq!(deregisters(&bed, "4213"), 0);
}

async fn delete_definition(client: Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client);
    definitions
        .delete(WhatsAppPhoneNumber::crd_name(), &DeleteParams::default())
        .await
        .expect("deleted");
}

async fn until_definition_gone(bed: &Bed) {
    let definitions: Api<CustomResourceDefinition> = Api::all(bed.client.clone());
    let deadline = Instant::now() + DEADLINE;
    while definitions
        .get_opt(WhatsAppPhoneNumber::crd_name())
        .await
        .expect("an answer")
        .is_some()
    {
        assert!(Instant::now() < deadline, "the CRD is still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Has something happen just before a request of the operator's is done, once; keeps what became of claims.
struct Meanwhile {
    when: fn(&Request) -> bool,
    happens: Mutex<Option<BoxFuture<'static, ()>>>,
    outcomes: Mutex<Vec<Value>>,
}

impl Meanwhile {
    fn new(
        when: fn(&Request) -> bool,
        happens: impl Future<Output = ()> + Send + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            when,
            happens: Mutex::new(Some(happens.boxed())),
            outcomes: Mutex::default(),
        })
    }

    /// What became of the claims, and whether it has happened.
    fn outcomes(&self) -> (Vec<Value>, bool) {
        let left = self.happens.lock().expect("the event").is_some();
        let outcomes = self.outcomes.lock().expect("the outcomes");
        (outcomes.clone(), !left)
    }
}

impl Conduct for Meanwhile {
    fn before<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Before> {
        if request.kind == Kind::Record {
            let outcome = request.body["status"]["attempts"][0]["outcome"].clone();
            self.outcomes.lock().expect("the outcomes").push(outcome);
        }
        let mut happens = self.happens.lock().expect("the event");
        let happens = if (self.when)(request) {
            happens.take()
        } else {
            None
        };
        async move {
            if let Some(happens) = happens {
                happens.await;
            }
            Before::Pass
        }
        .boxed()
    }
}

fn claims_deregister(request: &Request) -> bool {
    let operation = &request.body["status"]["attempts"][0]["operation"];
    request.kind == Kind::Claim && operation == "Deregister"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_comes_while_the_call_is_claimed_keeps_its_number() {
    let (bed, second) = (Bed::new().await, Bed::new().await);
    bed.secrets().await;
    let namespaces = format!("--watch-namespace={},{}", bed.namespace, second.namespace);
    let comes = async move {
        second.declare("coming", "4215").await;
    };
    let conduct = Meanwhile::new(claims_deregister, comes);
    let gates = bed.gates(Arc::clone(&conduct) as _).await;
    let _operator = gates.operator(&bed, &[SOON[0], SOON[1], &namespaces]).await;
    registered(&bed, "leaving", "4215").await;
    bed.delete("leaving").await;
    bed.until_gone("leaving").await;
    bed.until_event("leaving", "LeftRegistered").await;
    let outcomes = vec![json!("Succeeded"), json!("NotSent")];
    assert_eq!(conduct.outcomes(), (outcomes, true));
    assert_eq!(deregisters(&bed, "4215"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_crd_that_is_deleted_while_the_call_is_claimed_takes_no_number_off() {
    let control_plane = start_with_crd().await.expect("a control plane");
    let control_plane: &'static ControlPlane = Box::leak(Box::new(control_plane));
    let bed = Bed::on(control_plane).await;
    bed.secrets().await;
    let conduct = Meanwhile::new(claims_deregister, delete_definition(bed.client.clone()));
    let gates = bed.gates(Arc::clone(&conduct) as _).await;
    let _operator = gates.operator(&bed, SOON).await;
    registered(&bed, "swept", "4216").await;
    bed.delete("swept").await;
    until_definition_gone(&bed).await;
    let outcomes = vec![json!("Succeeded"), json!("NotSent")];
    assert_eq!(conduct.outcomes(), (outcomes, true));
    assert_eq!(deregisters(&bed, "4216"), 0);
}

/// Somebody takes the suspension back while the resource is let go.
#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_a_number_is_told_only_when_it_has() {
    let bed = Arc::new(Bed::new().await);
    bed.secrets().await;
    let resumed = Arc::clone(&bed);
    let resumes = async move {
        let resume = json!({"spec": {"suspend": false}});
        resumed.patch("resumed", resume).await;
    };
    let lets_go = |request: &Request| {
        let finalizers = &request.body["metadata"]["finalizers"];
        request.kind == Kind::Finalizer && *finalizers == json!([])
    };
    let conduct = Meanwhile::new(lets_go, resumes);
    let gates = bed.gates(Arc::clone(&conduct) as _).await;
    let operator = gates.operator(&bed, SOON).await;
    registered(&bed, "resumed", "4217").await;
    bed.patch("resumed", json!({"spec": {"suspend": true}}))
        .await;
    bed.delete("resumed").await;
    bed.until_gone("resumed").await;
    assert!(conduct.outcomes().1);
    assert_eq!(deregisters(&bed, "4217"), 1);
    bed.until_event("resumed", "Deregistered").await;
    let told = operator
        .metric("deregistrations_total{outcome=\"left_registered\"")
        .await;
    assert_eq!(told, 0.0);
    operator
        .until_metric("deregistrations_total{outcome=\"deregistered\"", |n| {
            n == 1.0
        })
        .await;
}

/// Refuses patches of the finalizer, as an admission rule does.
struct NoPatches(u16);

impl Conduct for NoPatches {
    fn before<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Before> {
        let refused = request.kind == Kind::Finalizer;
        ready(if refused {
            Before::Refuse(self.0)
        } else {
            Before::Pass
        })
        .boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_may_have_no_finalizer_is_registered_all_the_same() {
    for code in [400, 403, 422] {
        let bed = Bed::new().await;
        bed.secrets().await;
        let gates = bed.gates(Arc::new(NoPatches(code))).await;
        let _operator = gates.operator(&bed, SOON).await;
        let policy = json!({"deletionPolicy": "Deregister"});
        bed.declare_with("refused", "4218", policy).await;
        bed.until_registered("refused", "RegistrationSucceeded")
            .await;
        bed.until_event("refused", "DeregisterIgnored").await;
        assert!(!bed.get("refused").await.has_finalizer(), "{code}");
        assert_eq!(bed.posts("4218"), 1, "{code}");
    }
}

/// Loses the answer to the patch that takes the finalizer off, and then every read of the resource, for as long as it is told to.
#[derive(Default)]
struct Doubt(AtomicBool);

impl Conduct for Doubt {
    fn before<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Before> {
        let refused = request.kind == Kind::ReadResource && self.0.load(SeqCst);
        ready(if refused {
            Before::Refuse(503)
        } else {
            Before::Pass
        })
        .boxed()
    }

    fn after<'a>(&'a self, request: &'a Request, _: StatusCode) -> BoxFuture<'a, After> {
        let lost = request.kind == Kind::Finalizer && self.0.load(SeqCst);
        ready(if lost { After::Lose } else { After::Answer }).boxed()
    }
}

/// The resource is gone before anybody knows why, so there is nothing left to reconcile.
#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_a_number_is_told_after_an_outage_that_hid_it() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let conduct = Arc::new(Doubt::default());
    let gates = bed.gates(Arc::clone(&conduct) as _).await;
    let operator = gates.operator(&bed, SOON).await;
    registered(&bed, "hidden", "4220").await;
    conduct.0.store(true, SeqCst);
    bed.delete("hidden").await;
    bed.until_gone("hidden").await;
    operator.until_logged("Failed to reconcile").await;
    conduct.0.store(false, SeqCst);
    bed.until_event("hidden", "Deregistered").await;
    operator
        .until_metric("deregistrations_total{outcome=\"deregistered\"", |n| {
            n == 1.0
        })
        .await;
    assert_eq!(deregisters(&bed, "4220"), 1);
}
