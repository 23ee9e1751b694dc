//! The command line: flags, their environment variables and their defaults.

use std::ffi::OsString;
use std::time::Duration;

use clap::builder::{BoolishValueParser, Resettable};
use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

/// Registers WhatsApp Business phone numbers with Meta's Cloud API, once.
#[derive(Clone, Debug, Parser)]
#[command(name = "whatsapp-operator", version, about)]
#[command(
    after_help = "Without a command the operator runs, so its flags can follow at once: `whatsapp-operator --concurrency=8`."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the operator until it is told to stop; the default
    Run(Box<RunArgs>),
    /// Print the CustomResourceDefinition as YAML
    Crd,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Every flag of `whatsapp-operator run`, as it was written.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Where the Graph API is; every call goes there
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

    /// Allow a plain-http --graph-base-url that is not on this machine: tokens and PINs travel unencrypted
    #[arg(long, env = "ALLOW_INSECURE_GRAPH", value_name = "BOOL", default_value_t = false,
        default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set,
        value_parser = BoolishValueParser::new())]
    pub allow_insecure_graph: bool,

    /// How long one call to the Graph API may take (at most 10 min)
    #[arg(long, env = "GRAPH_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub graph_timeout: Duration,

    /// Namespace to watch; repeat the flag or separate names by commas [default: all namespaces]
    #[arg(
        long,
        env = "WATCH_NAMESPACES",
        value_name = "NAMESPACE",
        value_delimiter = ','
    )]
    pub watch_namespace: Vec<String>,

    /// Label selector: only matching resources are looked after, to share them out over several releases
    #[arg(long, env = "SELECTOR", value_name = "SELECTOR")]
    pub selector: Option<String>,

    /// Watch Secrets, to notice a change at once; =false needs only `get` on Secrets, and polls every minute where a resource waits for one
    #[arg(long, env = "SECRET_WATCH", value_name = "BOOL", default_value_t = true,
        default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set,
        value_parser = BoolishValueParser::new())]
    pub secret_watch: bool,

    /// How many resources are worked on at the same time (1 to 1000)
    #[arg(long, env = "CONCURRENCY", value_name = "NUMBER", default_value_t = 32, value_parser = number)]
    pub concurrency: u16,

    /// Automatic register calls for a number in 72 hours (1 to 10); Meta blocks a number after 10, people's own included
    #[arg(
        long,
        env = "ATTEMPT_LIMIT",
        value_name = "NUMBER",
        default_value_t = 8,
        value_parser = number
    )]
    pub attempt_limit: u16,

    /// Wait before the first retry; each further one is three times as long
    #[arg(long, env = "RETRY_BASE", value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub retry_base: Duration,

    /// Longest wait between two retries
    #[arg(long, env = "RETRY_CAP", value_name = "DURATION", default_value = "18h", value_parser = duration)]
    pub retry_cap: Duration,

    /// After a register call without a clear answer, how long the number is only read, not registered again
    /// (Meta's status lags by up to 90s)
    #[arg(long, env = "CONFIRM_WINDOW", value_name = "DURATION", default_value = "2m", value_parser = duration)]
    pub confirm_window: Duration,

    /// Take turns with other replicas through a Lease; recommended with several: without it each works on every number
    #[arg(long, env = "LEADER_ELECT", value_name = "BOOL", default_value_t = false,
        default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set,
        value_parser = BoolishValueParser::new())]
    pub leader_elect: bool,

    /// Name of the Lease; replicas that share the work share it, shards must not
    #[arg(
        long,
        env = "LEASE_NAME",
        value_name = "NAME",
        default_value = "whatsapp-operator"
    )]
    pub lease_name: String,

    /// Namespace of the Lease [default: the pod's own]
    #[arg(long, env = "LEASE_NAMESPACE", value_name = "NAMESPACE")]
    pub lease_namespace: Option<String>,

    /// Address of /livez, /readyz and /metrics
    #[arg(
        long,
        env = "BIND_ADDRESS",
        value_name = "ADDRESS:PORT",
        default_value = "0.0.0.0:8080"
    )]
    pub bind_address: String,

    /// How log lines are written [default: text on a terminal, else json]
    #[arg(long, env = "LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,

    /// Lowest level that is logged, or directives such as info,whatsapp_operator=debug
    #[arg(long, env = "LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
}

impl Cli {
    /// Reads the command line, given with the program's name first, and the environment.
    ///
    /// # Errors
    /// When the command line or a variable cannot be understood, and when help or the version was asked for:
    /// clap's error knows which of the two it is and what to print.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let command = without_empty_variables(Self::command());
        let matches = command.try_get_matches_from(with_default_command(arguments))?;
        Self::from_arg_matches(&matches)
    }
}

/// Inserts `run` where no command is given. Flags at both levels would be the other way, but then
/// `--concurrency=8 run` would be taken and ignored.
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

/// A first argument that is no flag is meant as a command, so that a misspelt one is named as such.
fn is_a_word(argument: &OsString) -> bool {
    !argument.as_encoded_bytes().starts_with(b"-")
}

/// Charts write a variable even where its value is empty: that means unset.
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
        .map_err(|error| format!("{error}; write a duration such as 200ms, 30s, 2m or 18h"))
}

fn number(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "write a whole number".to_owned())
}
