//! The script of a number: faults in the order in which they are due, then natural behaviour.
//! Pure.

use std::collections::VecDeque;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::action::{Action, ErrorStep};
use super::contract::Operation;

/// Which calls a step waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// Register calls.
    #[default]
    Register,
    /// Reads.
    Read,
    /// Every call.
    Any,
    /// Deregister calls.
    Deregister,
}

/// What happens to the next call, or the next `times` calls, that fit.
///
/// In JSON: `"hang_up_after"`, or `{"step": "error", "code": 133005, "operation": "register",
/// "acted": true, "times": 2}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Which calls it is for; register calls unless told otherwise.
    pub operation: Trigger,
    /// For how many calls it stands.
    pub times: u32,
    /// Whether the simulator does what was asked before it misbehaves; without it, the action's
    /// own default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acted: Option<bool>,
    /// For how long reads still show the state before, once what was asked is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_millis: Option<u64>,
    /// What happens.
    #[serde(flatten)]
    pub action: Action,
}

/// The steps that are still due.
#[derive(Clone, Debug, Default)]
pub struct Script(VecDeque<Step>);

// === impl Trigger ===

impl Trigger {
    fn fits(self, operation: Operation) -> bool {
        match self {
            Self::Any => true,
            Self::Read => operation == Operation::Read,
            Self::Register => operation == Operation::Register,
            Self::Deregister => operation == Operation::Deregister,
        }
    }
}

// === impl Step ===

impl Step {
    /// A step for the next register call.
    pub fn new(action: Action) -> Self {
        Self {
            operation: Trigger::Register,
            times: 1,
            acted: None,
            lag_millis: None,
            action,
        }
    }

    /// Nothing special: lets a call pass before the next step is due.
    pub fn natural() -> Self {
        Self::new(Action::Natural {})
    }

    /// This Graph error with Meta's usual status and text.
    pub fn error(code: i64) -> Self {
        Self::new(Action::Error(ErrorStep {
            code,
            ..ErrorStep::default()
        }))
    }

    /// This Graph error with its subcode.
    pub fn error_with_subcode(code: i64, subcode: i64) -> Self {
        let subcode = Some(subcode);
        Self::new(Action::Error(ErrorStep {
            code,
            subcode,
            ..ErrorStep::default()
        }))
    }

    /// Rate limited, with the minutes that `X-Business-Use-Case-Usage` is to announce.
    pub fn rate_limited(regain_minutes: Option<u64>) -> Self {
        let (retry_after, http_status, code) = (None, None, None);
        Self::new(Action::RateLimited {
            regain_minutes,
            retry_after,
            http_status,
            code,
        })
    }

    /// HTTP 500 with a transient Graph error.
    pub fn server_error() -> Self {
        Self::new(Action::ServerError {})
    }

    /// The connection closes; nothing was done.
    pub fn hang_up_before() -> Self {
        Self::new(Action::HangUpBefore {})
    }

    /// What was asked is done, then the connection closes without an answer.
    pub fn hang_up_after() -> Self {
        Self::new(Action::HangUpAfter {})
    }

    /// The call is held until it is released, then it is done and answered.
    pub fn wait() -> Self {
        Self::new(Action::Wait {})
    }

    /// The call is done, its answer is held until it is released.
    pub fn wait_after() -> Self {
        Self::new(Action::WaitAfter {})
    }

    /// The registration is done, but this many reads still show the old state.
    pub fn lag(reads: u32) -> Self {
        Self::new(Action::Lag { reads })
    }

    /// The same step for reads.
    pub fn on_read(self) -> Self {
        Self {
            operation: Trigger::Read,
            ..self
        }
    }

    /// The same step for deregister calls.
    pub fn on_deregister(self) -> Self {
        Self {
            operation: Trigger::Deregister,
            ..self
        }
    }

    /// The same step for whichever call comes first.
    pub fn on_any(self) -> Self {
        Self {
            operation: Trigger::Any,
            ..self
        }
    }

    /// The same step for this many calls.
    pub fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }

    /// The same step, but what it does is shown by reads only after this time, as Meta's status
    /// lags.
    pub fn lagging(self, lag: Duration) -> Self {
        Self {
            lag_millis: u64::try_from(lag.as_millis()).ok(),
            ..self
        }
    }

    /// The same step, but what was asked is done first: a server that lies.
    pub fn acted(self) -> Self {
        Self {
            acted: Some(true),
            ..self
        }
    }
}

impl<'de> Deserialize<'de> for Step {
    /// By hand, as serde cannot refuse unknown fields of a flattened enum.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut action = match Value::deserialize(deserializer)? {
            Value::String(name) => Map::from_iter([("step".to_owned(), Value::String(name))]),
            Value::Object(step) => step,
            other => {
                return Err(D::Error::custom(format!(
                    "a step is text or object, not {other}"
                )));
            }
        };
        let operation = take(&mut action, "operation").map_err(D::Error::custom)?;
        let times = take(&mut action, "times").map_err(D::Error::custom)?;
        let acted = take(&mut action, "acted").map_err(D::Error::custom)?;
        let lag_millis = take(&mut action, "lag_millis").map_err(D::Error::custom)?;
        let step = Self {
            operation: operation.unwrap_or_default(),
            times: times.unwrap_or(1),
            acted,
            lag_millis,
            action: serde_json::from_value(action.into()).map_err(D::Error::custom)?,
        };
        step.check().map_err(D::Error::custom)
    }
}

impl Step {
    fn check(self) -> Result<Self, String> {
        if self.times == 0 {
            return Err("times must be at least 1".to_owned());
        }
        if self.acted.is_some() && !self.action.may_lie() {
            return Err(format!("acted cannot be chosen for {}", self.action.name()));
        }
        self.action.check()?;
        Ok(self)
    }
}

fn take<T: for<'a> Deserialize<'a>>(
    fields: &mut Map<String, Value>,
    name: &str,
) -> Result<Option<T>, String> {
    let value = fields.remove(name).map(serde_json::from_value).transpose();
    value.map_err(|error| format!("{name}: {error}"))
}

// === impl Script ===

impl Script {
    /// The step that is due for this call. A step waits for its operation: calls of the other
    /// one pass it by and are answered naturally.
    pub fn take(&mut self, operation: Operation) -> Option<Step> {
        let head = self
            .0
            .front_mut()
            .filter(|step| step.operation.fits(operation))?;
        if head.times > 1 {
            head.times -= 1;
            return Some(head.clone());
        }
        self.0.pop_front()
    }

    /// The steps that are still due.
    pub fn left(&self) -> Vec<Step> {
        self.0.iter().cloned().collect()
    }
}

impl From<Vec<Step>> for Script {
    fn from(steps: Vec<Step>) -> Self {
        Self(steps.into())
    }
}
