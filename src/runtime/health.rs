//! The small HTTP server for kubelet and Prometheus: `/livez`, `/readyz` and `/metrics`.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName};
use tokio::net::TcpListener;

use crate::telemetry::metrics::{self, Metrics};

/// How long connections may hold up the end of the process.
const LINGER: Duration = Duration::from_secs(2);

/// What has to happen before the operator is ready. Clones share their state.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Mutex<Progress>>);

#[derive(Debug)]
enum Progress {
    /// These checks are not met yet; ready when there are none.
    Waiting(BTreeSet<&'static str>),
    ShuttingDown,
}

/// What the server shows.
#[derive(Clone, Debug)]
pub struct Health {
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
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(show_metrics))
        .with_state(health)
}

async fn readyz(State(health): State<Health>) -> (StatusCode, String) {
    match health.readiness.missing() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn show_metrics(
    State(health): State<Health>,
) -> Result<([(HeaderName, &'static str); 1], String), StatusCode> {
    match health.metrics.encode() {
        Ok(text) => Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text)),
        Err(error) => {
            tracing::error!(%error, "Failed to write the metrics");
            Err(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

// === impl Readiness ===

impl Readiness {
    /// Not ready before [`Self::set`] was called for each of `checks`, named as people should read them.
    pub fn new(checks: impl IntoIterator<Item = &'static str>) -> Self {
        Self(Arc::new(Mutex::new(Progress::Waiting(
            checks.into_iter().collect(),
        ))))
    }

    /// The check is met.
    pub fn set(&self, check: &'static str) {
        self.update(|progress| {
            if let Progress::Waiting(checks) = progress {
                checks.remove(check);
            }
        });
    }

    /// From now on not ready: the process is about to end.
    pub fn shut_down(&self) {
        self.update(|progress| *progress = Progress::ShuttingDown);
    }

    /// Why the operator is not ready, in words; none if it is.
    pub fn missing(&self) -> Option<String> {
        self.update(|progress| match progress {
            Progress::ShuttingDown => Some("shutting down".to_owned()),
            Progress::Waiting(checks) if checks.is_empty() => None,
            Progress::Waiting(checks) => {
                let names: Vec<&str> = checks.iter().copied().collect();
                Some(format!("waiting for: {}", names.join(", ")))
            }
        })
    }

    fn update<T>(&self, change: impl FnOnce(&mut Progress) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests;
