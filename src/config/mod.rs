//! The settings of the operator: flags and environment variables as given ([`RunArgs`]), and the validated settings made
//! from them ([`Settings`]).

mod args;
mod graph;
mod log_filter;
mod scope;
mod settings;

pub use args::{Cli, Command, LogFormat, MetricsPerNumber, RunArgs};
pub use graph::{GraphSettings, check_base_url, is_loopback};
pub use log_filter::{FilterError, log_filter};
pub use scope::Scope;
pub use settings::{
    ConfigError, LeaderSettings, LifeSettings, LogSettings, RetrySettings, Settings,
};

#[cfg(test)]
mod tests;
