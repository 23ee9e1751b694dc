//! The conditions of a status, rendered from a [`Summary`].
//!
//! A summary sets all five conditions together, so that they cannot contradict each other.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::schedule::whole_seconds;
use crate::api::conditions::{self, FALSE, TRUE, Truth, UNKNOWN, is_registered};
use crate::api::text::{MESSAGE, cut, one_line};
use crate::api::{Reason, WhatsAppPhoneNumberStatus};

/// The state of a number: its phase, the reason, and the message to the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub phase: Phase,
    pub reason: Reason,
    /// What happened, why, and what to do next, in one line.
    pub message: String,
}

/// The phases that conditions can express.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The number is registered.
    Registered,
    /// A register call is claimed and may be in flight.
    Registering,
    /// The operator is finding out whether the number is registered.
    Confirming,
    /// Not registered; the operator retries automatically.
    Waiting,
    /// Not registered; the operator does not retry until something changes.
    Stalled,
    /// Not registered, and no call is wanted.
    Suspended,
}

impl Summary {
    pub(super) fn new(phase: Phase, reason: Reason, message: String) -> Self {
        Self {
            phase,
            reason,
            message,
        }
    }
}

impl Phase {
    /// The status of `Registered` and `Ready`.
    const fn registered(self) -> Truth {
        match self {
            Self::Registered => TRUE,
            Self::Registering | Self::Confirming => UNKNOWN,
            Self::Waiting | Self::Stalled | Self::Suspended => FALSE,
        }
    }

    const fn failed(self) -> Truth {
        match self {
            Self::Waiting | Self::Stalled => TRUE,
            Self::Registered | Self::Registering | Self::Confirming | Self::Suspended => FALSE,
        }
    }

    const fn reconciling(self) -> bool {
        matches!(self, Self::Registering | Self::Confirming | Self::Waiting)
    }

    const fn stalled(self) -> bool {
        matches!(self, Self::Stalled)
    }
}

/// Sets all conditions. A registered number stays registered, whatever the outcome of a requested call: only `Failed`
/// and `Reconciling` show that.
pub fn set(
    status: &mut WhatsAppPhoneNumberStatus,
    summary: &Summary,
    generation: i64,
    now: Timestamp,
) {
    let Summary {
        phase,
        reason,
        message,
    } = summary;
    let stays_registered = is_registered(status) && *phase != Phase::Registered;
    let mut writer = Writer {
        status,
        reason: *reason,
        message: cut(&one_line(message), MESSAGE),
        now,
    };
    if !stays_registered {
        writer.put(conditions::REGISTERED, phase.registered());
        writer.put(conditions::READY, phase.registered());
    }
    writer.put(conditions::FAILED, phase.failed());
    writer.put_if(conditions::RECONCILING, phase.reconciling());
    writer.put_if(conditions::STALLED, phase.stalled() && !stays_registered);
    observe_generation(status, generation);
}

/// Sets the observed generation of the status and of every condition.
pub fn observe_generation(status: &mut WhatsAppPhoneNumberStatus, generation: i64) {
    status.observed_generation = generation;
    for condition in &mut status.conditions {
        condition.observed_generation = Some(generation);
    }
}

struct Writer<'a> {
    status: &'a mut WhatsAppPhoneNumberStatus,
    reason: Reason,
    message: String,
    now: Timestamp,
}

impl Writer<'_> {
    fn put(&mut self, type_: &str, truth: Truth) {
        let reason = self.reason.as_str().to_owned();
        let message = self.message.clone();
        let conditions = &mut self.status.conditions;
        if let Some(condition) = conditions
            .iter_mut()
            .find(|condition| condition.type_ == type_)
        {
            if condition.status != truth {
                condition.last_transition_time = Time(whole_seconds(self.now));
            }
            truth.clone_into(&mut condition.status);
            condition.reason = reason;
            condition.message = message;
        } else {
            conditions.push(Condition {
                type_: type_.to_owned(),
                status: truth.to_owned(),
                reason,
                message,
                observed_generation: None,
                last_transition_time: Time(whole_seconds(self.now)),
            });
        }
    }

    /// Sets a condition that is absent unless True.
    fn put_if(&mut self, type_: &str, present: bool) {
        if present {
            self.put(type_, TRUE);
        } else {
            self.status
                .conditions
                .retain(|condition| condition.type_ != type_);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::conditions::reason_of;

    fn summary(phase: Phase, reason: Reason) -> Summary {
        Summary {
            phase,
            reason,
            message: "message".to_owned(),
        }
    }

    fn conditions(status: &WhatsAppPhoneNumberStatus) -> Vec<String> {
        let mut all: Vec<String> = status
            .conditions
            .iter()
            .map(|c| format!("{}={}", c.type_, c.status))
            .collect();
        all.sort();
        all
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn each_situation_reads_as_kstatus_expects() {
        let table = [
            (
                Phase::Registered,
                vec!["Failed=False", "Ready=True", "Registered=True"],
            ),
            (
                Phase::Registering,
                vec![
                    "Failed=False",
                    "Ready=Unknown",
                    "Reconciling=True",
                    "Registered=Unknown",
                ],
            ),
            (
                Phase::Confirming,
                vec![
                    "Failed=False",
                    "Ready=Unknown",
                    "Reconciling=True",
                    "Registered=Unknown",
                ],
            ),
            (
                Phase::Waiting,
                vec![
                    "Failed=True",
                    "Ready=False",
                    "Reconciling=True",
                    "Registered=False",
                ],
            ),
            (
                Phase::Stalled,
                vec![
                    "Failed=True",
                    "Ready=False",
                    "Registered=False",
                    "Stalled=True",
                ],
            ),
            (
                Phase::Suspended,
                vec!["Failed=False", "Ready=False", "Registered=False"],
            ),
        ];
        for (phase, expected) in table {
            let mut status = WhatsAppPhoneNumberStatus::default();
            set(&mut status, &summary(phase, Reason::Registering), 1, at(0));
            assert_eq!(conditions(&status), expected, "{phase:?}");
            assert!(
                status
                    .conditions
                    .iter()
                    .all(|c| c.observed_generation == Some(1))
            );
        }
    }

    #[test]
    fn a_registered_number_stays_so_when_a_requested_call_fails() {
        let mut status = WhatsAppPhoneNumberStatus::default();
        set(
            &mut status,
            &summary(Phase::Registered, Reason::RegistrationSucceeded),
            1,
            at(0),
        );
        set(
            &mut status,
            &summary(Phase::Stalled, Reason::PinMismatch),
            1,
            at(9),
        );
        assert_eq!(
            conditions(&status),
            ["Failed=True", "Ready=True", "Registered=True"]
        );
        assert_eq!(
            reason_of(&status, conditions::READY),
            Some(Reason::RegistrationSucceeded)
        );
        assert_eq!(
            reason_of(&status, conditions::FAILED),
            Some(Reason::PinMismatch)
        );
    }

    #[test]
    fn transition_times_move_only_when_a_status_flips() {
        let mut status = WhatsAppPhoneNumberStatus::default();
        set(
            &mut status,
            &summary(Phase::Waiting, Reason::SecretNotFound),
            1,
            at(0),
        );
        set(
            &mut status,
            &summary(Phase::Waiting, Reason::GraphUnavailable),
            1,
            at(9),
        );
        assert!(
            status
                .conditions
                .iter()
                .all(|c| c.last_transition_time.0 == at(0))
        );
        set(
            &mut status,
            &summary(Phase::Registered, Reason::AlreadyRegistered),
            1,
            at(20),
        );
        assert!(
            status
                .conditions
                .iter()
                .all(|c| c.last_transition_time.0 == at(20))
        );
    }

    #[test]
    fn messages_are_one_bounded_line() {
        let mut status = WhatsAppPhoneNumberStatus::default();
        let summary = Summary {
            message: format!("a\nb\u{2028}{}", "é".repeat(2_000)),
            ..summary(Phase::Waiting, Reason::NotSent)
        };
        set(&mut status, &summary, 1, at(0));
        for condition in &status.conditions {
            let line = &condition.message;
            assert!(line.starts_with("a b é") && line.ends_with('…'), "{line}");
            assert_eq!(line.chars().count(), MESSAGE);
        }
    }
}
