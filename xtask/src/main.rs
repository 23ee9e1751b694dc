//! The project's own chores.

// Here a panic is a message to people, not a fault.
#![allow(clippy::expect_used, clippy::panic)]

mod docs;
mod image;
mod rooms;
mod soak;

use std::process::ExitCode;

use clap::Parser;

/// The project's own chores.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
enum Chore {
    /// Writes the tables of the documentation that are made from the code
    Docs(docs::Args),
    /// Builds the container image and writes it to an archive, without a container engine
    Image(image::Args),
    /// Checks that imports go down the list of rooms and that no two files import each other
    Rooms,
    /// Runs the operator, built as it is released, under random faults for a long time
    Soak(soak::Args),
}

fn main() -> anyhow::Result<ExitCode> {
    match Chore::parse() {
        Chore::Docs(args) => return Ok(docs::run(&args)),
        Chore::Image(args) => image::run(&args)?,
        Chore::Rooms => return Ok(rooms::run()),
        Chore::Soak(args) => soak::run(&args),
    }
    Ok(ExitCode::SUCCESS)
}
