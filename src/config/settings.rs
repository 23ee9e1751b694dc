//! Settings that are known to be valid: what [`RunArgs`] says, checked once at the start.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use rand::RngExt;
use url::Url;

use super::args::{LogFormat, MetricsPerNumber, RunArgs};
use super::graph::{GraphSettings, check_base_url};
use super::log_filter::log_filter;

/// The longest duration: Meta counts calls for 72 hours, and so does the operator.
const LONGEST: Duration = Duration::from_hours(72);
/// A call that takes longer than this has failed, even if an answer comes later.
const LONGEST_CALL: Duration = Duration::from_mins(10);

/// The longest interval of observation: a loss must not go unnoticed for longer.
const LONGEST_INTERVAL: Duration = Duration::from_hours(24 * 365);

/// As long as a version in a resource may be, in characters.
const LONGEST_VERSION: usize = 16;

/// The operator's settings, every one of them valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How the Graph API is called.
    pub graph: GraphSettings,
    /// The version of the Graph API for resources that name none: `v23.0`.
    pub graph_api_version: String,
    /// The namespaces to watch, each once, sorted; none means all.
    pub watch_namespaces: Vec<String>,
    /// A label selector that resources must match; the API server validates it.
    pub selector: Option<String>,
    /// Whether Secrets are watched; else they are only read.
    pub secret_watch: bool,
    /// How many resources are reconciled at the same time.
    pub concurrency: u16,
    /// Budget and waits of register calls.
    pub retry: RetrySettings,
    /// How a number is treated after its registration.
    pub life: LifeSettings,
    /// Leader election; none means that this process always leads.
    pub leader_election: Option<LeaderSettings>,
    /// Where health and metrics are served.
    pub bind_address: SocketAddr,
    /// The numbers that have their own series in `/metrics`.
    pub metrics_per_number: MetricsPerNumber,
    /// What is logged, and how.
    pub log: LogSettings,
}

/// Budget and waits of register calls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetrySettings {
    /// Automatic attempts per number in 72 hours, 1 to 10.
    pub attempt_limit: u16,
    /// The first wait.
    pub base: Duration,
    /// The longest wait, not shorter than [`Self::base`].
    pub cap: Duration,
    /// How long a number is only read after an unclear answer.
    pub confirm_window: Duration,
}

/// How a number is treated after its registration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LifeSettings {
    /// How often a registered number is read again; zero is never.
    pub observe_interval: Duration,
    /// Whether numbers are deregistered when their resource is deleted and asks for that.
    pub deregistration: bool,
    /// How long the deletion of a resource waits for that.
    pub deregister_deadline: Duration,
}

/// The candidate's identity, and the Lease.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaderSettings {
    pub lease_name: String,
    /// The namespace of the Lease; none means the client's own: the pod's, or that of the kubeconfig's context.
    pub lease_namespace: Option<String>,
    /// The name of this process among the candidates.
    pub identity: String,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct LogSettings {
    /// The form of a line; none means text on a terminal and JSON elsewhere.
    pub format: Option<LogFormat>,
    /// A level, or the directives of tracing's `EnvFilter`.
    pub level: String,
}

/// A flag, or its environment variable, has a value that cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{flag}: {problem}")]
pub struct ConfigError {
    /// The flag, with its environment variable.
    flag: &'static str,
    /// What is wrong, and what to write.
    problem: String,
}

// === impl Settings ===

impl TryFrom<RunArgs> for Settings {
    type Error = ConfigError;

    fn try_from(args: RunArgs) -> Result<Self, ConfigError> {
        // Without `..`: a flag that nothing uses does not compile.
        let RunArgs {
            graph_base_url,
            graph_api_version,
            allow_insecure_graph,
            graph_timeout,
            watch_namespace,
            selector,
            secret_watch,
            concurrency,
            attempt_limit,
            retry_base,
            retry_cap,
            confirm_window,
            observe_interval,
            deregistration,
            deregister_deadline,
            leader_elect,
            lease_name,
            lease_namespace,
            bind_address,
            metrics_per_number,
            log_format,
            log_level,
        } = args;
        let lease = lease(lease_name, lease_namespace)?;
        Ok(Self {
            graph: GraphSettings {
                base_url: base_url(&graph_base_url, allow_insecure_graph)?,
                allow_insecure: allow_insecure_graph,
                timeout: bounded(
                    "--graph-timeout (GRAPH_TIMEOUT)",
                    graph_timeout,
                    LONGEST_CALL,
                )?,
            },
            graph_api_version: api_version(graph_api_version)?,
            watch_namespaces: namespaces(&watch_namespace)?,
            selector: selector.map(label_selector).transpose()?,
            secret_watch,
            concurrency: within("--concurrency (CONCURRENCY)", concurrency, 1000)?,
            retry: retry(attempt_limit, retry_base, retry_cap, confirm_window)?,
            life: LifeSettings {
                observe_interval: at_most(
                    "--observe-interval (OBSERVE_INTERVAL)",
                    observe_interval,
                    LONGEST_INTERVAL,
                )?,
                deregistration,
                deregister_deadline: bounded(
                    "--deregister-deadline (DEREGISTER_DEADLINE)",
                    deregister_deadline,
                    LONGEST,
                )?,
            },
            leader_election: leader_elect.then_some(lease),
            bind_address: socket_address(&bind_address)?,
            metrics_per_number,
            log: log(log_format, log_level)?,
        })
    }
}

impl ConfigError {
    fn new(flag: &'static str, problem: impl Into<String>) -> Self {
        Self {
            flag,
            problem: problem.into(),
        }
    }
}

fn base_url(text: &str, allow_insecure: bool) -> Result<Url, ConfigError> {
    let refuse = |problem: String| {
        Err(ConfigError::new(
            "--graph-base-url (GRAPH_BASE_URL)",
            problem,
        ))
    };
    // The text itself is not repeated, because it may contain a password.
    let url = match Url::parse(text.trim()) {
        Ok(url) => url,
        Err(error) => {
            return refuse(format!(
                "{error}; write a URL such as https://graph.facebook.com"
            ));
        }
    };
    match check_base_url(&url, allow_insecure) {
        Ok(()) => Ok(url),
        Err(problem) => refuse(problem.to_owned()),
    }
}

fn api_version(text: String) -> Result<String, ConfigError> {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let valid = text.len() <= LONGEST_VERSION
        && text
            .strip_prefix('v')
            .and_then(|numbers| numbers.split_once('.'))
            .is_some_and(|(major, minor)| is_number(major) && is_number(minor));
    if valid {
        return Ok(text);
    }
    Err(ConfigError::new(
        "--graph-api-version (GRAPH_API_VERSION)",
        format!("{text:?} is not a Graph API version; write one such as v23.0"),
    ))
}

/// The namespaces; no value at all means all of them. A value that names none is an error: taken as all, it would have this operator
/// manage the resources of others.
fn namespaces(entries: &[String]) -> Result<Vec<String>, ConfigError> {
    let names: BTreeSet<&str> = entries
        .iter()
        .flat_map(|entry| entry.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    let flag = "--watch-namespace (WATCH_NAMESPACES)";
    if names.is_empty() && !entries.is_empty() {
        let given = entries.join(",");
        return Err(ConfigError::new(
            flag,
            format!(
                "{given:?} names no namespace; write at least one, or leave the setting out to watch all"
            ),
        ));
    }
    names
        .into_iter()
        .map(|name| namespace(flag, name))
        .collect()
}

fn namespace(flag: &'static str, name: &str) -> Result<String, ConfigError> {
    if is_dns_label(name) {
        return Ok(name.to_owned());
    }
    Err(ConfigError::new(
        flag,
        format!(
            "{name:?} is not a namespace name; write at most 63 of a-z, 0-9 and -, with a letter or digit at both ends"
        ),
    ))
}

/// A DNS-1123 label, as names of namespaces are.
fn is_dns_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn label_selector(text: String) -> Result<String, ConfigError> {
    match text.trim() {
        "" => Err(ConfigError::new(
            "--selector (SELECTOR)",
            format!(
                "{text:?} selects nothing; write a label selector such as shard=a, or leave the setting out to select all"
            ),
        )),
        selector => Ok(selector.to_owned()),
    }
}

fn within(flag: &'static str, value: u16, most: u16) -> Result<u16, ConfigError> {
    if (1..=most).contains(&value) {
        return Ok(value);
    }
    Err(ConfigError::new(
        flag,
        format!("{value} is out of range; write a number from 1 to {most}"),
    ))
}

fn bounded(flag: &'static str, value: Duration, most: Duration) -> Result<Duration, ConfigError> {
    if !value.is_zero() && value <= most {
        return Ok(value);
    }
    Err(ConfigError::new(
        flag,
        format!(
            "{} is out of range; write more than 0s and at most {}",
            humantime::format_duration(value),
            humantime::format_duration(most)
        ),
    ))
}

fn at_most(flag: &'static str, value: Duration, most: Duration) -> Result<Duration, ConfigError> {
    if value.is_zero() {
        return Ok(value);
    }
    bounded(flag, value, most)
}

fn retry(
    attempt_limit: u16,
    base: Duration,
    cap: Duration,
    confirm_window: Duration,
) -> Result<RetrySettings, ConfigError> {
    let settings = RetrySettings {
        attempt_limit: within("--attempt-limit (ATTEMPT_LIMIT)", attempt_limit, 10)?,
        base: bounded("--retry-base (RETRY_BASE)", base, LONGEST)?,
        cap: bounded("--retry-cap (RETRY_CAP)", cap, LONGEST)?,
        confirm_window: bounded("--confirm-window (CONFIRM_WINDOW)", confirm_window, LONGEST)?,
    };
    if base > cap {
        return Err(ConfigError::new(
            "--retry-base (RETRY_BASE)",
            format!(
                "{} is longer than --retry-cap, {}; write a shorter one, or raise --retry-cap",
                humantime::format_duration(base),
                humantime::format_duration(cap)
            ),
        ));
    }
    Ok(settings)
}

fn lease(name: String, in_namespace: Option<String>) -> Result<LeaderSettings, ConfigError> {
    let valid = name.len() <= 253 && name.split('.').all(is_dns_label);
    if !valid {
        return Err(ConfigError::new(
            "--lease-name (LEASE_NAME)",
            format!("{name:?} is not a Lease name; write a DNS name such as whatsapp-operator"),
        ));
    }
    let flag = "--lease-namespace (LEASE_NAMESPACE)";
    let lease_namespace = in_namespace
        .map(|name| namespace(flag, name.trim()))
        .transpose()?;
    Ok(LeaderSettings {
        lease_name: name,
        lease_namespace,
        identity: identity(),
    })
}

/// The name of the pod, which is its host name, and something random: a restarted container keeps the name, but must
/// not mistake its predecessor's Lease for its own.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "whatsapp-operator",
        name => name,
    };
    format!("{host}_{:08x}", rand::rng().random::<u32>())
}

fn socket_address(text: &str) -> Result<SocketAddr, ConfigError> {
    text.trim().parse().map_err(|_| {
        ConfigError::new(
            "--bind-address (BIND_ADDRESS)",
            format!("{text:?} is not an IP address and port; write one such as 0.0.0.0:8080 or [::]:8080"),
        )
    })
}

fn log(format: Option<LogFormat>, level: String) -> Result<LogSettings, ConfigError> {
    match log_filter(&level) {
        Ok(_) => Ok(LogSettings { format, level }),
        Err(error) => Err(ConfigError::new(
            "--log-level (LOG_LEVEL)",
            format!(
                "{level:?}: {error}; write error, warn, info, debug or trace, or directives such as info,whatsapp_operator=debug"
            ),
        )),
    }
}
