//! Whatever Graph answers: from the bytes to the status, and what does not fit into a generator.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

use super::generators::{self, exchange};
use operator_core::api::Reason;
use operator_core::api::WhatsAppPhoneNumber;
use operator_core::credentials::Scrubber;
use operator_core::graph::rate_limit::retry_after;
use operator_core::graph::response::{Answer, Exchange, read_outcome, register_outcome};
use operator_core::graph::{ReadFields, RegistrationState};
use operator_core::model::Requeue;
use testkit::builders::{PIN, TOKEN, inputs, spec};
use testkit::untrusted_input::check;
use testkit::untrusted_input::player::Player;

fn player() -> Player {
    let mut resource = WhatsAppPhoneNumber::new("support", spec());
    resource.metadata.generation = Some(1);
    Player::new(resource, Ok(inputs().digests(&spec())))
}

fn answered(body: &str) -> Exchange {
    Exchange::Answered(Answer {
        status: 400,
        body: body.as_bytes().to_vec(),
        ..Answer::default()
    })
}

proptest! {
    #![proptest_config(generators::config())]

    /// A history of answers: each one makes clean outcomes, and a status that the API server takes and that stays small.
    #[test]
    fn whatever_graph_answers_the_status_is_clean_and_small(
        answers in prop::collection::vec((exchange(), exchange(), 0_u64..30_000, any::<bool>()), 1..8),
    ) {
        let scrubber = Scrubber::new(&inputs());
        let mut player = player();
        for (at, (read, register, pause, request)) in answers.iter().enumerate() {
            if *request {
                player.request(&format!("{at}"));
            }
            player.sleep(Duration::from_secs(*pause));
            let read = read_outcome(read, ReadFields::All, &scrubber, player.now());
            let register = register_outcome(register, &scrubber, player.now());
            check::read_outcome(&read);
            check::register_outcome(&register);
            let (wake, called) = player.pass(&read, &register);
            prop_assert!(called || wake.is_some());
            if let Some(Requeue::After(wait)) = wake {
                prop_assert!(wait <= Duration::from_secs(73 * 3600), "{wait:?}");
            }
            let shown = format!("{read:?} {register:?} {:?}", player.status());
            check::secrets_absent(&shown, &[TOKEN]);
            let pin = shown.split(|c: char| !c.is_ascii_digit()).any(|number| number == PIN);
            // A number in the place of a code is a number; it does not tell that it is the PIN.
            let codes = shown.contains(&format!("code: Some({PIN})"));
            prop_assert!(!pin || codes, "{shown}");
        }
    }
}

/// What to do and whether it is tried again comes last in a message, and Graph's words do not push it out.
#[test]
fn a_long_answer_leaves_the_advice_in_the_message() {
    let scrubber = Scrubber::new(&inputs());
    for letter in ["x", "é", "<", "\"", "\u{2028}", "\u{1}", "😀"] {
        let text = letter.repeat(2_000);
        let error = json!({"code": 133_005, "message": text, "error_data": {"details": text}});
        let body = json!({ "error": error }).to_string();
        let mut player = player();
        let found = Exchange::Answered(Answer {
            status: 200,
            body: br#"{"platform_type": "NOT_APPLICABLE"}"#.to_vec(),
            ..Answer::default()
        });
        let unknown = read_outcome(&found, ReadFields::All, &scrubber, player.now());
        let register = register_outcome(&answered(&body), &scrubber, player.now());
        player.pass(&unknown, &register);
        for condition in player.status().conditions {
            let advice = format!(
                "{} No further attempt will be made until then.",
                register.reason.advice()
            );
            assert!(
                condition.message.ends_with(&advice),
                "{}",
                condition.message
            );
        }
    }
}

/// JSON that is nested ten thousand deep, open or closed, is no answer, and no stack is used up by it.
#[test]
fn deep_nesting_is_no_answer() {
    let scrubber = Scrubber::new(&inputs());
    for (open, close) in [
        ("[", "]"),
        ("{\"error\":", "}"),
        ("{\"error\":{\"error_data\":", "}}"),
    ] {
        for close in ["", close] {
            let body = format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
            let now = Timestamp::UNIX_EPOCH;
            let outcome = register_outcome(&answered(&body), &scrubber, now);
            assert_eq!(outcome.reason, Reason::OutcomeUnknown);
            assert_eq!(
                read_outcome(&answered(&body), ReadFields::All, &scrubber, now).state,
                RegistrationState::Wait(Reason::GraphUnavailable)
            );
        }
    }
}

/// Time does not run away with the size of a header.
#[test]
fn headers_of_a_megabyte_take_little_time() {
    let size = 1 << 20;
    for text in [
        "[".repeat(size),
        "[1,".repeat(size / 3),
        "[{},".repeat(100) + &"{\"type\":\"whatsapp\"},".repeat(size / 22),
        format!("{{\"1\":[{}0]}}", "0,".repeat(size / 2)),
        "9".repeat(size),
        format!("{TOKEN} ").repeat(size / 34),
    ] {
        let mut headers = HeaderMap::new();
        for name in ["x-business-use-case-usage", "retry-after", "x-fb-trace-id"] {
            headers.append(name, HeaderValue::from_str(&text).expect("a header value"));
        }
        let started = Instant::now();
        check::wait(retry_after(&headers, Timestamp::UNIX_EPOCH));
        let answer = Answer {
            status: 200,
            headers,
            ..Answer::default()
        };
        let scrubber = Scrubber::new(&inputs());
        let outcome = register_outcome(
            &Exchange::Answered(answer),
            &scrubber,
            Timestamp::UNIX_EPOCH,
        );
        check::register_outcome(&outcome);
        check::secrets_absent(&format!("{outcome:?}"), &[TOKEN]);
        // What is quadratic takes hours.
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{:?}",
            started.elapsed()
        );
    }
}

/// The longest wait that a header can name, in every way to write it.
#[test]
fn no_header_makes_a_wait_longer_than_three_days() {
    let longest = Some(Duration::from_secs(72 * 3600));
    for number in [
        "18446744073709551615",
        "9e99",
        "1e308",
        "\"inf\"",
        "\"1e999\"",
        "999999999999999999999999",
    ] {
        let usage = format!(
            "{{\"1\":[{{\"type\":\"whatsapp\",\"estimated_time_to_regain_access\":{number}}}]}}"
        );
        for (name, value) in [
            ("x-business-use-case-usage", usage.as_str()),
            ("retry-after", number.trim_matches('"')),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(name, HeaderValue::from_str(value).expect("a header value"));
            assert_eq!(
                retry_after(&headers, Timestamp::UNIX_EPOCH),
                longest,
                "{name}: {value}"
            );
        }
    }
    for text in [
        "-1",
        "-inf",
        "nan",
        "-18446744073709551615",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "1 minute",
    ] {
        let mut headers = HeaderMap::new();
        headers.append(
            "retry-after",
            HeaderValue::from_str(text).expect("a header value"),
        );
        assert_eq!(retry_after(&headers, Timestamp::UNIX_EPOCH), None, "{text}");
    }
}
