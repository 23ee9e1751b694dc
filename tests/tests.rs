//! The one test binary: all tests share one real control plane, each in a namespace of its own.

// Here a panic is a message to people, not a fault.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::unwrap_in_result
)]

/// The control plane itself: it starts, it guards, it leaves nothing behind.
mod control_plane;
/// The Graph simulator keeps to the facts collected about the Graph API.
mod simulator_contract;
/// What the tests stand on.
mod support;
