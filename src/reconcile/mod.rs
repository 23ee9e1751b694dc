//! One resource at a time: observe, decide, act, record. The decisions are made in [`operator_core::model`]; this room
//! does the I/O before and after them.

mod call;
pub mod claims;
mod context;
pub(crate) mod driver;
mod events;
pub mod graph_client;
mod secrets;

pub(crate) use claims::Recorder;
pub(crate) use context::Context;
pub(crate) use driver::ReconcileError;
pub(crate) use events::Events;
pub use graph_client::{GraphClient, GraphClientError};
