//! The wiring: watches, triggers, the shared context, and what happens when a pass fails. I/O.

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
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, warn};

use crate::api::{WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};
use crate::decide::Policy;
use crate::events::Events;
use crate::graph::GraphClient;
use crate::index::{Index, Key, Watched, key_of};
use crate::leader::Leadership;
use crate::memory::Memory;
use crate::metrics::{Metrics, ReconcileResult};
use crate::notice::{self, Notice};
use crate::pass::{self, PassError};
use crate::record::{Chain, Recorder};
use crate::relist::stored_objects;

/// The wait after a pass that failed, tripled for each further one up to [`FAILURE_CAP`].
const FAILURE_BASE: Duration = Duration::from_millis(200);
/// The longest wait after a pass that failed.
const FAILURE_CAP: Duration = Duration::from_secs(60);

/// What every pass uses.
pub struct Context {
    /// The API server, for everything that may be retried.
    pub client: Client,
    /// The API server, for writing statuses.
    pub recorder: Recorder,
    /// Meta.
    pub graph: GraphClient,
    /// The settings that decisions depend on.
    pub policy: Policy,
    /// Which resources name a phone number ID or a Secret.
    pub index: Arc<Index>,
    /// What the process remembers.
    pub memory: Memory,
    /// What Prometheus asks for.
    pub metrics: Arc<Metrics>,
    /// What `kubectl describe` shows.
    pub events: Events,
    /// How many watches have not brought all there is yet. Several may wait for one store of kube's, but only the last of
    /// them is woken; hence this.
    pub unsynced: watch::Sender<usize>,
    /// Whether this process is the one to work.
    pub leads: watch::Receiver<bool>,
    /// What is watched.
    pub scope: Scope,
    /// How many passes may be under way at a time.
    pub slots: Semaphore,
    /// Attempts and events that outlive the pass that started them.
    pub tasks: TaskTracker,
    /// Cancelled when no new work may begin.
    pub shutdown: CancellationToken,
}

/// Which resources are watched.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// The namespaces; none means all.
    pub watch_namespaces: Vec<String>,
    /// A label selector.
    pub selector: Option<String>,
    /// Whether Secrets are watched too.
    pub secret_watch: bool,
}

impl Scope {
    /// The namespaces to watch one by one; `None` is all of them at once.
    pub fn namespaces(&self) -> Vec<Option<&str>> {
        if self.watch_namespaces.is_empty() {
            vec![None]
        } else {
            self.watch_namespaces
                .iter()
                .map(|namespace| Some(namespace.as_str()))
                .collect()
        }
    }

    fn config(&self) -> watcher::Config {
        match &self.selector {
            Some(selector) => watcher::Config::default().labels(selector),
            None => watcher::Config::default(),
        }
    }
}

impl Context {
    /// Publishes the event for a change of status, if it is worth one, without waiting for it; returns it.
    pub fn announce(
        &self,
        before: &WhatsAppPhoneNumber,
        after: &WhatsAppPhoneNumber,
    ) -> Option<Notice> {
        let unseen = WhatsAppPhoneNumberStatus::unseen();
        let (before, now) = (before.status.as_ref(), after.status.as_ref());
        let notice = notice::of_change(before.unwrap_or(&unseen), now.unwrap_or(&unseen))?;
        self.publish(after, notice.clone());
        Some(notice)
    }

    /// Publishes the remarks on a spec when a new generation of it was observed.
    pub fn remark_on_spec(&self, before: &WhatsAppPhoneNumber, after: &WhatsAppPhoneNumber) {
        let observed = |resource: &WhatsAppPhoneNumber| {
            resource
                .status
                .as_ref()
                .map_or(-1, |status| status.observed_generation)
        };
        if observed(before) != observed(after) {
            for remark in notice::of_spec(&after.spec) {
                self.publish(after, remark);
            }
        }
    }

    /// Publishes an event without waiting for it.
    pub fn publish(&self, resource: &WhatsAppPhoneNumber, notice: Notice) {
        let events = self.events.clone();
        let about = resource.object_ref(&());
        self.tasks
            .spawn(async move { events.publish(&about, notice).await }.in_current_span());
    }
}

/// One watch of resources, in one namespace or all of them.
pub struct Watch {
    namespace: Option<String>,
    reader: Store<Watched>,
    writer: Writer<Watched>,
}

impl Watch {
    /// The watches for a scope, not started yet.
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

/// Wakes resources; the place is the number of the watch that brings them, as its controller alone knows them.
type Wakes = Arc<[mpsc::UnboundedSender<Key>]>;

/// What a controller is woken by beside its own watch.
struct Triggers {
    /// The number of its watch.
    number: usize,
    /// To the controllers of all watches.
    wakes: Wakes,
    /// From the controllers of all watches.
    woken: mpsc::UnboundedReceiver<Key>,
}

/// Runs the watches until the shutdown; then waits for the passes under way.
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
    let passes = Controller::for_stream(changes, reader)
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
                    warn!(error = %Chain(&error), "A watch failed; it is started again");
                }
                Err(error) => debug!(error = %Chain(&error), "A pass was not made"),
            }
        });
    tokio::select! {
        () = passes => {}
        () = unsynced => {}
    }
}

/// Waits for a shutdown that comes before the watch has brought all there is. The controller holds its passes back
/// until then, so that none is under way; and it would wait for ever.
async fn stopped_unsynced(shutdown: CancellationToken, store: Store<Watched>) {
    shutdown.cancelled().await;
    if store.wait_until_ready().now_or_never().is_some() {
        std::future::pending().await
    }
}

/// The changes of resources that are worth a pass: the operator's own status writes are not.
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
    let events = watcher(api, context.scope.config())
        .default_backoff()
        .modify(|object| object.meta_mut().managed_fields = None)
        .inspect_ok(move |event| {
            let woken = observer.index.observe(number, event, &observer.memory);
            // Whoever is woken must find it in the store.
            writer.apply_watcher_event(event);
            for (watch, key) in woken {
                if let Some(wake) = wakes.get(watch) {
                    // The receiver lives as long as the controller.
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

/// The resources that name a Secret which was touched; nothing where Secrets are not watched.
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
                .inspect_err(|error| warn!(error = %Chain(error), "The watch of Secrets failed; it is started again"))
                .ok()
        })
        .flat_map(move |secret: PartialObjectMeta<Secret>| {
            let keys = context.index.naming_secret(&key_of(&secret));
            futures::stream::iter(keys.into_iter().map(|key| reference(&key)))
        })
        .right_stream()
}

fn reference(key: &Key) -> ObjectRef<Watched> {
    ObjectRef::new(&key.name).within(&key.namespace)
}

/// One pass, with everything around it that is the same for all.
async fn reconcile(object: Arc<Watched>, context: Arc<Context>) -> Result<Action, PassError> {
    // Duplicates and cool-downs are only known when every watch has brought all there is.
    if !synced(&context).await || !*context.leads.borrow() {
        return Ok(Action::await_change());
    }
    let DeserializeGuard(parsed) = object.as_ref();
    let resource = match parsed {
        Ok(resource) => resource,
        Err(invalid) => {
            let key = key_of(object.as_ref());
            warn!(
                namespace = key.namespace, name = key.name, error = %Chain(invalid),
                "The resource cannot be read and is left alone; correct it"
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
    let span = tracing::info_span!("pass", namespace = key.namespace, name = key.name);
    let started = Instant::now();
    let result = async {
        let result = pass::make(&context, resource).await;
        pass::log(&result);
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
            // The watch may have said so while the pass was going on, which has left its traces since.
            context.memory.forget(&resource.uid().unwrap_or_default());
            Ok(Action::await_change())
        }
        Ok(action) => {
            context
                .memory
                .pass_succeeded(&resource.uid().unwrap_or_default());
            Ok(action)
        }
        Err(error) => Err(error),
    }
}

/// A pass failed because of the API server, or of others who write the resource: it is made again after a wait that
/// grows. Where it still fails, what the watch has brought may be old, and each pass may have asked Graph in vain.
#[allow(clippy::needless_pass_by_value)] // the controller hands out an Arc
fn on_failure(object: Arc<Watched>, _error: &PassError, context: Arc<Context>) -> Action {
    let failures = context
        .memory
        .pass_failed(&object.uid().unwrap_or_default());
    let factor = 3_u32.saturating_pow(failures.saturating_sub(1));
    Action::requeue(FAILURE_BASE.saturating_mul(factor).min(FAILURE_CAP))
}

/// Waits until every watch has brought all there is; false when the shutdown comes before.
pub async fn synced(context: &Context) -> bool {
    let mut unsynced = context.unsynced.subscribe();
    let all = unsynced.wait_for(|left| *left == 0);
    matches!(context.shutdown.run_until_cancelled(all).await, Some(Ok(_)))
}
