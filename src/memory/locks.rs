//! The locks of phone numbers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// The lock of one phone number: a process never has two calls for a number in flight.
pub type NumberGuard = OwnedMutexGuard<()>;

/// The smallest number of locks at which free ones are dropped.
const SWEEP_FROM: usize = 64;

/// One lock per phone number.
#[derive(Default)]
pub struct NumberLocks(Mutex<Locks>);

#[derive(Default)]
struct Locks {
    by_number: HashMap<String, Arc<tokio::sync::Mutex<()>>>,
    sweep_at: usize,
}

impl NumberLocks {
    /// Waits for the lock of a number.
    pub async fn lock(&self, number: &str) -> NumberGuard {
        let lock = self.get(number);
        lock.lock_owned().await
    }

    /// Takes the lock of a number if it is free.
    pub fn try_lock(&self, number: &str) -> Option<NumberGuard> {
        self.get(number).try_lock_owned().ok()
    }

    fn get(&self, number: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if locks.by_number.len() >= locks.sweep_at.max(SWEEP_FROM) {
            locks
                .by_number
                .retain(|_, lock| Arc::strong_count(lock) > 1);
            locks.sweep_at = locks.by_number.len() * 2;
        }
        Arc::clone(locks.by_number.entry(number.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn free_locks_go_and_held_ones_stay() {
        let locks = NumberLocks::default();
        let held = locks.lock("held").await;
        for number in 0..10 * SWEEP_FROM {
            drop(locks.lock(&number.to_string()).await);
        }
        assert!(locks.0.lock().unwrap().by_number.len() <= SWEEP_FROM + 1);
        assert!(locks.try_lock("held").is_none());
        drop(held);
        assert!(locks.try_lock("held").is_some());
    }
}
