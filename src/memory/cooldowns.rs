//! The cool-downs of tokens that met a rate limit.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use operator_core::api::WhatsAppPhoneNumber;
use operator_core::model::Cooldown;
use operator_core::model::schedule::{plus, sane_next};

use super::clock::Clock;

/// The smallest number of cool-downs at which those that have ended are dropped.
const SWEEP_FROM: usize = 64;

/// How long after its end a cool-down is remembered: another one soon after it lasts longer.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// The cool-downs of tokens, by the token's digest.
#[derive(Default)]
pub struct TokenCooldowns {
    clock: Clock,
    all: Mutex<HashMap<String, Cooldown>>,
    sweep_at: AtomicUsize,
}

impl TokenCooldowns {
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            all: Mutex::default(),
            sweep_at: AtomicUsize::default(),
        }
    }

    /// Starts the cool-down of a token, or extends it: the latest known end counts. Drops those that ended long ago.
    pub fn start(&self, token_digest: &str, cooldown: Cooldown) {
        let mut all = self.all();
        if all.len() >= self.sweep_at.load(Relaxed).max(SWEEP_FROM) {
            let now = self.clock.now();
            all.retain(|digest, known| {
                plus(known.until, REMEMBERED) > now || digest == token_digest
            });
            self.sweep_at.store(all.len() * 2, Relaxed);
        }
        let known = all.entry(token_digest.to_owned()).or_insert(cooldown);
        *known = Cooldown {
            until: cooldown.until.max(known.until),
            in_a_row: cooldown.in_a_row.max(known.in_a_row),
        };
    }

    /// A call with the token met no limit: one that it meets later is the first again.
    pub fn end(&self, token_digest: &str) {
        let now = self.clock.now();
        let mut all = self.all();
        if all
            .get(token_digest)
            .is_some_and(|known| known.until <= now)
        {
            all.remove(token_digest);
        }
    }

    /// The last cool-down of a token.
    pub fn of(&self, token_digest: &str) -> Option<Cooldown> {
        self.all().get(token_digest).copied()
    }

    /// Notes the cool-down in the status of a resource, if it lasts.
    pub fn note_status(&self, resource: &WhatsAppPhoneNumber) {
        let status = resource.status.as_ref();
        let Some(wait) = status.and_then(|status| status.token_wait.as_ref()) else {
            return;
        };
        let now = self.clock.now();
        let until = sane_next(&wait.until, now).0;
        if until > now {
            self.start(
                &wait.digest,
                Cooldown {
                    until,
                    ..wait.into()
                },
            );
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Cooldown>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn until(until: Timestamp) -> Cooldown {
        Cooldown { until, in_a_row: 1 }
    }

    #[test]
    fn a_token_cools_down_until_the_latest_time_that_is_known() {
        let cooldowns = TokenCooldowns::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(cooldowns.of("token"), None);
        cooldowns.start("token", until(at(20)));
        cooldowns.start("token", until(at(10)));
        assert_eq!(cooldowns.of("token"), Some(until(at(20))));
        assert_eq!(cooldowns.of("other"), None);
    }

    #[test]
    fn a_call_without_a_limit_ends_the_row_and_no_cool_down() {
        let cooldowns = TokenCooldowns::default();
        cooldowns.start("over", until(Timestamp::UNIX_EPOCH));
        cooldowns.start("lasts", until(Timestamp::MAX));
        cooldowns.end("over");
        cooldowns.end("lasts");
        assert_eq!(cooldowns.of("over"), None);
        assert!(cooldowns.of("lasts").is_some());
    }

    #[test]
    fn what_has_ended_is_dropped() {
        let cooldowns = TokenCooldowns::default();
        for token in 0..SWEEP_FROM {
            cooldowns.start(&token.to_string(), until(Timestamp::UNIX_EPOCH));
        }
        cooldowns.start("old", until(Timestamp::UNIX_EPOCH));
        cooldowns.start("new", until(Timestamp::MAX));
        assert_eq!(cooldowns.of("0"), None);
        assert!(cooldowns.all().len() <= 2);
        assert_eq!(cooldowns.of("new"), Some(until(Timestamp::MAX)));
    }
}
