//! Table tests of the decisions, and whole elections against a small stand-in for the API server's Leases, which merges
//! patches and refuses those of an old version.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::get;
use futures::{FutureExt, StreamExt};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::sleep;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);
const QUICK: Timing = Timing {
    duration: Duration::from_secs(3),
    retry: Duration::from_millis(50),
    request: Duration::from_millis(300),
};

const OTHER: LeaseState = LeaseState::Other(Duration::from_secs(30));

fn spec(fields: Value) -> LeaseSpec {
    serde_json::from_value(fields).expect("the spec of a Lease")
}

#[test]
fn the_lease_says_who_holds_it_whatever_its_clock() {
    let state = |fields| LeaseState::of(&spec(fields), "me", Duration::from_secs(30));
    assert_eq!(state(json!({})), LeaseState::Free);
    for renewed in [
        "2000-01-01T00:00:00.000000Z",
        "2026-01-01T00:01:00.000000Z",
        "2100-01-01T00:00:00.000000Z",
    ] {
        for (holder, expected) in [
            (json!(null), LeaseState::Free),
            (json!(""), LeaseState::Free),
            (json!("me"), LeaseState::Mine),
            (json!("you"), LeaseState::Other(Duration::from_secs(8))),
        ] {
            let fields =
                json!({"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 8});
            assert_eq!(state(fields), expected, "{holder}, {renewed}");
        }
    }
    for unusable in [json!(null), json!(-1)] {
        let fields = json!({"holderIdentity": "you", "leaseDurationSeconds": unusable});
        assert_eq!(state(fields), OTHER, "{unusable}");
    }
}

#[test]
fn what_a_follower_does() {
    for (lease, unchanged, step) in [
        (LeaseState::Free, 0, Step::Hold),
        (LeaseState::Mine, 0, Step::Hold),
        (OTHER, 0, Step::Wait),
        (OTHER, 29, Step::Wait),
        (OTHER, 30, Step::Hold),
        (LeaseState::Other(Duration::ZERO), 0, Step::Hold),
    ] {
        let next = next_step(
            lease,
            Duration::from_secs(unchanged),
            None,
            TIMING.renewal(),
        );
        assert_eq!(next, step, "{lease:?}, unchanged for {unchanged} s");
    }
}

#[test]
fn what_a_leader_does() {
    for (lease, renewed, step) in [
        (LeaseState::Mine, 0, Step::Wait),
        (LeaseState::Mine, 14, Step::Wait),
        (LeaseState::Mine, 15, Step::Hold),
        (LeaseState::Mine, 27, Step::Hold),
        (LeaseState::Free, 0, Step::EndTerm),
        (OTHER, 0, Step::EndTerm),
        (OTHER, 15, Step::EndTerm),
    ] {
        // However long it has been seen like this.
        for unchanged in [0, 60] {
            let unchanged = Duration::from_secs(unchanged);
            let age = Some(Duration::from_secs(renewed));
            let next = next_step(lease, unchanged, age, TIMING.renewal());
            assert_eq!(next, step, "{lease:?}, renewed {renewed} s ago");
        }
    }
}

#[test]
fn a_term_ends_before_the_lease_and_leaves_time_for_a_second_renewal() {
    assert!(TIMING.term() < TIMING.duration);
    let one_try = TIMING.retry + 2 * TIMING.request;
    assert!(TIMING.renewal() + one_try < TIMING.term());
}

#[test]
fn a_lease_is_unchanged_since_it_was_first_seen_so() {
    let start = Instant::now();
    let mut seen = Observation {
        spec: LeaseSpec::default(),
        since: start,
    };
    for (at, renewed, unchanged) in [(1, 0, 0), (3, 0, 2), (40, 0, 39), (41, 1, 0), (45, 1, 4)] {
        let renewed = format!("2000-01-01T00:00:{renewed:02}.000000Z");
        let spec = spec(json!({"holderIdentity": "you", "renewTime": renewed}));
        let found = seen.unchanged(&spec, start + Duration::from_secs(at));
        assert_eq!(found, Duration::from_secs(unchanged), "at {at} s");
    }
}

#[tokio::test]
async fn without_an_election_it_always_leads() {
    let leadership = Leadership::always();
    assert!(leads(&leadership));
    let mut changes = leadership.changes();
    assert_eq!(changes.next().await, Some(true));
    assert!(
        timeout(Duration::from_millis(20), changes.next())
            .await
            .is_err(),
        "no change follows and no end"
    );
    leadership.release().await;
}

#[tokio::test]
async fn a_term_that_was_lost_and_won_again_unseen_is_told() {
    let leadership = Leadership::always();
    let mut changes = leadership.changes();
    assert_eq!(changes.next().await, Some(true));
    let Campaign::Unopposed { _sender: sender } = &leadership.campaign else {
        panic!("there is no election");
    };
    sender.send_replace(false);
    sender.send_replace(true);
    assert_eq!(changes.next().now_or_never(), Some(Some(true)));
}

/// How the stand-in answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Well,
    Refusing,
    Silent,
    /// Another writer changes the Lease after each read.
    Racing,
}

#[derive(Clone)]
struct Server(Arc<Mutex<(Mood, Option<Value>)>>);

impl Server {
    async fn start() -> (Self, Client) {
        let server = Self(Arc::new(Mutex::new((Mood::Well, None))));
        let path = "/apis/coordination.k8s.io/v1/namespaces/system/leases";
        let router = Router::new()
            .route(path, axum::routing::post(create))
            .route(&format!("{path}/turn"), get(read).patch(patch))
            .with_state(server.clone());
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port on 127.0.0.1");
        let address = listener
            .local_addr()
            .expect("a bound listener has an address");
        tokio::spawn(axum::serve(listener, router).into_future());
        let url = format!("http://{address}")
            .parse()
            .expect("a valid address");
        let mut config = kube::Config::new(url);
        config.default_namespace = "system".to_owned();
        config.proxy_url = None;
        (server, Client::try_from(config).expect("a client"))
    }

    fn with<T>(&self, change: impl FnOnce(&mut (Mood, Option<Value>)) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, mood: Mood) {
        self.with(|state| state.0 = mood);
    }

    /// What the Lease's spec says.
    fn spec(&self, field: &str) -> Value {
        self.with(|(_, lease)| match lease {
            Some(lease) => lease["spec"][field].clone(),
            None => Value::Null,
        })
    }

    fn holder(&self) -> Option<String> {
        let holder = self.spec("holderIdentity");
        let holder = holder.as_str().filter(|holder| !holder.is_empty());
        holder.map(str::to_owned)
    }

    /// Stores a Lease, as no candidate would.
    fn put(&self, spec: Value) {
        let lease = new_version(json!({"metadata": {"name": "turn"}, "spec": spec}));
        self.with(|state| state.1 = Some(lease));
    }

    /// Answers with what `change` leaves of the Lease.
    async fn answer(
        &self,
        change: impl FnOnce(&mut Option<Value>) -> Result<(), StatusCode>,
    ) -> (StatusCode, String) {
        let mood = self.with(|state| state.0);
        match mood {
            Mood::Well | Mood::Racing => {}
            Mood::Refusing => return status(StatusCode::INTERNAL_SERVER_ERROR),
            Mood::Silent => std::future::pending().await,
        }
        self.with(|(_, lease)| match (change(lease), &lease) {
            (Err(code), _) => status(code),
            (Ok(()), Some(lease)) => (StatusCode::OK, lease.to_string()),
            (Ok(()), None) => status(StatusCode::NOT_FOUND),
        })
    }
}

fn new_version(mut lease: Value) -> Value {
    static VERSION: AtomicU64 = AtomicU64::new(1);
    let version = VERSION.fetch_add(1, Ordering::Relaxed);
    lease["metadata"]["resourceVersion"] = json!(version.to_string());
    lease
}

fn status(code: StatusCode) -> (StatusCode, String) {
    let reason = match code {
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::CONFLICT => "Conflict",
        _ => "InternalError",
    };
    let body = json!({"kind": "Status", "status": "Failure", "code": code.as_u16(), "message": "", "reason": reason});
    (code, body.to_string())
}

async fn create(State(server): State<Server>, body: Bytes) -> (StatusCode, String) {
    let new = serde_json::from_slice(&body).expect("a Lease");
    server
        .answer(|lease| match lease {
            Some(_) => Err(StatusCode::CONFLICT),
            None => {
                *lease = Some(new_version(new));
                Ok(())
            }
        })
        .await
}

async fn read(State(server): State<Server>) -> (StatusCode, String) {
    let answer = server.answer(|_| Ok(())).await;
    server.with(|(mood, lease)| {
        if *mood == Mood::Racing {
            *lease = lease.take().map(new_version);
        }
    });
    answer
}

async fn patch(State(server): State<Server>, body: Bytes) -> (StatusCode, String) {
    let patch: Value = serde_json::from_slice(&body).expect("a patch");
    server
        .answer(|stored| {
            let lease = stored.as_mut().ok_or(StatusCode::NOT_FOUND)?;
            if lease["metadata"]["resourceVersion"] != patch["metadata"]["resourceVersion"] {
                return Err(StatusCode::CONFLICT);
            }
            for (name, value) in patch["spec"].as_object().into_iter().flatten() {
                lease["spec"][name] = value.clone();
            }
            *stored = stored.take().map(new_version);
            Ok(())
        })
        .await
}

fn candidate(client: Client, identity: &str) -> Leadership {
    let settings = LeaderSettings {
        lease_name: "turn".to_owned(),
        lease_namespace: None,
        identity: identity.to_owned(),
    };
    Leadership::elect_with(client, settings, QUICK)
}

fn leads(leadership: &Leadership) -> bool {
    *leadership.receiver().borrow()
}

/// Fails if a leader stops leading, or a follower leads, within this time.
async fn stays(leadership: &Leadership, wanted: bool, time: Duration) {
    let changed = timeout(time, becomes(leadership, !wanted)).await;
    assert!(changed.is_err(), "it does not stay {wanted}");
}

#[track_caller]
fn becomes(leadership: &Leadership, wanted: bool) -> impl Future<Output = ()> + use<> {
    let mut changes = leadership.changes();
    async move {
        let reached = timeout(DEADLINE, async {
            while let Some(now) = changes.next().await {
                if now == wanted {
                    return;
                }
            }
            panic!("the candidate has left");
        });
        reached
            .await
            .unwrap_or_else(|_| panic!("it does not become {wanted} in {DEADLINE:?}"));
    }
}

#[tokio::test]
async fn makes_the_lease_takes_it_keeps_it_and_gives_it_up() {
    let (server, client) = Server::start().await;
    let leadership = candidate(client, "me");
    assert!(!leads(&leadership));
    becomes(&leadership, true).await;
    assert!(leads(&leadership));
    assert_eq!(server.holder().as_deref(), Some("me"));
    assert_eq!(server.spec("leaseDurationSeconds"), 3);
    let acquired = server.spec("acquireTime");
    // It leads as long as it renews: longer than the Lease holds without renewal.
    stays(&leadership, true, QUICK.duration + Duration::from_secs(2)).await;
    assert_eq!(server.spec("acquireTime"), acquired);
    assert_ne!(server.spec("renewTime"), acquired);
    assert_eq!(server.spec("leaseTransitions"), 1, "it is one term");
    let mut changes = leadership.changes();
    leadership.release().await;
    assert_eq!(server.holder(), None);
    assert_eq!(changes.next().await, Some(false));
    assert_eq!(changes.next().await, None);
}

#[tokio::test]
async fn a_follower_takes_over_when_the_leader_leaves() {
    let (server, client) = Server::start().await;
    let leader = candidate(client.clone(), "one");
    becomes(&leader, true).await;
    let follower = candidate(client, "two");
    leader.release().await;
    becomes(&follower, true).await;
    assert_eq!(server.holder().as_deref(), Some("two"));
    follower.release().await;
}

#[tokio::test]
async fn a_leader_without_api_server_stops_leading_and_starts_again() {
    for mood in [Mood::Refusing, Mood::Silent] {
        let (server, client) = Server::start().await;
        let leadership = candidate(client, "me");
        becomes(&leadership, true).await;
        server.set(mood);
        becomes(&leadership, false).await;
        server.set(Mood::Well);
        becomes(&leadership, true).await;
        leadership.release().await;
    }
}

#[tokio::test]
async fn a_deleted_lease_is_created_again() {
    let (server, client) = Server::start().await;
    let leadership = candidate(client, "me");
    becomes(&leadership, true).await;
    server.with(|state| state.1 = None);
    becomes(&leadership, false).await;
    becomes(&leadership, true).await;
    assert_eq!(server.holder().as_deref(), Some("me"));
    leadership.release().await;
}

#[tokio::test]
async fn a_leader_that_another_replaced_stops_leading() {
    let (server, client) = Server::start().await;
    let start = Instant::now();
    let leadership = candidate(client, "me");
    becomes(&leadership, true).await;
    server.put(json!({"holderIdentity": "you", "leaseDurationSeconds": 3}));
    becomes(&leadership, false).await;
    assert!(
        start.elapsed() < QUICK.term(),
        "it reads that it was replaced"
    );
    assert_eq!(server.holder().as_deref(), Some("you"));
    leadership.release().await;
}

#[tokio::test]
async fn an_end_without_api_server_is_not_held_up() {
    let (server, client) = Server::start().await;
    let leadership = candidate(client, "me");
    becomes(&leadership, true).await;
    server.set(Mood::Silent);
    let ended = timeout(RELEASE + Duration::from_secs(2), leadership.release()).await;
    assert!(ended.is_ok(), "release ends by itself");
}

#[tokio::test]
async fn one_of_two_candidates_leads() {
    let (_server, client) = Server::start().await;
    let [one, two] = ["one", "two"].map(|identity| candidate(client.clone(), identity));
    let (leader, follower) = tokio::select! {
        () = becomes(&one, true) => (one, two),
        () = becomes(&two, true) => (two, one),
    };
    tokio::join!(
        stays(&leader, true, QUICK.duration),
        stays(&follower, false, QUICK.duration)
    );
    leader.release().await;
    follower.release().await;
}

#[tokio::test]
async fn a_follower_leaves_a_lease_that_changes_whatever_its_times_say() {
    let (server, client) = Server::start().await;
    let renew = |number| {
        // The holder's clock is years late.
        let renewed = format!("2020-01-01T00:00:{number:02}.000000Z");
        server
            .put(json!({"holderIdentity": "you", "renewTime": renewed, "leaseDurationSeconds": 1}));
    };
    renew(0);
    let follower = candidate(client, "me");
    let mut renewed = Instant::now();
    let renewals = async {
        for number in 1..20 {
            sleep(Duration::from_millis(100)).await;
            renewed = Instant::now();
            renew(number);
        }
    };
    tokio::select! {
        () = renewals => {}
        () = becomes(&follower, true) => panic!("it takes a Lease that is renewed"),
    }
    becomes(&follower, true).await;
    assert!(renewed.elapsed() >= Duration::from_secs(1));
    assert_eq!(server.holder().as_deref(), Some("me"));
    follower.release().await;
}

#[tokio::test]
async fn a_write_that_is_refused_as_outdated_neither_takes_nor_renews() {
    let (server, client) = Server::start().await;
    server.put(json!({}));
    server.set(Mood::Racing);
    let leadership = candidate(client, "me");
    stays(&leadership, false, Duration::from_millis(500)).await;
    server.set(Mood::Well);
    becomes(&leadership, true).await;
    server.set(Mood::Racing);
    becomes(&leadership, false).await;
    server.set(Mood::Well);
    becomes(&leadership, true).await;
    leadership.release().await;
}

/// The end comes between the write that takes the Lease and its answer.
#[tokio::test]
async fn a_lease_that_was_taken_unknowingly_is_released() {
    let (server, client) = Server::start().await;
    server.put(json!({"holderIdentity": "you", "leaseDurationSeconds": 30}));
    let leadership = candidate(client, "me");
    stays(&leadership, false, Duration::from_millis(200)).await;
    server.put(json!({"holderIdentity": "me", "leaseDurationSeconds": 30}));
    leadership.release().await;
    assert_eq!(server.holder(), None);
}
