//! From Secrets to the inputs of a call; the digests that show a change; redaction. The only room that handles secrets,
//! besides the request builder in [`crate::graph`].

pub mod digests;
pub mod inputs;
pub mod redact;

pub use digests::Digests;
pub use inputs::{Backup, CallInputs, SecretData, SecretFault, secret_names};
pub use redact::Scrubber;
