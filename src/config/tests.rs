//! Every flag and its variable, what is refused, and in which words.

use std::ffi::OsString;
use std::process::Command as Process;
use std::time::Duration;

use super::*;

fn cli(arguments: &[&str]) -> Result<Cli, clap::Error> {
    Cli::read(
        std::iter::once("whatsapp-operator")
            .chain(arguments.iter().copied())
            .map(OsString::from),
    )
}

/// The settings, or the error as people see it.
fn settings(arguments: &[&str]) -> Result<Settings, String> {
    match cli(arguments).map_err(|error| error.to_string())?.command {
        Command::Run(args) => Settings::try_from(*args).map_err(|error| error.to_string()),
        Command::Crd => Err("this is crd".to_owned()),
    }
}

#[track_caller]
fn assert_refused(arguments: &[&str], words: &[&str]) {
    let error = settings(arguments).expect_err("the arguments are wrong");
    for word in words {
        assert!(
            error.contains(word),
            "{arguments:?}: no {word:?} in {error:?}"
        );
    }
}

#[test]
fn defaults_are_those_of_the_design() {
    let settings = settings(&[]).expect("the defaults are valid");
    assert_eq!(
        settings.graph.base_url.as_str(),
        "https://graph.facebook.com/"
    );
    assert_eq!(settings.graph_api_version, "v23.0");
    assert!(!settings.graph.allow_insecure);
    assert_eq!(settings.graph.timeout, Duration::from_secs(30));
    assert_eq!(settings.watch_namespaces, Vec::<String>::new());
    assert_eq!(settings.selector, None);
    assert!(settings.secret_watch);
    assert_eq!(settings.concurrency, 32);
    let retry = RetrySettings {
        attempt_limit: 8,
        base: Duration::from_secs(30),
        cap: Duration::from_hours(18),
        confirm_window: Duration::from_mins(2),
    };
    assert_eq!(settings.retry, retry);
    let life = LifeSettings {
        observe_interval: Duration::from_hours(24),
        deregistration: true,
        deregister_deadline: Duration::from_hours(1),
    };
    assert_eq!(settings.life, life);
    assert_eq!(settings.leader_election, None);
    assert_eq!(settings.bind_address.to_string(), "0.0.0.0:8080");
    assert_eq!(settings.metrics_per_number, MetricsPerNumber::All);
    assert_eq!(
        settings.log,
        LogSettings {
            format: None,
            level: "info".to_owned()
        }
    );
}

const ALL_FLAGS: &[(&str, &str, &str)] = &[
    (
        "--graph-base-url",
        "GRAPH_BASE_URL",
        "http://graph.test:81/meta",
    ),
    ("--graph-api-version", "GRAPH_API_VERSION", "v99.1"),
    ("--allow-insecure-graph", "ALLOW_INSECURE_GRAPH", "true"),
    ("--graph-timeout", "GRAPH_TIMEOUT", "200ms"),
    ("--watch-namespace", "WATCH_NAMESPACES", "b, a,,a"),
    ("--selector", "SELECTOR", "shard in (a,b)"),
    ("--secret-watch", "SECRET_WATCH", "false"),
    ("--concurrency", "CONCURRENCY", "7"),
    ("--attempt-limit", "ATTEMPT_LIMIT", "3"),
    ("--retry-base", "RETRY_BASE", "1s"),
    ("--retry-cap", "RETRY_CAP", "2h"),
    ("--confirm-window", "CONFIRM_WINDOW", "3m"),
    ("--observe-interval", "OBSERVE_INTERVAL", "6h"),
    ("--deregistration", "DEREGISTRATION", "false"),
    ("--deregister-deadline", "DEREGISTER_DEADLINE", "30m"),
    ("--leader-elect", "LEADER_ELECT", "true"),
    ("--lease-name", "LEASE_NAME", "release-shard-a"),
    ("--lease-namespace", "LEASE_NAMESPACE", "system"),
    ("--bind-address", "BIND_ADDRESS", "[::1]:9090"),
    ("--metrics-per-number", "METRICS_PER_NUMBER", "unregistered"),
    ("--log-format", "LOG_FORMAT", "json"),
    ("--log-level", "LOG_LEVEL", "debug"),
];

#[track_caller]
fn assert_all_flags(settings: &Settings) {
    assert_eq!(
        settings.graph.base_url.as_str(),
        "http://graph.test:81/meta"
    );
    assert_eq!(settings.graph_api_version, "v99.1");
    assert!(settings.graph.allow_insecure);
    assert_eq!(settings.graph.timeout, Duration::from_millis(200));
    assert_eq!(settings.watch_namespaces, ["a", "b"]);
    assert_eq!(settings.selector.as_deref(), Some("shard in (a,b)"));
    assert!(!settings.secret_watch);
    assert_eq!(settings.concurrency, 7);
    assert_eq!(settings.retry.attempt_limit, 3);
    assert_eq!(settings.retry.base, Duration::from_secs(1));
    assert_eq!(settings.retry.cap, Duration::from_hours(2));
    assert_eq!(settings.retry.confirm_window, Duration::from_mins(3));
    let election = settings.leader_election.as_ref().expect("an election");
    assert_eq!(election.lease_name, "release-shard-a");
    assert_eq!(election.lease_namespace.as_deref(), Some("system"));
    assert_eq!(settings.bind_address.to_string(), "[::1]:9090");
    assert_eq!(settings.metrics_per_number, MetricsPerNumber::Unregistered);
    assert_eq!(
        settings.log,
        LogSettings {
            format: Some(LogFormat::Json),
            level: "debug".to_owned()
        }
    );
}

#[test]
fn every_flag_works_with_and_without_the_command() {
    let flags: Vec<String> = ALL_FLAGS
        .iter()
        .map(|(flag, _, value)| format!("{flag}={value}"))
        .collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    assert_all_flags(&settings(&flags).expect("valid flags"));
    assert_all_flags(&settings(&[&["run"], &flags[..]].concat()).expect("valid flags"));
}

/// Runs one of the tests below, which are ignored otherwise, in a process of its own with these variables.
fn in_environment(test: &str, variables: impl IntoIterator<Item = (&'static str, &'static str)>) {
    let program = std::env::current_exe().expect("the test's own program");
    let output = Process::new(program)
        .args(["--exact", "--ignored", &format!("config::tests::{test}")])
        .envs(variables)
        .output()
        .expect("the test's own program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

#[test]
fn every_variable_works() {
    in_environment(
        "with_all_variables",
        ALL_FLAGS.iter().map(|(_, name, value)| (*name, *value)),
    );
}

#[test]
#[ignore = "every_variable_works runs it with the variables set"]
fn with_all_variables() {
    assert_all_flags(&settings(&["run"]).expect("valid variables"));
    let overridden = settings(&["--concurrency=9", "--leader-elect=false"]).expect("valid flags");
    assert_eq!(
        (overridden.concurrency, overridden.leader_election),
        (9, None)
    );
    assert!(matches!(
        cli(&["crd"]).map(|cli| cli.command),
        Ok(Command::Crd)
    ));
}

#[test]
fn empty_variables_count_as_unset() {
    in_environment(
        "with_empty_variables",
        ALL_FLAGS.iter().map(|(_, name, _)| (*name, "")),
    );
}

#[test]
#[ignore = "empty_variables_count_as_unset runs it with the variables set"]
fn with_empty_variables() {
    defaults_are_those_of_the_design();
}

#[test]
fn every_flag_is_in_the_list_above_and_explained() {
    let mut command = <Cli as clap::CommandFactory>::command();
    command.build();
    let run = command.find_subcommand("run").expect("the command run");
    let mut flags = Vec::new();
    for arg in run.get_arguments().filter(|arg| arg.get_id() != "help") {
        let name = arg
            .get_env()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        flags.push((
            format!("--{}", arg.get_long().unwrap_or_default()),
            name.to_owned(),
        ));
        assert!(arg.get_help().is_some(), "{flags:?}");
    }
    let listed: Vec<_> = ALL_FLAGS
        .iter()
        .map(|(flag, name, _)| ((*flag).to_owned(), (*name).to_owned()))
        .collect();
    assert_eq!(flags, listed);
}

#[test]
fn switches_take_a_value_or_none() {
    for (flags, on) in [
        (&["--leader-elect"][..], true),
        (&["--leader-elect=true"], true),
        (&["--leader-elect=false"], false),
        (&["--leader-elect=0"], false),
        (&["--leader-elect", "--secret-watch=false"], true),
    ] {
        let settings = settings(flags).expect("valid flags");
        assert_eq!(settings.leader_election.is_some(), on, "{flags:?}");
    }
    assert_refused(&["--leader-elect=maybe"], &["--leader-elect", "maybe"]);
    assert_refused(
        &["--leader-elect", "false"],
        &["unexpected argument 'false'"],
    );
}

#[test]
fn namespaces_are_trimmed_sorted_and_taken_once() {
    let found = settings(&["--watch-namespace=b,a, ,", "--watch-namespace", " c ,a"])
        .expect("valid namespaces");
    assert_eq!(found.watch_namespaces, ["a", "b", "c"]);
    for name in ["Shop", "-a", "a-", "a.b", "a_b", &"x".repeat(64)] {
        assert_refused(
            &[&format!("--watch-namespace=ok,{name}")],
            &["--watch-namespace", name, "write"],
        );
    }
}

#[test]
fn what_is_given_and_names_nothing_is_refused() {
    for none in ["", " ", ",", " , "] {
        assert_refused(
            &[&format!("--watch-namespace={none}")],
            &["--watch-namespace (WATCH_NAMESPACES)", "names no namespace"],
        );
    }
    for blank in ["", "  "] {
        assert_refused(
            &[&format!("--selector={blank}")],
            &["--selector (SELECTOR)", "selects nothing"],
        );
    }
}

#[test]
fn the_base_url_is_https_but_for_this_machine() {
    for url in [
        "http://127.0.0.1:1",
        "http://localhost",
        "http://[::1]:80/x",
        "https://graph.test/meta/",
    ] {
        assert!(
            settings(&[&format!("--graph-base-url={url}")]).is_ok(),
            "{url}"
        );
    }
    let flag = "--graph-base-url (GRAPH_BASE_URL)";
    for url in [
        "http://graph.test",
        "http://128.0.0.1",
        "http://localhost.example.com",
    ] {
        assert_refused(
            &[&format!("--graph-base-url={url}")],
            &[flag, "--allow-insecure-graph"],
        );
        assert!(
            settings(&[&format!("--graph-base-url={url}"), "--allow-insecure-graph"]).is_ok(),
            "{url}"
        );
    }
    for url in [
        "graph.facebook.com",
        "ftp://graph.test",
        "https://",
        "https://a.test?x=1",
        "https://a.test#x",
    ] {
        assert_refused(
            &[&format!("--graph-base-url={url}"), "--allow-insecure-graph"],
            &[flag, "write"],
        );
    }
    let error =
        settings(&["--graph-base-url=https://me:hunter2@graph.test"]).expect_err("a password");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn bad_values_are_refused_with_flag_and_advice() {
    for version in [
        "23.0", "v23", "v.0", "v23.", "V23.0", "v23.0.1", "v2 3.0", "latest",
    ] {
        assert_refused(
            &[&format!("--graph-api-version={version}")],
            &["--graph-api-version", version, "v23.0"],
        );
    }
    for (flags, words) in [
        (
            &["--graph-timeout=0s"][..],
            &["--graph-timeout", "more than 0s"][..],
        ),
        (&["--graph-timeout=1h"], &["--graph-timeout", "10m"]),
        (&["--graph-timeout=30"], &["--graph-timeout", "30s"]),
        (&["--concurrency=0"], &["--concurrency", "1 to 1000"]),
        (&["--concurrency=1001"], &["--concurrency", "1 to 1000"]),
        (
            &["--concurrency=many"],
            &["--concurrency", "many", "whole number"],
        ),
        (&["--attempt-limit=0"], &["--attempt-limit", "1 to 10"]),
        (&["--attempt-limit=11"], &["--attempt-limit", "1 to 10"]),
        (
            &["--retry-base=2h", "--retry-cap=1h"],
            &["--retry-base", "--retry-cap", "2h"],
        ),
        (&["--retry-cap=73h"], &["--retry-cap", "3days"]),
        (&["--retry-base=0ms"], &["--retry-base"]),
        (&["--confirm-window=0s"], &["--confirm-window"]),
        (
            &["--observe-interval=9000h"],
            &["--observe-interval", "OBSERVE_INTERVAL"],
        ),
        (
            &["--deregister-deadline=0s"],
            &["--deregister-deadline", "more than 0s"],
        ),
        (&["--lease-name=Bad_Name"], &["--lease-name", "Bad_Name"]),
        (&["--lease-namespace=a.b"], &["--lease-namespace", "a.b"]),
        (&["--lease-namespace= "], &["--lease-namespace"]),
        (
            &["--bind-address=:8080"],
            &["--bind-address", "0.0.0.0:8080"],
        ),
        (
            &["--bind-address=0.0.0.0"],
            &["--bind-address", "0.0.0.0:8080"],
        ),
        (&["--log-format=xml"], &["--log-format", "json"]),
        (
            &["--metrics-per-number=some"],
            &["--metrics-per-number", "unregistered"],
        ),
        (&["--log-level=loud"], &["--log-level", "debug"]),
        (&["--no-such-flag"], &["--no-such-flag"]),
        (&["start"], &["unrecognized subcommand 'start'"]),
        (&["--concurrency=8", "run"], &["unexpected argument 'run'"]),
    ] {
        assert_refused(flags, words);
    }
}

#[test]
fn two_processes_on_one_host_have_different_identities() {
    let identity = || {
        let settings = settings(&["--leader-elect"]).expect("valid flags");
        settings.leader_election.expect("an election").identity
    };
    let (one, other) = (identity(), identity());
    assert_ne!(one, other);
    assert_eq!(
        one.rsplit_once('_').map(|(host, _)| host),
        other.rsplit_once('_').map(|(host, _)| host)
    );
}

#[test]
fn help_and_version_are_no_errors() {
    for flags in [
        &["--help"][..],
        &["-h"],
        &["--version"],
        &["run", "--help"],
        &["help"],
    ] {
        let error = cli(flags).expect_err("help ends the program");
        assert!(!error.use_stderr(), "{flags:?}");
    }
}
