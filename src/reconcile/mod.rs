//! One resource at a time: observe, decide, act, record. The decisions are made in [`operator_core::model`]; here is
//! what they need from outside and what becomes of them.

pub mod call;
pub mod claims;
pub mod context;
pub mod driver;
pub mod events;
pub mod graph_client;
mod secrets;

pub use claims::Recorder;
pub use context::Context;
pub use driver::ReconcileError;
pub use events::Events;
pub use graph_client::{GraphClient, GraphClientError, GraphSettings};
