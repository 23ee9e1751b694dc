//! The gates themselves: what passes them is understood, and what they are told to do happens.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use futures::future::{BoxFuture, FutureExt, ready};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::ObjectMeta;
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use testkit::bed::{Bed, DEADLINE, Gates};
use testkit::gateway::faults::{Fault, Faults, Mix};
use testkit::gateway::{After, Before, Change, Conduct, Kind, Passage, Request, Side};

/// Takes down what passes.
#[derive(Default)]
struct Ledger(Mutex<Vec<(Kind, u16)>>);

impl Conduct for Ledger {
    fn after<'a>(&'a self, request: &'a Request, status: StatusCode) -> BoxFuture<'a, After> {
        let mut passed = self.0.lock().expect("the ledger");
        passed.push((request.kind, status.as_u16()));
        ready(After::Answer).boxed()
    }
}

/// Does what it was told, once each, in turn; then everything passes.
#[derive(Default)]
struct Script {
    unserved: Mutex<usize>,
    before: Mutex<VecDeque<Before>>,
    after: Mutex<VecDeque<After>>,
    changes: Mutex<VecDeque<Passage>>,
}

fn next<T>(script: &Mutex<VecDeque<T>>, otherwise: T) -> BoxFuture<'static, T>
where
    T: Send + 'static,
{
    let next = script.lock().expect("the script").pop_front();
    ready(next.unwrap_or(otherwise)).boxed()
}

impl Conduct for Script {
    fn connected(&self, _: Side) -> BoxFuture<'_, bool> {
        let mut unserved = self.unserved.lock().expect("the script");
        let served = *unserved == 0;
        *unserved = unserved.saturating_sub(1);
        ready(served).boxed()
    }

    fn before<'a>(&'a self, _: &'a Request) -> BoxFuture<'a, Before> {
        next(&self.before, Before::Pass)
    }

    fn after<'a>(&'a self, _: &'a Request, _: StatusCode) -> BoxFuture<'a, After> {
        next(&self.after, After::Answer)
    }

    fn changed<'a>(&'a self, _: &'a Change) -> BoxFuture<'a, Passage> {
        next(&self.changes, Passage::Deliver)
    }
}

/// A bed, its gates, and a client without retries that goes through them.
async fn behind_gates(script: &Arc<Script>) -> (Bed, Gates, Api<Secret>) {
    let bed = Bed::new().await;
    let gates = bed.gates(Arc::clone(script) as _).await;
    let url = bed.control_plane.url();
    let path = gates.api_server.kubeconfig(&bed.kubeconfig, url);
    let kubeconfig = Kubeconfig::read_from(path).expect("a kubeconfig");
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await;
    let mut config = config.expect("a configuration");
    (config.default_retry, config.proxy_url) = (false, None);
    let client = Client::try_from(config).expect("a client");
    let api = Api::namespaced(client, &bed.namespace);
    (bed, gates, api)
}

fn secret(name: &str) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..Secret::default()
    }
}

/// Creates it through the gate; the code of the answer, none where there was no answer, and whether it was created.
async fn create(bed: &Bed, api: &Api<Secret>, name: &str) -> (Option<u16>, bool) {
    let code = match api.create(&PostParams::default(), &secret(name)).await {
        Ok(_) => Some(201),
        Err(kube::Error::Api(status)) => Some(status.code),
        Err(_) => None,
    };
    let there = bed.api::<Secret>().get_opt(name).await;
    (code, there.expect("the API server answers").is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gates_understand_a_registration() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let ledger = Arc::new(Ledger::default());
    let gates = bed.gates(Arc::clone(&ledger) as _).await;
    let operator = gates.operator(&bed, &[]).await;
    bed.declare("gated", "9001").await;
    bed.until_registered("gated", "RegistrationSucceeded").await;
    bed.until_event("gated", "RegistrationSucceeded").await;
    let (_, log) = operator.terminate().await;
    let passed = ledger.0.lock().expect("the ledger").clone();
    let writes = |kind: &&(Kind, u16)| {
        !matches!(kind.0, Kind::List | Kind::Watch | Kind::Other | Kind::Event)
    };
    let order: Vec<_> = passed.iter().filter(writes).copied().collect();
    let expected = [
        (Kind::ReadSecret, 200),
        (Kind::GraphRead, 200),
        (Kind::Claim, 200),
        (Kind::GraphRegister, 200),
        (Kind::Record, 200),
    ];
    assert_eq!(order, expected, "{passed:?}\n{log}");
    assert!(passed.contains(&(Kind::Event, 201)), "{passed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_answers_go_as_the_gate_is_told() {
    let script = Arc::new(Script::default());
    let (bed, _gates, api) = behind_gates(&script).await;
    assert_eq!(create(&bed, &api, "passes").await, (Some(201), true));
    let before = [Before::Lose, Before::Refuse(409), Before::Throttle(1)];
    script.before.lock().expect("the script").extend(before);
    assert_eq!(create(&bed, &api, "lost").await, (None, false));
    assert_eq!(create(&bed, &api, "refused").await, (Some(409), false));
    assert_eq!(create(&bed, &api, "throttled").await, (Some(429), false));
    let after = [After::Lose, After::Lie(504)];
    script.after.lock().expect("the script").extend(after);
    assert_eq!(create(&bed, &api, "answer-lost").await, (None, true));
    assert_eq!(create(&bed, &api, "lied-about").await, (Some(504), true));
    assert_eq!(create(&bed, &api, "later").await, (Some(201), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_not_served_is_closed() {
    let script = Arc::new(Script::default());
    *script.unserved.lock().expect("the script") = 1;
    let (bed, _gates, api) = behind_gates(&script).await;
    assert_eq!(create(&bed, &api, "unserved").await, (None, false));
    assert_eq!(create(&bed, &api, "served").await, (Some(201), true));
}

/// What a watch brings until it ends: names, with the count that a change has put there.
async fn watched(api: &Api<Secret>, version: &str) -> Vec<String> {
    let changes = api.watch(&WatchParams::default().timeout(5), version).await;
    let told = changes.expect("a watch").map(|change| match change {
        Ok(WatchEvent::Added(secret)) => format!("{} added", secret.name_any()),
        Ok(WatchEvent::Modified(secret)) => {
            format!("{} {}", secret.name_any(), secret.annotations()["count"])
        }
        Ok(WatchEvent::Error(status)) => format!("error {}", status.code),
        other => format!("{other:?}"),
    });
    let all = tokio::time::timeout(DEADLINE, told.collect()).await;
    all.expect("the watch ends")
}

/// Changes a Secret so often, and counts along.
async fn change(bed: &Bed, name: &str, times: usize) {
    let api = bed.api::<Secret>();
    for count in 1..=times {
        let patch =
            Patch::Merge(json!({"metadata": {"annotations": {"count": count.to_string()}}}));
        let changed = api.patch(name, &PatchParams::default(), &patch).await;
        changed.expect("a change");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_go_as_the_gate_is_told() {
    use Passage::{Cut, Deliver, Expire, Replay, Skip};
    let script = Arc::new(Script::default());
    let (bed, _gates, api) = behind_gates(&script).await;
    let list = api.list(&ListParams::default()).await.expect("a list");
    let version = list.metadata.resource_version.expect("a version");
    assert!(create(&bed, &api, "watched").await.1);
    change(&bed, "watched", 4).await;
    let told = |passages: &[Passage]| {
        *script.changes.lock().expect("the script") = passages.iter().copied().collect();
        watched(&api, &version)
    };
    let skipped = told(&[Deliver, Skip, Deliver, Cut]).await;
    assert_eq!(skipped, ["watched added", "watched 2"]);
    let replayed = told(&[Deliver, Deliver, Replay, Cut]).await;
    let expected = ["watched added", "watched 1", "watched 2", "watched 1"];
    assert_eq!(replayed, expected);
    let expired = told(&[Deliver, Expire]).await;
    assert_eq!(expired, ["watched added", "error 410"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_expire_at_once_and_those_of_old_versions_later() {
    let script = Arc::new(Script::default());
    let (bed, gates, api) = behind_gates(&script).await;
    let list = api.list(&ListParams::default()).await.expect("a list");
    let version = list.metadata.resource_version.expect("a version");
    assert!(create(&bed, &api, "watched").await.1);
    let changes = api.watch(&WatchParams::default(), &version).await;
    let mut changes = changes.expect("a watch").boxed();
    let first = changes.try_next().await.expect("a change");
    assert!(matches!(first, Some(WatchEvent::Added(_))), "{first:?}");
    gates.api_server.expire_watches();
    let last = changes.try_next().await.expect("a change");
    assert!(matches!(&last, Some(WatchEvent::Error(error)) if error.code == 410));
    let list = api.list(&ListParams::default()).await.expect("a list");
    let newer = list.metadata.resource_version.expect("a version");
    gates
        .api_server
        .forget_before(newer.parse().expect("a number"));
    assert_eq!(watched(&api, &version).await, ["error 410"]);
    *script.changes.lock().expect("the script") = [Passage::Deliver, Passage::Cut].into();
    change(&bed, "watched", 1).await;
    assert_eq!(watched(&api, &newer).await, ["watched 1"]);
}

/// What a hundred requests of the same kind meet.
async fn fates(seed: u64) -> Vec<Before> {
    let mix = Mix::all().longest(Duration::from_millis(11));
    let (faults, _) = Faults::new(seed, mix);
    let request = Request {
        id: 0,
        kind: Kind::Status,
        about: "same".to_owned(),
        body: serde_json::Value::Null,
    };
    let mut fates = Vec::new();
    for _ in 0..100 {
        fates.push(faults.before(&request).await);
    }
    let made = faults.tally();
    assert!(made.contains_key(&Fault::LoseRequest), "{made:?}");
    faults.stop();
    for _ in 0..100 {
        assert_eq!(faults.before(&request).await, Before::Pass);
    }
    assert_eq!(faults.tally(), made, "there are none after the end");
    assert_eq!(faults.trace().lines().count(), made.values().sum::<usize>());
    fates
}

#[tokio::test]
async fn one_seed_makes_the_same_faults_again() {
    let (once, again, other) = (fates(1).await, fates(1).await, fates(2).await);
    assert_eq!(once, again);
    assert_ne!(once, other);
}
