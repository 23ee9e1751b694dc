//! What a request is, in the terms of the operator.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use axum::body::Bytes;
use axum::http::request::Parts;
use axum::http::{Method, Uri};
use serde_json::Value;

/// A request of the operator's.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which one of its gate it is.
    pub id: u64,
    /// What it is.
    pub kind: Kind,
    /// The name of the object that it is about, or the phone number ID; empty where it is about many.
    pub about: String,
    /// What it carries.
    pub body: Value,
}

/// What requests there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A write of the status that opens a claim.
    Claim,
    /// A write of the status that ends a claim.
    Record,
    /// Any other write of the status.
    Status,
    /// An event is written.
    Event,
    /// A Secret is read.
    ReadSecret,
    /// A resource is read.
    ReadResource,
    /// The resources of one phone number are listed.
    ListRivals,
    /// Objects are listed for a watch.
    List,
    /// A watch begins.
    Watch,
    /// Something with the Lease.
    Lease,
    /// A call to Graph that was not read yet.
    GraphCall,
    /// Graph is asked for the number.
    GraphRead,
    /// Graph is asked to register the number.
    GraphRegister,
    /// Graph is asked to take the number off.
    GraphDeregister,
    /// The finalizer is set or taken off.
    Finalizer,
    /// Anything else.
    Other,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// The claims that were seen, as a later write of the status still holds them.
#[derive(Default)]
pub struct Memory {
    requests: AtomicU64,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    opened: HashSet<String>,
    ended: HashSet<String>,
}

/// The version that a watch goes on from; none where it asks for whatever there is.
pub fn version_asked_for(uri: &Uri) -> Option<u64> {
    let mut pairs = uri.query()?.split('&');
    let version = pairs.find_map(|pair| pair.strip_prefix("resourceVersion="))?;
    version.parse().ok().filter(|version| *version > 0)
}

impl Memory {
    /// What a request is.
    pub fn understand(&self, parts: &Parts, body: &Bytes) -> Request {
        let body = serde_json::from_slice(body).unwrap_or(Value::Null);
        let path: Vec<&str> = parts.uri.path().split('/').skip(1).collect();
        let query = parts.uri.query().unwrap_or_default();
        let listed = || match query {
            query if query.contains("watch=") => Kind::Watch,
            query if query.contains("fieldSelector=") => Kind::ListRivals,
            _ => Kind::List,
        };
        let (kind, about) = match (&parts.method, path.as_slice()) {
            (&Method::PUT, [.., "whatsappphonenumbers", name, "status"]) => match query {
                query if query.contains("dryRun=") => (Kind::Other, *name),
                _ => (self.written(&body), *name),
            },
            (&Method::GET, [.., "whatsappphonenumbers", name]) => (Kind::ReadResource, *name),
            (&Method::GET, [.., "secrets", name]) => (Kind::ReadSecret, *name),
            (&Method::GET, [.., "whatsappphonenumbers" | "secrets"]) => (listed(), ""),
            (_, [.., "events"] | [.., "events", _]) => (Kind::Event, ""),
            (_, [.., "leases"] | [.., "leases", _]) => (Kind::Lease, ""),
            (&Method::POST, [_, number, "register"]) => (Kind::GraphRegister, *number),
            (&Method::POST, [_, number, "deregister"]) => (Kind::GraphDeregister, *number),
            (&Method::PATCH, [.., "whatsappphonenumbers", name]) => (Kind::Finalizer, *name),
            (&Method::GET, [_, number]) => (Kind::GraphRead, *number),
            _ => (Kind::Other, ""),
        };
        let about = about.to_owned();
        Request {
            id: self.requests.fetch_add(1, Ordering::SeqCst),
            kind,
            about,
            body,
        }
    }

    /// What a write of the status is: its entries tell.
    fn written(&self, body: &Value) -> Kind {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kind = Kind::Status;
        for entry in body["status"]["attempts"].as_array().into_iter().flatten() {
            let id = entry["id"].as_str().unwrap_or_default().to_owned();
            if entry["finishTime"].is_null() {
                if seen.opened.insert(id) {
                    kind = Kind::Claim;
                }
            } else if seen.opened.contains(&id) && seen.ended.insert(id) {
                kind = Kind::Record;
            }
        }
        kind
    }
}
