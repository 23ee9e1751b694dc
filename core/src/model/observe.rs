//! When a registered number is read again. Nothing of it is stored: a point of time in each interval follows from the resource's UID,
//! so that many numbers are spread, and a restart neither brings them together nor leaves one out for long.

use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

/// How often an observation that fails in passing is repeated before the next point.
pub const RETRIES: u32 = 3;

/// After this many failures in a row, that is, those of two points, people are notified.
pub const TOLD_AFTER: u32 = 2 * (RETRIES + 1);

/// The least time between the two reads that make a loss, where the interval is not shorter.
pub const CERTAIN_AFTER: Duration = Duration::from_secs(600);

/// Within this time a new token is tried after one that was refused, and a Secret that was missing or wrong.
pub const NEW_INPUTS_WITHIN: Duration = Duration::from_secs(600);

/// The share of a rate limit, in percent, from which on numbers are not observed for a while: what is left is for calls.
pub const BUSY: u32 = 80;

/// That while. Meta's limits are those of a rolling hour.
pub const BUSY_FOR: Duration = Duration::from_secs(900);

/// The time after a loss in which another one is not repaired automatically.
pub const LOSS_WINDOW: Duration = Duration::from_secs(24 * 3600);

/// When a process observes a number next, and how it went so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pub at: Timestamp,
    /// The failures in a row that may pass.
    pub failures: u32,
    /// How soon to look again before that for something that no watch tells of, such as another Secret where these are not watched.
    pub poll: Option<Duration>,
}

impl Plan {
    /// The plan for a number that was observed without a fault: the next point.
    pub fn next(uid: &str, interval: Duration, now: Timestamp) -> Self {
        Self {
            at: next_point(uid, interval, now),
            failures: 0,
            poll: None,
        }
    }

    /// The same, but not later than this.
    #[must_use]
    pub fn by(self, time: Timestamp) -> Self {
        Self {
            at: self.at.min(time),
            ..self
        }
    }
}

/// The first point after `now`: there is one in each interval of the clock, at a place that the UID and the interval's number give.
pub fn next_point(uid: &str, interval: Duration, now: Timestamp) -> Timestamp {
    let length = i64::try_from(interval.as_millis())
        .unwrap_or(i64::MAX)
        .max(1);
    let now = now.as_millisecond();
    let current = now.div_euclid(length);
    let points = (current..=current.saturating_add(1)).map(|interval| {
        let place = hash(uid, interval) % length.unsigned_abs();
        let begin = interval.saturating_mul(length);
        begin.saturating_add(i64::try_from(place).unwrap_or_default())
    });
    let next = points.filter(|point| *point > now).min();
    let next = next.and_then(|next| Timestamp::from_millisecond(next).ok());
    next.unwrap_or(Timestamp::MAX)
}

fn hash(uid: &str, interval: i64) -> u64 {
    let hash = Sha256::new()
        .chain_update(uid)
        .chain_update(interval.to_be_bytes())
        .finalize();
    let (first, _) = hash.split_first_chunk().unwrap_or((&[0; 8], &[]));
    u64::from_be_bytes(*first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap()
    }

    proptest! {
        #[test]
        fn each_interval_has_one_point(uid in "[a-f0-9]{8}", minutes in 1u64..3_000, start in 0i64..2_000_000_000_000) {
            let interval = Duration::from_secs(minutes * 60);
            let length = interval.as_millis() as i64;
            let mut time = at(start - start % length - 1);
            for _ in 0..5 {
                let next = next_point(&uid, interval, time);
                let number = (time.as_millisecond() + 1).div_euclid(length);
                prop_assert!(next > time);
                prop_assert_eq!(next.as_millisecond().div_euclid(length), number);
                // Whenever it is asked for before, it is the same.
                let between = at((time.as_millisecond() + next.as_millisecond()) / 2);
                prop_assert_eq!(next_point(&uid, interval, between), next);
                time = at((number + 1) * length - 1);
            }
        }
    }

    #[test]
    fn many_numbers_are_spread_over_the_interval() {
        let hour = Duration::from_secs(3600);
        let mut by_minute = [0; 60];
        for uid in 0..6_000 {
            let point = next_point(&format!("uid-{uid}"), hour, at(-1)).as_millisecond();
            by_minute[(point / 60_000) as usize] += 1;
        }
        assert!(
            by_minute.iter().all(|count| (50..150).contains(count)),
            "{by_minute:?}"
        );
    }
}
