//! The core stays pure: no I/O, no clock, no randomness; time and chance are arguments.

use std::fs;
use std::path::Path;

/// The files of the core, and the request and response halves of the Graph client.
const PURE: &[&str] = &[
    "api/spec.rs",
    "api/status.rs",
    "conclude.rs",
    "conditions.rs",
    "decide.rs",
    "decide/facts.rs",
    "decide/settle.rs",
    "decide/wait.rs",
    "digest.rs",
    "duplicates.rs",
    "graph/body.rs",
    "graph/codes.rs",
    "graph/request.rs",
    "graph/response.rs",
    "graph/usage.rs",
    "ledger.rs",
    "notice.rs",
    "reason.rs",
    "redact.rs",
    "schedule.rs",
    "secrets.rs",
    "text.rs",
];

/// What has no place there.
const IMPURE: &[&str] = &[
    "async ",
    ".await",
    "Timestamp::now",
    "Instant",
    "SystemTime",
    "rand::",
    "kube::Client",
    "kube::Api",
    "reqwest::",
    "tokio::",
    "std::env",
    "std::fs",
    "tracing::",
];

#[test]
fn the_core_has_no_clock_and_does_no_io() {
    for file in PURE {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let lines = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        for line in lines {
            for impure in IMPURE {
                assert!(!line.contains(impure), "src/{file} uses {impure:?}: {line}");
            }
        }
    }
}
