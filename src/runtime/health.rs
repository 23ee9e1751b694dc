//! The small HTTP server for kubelet and Prometheus: `/livez`, `/readyz` and `/metrics`.

mod chunks;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::get;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::memory::{Mover, Pulses, WatchStates};
use crate::telemetry::metrics::{self, Metrics};

/// How long connections may hold up the end of the process.
const LINGER: Duration = Duration::from_secs(2);

/// How often the runtime gives a sign of life.
const BEAT: Duration = Duration::from_secs(15);

/// Whether the operator is ready: when its watches are. Clones share their state.
#[derive(Clone)]
pub struct Readiness {
    watches: Arc<WatchStates>,
    shutting_down: Arc<AtomicBool>,
}

/// Whether the operator is alive: it has moved of late, or is about to end, where watches end before the calls in flight. A fault
/// of Graph's or of the API server's says nothing against it: a restart would fix neither, and would lose the answers to calls in flight.
#[derive(Clone)]
pub struct Liveness {
    pub pulses: Arc<Pulses>,
    /// Cancelled when the process is about to end.
    pub ending: CancellationToken,
}

/// What the server shows.
#[derive(Clone)]
pub struct Health {
    /// Answers `/livez`.
    pub liveness: Liveness,
    /// Answers `/readyz`.
    pub readiness: Readiness,
    /// Answers `/metrics`.
    pub metrics: Arc<Metrics>,
}

/// The server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    #[error("failed to listen on {address} for health checks and metrics (--bind-address)")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    #[error("failed to serve health checks and metrics")]
    Serve(#[source] io::Error),
}

/// Takes the address.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, HealthError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| HealthError::Bind { address, source })
}

/// Serves until `shutdown`; connections that are still open then are given [`LINGER`] to end.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), HealthError> {
    let (stopping, stopped) = tokio::sync::oneshot::channel::<()>();
    let graceful = async move {
        shutdown.await;
        drop(stopping);
    };
    let server = axum::serve(listener, router(health)).with_graceful_shutdown(graceful);
    tokio::select! {
        result = server => result.map_err(HealthError::Serve),
        () = async { let _ = stopped.await; tokio::time::sleep(LINGER).await } => Ok(()),
    }
}

fn router(health: Health) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(show_metrics))
        .with_state(health)
}

async fn livez(State(health): State<Health>) -> (StatusCode, String) {
    let still = health.liveness.still();
    if still.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let text = format!("stands still: {}\n", still.join(", "));
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

async fn readyz(State(health): State<Health>) -> (StatusCode, String) {
    let readiness = &health.readiness;
    match readiness.missing() {
        None => (StatusCode::OK, readiness.remarks()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn show_metrics(State(health): State<Health>) -> ([(HeaderName, &'static str); 1], Body) {
    let body = chunks::body(move |text| health.metrics.encode(text));
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], body)
}

/// Gives the runtime's sign of life, forever: in a task, so that a runtime that can run no tasks gives none.
pub async fn beat(pulses: Arc<Pulses>) {
    loop {
        pulses.beat(&Mover::Runtime);
        tokio::time::sleep(BEAT).await;
    }
}

// === impl Liveness ===

impl Liveness {
    /// What makes no progress, in words.
    fn still(&self) -> Vec<String> {
        if self.ending.is_cancelled() {
            return Vec::new();
        }
        self.pulses.still()
    }
}

// === impl Readiness ===

impl Readiness {
    pub fn new(watches: Arc<WatchStates>) -> Self {
        Self {
            watches,
            shutting_down: Arc::default(),
        }
    }

    /// From now on not ready: the process is about to end.
    pub fn shut_down(&self) {
        self.shutting_down.store(true, Ordering::SeqCst);
    }

    /// Why the operator is not ready, in words; none if it is.
    fn missing(&self) -> Option<String> {
        if self.shutting_down.load(Ordering::SeqCst) {
            return Some("shutting down".to_owned());
        }
        let missing = self.watches.missing();
        (!missing.is_empty()).then(|| format!("waiting for watches: {}", missing.join(", ")))
    }

    /// What to know of an operator that is ready.
    fn remarks(&self) -> String {
        let left_out = self.watches.left_out();
        if left_out.is_empty() {
            return "ok\n".to_owned();
        }
        format!(
            "ok\nnot watched, as the API server refuses it: {}\n",
            left_out.join(", ")
        )
    }
}

#[cfg(test)]
mod tests;
