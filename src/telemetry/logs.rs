//! Log lines on standard error: text for people, or JSON with the enclosing spans in a list. The outermost span names
//! the resource, so every line about one does.
//!
//! No secret may get into a line at any level. The operator's own code never logs one; what dependencies print is
//! capped here.

use std::backtrace::Backtrace;
use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::{FilterError, LogFormat, LogSettings, log_filter};

/// A dependency that prints a whole response body, at `warn`, when it cannot read one: it could be a Secret. It also
/// returns every error that it prints, so nothing is lost. No directive lifts this.
const PRINTS_BODIES: &str = "kube_client::client";

/// Logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("failed to read the log level")]
    Filter(#[from] FilterError),
    #[error("failed to start logging")]
    Started(#[from] TryInitError),
}

/// Starts logging, and makes panics log lines.
pub fn init(settings: &LogSettings) -> Result<(), TelemetryError> {
    let filter = log_filter(&settings.level)?;
    let format = settings.format.unwrap_or_else(default_format);
    start(filter, format)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

fn default_format() -> LogFormat {
    if std::io::stderr().is_terminal() {
        LogFormat::Text
    } else {
        LogFormat::Json
    }
}

fn start(filter: EnvFilter, format: LogFormat) -> Result<(), TryInitError> {
    let lines = lines(format, std::io::stderr);
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
}

/// The layer that writes the lines. It leaves out what must never be written, whatever the filter says.
fn lines<S, W>(format: LogFormat, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    match format {
        LogFormat::Text => layer
            .with_ansi(std::io::stderr().is_terminal())
            .with_filter(filter_fn(is_safe))
            .boxed(),
        LogFormat::Json => layer
            .json()
            .flatten_event(true)
            // It is the last one of the list.
            .with_current_span(false)
            .with_filter(filter_fn(is_safe))
            .boxed(),
    }
}

fn is_safe(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() || !metadata.target().starts_with(PRINTS_BODIES)
}

/// One line with place and message. A message that was assembled at run time can contain anything, for example the
/// text that could not be parsed, so only fixed texts are repeated; the place says the rest.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic
        .payload()
        .downcast_ref::<&'static str>()
        .copied()
        .unwrap_or("a message that was put together while running; it is left out, as it could hold a secret");
    let place = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == std::backtrace::BacktraceStatus::Captured)
        .then(|| backtrace.to_string());
    tracing::error!(location = place, backtrace, "panic: {message}");
}

#[cfg(test)]
mod tests;
