//! Start and stop, the watches and their triggers, leader election, health checks.

mod follow;
mod health;
mod leader;
mod operator;
pub(crate) mod program;
mod watches;
