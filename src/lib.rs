//! A Kubernetes operator that registers WhatsApp Business phone numbers with Meta's Cloud API: once.
//!
//! A `WhatsAppPhoneNumber` names a phone number ID and the Secrets with the access token and the PIN. The operator makes
//! the one call `POST /{version}/{phone-number-id}/register` and writes to the resource's status what came of it.
//!
//! # The flow
//!
//! Every pass over a resource is the same four steps in four places. Only [`decide`] knows what should happen, and it is
//! pure: time, settings and random numbers are arguments.
//!
//! ```text
//!   watches          observe              decide              act                  record
//!  ┌──────────┐     ┌──────────┐        ┌────────────┐      ┌──────────────┐     ┌────────────┐
//!  │ resources│     │ resource │ all    │ decide(    │ one  │ load Secrets │     │ claim      │
//!  │ Secrets  ├────▶│ Secrets  ├───────▶│  &Observed,├─────▶│ read number  ├────▶│ outcome    │
//!  │ (index)  │     │ number   │ known  │  now)      │ step │ claim + POST │     │ conditions │
//!  └──────────┘     └────▲─────┘        └────────────┘      └──────┬───────┘     └─────┬──────┘
//!                        └───────── what a read brought ───────────┘                   │
//!        ▲                                                                             │
//!        └──────────── `status.nextAttemptTime`, or a change of the resource ──────────┘
//! ```
//!
//! A pass asks [`decide::decide`] again and again. Each answer names the one thing that is missing (the Secrets, a read
//! of the number), or the one thing to do (claim and call), or the status to end with.
//!
//! # At most once
//!
//! Meta allows ten register calls for a number in 72 hours, failed ones included, and takes no idempotency key. So:
//!
//! 1. The number is read before a call; one that is registered is adopted and nothing is sent.
//! 2. A claim is written to the status, with the `resourceVersion` that the decision was made on. That write is the
//!    fence: of several writers the API server lets one through. Leader election only saves work.
//! 3. A claim leads to at most one POST, by the process that wrote it, and only while at least half of the claim's time
//!    is left. Nothing below retries.
//! 4. The outcome is written by the claim's ID until it is stored. A claim whose process is gone becomes
//!    `OutcomeUnknown`: the number is read, and nothing is sent before the confirm window is over.
//!
//! # The modules
//!
//! What people see:
//! - [`api`]: the resource, its status, the CRD.
//! - [`reason`]: every reason of a condition, what to do about it, what follows from it.
//! - [`config`]: flags and environment variables, and the settings that they make.
//!
//! Pure, without I/O or a clock:
//! - [`decide`]: what to do next.
//! - [`conclude`]: what the outcome of a call means for the status.
//! - [`conditions`]: from where a number stands to its conditions.
//! - [`ledger`]: the register calls of the last 72 hours, and the budget that is left.
//! - [`schedule`]: backoff, jitter, the confirm window.
//! - [`duplicates`]: which of several resources of one number goes ahead.
//! - [`secrets`]: from Secrets to the inputs of a call, or to why there is none.
//! - [`digest`]: how a change of those inputs is noticed without keeping them.
//! - [`redact`]: takes secrets out of what Graph says.
//! - [`text`]: one line of a bounded size.
//! - [`relist`]: says which objects a watch has changed, when they stand in its store.
//! - [`notice`]: which change is worth an event.
//!
//! I/O:
//! - [`operator`]: starts and stops everything.
//! - [`controller`]: the watches, and what makes a pass.
//! - [`pass`]: one pass over a resource.
//! - [`attempt`]: one register attempt from its claim to its record.
//! - [`record`]: writes statuses.
//! - [`graph`]: the two calls to Meta's Graph API; building and reading them is pure.
//! - [`events`]: publishes events.
//! - [`leader`]: leader election.
//! - [`health`]: `/livez`, `/readyz`, `/metrics`.
//!
//! What the process knows:
//! - [`index`]: which resources name a number or a Secret.
//! - [`memory`]: what it remembers beside the statuses.
//! - [`metrics`]: what it counts.
//! - [`telemetry`]: log lines, and what may never stand in one.

pub mod api;
pub mod attempt;
pub mod conclude;
pub mod conditions;
pub mod config;
pub mod controller;
pub mod decide;
pub mod digest;
pub mod duplicates;
pub mod events;
#[cfg(test)]
mod foreign_bytes;
pub mod graph;
pub mod health;
pub mod index;
pub mod leader;
pub mod ledger;
pub mod memory;
pub mod metrics;
pub mod notice;
pub mod operator;
pub mod pass;
pub mod reason;
pub mod record;
pub mod redact;
pub mod relist;
pub mod schedule;
pub mod secrets;
pub mod telemetry;
pub mod text;
