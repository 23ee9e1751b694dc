//! The running operator: what it starts, in which order it stops, and why it may fail.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::ListParams;
use kube::core::response::reason;
use kube::{Api, Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use operator_core::api::WhatsAppPhoneNumber;
use operator_core::model::schedule::Backoff;
use operator_core::model::{Life, Policy};

use super::health::{self, Health, HealthError, Liveness, Readiness};
use super::leader::Leadership;
use super::watches::{self, Watch};
use crate::config::{Scope, Settings};
use crate::memory::{Clock, Memory, Pulses, ResourceStore, WatchId, WatchStates};
use crate::reconcile::{Context, Events, GraphClient, GraphClientError, Recorder, Slots};
use crate::telemetry::Chain;
use crate::telemetry::metrics::{Metrics, Resources};

/// How often a Secret is polled if Secrets are not watched and a resource waits for one; less often if there are many.
const SECRET_POLL: Duration = Duration::from_secs(60);

/// How long a connection to the API server may be silent. A watch ends a few seconds earlier on its own, and is restarted.
const READ_TIMEOUT: Duration = Duration::from_secs(300);

/// How long the API server may take to validate the label selector.
const SELECTOR_TIMEOUT: Duration = Duration::from_secs(5);

/// The operator could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    #[error("failed to find the Kubernetes API server")]
    Config(#[from] kube::config::InferConfigError),
    #[error("failed to create a client for the Kubernetes API server")]
    Client(#[source] kube::Error),
    #[error("failed to select resources by --selector (SELECTOR) {selector:?}")]
    Selector {
        selector: String,
        source: Box<kube::Error>,
    },
    /// The client for the Graph API could not be made.
    #[error(transparent)]
    Graph(#[from] GraphClientError),
    #[error("failed to listen for SIGTERM and SIGINT")]
    Signals(#[source] std::io::Error),
    /// Health checks and metrics cannot be served.
    #[error(transparent)]
    Health(#[from] HealthError),
    #[error("leader election ended unexpectedly; restart the operator")]
    Election,
}

/// The two clients for the API server.
struct Clients {
    /// Retries what may be retried.
    patient: Client,
    /// Sends every request once: for claims and records.
    once: Client,
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(settings: Settings) -> Result<(), OperatorError> {
    let shutdown = CancellationToken::new();
    cancel_on_signal(shutdown.clone())?;
    run_until(settings, shutdown).await
}

/// Runs until `shutdown`. Then it starts no new work, records the calls in flight, and releases the Lease.
pub async fn run_until(
    settings: Settings,
    shutdown: CancellationToken,
) -> Result<(), OperatorError> {
    let listener = health::bind(settings.bind_address).await?;
    let clients = clients().await?;
    let scope = scope(&settings);
    check_selector(&clients.once, &scope).await?;
    let leadership = leadership(&settings, clients.patient.clone());
    let watches = Watch::all(&scope);
    let context = Arc::new(context(
        &settings,
        clients,
        &leadership,
        scope,
        &watches,
        shutdown.clone(),
    )?);
    let _beats = AbortOnDropHandle::new(tokio::spawn(health::beat(Arc::clone(&context.pulses))));
    let health = Health {
        liveness: Liveness {
            pulses: Arc::clone(&context.pulses),
            ending: shutdown.clone(),
        },
        readiness: Readiness::new(Arc::clone(&context.watches)),
        metrics: Arc::clone(&context.metrics),
    };
    // With port 0 only the listener knows the address.
    let address = listener.local_addr().unwrap_or(settings.bind_address);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), %address, "Started");

    let served = CancellationToken::new();
    let server = async {
        let result =
            health::serve(listener, health.clone(), served.clone().cancelled_owned()).await;
        shutdown.cancel(); // a broken server ends the rest too
        result
    };
    let work = async {
        let controllers = watches::run(Arc::clone(&context), watches, &leadership);
        let elected = async {
            report(&context).await;
            shutdown.cancel(); // the controllers end what they are at
        };
        let ((), ended) = tokio::join!(controllers, shutdown.run_until_cancelled(elected));
        health.readiness.shut_down();
        leadership.release().await;
        served.cancel();
        match ended {
            Some(()) => Err(OperatorError::Election),
            None => Ok(()),
        }
    };
    let (served, worked) = tokio::join!(server, work);
    tracing::info!("Stopped");
    served?;
    worked
}

/// Logs when the watches are synced and who leads; ends when the election has ended.
async fn report(context: &Context) {
    context.watches.synced().await;
    tracing::info!("The watches are synced");
    let mut leads = context.leads.clone();
    loop {
        let now = *leads.borrow_and_update();
        context.metrics.set_leader(now);
        tracing::info!(
            leader = now,
            "{}",
            if now {
                "This process leads"
            } else {
                "Another process leads"
            }
        );
        if leads.changed().await.is_err() {
            return;
        }
    }
}

fn context(
    settings: &Settings,
    clients: Clients,
    leadership: &Leadership,
    scope: Scope,
    watches: &[Watch],
    shutdown: CancellationToken,
) -> Result<Context, OperatorError> {
    let store = Arc::new(ResourceStore::new(
        watches.iter().map(Watch::store).collect(),
    ));
    let known = Arc::clone(&store);
    let resources: Resources = Box::new(move || known.all());
    let metrics = Metrics::new(
        settings.retry.attempt_limit,
        settings.metrics_per_number,
        resources,
        Timestamp::now,
    );
    let watched = followed(&scope);
    for watch in &watched {
        metrics.set_watch(watch, false);
    }
    Ok(Context {
        recorder: Recorder::new(clients.once),
        graph: GraphClient::new(&settings.graph)?,
        policy: policy(settings),
        store,
        memory: Memory::default(),
        metrics: Arc::new(metrics),
        events: Events::new(clients.patient.clone(), hostname()),
        pulses: Arc::new(Pulses::new(watched.clone(), Clock::default())),
        watches: Arc::new(WatchStates::new(watched, Clock::default())),
        leads: leadership.receiver(),
        scope,
        secret_turn: tokio::sync::Mutex::default(),
        slots: Slots::new(settings.concurrency),
        tasks: TaskTracker::new(),
        shutdown,
        client: clients.patient,
    })
}

/// The watches for a scope.
fn followed(scope: &Scope) -> Vec<WatchId> {
    let mut ids = Vec::new();
    for namespace in scope.namespaces() {
        ids.push(WatchId::resources(namespace));
        if scope.secret_watch {
            ids.push(WatchId::secrets(namespace));
        }
    }
    ids
}

fn policy(settings: &Settings) -> Policy {
    Policy {
        attempt_limit: usize::from(settings.retry.attempt_limit),
        backoff: Backoff {
            base: settings.retry.base,
            cap: settings.retry.cap,
        },
        confirm_window: settings.retry.confirm_window,
        claim_ttl: claim_ttl(settings.graph.timeout),
        graph_api_version: settings.graph_api_version.clone(),
        life: Life {
            observe_interval: settings.life.observe_interval,
            deregistration: settings.life.deregistration,
            deregister_deadline: settings.life.deregister_deadline,
        },
        secret_poll: (!settings.secret_watch).then_some(SECRET_POLL),
    }
}

/// Twice the time that a call may take, in whole seconds as the claim's entry has it: rounded down, a call could still be
/// in flight when other processes consider its claim abandoned.
fn claim_ttl(timeout: Duration) -> Duration {
    let twice = timeout.saturating_mul(2);
    let part = u64::from(twice.subsec_nanos() > 0);
    Duration::from_secs(twice.as_secs().saturating_add(part))
}

fn scope(settings: &Settings) -> Scope {
    Scope {
        watch_namespaces: settings.watch_namespaces.clone(),
        selector: settings.selector.clone(),
        secret_watch: settings.secret_watch,
    }
}

/// Has the API server validate the label selector, so that a misspelt one stops the start instead of failing every watch.
/// Any other failure here is left to the watches, which retry.
async fn check_selector(client: &Client, scope: &Scope) -> Result<(), OperatorError> {
    let Some(selector) = &scope.selector else {
        return Ok(());
    };
    let api: Api<WhatsAppPhoneNumber> = match scope.watch_namespaces.first() {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let params = ListParams::default().labels(selector).limit(1);
    let listed = tokio::time::timeout(SELECTOR_TIMEOUT, api.list_metadata(&params)).await;
    match listed {
        Ok(Ok(_)) => {}
        Ok(Err(error)) if is_bad_request(&error) => {
            return Err(OperatorError::Selector {
                selector: selector.clone(),
                source: Box::new(error),
            });
        }
        Ok(Err(error)) => {
            tracing::warn!(error = %Chain(&error), "Failed to check the label selector; starting anyway");
        }
        Err(_) => tracing::warn!(
            "Failed to check the label selector: no answer from the API server; starting anyway"
        ),
    }
    Ok(())
}

/// Whether the API server rejects the request itself. A proxy in front of it answers 400 without this reason.
fn is_bad_request(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 400 && status.reason == reason::BAD_REQUEST)
}

async fn clients() -> Result<Clients, OperatorError> {
    let mut patient = Config::infer().await?;
    patient.read_timeout = Some(READ_TIMEOUT);
    patient.reset_reader_on_write = true;
    let mut once = patient.clone();
    once.default_retry = false;
    Ok(Clients {
        patient: Client::try_from(patient).map_err(OperatorError::Client)?,
        once: Client::try_from(once).map_err(OperatorError::Client)?,
    })
}

fn leadership(settings: &Settings, client: Client) -> Leadership {
    match settings.leader_election.clone() {
        Some(election) => Leadership::elect(client, election),
        None => Leadership::always(),
    }
}

fn hostname() -> Option<String> {
    std::env::var("HOSTNAME")
        .ok()
        .filter(|name| !name.is_empty())
}

fn cancel_on_signal(shutdown: CancellationToken) -> Result<(), OperatorError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(OperatorError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(OperatorError::Signals)?;
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(
            signal = name,
            "Stopping: calls in flight are finished and recorded"
        );
        shutdown.cancel();
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Instant;

    use crate::config::{Cli, Command};
    use crate::memory::{Mover, Watched};
    use crate::runtime::follow::follow;

    use super::*;

    /// The settings for an API server that nobody runs, and what is made of them.
    fn unreachable() -> Result<Context, Box<dyn std::error::Error>> {
        let Command::Run(args) = Cli::read(["whatsapp-operator".into()])?.command else {
            return Err("no settings".into());
        };
        let settings = Settings::try_from(*args)?;
        let nowhere = Config::new("http://127.0.0.1:1".parse()?);
        let clients = Clients {
            patient: Client::try_from(nowhere.clone())?,
            once: Client::try_from(nowhere)?,
        };
        let leadership = leadership(&settings, clients.patient.clone());
        let scope = scope(&settings);
        let shutdown = CancellationToken::new();
        let context = context(&settings, clients, &leadership, scope, &[], shutdown)?;
        Ok(context)
    }

    /// A clock that is moved by hand, in seconds.
    fn by_hand() -> (Clock, Arc<AtomicU64>) {
        let seconds = Arc::new(AtomicU64::new(0));
        let (began, moved) = (Instant::now(), Arc::clone(&seconds));
        let clock = Clock {
            monotonic: Arc::new(move || began + Duration::from_secs(moved.load(Ordering::Relaxed))),
            ..Clock::default()
        };
        (clock, seconds)
    }

    /// Waits until nothing stands still.
    async fn until_moved(pulses: &Pulses) {
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        while !pulses.still().is_empty() {
            looks.tick().await;
        }
    }

    #[tokio::test]
    async fn a_watch_without_an_api_server_moves_and_one_that_is_not_polled_does_not() {
        let (clock, seconds) = by_hand();
        let id = WatchId::resources(None);
        let mut context = unreachable().expect("a context");
        let pulses = Arc::new(Pulses::new([id.clone()], clock));
        context.pulses = Arc::clone(&pulses);
        let api: Api<Watched> = Api::all(context.client.clone());
        let config = kube::runtime::watcher::Config::default();
        let followed = follow(&context, &id, api, config, |_| {});
        let checked = async {
            pulses.beat(&Mover::Runtime);
            for passed in [400, 800] {
                seconds.store(passed, Ordering::Relaxed);
                pulses.beat(&Mover::Runtime);
                let still = "the watch of WhatsAppPhoneNumber in all namespaces for";
                assert!(pulses.still()[0].starts_with(still), "{:?}", pulses.still());
                until_moved(&pulses).await;
            }
        };
        tokio::select! {
            () = followed => panic!("a watch is followed for ever"),
            checked = tokio::time::timeout(Duration::from_secs(120), checked) => {
                checked.expect("the watch moves");
            }
        }
        seconds.store(1200, Ordering::Relaxed);
        assert_eq!(pulses.still().len(), 2, "nobody polls it any more");
    }

    #[tokio::test]
    async fn a_runtime_that_runs_tasks_moves() {
        let (clock, seconds) = by_hand();
        let pulses = Arc::new(Pulses::new([], clock));
        seconds.store(299, Ordering::Relaxed);
        assert_eq!(pulses.still(), Vec::<String>::new());
        seconds.store(300, Ordering::Relaxed);
        assert_eq!(pulses.still(), ["the runtime for 300 s"]);
        let _beats = AbortOnDropHandle::new(tokio::spawn(health::beat(Arc::clone(&pulses))));
        let moved = tokio::time::timeout(Duration::from_secs(60), until_moved(&pulses));
        moved.await.expect("the runtime moves");
    }

    #[test]
    fn a_claim_lasts_twice_a_call_and_never_less() {
        let ttl = |millis| claim_ttl(Duration::from_millis(millis)).as_secs();
        assert_eq!([ttl(30_000), ttl(700), ttl(300)], [60, 2, 1]);
    }
}
