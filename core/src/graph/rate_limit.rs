//! For how long Graph asks not to be called, from the headers of an answer. Pure: the time is an argument.
//!
//! `X-Business-Use-Case-Usage` is what the Graph API's rate limiting page documents; `Retry-After` is on no page of
//! Meta's and is honoured where something on the way adds it. Calling on while throttled lengthens the wait, so the longer
//! one counts. Both `X-…-Usage` headers also say how much of a limit is used up; `X-Ad-Account-Usage` is about advertisements.

use std::time::Duration;
use std::{fmt, iter};

use http::HeaderMap;
use http::header::{HeaderName, RETRY_AFTER};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// The longest wait that is accepted.
pub const MAX_WAIT: Duration = Duration::from_secs(72 * 60 * 60);

const BUSINESS_USE_CASE_USAGE: HeaderName = HeaderName::from_static("x-business-use-case-usage");

/// The limit of the app, for which Graph names no time.
const APP_USAGE: HeaderName = HeaderName::from_static("x-app-usage");

/// Percentages of a limit.
const SHARES: &[&str] = &["call_count", "total_time", "total_cputime"];

/// The entries of the header that are about WhatsApp have types that begin so.
const WHATSAPP: &str = "whatsapp";

/// Minutes until calls are let through again.
const REGAIN: &str = "estimated_time_to_regain_access";

/// The values of the header's object, those of repeated keys too: Meta's own sample of the header has one account twice.
struct Accounts(Vec<Value>);

impl<'de> Deserialize<'de> for Accounts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AccountsVisitor)
    }
}

struct AccountsVisitor;

impl<'de> Visitor<'de> for AccountsVisitor {
    type Value = Accounts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Accounts, A::Error> {
        let values = iter::from_fn(|| seq.next_element().transpose());
        values.collect::<Result<_, _>>().map(Accounts)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Accounts, A::Error> {
        let values = iter::from_fn(|| map.next_entry::<IgnoredAny, Value>().transpose());
        let values = values.map(|entry| entry.map(|(_, value)| value));
        values.collect::<Result<_, _>>().map(Accounts)
    }
}

/// How long to wait, by the headers of an answer; `None` if they name no wait.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let wait = business_use_case(headers)
        .max(retry_after_header(headers, now))?
        .min(MAX_WAIT);
    (!wait.is_zero()).then_some(wait)
}

/// The largest wait of an entry about WhatsApp.
fn business_use_case(headers: &HeaderMap) -> Option<Duration> {
    accounts(headers, BUSINESS_USE_CASE_USAGE)
        .filter_map(|account| largest(&account, regain_minutes))
        .reduce(f64::max)
        .map(|minutes| seconds(minutes.ceil() * 60.0))
}

/// The largest number of the entries in this value. They are in a list for each account, but the code does not rely on the shape, so that
/// a malformed entry hides no other.
fn largest(json: &Value, of: fn(&Map<String, Value>) -> Option<f64>) -> Option<f64> {
    match json {
        Value::Array(entries) => entries
            .iter()
            .filter_map(|entry| largest(entry, of))
            .reduce(f64::max),
        Value::Object(fields) => fields
            .values()
            .filter_map(|field| largest(field, of))
            .chain(of(fields))
            .reduce(f64::max),
        _ => None,
    }
}

/// The regain time of an entry, if it is about WhatsApp.
fn regain_minutes(entry: &Map<String, Value>) -> Option<f64> {
    entry.get("type")?.as_str()?.strip_prefix(WHATSAPP)?;
    entry.get(REGAIN).and_then(number)
}

/// The share of its limit that an entry has used up, if it is about WhatsApp or the app, whose entry has no type.
fn share(entry: &Map<String, Value>) -> Option<f64> {
    let kind = entry.get("type").and_then(Value::as_str);
    kind.unwrap_or(WHATSAPP).strip_prefix(WHATSAPP)?;
    let shares = SHARES.iter().filter_map(|name| entry.get(*name));
    shares.filter_map(number).reduce(f64::max)
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(number) => number.trim().parse().ok(),
        _ => None,
    }
}

/// The accounts in all headers of this name.
fn accounts(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = Value> {
    let values = headers.get_all(name).into_iter();
    values
        .filter_map(|value| serde_json::from_slice(value.as_bytes()).ok())
        .flat_map(|Accounts(accounts)| accounts)
}

/// The largest share of a rate limit that is used up, in percent, by the headers of an answer.
pub fn usage(headers: &HeaderMap) -> Option<u32> {
    let app = headers.get_all(APP_USAGE).into_iter();
    let app = app.filter_map(|value| serde_json::from_slice(value.as_bytes()).ok());
    let all = app.chain(accounts(headers, BUSINESS_USE_CASE_USAGE));
    let largest = all
        .filter_map(|entry| largest(&entry, share))
        .reduce(f64::max)?;
    // Nothing above a hundred says more; NaN is nothing.
    Some(largest.clamp(0.0, 100.0) as u32)
}

/// Seconds or an HTTP date.
fn retry_after_header(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let waits = headers
        .get_all(RETRY_AFTER)
        .iter()
        .filter_map(|value| value.to_str().ok());
    waits.filter_map(|text| delay(text.trim(), now)).max()
}

fn delay(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(number) = text.parse::<f64>() {
        return Some(seconds(number));
    }
    let until = DateTimeParser::new().parse_timestamp(text).ok()?;
    Duration::try_from(until.duration_since(now)).ok()
}

/// Whole seconds, rounded up, within the bounds; NaN means no wait.
fn seconds(number: f64) -> Duration {
    let bounded = number.max(0.0).min(MAX_WAIT.as_secs_f64());
    Duration::try_from_secs_f64(bounded.ceil()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn wait(pairs: &[(&'static str, &str)]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).expect("a header value"));
        }
        let now = "2026-11-22T12:00:00Z".parse().expect("a time");
        retry_after(&headers, now).map(|wait| wait.as_secs())
    }

    fn usage(json: &str) -> Option<u64> {
        wait(&[("x-business-use-case-usage", json)])
    }

    #[test]
    fn the_documented_shape() {
        let json = r#"{"1064":[{"type":"whatsapp_business_management","call_count":100,"total_cputime":25,"total_time":25,"estimated_time_to_regain_access":19},{"type":"whatsapp","estimated_time_to_regain_access":7}]}"#;
        assert_eq!(usage(json), Some(19 * 60));
    }

    #[test]
    fn all_other_shapes() {
        for (json, minutes) in [
            (
                r#"{"1":{"type":"whatsapp","estimated_time_to_regain_access":3}}"#,
                Some(3),
            ),
            (
                r#"[{"type":"whatsapp","estimated_time_to_regain_access":3}]"#,
                Some(3),
            ),
            (
                r#"{"1":[{"type":"whatsapp","estimated_time_to_regain_access":"4"}]}"#,
                Some(4),
            ),
            (
                r#"{"1":[{"type":"whatsapp","estimated_time_to_regain_access":1.5}]}"#,
                Some(2),
            ),
            // Of a repeated key the last value counts, as in every common JSON reader.
            (
                r#"{"1":[{"type":"whatsapp","estimated_time_to_regain_access":9}],"1":[{"type":"whatsapp","estimated_time_to_regain_access":2}]}"#,
                Some(9),
            ),
            (
                r#"{"1":[{"type":"whatsapp","estimated_time_to_regain_access":9,"estimated_time_to_regain_access":2}]}"#,
                Some(2),
            ),
            // A malformed entry hides no other.
            (
                r#"{"0":null,"1":[7,{"type":5},{"type":"whatsapp","estimated_time_to_regain_access":{}},{"type":"whatsapp","estimated_time_to_regain_access":6}],"2":"x"}"#,
                Some(6),
            ),
            (
                r#"{"1":[{"type":"whatsapp","estimated_time_to_regain_access":1}],"2":[{"type":"whatsapp_x","estimated_time_to_regain_access":8}]}"#,
                Some(8),
            ),
            (
                r#"{"1":[{"type":"ads_management","estimated_time_to_regain_access":50}]}"#,
                None,
            ),
            (r#"{"1":[{"estimated_time_to_regain_access":50}]}"#, None),
            (
                r#"{"1":[{"type":"whatsapp","estimated_time_to_regain_access":0}]}"#,
                None,
            ),
            (
                r#"{"1":[{"type":"whatsapp","estimated_time_to_regain_access":-5}]}"#,
                None,
            ),
            (
                r#"{"1":[{"type":"whatsapp","estimated_time_to_regain_access":null}]}"#,
                None,
            ),
            (
                r#"{"1":[{"type":"whatsapp","estimated_time_to_regain_access":"soon"}]}"#,
                None,
            ),
            (
                r#"{"1":[{"type":"whatsapp","estimated_time_to_regain_access":"NaN"}]}"#,
                None,
            ),
            (
                r#"{"1":[{"type":"whatsapp","estimated_time_to_regain_access":1e300}]}"#,
                Some(72 * 60),
            ),
            (
                r#"{"1":[{"type":"whatsapp","estimated_time_to_regain_access":"inf"}]}"#,
                Some(72 * 60),
            ),
            ("", None),
            ("{", None),
            ("17", None),
        ] {
            assert_eq!(usage(json), minutes.map(|minutes| minutes * 60), "{json}");
        }
    }

    #[test]
    fn retry_after_in_seconds_or_as_a_date() {
        for (text, expected) in [
            ("120", Some(120)),
            (" 120 ", Some(120)),
            ("0.2", Some(1)),
            ("0", None),
            ("-1", None),
            ("Sun, 22 Nov 2026 12:01:30 GMT", Some(90)),
            ("Sun, 22 Nov 2026 11:00:00 GMT", None),
            ("Fri, 22 Nov 2126 12:00:00 GMT", Some(MAX_WAIT.as_secs())),
            ("99999999999999999999", Some(MAX_WAIT.as_secs())),
            ("later", None),
            ("", None),
        ] {
            assert_eq!(wait(&[("retry-after", text)]), expected, "{text}");
        }
    }

    #[test]
    fn the_longest_of_several_headers_counts() {
        let usage = (
            "x-business-use-case-usage",
            r#"{"1":[{"type":"whatsapp","estimated_time_to_regain_access":2}]}"#,
        );
        assert_eq!(wait(&[("retry-after", "600"), usage]), Some(600));
        assert_eq!(wait(&[("retry-after", "60"), usage]), Some(120));
        assert_eq!(
            wait(&[("retry-after", "60"), ("retry-after", "90")]),
            Some(90)
        );
        assert_eq!(wait(&[("x-app-usage", r#"{"call_count":100}"#)]), None);
        assert_eq!(wait(&[]), None);
    }

    proptest! {
        #[test]
        fn any_header_gives_a_bounded_wait(bytes in prop::collection::vec(any::<u8>(), 0..200), regain in any::<f64>()) {
            let json = format!(r#"{{"1":[{{"type":"whatsapp","estimated_time_to_regain_access":{regain:e}}}]}}"#);
            let mut headers = HeaderMap::new();
            for value in [HeaderValue::from_bytes(&bytes), HeaderValue::from_str(&json)].into_iter().flatten() {
                headers.append(BUSINESS_USE_CASE_USAGE, value.clone());
                headers.append(RETRY_AFTER, value);
            }
            let wait = retry_after(&headers, Timestamp::UNIX_EPOCH);
            prop_assert!(wait.is_none_or(|wait| !wait.is_zero() && wait <= MAX_WAIT));
        }
    }
}
