//! What is told outside of the resources: log lines and metrics.

mod chain;
pub(crate) mod logs;
pub mod metrics;

pub use chain::Chain;
