//! What others wrote: Graph's answers and headers, Secrets, resources. Whatever it is,
//! nothing panics, everything ends, and what comes out is short, clean and what the API server takes.
//!
//! The checks are in `testkit::untrusted_input`: `check` says what must hold of everything that comes out, `player` takes
//! it the whole way to a status, `schema` is the API server's check of that. The coverage-guided targets in `fuzz/` use the same three.

mod answers;
mod generators;
mod resources;
mod sizes;
mod texts;

pub(crate) use resources::{resource, status};
