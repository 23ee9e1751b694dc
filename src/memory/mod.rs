//! What the process knows beside the statuses, each part by its lifetime.
//!
//! What is lost with a restart costs time, and some of it a guarantee until it is known again: without the history of
//! calls a number's budget is that of the visible ledgers alone, and a claim that was found open is waited for again.

mod clock;
mod cooldowns;
mod history;
mod locks;
mod notes;
mod process;
mod store;

pub use clock::Clock;
pub use cooldowns::TokenCooldowns;
pub use history::CallHistory;
pub use locks::{NumberGuard, NumberLocks};
pub use notes::ObjectNotes;
pub use process::Memory;
pub use store::{Key, ResourceStore, Watched, key_of};
