//! The decisions. Nothing here does I/O or reads a clock.
//!
//! One call, from the beginning to the end: [`machine`] asks for the lock of the number and begins a round. [`phase`] reads the
//! status into a state, [`goal`] says what is wanted, and [`decide()`] returns the next step: read the Secrets, read the number, claim. The
//! machine has the claim written, checks one last time, and asks for the call. [`apply_outcome`] makes the outcome the
//! number's phase, [`render`] writes that as fields and conditions, and the machine asks for the write until it is stored. A second
//! round then decides what follows: a wait ([`schedule`]), a stall, or rest.
//!
//! What happens besides that, and where it is decided:
//! - A process ends between claim and outcome: `Facts::await_claim` in `decide/settle.rs`, for whoever finds the claim open.
//! - A registered number is read from time to time, and may be found lost: `decide/observe.rs`; [`observe`] says when.
//! - A resource is deleted and its number deregistered: `decide/leave.rs`. The claim, the call and the record are those above;
//!   `operation.rs` has what differs.
//! - Resources share a number: [`twins`]. A token meets its rate limit: [`cooldown`]. The CRD is older than the operator: [`definition`].

pub mod apply;
pub mod cooldown;
pub mod decide;
mod decision;
pub mod definition;
pub mod event;
pub mod goal;
pub mod ledger;
pub mod machine;
pub mod observe;
mod operation;
pub mod phase;
mod policy;
pub mod refused;
pub mod render;
pub mod schedule;
pub mod twins;

pub use apply::{ApplyContext, CallResult, apply_outcome};
pub use cooldown::Cooldown;
pub use decide::decide;
pub use decision::{
    Claim, Decision, Farewell, FarewellOutcome, Finalize, Inputs, Observed, OpenClaim, Requeue,
    Survey,
};
pub use event::EventDraft;
pub use policy::{Life, PER_POLLED_SECRET, Policy};
pub use refused::RefusedPin;
pub use twins::Peers;
