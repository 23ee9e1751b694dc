//! Bytes that Graph, or something on the way, could send: JSON as text, so that it may also be wrong.

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use operator_core::graph::response::{Answer, Exchange};
use testkit::builders::{PIN, TOKEN};

/// A fixed seed, so that what fails does so for everybody; for more: `PROPTEST_RNG_SEED=7 PROPTEST_CASES=20000 cargo test
/// untrusted_input`.
pub(super) fn config() -> ProptestConfig {
    let given = |name: &str| std::env::var_os(name).is_some();
    let mut config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    if !given("PROPTEST_CASES") {
        config.cases = 64;
    }
    if !given("PROPTEST_RNG_SEED") {
        config.rng_seed = RngSeed::Fixed(20_261_122);
    }
    config
}

/// Names that the operator looks for, and some that it does not.
const NAMES: &[&str] = &[
    "success",
    "error",
    "value",
    "successful_registration",
    "message",
    "type",
    "code",
    "error_subcode",
    "is_transient",
    "error_user_title",
    "error_user_msg",
    "error_data",
    "details",
    "fbtrace_id",
    "status",
    "platform_type",
    "code_verification_status",
    "display_phone_number",
    "verified_name",
    "quality_rating",
    "id",
    "access_token",
    "estimated_time_to_regain_access",
    "",
    "\\ud800",
];

/// The fields of an error, each as Graph sends it.
const ERROR: &[(&str, &str)] = &[
    (
        "message",
        "\"(#133005) Two step verification PIN Mismatch\"",
    ),
    ("type", "\"OAuthException\""),
    ("code", "133005"),
    ("error_subcode", "2388092"),
    ("is_transient", "false"),
    ("error_user_title", "\"Wrong PIN\""),
    ("error_user_msg", "\"The PIN is wrong.\""),
    (
        "error_data",
        "{\"messaging_product\":\"whatsapp\",\"details\":\"more\"}",
    ),
    ("fbtrace_id", "\"AbCdEfGhIjKlMnOpQrStUvW\""),
];

/// The fields of a number, each as Graph sends it.
const NUMBER: &[(&str, &str)] = &[
    ("id", "\"106540352242922\""),
    ("display_phone_number", "\"+1 555-123-4567\""),
    ("verified_name", "\"Jasper's Market\""),
    ("quality_rating", "\"GREEN\""),
    ("code_verification_status", "\"VERIFIED\""),
    ("platform_type", "\"CLOUD_API\""),
    ("status", "\"CONNECTED\""),
];

/// JSON that is one value, and not always JSON.
fn leaf() -> impl Strategy<Value = String> {
    let numbers = prop::sample::select(vec![
        "0",
        "-0",
        "1",
        "190",
        "133016",
        "1e999",
        "-1e-999",
        "18446744073709551616",
        "9223372036854775807",
        "-9223372036854775808",
        "1.5",
        "00",
        "NaN",
        "493817",
        "493817.0",
    ]);
    let texts = prop::sample::select(vec![
        "",
        " ",
        "\\ud800",
        "\\udc00\\ud800",
        "\\u0000",
        "\\u2028\\u202e",
        "a\\nb\\tc",
        "true",
        "133016",
        "EAA",
        "BANNED",
        "NOT_APPLICABLE",
        "\\\\\\\"",
        "whatsapp_business_management",
        "\u{1f600}",
        "access_token=abc",
    ]);
    prop_oneof![
        prop::sample::select(vec!["null", "true", "false", "", "[]", "{}"]).prop_map(str::to_owned),
        numbers.prop_map(str::to_owned),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:e}")),
        (texts, 0_usize..700).prop_map(|(text, times)| {
            let times = if times < 600 { 1 } else { times };
            format!("\"{}\"", text.repeat(times))
        }),
        Just(format!("\"Malformed access token {TOKEN}, pin {PIN}\"")),
        any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
    ]
}

/// A JSON text with names that come twice, wrong numbers, lone surrogates, values of any kind anywhere.
pub(super) fn json_text() -> impl Strategy<Value = String> {
    leaf().prop_recursive(4, 24, 6, |inner| {
        let pair = (prop::sample::select(NAMES), inner.clone());
        prop_oneof![
            1 => prop::collection::vec(inner, 0..4).prop_map(|all| format!("[{}]", all.join(","))),
            3 => prop::collection::vec(pair, 0..8).prop_map(|pairs| {
                object(pairs.into_iter())
            }),
        ]
    })
}

fn object(pairs: impl Iterator<Item = (&'static str, String)>) -> String {
    let pairs: Vec<_> = pairs
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    format!("{{{}}}", pairs.join(","))
}

/// An answer of Graph's in which up to three fields are something else.
fn near_valid() -> impl Strategy<Value = String> {
    let fields = prop::sample::select(vec![ERROR, NUMBER]);
    let changes = prop::collection::vec((0_usize..9, json_text()), 0..4);
    (fields, changes).prop_map(|(fields, changes)| {
        let value = |at: usize, value: &str| {
            let change = changes.iter().find(|(place, _)| *place == at);
            change.map_or(value.to_owned(), |(_, value)| value.clone())
        };
        let pairs = fields.iter().enumerate();
        let body = object(pairs.map(|(at, (name, text))| (*name, value(at, text))));
        if fields == ERROR {
            object([("error", body)].into_iter())
        } else {
            body
        }
    })
}

/// Any bytes, any JSON, or nearly what Graph says; sometimes cut off, or with a byte that is wrong.
pub(super) fn body() -> impl Strategy<Value = Vec<u8>> {
    let whole = prop_oneof![
        4 => near_valid().prop_map(String::into_bytes),
        3 => json_text().prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..300),
        1 => Just("{\"error\":".repeat(200).into_bytes()),
        1 => Just([&b"[".repeat(200)[..], &b"]".repeat(200)].concat()),
        1 => Just(b"\xef\xbb\xbf{\"success\":true}".to_vec()),
    ];
    (whole, any::<prop::sample::Index>(), any::<u8>(), 0..10).prop_map(
        |(mut body, at, byte, what)| {
            if !body.is_empty() {
                let at = at.index(body.len());
                match what {
                    0 => body.truncate(at),
                    1 => body[at] = byte,
                    2 => body.insert(at, 0),
                    _ => {}
                }
            }
            body
        },
    )
}

/// A header that the operator reads, with a value of any kind.
fn header() -> impl Strategy<Value = (HeaderName, Vec<u8>)> {
    let name = prop::sample::select(vec![
        "retry-after",
        "x-business-use-case-usage",
        "x-fb-trace-id",
        "x-fb-request-id",
        "www-authenticate",
        "x-app-usage",
    ]);
    let usage = leaf().prop_map(|value| {
        format!("{{\"1\":[{{\"type\":\"whatsapp\",\"estimated_time_to_regain_access\":{value}}}]}}")
    });
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..100),
        usage.prop_map(String::into_bytes),
        json_text().prop_map(String::into_bytes),
        leaf().prop_map(String::into_bytes),
        Just(TOKEN.as_bytes().to_vec()),
        Just("Fri, 31 Dec 9999 23:59:59 GMT".as_bytes().to_vec()),
        Just("Thu, 01 Jan 0000 00:00:00 -2359".as_bytes().to_vec()),
    ];
    (name.prop_map(HeaderName::from_static), value)
}

/// How sending a request ended.
pub(super) fn exchange() -> impl Strategy<Value = Exchange> {
    let status = prop_oneof![
        Just(200),
        prop::sample::select(vec![204_u16, 302, 400, 401, 422, 429, 500, 503]),
        100_u16..1000,
    ];
    let headers = prop::collection::vec(header(), 0..4);
    let fault = prop::option::weighted(0.2, "broke off: .{0,40}");
    let answered = (status, headers, body(), fault).prop_map(|(status, pairs, body, fault)| {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(name, value);
            }
        }
        Exchange::Answered(Answer {
            status,
            headers,
            body,
            fault,
        })
    });
    prop_oneof![
        10 => answered,
        1 => any::<String>().prop_map(|text| Exchange::Lost(format!("{text} {TOKEN}"))),
        1 => any::<String>().prop_map(Exchange::NotSent),
    ]
}
