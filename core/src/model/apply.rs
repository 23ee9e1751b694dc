//! The status after a register call.
//!
//! An outcome is written by the ID of its claim, into the newest version of the status. It completes only its own entry;
//! the conditions follow the newest entry, and a success is never lost.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::ledger;
use super::policy::Policy;
use super::render::{self, Phase, Summary};
use super::schedule::{META_WINDOW, later, whole_seconds, with_jitter};
use crate::api::conditions::is_registered;
use crate::api::{
    AttemptOutcome, Disposition, GraphErrorStatus, LedgerEntry, Reason, WhatsAppPhoneNumberStatus,
    explain, explain_requested,
};
use crate::credentials::Digests;
use crate::graph::{ReadOutcome, RegisterOutcome, classify};

/// The wait after a deregistration, which takes Meta a few minutes (error 133015: "wait 5 minutes").
const AFTER_DEREGISTRATION: Duration = Duration::from_secs(5 * 60);

/// The shortest wait after 133008 and 133009, for which Meta gives no machine-readable time.
const AFTER_PIN_LOCK: Duration = Duration::from_secs(3600);

/// The wait for a display name, which takes Meta hours to process.
const AFTER_CERTIFICATE: Duration = Duration::from_secs(2 * 3600);

/// The result of one claim.
#[derive(Clone, Copy, Debug)]
pub struct CallResult<'a> {
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
    /// A random number from 0 to 1.
    pub jitter: f64,
    pub now: Timestamp,
}

/// Returns the newest status with the outcome of one claim in it.
pub fn apply_outcome(
    mut status: WhatsAppPhoneNumberStatus,
    result: &CallResult<'_>,
    context: &ApplyContext<'_>,
) -> WhatsAppPhoneNumberStatus {
    let position = position_of(&status.attempts, result.id);
    if let Some(attempt) = position.and_then(|position| status.attempts.get_mut(position)) {
        if !attempt.is_open() && attempt.outcome != Some(AttemptOutcome::Unknown) {
            return status; // The outcome of this one is known.
        }
        complete(attempt, result.outcome, context.now);
    }
    if result.outcome.reason.is_registered() {
        succeed(&mut status, result.outcome, context);
    } else if position == Some(0) {
        fail(&mut status, result, context);
    }
    ledger::join_unsent(&mut status.attempts);
    ledger::prune(&mut status.attempts, context.now);
    status
}

/// The position of a claim in the ledger; that of the open one where another writer has repeated its ID.
fn position_of(attempts: &[LedgerEntry], id: &str) -> Option<usize> {
    let open = attempts.iter().position(|a| a.id == id && a.is_open());
    open.or_else(|| attempts.iter().position(|a| a.id == id))
}

/// Notes that the number is registered, which ends all waits.
pub fn registered(status: &mut WhatsAppPhoneNumberStatus, now: Timestamp) {
    status
        .registration_time
        .get_or_insert_with(|| Time(whole_seconds(now)));
    status.last_error = None;
    status.next_attempt_time = None;
    status.read_failures = 0;
}

/// Notes that a call with an unclear outcome took effect.
pub fn confirm(attempt: &mut LedgerEntry) {
    attempt.outcome = Some(AttemptOutcome::Succeeded);
    attempt.reason = Some(Reason::OutcomeConfirmed.to_string());
}

/// Notes a read of the number.
pub fn note_reading(
    status: &mut WhatsAppPhoneNumberStatus,
    reading: &ReadOutcome,
    version: &str,
    now: Timestamp,
) {
    note_read_trace(status, reading);
    status.read_failures = 0;
    status.graph_api_version = Some(version.to_owned());
    let Some(phone_number) = &reading.phone_number else {
        return;
    };
    let previous = status.phone_number.as_ref().map(|previous| {
        let mut previous = previous.clone();
        previous.observed_time = None;
        previous
    });
    if previous.as_ref() != Some(phone_number) {
        let mut phone_number = phone_number.clone();
        phone_number.observed_time = Some(Time(whole_seconds(now)));
        status.phone_number = Some(phone_number);
    }
}

/// Notes the trace ID of a read, as long as there is none of a register call.
pub fn note_read_trace(status: &mut WhatsAppPhoneNumberStatus, reading: &ReadOutcome) {
    if status.attempts.is_empty() && reading.fbtrace_id.is_some() {
        status.fbtrace_id.clone_from(&reading.fbtrace_id);
    }
}

/// Notes the inputs of an attempt, or of the read that stalls the resource.
pub fn note_inputs(status: &mut WhatsAppPhoneNumberStatus, digests: &Digests) {
    status.token_digest = Some(digests.token.clone());
    status.inputs_digest = Some(digests.inputs.clone());
}

/// The time of the next automatic attempt as it follows from the newest one that ended, where no time is stored.
pub fn due_after(attempts: &[LedgerEntry], policy: &Policy) -> Option<Timestamp> {
    let last = attempts.iter().find(|attempt| !attempt.is_open())?;
    let wait = wait_after(
        last.known_reason()?,
        last.http_status,
        attempts,
        policy,
        None,
    )?;
    Some(later(last.finish_time.as_ref()?.0, wait))
}

/// The reason why no attempt follows the last error until something changes, if there is one.
pub fn terminal_reason(
    error: Option<&GraphErrorStatus>,
    attempts: &[LedgerEntry],
) -> Option<Reason> {
    let reason = classify(error?);
    match reason.disposition() {
        Disposition::Stall | Disposition::ConfirmThenStall => Some(reason),
        Disposition::RetryN(limit) => {
            // An empty ledger means that 72 hours have passed and nothing has changed.
            let made = ledger::in_a_row(attempts, reason);
            (made == 0 || made >= limit).then_some(reason)
        }
        Disposition::Done | Disposition::Retry | Disposition::Confirm => None,
    }
}

/// Whether a requested attempt has used up the value of the annotation: it may have taken effect.
pub fn is_spent(attempt: &LedgerEntry) -> bool {
    attempt.counts() && attempt.known_reason() != Some(Reason::RateLimited)
}

/// The outcome of an attempt with this reason.
fn outcome_of(reason: Reason) -> AttemptOutcome {
    match reason {
        Reason::NotSent | Reason::GraphUnreachable => AttemptOutcome::NotSent,
        Reason::OutcomeUnknown => AttemptOutcome::Unknown,
        reason if reason.is_registered() => AttemptOutcome::Succeeded,
        _ => AttemptOutcome::Failed,
    }
}

fn complete(attempt: &mut LedgerEntry, outcome: &RegisterOutcome, now: Timestamp) {
    let error = outcome.error.as_ref();
    attempt.finish_time = Some(Time(later(now, Duration::ZERO)));
    attempt.outcome = Some(outcome_of(outcome.reason));
    attempt.reason = Some(outcome.reason.to_string());
    attempt.http_status = outcome.http_status.map(i32::from);
    attempt.code = error.and_then(|error| error.code);
    attempt.subcode = error.and_then(|error| error.subcode);
    attempt.fbtrace_id.clone_from(&outcome.fbtrace_id);
}

fn succeed(
    status: &mut WhatsAppPhoneNumberStatus,
    outcome: &RegisterOutcome,
    context: &ApplyContext<'_>,
) {
    registered(status, context.now);
    status.registration_time = Some(Time(whole_seconds(context.now)));
    note_trace(status, outcome);
    let summary = Summary::new(
        Phase::Registered,
        outcome.reason,
        format!("The number is registered: {}.", outcome.message),
    );
    render::set(status, &summary, context.generation, context.now);
}

fn fail(
    status: &mut WhatsAppPhoneNumberStatus,
    result: &CallResult<'_>,
    context: &ApplyContext<'_>,
) {
    let ApplyContext {
        policy,
        generation,
        jitter,
        now,
    } = *context;
    let outcome = result.outcome;
    let reason = outcome.reason;
    let request = status
        .attempts
        .first()
        .and_then(|attempt| attempt.request.clone());
    let handed_back = request.is_some() && hand_back(status, request.as_deref(), result);
    let spent = request.is_some() && !handed_back;
    let earlier = status.attempts.get(1..).unwrap_or_default();
    let was_stalled = terminal_reason(status.last_error.as_ref(), earlier).is_some();
    note_trace(status, outcome);
    // Only an answer from Graph gives a verdict; neither a lost answer nor a temporary fault lifts one.
    let temporary = !matches!(
        reason.disposition(),
        Disposition::Stall | Disposition::ConfirmThenStall
    );
    if outcome.error.is_some() && reason != Reason::OutcomeUnknown && !(was_stalled && temporary) {
        status.last_error.clone_from(&outcome.error);
    }
    // A requested call is not retried automatically, but an unknown outcome is confirmed first.
    let phase = match phase_after(reason, outcome.http_status, &status.attempts) {
        _ if spent && is_registered(status) => Phase::Stalled,
        Phase::Waiting if spent && was_stalled && reason.disposition() != Disposition::Stall => {
            Phase::Stalled
        }
        phase => phase,
    };
    let due = match phase {
        Phase::Stalled => None,
        _ => {
            let status_code = outcome.http_status.map(i32::from);
            wait_after(
                reason,
                status_code,
                &status.attempts,
                policy,
                outcome.retry_after,
            )
            .map(|wait| match phase {
                Phase::Confirming => wait,
                _ => with_jitter(wait, jitter),
            })
            .map(|wait| later(now, wait))
        }
    };
    status.next_attempt_time = due.map(Time);
    let message = if spent && is_registered(status) {
        explain_requested(&outcome.message, reason)
    } else {
        explain(&outcome.message, reason, due)
    };
    render::set(
        status,
        &Summary::new(phase, reason, message),
        generation,
        now,
    );
}

/// Hands the value of the annotation back where nothing was sent for it that may have taken effect. Returns whether it did.
fn hand_back(
    status: &mut WhatsAppPhoneNumberStatus,
    request: Option<&str>,
    result: &CallResult<'_>,
) -> bool {
    let spent = !matches!(
        result.outcome.reason,
        Reason::NotSent | Reason::GraphUnreachable | Reason::RateLimited
    );
    if !spent && status.last_handled_register_request.as_deref() == request {
        status.last_handled_register_request = result.handled_before.map(str::to_owned);
    }
    !spent
}

fn phase_after(reason: Reason, http_status: Option<u16>, attempts: &[LedgerEntry]) -> Phase {
    match reason.disposition() {
        // 422 may mean "already registered": a read settles it.
        Disposition::Stall if http_status == Some(422) && reason == Reason::InvalidRequest => {
            Phase::Waiting
        }
        Disposition::Stall => Phase::Stalled,
        Disposition::RetryN(limit) if ledger::in_a_row(attempts, reason) >= limit => Phase::Stalled,
        Disposition::Retry | Disposition::RetryN(_) => Phase::Waiting,
        Disposition::Confirm | Disposition::ConfirmThenStall => Phase::Confirming,
        Disposition::Done => Phase::Registered,
    }
}

/// The wait after an attempt with this reason; `None` where it is not retried.
fn wait_after(
    reason: Reason,
    http_status: Option<i32>,
    attempts: &[LedgerEntry],
    policy: &Policy,
    retry_after: Option<Duration>,
) -> Option<Duration> {
    match reason.disposition() {
        Disposition::Done => return None,
        Disposition::Stall if http_status == Some(422) && reason == Reason::InvalidRequest => {
            return Some(Duration::ZERO);
        }
        Disposition::Stall => return None,
        Disposition::Retry
        | Disposition::RetryN(_)
        | Disposition::Confirm
        | Disposition::ConfirmThenStall => {}
    }
    let backoff = policy.backoff.after(ledger::failures_in_a_row(attempts));
    let server_fault = http_status.is_some_and(|status| status >= 500);
    Some(match reason {
        Reason::RecentlyDeregistered => backoff.max(AFTER_DEREGISTRATION),
        Reason::PinLocked => backoff.max(AFTER_PIN_LOCK),
        Reason::CertificateUnavailable => {
            let earlier = ledger::in_a_row(attempts, reason).saturating_sub(1);
            AFTER_CERTIFICATE.saturating_mul(3_u32.saturating_pow(earlier))
        }
        Reason::RegistrationBlocked => META_WINDOW,
        Reason::RateLimited => retry_after.unwrap_or(backoff),
        Reason::OutcomeUnknown | Reason::RegistrationRejected => policy.confirm_window,
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

fn note_trace(status: &mut WhatsAppPhoneNumberStatus, outcome: &RegisterOutcome) {
    if outcome.fbtrace_id.is_some() {
        status.fbtrace_id.clone_from(&outcome.fbtrace_id);
    }
}
