//! The clocks of a process.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

/// The two clocks of a process. Tests replace them.
#[derive(Clone)]
pub struct Clock {
    /// The wall clock.
    pub wall: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// The monotonic clock.
    pub monotonic: Arc<dyn Fn() -> Instant + Send + Sync>,
}

impl Clock {
    /// The time of the wall clock.
    pub fn now(&self) -> Timestamp {
        (self.wall)()
    }

    /// The time of the monotonic clock.
    pub fn instant(&self) -> Instant {
        (self.monotonic)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            wall: Arc::new(Timestamp::now),
            monotonic: Arc::new(Instant::now),
        }
    }
}
