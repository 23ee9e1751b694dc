//! Specs, resources and secrets to test with.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use operator_core::api::Operation;
use operator_core::api::{
    LedgerEntry, Reason, Wait, WhatsAppPhoneNumber, WhatsAppPhoneNumberSpec,
    WhatsAppPhoneNumberStatus,
};
use operator_core::credentials::CallInputs;
use operator_core::model::phase::{Phase, State};
use operator_core::model::render::render;
use serde_json::json;

/// An access token as Meta's begin.
pub const TOKEN: &str = "EAAGtesttoken0123456789abcdefghij";
/// A PIN.
pub const PIN: &str = "493817";

/// The token and the PIN.
pub fn inputs() -> CallInputs {
    CallInputs {
        token: TOKEN.into(),
        pin: PIN.into(),
        backup: None,
        app_secret: None,
    }
}

/// A spec with what is required.
pub fn spec() -> WhatsAppPhoneNumberSpec {
    serde_json::from_value(json!({
        "phoneNumberID": "106540352242922",
        "tokenSecretRef": {"name": "meta"},
        "pinSecretRef": {"name": "number"},
    }))
    .expect("a complete spec")
}

/// An unseen resource in the namespace `shop`, created at this second.
pub fn resource(name: &str, created: i64) -> WhatsAppPhoneNumber {
    let mut resource = WhatsAppPhoneNumber::new(name, spec());
    let created = Timestamp::from_second(created).expect("a time");
    resource.metadata.namespace = Some("shop".to_owned());
    resource.metadata.creation_timestamp = Some(Time(created));
    resource.status = Some(WhatsAppPhoneNumberStatus::unseen());
    resource
}

/// The resource, registered.
pub fn registered(mut resource: WhatsAppPhoneNumber) -> WhatsAppPhoneNumber {
    let mut state = State::parse(&resource.status_or_unseen());
    state.register(
        Reason::AlreadyRegistered,
        String::new(),
        Timestamp::UNIX_EPOCH,
    );
    resource.status = Some(render(&state, 1, Timestamp::UNIX_EPOCH));
    resource
}

/// The resource, waiting for its next attempt.
pub fn waiting(mut resource: WhatsAppPhoneNumber) -> WhatsAppPhoneNumber {
    let mut state = State::parse(&resource.status_or_unseen());
    let until = Timestamp::UNIX_EPOCH + Duration::from_secs(60);
    let wait = Wait::new(Reason::GraphUnavailable, String::new(), until);
    state.phase = Phase::waits(wait, false);
    resource.status = Some(render(&state, 1, Timestamp::UNIX_EPOCH));
    resource
}

/// The resource with an open claim.
pub fn claimed(mut resource: WhatsAppPhoneNumber) -> WhatsAppPhoneNumber {
    let ttl = Duration::from_secs(60);
    let claim = LedgerEntry::open(Operation::Register, "a", ttl, None, Timestamp::UNIX_EPOCH);
    resource.status.get_or_insert_default().attempts.push(claim);
    resource
}
