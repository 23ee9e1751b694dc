//! What an independent observer sees: every version of every resource, straight from the API server, and every call on
//! its way to Graph that acts, with the claims that were open then.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::http::StatusCode;
use futures::future::{BoxFuture, FutureExt};
use futures::{StreamExt, TryStreamExt};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use operator_core::api::{Operation, WhatsAppPhoneNumber};
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

/// A call that went on to Graph and was not a read.
#[derive(Clone, Debug)]
pub struct Post {
    pub operation: Operation,
    /// When it passed.
    pub at: Instant,
    pub number: String,
    /// The open claims of the number's resources at that time, of such a call: the UID of each and the claim's ID.
    pub claims: Vec<(String, String)>,
    /// The UIDs of the number's resources that were not being deleted at that time.
    pub declared: Vec<String>,
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
    changes: watch::Sender<()>,
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
            changes: watch::Sender::new(()),
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
                self.changes.send_replace(());
            }
        }
    }

    /// Waits until the end of each of these resources has been seen.
    pub async fn until_gone(&self, resources: &[WhatsAppPhoneNumber]) {
        let is_gone = |resource: &WhatsAppPhoneNumber| {
            let versions = &self.seen().versions;
            let mut ends = versions.iter().filter(|version| version.deleted);
            ends.any(|end| end.object.uid() == resource.uid())
        };
        let mut changes = self.changes.subscribe();
        // Cannot fail: the sender is here.
        let _ = changes.wait_for(|()| resources.iter().all(is_gone)).await;
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

    /// Takes note of a call that is about to pass.
    async fn post(&self, operation: Operation, number: &str) {
        let params = ListParams::default().fields(&format!("spec.phoneNumberID={number}"));
        let list = self
            .api
            .list(&params)
            .await
            .expect("the number's resources");
        let named = list.items.iter();
        let declared = named.clone().filter(|r| !is_leaving(r));
        let post = Post {
            operation,
            at: Instant::now(),
            number: number.to_owned(),
            claims: named.flat_map(|r| open_claims(r, operation)).collect(),
            declared: declared.filter_map(ResourceExt::uid).collect(),
        };
        self.seen().posts.push(post);
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The open claims of a resource for such a call: its UID and the claim's ID.
pub fn open_claims(resource: &WhatsAppPhoneNumber, operation: Operation) -> Vec<(String, String)> {
    let uid = resource.uid().unwrap_or_default();
    let claims = resource.attempts().iter();
    let open = claims.filter(|claim| claim.is_open() && claim.operation == operation);
    open.map(|claim| (uid.clone(), claim.id.clone())).collect()
}

/// Whether a resource is being deleted.
pub fn is_leaving(resource: &WhatsAppPhoneNumber) -> bool {
    resource.metadata.deletion_timestamp.is_some()
}

impl Conduct for Observed {
    fn before<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Before> {
        let passage = async {
            self.observer.seen().requests += 1;
            let before = self.faults.before(request).await;
            let operation = match request.kind {
                Kind::GraphRegister => Some(Operation::Register),
                Kind::GraphDeregister => Some(Operation::Deregister),
                _ => None,
            };
            if let Some(operation) = operation.filter(|_| before == Before::Pass) {
                self.observer.post(operation, &request.about).await;
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
