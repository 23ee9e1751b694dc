//! The one test binary of the core.

// Here a panic is a message to people, not a fault.
#![allow(
    clippy::disallowed_methods, // some tests measure how long they take
    clippy::disallowed_types,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::unwrap_in_result
)]

/// What an outcome makes of a status.
mod apply;
/// What is decided, case by case.
mod decide;
/// Which changes are worth an event.
mod event;
/// Every world that is small enough, explored to its end.
mod explorer;
/// From Secrets to inputs.
mod inputs;
/// The machine, effect by effect.
mod machine;
/// From a status to a state and back.
mod phases;
/// No secret gets through.
mod redact;
/// The requests, byte by byte.
mod request;
/// What an answer of Graph means.
mod response;
/// Which of several resources of one number takes precedence.
mod twins;
/// Properties about everything that others wrote.
mod untrusted_input;
/// What reasons say to people, and what a resource says of itself.
mod words;
