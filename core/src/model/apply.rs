//! The status after a call.
//!
//! An outcome is written by the ID of its claim, into the newest version of the status. It completes only its own entry;
//! the phase follows the newest entry, and a success is never lost.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::cooldown::Cooldown;
use super::ledger;
use super::phase::{Phase, Standing, State};
use super::policy::Policy;
use super::render::render;
use super::schedule::{AFTER_DEREGISTRATION, META_WINDOW, later, whole_seconds, with_jitter};
use crate::api::{
    AttemptEnd, AttemptOutcome, Disposition, LedgerEntry, Operation, PhoneNumberStatus, Reason,
    Stall, Wait, WhatsAppPhoneNumberStatus,
};
use crate::graph::{ReadFields, ReadOutcome, RegisterOutcome};

/// The shortest wait after 133008 and 133009, for which Meta gives no machine-readable time.
const AFTER_PIN_LOCK: Duration = Duration::from_secs(3600);

/// The wait for a display name, which takes Meta hours to process.
const AFTER_CERTIFICATE: Duration = Duration::from_secs(2 * 3600);

/// The result of one claim.
#[derive(Clone, Copy, Debug)]
pub struct CallResult<'a> {
    pub operation: Operation,
    /// The claim's ID.
    pub id: &'a str,
    /// The outcome of its call.
    pub outcome: &'a RegisterOutcome,
    /// The handled value of the annotation before the claim.
    pub handled_before: Option<&'a str>,
}

/// The context that the status after a call depends on.
#[derive(Clone, Copy, Debug)]
pub struct ApplyContext<'a> {
    pub policy: &'a Policy,
    /// The generation that was decided on.
    pub generation: i64,
    /// The last cool-down of the token.
    pub cooldown: Option<Cooldown>,
    /// A random number from 0 to 1.
    pub jitter: f64,
    pub now: Timestamp,
}

/// Returns the newest status with the outcome of one claim in it.
pub fn apply_outcome(
    status: &WhatsAppPhoneNumberStatus,
    result: &CallResult<'_>,
    context: &ApplyContext<'_>,
) -> WhatsAppPhoneNumberStatus {
    let mut status = status.clone();
    let outcome = result.outcome;
    let position = position_of(&status.attempts, result.id);
    if let Some(attempt) = position.and_then(|position| status.attempts.get_mut(position)) {
        if !matches!(attempt.outcome(), None | Some(AttemptOutcome::Unknown)) {
            return status; // The outcome of this one is known.
        }
        let end = end_of(result, context.now);
        if let (AttemptOutcome::NotSent, Some(budget)) = (end.outcome, &mut status.budget)
            && result.operation.registers()
        {
            budget.used = budget.used.saturating_sub(1).max(0);
        }
        attempt.end = Some(end);
    }
    let operation = result.operation;
    let succeeded = operation.outcome(outcome.reason) == AttemptOutcome::Succeeded;
    if position.is_none() && !succeeded {
        return status;
    }
    let mut state = State::of_fields(&status);
    if succeeded {
        let message = outcome.message.clone();
        operation.succeed(&mut state, outcome.reason, message, context.now);
        note_trace(&mut state, outcome);
    } else if position == Some(0) {
        fail(&mut state, result, context);
    }
    ledger::join_unsent(&mut state.record.attempts, operation);
    ledger::prune(&mut state.record.attempts, context.now);
    render(&state, context.generation, context.now)
}

/// The position of a claim in the ledger; that of the open one where another writer has repeated its ID.
fn position_of(attempts: &[LedgerEntry], id: &str) -> Option<usize> {
    let open = attempts.iter().position(|a| a.id == id && a.is_open());
    open.or_else(|| attempts.iter().position(|a| a.id == id))
}

/// Notes that a call with an unclear outcome took effect.
pub fn confirm(attempt: &mut LedgerEntry) {
    let reason = attempt.operation.confirmed();
    if let Some(end) = &mut attempt.end {
        end.outcome = AttemptOutcome::Succeeded;
        end.reason = Some(reason.to_string());
    }
}

/// Notes a read of the number that was answered.
pub fn note_reading(
    record: &mut WhatsAppPhoneNumberStatus,
    reading: &ReadOutcome,
    version: &str,
    now: Timestamp,
) {
    note_read_trace(record, reading);
    if reading.fields != ReadFields::Optional {
        record.read_failures = 0;
    }
    record.graph_api_version = Some(version.to_owned());
    let Some(found) = &reading.phone_number else {
        return;
    };
    let known = record.phone_number.take().unwrap_or_default();
    let shown = PhoneNumberStatus {
        observed_time: known.observed_time.clone(),
        ..match reading.fields {
            ReadFields::All => PhoneNumberStatus {
                name_status: known.name_status.clone(),
                new_name_status: known.new_name_status.clone(),
                on_business_app: known.on_business_app,
                ..found.clone()
            },
            ReadFields::Deciding => PhoneNumberStatus {
                status: found.status.clone(),
                platform_type: found.platform_type.clone(),
                ..known.clone()
            },
            ReadFields::Optional => PhoneNumberStatus {
                name_status: found.name_status.clone(),
                new_name_status: found.new_name_status.clone(),
                on_business_app: found.on_business_app,
                ..known.clone()
            },
        }
    };
    let observed_time = match &known.observed_time {
        Some(time) if shown == known => time.clone(),
        _ => Time(whole_seconds(now)),
    };
    record.phone_number = Some(PhoneNumberStatus {
        observed_time: Some(observed_time),
        ..shown
    });
}

/// Notes the trace ID of a read, as long as there is none from a register call.
pub fn note_read_trace(record: &mut WhatsAppPhoneNumberStatus, reading: &ReadOutcome) {
    let called = record.attempts.iter().any(|attempt| !attempt.earlier);
    if !called && reading.fbtrace_id.is_some() {
        record.fbtrace_id.clone_from(&reading.fbtrace_id);
    }
}

/// The time before which no automatic call follows the newest one that ended.
pub fn due_after(attempts: &[LedgerEntry], policy: &Policy) -> Option<Timestamp> {
    let last = attempts.iter().find(|attempt| !attempt.is_open())?;
    let end = last.end.as_ref()?;
    let ended = Ended {
        operation: last.operation,
        reason: end.known_reason()?,
        http_status: end.http_status,
    };
    let wait = wait_after(&ended, attempts, policy, None)?;
    Some(later(end.time.0, wait))
}

/// Whether a requested attempt has used up the value of the annotation: it may have taken effect.
pub fn is_spent(attempt: &LedgerEntry) -> bool {
    attempt.counts() && attempt.known_reason() != Some(Reason::RateLimited)
}

/// The end of an attempt in the ledger.
fn end_of(result: &CallResult<'_>, now: Timestamp) -> AttemptEnd {
    let outcome = result.outcome;
    let error = outcome.error.as_ref();
    AttemptEnd {
        time: Time(later(now, Duration::ZERO)),
        outcome: result.operation.outcome(outcome.reason),
        reason: Some(outcome.reason.to_string()),
        http_status: outcome.http_status.map(i32::from),
        code: error.and_then(|error| error.code),
        subcode: error.and_then(|error| error.subcode),
        fbtrace_id: outcome.fbtrace_id.clone(),
    }
}

/// The newest call failed, or its outcome is not known.
fn fail(state: &mut State, result: &CallResult<'_>, context: &ApplyContext<'_>) {
    let outcome = result.outcome;
    let requested = hand_back(state, result);
    note_trace(state, outcome);
    let was_refused = state.verdict.is_some();
    let mut attempts = ledger::of(&state.record.attempts, result.operation);
    attempts.retain(|attempt| !attempt.earlier);
    note_verdict(state, result, &attempts);
    let ended = Ended {
        operation: result.operation,
        reason: outcome.reason,
        http_status: outcome.http_status.map(i32::from),
    };
    // A requested call that may have acted is not repeated automatically where no automatic call would be made: for a registered
    // number, and against a verdict. A number that is not registered continues as after any other call.
    let next = match (requested, next_after(&ended, &attempts)) {
        (Requested::Spent, _) if state.standing != Standing::Unregistered => Next::Stall,
        (Requested::Spent, Next::Wait) if was_refused && !ended.asks_for_check() => Next::Stall,
        (Requested::No | Requested::HandedBack | Requested::Spent, next) => next,
    };
    let due = wait_after(&ended, &attempts, context.policy, outcome.retry_after);
    let (reason, message) = (outcome.reason, outcome.message.clone());
    state.phase = match (next, due) {
        (Next::Wait, Some(wait)) => {
            let until = later(context.now, with_jitter(wait, context.jitter));
            if let (Reason::RateLimited, Some(digest)) = (reason, &state.record.token_digest) {
                let (asked, backoff) = (outcome.retry_after, context.policy.backoff);
                let cooldown = Cooldown::after(context.cooldown, asked, backoff, context.now);
                state.record.token_wait = Some(cooldown.stored(digest));
            }
            Phase::waits(Wait::new(reason, message, until), false)
        }
        (Next::Confirm, Some(wait)) => {
            Phase::waits(Wait::new(reason, message, later(context.now, wait)), true)
        }
        (Next::Stall, _) | (Next::Wait | Next::Confirm, None) => {
            Phase::Stalled(Stall::new(reason, message))
        }
    };
    let until = state.wait().map(|wait| wait.until.clone());
    state.hold = result.operation.holds(&outcome.message, until);
}

/// How a call ended that did not succeed.
struct Ended {
    operation: Operation,
    reason: Reason,
    http_status: Option<i32>,
}

impl Ended {
    fn disposition(&self) -> Disposition {
        self.operation.disposition(self.reason)
    }

    fn asks_for_check(&self) -> bool {
        let Self {
            operation,
            reason,
            http_status,
        } = self;
        operation.asks_for_check(Some(*reason), *http_status)
    }
}

/// What follows a call that did not succeed.
#[derive(Clone, Copy)]
enum Next {
    Wait,
    Confirm,
    Stall,
}

/// Whether a call was requested, and what became of the value that requested it.
#[derive(Clone, Copy)]
enum Requested {
    No,
    /// Nothing was sent for it that may have taken effect.
    HandedBack,
    Spent,
}

/// Hands the value of the annotation back where nothing was sent for it that may have taken effect.
fn hand_back(state: &mut State, result: &CallResult<'_>) -> Requested {
    let Some(request) = state
        .record
        .attempts
        .first()
        .and_then(|a| a.request.clone())
    else {
        return Requested::No;
    };
    match result.outcome.reason {
        Reason::NotSent | Reason::GraphUnreachable | Reason::RateLimited => {
            let handled = &mut state.record.last_handled_register_request;
            if handled.as_ref() == Some(&request) {
                *handled = result.handled_before.map(str::to_owned);
            }
            Requested::HandedBack
        }
        _ => Requested::Spent,
    }
}

/// Only an answer from Graph gives a verdict; neither a lost answer nor a fault that passes lifts one.
fn note_verdict(state: &mut State, result: &CallResult<'_>, attempts: &[LedgerEntry]) {
    let (outcome, reason) = (result.outcome, result.outcome.reason);
    if outcome.error.is_none() || reason == Reason::OutcomeUnknown {
        return;
    }
    if !result.operation.registers() {
        // It says nothing about a register call.
        state.record.last_error.clone_from(&outcome.error);
        return;
    }
    let verdict = match result.operation.disposition(reason) {
        Disposition::Stall | Disposition::ConfirmThenStall => Some(reason),
        Disposition::RetryN(_) | Disposition::Retry | Disposition::Confirm | Disposition::Done
            if state.verdict.is_some() =>
        {
            return;
        }
        Disposition::RetryN(limit) => {
            (ledger::in_a_row(attempts, reason) >= limit).then_some(reason)
        }
        Disposition::Retry | Disposition::Confirm | Disposition::Done => None,
    };
    state.verdict = verdict;
    state.record.last_error.clone_from(&outcome.error);
}

/// What follows a call where there is a time for it: without one it stalls.
fn next_after(ended: &Ended, attempts: &[LedgerEntry]) -> Next {
    match ended.disposition() {
        Disposition::RetryN(limit) if ledger::in_a_row(attempts, ended.reason) >= limit => {
            Next::Stall
        }
        Disposition::Retry | Disposition::RetryN(_) | Disposition::Stall | Disposition::Done => {
            Next::Wait
        }
        Disposition::Confirm | Disposition::ConfirmThenStall => Next::Confirm,
    }
}

/// The wait after a call; `None` where it is not retried. `attempts` are those of its kind.
fn wait_after(
    ended: &Ended,
    attempts: &[LedgerEntry],
    policy: &Policy,
    retry_after: Option<Duration>,
) -> Option<Duration> {
    let reason = ended.reason;
    match ended.disposition() {
        Disposition::Stall if ended.asks_for_check() => return Some(Duration::ZERO),
        Disposition::Done | Disposition::Stall => return None,
        Disposition::Retry
        | Disposition::RetryN(_)
        | Disposition::Confirm
        | Disposition::ConfirmThenStall => {}
    }
    let backoff = policy.backoff.after(ledger::failures_in_a_row(attempts));
    let server_fault = ended.http_status.is_some_and(|status| status >= 500);
    Some(match reason {
        Reason::RecentlyDeregistered => backoff.max(AFTER_DEREGISTRATION),
        Reason::PinLocked => backoff.max(AFTER_PIN_LOCK),
        Reason::CertificateUnavailable => {
            let earlier = ledger::in_a_row(attempts, reason).saturating_sub(1);
            AFTER_CERTIFICATE.saturating_mul(3_u32.saturating_pow(earlier))
        }
        Reason::RegistrationBlocked => META_WINDOW,
        Reason::RateLimited => retry_after.unwrap_or(backoff),
        Reason::OutcomeUnknown => backoff.max(policy.confirm_window),
        _ if ended.disposition() == Disposition::ConfirmThenStall => policy.confirm_window,
        Reason::GraphUnavailable => {
            let window = server_fault.then_some(policy.confirm_window);
            backoff
                .max(window.unwrap_or_default())
                .max(retry_after.unwrap_or_default())
        }
        // Whatever else is retried backs off.
        _ => backoff,
    })
}

fn note_trace(state: &mut State, outcome: &RegisterOutcome) {
    if outcome.fbtrace_id.is_some() {
        state.record.fbtrace_id.clone_from(&outcome.fbtrace_id);
    }
}
