//! The settings that decisions depend on.

use std::time::Duration;

use super::schedule::Backoff;
use crate::api::WhatsAppPhoneNumber;

/// The operator's settings that a decision depends on.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Automatic attempts per number in 72 h: `--attempt-limit`.
    pub attempt_limit: usize,
    /// Waits between attempts: `--retry-base`, `--retry-cap`.
    pub backoff: Backoff,
    /// How long no other call is made after an unclear outcome: `--confirm-window`.
    pub confirm_window: Duration,
    /// How long no other process may consider a claim abandoned: twice `--graph-timeout`.
    pub claim_ttl: Duration,
    /// The version of the Graph API for resources that set none: `--graph-api-version`.
    pub graph_api_version: String,
    /// How often Secrets are polled where they are not watched: `--secret-watch=false`.
    pub secret_poll: Option<Duration>,
}

impl Policy {
    /// The version of the Graph API to call for a resource.
    pub fn version<'a>(&'a self, resource: &'a WhatsAppPhoneNumber) -> &'a str {
        resource
            .spec
            .graph_api_version
            .as_deref()
            .unwrap_or(&self.graph_api_version)
    }
}
