//! The one test binary: all tests share one real control plane, each in a namespace of its own.

// Here a panic is a message to people, not a fault.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::unwrap_in_result
)]

/// One claim, one call: under crashes, restarts, signals, replicas and twins.
mod at_most_once;
/// Wrong Secrets are named, cost nothing and heal.
mod bad_input;
/// The Helm chart: what it refuses, what it makes, and that it works.
mod chart;
/// No secret leaves memory.
mod confidential;
/// The control plane itself: it starts, it guards, it leaves nothing behind.
mod control_plane;
/// A CRD that is older than the operator.
mod definition;
/// The documentation says what is there, and nothing else.
mod docs;
/// Crashes, deletions and renames at every step.
mod every_step;
/// What people try first does what its README says.
mod examples;
/// A faulty API server: random schedules of faults, checked against the invariants.
mod fault_schedules;
/// A Graph that does everything it should not: call by call, over days, and without a connection.
mod faulty_graph;
/// The gates that faults are made with.
mod gates;
/// What GitOps tools make of the resource, and what the examples for them hold.
mod gitops;
/// Random histories: the core and what a process remembers, checked against the invariants.
mod histories;
/// One namespace, one record, one number does not stop the rest.
mod isolation;
/// The end of a number: taken off the Cloud API, or let go.
mod leaving;
/// What the operator tells Prometheus of numbers.
mod metrics;
/// Restored, replaced, renamed, moved: a registered number takes no further call.
mod moving;
/// A registered number that is read from time to time, and lost.
mod observing;
/// What each answer to a read of the number leads to.
mod reads;
/// What becomes of a number, from its declaration to its conditions.
mod registration;
/// A release is of one version, everywhere.
mod release;
/// Several operators at once, paused leaders, and what goes away in the middle of a call.
mod replicas;
/// The resource on the API server: what it refuses, fills in, shows and keeps apart.
mod resource;
/// Two hundred numbers at once, and at rest.
mod scale;
/// Secrets that are not watched are looked at one by one.
mod secret_polls;
/// The Graph simulator keeps to the facts collected about the Graph API.
mod simulator_contract;
/// What is spent, and how fast.
mod spending;
/// Who cannot call for a number holds nobody up.
mod strangers;
/// A rate limit that all numbers of a token share.
mod token_limit;
/// What the API server and people wrote.
mod untrusted_input;
/// What wakes a resource, and what a resource at rest costs.
mod wakes;
/// What the watches bring is not lost, and nothing hangs on them.
mod watches;
