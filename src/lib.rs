//! A Kubernetes operator that registers WhatsApp Business phone numbers, once.

pub mod api;
pub mod reason;
