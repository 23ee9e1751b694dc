//! The project's own chores.

// Here a panic is a message to people, not a fault.
#![allow(clippy::expect_used, clippy::panic)]

mod soak;

use clap::Parser;

/// The project's own chores.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
enum Chore {
    /// Runs the operator (`cargo build --release` first) under random faults for a long time
    Soak(soak::Args),
}

fn main() {
    match Chore::parse() {
        Chore::Soak(args) => soak::run(&args),
    }
}
