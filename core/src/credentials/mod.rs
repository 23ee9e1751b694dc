//! From Secrets to what a call is made of; the digests by which a change is noticed; redaction. The only room where
//! secrets are handled, besides the request builder in [`crate::graph`].

pub mod digests;
pub mod inputs;
pub mod redact;

pub use digests::Digests;
pub use inputs::{Backup, CallInputs, SecretData, SecretFault, secret_names};
pub use redact::Scrubber;
