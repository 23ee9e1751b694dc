//! The `WhatsAppPhoneNumber` resource: what people declare ([`spec`]) and what the operator reports ([`status`]).
//!
//! The CRD in `crds/` is printed from these types by `whatsapp-operator crd`; every rule on a field stands here,
//! so that the API server refuses bad input before anything runs.

mod crd;
mod spec;
mod status;

pub use crd::{crd, crd_yaml};
pub use spec::{
    AppSecretRef, BackupSecretRef, DataLocalizationRegion, DeletionPolicy, PinSecretRef,
    TokenSecretRef, WhatsAppPhoneNumber, WhatsAppPhoneNumberSpec,
};
pub use status::{
    AttemptOutcome, GraphErrorStatus, PhoneNumberStatus, RegisterAttempt, WhatsAppPhoneNumberStatus,
};

/// The annotation that asks for one register call without the look first, in the manner of
/// `reconcile.fluxcd.io/requestedAt`: any value other than `status.lastHandledRegisterRequest`.
pub const REGISTER_REQUESTED_AT: &str = "whatsapp-operator.dev/register-requested-at";

/// The longest value of [`REGISTER_REQUESTED_AT`] that is looked at, in bytes as JSON writes it
/// ([`crate::text::stored_bytes`]): the ledger repeats it. A longer one is ignored, and an event says so.
pub const REGISTER_REQUEST_MAX_BYTES: usize = 256;

/// The name under which the operator writes to the API server: field manager, event reporter.
pub const MANAGER: &str = "whatsapp-operator";
