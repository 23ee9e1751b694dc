//! The conditions of a status: their types, and lookups by type.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::reason::Reason;
use super::status::WhatsAppPhoneNumberStatus;

macro_rules! types {
    ($($(#[doc = $doc:literal])+ $name:ident = $type_:literal;)+) => {
        $($(#[doc = $doc])+ pub const $name: &str = $type_;)+

        /// The types of all conditions that the operator writes, each with its doc comment.
        pub const TYPES: &[(&str, &str)] = &[$(($name, concat!($($doc),+).trim_ascii()),)+];
    };
}

types! {
    /// The number is registered with the Cloud API. False: it is not, and the reason says why. Unknown while the outcome
    /// of a call is not known.
    REGISTERED = "Registered";
    /// The last attempt failed, or none can be made at present; the reason says why, the message what to do and when the
    /// next attempt is. False: no failure stands.
    FAILED = "Failed";
    /// The same as `Registered`: the summary that `kubectl wait`, Argo CD and Flux look at.
    READY = "Ready";
    /// The operator is working on the number or waiting to retry. Absent unless True, as kstatus expects.
    RECONCILING = "Reconciling";
    /// The operator will not retry until something changes. Absent unless True, as kstatus expects.
    STALLED = "Stalled";
    /// The last observation of a registered number had a usable answer. False: it had none, for example because the token has
    /// expired, and the reason says why. Absent before the first observation, while suspended, and while observing is off. It
    /// says nothing about the registration.
    OBSERVED = "Observed";
}

/// The `status` of a condition.
pub type Truth = &'static str;
pub const TRUE: Truth = "True";
pub const FALSE: Truth = "False";
pub const UNKNOWN: Truth = "Unknown";

/// Whether the condition `Registered` is True.
pub fn is_registered(status: &WhatsAppPhoneNumberStatus) -> bool {
    is_true(status, REGISTERED)
}

pub fn is_true(status: &WhatsAppPhoneNumberStatus, type_: &str) -> bool {
    find(status, type_).is_some_and(|condition| condition.status == TRUE)
}

pub fn find<'a>(status: &'a WhatsAppPhoneNumberStatus, type_: &str) -> Option<&'a Condition> {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
}

/// The reason of a condition; `None` where this version does not know it.
pub fn reason_of(status: &WhatsAppPhoneNumberStatus, type_: &str) -> Option<Reason> {
    find(status, type_)?.reason.parse().ok()
}
