//! How many reconciliations work at the same time, over all watches.
//!
//! A read of a number may take minutes where Graph does not answer, and thousands of registered numbers are read from time to time. So
//! that no registration and no deletion waits for them, they have slots of their own.

use std::sync::Arc;

use operator_core::api::WhatsAppPhoneNumber;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The permit of one reconciliation to work. It is given up while the reconciliation waits for another one, or for an API server that
/// refuses an outcome.
pub type Slot = OwnedSemaphorePermit;

/// The slots of the numbers that are only observed, and those of all others.
pub struct Slots {
    observed: Arc<Semaphore>,
    others: Arc<Semaphore>,
}

impl Slots {
    /// So many slots of each kind.
    pub fn new(each: u16) -> Self {
        let slots = || Arc::new(Semaphore::new(each.into()));
        Self {
            observed: slots(),
            others: slots(),
        }
    }

    /// Waits for a slot. For a number that is only observed it does not wait, and returns `None` if none is free: otherwise a deletion of
    /// the resource would wait as well.
    pub async fn begin(&self, resource: Option<&WhatsAppPhoneNumber>) -> Option<Slot> {
        if resource.is_some_and(is_only_observed) {
            return Arc::clone(&self.observed).try_acquire_owned().ok();
        }
        wait(&self.others).await
    }

    /// A slot for a reconciliation that gave up its own. It is waited for, and only few wait for one at the same time.
    pub async fn again(&self, resource: &WhatsAppPhoneNumber) -> Option<Slot> {
        let observed = is_only_observed(resource);
        wait(if observed {
            &self.observed
        } else {
            &self.others
        })
        .await
    }
}

/// There is always a slot to wait for: nothing closes the semaphore.
async fn wait(slots: &Arc<Semaphore>) -> Option<Slot> {
    Arc::clone(slots).acquire_owned().await.ok()
}

/// Whether the number was registered, and nothing else is to be done for it.
fn is_only_observed(resource: &WhatsAppPhoneNumber) -> bool {
    let Some(status) = &resource.status else {
        return false;
    };
    let lost = status.loss.as_ref();
    let rests = lost.map_or(status.registration.is_some(), |loss| !loss.recovering);
    let request = resource.register_request();
    let requested = request.is_some() && request != status.last_handled_register_request.as_deref();
    let seen = resource.metadata.generation == Some(status.observed_generation);
    rests && seen && !requested && resource.metadata.deletion_timestamp.is_none()
}
