//! The metrics about resources, computed from the stores of the watches at each scrape.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use prometheus_client::collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelValue, EncodeMetric, LabelValueEncoder,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};

use operator_core::api::conditions::{self, find, is_registered, is_true};
use operator_core::api::{Operation, Reason, WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};
use operator_core::model::ledger;

use crate::config::MetricsPerNumber;
use crate::memory::Watched;

/// Returns the watched resources, at each scrape.
pub type Resources = Box<dyn Fn() -> Vec<Arc<Watched>> + Send + Sync>;

/// Returns the time of a scrape: a register call counts for 72 hours.
pub type Clock = fn() -> Timestamp;

/// Collects `phone_numbers` and all metrics whose name begins with `phone_number_`.
pub(super) struct Collector {
    pub resources: Resources,
    pub clock: Clock,
    pub per_number: MetricsPerNumber,
    /// Only the leader has series of each number: those of a follower would be the same once more.
    pub leader: Gauge<u64, AtomicU64>,
}

label_values! {
    /// The state of a number, in one word: what its conditions say.
    State {
        /// Registered, whatever the other conditions.
        Registered => "Registered",
        /// Registered once, and no longer, as reads have shown.
        Lost => "Lost",
        /// A call is in flight, or its outcome is being confirmed.
        Registering => "Registering",
        /// The last attempt failed, or none can be made; the operator tries again by itself.
        Waiting => "Waiting",
        /// The operator does not try again until something changes.
        Stalled => "Stalled",
        /// Suspended, and not registered.
        Suspended => "Suspended",
        /// The operator has not looked at the resource yet.
        Unseen => "Unseen",
    }
}

/// A label and its value.
type Label<'a> = (&'static str, &'a str);

/// What a metric says of a number: a value, and a label besides the number's own.
type Sample<'a> = (Option<Label<'a>>, i64);

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}

impl collector::Collector for Collector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        // Shared with the stores: there may be thousands, and Prometheus scrapes every few seconds.
        let resources = (self.resources)();
        let readable = resources.iter().filter_map(|number| number.0.as_ref().ok());
        let states: Vec<_> = readable.clone().map(State::of).collect();
        encode_sums(&mut encoder, &states)?;
        let shown: Vec<_> = readable.filter(|number| self.shows(number)).collect();
        if shown.is_empty() {
            return Ok(());
        }
        encode_numbers(&mut encoder, &shown, (self.clock)())
    }
}

impl Collector {
    fn shows(&self, number: &WhatsAppPhoneNumber) -> bool {
        let wanted = match self.per_number {
            MetricsPerNumber::All => true,
            MetricsPerNumber::Unregistered => {
                let status = number.status.as_ref();
                !status.is_some_and(|status| is_registered(status) && is_observed(status))
            }
            MetricsPerNumber::None => false,
        };
        wanted && self.leader.get() > 0
    }
}

fn encode_sums(encoder: &mut DescriptorEncoder, states: &[State]) -> fmt::Result {
    let help = "Resources by the state of their number";
    let mut metric = encoder.encode_descriptor("phone_numbers", help, None, MetricType::Gauge)?;
    for &state in State::ALL {
        let count = states.iter().filter(|of_number| **of_number == state);
        let count = u64::try_from(count.count()).unwrap_or(u64::MAX);
        ConstGauge::new(count).encode(metric.encode_family(&[("state", state)])?)?;
    }
    Ok(())
}

/// At most five series for each number, so that ten thousand of them stay affordable.
fn encode_numbers(
    encoder: &mut DescriptorEncoder,
    numbers: &[&WhatsAppPhoneNumber],
    now: Timestamp,
) -> fmt::Result {
    encode(
        encoder,
        "phone_number_state",
        "1 for the current state of each number",
        numbers,
        |number| Some((Some(("state", State::of(number).as_str())), 1)),
    )?;
    encode(
        encoder,
        "phone_number_reason",
        "1 for the current reason of each number: that of Failed if it is True, else that of Ready",
        numbers,
        |number| Some((Some(("reason", reason(number.status.as_ref()?)?)), 1)),
    )?;
    encode(
        encoder,
        "phone_number_attempts",
        "Register calls of the last 72 hours in the ledger of each number that count toward Meta's ten",
        numbers,
        |number| Some((None, attempts(number, now))),
    )?;
    encode(
        encoder,
        "phone_number_observed",
        "1 if the last observation of each number had a usable answer, 0 if it had none",
        numbers,
        |number| {
            let observation = number.status.as_ref()?.observation.as_ref()?;
            Some((None, i64::from(observation.fault.is_none())))
        },
    )?;
    encode(
        encoder,
        "phone_number_next_attempt_timestamp_seconds",
        "Time of the next automatic attempt of each number that waits for one, in seconds since 1970",
        numbers,
        |number| {
            let next = number.status.as_ref()?.next_attempt_time.as_ref()?;
            Some((None, next.0.as_second()))
        },
    )
}

/// Writes a metric: a series for each number that it says something of.
fn encode(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    numbers: &[&WhatsAppPhoneNumber],
    sample: impl for<'a> Fn(&'a WhatsAppPhoneNumber) -> Option<Sample<'a>>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for number in numbers {
        let Some((label, value)) = sample(number) else {
            continue;
        };
        let meta = &number.metadata;
        let own = [("namespace", &meta.namespace), ("name", &meta.name)];
        let own = own.map(|(label, value)| (label, value.as_deref().unwrap_or_default()));
        let labels: Vec<Label<'_>> = own.into_iter().chain(label).collect();
        ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn attempts(number: &WhatsAppPhoneNumber, now: Timestamp) -> i64 {
    let mut calls = ledger::of(number.attempts(), Operation::Register);
    calls.retain(|call| !call.earlier);
    let counted = ledger::counted(&calls, now);
    i64::try_from(counted).unwrap_or(i64::MAX)
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

/// Whether the last observation, if there was one, had a usable answer.
fn is_observed(status: &WhatsAppPhoneNumberStatus) -> bool {
    let observation = status.observation.as_ref();
    observation.is_none_or(|observation| observation.fault.is_none())
}

impl State {
    fn of(number: &WhatsAppPhoneNumber) -> Self {
        let Some(status) = &number.status else {
            return Self::Unseen;
        };
        match find(status, conditions::READY) {
            _ if is_registered(status) => Self::Registered,
            None => Self::Unseen,
            Some(_) if status.loss.is_some() => Self::Lost,
            Some(ready) if ready.reason == Reason::Suspended.as_str() => Self::Suspended,
            Some(_) if is_true(status, conditions::STALLED) => Self::Stalled,
            Some(_) if is_true(status, conditions::FAILED) => Self::Waiting,
            Some(_) => Self::Registering,
        }
    }
}
