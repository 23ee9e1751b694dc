//! How one call goes, as its step has it. Pure.

use std::time::Duration;

use super::action::Action;
use super::answer::{Answer, Delivery, header};
use super::graph_error::GraphError;
use super::script::Step;

/// How one call goes: hold, act, hold, reply.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Before acting.
    pub before: Hold,
    /// Whether what was asked is done.
    pub acts: bool,
    /// How many reads after it still show the old state.
    pub lag_reads: u32,
    /// For how long reads after it still show the old state.
    pub lag: Duration,
    /// After acting.
    pub after: Hold,
    /// What is answered.
    pub result: CallResult,
}

/// A pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// None.
    No,
    /// For this time.
    For(Duration),
    /// Until the test says so.
    UntilReleased,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum CallResult {
    /// What Graph would say, sent in this manner.
    Natural(Delivery),
    /// This, whatever was done.
    Scripted(Answer),
    /// Nothing.
    HangUp,
}

// === impl Plan ===

impl Plan {
    /// The call goes as Graph would have it.
    pub fn natural() -> Self {
        Self {
            before: Hold::No,
            acts: true,
            lag_reads: 0,
            lag: Duration::ZERO,
            after: Hold::No,
            result: CallResult::Natural(Delivery::Whole),
        }
    }

    /// The call goes as the step has it.
    pub fn of(step: &Step, token: &str, trace: &str) -> Self {
        let mut plan = Self::natural();
        plan.lag = Duration::from_millis(step.lag_millis.unwrap_or(0));
        let action = &step.action;
        if let Some(answer) = action.scripted(token, trace) {
            plan.acts = step.acted.or(action.lies_with()).unwrap_or(false);
            plan.result = CallResult::Scripted(answer);
        }
        match *action {
            Action::HangUpBefore {} => (plan.acts, plan.result) = (false, CallResult::HangUp),
            Action::HangUpAfter {} => plan.result = CallResult::HangUp,
            Action::Slow { millis } => plan.after = Hold::For(Duration::from_millis(millis)),
            Action::Stall { millis } => plan.before = Hold::For(Duration::from_millis(millis)),
            Action::Wait {} => plan.before = Hold::UntilReleased,
            Action::WaitAfter {} => plan.after = Hold::UntilReleased,
            Action::Lag { reads } => plan.lag_reads = reads,
            Action::Trickle { bytes_per_second } => {
                plan.result = CallResult::Natural(Delivery::Trickle(bytes_per_second));
            }
            _ => {}
        }
        plan
    }

    /// The call is refused as its token has met its limit, which ends after this time.
    pub fn limited(left: Duration, trace: &str) -> Self {
        let seconds = left.as_secs_f64().ceil();
        let answer = Answer::error(&GraphError::new(80_007), trace);
        let retry_after = header("retry-after", &seconds.to_string());
        Self {
            acts: false,
            result: CallResult::Scripted(answer.with_headers([retry_after])),
            ..Self::natural()
        }
    }

    /// The call is refused with this error and nothing is done.
    pub fn refused(error: &GraphError, trace: &str) -> Self {
        let result = CallResult::Scripted(Answer::error(error, trace));
        Self {
            acts: false,
            result,
            ..Self::natural()
        }
    }
}
