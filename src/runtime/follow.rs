//! Follows one watch for as long as the process runs: retries it when it fails, abandons requests that hang, and notes its
//! state.

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tracing::warn;

use crate::memory::{Mover, WatchFault, WatchId};
use crate::reconcile::Context;
use crate::telemetry::Chain;

/// The wait before a failed watch is retried, doubled up to [`RETRY_CAP`] until it works: kube's own backoff starts over with
/// each list that it tries.
const RETRY_BASE: Duration = Duration::from_millis(800);
const RETRY_CAP: Duration = Duration::from_secs(30);

/// How long a watch that began or failed may be silent.
const DOUBT: Duration = Duration::from_secs(30);

/// What a watch has delivered.
pub enum Happened<K> {
    Event(Event<K>),
    /// It failed, and is retried.
    Failure,
}

/// Follows a watch forever, and notes its state.
pub async fn follow<K>(
    context: &Context,
    id: &WatchId,
    api: Api<K>,
    config: watcher::Config,
    mut heard: impl FnMut(Happened<K>),
) where
    K: Resource + Clone + DeserializeOwned + fmt::Debug + Send + 'static,
{
    let mut wait = RETRY_BASE;
    let mover = Mover::Watch(id.clone());
    loop {
        let mut events = pin!(watcher(api.clone(), config.clone()));
        // Whether the watch has delivered something since it began or failed: then it is silent because nothing changes.
        let mut settled = false;
        loop {
            context.pulses.beat(&mover);
            match tokio::time::timeout(DOUBT, events.next()).await {
                Ok(Some(Ok(event))) => {
                    settled = !matches!(event, Event::Init | Event::InitApply(_));
                    // A list alone does not mean that the watch works.
                    if matches!(event, Event::Apply(_) | Event::Delete(_)) {
                        wait = RETRY_BASE;
                    }
                    note_event(context, id, &event);
                    heard(Happened::Event(event));
                }
                Ok(Some(Err(error))) => {
                    settled = false;
                    note_failure(context, id, &error);
                    heard(Happened::Failure);
                    tokio::time::sleep(wait.mul_f64(1.0 + rand::random::<f64>() / 2.0)).await;
                    wait = (wait * 2).min(RETRY_CAP);
                    // What answers next may be a server whose storage was restored from a backup. A watch at a version that it has
                    // not reached yet would be silent, and then leave out what changed below that version.
                    if matches!(error, watcher::Error::WatchStartFailed(_)) {
                        break;
                    }
                }
                Err(_) if settled => wait = RETRY_BASE,
                // It may work again, which kube does not report, or its request hangs. A new list shows which.
                Ok(None) | Err(_) => {
                    warn!(watch = %id, "A watch has brought nothing since it began or failed; listing anew");
                    context.metrics.set_watch(id, false);
                    context.watches.failed(id, WatchFault::Failed);
                    heard(Happened::Failure);
                    break;
                }
            }
        }
    }
}

fn note_event<K>(context: &Context, id: &WatchId, event: &Event<K>) {
    match event {
        Event::Init => return,
        Event::InitDone => context.watches.listed(id),
        Event::InitApply(_) | Event::Apply(_) | Event::Delete(_) => context.watches.succeeded(id),
    }
    context.metrics.set_watch(id, true);
}

fn note_failure(context: &Context, id: &WatchId, error: &watcher::Error) {
    context.metrics.set_watch(id, false);
    warn!(watch = %id, error = %Chain(error), "A watch failed; restarting it");
    if context.watches.failed(id, fault_of(error)) {
        warn!(
            watch = %id,
            "The API server refuses a watch, which counts as not there until it is allowed: a namespace is not watched, Secrets are \
             polled. Grant the permission, or leave the namespace out of --watch-namespace"
        );
    }
}

fn fault_of(error: &watcher::Error) -> WatchFault {
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    let code = match error {
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status)) => status.code,
        watcher::Error::WatchError(status) => status.code,
        _ => return WatchFault::Failed,
    };
    match code {
        403 | 404 => WatchFault::Refused,
        _ => WatchFault::Failed,
    }
}
