//! What others wrote: Graph's answers and headers, Secrets, resources, the API server's errors, settings. Whatever it is,
//! nothing panics, everything ends, and what comes out is short, clean and what the API server takes.
//!
//! Beside this file: `check` says what must hold of everything that comes out, `player` takes it the whole way to a status,
//! `schema` is the API server's check of that. The coverage-guided targets in `fuzz/` use the same three.

mod answers;
pub(crate) mod check;
mod generators;
mod memory;
mod player;
mod resources;
mod schema;
mod sizes;
mod texts;
