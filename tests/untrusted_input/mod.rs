//! What the API server and people wrote: refusals, settings, and how much memory a caller of ours can be made to take. The
//! core's own tests have the rest.

mod memory;

use std::ffi::OsString;

use kube::core::Status;
use operator_core::api::text::LOG;
use proptest::prelude::*;
use testkit::untrusted_input::check;
use whatsapp_operator::config::{Cli, Command, Settings};
use whatsapp_operator::reconcile::claims::RecordError;
use whatsapp_operator::telemetry::Chain;

proptest! {
    #[test]
    fn what_the_api_server_says_is_one_short_line(message in any::<String>(), reason in any::<String>(), times in 1_usize..3000, code in any::<u16>()) {
        let status = Status::failure(&message.repeat(times), &reason).with_code(code);
        let source = Box::new(kube::Error::Api(Box::new(status)));
        let error = RecordError::Api { verb: "write the status of", source };
        check::line(&Chain(&error).to_string(), LOG);
        check::line(&Chain(&std::io::Error::other(message)).to_string(), LOG);
    }

    #[test]
    fn any_settings_are_taken_or_refused(flag in prop::sample::select(FLAGS), value in setting()) {
        let words = ["whatsapp-operator".to_owned(), format!("{flag}={value}")];
        if let Ok(cli) = Cli::read(words.map(OsString::from))
            && let Command::Run(args) = cli.command
            && let Ok(settings) = Settings::try_from(*args)
        {
            prop_assert!(settings.graph_api_version.len() <= 16);
            prop_assert!(settings.retry.base <= settings.retry.cap);
            // Nothing that is added to a clock can be beyond its end.
            prop_assert!(settings.graph.timeout.as_secs() <= 600);
            prop_assert!(settings.retry.cap.as_secs() <= 72 * 3600);
        }
    }
}

const FLAGS: &[&str] = &[
    "--graph-base-url",
    "--graph-api-version",
    "--graph-timeout",
    "--watch-namespace",
    "--selector",
    "--concurrency",
    "--attempt-limit",
    "--retry-base",
    "--retry-cap",
    "--confirm-window",
    "--observe-interval",
    "--deregister-deadline",
    "--metrics-per-number",
    "--lease-name",
    "--lease-namespace",
    "--bind-address",
    "--log-level",
];

fn setting() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z!=,() \u{e9}/.-]{0,40}",
        "[0-9]{1,40}(ns|ms|s|m|h|d|w|months|y)?",
        "v[0-9]{1,40}\\.[0-9]{1,40}",
        "https?://[ -~]{0,40}",
        "[a-z_:,\\[\\]={}*+?0-9]{0,60}",
    ]
}
