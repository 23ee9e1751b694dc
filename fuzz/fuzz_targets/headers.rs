//! Headers of an answer: one a line, the first byte of which says which.
#![no_main]

use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use operator_core::graph::response::{Answer, Exchange, register_outcome};
use operator_core::graph::rate_limit::retry_after;
use operator_core::credentials::Scrubber;
use testkit::untrusted_input::check;
use whatsapp_operator_fuzz::{SECRETS, inputs, take};

const NAMES: [&str; 6] = [
    "x-business-use-case-usage",
    "retry-after",
    "x-fb-trace-id",
    "x-fb-request-id",
    "www-authenticate",
    "x-app-usage",
];

fuzz_target!(|data: &[u8]| {
    let mut headers = HeaderMap::new();
    for mut line in data.split(|byte| *byte == b'\n').take(20) {
        let name = NAMES[usize::from(take(&mut line)) % NAMES.len()];
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(name, value);
        }
    }
    let now = Timestamp::from_second(1_800_000_000).expect("a time");
    check::wait(retry_after(&headers, now));
    let answer = Answer {
        status: 429,
        headers,
        ..Answer::default()
    };
    let outcome = register_outcome(&Exchange::Answered(answer), &Scrubber::new(&inputs()), now);
    check::register_outcome(&outcome);
    check::secrets_absent(&format!("{outcome:?}"), SECRETS);
});
