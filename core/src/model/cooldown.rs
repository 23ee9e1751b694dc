//! The cool-down of a token that met a rate limit: every resource that uses the token waits for its end.

use std::time::Duration;

use jiff::Timestamp;

use super::schedule::{Backoff, later};
use crate::api::TokenWait;

/// The longest cool-down if Graph does not say how long: Meta counts by the rolling hour.
const CAP: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cooldown {
    /// The end.
    pub until: Timestamp,
    /// How many cool-downs there were in a row.
    pub in_a_row: u32,
}

impl Cooldown {
    /// The cool-down after a rate limit: as long as Graph asks, else the token's own backoff. A limit that calls in flight
    /// meet while the token already cools down does not count as another one.
    pub fn after(
        known: Option<Self>,
        asked: Option<Duration>,
        backoff: Backoff,
        now: Timestamp,
    ) -> Self {
        let in_a_row = match known {
            Some(known) if known.until > now => known.in_a_row,
            Some(known) => known.in_a_row.saturating_add(1),
            None => 1,
        };
        let wait = asked.unwrap_or_else(|| backoff.after(in_a_row).min(CAP));
        Self {
            until: later(now, wait),
            in_a_row,
        }
    }

    pub fn stored(self, digest: &str) -> TokenWait {
        TokenWait::new(
            digest,
            self.until,
            i32::try_from(self.in_a_row).unwrap_or(i32::MAX),
        )
    }
}

impl From<&TokenWait> for Cooldown {
    fn from(stored: &TokenWait) -> Self {
        Self {
            until: stored.until.0,
            in_a_row: u32::try_from(stored.in_a_row).unwrap_or(1).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        base: Duration::from_secs(30),
        cap: Duration::from_secs(64_800),
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_backoff_of_the_token_grows_to_an_hour() {
        let (mut known, mut now, mut waits) = (None, at(0), Vec::new());
        for _ in 0..7 {
            let cooldown = Cooldown::after(known, None, BACKOFF, now);
            waits.push(cooldown.until.duration_since(now).as_secs());
            (known, now) = (Some(cooldown), cooldown.until);
        }
        assert_eq!(waits, [30, 90, 270, 810, 2430, 3600, 3600]);
    }

    #[test]
    fn calls_under_way_meet_the_same_limit() {
        let first = Cooldown::after(None, None, BACKOFF, at(0));
        let second = Cooldown::after(Some(first), None, BACKOFF, at(5));
        assert_eq!(second.in_a_row, 1);
        assert_eq!(second.until, at(35));
    }

    #[test]
    fn what_graph_asks_for_counts() {
        let asked = Some(Duration::from_secs(7_200));
        let cooldown = Cooldown::after(None, asked, BACKOFF, at(0));
        assert_eq!(cooldown.until, at(7_200));
        assert_eq!(Cooldown::from(&cooldown.stored("token")), cooldown);
    }
}
