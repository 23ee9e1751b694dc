//! The decisions of the operator, without I/O and without a clock: time, random numbers and answers are arguments.
//!
//! Four rooms; imports go down this list only, and no two files import each other:
//!
//! - [`model`]: from an observation to the next step, and from an outcome to the next status.
//! - [`graph`]: the two calls to Meta's Graph API: the requests, and the meaning of their answers.
//! - [`credentials`]: from Secrets to the inputs of a call; digests; redaction.
//! - [`api`]: the resource, its status, conditions, reasons and the CRD.

pub mod api;
pub mod credentials;
pub mod graph;
pub mod model;
