//! One resource at a time: observe, decide, act, record. What to do, and in which order, is decided in
//! [`operator_core::model`]; this room does the I/O.

pub mod claims;
mod context;
pub(crate) mod driver;
mod events;
pub mod graph_client;
mod host;
mod missing;
mod secrets;
mod slots;

pub(crate) use claims::Recorder;
pub(crate) use context::Context;
pub(crate) use driver::ReconcileError;
pub(crate) use events::Events;
pub use graph_client::{GraphClient, GraphClientError};
pub(crate) use slots::{Slot, Slots};
