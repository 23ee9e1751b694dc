//! The simulator's log of a number's calls, with what each answer was and said.

use std::time::Duration;

use jiff::Timestamp;
use operator_core::api::Reason;
use operator_core::graph::RegistrationState;

use super::draw;
use super::meaning::{self, Answer, Departure, Said};
use super::scenario::{Scenario, Start};
use testkit::simulator::{Action, LogEntry, NumberReport, Operation, Script, Step};

/// One call and its answer.
#[derive(Clone, Debug)]
pub struct Call {
    pub operation: Operation,
    /// Whether it is the read that informs and decides nothing.
    pub is_optional: bool,
    pub time: Timestamp,
    pub step: Option<Step>,
    pub answer: Answer,
    /// Since when reads show what it did, if it did anything.
    pub shown_time: Option<Timestamp>,
}

/// The calls of a number, oldest first.
pub fn of(scenario: &Scenario, report: &NumberReport) -> Vec<Call> {
    let mut script = Script::from(scenario.script.clone());
    let call = |entry: &LogEntry| {
        // A call that Graph refuses takes no step.
        let step = entry.step.as_ref().and_then(|name| {
            let step = script.take(entry.operation)?;
            assert_eq!(*name, step.action.name(), "the script of {}", scenario.id);
            Some(step)
        });
        Call {
            operation: entry.operation,
            is_optional: is_optional(entry),
            time: entry.time,
            answer: answer(scenario, entry, step.as_ref()),
            shown_time: entry.acted_time.map(|time| time + lag(step.as_ref())),
            step,
        }
    };
    report.log.iter().map(call).collect()
}

/// Whether a call is the read that informs and decides nothing.
pub fn is_optional(entry: &LogEntry) -> bool {
    let fields = entry.fields.iter().flatten();
    fields.into_iter().any(|field| field == "is_on_biz_app")
}

fn lag(step: Option<&Step>) -> Duration {
    Duration::from_millis(step.and_then(|step| step.lag_millis).unwrap_or(0))
}

fn answer(scenario: &Scenario, entry: &LogEntry, step: Option<&Step>) -> Answer {
    let action = step.map(|step| &step.action);
    let scripted = action.and_then(|action| meaning::of_action(action, scenario.late));
    match (scripted, action) {
        // The natural answer, byte by byte: its status is the natural one too.
        (Some(Answer::Said(_, Said::Cut)), Some(Action::Trickle { .. })) => {
            Answer::Said(entry.http_status.unwrap_or(200), Said::Cut)
        }
        (Some(answer), _) => answer,
        (None, _) => natural(scenario, entry),
    }
}

fn natural(scenario: &Scenario, entry: &LogEntry) -> Answer {
    let Some(status) = entry.http_status else {
        return Answer::Nothing;
    };
    let said = match (&entry.shown, entry.code) {
        (_, Some(100)) if scenario.start == Start::ProofRequired => Said::ProofMissing,
        (_, Some(code)) => meaning::error(code, scenario.subcode(code), false),
        (Some(shown), None) => Said::Number(shown.clone()),
        (None, None) => Said::Success,
    };
    Answer::Said(status, said)
}

/// Puts right what the client cannot have seen: on a busy machine it may give up on an answer that was given. The
/// operator logs each call with what came of it, in order; how often it gave up early is returned, and bounded by the
/// caller.
pub fn reconcile(calls: &mut [Call], log: &[&str]) -> usize {
    let outcomes: Vec<&str> = log.iter().filter_map(|line| outcome(line)).collect();
    if outcomes.len() != calls.len() {
        // A connection that never became a request, or a request that was given up before it was read.
        return 0;
    }
    let mut given_up = 0;
    for (call, outcome) in calls.iter_mut().zip(outcomes) {
        let seen = match &call.answer {
            Answer::Said(..) if outcome.starts_with("no answer from") => Answer::Nothing,
            Answer::Said(status, _) if outcome.contains("broke off") => {
                Answer::Said(*status, Said::Cut)
            }
            _ => continue,
        };
        given_up += usize::from(seen != call.answer);
        call.answer = seen;
    }
    given_up
}

/// What a line of the log says that came of a call, if it is about one that was sent.
fn outcome(line: &str) -> Option<&str> {
    let (_, message) = line.split_once("\"message\":\"")?;
    let is = |level, target| {
        line.contains(&format!("\"level\":\"{level}\""))
            && line.contains(&format!("\"target\":\"whatsapp_operator::{target}\""))
    };
    let read = is("DEBUG", "reconcile::driver");
    let post = is("INFO", "reconcile::host");
    let sent = message.starts_with("no answer from") || message.starts_with("Graph answered HTTP");
    ((read || post) && sent).then_some(message)
}

// === impl Call ===

impl Call {
    /// Whether it is a register call.
    pub fn is_post(&self) -> bool {
        self.operation == Operation::Register
    }

    /// Whether it is a deregister call.
    pub fn is_deregister(&self) -> bool {
        self.operation == Operation::Deregister
    }

    /// What a read said of the number; nothing for any other call.
    pub fn read_state(&self) -> Option<RegistrationState> {
        let decides = self.operation == Operation::Read && !self.is_optional;
        decides.then(|| self.answer.of_read())
    }

    /// How a register call ended; nothing for a read.
    pub fn reason(&self) -> Option<Reason> {
        self.is_post().then(|| self.answer.of_register())
    }

    /// What came of a deregister call; nothing for any other.
    pub fn departure(&self) -> Option<Departure> {
        self.is_deregister().then(|| self.answer.of_deregister())
    }

    /// Whether it met a rate limit.
    pub fn is_limited(&self) -> bool {
        let reason = match self.operation {
            Operation::Read => self.answer.of_read(),
            Operation::Register | Operation::Deregister => {
                RegistrationState::Wait(self.answer.of_register())
            }
        };
        reason == RegistrationState::Wait(Reason::RateLimited)
    }

    /// Whether its headers say that the token's limit is used up.
    pub fn is_busy(&self) -> bool {
        let action = self.step.as_ref().map(|step| &step.action);
        matches!(action, Some(Action::RateLimited { .. }))
    }

    /// For how long the answer asked not to be called.
    pub fn asked_wait(&self) -> Option<Duration> {
        draw::asked_wait(&self.step.as_ref()?.action)
    }

    /// Whether Graph said in words that can be read that the number is registered.
    pub fn says_registered(&self) -> bool {
        self.reason() == Some(Reason::RegistrationSucceeded)
            || self.read_state() == Some(RegistrationState::Registered)
    }
}
