//! The settings that decisions depend on.

use std::time::Duration;

use super::schedule::Backoff;
use crate::api::WhatsAppPhoneNumber;

/// How long all polled Secrets together take for each of them: a hundred a minute.
const PER_POLLED_SECRET: Duration = Duration::from_millis(600);

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

    /// The policy while this many Secrets are polled: the more there are, the less often each is.
    #[must_use]
    pub fn polling(&self, secrets: usize) -> Self {
        let secrets = u32::try_from(secrets).unwrap_or(u32::MAX);
        let all = PER_POLLED_SECRET.saturating_mul(secrets);
        Self {
            secret_poll: self.secret_poll.map(|least| least.max(all)),
            ..self.clone()
        }
    }
}
