//! The Graph simulator keeps to the facts that were collected about the Graph API; what the
//! other tests prove is worth no more than this.

mod client;
mod faults;
mod refusals;
mod registration;
