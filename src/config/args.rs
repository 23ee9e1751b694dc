//! The command line: flags, their environment variables and their defaults.

use std::ffi::OsString;
use std::time::Duration;

use clap::builder::{BoolishValueParser, Resettable};
use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

/// Registers WhatsApp Business phone numbers with Meta's Cloud API, once.
#[derive(Clone, Debug, Parser)]
#[command(name = "whatsapp-operator", version, about)]
#[command(
    after_help = "The default command is run, so its flags may follow directly: `whatsapp-operator --concurrency=8`."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of the program.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the operator (default)
    Run(Box<RunArgs>),
    /// Print the CustomResourceDefinition as YAML
    Crd,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Human-readable text.
    Text,
    /// One JSON object per line.
    Json,
}

/// The numbers that `/metrics` has series of their own for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MetricsPerNumber {
    /// Every number.
    All,
    /// Those that are not registered.
    Unregistered,
    /// None: only the sums by state.
    None,
}

/// The flags of `whatsapp-operator run`, as given.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Base URL of the Graph API
    #[arg(
        long,
        env = "GRAPH_BASE_URL",
        value_name = "URL",
        default_value = "https://graph.facebook.com"
    )]
    pub graph_base_url: String,

    /// Version of the Graph API for resources without spec.graphAPIVersion
    #[arg(
        long,
        env = "GRAPH_API_VERSION",
        value_name = "VERSION",
        default_value = "v23.0"
    )]
    pub graph_api_version: String,

    /// Allow a plain HTTP --graph-base-url on another machine: tokens and PINs are sent unencrypted
    #[arg(long, env = "ALLOW_INSECURE_GRAPH", value_name = "BOOL", default_value_t = false,
        default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set,
        value_parser = BoolishValueParser::new())]
    pub allow_insecure_graph: bool,

    /// Timeout of one call to the Graph API (at most 10 min)
    #[arg(long, env = "GRAPH_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub graph_timeout: Duration,

    /// Namespace to watch; repeat the flag or separate names with commas [default: all namespaces]
    #[arg(
        long,
        env = "WATCH_NAMESPACES",
        value_name = "NAMESPACE",
        value_delimiter = ','
    )]
    pub watch_namespace: Vec<String>,

    /// Label selector: reconcile only matching resources (for sharding over several releases)
    #[arg(long, env = "SELECTOR", value_name = "SELECTOR")]
    pub selector: Option<String>,

    /// Watch Secrets to notice changes immediately; with =false the operator needs only `get` on Secrets, and polls them about every minute where a resource waits for one, at most a hundred a minute in all
    #[arg(long, env = "SECRET_WATCH", value_name = "BOOL", default_value_t = true,
        default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set,
        value_parser = BoolishValueParser::new())]
    pub secret_watch: bool,

    /// Number of concurrent reconciliations (1 to 1000); as many more for numbers that are only observed
    #[arg(long, env = "CONCURRENCY", value_name = "NUMBER", default_value_t = 32, value_parser = number)]
    pub concurrency: u16,

    /// Automatic register calls per number in 72 hours (1 to 10); Meta blocks a number after 10, including manual ones
    #[arg(
        long,
        env = "ATTEMPT_LIMIT",
        value_name = "NUMBER",
        default_value_t = 8,
        value_parser = number
    )]
    pub attempt_limit: u16,

    /// Wait before the first retry; each further wait is three times as long
    #[arg(long, env = "RETRY_BASE", value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub retry_base: Duration,

    /// Longest wait between two retries
    #[arg(long, env = "RETRY_CAP", value_name = "DURATION", default_value = "18h", value_parser = duration)]
    pub retry_cap: Duration,

    /// How long a number is only read after a register call without a clear answer, before it may be called again
    /// (Meta's status lags by up to 90s)
    #[arg(long, env = "CONFIRM_WINDOW", value_name = "DURATION", default_value = "2m", value_parser = duration)]
    pub confirm_window: Duration,

    /// How often a registered number is read again, to notice when it no longer is, for resources without
    /// spec.observeInterval; 0s turns it off
    #[arg(long, env = "OBSERVE_INTERVAL", value_name = "DURATION", default_value = "24h", value_parser = duration)]
    pub observe_interval: Duration,

    /// Take a number off the Cloud API when its resource is deleted, where spec.deletionPolicy is Deregister; with =false
    /// it stays registered
    #[arg(long, env = "DEREGISTRATION", value_name = "BOOL", default_value_t = true,
        default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set,
        value_parser = BoolishValueParser::new())]
    pub deregistration: bool,

    /// How long the deletion of a resource waits for its number to be taken off the Cloud API
    #[arg(long, env = "DEREGISTER_DEADLINE", value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub deregister_deadline: Duration,

    /// Enable leader election; recommended with several replicas, which otherwise all reconcile every number
    #[arg(long, env = "LEADER_ELECT", value_name = "BOOL", default_value_t = false,
        default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set,
        value_parser = BoolishValueParser::new())]
    pub leader_elect: bool,

    /// Name of the Lease; the same for all replicas of one release, another for each shard
    #[arg(
        long,
        env = "LEASE_NAME",
        value_name = "NAME",
        default_value = "whatsapp-operator"
    )]
    pub lease_name: String,

    /// Namespace of the Lease [default: that of the pod]
    #[arg(long, env = "LEASE_NAMESPACE", value_name = "NAMESPACE")]
    pub lease_namespace: Option<String>,

    /// Address to serve /livez, /readyz and /metrics on
    #[arg(
        long,
        env = "BIND_ADDRESS",
        value_name = "ADDRESS:PORT",
        default_value = "0.0.0.0:8080"
    )]
    pub bind_address: String,

    /// Numbers that have metrics of their own: `all`, only the `unregistered`, or `none`, which leaves the sums by state
    #[arg(
        long,
        env = "METRICS_PER_NUMBER",
        value_name = "NUMBERS",
        default_value = "all"
    )]
    pub metrics_per_number: MetricsPerNumber,

    /// Format of log lines [default: text on a terminal, else json]
    #[arg(long, env = "LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,

    /// Log level, or directives such as info,whatsapp_operator=debug
    #[arg(long, env = "LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
}

impl Cli {
    /// Parses the command line, which starts with the name of the program, and the environment.
    ///
    /// # Errors
    /// When the command line or a variable is invalid, and when help or the version is requested: clap's error knows
    /// which of the two it is and what to print.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let command = without_empty_variables(Self::command());
        let matches = command.try_get_matches_from(with_default_command(arguments))?;
        Self::from_arg_matches(&matches)
    }
}

/// Inserts `run` where no command is given. With flags at both levels instead, `--concurrency=8 run` would be accepted
/// and ignored.
fn with_default_command(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let known = ["run", "crd", "help", "--help", "-h", "--version", "-V"];
    let named = arguments
        .get(1)
        .is_some_and(|first| known.iter().any(|name| first == name) || is_a_word(first));
    if !named {
        arguments.insert(arguments.len().min(1), "run".into());
    }
    arguments
}

/// Whether an argument is a command and not a flag: clap then reports a misspelled command as such.
fn is_a_word(argument: &OsString) -> bool {
    !argument.as_encoded_bytes().starts_with(b"-")
}

/// Treats empty variables as unset: charts set a variable even where its value is empty.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    command.mut_subcommand("run", |run| {
        run.mut_args(|arg| match arg.get_env().map(std::env::var_os) {
            Some(Some(value)) if value.is_empty() => arg.env(Resettable::Reset),
            _ => arg,
        })
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; use a duration such as 200ms, 30s, 2m or 18h"))
}

fn number(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "use a whole number".to_owned())
}
