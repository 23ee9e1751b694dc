//! What tests, benchmarks, demo and fuzzing stand on; the operator does not know it.
//!
//! Builders and the checks of untrusted input are always there. The feature `cluster` adds a real control plane, the
//! simulator of Meta's Graph API, and gates that make faults between the operator and both.

// Here a panic is a message to people, not a fault.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::unwrap_in_result
)]

pub mod builders;
pub mod untrusted_input;
pub mod world;

#[cfg(feature = "cluster")]
pub mod bed;
#[cfg(feature = "cluster")]
mod cluster;
#[cfg(feature = "cluster")]
pub mod control_plane;
#[cfg(feature = "cluster")]
pub mod gateway;
#[cfg(feature = "cluster")]
pub mod go_programs;
#[cfg(feature = "cluster")]
pub mod operator;
#[cfg(feature = "cluster")]
pub mod proxy;
#[cfg(feature = "cluster")]
pub mod simulator;
#[cfg(feature = "cluster")]
pub mod tools;

#[cfg(feature = "cluster")]
pub use cluster::{binaries, shared, start, start_with_crd};

/// A number that a variable of the environment sets, such as how large a test is, or this one.
pub fn from_environment<N: std::str::FromStr>(variable: &str, otherwise: N) -> N {
    match std::env::var(variable) {
        Ok(text) => {
            let number = text.trim().parse();
            number.unwrap_or_else(|_| panic!("{variable} must be a number, not {text:?}"))
        }
        Err(_) => otherwise,
    }
}
