//! Logs and metrics.

mod chain;
pub(crate) mod logs;
pub mod metrics;

pub use chain::Chain;
