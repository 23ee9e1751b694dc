//! The conditions of a status: their types, and how they are looked up.

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
    /// The last attempt failed, or none can be made as things stand; the reason says why, the message what to do and when
    /// it is tried again. False: no failure stands.
    FAILED = "Failed";
    /// The same as `Registered`: the summary that `kubectl wait`, Argo CD and Flux look at.
    READY = "Ready";
    /// The operator works on the number or waits to try again. Absent unless True, as kstatus wants.
    RECONCILING = "Reconciling";
    /// The operator will not try again until something changes. Absent unless True, as kstatus wants.
    STALLED = "Stalled";
}

/// True, False or Unknown, as conditions write it.
pub type Truth = &'static str;
/// The condition holds.
pub const TRUE: Truth = "True";
/// It does not.
pub const FALSE: Truth = "False";
/// It is not known whether it does.
pub const UNKNOWN: Truth = "Unknown";

/// Whether the status says that the number is registered.
pub fn is_registered(status: &WhatsAppPhoneNumberStatus) -> bool {
    is_true(status, REGISTERED)
}

/// Whether a condition is True.
pub fn is_true(status: &WhatsAppPhoneNumberStatus, type_: &str) -> bool {
    find(status, type_).is_some_and(|condition| condition.status == TRUE)
}

/// Whether a condition is Unknown.
pub fn is_unknown(status: &WhatsAppPhoneNumberStatus, type_: &str) -> bool {
    find(status, type_).is_some_and(|condition| condition.status == UNKNOWN)
}

/// The condition of a type.
pub fn find<'a>(status: &'a WhatsAppPhoneNumberStatus, type_: &str) -> Option<&'a Condition> {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
}

/// The reason of a condition, where it is one of this version.
pub fn reason_of(status: &WhatsAppPhoneNumberStatus, type_: &str) -> Option<Reason> {
    find(status, type_)?.reason.parse().ok()
}
