//! The metrics about resources, computed from the stores of the watches at each scrape.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use prometheus_client::collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use operator_core::api::conditions::{self, find, is_true};
use operator_core::api::{WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};
use operator_core::model::ledger;

use crate::memory::Watched;

/// Returns the watched resources, at each scrape.
pub type Resources = Box<dyn Fn() -> Vec<Arc<Watched>> + Send + Sync>;

/// Returns the time of a scrape: a register call counts for 72 hours.
pub type Clock = fn() -> Timestamp;

/// Collects `phone_numbers` and all metrics whose name begins with `phone_number_`.
pub(super) struct Collector {
    resources: Resources,
    clock: Clock,
}

/// The state of a number, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// Registered, whatever the other conditions.
    Registered,
    /// The last attempt failed, or the operator has stopped trying.
    Failed,
    /// The operator is working on the number or waiting to retry.
    Waiting,
    /// The operator has not seen the resource yet.
    Unknown,
    /// Suspended, and not registered.
    Suspended,
}

impl Collector {
    pub(super) fn new(resources: Resources, clock: Clock) -> Self {
        Self { resources, clock }
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}

impl collector::Collector for Collector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        // Shared with the stores: there may be thousands, and Prometheus scrapes every few seconds.
        let resources = (self.resources)();
        let readable = || resources.iter().filter_map(|number| number.0.as_ref().ok());
        encode_states(&mut encoder, readable().map(state))?;
        encode_conditions(&mut encoder, readable())?;
        encode_reasons(&mut encoder, readable())?;
        encode_attempts(&mut encoder, readable(), (self.clock)())
    }
}

fn encode_states(
    encoder: &mut DescriptorEncoder,
    states: impl Iterator<Item = State>,
) -> fmt::Result {
    let mut counts: BTreeMap<State, u64> = State::ALL.iter().map(|state| (*state, 0)).collect();
    for state in states {
        *counts.entry(state).or_default() += 1;
    }
    let help = "Resources by the state of their number";
    let mut metric = encoder.encode_descriptor("phone_numbers", help, None, MetricType::Gauge)?;
    for (state, count) in counts {
        let labels = [("state", state.as_str())];
        ConstGauge::new(count).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn encode_conditions<'a>(
    encoder: &mut DescriptorEncoder,
    resources: impl Iterator<Item = &'a WhatsAppPhoneNumber>,
) -> fmt::Result {
    let help = "Conditions of each resource: 1 for the current status, 0 for the others";
    let mut metric =
        encoder.encode_descriptor("phone_number_condition", help, None, MetricType::Gauge)?;
    for number in resources {
        let namespace = number.namespace().unwrap_or_default();
        let name = number.name_any();
        for (type_, current) in conditions(number.status.as_ref()) {
            for status in ["True", "False", "Unknown"] {
                let labels = [
                    ("namespace", namespace.as_str()),
                    ("name", name.as_str()),
                    ("type", type_),
                    ("status", status),
                ];
                let value = u64::from(status == current);
                ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
            }
        }
    }
    Ok(())
}

fn encode_reasons<'a>(
    encoder: &mut DescriptorEncoder,
    resources: impl Iterator<Item = &'a WhatsAppPhoneNumber>,
) -> fmt::Result {
    let help = "1 for the current reason of each resource: that of Failed if it is True, else that of Ready";
    let mut metric =
        encoder.encode_descriptor("phone_number_reason", help, None, MetricType::Gauge)?;
    for number in resources {
        let Some(reason) = number.status.as_ref().and_then(reason) else {
            continue;
        };
        let namespace = number.namespace().unwrap_or_default();
        let name = number.name_any();
        let labels = [
            ("namespace", namespace.as_str()),
            ("name", name.as_str()),
            ("reason", reason),
        ];
        ConstGauge::new(1_u64).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn encode_attempts<'a>(
    encoder: &mut DescriptorEncoder,
    resources: impl Iterator<Item = &'a WhatsAppPhoneNumber>,
    now: Timestamp,
) -> fmt::Result {
    let help = "Register calls of the last 72 hours in the ledger of each resource that count toward Meta's ten";
    let mut metric =
        encoder.encode_descriptor("phone_number_attempts", help, None, MetricType::Gauge)?;
    for number in resources {
        let namespace = number.namespace().unwrap_or_default();
        let name = number.name_any();
        let labels = [("namespace", namespace.as_str()), ("name", name.as_str())];
        let attempts = number.status.iter().map(|status| &*status.attempts);
        let count: usize = attempts.map(|all| ledger::counted(all, now)).sum();
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        ConstGauge::new(count).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

/// The reason of the state. That of a failure takes precedence: a registered number stays Ready, with its own reason, when
/// a requested call fails.
fn reason(status: &WhatsAppPhoneNumberStatus) -> Option<&str> {
    let type_ = if is_true(status, conditions::FAILED) {
        conditions::FAILED
    } else {
        conditions::READY
    };
    find(status, type_).map(|condition| condition.reason.as_str())
}

/// The type and status of the present conditions, and of the two whose absence means False.
fn conditions(status: Option<&WhatsAppPhoneNumberStatus>) -> BTreeMap<&str, &str> {
    let absent = [conditions::RECONCILING, conditions::STALLED].map(|type_| (type_, "False"));
    let present = status.into_iter().flat_map(|status| &status.conditions);
    let present = present.map(|condition| (condition.type_.as_str(), condition.status.as_str()));
    absent.into_iter().chain(present).collect()
}

pub(super) fn state(number: &WhatsAppPhoneNumber) -> State {
    let status = number.status.as_ref();
    let conditions = conditions(status);
    let is_true = |type_| conditions.get(type_) == Some(&"True");
    if is_true(conditions::REGISTERED) {
        State::Registered
    } else if number.spec.suspend {
        State::Suspended
    } else if is_true(conditions::STALLED) || is_true(conditions::FAILED) {
        State::Failed
    } else if is_true(conditions::RECONCILING) {
        State::Waiting
    } else {
        State::Unknown
    }
}

impl State {
    const ALL: &[Self] = &[
        Self::Registered,
        Self::Failed,
        Self::Waiting,
        Self::Unknown,
        Self::Suspended,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Failed => "failed",
            Self::Waiting => "waiting",
            Self::Unknown => "unknown",
            Self::Suspended => "suspended",
        }
    }
}
