//! A Kubernetes operator that registers WhatsApp Business phone numbers, once.

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
pub mod schedule;
pub mod secrets;
pub mod telemetry;
