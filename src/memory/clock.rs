//! The clocks of a process.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

/// The two clocks of a process; tests set them.
#[derive(Clone)]
pub struct Clock {
    /// The time of day.
    pub wall: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// A clock that only goes forward.
    pub monotonic: Arc<dyn Fn() -> Instant + Send + Sync>,
}

impl Clock {
    /// The time of day.
    pub fn now(&self) -> Timestamp {
        (self.wall)()
    }

    /// The time by the clock that only goes forward.
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
