//! A time of day that can be set, and a clock that nobody sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use testkit::world::START;
use whatsapp_operator::memory;

#[derive(Clone)]
pub(crate) struct Clock {
    began: Instant,
    uptime: Arc<AtomicU64>,
    offset: Arc<AtomicI64>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            uptime: Arc::default(),
            offset: Arc::default(),
        }
    }

    /// The time by the clock that nobody sets.
    pub(crate) fn uptime(&self) -> Duration {
        Duration::from_millis(self.uptime.load(Relaxed))
    }

    /// The time of day.
    pub(crate) fn now(&self) -> Timestamp {
        let uptime = i64::try_from(self.uptime.load(Relaxed)).expect("some days");
        let millisecond = START * 1000 + uptime + self.offset.load(Relaxed) * 1000;
        Timestamp::from_millisecond(millisecond).expect("a time of day")
    }

    pub(crate) fn go_to(&self, uptime: Duration) {
        let uptime = u64::try_from(uptime.as_millis()).expect("some days");
        self.uptime.fetch_max(uptime, Relaxed);
    }

    /// Somebody sets the time of day.
    pub(crate) fn jump(&self, seconds: i64) {
        self.offset.fetch_add(seconds, Relaxed);
    }

    pub(crate) fn for_memory(&self) -> memory::Clock {
        let (wall, monotonic) = (self.clone(), self.clone());
        memory::Clock {
            wall: Arc::new(move || wall.now()),
            monotonic: Arc::new(move || monotonic.began + monotonic.uptime()),
        }
    }
}
