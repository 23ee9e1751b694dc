//! The watches and controllers: what triggers a reconciliation, what surrounds it, and when a failed one is retried.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::channel::mpsc;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::utils::PredicateConfig;
use kube::runtime::{Predicate, WatchStreamExt, predicates, reflector, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, warn};

use super::leader::Leadership;
use super::relist::stored_objects;
use crate::config::Scope;
use crate::memory::{Key, Watched, key_of};
use crate::reconcile::{Context, ReconcileError, driver};
use crate::telemetry::Chain;
use crate::telemetry::metrics::ReconcileResult;

/// The wait after a failed reconciliation, tripled for each further failure in a row up to [`FAILURE_CAP`].
const FAILURE_BASE: Duration = Duration::from_millis(200);
/// The longest wait after a failed reconciliation.
const FAILURE_CAP: Duration = Duration::from_secs(60);

/// One watch of resources, in one namespace or in all.
pub struct Watch {
    namespace: Option<String>,
    reader: Store<Watched>,
    writer: Writer<Watched>,
}

impl Watch {
    /// The watches for a scope, not yet started.
    pub fn all(scope: &Scope) -> Vec<Self> {
        let watch = |namespace: Option<&str>| {
            let (reader, writer) = reflector::store();
            Self {
                namespace: namespace.map(str::to_owned),
                reader,
                writer,
            }
        };
        scope.namespaces().into_iter().map(watch).collect()
    }

    /// The store that the watch fills.
    pub fn store(&self) -> Store<Watched> {
        self.reader.clone()
    }

    fn api<K>(&self, client: Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        }
    }
}

fn watcher_config(scope: &Scope) -> watcher::Config {
    match &scope.selector {
        Some(selector) => watcher::Config::default().labels(selector),
        None => watcher::Config::default(),
    }
}

/// Triggers reconciliations, by the number of the watch that has the resource: only its controller knows it.
type Wakes = Arc<[mpsc::UnboundedSender<Key>]>;

/// The triggers of a controller beyond its own watch.
struct Triggers {
    /// The number of its watch.
    number: usize,
    /// The senders to the controllers of all watches.
    wakes: Wakes,
    /// The receiver from the controllers of all watches.
    woken: mpsc::UnboundedReceiver<Key>,
}

/// Runs the watches until the shutdown; then waits for the reconciliations and calls in flight.
pub async fn run(context: Arc<Context>, watches: Vec<Watch>, leadership: &Leadership) {
    let (wakes, woken): (Vec<_>, Vec<_>) = watches.iter().map(|_| mpsc::unbounded()).unzip();
    let wakes: Wakes = wakes.into();
    let controllers = watches.into_iter().zip(woken).enumerate();
    let controllers = controllers.map(|(number, (watch, woken))| {
        let triggers = Triggers {
            number,
            wakes: Arc::clone(&wakes),
            woken,
        };
        run_watch(Arc::clone(&context), watch, triggers, leadership.changes())
    });
    futures::future::join_all(controllers).await;
    context.tasks.close();
    context.tasks.wait().await;
}

async fn run_watch(
    context: Arc<Context>,
    watch: Watch,
    triggers: Triggers,
    leads: impl Stream<Item = bool> + Send + 'static,
) {
    let Triggers {
        number,
        wakes,
        woken,
    } = triggers;
    let secrets = secret_changes(&context, &watch);
    let elected = leads
        .filter(|leads| futures::future::ready(*leads))
        .map(|_| ());
    let concurrency = u16::try_from(context.slots.available_permits()).unwrap_or(u16::MAX);
    let config = kube::runtime::controller::Config::default().concurrency(concurrency);
    let reader = watch.store();
    let shutdown = context.shutdown.clone();
    let unsynced = stopped_unsynced(shutdown.clone(), watch.store());
    let changes = resource_changes(Arc::clone(&context), number, watch, wakes);
    let reconciliations = Controller::for_stream(changes, reader)
        .with_config(config)
        .reconcile_on(woken.map(|key| reference(&key)))
        .reconcile_on(secrets)
        .reconcile_all_on(elected)
        .graceful_shutdown_on(shutdown.cancelled_owned())
        .run(reconcile, on_failure, context)
        .for_each(|result| async move {
            match result {
                Ok(_) => {}
                Err(error @ kube::runtime::controller::Error::QueueError(_)) => {
                    warn!(error = %Chain(&error), "A watch failed; restarting it");
                }
                Err(error) => {
                    debug!(error = %Chain(&error), "A reconciliation failed or was skipped")
                }
            }
        });
    tokio::select! {
        () = reconciliations => {}
        () = unsynced => {}
    }
}

/// Waits for a shutdown that comes before the first list of the watch is complete. The controller starts no reconciliation
/// before that, so none is in flight; but it would wait for the list forever.
async fn stopped_unsynced(shutdown: CancellationToken, store: Store<Watched>) {
    shutdown.cancelled().await;
    if store.wait_until_ready().now_or_never().is_some() {
        std::future::pending().await
    }
}

/// The changes of resources that trigger a reconciliation; status writes do not.
fn resource_changes(
    context: Arc<Context>,
    number: usize,
    watch: Watch,
    wakes: Wakes,
) -> impl Stream<Item = Result<Watched, watcher::Error>> + Send {
    let api: Api<Watched> = watch.api(context.client.clone());
    let relevant = predicates::generation.combine(predicates::annotations);
    let observer = Arc::clone(&context);
    let mut synced = false;
    let mut writer = watch.writer;
    let events = watcher(api, watcher_config(&context.scope))
        .default_backoff()
        .modify(|object| object.meta_mut().managed_fields = None)
        .inspect_ok(move |event| {
            let woken = observer.store.observe(number, event, &observer.memory);
            // The reconciliations that are triggered below must find the object in the store.
            writer.apply_watcher_event(event);
            for (watch, key) in woken {
                if let Some(wake) = wakes.get(watch) {
                    // Only a controller that has ended has no receiver.
                    let _ = wake.unbounded_send(key);
                }
            }
            if matches!(event, watcher::Event::InitDone) && !std::mem::replace(&mut synced, true) {
                context
                    .unsynced
                    .send_modify(|left| *left = left.saturating_sub(1));
            }
        });
    stored_objects(events).predicate_filter(relevant, PredicateConfig::default())
}

/// The resources that reference a changed Secret; none where Secrets are not watched.
fn secret_changes(
    context: &Arc<Context>,
    watch: &Watch,
) -> impl Stream<Item = ObjectRef<Watched>> + Send + use<> {
    if !context.scope.secret_watch {
        return futures::stream::pending().left_stream();
    }
    let api: Api<PartialObjectMeta<Secret>> = watch.api(context.client.clone());
    let context = Arc::clone(context);
    watcher(api, watcher::Config::default())
        .default_backoff()
        .touched_objects()
        .filter_map(|secret| async move {
            secret
                .inspect_err(|error| warn!(error = %Chain(error), "The watch of Secrets failed; restarting it"))
                .ok()
        })
        .flat_map(move |secret: PartialObjectMeta<Secret>| {
            let keys = context.store.naming_secret(&key_of(&secret));
            futures::stream::iter(keys.into_iter().map(|key| reference(&key)))
        })
        .right_stream()
}

fn reference(key: &Key) -> ObjectRef<Watched> {
    ObjectRef::new(&key.name).within(&key.namespace)
}

/// Runs one reconciliation, with the checks, the span and the metrics that all have in common.
async fn reconcile(object: Arc<Watched>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    // Peers and cool-downs are known only after the first list of every watch.
    if !synced(&context).await || !*context.leads.borrow() {
        return Ok(Action::await_change());
    }
    let DeserializeGuard(parsed) = object.as_ref();
    let resource = match parsed {
        Ok(resource) => resource,
        Err(invalid) => {
            let key = key_of(object.as_ref());
            warn!(
                namespace = key.namespace, resource = key.name, error = %Chain(invalid),
                "The resource cannot be parsed and is not reconciled; correct it, or apply the CRD of this version"
            );
            return Ok(Action::await_change());
        }
    };
    let Ok(_slot) = context.slots.acquire().await else {
        return Ok(Action::await_change());
    };
    if context.shutdown.is_cancelled() {
        return Ok(Action::await_change());
    }
    let key = key_of(resource);
    // Not `name`: in a JSON line that is the span's own.
    let span = tracing::info_span!("reconcile", namespace = key.namespace, resource = key.name);
    let started = Instant::now();
    let result = async {
        let result = driver::reconcile(&context, resource).await;
        driver::log(&result);
        result
    }
    .instrument(span)
    .await;
    let counted = match &result {
        Ok(_) => ReconcileResult::Success,
        Err(error) if error.is_conflict() => ReconcileResult::Conflict,
        Err(_) => ReconcileResult::Error,
    };
    context.metrics.reconciled(counted, started.elapsed());
    match result {
        Err(error) if error.is_gone() => {
            // The watch may have reported this during the reconciliation, which has left notes since.
            context
                .memory
                .notes
                .forget(&resource.uid().unwrap_or_default());
            Ok(Action::await_change())
        }
        Ok(action) => {
            context
                .memory
                .notes
                .note_success(&resource.uid().unwrap_or_default());
            Ok(action)
        }
        Err(error) => Err(error),
    }
}

/// Retries a failed reconciliation after a growing wait. The cause is the API server or another writer. While it lasts, the
/// cached resource may be outdated, and each reconciliation may spend a read of the number for nothing.
#[allow(clippy::needless_pass_by_value)] // the controller hands out an Arc
fn on_failure(object: Arc<Watched>, _error: &ReconcileError, context: Arc<Context>) -> Action {
    let failures = context
        .memory
        .notes
        .note_failure(&object.uid().unwrap_or_default());
    let factor = 3_u32.saturating_pow(failures.saturating_sub(1));
    Action::requeue(FAILURE_BASE.saturating_mul(factor).min(FAILURE_CAP))
}

/// Waits for the first list of every watch. Returns false when the shutdown comes first.
pub async fn synced(context: &Context) -> bool {
    let mut unsynced = context.unsynced.subscribe();
    let all = unsynced.wait_for(|left| *left == 0);
    matches!(context.shutdown.run_until_cancelled(all).await, Some(Ok(_)))
}
