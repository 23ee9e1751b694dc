//! What is logged: a level or directives, with caps on dependencies.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, ParseError};

/// Dependencies that log no more than this, unless the directives name them.
const QUIET: &[(&str, LevelFilter)] = &[
    ("h2", LevelFilter::INFO),
    ("hyper", LevelFilter::INFO),
    ("hyper_util", LevelFilter::INFO),
    ("kube_client", LevelFilter::INFO),
    // At `info` it repeats the resource's name in each line, in another form.
    ("kube_runtime", LevelFilter::WARN),
    ("reqwest", LevelFilter::INFO),
    ("rustls", LevelFilter::INFO),
    ("tower", LevelFilter::INFO),
    ("tower_http", LevelFilter::INFO),
];

/// A text that is neither a level nor directives.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// `EnvFilter` would take such a word for a target and silence everything else.
    #[error("{0:?} is not a log level")]
    NoLevel(String),
    /// What `EnvFilter` refuses.
    #[error(transparent)]
    Directive(#[from] ParseError),
}

/// The filter for a level or directives, with the caps on dependencies added.
pub fn log_filter(text: &str) -> Result<EnvFilter, FilterError> {
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
