//! What a Lease says, and a whole election against a small stand-in for the API server's Leases. The stand-in merges
//! patches and nothing more; conflicts between field managers belong to the tests with the real API server.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::get;
use futures::{FutureExt, StreamExt};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);
const QUICK: Timing = Timing {
    duration: 3,
    grace: 2,
    retry: Duration::from_millis(50),
    request: Duration::from_millis(300),
};

fn lease(holder: Option<&str>, renewed: &str) -> Lease {
    let spec = json!({"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 30});
    serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": spec})).expect("a valid Lease")
}

#[test]
fn a_lease_is_in_force_until_its_duration_after_the_renewal() {
    let now: Timestamp = "2026-01-01T00:01:00Z".parse().expect("a time");
    for (renewed, left) in [
        ("2026-01-01T00:01:00.000000Z", 30),
        ("2026-01-01T00:00:40.000000Z", 10),
        ("2026-01-01T00:00:30.000000Z", 0),
        ("2025-01-01T00:00:00.000000Z", 0),
        ("2026-01-01T00:09:00.000000Z", 30),
    ] {
        let look = judge(Some(&lease(Some("me"), renewed)), "me", now);
        assert_eq!(look, Look::Mine(Duration::from_secs(left)), "{renewed}");
    }
}

#[test]
fn a_lease_of_another_or_of_nobody_is_not_mine() {
    let now: Timestamp = "2026-01-01T00:01:00Z".parse().expect("a time");
    let renewed = "2026-01-01T00:01:00.000000Z";
    let empty: Lease =
        serde_json::from_value(json!({"metadata": {}, "spec": {"holderIdentity": "me"}}))
            .expect("a Lease");
    for lease in [
        None,
        Some(lease(Some("you"), renewed)),
        Some(lease(None, renewed)),
        Some(empty),
    ] {
        assert_eq!(judge(lease.as_ref(), "me", now), Look::NotMine, "{lease:?}");
    }
}

#[tokio::test]
async fn without_an_election_it_always_leads() {
    let leadership = Leadership::always();
    assert!(leadership.is_leader());
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

    fn holder(&self) -> Option<String> {
        self.with(|state| {
            Some(
                state.1.as_ref()?["spec"]["holderIdentity"]
                    .as_str()?
                    .to_owned(),
            )
        })
    }

    /// Answers with what `change` leaves of the Lease.
    async fn answer(&self, change: impl FnOnce(&mut Option<Value>)) -> (StatusCode, String) {
        let mood = self.with(|state| state.0);
        match mood {
            Mood::Well => {}
            Mood::Refusing => return status(StatusCode::INTERNAL_SERVER_ERROR),
            Mood::Silent => std::future::pending().await,
        }
        self.with(|(_, lease)| {
            change(lease);
            match lease {
                Some(lease) => (StatusCode::OK, lease.to_string()),
                None => status(StatusCode::NOT_FOUND),
            }
        })
    }
}

fn status(code: StatusCode) -> (StatusCode, String) {
    let body = json!({"kind": "Status", "status": "Failure", "code": code.as_u16(), "message": "", "reason": ""});
    (code, body.to_string())
}

async fn create(State(server): State<Server>, body: Bytes) -> (StatusCode, String) {
    let new = serde_json::from_slice(&body).expect("a Lease");
    server.answer(|lease| *lease = Some(new)).await
}

async fn read(State(server): State<Server>) -> (StatusCode, String) {
    server.answer(|_| ()).await
}

async fn patch(State(server): State<Server>, body: Bytes) -> (StatusCode, String) {
    let patch: Value = serde_json::from_slice(&body).expect("a patch");
    server
        .answer(|lease| {
            let Some(lease) = lease else { return };
            if !lease["spec"].is_object() {
                lease["spec"] = json!({});
            }
            for (name, value) in patch["spec"].as_object().into_iter().flatten() {
                match lease["spec"].as_object_mut() {
                    Some(spec) if value.is_null() => drop(spec.remove(name)),
                    _ => lease["spec"][name] = value.clone(),
                }
            }
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
            .unwrap_or_else(|_| panic!("is_leader does not become {wanted} in {DEADLINE:?}"));
    }
}

#[tokio::test]
async fn makes_the_lease_takes_it_keeps_it_and_gives_it_up() {
    let (server, client) = Server::start().await;
    let leadership = candidate(client, "me");
    assert!(!leadership.is_leader());
    becomes(&leadership, true).await;
    assert!(leadership.is_leader());
    assert_eq!(server.holder().as_deref(), Some("me"));
    // Longer than the Lease holds without renewal.
    let lost = timeout(
        Duration::from_secs(QUICK.duration + 2),
        becomes(&leadership, false),
    )
    .await;
    assert!(lost.is_err(), "it leads as long as it renews");
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
async fn a_deleted_lease_is_made_anew() {
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
    let leadership = candidate(client, "me");
    becomes(&leadership, true).await;
    server.with(|state| {
        if let Some(lease) = &mut state.1 {
            lease["spec"]["holderIdentity"] = json!("you");
        }
    });
    becomes(&leadership, false).await;
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
