//! Answers as they come, and as they should never come.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use jiff::Timestamp;
use operator_core::api::*;
use operator_core::credentials::*;
use operator_core::graph::response::*;
use operator_core::graph::*;
use testkit::builders::{PIN, TOKEN, inputs};

fn answer(status: u16, body: &str) -> Answer {
    Answer {
        status,
        body: body.as_bytes().to_vec(),
        ..Answer::default()
    }
}

fn with_headers(mut answer: Answer, headers: &[(&'static str, &'static str)]) -> Answer {
    let pairs = headers.iter().map(|(name, value)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    });
    answer.headers = pairs.collect::<HeaderMap>();
    answer
}

fn registered(answer: Answer) -> RegisterOutcome {
    register_outcome(
        &Exchange::Answered(answer),
        &Scrubber::new(&inputs()),
        Timestamp::UNIX_EPOCH,
    )
}

fn looked_at(answer: Answer) -> ReadOutcome {
    read_outcome(
        &Exchange::Answered(answer),
        ReadFields::All,
        &Scrubber::new(&inputs()),
        Timestamp::UNIX_EPOCH,
    )
}

fn register_reason_of(status: u16, body: &str) -> Reason {
    registered(answer(status, body)).reason
}

fn verdict_of(status: u16, body: &str) -> RegistrationState {
    looked_at(answer(status, body)).state
}

fn error_body(code: i64) -> String {
    json!({"error": {"message": format!("(#{code}) x"), "type": "OAuthException", "code": code}})
        .to_string()
}

#[test]
fn success_in_every_accepted_form() {
    for body in [
        r#"{"success":true}"#,
        r#" {"success":"true"} "#,
        r#"{"success":true,"pin_status":"unchanged","error":null}"#,
        r#"{"successful_registration":{"summary":"Successful registration","value":{"success":true}}}"#,
        r#"\{"successful_registration":{"summary":"Successful registration","value":{"success":true}}}"#,
    ] {
        let outcome = registered(answer(200, body));
        assert_eq!(outcome.reason, Reason::RegistrationSucceeded, "{body}");
        assert_eq!(outcome.error, None);
        assert_eq!(outcome.message, "Graph answered HTTP 200: success");
    }
}

#[test]
fn an_object_without_success_is_rejected() {
    for body in [
        "{}",
        r#"{"success":false}"#,
        r#"{"success":1}"#,
        r#"{"success":null}"#,
        r#"{"value":{"success":true}}"#,
        r#"{"id":"1"}"#,
    ] {
        let outcome = registered(answer(200, body));
        assert_eq!(outcome.reason, Reason::RegistrationRejected, "{body}");
        assert_eq!(outcome.error.and_then(|error| error.http_status), Some(200));
        assert_eq!(outcome.message, "Graph answered HTTP 200 without success");
    }
}

#[test]
fn what_is_no_graph_answer_leaves_the_outcome_open() {
    let html = "<html><title>Sorry, something went wrong</title></html>";
    let bodies = [
        "",
        " ",
        html,
        r#"{"succ"#,
        "[]",
        "true",
        "null",
        r#""success""#,
        "\u{0}",
        "[[[[",
    ];
    for status in [200, 204, 400, 403, 404, 422, 500, 502, 503, 504] {
        for body in bodies {
            assert_eq!(
                register_reason_of(status, body),
                Reason::OutcomeUnknown,
                "HTTP {status} {body}"
            );
        }
    }
    for body in bodies {
        assert_eq!(register_reason_of(429, body), Reason::RateLimited, "{body}");
    }
    // JSON of a gateway: no error of Graph, and no success under that status.
    for body in [
        r#"{"success":true}"#,
        r#"{"error":"bad gateway"}"#,
        r#"{"error":{"message":"bad"}}"#,
        "{}",
    ] {
        assert_eq!(
            register_reason_of(502, body),
            Reason::OutcomeUnknown,
            "{body}"
        );
        assert_eq!(
            register_reason_of(403, body),
            Reason::OutcomeUnknown,
            "{body}"
        );
    }
}

#[test]
fn a_redirect_leaves_the_outcome_open_whatever_it_says() {
    assert_eq!(
        register_reason_of(302, r#"{"success":true}"#),
        Reason::OutcomeUnknown
    );
    assert_eq!(
        register_reason_of(302, &error_body(190)),
        Reason::OutcomeUnknown
    );
}

#[test]
fn an_error_decides_whatever_the_status() {
    for status in [200, 400, 401, 403, 422, 429, 500, 503] {
        assert_eq!(
            register_reason_of(status, &error_body(133_005)),
            Reason::PinMismatch,
            "HTTP {status}"
        );
        assert_eq!(
            register_reason_of(status, &error_body(190)),
            Reason::TokenRejected,
            "HTTP {status}"
        );
    }
    let both = json!({"success": true, "error": {"code": 133_016}}).to_string();
    assert_eq!(register_reason_of(200, &both), Reason::RegistrationBlocked);
    assert_eq!(
        register_reason_of(200, &error_body(999_999)),
        Reason::RegistrationRejected
    );
}

#[test]
fn an_error_is_read_in_full() {
    let body = json!({"error": {
        "message": "(#133005) Two step verification PIN Mismatch",
        "type": "OAuthException",
        "code": 133_005,
        "error_data": {"messaging_product": "whatsapp", "details": "Please check the PIN."},
        "error_subcode": 2_494_073,
        "is_transient": false,
        "error_user_title": "PIN",
        "error_user_msg": "Falsche PIN",
        "fbtrace_id": "AbC",
    }});
    let outcome = registered(answer(400, &body.to_string()));
    assert_eq!(outcome.reason, Reason::PinMismatch);
    assert_eq!(outcome.fbtrace_id.as_deref(), Some("AbC"));
    assert_eq!(
        outcome.message,
        "Graph answered HTTP 400, code 133005, subcode 2494073: \"(#133005) Two step verification PIN Mismatch\" (details: Please check the PIN.), trace AbC"
    );
    let expected = GraphErrorStatus {
        http_status: Some(400),
        type_: Some("OAuthException".to_owned()),
        code: Some(133_005),
        subcode: Some(2_494_073),
        message: Some(
            "(#133005) Two step verification PIN Mismatch (details: Please check the PIN.)"
                .to_owned(),
        ),
        user_title: Some("PIN".to_owned()),
        user_message: Some("Falsche PIN".to_owned()),
        fbtrace_id: Some("AbC".to_owned()),
        transient: Some(false),
    };
    assert_eq!(outcome.error, Some(expected));
}

#[test]
fn errors_are_read_leniently() {
    for (error, reason, message) in [
        (json!({"code": "133005"}), Reason::PinMismatch, None),
        (
            json!({"code": "100", "error_subcode": "33", "message": "m"}),
            Reason::PhoneNumberNotFound,
            Some("m"),
        ),
        (
            json!({"code": 190, "error_data": "why"}),
            Reason::TokenRejected,
            Some("why"),
        ),
        (
            json!({"code": 190, "message": "m", "error_data": [1, {"a": 2}]}),
            Reason::TokenRejected,
            Some("m (details: [1,{\"a\":2}])"),
        ),
        (
            json!({"code": 190, "message": "m", "error_data": null}),
            Reason::TokenRejected,
            Some("m"),
        ),
        (
            json!({"code": 190, "message": "m", "error_data": {"details": 7}}),
            Reason::TokenRejected,
            Some("m (details: 7)"),
        ),
        (
            json!({"code": 777, "is_transient": "true"}),
            Reason::GraphUnavailable,
            None,
        ),
        (
            json!({"code": 777, "is_transient": true}),
            Reason::GraphUnavailable,
            None,
        ),
        (
            json!({"code": 777, "is_transient": 5}),
            Reason::InvalidRequest,
            None,
        ),
        (
            json!({"type": "OAuthException"}),
            Reason::InvalidRequest,
            None,
        ),
        (
            json!({"code": {}, "fbtrace_id": "x"}),
            Reason::InvalidRequest,
            None,
        ),
    ] {
        let body = json!({"error": error}).to_string();
        let outcome = registered(answer(400, &body));
        assert_eq!(outcome.reason, reason, "{body}");
        let shown = outcome.error.unwrap_or_else(|| panic!("{body}"));
        assert_eq!(shown.message.as_deref(), message, "{body}");
    }
}

#[test]
fn the_trace_id_comes_from_the_error_else_from_a_header() {
    let headers = [("x-fb-trace-id", "header"), ("x-fb-request-id", "request")];
    let with_id = json!({"error": {"code": 1, "fbtrace_id": "error"}}).to_string();
    let blank_id = json!({"error": {"code": 1, "fbtrace_id": " "}}).to_string();
    let trace =
        |body: &str, headers: &[_]| registered(with_headers(answer(500, body), headers)).fbtrace_id;
    assert_eq!(trace(&with_id, &headers).as_deref(), Some("error"));
    assert_eq!(trace(&blank_id, &headers).as_deref(), Some("header"));
    assert_eq!(
        trace(
            "",
            &[("x-fb-trace-id", " "), ("x-fb-request-id", "request")]
        )
        .as_deref(),
        Some("request")
    );
    assert_eq!(
        trace("", &[("x-fb-trace-id", "EAAGm0PX4ZCps")]).as_deref(),
        Some("[redacted]")
    );
    assert_eq!(trace("", &[]), None);
}

#[test]
fn waits_come_from_the_headers() {
    let limited = with_headers(answer(400, &error_body(80_008)), &[("retry-after", "90")]);
    assert_eq!(
        registered(limited).retry_after,
        Some(Duration::from_secs(90))
    );
    let limited = with_headers(answer(429, ""), &[("retry-after", "90")]);
    let outcome = looked_at(limited);
    assert_eq!(
        (outcome.state, outcome.retry_after),
        (
            RegistrationState::Wait(Reason::RateLimited),
            Some(Duration::from_secs(90))
        )
    );
}

#[test]
fn what_is_used_up_comes_from_the_headers() {
    const APP: &str = "x-app-usage";
    const BUSINESS: &str = "x-business-use-case-usage";
    let used = |headers: &[_]| looked_at(with_headers(answer(200, "{}"), headers)).usage;
    for (headers, expected) in [
        (&[][..], None),
        (&[(APP, "no JSON")], None),
        (
            &[(
                APP,
                r#"{"call_count": 28, "total_time": 25, "total_cputime": 24}"#,
            )],
            Some(28),
        ),
        (
            &[(APP, r#"{"call_count": 0, "total_time": "93.7"}"#)],
            Some(93),
        ),
        (&[(APP, r#"{"call_count": 250}"#)], Some(100)),
        (
            &[(
                BUSINESS,
                r#"{"1": [{"type": "whatsapp", "call_count": 40}]}"#,
            )],
            Some(40),
        ),
        (
            &[(
                BUSINESS,
                r#"{"1": [{"type": "messenger", "call_count": 40}]}"#,
            )],
            None,
        ),
        (
            &[
                (
                    BUSINESS,
                    r#"{"1": [{"type": "whatsapp_business_management", "total_time": 7}, 3]}"#,
                ),
                (APP, r#"{"call_count": 5}"#),
            ],
            Some(7),
        ),
    ] {
        assert_eq!(used(headers), expected, "{headers:?}");
    }
}

#[test]
fn the_version_that_answered_comes_from_a_header() {
    let version = |headers: &[_]| looked_at(with_headers(answer(200, "{}"), headers)).version;
    let answered = version(&[("facebook-api-version", "v24.0")]);
    assert_eq!(answered.as_deref(), Some("v24.0"));
    assert_eq!(version(&[("facebook-api-version", " ")]), None);
    assert_eq!(version(&[]), None);
}

/// It is the outcome of a register call but for its success.
#[test]
fn deregister_calls_have_the_same_outcomes() {
    let body = json!({"success": true}).to_string();
    for (status, body, expected) in [
        (200, body.as_str(), Reason::Deregistered),
        (200, "{}", Reason::RegistrationRejected),
        (400, &error_body(133_016), Reason::RegistrationBlocked),
    ] {
        let exchange = Exchange::Answered(answer(status, body));
        let scrubber = Scrubber::new(&inputs());
        let outcome = deregister_outcome(&exchange, &scrubber, Timestamp::UNIX_EPOCH);
        assert_eq!(outcome.reason, expected, "{body}");
        let of_register = registered(answer(status, body));
        assert_eq!(outcome.message, of_register.message);
    }
}

#[test]
fn a_message_says_what_is_wrong_with_an_answer() {
    let message = |status, body: &str| registered(answer(status, body)).message;
    let expected = "Graph answered HTTP 502 with an empty body";
    assert_eq!(message(502, ""), expected);
    let expected = "Graph answered HTTP 502 with a body that is not a Graph answer";
    assert_eq!(message(502, "<html>"), expected);
    let expected = "Graph answered HTTP 200 with JSON that is not a Graph answer to this call";
    assert_eq!(looked_at(answer(200, "{}")).message, expected);
    let broken = Answer {
        fault: Some("ended early".to_owned()),
        ..answer(200, "<html>")
    };
    let expected = "Graph answered HTTP 200 with a body that ended early";
    assert_eq!(registered(broken).message, expected);
}

#[test]
fn a_message_names_the_type_of_a_node_that_is_no_phone_number() {
    let message = |node: &str| {
        let text =
            format!("(#100) Tried accessing nonexisting field (status) on node type ({node})");
        let error = json!({"code": 100, "message": text});
        looked_at(answer(400, &json!({"error": error}).to_string())).message
    };
    let foreign = message("WhatsAppBusinessAccount");
    let says = " (this is the ID of a WhatsAppBusinessAccount)";
    assert!(foreign.ends_with(says), "{foreign}");
    let own = message("WhatsAppBusinessPhoneNumber");
    assert!(!own.contains("this is the ID of"), "{own}");
}

#[test]
fn numbers_are_judged_by_platform_and_status() {
    let registered = ["CONNECTED", "FLAGGED", "RATE_LIMITED", "RESTRICTED"];
    let others = [
        "PENDING",
        "UNKNOWN",
        "LINKED",
        "DISCONNECTED",
        "UNVERIFIED",
        "BANNED",
        "DELETED",
        "MIGRATED",
    ];
    for platform in ["CLOUD_API", "ON_PREMISE", "NOT_APPLICABLE", "NEW", ""] {
        for status in registered.into_iter().chain(others).chain([""]) {
            let expected = match (platform, status) {
                (_, "BANNED") => RegistrationState::Stall(Reason::AccountLocked),
                (_, "DELETED" | "MIGRATED") => {
                    RegistrationState::Stall(Reason::PhoneNumberNotFound)
                }
                ("NOT_APPLICABLE", _) | (_, "DISCONNECTED" | "UNVERIFIED") => {
                    RegistrationState::NotRegistered
                }
                ("CLOUD_API", status) if registered.contains(&status) => {
                    RegistrationState::Registered
                }
                (platform, "PENDING") if platform != "CLOUD_API" => {
                    RegistrationState::NotRegistered
                }
                _ => RegistrationState::Unclear(None),
            };
            let body = json!({"platform_type": platform, "status": status}).to_string();
            assert_eq!(verdict_of(200, &body), expected, "{body}");
        }
    }
}

#[test]
fn a_number_is_read_in_full() {
    let body = json!({
        "id": "1", "display_phone_number": "+1 555-010-0000", "verified_name": format!("Shop\n{TOKEN}"),
        "quality_rating": "GREEN", "code_verification_status": "EXPIRED", "platform_type": "CLOUD_API",
        "status": "CONNECTED", "throughput": {"level": "STANDARD"},
    });
    let outcome = looked_at(answer(200, &body.to_string()));
    assert_eq!(outcome.state, RegistrationState::Registered);
    assert_eq!(outcome.error, None);
    assert_eq!(
        outcome.message,
        "Graph answered HTTP 200: status CONNECTED, platform_type CLOUD_API"
    );
    let number = outcome.phone_number.expect("a number");
    assert_eq!(number.verified_name.as_deref(), Some("Shop [redacted]"));
    assert_eq!(
        number.display_phone_number.as_deref(),
        Some("+1 555-010-0000")
    );
    assert_eq!(number.code_verification_status.as_deref(), Some("EXPIRED"));
    assert_eq!(number.observed_time, None);
}

#[test]
fn reads_that_say_nothing_of_the_number() {
    let connected = r#"{"status":"CONNECTED","platform_type":"CLOUD_API"}"#;
    let unavailable = RegistrationState::Wait(Reason::GraphUnavailable);
    let limited = RegistrationState::Wait(Reason::RateLimited);
    let locked = RegistrationState::Stall(Reason::AccountLocked);
    let unclear = RegistrationState::Unclear(Some(Reason::InvalidRequest));
    let text = |code, message| {
        serde_json::json!({"error": {"code": code, "message": message}}).to_string()
    };
    for (status, body, expected) in [
        (
            401,
            error_body(190),
            RegistrationState::Stall(Reason::TokenRejected),
        ),
        (
            500,
            error_body(3),
            RegistrationState::Stall(Reason::PermissionDenied),
        ),
        (
            400,
            error_body(33),
            RegistrationState::Stall(Reason::PhoneNumberNotFound),
        ),
        (
            429,
            error_body(190),
            RegistrationState::Stall(Reason::TokenRejected),
        ),
        (400, error_body(4), limited),
        (500, error_body(80_008), limited),
        (200, error_body(17), limited),
        (429, String::new(), limited),
        (429, error_body(100), limited),
        (400, error_body(1), unavailable),
        (403, error_body(368), locked),
        (400, error_body(131_031), locked),
        (
            400,
            text(
                100,
                "API calls from the server require an appsecret_proof argument",
            ),
            RegistrationState::Stall(Reason::AppSecretRejected),
        ),
        (
            400,
            text(
                100,
                "(#100) Tried accessing nonexisting field (status) on node type (WhatsAppBusinessAccount)",
            ),
            RegistrationState::Stall(Reason::PhoneNumberNotFound),
        ),
        (
            400,
            text(
                100,
                "(#100) Tried accessing nonexisting field (quality_rating) on node type (WhatsAppBusinessPhoneNumber)",
            ),
            RegistrationState::LacksField,
        ),
        (
            400,
            text(100, "(#100) Missing Permission"),
            RegistrationState::Stall(Reason::PermissionDenied),
        ),
        (
            400,
            error_body(133_015),
            RegistrationState::Wait(Reason::RecentlyDeregistered),
        ),
        (500, error_body(999_999), unavailable),
        (500, error_body(100), unclear),
        (400, error_body(999_999), unclear),
        (200, error_body(999_999), unclear),
        (
            500,
            error_body(133_005),
            RegistrationState::Unclear(Some(Reason::PinMismatch)),
        ),
        (503, String::new(), unavailable),
        (502, "<html>".to_owned(), unavailable),
        (502, connected.to_owned(), unavailable),
        (302, connected.to_owned(), unavailable),
        (400, error_body(100), unclear),
        (403, "<html>".to_owned(), unavailable),
        (404, "<html>".to_owned(), unavailable),
        (407, String::new(), unavailable),
        (404, connected.to_owned(), unavailable),
        (200, "<html>".to_owned(), unavailable),
        (200, "{}".to_owned(), RegistrationState::Unclear(None)),
        (
            200,
            r#"{"id":"1"}"#.to_owned(),
            RegistrationState::Unclear(None),
        ),
    ] {
        let outcome = looked_at(answer(status, &body));
        assert_eq!(outcome.state, expected, "HTTP {status} {body}");
        assert_eq!(outcome.phone_number, None, "HTTP {status} {body}");
        assert_eq!(
            outcome.error.and_then(|error| error.http_status),
            Some(i32::from(status))
        );
    }
}

/// The token stays, and so do the digests: nothing but a person and the annotation helps.
#[test]
fn a_token_whose_user_has_to_log_in_says_so() {
    for (subcode, says) in [(459, true), (464, true), (463, false)] {
        let error = serde_json::json!({"code": 190, "error_subcode": subcode, "message": "no"});
        let body = serde_json::json!({"error": error}).to_string();
        let message = looked_at(answer(400, &body)).message;
        assert_eq!(message.contains("has to log in"), says, "{message}");
        assert_eq!(registered(answer(400, &body)).message, message);
    }
}

#[test]
fn exchanges_without_an_answer() {
    let scrubber = Scrubber::new(&inputs());
    let register = |exchange| register_outcome(&exchange, &scrubber, Timestamp::UNIX_EPOCH);
    let read =
        |exchange| read_outcome(&exchange, ReadFields::All, &scrubber, Timestamp::UNIX_EPOCH);
    let why = || format!("reset\n{TOKEN}");
    assert_eq!(
        register(Exchange::NotSent(why())).reason,
        Reason::GraphUnreachable
    );
    assert_eq!(
        register(Exchange::Lost(why())).reason,
        Reason::OutcomeUnknown
    );
    assert_eq!(register(Exchange::Lost(why())).message, "reset [redacted]");
    assert_eq!(
        read(Exchange::NotSent(why())).state,
        RegistrationState::Wait(Reason::GraphUnreachable)
    );
    assert_eq!(
        read(Exchange::Lost(why())).state,
        RegistrationState::Wait(Reason::GraphUnavailable)
    );
}

#[test]
fn half_a_body_counts_only_if_it_is_whole_json() {
    let cut = |body: &str| Answer {
        fault: Some("broke off".to_owned()),
        ..answer(200, body)
    };
    assert_eq!(
        registered(cut(r#"{"success":true}"#)).reason,
        Reason::RegistrationSucceeded
    );
    assert_eq!(
        registered(cut(r#"{"success":tr"#)).reason,
        Reason::OutcomeUnknown
    );
    assert_eq!(
        looked_at(cut(r#"{"status":"#)).state,
        RegistrationState::Wait(Reason::GraphUnavailable)
    );
}

/// JSON of any shape that likes the names Graph uses.
fn any_json() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec![
        "error",
        "code",
        "error_subcode",
        "message",
        "error_data",
        "details",
        "success",
        "value",
        "status",
        "fbtrace_id",
        "type",
        "is_transient",
        "platform_type",
        "verified_name",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        Just(Value::from(format!("x{TOKEN} pin {PIN}\n"))),
        Just(Value::from("y".repeat(2000))),
    ];
    leaf.prop_recursive(4, 40, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..6).prop_map(|pairs| pairs
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect::<Map<_, _>>()
                .into()),
        ]
    })
}

/// Every text of the outcomes is clean and bounded.
fn check(answer: impl Fn() -> Answer) -> Result<(), TestCaseError> {
    let (register, read) = (registered(answer()), looked_at(answer()));
    for (message, error) in [
        (&register.message, &register.error),
        (&read.message, &read.error),
    ] {
        prop_assert!(!message.chars().any(char::is_control), "{message}");
        prop_assert!(message.chars().count() < 2000);
        let error = error.clone().unwrap_or_default();
        for text in [
            error.message,
            error.type_,
            error.fbtrace_id,
            error.user_title,
            error.user_message,
        ]
        .into_iter()
        .flatten()
        {
            prop_assert!(text.chars().count() <= operator_core::api::text::TEXT);
        }
    }
    let shown = format!("{register:?} {read:?}");
    prop_assert!(
        !shown.contains(TOKEN) && !shown.contains(&format!("pin {PIN}")),
        "{shown}"
    );
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes_give_an_outcome(status in 100_u16..=999, body in prop::collection::vec(any::<u8>(), 0..300)) {
        check(|| Answer { status, body: body.clone(), ..Answer::default() })?;
    }

    #[test]
    fn any_json_gives_an_outcome(status in prop::sample::select(vec![200_u16, 302, 400, 429, 500]), json in any_json()) {
        check(|| answer(status, &json.to_string()))?;
        check(|| answer(status, &json!({"error": json}).to_string()))?;
    }

    #[test]
    fn only_an_object_that_says_so_is_a_success(json in any_json()) {
        let says_so = json.to_string().contains("\"success\":true") || json.to_string().contains("\"success\":\"true\"");
        let succeeded = register_reason_of(200, &json.to_string()) == Reason::RegistrationSucceeded;
        prop_assert!(says_so || !succeeded);
    }
}
