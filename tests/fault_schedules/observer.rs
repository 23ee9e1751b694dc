//! What an independent observer sees: every version of every resource, straight from the API server, and every register
//! call on its way to Graph, with the claims that were open then.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::http::StatusCode;
use futures::future::{BoxFuture, FutureExt};
use futures::{StreamExt, TryStreamExt};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use operator_core::api::{LedgerEntry, WhatsAppPhoneNumber};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::plan::Action;
use testkit::bed::Bed;
use testkit::gateway::faults::Faults;
use testkit::gateway::{After, Before, Change, Conduct, Kind, Passage, Request};
use testkit::world::prune;

/// One version of one resource.
#[derive(Clone, Debug)]
pub struct Version {
    pub seen: Instant,
    /// Whether it is the last one.
    pub deleted: bool,
    pub object: WhatsAppPhoneNumber,
}

/// A register call that went on to Graph.
#[derive(Clone, Debug)]
pub struct Post {
    /// When it passed.
    pub at: Instant,
    pub number: String,
    /// The open claims of the number's resources at that time: the UID of each and the claim's ID.
    pub claims: Vec<(String, String)>,
}

/// Everything that was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub versions: Vec<Version>,
    pub posts: Vec<Post>,
    /// What people did, and when.
    pub actions: Vec<(Instant, Action)>,
    /// Requests, of all kinds.
    pub requests: usize,
}

/// Sees everything.
pub struct Observer {
    api: Api<WhatsAppPhoneNumber>,
    seen: Mutex<Seen>,
    newest: watch::Sender<u64>,
}

/// Faults, with an observer behind them.
pub struct Observed {
    pub faults: Arc<Faults>,
    pub observer: Arc<Observer>,
    /// The status field that the API server does not know; it is upgraded when the faults end.
    pub unknown_field: Option<String>,
}

// === impl Observer ===

impl Observer {
    /// An observer of a bed that has no resources yet, and the task that watches.
    pub async fn start(bed: &Bed) -> (Arc<Self>, AbortOnDropHandle<()>) {
        let api = bed.numbers();
        let list = api.list(&ListParams::default()).await.expect("a list");
        let version = list.metadata.resource_version.unwrap_or_default();
        let observer = Arc::new(Self {
            api,
            seen: Mutex::default(),
            newest: watch::Sender::new(0),
        });
        let task = tokio::spawn(Arc::clone(&observer).watch(version));
        (observer, AbortOnDropHandle::new(task))
    }

    /// The API server's watches end after some minutes: the next one goes on where the last one ended.
    async fn watch(self: Arc<Self>, mut version: String) {
        loop {
            let params = WatchParams::default().timeout(290);
            let changes = self.api.watch(&params, &version);
            let mut changes = changes.await.expect("a watch").boxed();
            while let Some(change) = changes.try_next().await.expect("a change") {
                let (object, deleted) = match change {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
                    WatchEvent::Deleted(object) => (object, true),
                    WatchEvent::Bookmark(_) => continue,
                    WatchEvent::Error(error) => panic!("the observer's watch failed: {error:?}"),
                };
                version = object.resource_version().unwrap_or_default();
                let seen = Instant::now();
                self.seen().versions.push(Version {
                    seen,
                    deleted,
                    object,
                });
                self.newest
                    .send_replace(version.parse().expect("a version"));
            }
        }
    }

    /// Waits until a version has been seen.
    pub async fn until(&self, version: &str) {
        let version: u64 = version.parse().expect("a version");
        let mut newest = self.newest.subscribe();
        // Cannot fail: the sender is here.
        let _ = newest.wait_for(|newest| *newest >= version).await;
    }

    /// Everything so far.
    pub fn all(&self) -> Seen {
        self.seen().clone()
    }

    /// Takes note of what somebody is about to do.
    pub fn acts(&self, action: &Action) {
        let mut seen = self.seen();
        seen.actions.push((Instant::now(), action.clone()));
    }

    /// Takes note of a register call that is about to pass.
    async fn post(&self, number: &str) {
        let params = ListParams::default().fields(&format!("spec.phoneNumberID={number}"));
        let list = self
            .api
            .list(&params)
            .await
            .expect("the number's resources");
        let claims = list.items.iter().flat_map(open_claims).collect();
        self.seen().posts.push(Post {
            at: Instant::now(),
            number: number.to_owned(),
            claims,
        });
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The open claims of a resource: its UID and the claim's ID.
pub fn open_claims(resource: &WhatsAppPhoneNumber) -> Vec<(String, String)> {
    let uid = resource.uid().unwrap_or_default();
    let open = attempts(resource).iter().filter(|a| a.is_open());
    open.map(|a| (uid.clone(), a.id.clone())).collect()
}

/// A resource's ledger.
pub fn attempts(resource: &WhatsAppPhoneNumber) -> &[LedgerEntry] {
    let status = resource.status.as_ref();
    status.map(|s| s.attempts.as_slice()).unwrap_or_default()
}

impl Conduct for Observed {
    fn before<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Before> {
        let passage = async {
            self.observer.seen().requests += 1;
            let before = self.faults.before(request).await;
            if (before, request.kind) == (Before::Pass, Kind::GraphRegister) {
                self.observer.post(&request.about).await;
            }
            before
        };
        passage.boxed()
    }

    fn rewritten(&self, request: &Request) -> Option<Value> {
        let field = self
            .unknown_field
            .as_ref()
            .filter(|_| !self.faults.have_ended())?;
        let mut body = request.body.clone();
        prune(body.get_mut("status")?, field);
        Some(body)
    }

    fn after<'a>(&'a self, request: &'a Request, status: StatusCode) -> BoxFuture<'a, After> {
        self.faults.after(request, status)
    }

    fn changed<'a>(&'a self, change: &'a Change) -> BoxFuture<'a, Passage> {
        self.faults.changed(change)
    }
}
