//! The settings that decisions depend on.

use std::time::Duration;

use jiff::Timestamp;

use super::schedule::{Backoff, plus};
use crate::api::WhatsAppPhoneNumber;

/// How long all polled Secrets together take for each of them. That is 50 a minute on average, so that chance does not bring more than
/// a hundred into one.
pub const PER_POLLED_SECRET: Duration = Duration::from_millis(1200);

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
    /// What follows a registration.
    pub life: Life,
    /// How often Secrets are polled where they are not watched: `--secret-watch=false`.
    pub secret_poll: Option<Duration>,
}

/// The settings for a number after its registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// How often a registered number is read where its resource does not say: `--observe-interval`. Zero is never.
    pub observe_interval: Duration,
    /// Whether numbers are deregistered for resources that are deleted and ask for it: `--deregistration`.
    pub deregistration: bool,
    /// How long a deletion waits for that: `--deregister-deadline`.
    pub deregister_deadline: Duration,
}

impl Default for Life {
    /// Nothing is observed.
    fn default() -> Self {
        Self {
            observe_interval: Duration::ZERO,
            deregistration: true,
            deregister_deadline: Duration::from_secs(3600),
        }
    }
}

impl Policy {
    /// How often the number of a resource is observed once it is registered; `None` if it is not.
    pub fn observe_interval(&self, resource: &WhatsAppPhoneNumber) -> Option<Duration> {
        let own = resource.spec.observe_interval();
        let interval = own.unwrap_or(self.life.observe_interval);
        (!interval.is_zero()).then_some(interval)
    }

    /// The time at which a resource that is being deleted is released in any case, unless a claim of its own is open; `None` if no
    /// finalizer holds it.
    pub fn release_time(&self, resource: &WhatsAppPhoneNumber) -> Option<Timestamp> {
        let deleted = resource.metadata.deletion_timestamp.as_ref()?;
        let held = resource.has_finalizer();
        held.then(|| plus(deleted.0, self.life.deregister_deadline))
    }

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
