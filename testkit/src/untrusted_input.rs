//! Checks of what comes of input that others wrote, for property tests and fuzzing.

pub mod check;
pub mod player;
pub mod schema;
