//! The `WhatsAppPhoneNumber` resource: what people declare ([`spec`]) and what the operator reports ([`status`]).
//!
//! The CRD in `crds/` is printed from these types by `whatsapp-operator crd`; every rule on a field stands here,
//! so that the API server refuses bad input before anything runs.

pub mod conditions;
mod crd;
pub mod message;
pub mod reason;
mod spec;
mod status;
pub mod text;

pub use crd::{crd, crd_yaml};
pub use message::explain;
pub use reason::{Disposition, Reason, Source};
pub use spec::{
    AppSecretRef, BackupSecretRef, DataLocalizationRegion, DeletionPolicy, PinSecretRef,
    REGISTER_REQUEST_MAX_BYTES, REGISTER_REQUESTED_AT, TokenSecretRef, WhatsAppPhoneNumber,
    WhatsAppPhoneNumberSpec,
};
pub use status::{
    AttemptOutcome, GraphErrorStatus, LedgerEntry, PhoneNumberStatus, WhatsAppPhoneNumberStatus,
};

/// The name under which the operator writes to the API server: field manager, event reporter.
pub const MANAGER: &str = "whatsapp-operator";
