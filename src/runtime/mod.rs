//! What runs: start and stop, the watches and what they wake, leader election, health checks.

mod health;
mod leader;
mod operator;
pub(crate) mod program;
mod relist;
mod watches;
