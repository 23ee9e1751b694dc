//! A local server that answers as Meta's Graph API does for reading and registering a phone
//! number, and that can be told to misbehave in every way Graph and the network are known to.
//!
//! ```text
//! connection -> contract (is this request allowed?) -> script (is a fault due?)
//!            -> number (what would Graph do?)       -> answer (how does it go on the wire?)
//! ```
//!
//! `contract`, `script` and `number` are pure; `world` keeps all numbers and counts; `server`,
//! `control` and `connection` do the I/O. Tests hold a [`Simulator`]; people talk to
//! `/_simulator/…` with curl (see `testkit/src/bin/graph-simulator.rs`).

// The example uses one part of this module and the tests another.
// Graph's errors are large and rare; nothing here needs to be fast.
#![allow(clippy::result_large_err)]

mod action;
mod answer;
mod config;
mod connection;
mod contract;
mod control;
mod entry;
mod graph_error;
mod handle;
mod number;
mod plan;
mod report;
mod script;
mod server;
mod world;

pub use self::action::{Action, ErrorStep};
pub use self::config::{Defaults, NumberConfig, TokenLimit, numbers_from_yaml};
pub use self::contract::{Operation, Registration};
pub use self::handle::{DeadlinePassed, Simulator};
pub use self::report::{
    Counts, LogEntry, NumberReport, NumberState, Outcome, Shown, Totals, Violation,
};
pub use self::script::{Script, Step, Trigger};
