//! What the process remembers beyond the statuses, grouped by lifetime.
//!
//! Its loss at a restart costs time, and weakens a guarantee until it is known again: without the history of calls, only
//! the visible ledgers limit a number's budget, and the wait for an open claim starts over.

mod clock;
mod cooldowns;
mod definition;
mod farewells;
mod history;
mod locks;
mod notes;
mod process;
mod pulses;
mod refused_pins;
mod store;
mod versions;
mod watches;

pub use clock::Clock;
pub use cooldowns::TokenCooldowns;
pub use history::CallHistory;
pub use locks::{NumberGuard, NumberLocks};
pub use notes::ObjectNotes;
pub use process::Memory;
pub use pulses::{Mover, Pulses};
pub use store::{Key, ResourceStore, Wake, Watched, key_of};
pub use watches::{WatchFault, WatchId, WatchStates};
