//! A Kubernetes operator that registers WhatsApp Business phone numbers with Meta's Cloud API: once.
//!
//! A `WhatsAppPhoneNumber` has a phone number ID and references the Secrets with the access token and the PIN. The operator
//! makes the one call `POST /{version}/{phone-number-id}/register` and writes its outcome to the status of the resource.
//!
//! # The flow
//!
//! Every reconciliation has four steps: observe, decide, act, record. Only [`decide`](fn@operator_core::model::decide) knows
//! what should happen, and it is pure: time, settings and random numbers are arguments.
//!
//! ```text
//!   watches          observe              decide              act                  record
//!  ┌──────────┐     ┌──────────┐        ┌────────────┐      ┌──────────────┐     ┌────────────┐
//!  │ resources│     │ resource │ all    │ decide(    │ one  │ load Secrets │     │ claim      │
//!  │ Secrets  ├────▶│ Secrets  ├───────▶│  &Observed,├─────▶│ read number  ├────▶│ outcome    │
//!  │ (store)  │     │ number   │ known  │  now)      │ step │ claim + POST │     │ conditions │
//!  └──────────┘     └────▲─────┘        └────────────┘      └──────┬───────┘     └─────┬──────┘
//!                        └───────── results of the read ───────────┘                   │
//!        ▲                                                                             │
//!        └──────────── `status.nextAttemptTime`, or a change of the resource ──────────┘
//! ```
//!
//! A reconciliation calls `decide` repeatedly. Each decision names the one thing that is missing (the Secrets, a
//! read of the number), or the one thing to do (claim and call), or the status to end with. The shell around it is pure as well:
//! a [`machine`](operator_core::model::machine) that asks for one effect after another. `reconcile` performs them; the tests'
//! models of processes, clusters and clocks drive the same one.
//!
//! # At most once
//!
//! Meta allows ten register calls for a number in 72 hours, failed ones included, and accepts no idempotency key. So:
//!
//! 1. The number is read before every call; one that is registered is adopted, and no automatic call follows.
//! 2. A claim is written to the status, with the `resourceVersion` that the decision was made on. That write is the
//!    fence: the API server accepts it from one of several writers. Leader election only avoids duplicate work.
//! 3. A claim leads to at most one POST, by the process that wrote it, and only while at least half of its `ttlSeconds` is
//!    left. No layer below retries.
//! 4. The outcome is written by the claim's ID until it is stored, the resource is gone or the process ends. A claim whose process is gone becomes
//!    `OutcomeUnknown`: the number is read, and nothing is sent before the confirm window is over.
//!
//! # The rooms
//!
//! Imports go down this list only, and no two files import each other:
//!
//! - `runtime`: start and stop, the watches and their triggers, leader election, health checks.
//! - [`reconcile`]: one resource at a time: the driver of the decisions, claims and records, Secrets, events, Graph.
//! - [`telemetry`]: logs and metrics.
//! - [`memory`]: the knowledge of the process: the watched resources, the history of calls, cool-downs, locks, notes.
//! - [`config`]: flags and environment variables, and the settings made from them.
//! - [`operator_core`]: all decisions, without I/O and without a clock.

pub mod config;
pub mod memory;
pub mod reconcile;
mod runtime;
pub mod telemetry;

pub use runtime::program::main;
