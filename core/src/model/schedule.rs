//! The schedule of attempts and reads: backoff, jitter, the confirm window. Time is an argument.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The sliding window in which Meta counts register calls; it also blocks a number for this long.
pub const META_WINDOW: Duration = Duration::from_secs(72 * 3600);

/// Meta's limit of register calls per number in [`META_WINDOW`], failed ones included.
pub const META_LIMIT: usize = 10;

/// The wait after a deregistration, which takes Meta a few minutes (error 133015: "wait 5 minutes").
pub const AFTER_DEREGISTRATION: Duration = Duration::from_secs(5 * 60);

/// How far in the future a stored time may be before it counts as a clock fault.
const FURTHEST_AHEAD: Duration = Duration::from_secs(73 * 3600);

/// How far in the future a time written by another replica may be before it counts as a clock fault.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// The wait between a call and the first read in its confirm window; later waits grow by [`GROWTH`].
const FIRST_CONFIRMING_READ: Duration = Duration::from_secs(2);

/// The factor between two waits.
const GROWTH: u32 = 3;

/// The largest share of a wait that jitter adds.
const JITTER_SHARE: f64 = 0.2;

/// The longest time that jitter adds.
const JITTER_CAP: Duration = Duration::from_secs(600);

/// The waits between automatic attempts: `--retry-base` and `--retry-cap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure.
    pub base: Duration,
    /// The longest wait.
    pub cap: Duration,
}

impl Backoff {
    /// The wait after this many failures in a row: the base, three times the base, nine times, up to the cap.
    pub fn after(self, failures: u32) -> Duration {
        let factor = GROWTH.saturating_pow(failures.saturating_sub(1));
        self.base.saturating_mul(factor).min(self.cap)
    }
}

/// Adds jitter to a wait; never shortens it. `share` is a random number from 0 to 1.
pub fn with_jitter(wait: Duration, share: f64) -> Duration {
    let most = wait.mul_f64(JITTER_SHARE).min(JITTER_CAP);
    wait.saturating_add(most.mul_f64(sane_share(share)))
}

/// From half of a wait to one and a half: those that begin it together end it one by one. `share` is a random number from 0 to 1.
pub fn spread(wait: Duration, share: f64) -> Duration {
    wait.mul_f64(0.5 + sane_share(share))
}

fn sane_share(share: f64) -> f64 {
    if share.is_finite() {
        share.clamp(0.0, 1.0)
    } else {
        0.0
    }
}

/// The time after a wait, rounded up to whole seconds as the API server stores them.
pub fn later(now: Timestamp, wait: Duration) -> Timestamp {
    let exact = plus(now, wait);
    let seconds = exact.as_second() + i64::from(exact.subsec_nanosecond() > 0);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

/// A time rounded down to whole seconds, as the API server stores them.
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// The time after a wait; [`Timestamp::MAX`] on overflow.
pub fn plus(time: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait)
        .ok()
        .and_then(|wait| time.checked_add(wait).ok())
        .unwrap_or(Timestamp::MAX)
}

/// The wait until a time; zero if it has passed.
pub fn until(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(now)).unwrap_or(Duration::ZERO)
}

/// A stored time of a next attempt; one more than 73 h in the future is a clock fault and counts as 72 h from now.
pub fn sane_next(stored: &Time, now: Timestamp) -> Time {
    if stored.0 > plus(now, FURTHEST_AHEAD) {
        Time(later(now, META_WINDOW))
    } else {
        stored.clone()
    }
}

/// A stored time of a past event; one in the future is a clock fault and counts as now.
pub fn sane_past(stored: &Time, now: Timestamp) -> Time {
    if stored.0 > plus(now, CLOCK_SKEW) {
        Time(whole_seconds(now))
    } else {
        stored.clone()
    }
}

/// The time after a register call in which its outcome is not settled, because Graph's status lags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfirmWindow {
    /// The end of the call.
    pub since: Timestamp,
    /// The time until which no other call may be made.
    pub end: Timestamp,
}

impl ConfirmWindow {
    /// The window after a call that ended at `since`.
    pub fn after(since: Timestamp, length: Duration) -> Self {
        Self {
            since,
            end: plus(since, length),
        }
    }

    /// The first planned read of the number after `time`: 2 s, 6 s, 18 s and so on after the call, and one at the end.
    /// `None` when the window is over.
    pub fn next_read(&self, time: Timestamp) -> Option<Timestamp> {
        let mut wait = FIRST_CONFIRMING_READ;
        loop {
            let read = plus(self.since, wait).min(self.end);
            if read > time {
                return Some(read);
            }
            if read >= self.end {
                return None;
            }
            wait = wait.saturating_mul(GROWTH);
        }
    }

    /// Whether a planned read has become due since the last one.
    pub fn read_due(&self, last_read: Option<Timestamp>, now: Timestamp) -> bool {
        let after = last_read.map_or(self.since, |last| last.max(self.since));
        self.next_read(after).is_some_and(|read| read <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn backoff_grows_by_three_up_to_the_cap() {
        let backoff = Backoff {
            base: Duration::from_secs(30),
            cap: 18 * HOUR,
        };
        let waits: Vec<u64> = [0, 1, 2, 3, 8, u32::MAX]
            .map(|n| backoff.after(n).as_secs())
            .to_vec();
        assert_eq!(waits, [30, 30, 90, 270, 64_800, 64_800]);
    }

    #[test]
    fn the_confirm_window_is_read_early_and_at_its_end() {
        let window = ConfirmWindow::after(at(1000), Duration::from_secs(120));
        let mut reads = Vec::new();
        let mut time = window.since;
        while let Some(read) = window.next_read(time) {
            reads.push(read.as_second() - 1000);
            time = read;
        }
        assert_eq!(reads, [2, 6, 18, 54, 120]);
        assert!(!window.read_due(None, at(1001)));
        assert!(window.read_due(None, at(1002)));
        assert!(!window.read_due(Some(at(1002)), at(1005)));
        assert!(window.read_due(Some(at(1002)), at(1006)));
    }

    #[test]
    fn a_window_of_no_length_has_no_reads() {
        let window = ConfirmWindow::after(at(1000), Duration::ZERO);
        assert_eq!(window.next_read(at(1000)), None);
    }

    #[test]
    fn a_time_far_ahead_is_a_clocks_fault() {
        let now = at(1_000_000);
        let sane = sane_next(&Time(plus(now, 100 * HOUR)), now);
        assert_eq!(sane.0, plus(now, META_WINDOW));
        assert_eq!(sane_past(&Time(plus(now, HOUR)), now).0, now);
        assert_eq!(sane_past(&Time(at(5)), now).0, at(5));
        // As far as they may be ahead.
        let [next, past] = [FURTHEST_AHEAD, CLOCK_SKEW].map(|ahead| Time(plus(now, ahead)));
        assert_eq!((sane_next(&next, now), sane_past(&past, now)), (next, past));
    }

    proptest! {
        #[test]
        fn jitter_never_shortens_and_adds_little(seconds in 0u64..1_000_000, share in any::<f64>()) {
            let wait = Duration::from_secs(seconds);
            let jittered = with_jitter(wait, share);
            prop_assert!(jittered >= wait);
            prop_assert!(jittered <= wait + JITTER_CAP);
            prop_assert!(jittered <= wait.mul_f64(1.2) + Duration::from_millis(1));
        }

        #[test]
        fn a_spread_wait_is_half_of_it_to_one_and_a_half(seconds in 0u64..1_000_000, share in any::<f64>()) {
            let wait = Duration::from_secs(seconds);
            let spread = spread(wait, share);
            prop_assert!(spread >= wait.mul_f64(0.5) && spread <= wait.mul_f64(1.5));
        }

        #[test]
        fn a_stored_time_is_never_early(nanos in 0i32..1_000_000_000, wait in 0u64..10_000_000_000) {
            let now = Timestamp::new(1_700_000_000, nanos).unwrap();
            prop_assert!(later(now, Duration::from_nanos(wait)) >= plus(now, Duration::from_nanos(wait)));
        }
    }
}
