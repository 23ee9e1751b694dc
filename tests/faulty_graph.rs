//! A Graph that does everything it should not, and the real operator on the real API server.
//!
//! Four parts. `numbers`: numbers to register, each with a script drawn at random from every behaviour of the simulator, and
//! the calls of each compared with what docs/design/protocol.md allows (`oracle`), answer by answer (`meaning`). `life`: the same for
//! numbers that are registered and then observed (`observed`), or taken off (`leaving`). `budget`: numbers whose
//! Graph never gets well, over more than two of Meta's windows of simulated time. `unreachable`: connections that do
//! not come about.
//!
//! `cargo test --test tests faulty_graph` runs them once, with a fixed seed. Longer:
//!
//! ```sh
//! for seed in $(seq 1 20); do GRAPH_FAULTS_SEED=$seed cargo test --test tests faulty_graph || break; done
//! GRAPH_FAULTS_NUMBERS=3000 GRAPH_FAULTS_SEED=7 cargo test --test tests faulty_graph::numbers -- --nocapture
//! ```
//!
//! A seed that failed fails again: it gives the same scripts, and the messages name the number and its script.

use std::time::Duration;

use meaning::Said;
use testkit::simulator::Shown;

mod budget;
mod draw;
mod ending;
mod leaving;
mod life;
mod meaning;
mod numbers;
mod observed;
mod oracle;
mod scenario;
mod trace;
mod unreachable;
mod verdict;

/// `--graph-timeout`.
const TIMEOUT: Duration = Duration::from_secs(3);

/// `--confirm-window`.
const WINDOW: Duration = Duration::from_secs(3);

/// `--retry-base`.
const BASE: Duration = Duration::from_millis(200);

/// `--attempt-limit`: so low that some numbers meet it.
const LIMIT: usize = 3;

/// Every token begins so, which makes one look enough to find any of them.
const TOKENS: &str = "EAAfaultyGraph";

/// An answer as it is, word for word: status, headers, body and what the body says.
type Raw = (
    u16,
    &'static [(&'static str, &'static str)],
    &'static str,
    fn() -> Said,
);

/// Answers that servers, gateways and relays were seen to give, and some that nobody should.
const RAW: &[Raw] = &[
    (200, &[], r#"{"success":true}"#, || Said::Success),
    (200, &[], r#" {"success":" TRUE"} "#, || Said::Object),
    (200, &[], r#"{"success":1}"#, || Said::Object),
    (200, &[], r#"{"success":[true]}"#, || Said::Object),
    (200, &[], r#"{"Success":true}"#, || Said::Object),
    (200, &[], r#"{"data":{"success":true}}"#, || Said::Object),
    (200, &[], r#"{"error":"success"}"#, || Said::Object),
    (200, &[], r#"{"error":{}}"#, || Said::Unreadable),
    (200, &[], r#"{"error":{"code":133005}}"#, || {
        meaning::error(133_005, None, false)
    }),
    (200, &[], "true", || Said::Unreadable),
    (200, &[], "null", || Said::Unreadable),
    (200, &[], r#"[{"success":true}]"#, || Said::Unreadable),
    (200, &[], "success", || Said::Unreadable),
    (200, &[], r#"{"success":true} {"#, || Said::Unreadable),
    (202, &[], "", || Said::Unreadable),
    (204, &[], "", || Said::Unreadable),
    (
        302,
        &[("location", "/v23.0/1/register")],
        r#"{"success":true}"#,
        || Said::Success,
    ),
    (307, &[("location", "https://graph.invalid/")], "", || {
        Said::Unreadable
    }),
    (400, &[], r#"{"success":true}"#, || Said::Success),
    (400, &[], r#"{"error":{"code":"133005"}}"#, || {
        meaning::error(133_005, None, false)
    }),
    (401, &[], "Unauthorized", || Said::Unreadable),
    (404, &[], r#"{"error":"not found"}"#, || Said::Object),
    (422, &[], r#"{"error":{"code":100}}"#, || {
        meaning::error(100, None, false)
    }),
    (422, &[], r#"{"error":{"type":"OAuthException"}}"#, || {
        Said::Error {
            code: None,
            subcode: None,
            transient: false,
        }
    }),
    (429, &[("retry-after", "1")], "slow down", || {
        Said::Unreadable
    }),
    (500, &[], r#"{"success":true}"#, || Said::Success),
    (500, &[], r#"{"error":{"type":"OAuthException"}}"#, || {
        Said::Error {
            code: None,
            subcode: None,
            transient: false,
        }
    }),
    (503, &[("retry-after", "2")], "upstream", || {
        Said::Unreadable
    }),
    (
        200,
        &[],
        r#"{"status":"CONNECTED","platform_type":"CLOUD_API","id":"1"}"#,
        || shown(Some("CLOUD_API"), Some("CONNECTED")),
    ),
    (200, &[], r#"{"status":"CONNECTED"}"#, || {
        shown(None, Some("CONNECTED"))
    }),
    (
        200,
        &[],
        r#"{"status":"CONNECTED","platform_type":"ON_PREMISE"}"#,
        || shown(Some("ON_PREMISE"), Some("CONNECTED")),
    ),
    (
        200,
        &[],
        r#"{"status":7,"platform_type":["CLOUD_API"]}"#,
        || shown(None, Some("7")),
    ),
    (200, &[], r#"{"status":"BANNED"}"#, || {
        shown(None, Some("BANNED"))
    }),
    (
        500,
        &[],
        r#"{"status":"CONNECTED","platform_type":"CLOUD_API"}"#,
        || shown(Some("CLOUD_API"), Some("CONNECTED")),
    ),
];

fn shown(platform_type: Option<&str>, status: Option<&str>) -> Said {
    Said::Number(Shown {
        platform_type: platform_type.map(str::to_owned),
        status: status.map(str::to_owned),
    })
}
