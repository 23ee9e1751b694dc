//! Log lines on standard error: text for people, or JSON with the fields of every enclosing span in one flat object,
//! so that each line that concerns a resource names it.
//!
//! No secret may get into a line at any level. The operator's own code never logs one; what dependencies print is
//! capped here.

use std::backtrace::Backtrace;
use std::fmt;
use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use serde::Serialize;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, ParseError, filter_fn};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::{LogFormat, LogSettings};

/// Dependencies that are not asked for more than this, unless the directives name them.
const QUIET: &[(&str, LevelFilter)] = &[
    ("h2", LevelFilter::INFO),
    ("hyper", LevelFilter::INFO),
    ("hyper_util", LevelFilter::INFO),
    ("kube_client", LevelFilter::INFO),
    // At `info` it puts the resource's name into each line once more, in words of its own.
    ("kube_runtime", LevelFilter::WARN),
    ("reqwest", LevelFilter::INFO),
    ("rustls", LevelFilter::INFO),
    ("tower", LevelFilter::INFO),
    ("tower_http", LevelFilter::INFO),
];

/// A dependency that prints a whole response body, at `warn`, when it cannot read one: it could be a Secret. It also
/// returns every error that it prints, so nothing is lost. No directive lifts this.
const PRINTS_BODIES: &str = "kube_client::client";

/// One JSON object a line: `timestamp`, `level`, `target`, `message`, then the fields of the spans from the outermost
/// to the innermost, then those of the event; of two fields with one name the inner one stays.
struct FlatJson;

/// One line, in the order in which it is written.
#[derive(Serialize)]
struct Line {
    timestamp: String,
    level: &'static str,
    target: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Value>,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

/// Fields of an event as JSON values.
struct Fields<'a>(&'a mut Map<String, Value>);

/// Logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The directives cannot be read; valid settings exclude that.
    #[error("failed to read the log level")]
    Filter(#[from] FilterError),
    /// Logging was started before.
    #[error("failed to start logging")]
    Started(#[from] TryInitError),
}

/// A text that is neither a level nor directives.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// A word alone that is not a level. `EnvFilter` would take it for a target and silence everything else.
    #[error("{0:?} is not a log level")]
    NoLevel(String),
    /// What `EnvFilter` refuses.
    #[error(transparent)]
    Directive(#[from] ParseError),
}

/// Starts logging, and makes panics log lines.
///
/// # Errors
/// See [`TelemetryError`].
pub fn init(settings: &LogSettings) -> Result<(), TelemetryError> {
    let filter = filter(&settings.level)?;
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

/// The layer that writes the lines; what must never be written it leaves out whatever the filter says.
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
            .fmt_fields(JsonFields::new())
            .event_format(FlatJson)
            .with_filter(filter_fn(is_safe))
            .boxed(),
    }
}

fn is_safe(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() || !metadata.target().starts_with(PRINTS_BODIES)
}

/// The filter for a level or directives, with the caps on dependencies added.
///
/// # Errors
/// When the text is neither.
pub fn filter(text: &str) -> Result<EnvFilter, FilterError> {
    let mut words = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.contains(['=', '[']));
    if let Some(word) = words.find(|word| word.parse::<LevelFilter>().is_err()) {
        return Err(FilterError::NoLevel(word.to_owned()));
    }
    Ok(EnvFilter::builder().parse(directives(text))?)
}

/// `text` with a directive for each of [`QUIET`] that it does not name. A cap is never above the general level:
/// `error` stays quiet.
fn directives(text: &str) -> String {
    let given: Vec<&str> = text.split(',').map(str::trim).collect();
    let named = |target: &str| {
        let mut rests = given.iter().filter_map(|part| part.strip_prefix(target));
        rests.any(|rest| rest.starts_with(['=', ':', '[']))
    };
    let general = general_level(text);
    let quiet = QUIET.iter().filter(|(target, _)| !named(target));
    let caps = quiet.map(|(target, most)| format!("{target}={}", general.min(*most)));
    let given = given.iter().map(ToString::to_string);
    given.chain(caps).collect::<Vec<_>>().join(",")
}

/// The level of everything that no directive names; as in `EnvFilter`, errors if the text has none.
fn general_level(text: &str) -> LevelFilter {
    text.split(',')
        .filter_map(|part| part.trim().parse().ok())
        .next_back()
        .unwrap_or(LevelFilter::ERROR)
}

/// One line with place and message. A message that was put together at run time can hold anything, for example the
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

// === impl FlatJson ===

impl<S> FormatEvent<S, JsonFields> for FlatJson
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Map::new();
        for span in context
            .event_scope()
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(stored) = span.extensions().get::<FormattedFields<JsonFields>>() {
                fields.extend(serde_json::from_str::<Map<_, _>>(stored).unwrap_or_default());
            }
        }
        event.record(&mut Fields(&mut fields));
        let line = Line::new(event.metadata(), fields);
        writeln!(
            writer,
            "{}",
            serde_json::to_string(&line).map_err(|_| fmt::Error)?
        )
    }
}

impl Line {
    /// A field of the event cannot take the place of the line's own.
    fn new(metadata: &Metadata<'_>, mut fields: Map<String, Value>) -> Self {
        let message = fields.remove("message");
        // Records of the `log` crate come with their own target among the fields.
        let target = fields.remove("log.target");
        let own = ["timestamp", "level", "target"];
        fields.retain(|name, _| !name.starts_with("log.") && !own.contains(&name.as_str()));
        Self {
            timestamp: now(),
            level: metadata.level().as_str(),
            target: target.unwrap_or_else(|| metadata.target().into()),
            message,
            fields,
        }
    }
}

#[allow(clippy::disallowed_methods)] // a log line says when it was written
fn now() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

// === impl Fields ===

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.insert(field, with_causes(value));
    }
}

/// The error and its causes; many errors repeat their cause in their own text, which is enough.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes
        .map(ToString::to_string)
        .fold(error.to_string(), |text, cause| {
            if text.contains(&cause) {
                text
            } else {
                format!("{text}: {cause}")
            }
        })
}

impl Fields<'_> {
    fn insert(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(
            field.name().trim_start_matches("r#").to_owned(),
            value.into(),
        );
    }
}

#[cfg(test)]
mod tests;
