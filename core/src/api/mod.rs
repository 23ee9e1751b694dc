//! The `WhatsAppPhoneNumber` resource: what the user declares ([`spec`]) and what the operator reports ([`status`]).
//!
//! `whatsapp-operator crd` prints the CRD in `crds/` from these types. Every rule on a field is declared here, so that
//! the API server rejects bad input before anything runs.

pub mod conditions;
mod crd;
pub mod message;
pub mod reason;
mod spec;
mod status;
pub mod text;

pub use crd::{crd, crd_yaml};
pub use message::{explain, explain_requested, explain_secret, explain_unmet, explain_unobserved};
pub use reason::{Disposition, Reason, Source};
pub use spec::{
    AppSecretRef, BackupSecretRef, DEREGISTER_FINALIZER, DataLocalizationRegion, DeletionPolicy,
    LossPolicy, PinSecretRef, REGISTER_REQUEST_MAX_BYTES, REGISTER_REQUESTED_AT, TokenSecretRef,
    WhatsAppPhoneNumber, WhatsAppPhoneNumberSpec,
};
pub use status::{
    AttemptEnd, AttemptOutcome, Budget, GraphErrorStatus, Hold, LedgerEntry, Loss, Observation,
    ObservationFault, Operation, PhoneNumberStatus, Registration, Stall, TokenWait, Wait,
    WhatsAppPhoneNumberStatus,
};

/// The name under which the operator writes to the API server: field manager, event reporter.
pub const MANAGER: &str = "whatsapp-operator";
