//! What the API server keeps of a status. If its CRD is older than this program, it drops fields silently; a decision that
//! relies on one of them would repeat a call.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use crate::api::{
    AttemptEnd, AttemptOutcome, Hold, LedgerEntry, Loss, Observation, ObservationFault, Operation,
    Reason, Registration, Stall, TokenWait, Wait, WhatsAppPhoneNumberStatus,
};

/// How often the process checks whether the API server keeps every field by now.
pub const TRY_EVERY: Duration = Duration::from_secs(600);

/// The fields that only people read.
const SHOWN: &[&str] = &[
    "attempts.code",
    "attempts.fbtraceID",
    "attempts.subcode",
    "budget",
    "conditions",
    "fbtraceID",
    "graphAPIVersion",
    "hold.message",
    "lastError",
    "loss.message",
    "nextAttemptTime",
    "observation.fault.message",
    "phoneNumber",
    "registration.message",
    "stall.message",
    "wait.message",
];

/// The fields of a status that were written but are missing in what the API server stored, as paths. The values may differ,
/// because the API server may normalise them.
pub fn dropped(
    written: &WhatsAppPhoneNumberStatus,
    stored: Option<&WhatsAppPhoneNumberStatus>,
) -> Vec<String> {
    let json = |status| serde_json::to_value(status).unwrap_or_default();
    let mut dropped = Vec::new();
    compare("", &json(Some(written)), &json(stored), &mut dropped);
    dropped.sort_unstable();
    dropped.dedup();
    dropped
}

fn compare(path: &str, written: &Value, stored: &Value, dropped: &mut Vec<String>) {
    match (written, stored) {
        (Value::Object(written), stored) => {
            for (name, value) in written {
                let path = format!("{path}{}{name}", if path.is_empty() { "" } else { "." });
                match stored.get(name) {
                    _ if SHOWN.contains(&path.as_str()) => {}
                    Some(stored) => compare(&path, value, stored, dropped),
                    None => dropped.push(path),
                }
            }
        }
        (Value::Array(written), Value::Array(stored)) => {
            for (written, stored) in written.iter().zip(stored) {
                compare(path, written, stored, dropped);
            }
        }
        (written, stored) => {
            if written != stored && is_default(path, stored) {
                dropped.push(path.to_owned());
            }
        }
    }
}

/// Whether a missing field reads as this value.
fn is_default(path: &str, stored: &Value) -> bool {
    match path {
        "attempts.operation" => *stored == "Register",
        "attempts.outcome" => *stored == "Failed" || *stored == "Unknown",
        "observedGeneration" => *stored == -1,
        _ => false,
    }
}

/// A status with every field that a decision relies on, for a dry run.
pub fn fullest(now: Timestamp) -> WhatsAppPhoneNumberStatus {
    let (text, time) = (String::new, Time(now));
    let some = || Some(text());
    WhatsAppPhoneNumberStatus {
        registration_time: Some(time.clone()),
        registration: Some(Registration {
            reason: Reason::AlreadyRegistered,
            message: text(),
        }),
        loss: Some(Loss {
            reason: Reason::RegistrationLost,
            message: text(),
            time: time.clone(),
            repeated: true,
            recovering: true,
        }),
        loss_suspected_time: Some(time.clone()),
        last_loss_time: Some(time.clone()),
        observation: Some(Observation {
            fault: Some(ObservationFault {
                reason: Reason::TokenRejected,
                message: text(),
                token_digest: some(),
            }),
        }),
        may_be_registered: true,
        attempts: vec![LedgerEntry {
            id: text(),
            // A field that is missing reads as Register.
            operation: Operation::Deregister,
            start_time: time.clone(),
            ttl_seconds: 1,
            request: some(),
            seen: Some(true),
            earlier: true,
            count: Some(1),
            end: Some(AttemptEnd {
                outcome: AttemptOutcome::Succeeded,
                reason: some(),
                http_status: Some(500),
                ..AttemptEnd::unknown(now)
            }),
        }],
        wait: Some(Wait {
            confirming: true,
            ..Wait::new(Reason::OutcomeUnknown, text(), now)
        }),
        stall: Some(Stall {
            token_changed: true,
            request: some(),
            ..Stall::new(Reason::PinMismatch, text())
        }),
        verdict: Some(Reason::PinMismatch),
        hold: Some(Hold {
            reason: Reason::DefinitionOutdated,
            message: text(),
            until: Some(time.clone()),
            since: Some(time),
        }),
        token_wait: Some(TokenWait::new("", now, 1)),
        token_digest: some(),
        pin_digest: some(),
        inputs_digest: some(),
        read_failures: 1,
        unclear_reads: 1,
        last_handled_register_request: some(),
        ..WhatsAppPhoneNumberStatus::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube_core::CustomResourceExt as _;
    use std::collections::BTreeSet;

    /// The paths of all properties of a schema.
    fn properties(path: &str, schema: &Value, found: &mut BTreeSet<String>) {
        let schema = match schema.get("items") {
            Some(items) => items,
            None => schema,
        };
        let Some(children) = schema.get("properties").and_then(Value::as_object) else {
            found.insert(path.to_owned());
            return;
        };
        for (name, child) in children {
            let path = format!("{path}{}{name}", if path.is_empty() { "" } else { "." });
            if !SHOWN.contains(&path.as_str()) {
                properties(&path, child, found);
            }
        }
    }

    fn in_the_definition() -> BTreeSet<String> {
        let crd = serde_json::to_value(crate::api::WhatsAppPhoneNumber::crd()).unwrap();
        let pointer = "/spec/versions/0/schema/openAPIV3Schema/properties/status";
        let mut found = BTreeSet::new();
        properties("", crd.pointer(pointer).expect("a status"), &mut found);
        found
    }

    #[test]
    fn the_fullest_status_has_every_field_of_the_definition_that_is_not_only_shown() {
        let nothing = WhatsAppPhoneNumberStatus::default();
        let written = serde_json::to_value(fullest(Timestamp::UNIX_EPOCH)).unwrap();
        for path in in_the_definition() {
            let pointer =
                format!("/{}", path.replace('.', "/")).replace("attempts/", "attempts/0/");
            assert!(written.pointer(&pointer).is_some(), "{path}");
        }
        assert!(!dropped(&fullest(Timestamp::UNIX_EPOCH), Some(&nothing)).is_empty());
    }

    #[test]
    fn a_field_that_is_gone_is_named_by_its_path() {
        let written = fullest(Timestamp::UNIX_EPOCH);
        assert_eq!(dropped(&written, Some(&written)), Vec::<String>::new());
        let mut stored = written.clone();
        stored.unclear_reads = 0;
        stored.attempts[0].request = None;
        stored.wait = None;
        // Only people read it, and a value may be another one.
        stored.fbtrace_id = None;
        stored.attempts[0].ttl_seconds = 7;
        let fields = ["attempts.request", "unclearReads", "wait"];
        assert_eq!(dropped(&written, Some(&stored)), fields);
        assert!(dropped(&written, None).contains(&"attempts".to_owned()));
    }
}
