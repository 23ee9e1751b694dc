//! The settings of the operator: flags and environment variables as people write them ([`RunArgs`]), and what they
//! mean once every one of them is known to be valid ([`Settings`]).

mod args;
mod scope;
mod settings;

pub use args::{Cli, Command, LogFormat, RunArgs};
pub use scope::Scope;
pub use settings::{ConfigError, LeaderSettings, LogSettings, RetrySettings, Settings};

#[cfg(test)]
mod tests;
