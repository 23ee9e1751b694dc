//! The metrics. Counters and histograms are kept here; metrics about single resources are computed from the stores of the
//! watches at each scrape, so that they need no memory and end with their resource.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use operator_core::api::{self, Reason};
use operator_core::graph::RegistrationState;
use operator_core::model::FarewellOutcome;

use crate::config::MetricsPerNumber;
use crate::memory::WatchId;

pub use resources::{Clock, Resources};

/// The media type of [`Metrics::encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From one status write to a call that lasts until its timeout, in seconds.
const RECONCILE_BUCKETS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0,
];
/// Graph answers a register call within a few seconds; the default timeout is 30 s.
const GRAPH_BUCKETS: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// The metrics of the operator.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconciliations: Family<ResultLabel, Counter>,
    reconcile_duration: Histogram,
    graph_requests: Family<RequestLabels, Counter>,
    graph_request_duration: Family<OperationLabel, Histogram, fn() -> Histogram>,
    registration_attempts: Family<ReasonLabel, Counter>,
    registrations_lost: Counter,
    deregistrations: Family<DeregistrationLabel, Counter>,
    versions_expired: Gauge,
    unrecorded_outcomes: Gauge,
    watch_up: Family<WatchLabels, Gauge>,
    leader: Gauge<u64, AtomicU64>,
    definition_outdated: Gauge<u64, AtomicU64>,
    attempt_limit: Gauge<u64, AtomicU64>,
}

/// An outcome that waits to be stored.
#[derive(Debug)]
pub struct Unrecorded(Gauge);

impl Drop for Unrecorded {
    fn drop(&mut self) {
        self.0.dec();
    }
}

macro_rules! label_values {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident => $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Every value of the label.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The value of the label.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
                self.as_str().encode(encoder)
            }
        }
    };
}

// The macro is known from here on.
mod resources;

label_values! {
    /// The result of a reconciliation.
    ReconcileResult {
        /// The reconciliation is complete.
        Success => "success",
        /// Another writer modified the resource concurrently; the reconciliation is retried.
        Conflict => "conflict",
        /// The API server could not be reached, or rejected a request.
        Error => "error",
    }
}

label_values! {
    /// A call to the Graph API.
    Operation {
        /// GET of the number.
        Read => "read",
        /// POST to `/register`.
        Register => "register",
        /// POST to `/deregister`.
        Deregister => "deregister",
    }
}

label_values! {
    /// The outcome of a call to the Graph API.
    GraphOutcome {
        /// The call succeeded.
        Success => "success",
        /// Graph rejected the call: it needs a change, or a wait.
        Rejected => "rejected",
        /// A rate limit.
        RateLimited => "rate_limited",
        /// Graph has a temporary fault.
        Unavailable => "unavailable",
        /// No connection was made; nothing was sent.
        Unreachable => "unreachable",
        /// The request was sent and there is no readable answer.
        Unreadable => "unreadable",
    }
}

label_values! {
    /// What became of the number of a resource that was deleted with its finalizer.
    Deregistration {
        /// The number is not registered.
        Deregistered => "deregistered",
        /// The number was not registered for the resource.
        NotRegistered => "not_registered",
        /// The number stays registered.
        LeftRegistered => "left_registered",
        /// A deregister call may or may not have taken effect.
        InDoubt => "in_doubt",
    }
}

impl From<api::Operation> for Operation {
    fn from(operation: api::Operation) -> Self {
        match operation {
            api::Operation::Register => Self::Register,
            api::Operation::Deregister => Self::Deregister,
        }
    }
}

impl From<FarewellOutcome> for Deregistration {
    fn from(outcome: FarewellOutcome) -> Self {
        match outcome {
            FarewellOutcome::Deregistered => Self::Deregistered,
            FarewellOutcome::NotRegistered => Self::NotRegistered,
            FarewellOutcome::LeftRegistered => Self::LeftRegistered,
            FarewellOutcome::InDoubt => Self::InDoubt,
        }
    }
}

impl GraphOutcome {
    /// The label for the outcome of a call that acts.
    pub const fn of_call(reason: Reason) -> Self {
        match reason {
            Reason::RateLimited => Self::RateLimited,
            Reason::GraphUnavailable => Self::Unavailable,
            Reason::GraphUnreachable => Self::Unreachable,
            Reason::OutcomeUnknown => Self::Unreadable,
            Reason::Deregistered => Self::Success,
            reason if reason.is_registered() => Self::Success,
            _ => Self::Rejected,
        }
    }

    /// The label for the outcome of a read.
    pub const fn of_read(state: RegistrationState) -> Self {
        match state {
            RegistrationState::Registered | RegistrationState::NotRegistered => Self::Success,
            RegistrationState::Stall(_)
            | RegistrationState::Unclear(Some(_))
            | RegistrationState::LacksField => Self::Rejected,
            RegistrationState::Wait(reason) => Self::of_call(reason),
            RegistrationState::Unclear(None) => Self::Unreadable,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: ReconcileResult,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    operation: Operation,
    outcome: GraphOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabel {
    operation: Operation,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeregistrationLabel {
    outcome: Deregistration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WatchLabels {
    kind: &'static str,
    namespace: String,
}

// === impl Metrics ===

impl Metrics {
    /// The metrics at zero; `resources` and `clock` are called at each scrape.
    pub fn new(
        attempt_limit: u16,
        per_number: MetricsPerNumber,
        resources: Resources,
        clock: Clock,
    ) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("whatsapp_operator"),
            reconciliations: Family::default(),
            reconcile_duration: Histogram::new(RECONCILE_BUCKETS),
            graph_requests: Family::default(),
            graph_request_duration: Family::new_with_constructor(|| Histogram::new(GRAPH_BUCKETS)),
            registration_attempts: Family::default(),
            registrations_lost: Counter::default(),
            deregistrations: Family::default(),
            versions_expired: Gauge::default(),
            unrecorded_outcomes: Gauge::default(),
            watch_up: Family::default(),
            leader: Gauge::default(),
            definition_outdated: Gauge::default(),
            attempt_limit: Gauge::default(),
        };
        metrics.register(resources::Collector {
            resources,
            clock,
            per_number,
            leader: metrics.leader.clone(),
        });
        metrics.start_at_zero();
        metrics.attempt_limit.set(attempt_limit.into());
        metrics
    }

    fn register(&mut self, resources: resources::Collector) {
        // The text encoder adds `_total` to counters and `_info` to the info itself.
        let registry = &mut self.registry;
        registry.register(
            "reconciliations",
            "Reconciliations by result",
            self.reconciliations.clone(),
        );
        registry.register(
            "reconcile_duration_seconds",
            "Duration of reconciliations",
            self.reconcile_duration.clone(),
        );
        registry.register(
            "graph_requests",
            "Calls to the Graph API by operation and outcome",
            self.graph_requests.clone(),
        );
        registry.register(
            "graph_request_duration_seconds",
            "Duration of calls to the Graph API",
            self.graph_request_duration.clone(),
        );
        registry.register(
            "registration_attempts",
            "Register calls that were claimed, by the reason of their outcome",
            self.registration_attempts.clone(),
        );
        registry.register(
            "registrations_lost",
            "Registered numbers that were found to be no longer registered",
            self.registrations_lost.clone(),
        );
        registry.register(
            "deregistrations",
            "Resources deleted with deletionPolicy Deregister, by what became of their number",
            self.deregistrations.clone(),
        );
        registry.register(
            "graph_api_versions_expired",
            "Versions of the Graph API that were asked for and are past their end, so that another one answered",
            self.versions_expired.clone(),
        );
        registry.register(
            "unrecorded_outcomes",
            "Register calls that are over and whose outcome the API server does not store",
            self.unrecorded_outcomes.clone(),
        );
        registry.register(
            "watch_up",
            "1 if the watch of a kind in a namespace (* for all) works, 0 if its last request failed",
            self.watch_up.clone(),
        );
        registry.register(
            "leader",
            "1 if this process is the leader, else 0",
            self.leader.clone(),
        );
        registry.register(
            "definition_outdated",
            "1 while the API server drops status fields that the operator relies on, as its CRD is older, else 0",
            self.definition_outdated.clone(),
        );
        registry.register(
            "attempt_limit",
            "Limit of automatic register calls per number in 72 hours",
            self.attempt_limit.clone(),
        );
        registry.register(
            "build",
            "Version of the operator",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register_collector(Box::new(resources));
    }

    /// Creates all series with fixed labels: one that appears with its first count has no rate.
    fn start_at_zero(&self) {
        for &result in ReconcileResult::ALL {
            drop(self.reconciliations.get_or_create(&ResultLabel { result }));
        }
        for &operation in Operation::ALL {
            drop(
                self.graph_request_duration
                    .get_or_create(&OperationLabel { operation }),
            );
            for &outcome in GraphOutcome::ALL {
                drop(
                    self.graph_requests
                        .get_or_create(&RequestLabels { operation, outcome }),
                );
            }
        }
        for &outcome in Deregistration::ALL {
            let label = DeregistrationLabel { outcome };
            drop(self.deregistrations.get_or_create(&label));
        }
        for reason in Reason::ALL.iter().filter(|reason| reason.ends_an_attempt()) {
            drop(self.registration_attempts.get_or_create(&ReasonLabel {
                reason: reason.as_str(),
            }));
        }
    }

    /// Counts a reconciliation.
    pub fn reconciled(&self, result: ReconcileResult, took: Duration) {
        self.reconciliations
            .get_or_create(&ResultLabel { result })
            .inc();
        self.reconcile_duration.observe(took.as_secs_f64());
    }

    /// Counts a call to the Graph API.
    pub fn graph_request(&self, operation: Operation, outcome: GraphOutcome, took: Duration) {
        self.graph_requests
            .get_or_create(&RequestLabels { operation, outcome })
            .inc();
        self.graph_request_duration
            .get_or_create(&OperationLabel { operation })
            .observe(took.as_secs_f64());
    }

    /// Counts an attempt that has ended.
    pub fn registration_attempt(&self, reason: Reason) {
        self.registration_attempts
            .get_or_create(&ReasonLabel {
                reason: reason.as_str(),
            })
            .inc();
    }

    /// Sets whether the API server drops status fields that the operator relies on.
    pub fn definition_outdated(&self, outdated: bool) {
        self.definition_outdated.set(u64::from(outdated));
    }

    /// Counts a number that was registered and no longer is.
    pub fn registration_lost(&self) {
        self.registrations_lost.inc();
    }

    /// Counts a resource that goes, by what became of its number.
    pub fn farewell(&self, outcome: FarewellOutcome) {
        let outcome = outcome.into();
        self.deregistrations
            .get_or_create(&DeregistrationLabel { outcome })
            .inc();
    }

    /// Counts a version of the Graph API that is past its end.
    pub fn version_expired(&self) {
        self.versions_expired.inc();
    }

    /// Counts an outcome that waits to be stored, until the value is dropped.
    pub fn unrecorded(&self) -> Unrecorded {
        self.unrecorded_outcomes.inc();
        Unrecorded(self.unrecorded_outcomes.clone())
    }

    /// Sets whether a watch works.
    pub fn set_watch(&self, watch: &WatchId, up: bool) {
        let labels = WatchLabels {
            kind: watch.kind,
            namespace: watch.namespace.clone().unwrap_or_else(|| "*".to_owned()),
        };
        self.watch_up.get_or_create(&labels).set(up.into());
    }

    /// Sets whether this process is the leader.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(u64::from(leads));
    }

    /// Writes the text of `/metrics`, in the OpenMetrics format.
    pub fn encode(&self, text: &mut impl fmt::Write) -> fmt::Result {
        prometheus_client::encoding::text::encode(text, &self.registry)
    }
}

#[cfg(test)]
mod tests;
