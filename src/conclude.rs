//! What the outcome of a register call means for the status. Pure.
//!
//! A result is written by the ID of its claim, against whatever the newest version is: it completes only its own
//! entry, the conditions follow the newest entry, and a success is never lost.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{AttemptOutcome, GraphErrorStatus, RegisterAttempt, WhatsAppPhoneNumberStatus};
use crate::conditions::{self, Situation, Standing, is_registered};
use crate::decide::{Policy, explain};
use crate::graph::{RegisterOutcome, classify};
use crate::ledger;
use crate::reason::{Next, Reason};
use crate::schedule::{META_WINDOW, later, whole_seconds, with_jitter};

/// Meta needs some minutes to finish a deregistration (error 133015: "wait 5 minutes").
const AFTER_DEREGISTRATION: Duration = Duration::from_secs(5 * 60);

/// Meta names no time for 133008 and 133009 in a form that can be read: wait at least an hour.
const AFTER_PIN_LOCK: Duration = Duration::from_secs(3600);

/// A display name takes hours to be processed.
const AFTER_CERTIFICATE: Duration = Duration::from_secs(2 * 3600);

/// How one claim ended.
#[derive(Clone, Copy, Debug)]
pub struct Ending<'a> {
    /// The claim's ID.
    pub id: &'a str,
    /// What came of its call.
    pub outcome: &'a RegisterOutcome,
    /// The handled value of the annotation before the claim.
    pub handled_before: Option<&'a str>,
}

/// What else the status after a call depends on.
#[derive(Clone, Copy, Debug)]
pub struct Course<'a> {
    /// The operator's settings.
    pub policy: &'a Policy,
    /// The generation that was decided on.
    pub generation: i64,
    /// A random number from 0 to 1.
    pub jitter: f64,
    /// The time.
    pub now: Timestamp,
}

/// The status after a call: the newest status, with the outcome of one claim in it.
pub fn conclude(
    mut status: WhatsAppPhoneNumberStatus,
    ending: &Ending<'_>,
    course: &Course<'_>,
) -> WhatsAppPhoneNumberStatus {
    let position = position_of(&status.attempts, ending.id);
    if let Some(attempt) = position.and_then(|position| status.attempts.get_mut(position)) {
        if !attempt.is_open() && attempt.outcome != Some(AttemptOutcome::Unknown) {
            return status; // It is known how this one ended.
        }
        complete(attempt, ending.outcome, course.now);
    }
    if ending.outcome.reason.is_registered() {
        succeed(&mut status, ending.outcome, course);
    } else if position == Some(0) {
        fail(&mut status, ending, course);
    }
    ledger::join_unsent(&mut status.attempts);
    ledger::prune(&mut status.attempts, course.now);
    status
}

/// Where a claim stands in the ledger; the open one where somebody has written its ID twice.
fn position_of(attempts: &[RegisterAttempt], id: &str) -> Option<usize> {
    let open = attempts.iter().position(|a| a.id == id && a.is_open());
    open.or_else(|| attempts.iter().position(|a| a.id == id))
}

/// Notes that the number is registered: nothing is left to come back for.
pub fn registered(status: &mut WhatsAppPhoneNumberStatus, now: Timestamp) {
    status
        .registration_time
        .get_or_insert_with(|| Time(whole_seconds(now)));
    status.last_error = None;
    status.next_attempt_time = None;
    status.read_failures = 0;
}

/// Notes that a call with an unclear outcome took effect after all.
pub fn confirm(attempt: &mut RegisterAttempt) {
    attempt.outcome = Some(AttemptOutcome::Succeeded);
    attempt.reason = Some(Reason::OutcomeConfirmed.to_string());
}

/// When the newest ended attempt lets the resource come back by itself, where no time is stored.
pub fn due_after(attempts: &[RegisterAttempt], policy: &Policy) -> Option<Timestamp> {
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

/// The reason for which the last error, after these attempts, ends the attempts until something changes.
pub fn verdict(error: Option<&GraphErrorStatus>, attempts: &[RegisterAttempt]) -> Option<Reason> {
    let reason = classify(error?);
    match reason.next() {
        Next::Stall | Next::ConfirmThenStall => Some(reason),
        Next::RetryFew(tries) => {
            // Where none is left in the ledger, 72 hours have passed and nothing has changed.
            let made = ledger::in_a_row(attempts, reason);
            (made == 0 || made >= tries).then_some(reason)
        }
        Next::Rest | Next::Retry | Next::Confirm => None,
    }
}

/// Whether an attempt that a person asked for has used up the annotation's value: it may have acted.
pub fn is_spent(attempt: &RegisterAttempt) -> bool {
    attempt.counts() && attempt.known_reason() != Some(Reason::RateLimited)
}

/// How an attempt with this reason counts.
fn outcome_of(reason: Reason) -> AttemptOutcome {
    match reason {
        Reason::NotSent | Reason::GraphUnreachable => AttemptOutcome::NotSent,
        Reason::OutcomeUnknown => AttemptOutcome::Unknown,
        reason if reason.is_registered() => AttemptOutcome::Succeeded,
        _ => AttemptOutcome::Failed,
    }
}

fn complete(attempt: &mut RegisterAttempt, outcome: &RegisterOutcome, now: Timestamp) {
    let error = outcome.error.as_ref();
    attempt.finish_time = Some(Time(later(now, Duration::ZERO)));
    attempt.outcome = Some(outcome_of(outcome.reason));
    attempt.reason = Some(outcome.reason.to_string());
    attempt.http_status = outcome.http_status.map(i32::from);
    attempt.code = error.and_then(|error| error.code);
    attempt.subcode = error.and_then(|error| error.subcode);
    attempt.fbtrace_id.clone_from(&outcome.fbtrace_id);
}

fn succeed(status: &mut WhatsAppPhoneNumberStatus, outcome: &RegisterOutcome, course: &Course<'_>) {
    registered(status, course.now);
    status.registration_time = Some(Time(whole_seconds(course.now)));
    note_trace(status, outcome);
    let standing = Standing {
        situation: Situation::Registered,
        reason: outcome.reason,
        message: format!("The number is registered: {}.", outcome.message),
    };
    conditions::set(status, &standing, course.generation, course.now);
}

fn fail(status: &mut WhatsAppPhoneNumberStatus, ending: &Ending<'_>, course: &Course<'_>) {
    let Course {
        policy,
        generation,
        jitter,
        now,
    } = *course;
    let outcome = ending.outcome;
    let reason = outcome.reason;
    let request = status
        .attempts
        .first()
        .and_then(|attempt| attempt.request.clone());
    let handed_back = request.is_some() && hand_back(status, request.as_deref(), ending);
    let stands = request.is_some() && !handed_back;
    let earlier = status.attempts.get(1..).unwrap_or_default();
    let was_stalled = verdict(status.last_error.as_ref(), earlier).is_some();
    note_trace(status, outcome);
    // What is no answer of Graph's gives no verdict either, and neither it nor a passing fault takes one away.
    let passing = !matches!(reason.next(), Next::Stall | Next::ConfirmThenStall);
    if outcome.error.is_some() && reason != Reason::OutcomeUnknown && !(was_stalled && passing) {
        status.last_error.clone_from(&outcome.error);
    }
    // What a person asked for is not tried again by itself; but an unknown outcome is confirmed first.
    let situation = match situation_after(reason, outcome.http_status, &status.attempts) {
        _ if stands && is_registered(status) => Situation::Stalled,
        Situation::Waiting if stands && was_stalled && reason.next() != Next::Stall => {
            Situation::Stalled
        }
        situation => situation,
    };
    let due = match situation {
        Situation::Stalled => None,
        _ => {
            let status_code = outcome.http_status.map(i32::from);
            wait_after(
                reason,
                status_code,
                &status.attempts,
                policy,
                outcome.retry_after,
            )
            .map(|wait| match situation {
                Situation::Confirming => wait,
                _ => with_jitter(wait, jitter),
            })
            .map(|wait| later(now, wait))
        }
    };
    status.next_attempt_time = due.map(Time);
    let message = explain(&outcome.message, reason, due);
    conditions::set(
        status,
        &Standing {
            situation,
            reason,
            message,
        },
        generation,
        now,
    );
}

/// Gives the annotation's value back where nothing that may have acted was sent for it.
fn hand_back(
    status: &mut WhatsAppPhoneNumberStatus,
    request: Option<&str>,
    ending: &Ending<'_>,
) -> bool {
    let spent = !matches!(
        ending.outcome.reason,
        Reason::NotSent | Reason::GraphUnreachable | Reason::RateLimited
    );
    if !spent && status.last_handled_register_request.as_deref() == request {
        status.last_handled_register_request = ending.handled_before.map(str::to_owned);
    }
    !spent
}

fn situation_after(
    reason: Reason,
    http_status: Option<u16>,
    attempts: &[RegisterAttempt],
) -> Situation {
    match reason.next() {
        // 422 may mean "registered already": a read settles it.
        Next::Stall if http_status == Some(422) && reason == Reason::InvalidRequest => {
            Situation::Waiting
        }
        Next::Stall => Situation::Stalled,
        Next::RetryFew(tries) if ledger::in_a_row(attempts, reason) >= tries => Situation::Stalled,
        Next::Retry | Next::RetryFew(_) => Situation::Waiting,
        Next::Confirm | Next::ConfirmThenStall => Situation::Confirming,
        Next::Rest => Situation::Registered,
    }
}

/// How long to wait after an attempt with this reason; `None` where it is not tried again.
fn wait_after(
    reason: Reason,
    http_status: Option<i32>,
    attempts: &[RegisterAttempt],
    policy: &Policy,
    retry_after: Option<Duration>,
) -> Option<Duration> {
    let backoff = policy.backoff.after(ledger::failures_in_a_row(attempts));
    let server_fault = http_status.is_some_and(|status| status >= 500);
    let wait = match reason {
        Reason::RecentlyDeregistered => backoff.max(AFTER_DEREGISTRATION),
        Reason::PinLocked => backoff.max(AFTER_PIN_LOCK),
        Reason::CertificateUnavailable => {
            let tries = ledger::in_a_row(attempts, reason).saturating_sub(1);
            AFTER_CERTIFICATE.saturating_mul(3_u32.saturating_pow(tries))
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
        Reason::GraphUnreachable | Reason::NotSent => backoff,
        Reason::InvalidRequest if http_status == Some(422) => Duration::ZERO,
        _ => return None,
    };
    Some(wait)
}

fn note_trace(status: &mut WhatsAppPhoneNumberStatus, outcome: &RegisterOutcome) {
    if outcome.fbtrace_id.is_some() {
        status.fbtrace_id.clone_from(&outcome.fbtrace_id);
    }
}

#[cfg(test)]
mod tests;
