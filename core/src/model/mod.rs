//! The decisions. [`decide()`] returns the next step for an observation, [`apply`] writes the outcome of a call into the
//! status, and [`render`] sets the conditions. Nothing here does I/O or reads a clock.

pub mod apply;
pub mod decide;
mod decision;
pub mod event;
pub mod goal;
pub mod ledger;
pub mod machine;
mod operation;
pub mod phase;
mod policy;
pub mod render;
pub mod schedule;
pub mod twins;

pub use apply::{ApplyContext, CallResult, apply_outcome};
pub use decide::{cooldown_until, decide};
pub use decision::{Claim, Decision, Inputs, Observed, OpenClaim, Requeue};
pub use event::EventDraft;
pub use policy::Policy;
pub use twins::Peers;
