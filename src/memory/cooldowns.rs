//! The cool-downs of tokens that met a rate limit.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use operator_core::api::WhatsAppPhoneNumber;
use operator_core::model::schedule::sane_next;

use super::clock::Clock;

/// The smallest number of cool-downs at which those that have ended are dropped.
const SWEEP_FROM: usize = 64;

/// The cool-downs of tokens, by the token's digest.
#[derive(Default)]
pub struct TokenCooldowns {
    clock: Clock,
    until: Mutex<HashMap<String, Timestamp>>,
    sweep_at: AtomicUsize,
}

impl TokenCooldowns {
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            until: Mutex::default(),
            sweep_at: AtomicUsize::default(),
        }
    }

    /// Starts the cool-down of a token, or extends it: the latest known end counts. Drops the cool-downs that have ended.
    pub fn start(&self, token_digest: &str, until: Timestamp) {
        let mut all = self.all();
        if all.len() >= self.sweep_at.load(Relaxed).max(SWEEP_FROM) {
            let now = self.clock.now();
            all.retain(|digest, until| *until > now || digest == token_digest);
            self.sweep_at.store(all.len() * 2, Relaxed);
        }
        let known = all.entry(token_digest.to_owned()).or_insert(until);
        *known = until.max(*known);
    }

    /// The end of a token's cool-down.
    pub fn until(&self, token_digest: &str) -> Option<Timestamp> {
        self.all().get(token_digest).copied()
    }

    /// Notes the cool-down in the status of a resource, if there is one.
    pub fn note_status(&self, resource: &WhatsAppPhoneNumber) {
        if let Some((digest, until)) = cooldown_of(resource, self.clock.now()) {
            self.start(digest, until);
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Timestamp>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The cool-down in the status of a resource: the digest of the token, and the end.
fn cooldown_of(resource: &WhatsAppPhoneNumber, now: Timestamp) -> Option<(&str, Timestamp)> {
    let wait = resource.status.as_ref()?.token_wait.as_ref()?;
    Some((&wait.digest, sane_next(&wait.until, now).0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_cools_down_until_the_latest_time_that_is_known() {
        let cooldowns = TokenCooldowns::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(cooldowns.until("token"), None);
        cooldowns.start("token", at(20));
        cooldowns.start("token", at(10));
        assert_eq!(cooldowns.until("token"), Some(at(20)));
        assert_eq!(cooldowns.until("other"), None);
    }

    #[test]
    fn what_has_ended_is_dropped() {
        let cooldowns = TokenCooldowns::default();
        for token in 0..SWEEP_FROM {
            cooldowns.start(&token.to_string(), Timestamp::UNIX_EPOCH);
        }
        cooldowns.start("old", Timestamp::UNIX_EPOCH);
        cooldowns.start("new", Timestamp::MAX);
        assert_eq!(cooldowns.until("0"), None);
        assert!(cooldowns.all().len() <= 2);
        assert_eq!(cooldowns.until("new"), Some(Timestamp::MAX));
    }
}
