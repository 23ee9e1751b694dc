//! What the operator decides, without I/O and without a clock: time, chance and what others said are arguments.
//!
//! Four rooms; imports go down this list only, and no two files import each other:
//!
//! - [`model`]: from what was observed to the next step, and from an outcome to the next status.
//! - [`graph`]: the two calls to Meta's Graph API: what is sent, and what an answer means.
//! - [`credentials`]: from Secrets to what a call is made of; digests; redaction.
//! - [`api`]: the resource, its status, conditions, reasons and the CRD.

pub mod api;
pub mod credentials;
pub mod graph;
pub mod model;
