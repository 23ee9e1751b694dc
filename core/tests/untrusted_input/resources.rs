//! Secrets and resources that the API server takes, however odd: nothing panics, every pass ends, and what is written is
//! taken in turn.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::generators::{self, exchange};
use operator_core::api::Reason;
use operator_core::api::text::{MESSAGE, TEXT};
use operator_core::api::{REGISTER_REQUESTED_AT, WhatsAppPhoneNumber};
use operator_core::credentials::Scrubber;
use operator_core::credentials::{CallInputs, SecretData};
use operator_core::graph::ReadFields;
use operator_core::graph::response::{read_outcome, register_outcome};
use operator_core::model::event;
use testkit::builders::{inputs, spec};
use testkit::untrusted_input::check;
use testkit::untrusted_input::player::Player;
use testkit::untrusted_input::schema;

/// A text as somebody could have written it into a status.
fn text() -> impl Strategy<Value = Value> {
    prop_oneof![
        2 => any::<String>().prop_map(Value::from),
        1 => (prop::sample::select(vec!["x", "<", "\u{1}", "\u{1f600}"]), 0_usize..3000)
            .prop_map(|(letter, times)| letter.repeat(times).into()),
        1 => Just(json!("v23.0")),
    ]
}

fn time() -> impl Strategy<Value = Value> {
    let times = vec![
        "0001-01-01T00:00:00Z",
        "1970-01-01T00:00:00Z",
        "2027-01-15T08:00:00Z",
        "2027-01-18T09:00:00.999999999Z",
        "2027-01-15T08:00:00+14:00",
        "9999-12-30T22:00:00Z",
    ];
    prop_oneof![
        prop::sample::select(times).prop_map(Value::from),
        (1_799_700_000_i64..1_800_300_000).prop_map(|second| {
            json!(
                jiff::Timestamp::from_second(second)
                    .expect("a time")
                    .to_string()
            )
        }),
    ]
}

fn reason() -> impl Strategy<Value = Value> {
    let known: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    prop_oneof![
        5 => prop::sample::select(known).prop_map(Value::from),
        1 => "[A-Za-z]([A-Za-z0-9_,:]{0,40}[A-Za-z0-9_])?".prop_map(Value::from),
    ]
}

fn number() -> impl Strategy<Value = Value> {
    let numbers = vec![
        0,
        1,
        -1,
        60,
        190,
        422,
        500,
        133_005,
        i64::from(i32::MAX),
        i64::MAX,
        i64::MIN,
    ];
    prop_oneof![prop::sample::select(numbers), any::<i64>()].prop_map(Value::from)
}

fn small() -> impl Strategy<Value = Value> {
    prop_oneof![any::<i32>(), 0..600, Just(i32::MAX)].prop_map(Value::from)
}

fn optional(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Option<Value>> {
    prop::option::of(value)
}

/// An object of those fields that are there.
fn object<'a>(fields: impl IntoIterator<Item = (&'a str, Option<Value>)>) -> Value {
    let there = fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(there.collect())
}

fn attempt() -> impl Strategy<Value = Value> {
    let outcome = prop::sample::select(vec!["Succeeded", "Failed", "Unknown", "NotSent"]);
    let ttl = prop_oneof![0..100_i64, Just(i64::MAX)].prop_map(Value::from);
    let count = prop_oneof![1..9_i32, Just(i32::MAX)].prop_map(Value::from);
    let ended = (
        optional(time()),
        optional(outcome.prop_map(Value::from)),
        optional(reason()),
    );
    let told = (
        optional(small()),
        optional(number()),
        optional(number()),
        optional(text()),
    );
    (
        any::<String>(),
        time(),
        ttl,
        ended,
        told,
        optional(text()),
        optional(count),
    )
        .prop_map(
            |(
                id,
                start,
                ttl,
                (finish, outcome, reason),
                (http, code, subcode, trace),
                request,
                count,
            )| {
                object([
                    ("id", Some(id.into())),
                    ("startTime", Some(start)),
                    ("ttlSeconds", Some(ttl)),
                    ("finishTime", finish),
                    ("outcome", outcome),
                    ("reason", reason),
                    ("httpStatus", http),
                    ("code", code),
                    ("subcode", subcode),
                    ("fbtraceID", trace),
                    ("request", request),
                    ("count", count),
                ])
            },
        )
}

/// Conditions, each type once as the API server demands.
fn conditions() -> impl Strategy<Value = Value> {
    let types = [
        "Registered",
        "Ready",
        "Failed",
        "Reconciling",
        "Stalled",
        "example.com/Other",
    ];
    let truth = prop::sample::select(vec!["True", "False", "Unknown"]);
    let one = (truth, reason(), text(), time(), 0..i64::MAX);
    let all = prop::sample::subsequence(types.to_vec(), 0..=types.len());
    (all, prop::collection::vec(one, types.len())).prop_map(|(types, all)| {
        let condition = |(type_, (status, reason, message, time, generation))| {
            json!({"type": type_, "status": status, "reason": reason, "message": message,
                "lastTransitionTime": time, "observedGeneration": generation})
        };
        types
            .into_iter()
            .zip(all)
            .map(condition)
            .collect::<Vec<_>>()
            .into()
    })
}

fn error() -> impl Strategy<Value = Value> {
    let texts = (
        optional(text()),
        optional(text()),
        optional(text()),
        optional(text()),
    );
    let numbers = (optional(small()), optional(number()), optional(number()));
    (texts, numbers, prop::option::of(any::<bool>())).prop_map(
        |((message, type_, title, trace), (http, code, subcode), transient)| {
            object([
                ("message", message),
                ("type", type_),
                ("userTitle", title),
                ("fbtraceID", trace),
                ("httpStatus", http),
                ("code", code),
                ("subcode", subcode),
                ("transient", transient.map(Value::from)),
            ])
        },
    )
}

/// What a decision goes by: the registration, the wait, the stall, the verdict, the hold and the token's wait.
fn facts() -> impl Strategy<Value = [(&'static str, Option<Value>); 6]> {
    let finding = || (reason(), text(), time(), any::<bool>());
    let all = (
        optional(finding().prop_map(|(reason, message, _, _)| json!({"reason": reason, "message": message}))),
        optional(finding().prop_map(|(reason, message, until, confirming)| {
            json!({"reason": reason, "message": message, "until": until, "confirming": confirming})
        })),
        optional(finding().prop_map(|(reason, message, _, changed)| {
            json!({"reason": reason, "message": message, "tokenChanged": changed})
        })),
        optional(reason()),
        optional(finding().prop_map(|(reason, message, until, ends)| match ends {
            true => json!({"reason": reason, "message": message, "until": until}),
            false => json!({"reason": reason, "message": message}),
        })),
        optional((text(), time()).prop_map(|(digest, until)| json!({"digest": digest, "until": until}))),
    );
    all.prop_map(|(registration, wait, stall, verdict, hold, token_wait)| {
        [
            ("registration", registration),
            ("wait", wait),
            ("stall", stall),
            ("verdict", verdict),
            ("hold", hold),
            ("tokenWait", token_wait),
        ]
    })
}

/// A status as the CRD's schema admits it.
pub(crate) fn status() -> impl Strategy<Value = Value> {
    let ledger = prop::collection::vec(attempt(), 0..14).prop_map(Value::from);
    let words = (
        optional(text()),
        optional(text()),
        optional(text()),
        optional(text()),
    );
    let failures = (0..i32::MAX).prop_map(Value::from);
    let rest = (
        optional(time()),
        optional(time()),
        optional(error()),
        optional(failures),
    );
    (-1..i64::MAX, conditions(), ledger, facts(), words, rest).prop_map(
        |(
            generation,
            conditions,
            ledger,
            facts,
            (trace, token, inputs, handled),
            (next, since, error, failures),
        )| {
            let told = [
                ("observedGeneration", Some(generation.into())),
                ("conditions", Some(conditions)),
                ("attempts", Some(ledger)),
                ("fbtraceID", trace),
                ("tokenDigest", token),
                ("inputsDigest", inputs),
                ("lastHandledRegisterRequest", handled),
                ("nextAttemptTime", next),
                ("registrationTime", since),
                ("lastError", error),
                ("readFailures", failures),
            ];
            object(told.into_iter().chain(facts))
        },
    )
}

/// A resource as the API server stores it.
pub(crate) fn resource() -> impl Strategy<Value = Value> {
    let longest = format!("{}.{}", "a".repeat(126), "b".repeat(126));
    let annotation = prop::option::of(prop_oneof![
        any::<String>(),
        (
            prop::sample::select(vec!["x", "\"", "\u{1}", "é"]),
            0_usize..300
        )
            .prop_map(|(l, n)| l.repeat(n)),
    ]);
    let name = prop_oneof![Just("support".to_owned()), Just(longest.clone())];
    (name, annotation, 1..i64::MAX, status(), any::<bool>(), "[0-9]{1,32}").prop_map(
        move |(name, annotation, generation, status, suspend, number)| {
            json!({
                "apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppPhoneNumber",
                "metadata": {"name": name, "namespace": "n".repeat(63), "generation": generation, "uid": "1",
                    "annotations": object([(REGISTER_REQUESTED_AT, annotation.map(Value::from))])},
                "spec": {"phoneNumberID": number, "suspend": suspend,
                    "tokenSecretRef": {"name": longest, "key": "k".repeat(253)}, "pinSecretRef": {"name": "pin"}},
                "status": status,
            })
        },
    )
}

/// What a Secret may hold.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        any::<String>().prop_map(String::into_bytes),
        "[ \n\u{a0}]{0,3}[0-9]{5,7}[ \n]{0,3}".prop_map(String::into_bytes),
        "[ \n]{0,3}[!-~]{1,300}[ \n]{0,3}".prop_map(String::into_bytes),
    ]
}

proptest! {
    #![proptest_config(generators::config())]

    #[test]
    fn whatever_a_status_holds_the_pass_ends_and_its_write_is_taken(
        resource in resource(),
        answers in prop::collection::vec((exchange(), exchange()), 1..4),
        fault in prop::option::of(any::<bool>()),
    ) {
        let faults = schema::status_faults(&resource["status"]);
        prop_assert!(faults.is_empty(), "the generator makes what the API server refuses: {faults:?}");
        let resource: WhatsAppPhoneNumber = serde_json::from_value(resource).expect("a resource");
        if let Some(remark) = event::of_request(&resource) {
            check::notice(&remark);
        }
        let nothing = CallInputs::from_secrets(&resource.spec, |_| None).err();
        let scrubber = Scrubber::new(&inputs());
        let mut player = Player::new(resource.clone(), Ok(inputs().digests(&spec())));
        player.own = false;
        if let (Some(_), Some(fault)) = (fault, nothing) {
            player.world.secrets = Err(fault);
        }
        if fault == Some(true) {
            player.world.peers.owner = Some(format!("{}/{}", "n".repeat(63), "a".repeat(253)));
            player.world.peers.attempts = resource.status.iter().flat_map(|status| status.attempts.clone()).collect();
        }
        for (read, register) in answers {
            let read = read_outcome(&read, ReadFields::All, &scrubber, player.now());
            player.pass(&read, &register_outcome(&register, &scrubber, player.now()));
            player.sleep(std::time::Duration::from_secs(4 * 3600));
        }
    }

    #[test]
    fn whatever_a_secret_holds_it_makes_a_call_or_a_clean_fault(
        values in prop::collection::vec(bytes(), 5),
        there in prop::collection::vec(any::<bool>(), 2),
        missing in prop::collection::vec(prop::bool::weighted(0.1), 5),
    ) {
        let mut spec = spec();
        let long = "s".repeat(253);
        spec.token_secret_ref.name.clone_from(&long);
        spec.backup_secret_ref = there[0].then(|| serde_json::from_value(json!({"name": long})).expect("a reference"));
        spec.app_secret_ref = there[1].then(|| serde_json::from_value(json!({"name": long})).expect("a reference"));
        let keys = ["token", "pin", "password", "data", "appSecret"];
        let data: SecretData = keys
            .iter()
            .zip(values)
            .zip(&missing)
            .filter(|(_, missing)| !**missing)
            .map(|((key, bytes), _)| ((*key).to_owned(), ByteString(bytes)))
            .collect();
        match CallInputs::from_secrets(&spec, |_| Some(&data)) {
            Ok(inputs) => {
                let digests = inputs.digests(&spec);
                prop_assert_eq!(digests.token.len() + digests.inputs.len(), 128);
                check::text(&Scrubber::new(&inputs).scrub("x"), TEXT);
            }
            Err(fault) => {
                check::line(&fault.message, MESSAGE);
                let secrets = data.values().filter_map(|value| std::str::from_utf8(&value.0).ok());
                for secret in secrets.map(str::trim).filter(|secret| secret.len() >= 12) {
                    prop_assert!(!fault.message.contains(secret), "{}", fault.message);
                }
            }
        }
    }
}

/// The longest names and the largest values that the API server stores.
#[test]
fn a_secret_of_a_megabyte_makes_a_fault_or_a_call() {
    let mebibyte = vec![b'7'; 1 << 20];
    for key in ["token", "pin", "password", "data", "appSecret"] {
        let mut data: SecretData = BTreeMap::from([
            ("token".to_owned(), ByteString(b"EAAtoken".to_vec())),
            ("pin".to_owned(), ByteString(b"123456".to_vec())),
            ("password".to_owned(), ByteString(b"password".to_vec())),
            ("data".to_owned(), ByteString(b"data".to_vec())),
            ("appSecret".to_owned(), ByteString(b"secret".to_vec())),
        ]);
        data.insert(key.to_owned(), ByteString(mebibyte.clone()));
        let mut spec = spec();
        spec.backup_secret_ref =
            Some(serde_json::from_value(json!({"name": "b"})).expect("a reference"));
        spec.app_secret_ref =
            Some(serde_json::from_value(json!({"name": "a"})).expect("a reference"));
        match CallInputs::from_secrets(&spec, |_| Some(&data)) {
            Ok(inputs) => {
                assert!(
                    matches!(key, "password" | "data"),
                    "{key} can be of any size"
                );
                let clean = Scrubber::new(&inputs).scrub(&"7".repeat(70_000));
                assert_eq!(clean, "[redacted]");
            }
            Err(fault) => check::line(&fault.message, 400),
        }
    }
}
