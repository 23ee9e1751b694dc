//! The watches and controllers: what triggers a reconciliation, what surrounds it, and when a failed one is retried.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::channel::mpsc;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::Action;
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::watcher::Event;
use kube::runtime::{applier, reflector, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use operator_core::model::PER_POLLED_SECRET;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, debug, warn};

use super::follow::{Happened, follow};
use super::leader::Leadership;
use crate::config::Scope;
use crate::memory::{Wake, WatchId, Watched, key_of};
use crate::reconcile::{Context, ReconcileError, Slot, driver};
use crate::telemetry::Chain;
use crate::telemetry::metrics::ReconcileResult;

/// The wait after a failed reconciliation, tripled for each further failure in a row up to [`FAILURE_CAP`].
const FAILURE_BASE: Duration = Duration::from_millis(200);
/// The longest wait after a failed reconciliation.
const FAILURE_CAP: Duration = Duration::from_secs(60);
/// The same where the API server does not take a write as it is: that seldom ends within minutes, and each try may read the number.
const REFUSED_CAP: Duration = Duration::from_secs(600);

/// The wait of a number that is to be observed while there is no slot for it, up to twice as long: thousands may wait.
const NO_SLOT: Duration = Duration::from_secs(5);

/// The pause after all resources that may wait for a Secret were woken because the Secrets are not watched.
const POLL_PAUSE: Duration = Duration::from_secs(10);

/// The Secrets that a resource usually has.
const SECRETS: f64 = 2.0;

/// The annotation in which `kubectl apply` keeps the whole resource.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

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

/// Queues resources for reconciliation, by the number of the watch that has them: only its queue leads to its store.
#[derive(Clone)]
struct Wakes(Arc<[mpsc::UnboundedSender<Wake>]>);

impl Wakes {
    fn send(&self, woken: Vec<Wake>) {
        for wake in woken {
            if let Some(queue) = self.0.get(wake.watch) {
                // Only one that has ended has no receiver.
                let _ = queue.unbounded_send(wake);
            }
        }
    }
}

/// Runs the watches until the shutdown; then waits for the reconciliations and calls in flight.
pub async fn run(context: Arc<Context>, watches: Vec<Watch>, leadership: &Leadership) {
    let (queues, woken): (Vec<_>, Vec<_>) = watches.iter().map(|_| mpsc::unbounded()).unzip();
    let wakes = Wakes(queues.into());
    let watches = watches.into_iter().zip(woken).enumerate();
    let watches = watches.map(|(number, (watch, woken))| {
        run_watch(Arc::clone(&context), number, watch, wakes.clone(), woken)
    });
    let elected = leadership.changes().for_each(|leads| {
        if leads {
            context.memory.notes.forget_plans();
            wakes.send(context.store.wake_all());
        }
        futures::future::ready(())
    });
    tokio::select! {
        _ = futures::future::join_all(watches) => {}
        never = forever(elected) => match never {},
    }
    context.tasks.close();
    context.tasks.wait().await;
}

/// Never ends, even if what it runs does.
async fn forever(run: impl Future<Output = ()>) -> Infallible {
    run.await;
    std::future::pending().await
}

async fn run_watch(
    context: Arc<Context>,
    number: usize,
    watch: Watch,
    wakes: Wakes,
    woken: mpsc::UnboundedReceiver<Wake>,
) {
    let reader = watch.store();
    let secrets = follow_secrets(
        Arc::clone(&context),
        number,
        WatchId::secrets(watch.namespace.as_deref()),
        watch.api(context.client.clone()),
        wakes.clone(),
    );
    let resources = follow_resources(Arc::clone(&context), number, watch, wakes);
    let followed = async { tokio::join!(resources, secrets) };
    tokio::select! {
        () = reconcile_woken(context, reader, woken) => {}
        never = forever(followed.map(drop)) => match never {},
    }
}

/// Reconciles the resources of one watch that are woken, until the shutdown; then waits for the reconciliations in flight.
async fn reconcile_woken(
    context: Arc<Context>,
    reader: Store<Watched>,
    woken: mpsc::UnboundedReceiver<Wake>,
) {
    let shutdown = context.shutdown.clone();
    // Peers and cool-downs are known only after the first list of every watch.
    let ready = async { tokio::join!(context.watches.synced(), reader.wait_until_ready()) };
    if shutdown.run_until_cancelled(ready).await.is_none() {
        return;
    }
    let observer = Arc::clone(&context);
    let due = woken
        .map(move |wake| when_due(Arc::clone(&observer), wake))
        .buffer_unordered(usize::MAX)
        .filter_map(futures::future::ready)
        .map(Ok::<_, Infallible>)
        .take_until(shutdown.cancelled_owned());
    // The slots, which all watches share, limit how many work at the same time.
    let config = kube::runtime::controller::Config::default();
    applier(reconcile_in_slot, on_failure, context, reader, due, config)
        .for_each(|result| async move {
            if let Err(error) = result {
                debug!(error = %Chain(&error), "A reconciliation failed or was skipped");
            }
        })
        .await;
}

/// The resource to reconcile, when it is time; none if that is no longer necessary.
async fn when_due(context: Arc<Context>, wake: Wake) -> Option<ObjectRef<Watched>> {
    if let Some(wait) = wake.look_after {
        tokio::time::sleep(wait).await;
        if !context.store.is_worth_the_look(&wake, &context.memory) {
            return None;
        }
    }
    Some(ObjectRef::new(&wake.key.name).within(&wake.key.namespace))
}

/// Keeps the store of a watch up to date, and wakes what its changes require.
async fn follow_resources(context: Arc<Context>, number: usize, watch: Watch, wakes: Wakes) {
    let id = WatchId::resources(watch.namespace.as_deref());
    let api: Api<Watched> = watch.api(context.client.clone());
    let mut writer = watch.writer;
    let mut left_out = false;
    let heard = |happened| {
        if let Happened::Event(event) = happened {
            let event = event.modify(drop_what_nobody_reads);
            let woken = context.store.observe(number, &event, &context.memory);
            // The reconciliations that follow must find the object in the store.
            writer.apply_watcher_event(&event);
            wakes.send(woken);
        }
        let is_left_out = context.watches.is_left_out(&id);
        if is_left_out != left_out {
            left_out = is_left_out;
            // What this namespace has of their numbers counts no longer, or again.
            wakes.send(context.store.wake_twins(number));
        }
    };
    follow(&context, &id, api, watcher_config(&context.scope), heard).await;
}

/// Drops the data for other clients, which is about as large as everything else.
fn drop_what_nobody_reads(object: &mut Watched) {
    object.meta_mut().managed_fields = None;
    object.annotations_mut().remove(LAST_APPLIED);
}

/// Wakes the resources that reference a changed Secret; none if Secrets are not watched.
async fn follow_secrets(
    context: Arc<Context>,
    number: usize,
    id: WatchId,
    api: Api<PartialObjectMeta<Secret>>,
    wakes: Wakes,
) {
    if !context.scope.secret_watch {
        return;
    }
    let heard = |happened| match happened {
        Happened::Event(
            Event::Apply(secret) | Event::InitApply(secret) | Event::Delete(secret),
        ) => {
            wakes.send(context.store.naming_secret(&key_of(&secret)));
        }
        Happened::Event(Event::Init | Event::InitDone) | Happened::Failure => {}
    };
    let followed = follow(&context, &id, api, watcher::Config::default(), heard);
    tokio::join!(followed, poll_for_secrets(&context, number, &id, &wakes));
}

/// Wakes the resources that wait for a Secret one after the other, again and again, while no watch reports changes. All watches take
/// turns, so that no more Secrets are read in a minute than with `--secret-watch=false`.
async fn poll_for_secrets(context: &Context, number: usize, id: &WatchId, wakes: &Wakes) {
    let is_off = || context.watches.is_down(id) || context.watches.is_left_out(id);
    loop {
        tokio::time::sleep(POLL_PAUSE).await;
        if !is_off() {
            continue;
        }
        for wake in context.store.wake_waiting(number) {
            if !is_off() {
                break;
            }
            let _turn = context.secret_turn.lock().await;
            wakes.send(vec![wake]);
            tokio::time::sleep(PER_POLLED_SECRET.mul_f64(SECRETS)).await;
        }
    }
}

/// Runs a reconciliation in a slot, and from then on in a separate task: thousands may wait for a slot.
fn reconcile_in_slot(
    object: Arc<Watched>,
    context: Arc<Context>,
) -> BoxFuture<'static, Result<Action, ReconcileError>> {
    let reconciled = async move {
        let slot = context.slots.begin(object.0.as_ref().ok()).await;
        if !may_work(&context) {
            return Ok(Action::await_change());
        }
        let Some(slot) = slot else {
            return Ok(Action::requeue(
                NO_SLOT.mul_f64(1.0 + rand::random::<f64>()),
            ));
        };
        let task = tokio::spawn(reconcile(object, context, slot).in_current_span());
        match AbortOnDropHandle::new(task).await {
            Ok(result) => result,
            // Nothing else ends it early: nobody waits for an aborted one.
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    };
    reconciled.in_current_span().boxed()
}

fn may_work(context: &Context) -> bool {
    *context.leads.borrow() && !context.shutdown.is_cancelled()
}

/// Runs one reconciliation, with the checks, the span and the metrics that all have in common.
async fn reconcile(
    object: Arc<Watched>,
    context: Arc<Context>,
    slot: Slot,
) -> Result<Action, ReconcileError> {
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
    let key = key_of(resource);
    // Not `name`: in a JSON line that is the span's own.
    let span = tracing::info_span!("reconcile", namespace = key.namespace, resource = key.name);
    let started = Instant::now();
    let result = async {
        let result = driver::reconcile(&context, resource, slot).await;
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
fn on_failure(object: Arc<Watched>, error: &ReconcileError, context: Arc<Context>) -> Action {
    let failures = context
        .memory
        .notes
        .note_failure(&object.uid().unwrap_or_default());
    let resource = object.0.as_ref().ok();
    // A deletion has a deadline.
    let leaves = resource.is_some_and(|resource| resource.metadata.deletion_timestamp.is_some());
    Action::requeue(wait_after(failures, error.is_refusal() && !leaves))
}

/// The wait after so many failures in a row.
fn wait_after(failures: u32, refused: bool) -> Duration {
    let factor = 3_u32.saturating_pow(failures.saturating_sub(1));
    let cap = if refused { REFUSED_CAP } else { FAILURE_CAP };
    FAILURE_BASE.saturating_mul(factor).min(cap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_write_is_tried_less_often() {
        for refused in [false, true] {
            assert_eq!(wait_after(1, refused), Duration::from_millis(200));
            assert_eq!(wait_after(3, refused), Duration::from_millis(1800));
        }
        assert_eq!(wait_after(50, false), FAILURE_CAP);
        assert_eq!(wait_after(50, true), REFUSED_CAP);
    }
}
