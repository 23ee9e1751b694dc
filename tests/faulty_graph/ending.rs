//! How a number must end, by the answers to its calls.

use std::time::Duration;

use jiff::Timestamp;
use operator_core::api::Reason;
use operator_core::api::conditions;
use operator_core::api::conditions::{find, is_registered, is_true};
use operator_core::graph::RegistrationState;

use super::LIMIT;
use super::oracle::{Case, Held, check, later};
use super::trace::Call;

/// Jitter adds at most this to a wait, and at most a fifth of it (protocol, "Schedule and budget").
const JITTER: Duration = Duration::from_secs(600);

/// A call and its record may take so long on a busy machine.
const RECORD: Duration = Duration::from_secs(30);

/// How a number must end.
#[derive(Debug, PartialEq)]
enum End {
    Registered(Reason),
    Stalled(Reason),
    /// Coming back by itself, for one of these reasons, so long after this time.
    Waiting(Vec<Reason>, Timestamp, Duration),
    /// Coming back by itself, when its token may be used again.
    WaitingForToken,
}

/// Registered, or Stalled with the reason that the last answer gave, or Reconciling with a time that fits it.
pub fn ends_as_the_answers_say(case: &Case<'_>) -> Held {
    if case.lost_writes {
        return Ok(());
    }
    let end = end(case)?;
    let status = case.status;
    let reason = find(status, conditions::READY).map(|ready| ready.reason.clone());
    let is = |expected: Reason| reason.as_deref() == Some(expected.as_str());
    let next = status.next_attempt_time.as_ref().map(|time| time.0);
    let comes_back = is_true(status, conditions::RECONCILING) && next > Some(case.now);
    let fits = match &end {
        End::Registered(expected) => is_registered(status) && is(*expected) && next.is_none(),
        End::Stalled(expected) => {
            is_true(status, conditions::STALLED) && is(*expected) && next.is_none()
        }
        // Its turn comes after that of the number that met the limit, which tells the time.
        End::WaitingForToken => {
            comes_back || is(Reason::RateLimited) && is_true(status, conditions::RECONCILING)
        }
        End::Waiting(expected, from, wait) => {
            let latest = *wait + JITTER.min(*wait / 5) + RECORD;
            comes_back
                && expected.iter().any(|expected| is(*expected))
                && next >= Some(later(*from, *wait))
                && next <= Some(later(*from, latest))
        }
    };
    check(
        fits,
        format!("{end:?} was due, not {reason:?}, next {next:?}"),
    )
}

fn end(case: &Case<'_>) -> Result<End, String> {
    let post = case.posts().last();
    let expected = match case.calls.last() {
        None => None,
        Some(last) if last.is_post() => after_post(last),
        Some(last) => match last.answer.of_read() {
            RegistrationState::Registered => Some(End::Registered(
                match post.is_some_and(is_settled_by_read) {
                    true => Reason::OutcomeConfirmed,
                    false => Reason::AlreadyRegistered,
                },
            )),
            RegistrationState::Stall(reason) => Some(End::Stalled(reason)),
            RegistrationState::Wait(reason) => {
                // What the last POST has to wait for goes on beside it.
                let asked = last.asked_wait().map(|wait| (last.time, wait));
                let own = post.and_then(|post| Some((post.time, long_wait(post)?)));
                let waits = asked.into_iter().chain(own);
                let longest = waits.max_by_key(|(from, wait)| later(*from, *wait));
                longest.map(|(from, wait)| {
                    let reasons = vec![reason, Reason::RateLimited, Reason::OutcomeUnknown];
                    End::Waiting(reasons, from, wait)
                })
            }
            RegistrationState::Unclear(Some(reason)) => Some(End::Stalled(reason)),
            RegistrationState::Unclear(None) => match post {
                // Neither the call nor the reads after it tell.
                Some(post) if post.answer.is_unclear() => post.reason().map(End::Stalled),
                post => after_read(case, post),
            },
            RegistrationState::NotRegistered => after_read(case, post),
            // It is read again at once.
            RegistrationState::LacksField => None,
        },
    };
    match expected {
        // The token's wait may be the longer one.
        None | Some(End::Waiting(..)) if case.waits_for_token() => Ok(End::WaitingForToken),
        Some(end) => Ok(end),
        None => Err("it does not go on".to_owned()),
    }
}

pub fn is_settled_by_read(post: &Call) -> bool {
    post.answer.is_unclear() || post.answer.is_unchecked()
}

/// `None` where the next call must follow soon.
fn after_post(last: &Call) -> Option<End> {
    let reason = last.reason()?;
    match long_wait(last) {
        _ if reason == Reason::RegistrationSucceeded => Some(End::Registered(reason)),
        Some(wait) => Some(End::Waiting(vec![reason], last.time, wait)),
        None if is_final(reason) && !last.answer.is_unchecked() => Some(End::Stalled(reason)),
        None => None,
    }
}

/// The last read said that the number is not registered, or nothing; `None` where a POST must follow.
fn after_read(case: &Case<'_>, post: Option<&Call>) -> Option<End> {
    let (post, first) = (post?, case.posts().next()?);
    let reason = post.reason()?;
    if case.waits_for_token() && !is_true(case.status, conditions::STALLED) {
        // The limit was met while it read: it reads again after that.
        return None;
    }
    if reason == Reason::RegistrationRejected || post.answer.is_unchecked() {
        return Some(End::Stalled(reason));
    }
    if let Some(wait) = long_wait(post) {
        return Some(End::Waiting(vec![reason], post.time, wait));
    }
    let wait = Duration::from_secs(72 * 3_600);
    let reasons = vec![Reason::AttemptBudgetExhausted];
    (case.posts().count() == LIMIT).then_some(End::Waiting(reasons, first.time, wait))
}

/// The waits that outlast the test (the book's table of reasons).
fn long_wait(post: &Call) -> Option<Duration> {
    let hours = |hours: u64| Some(Duration::from_secs(hours * 3_600));
    match post.reason()? {
        Reason::RecentlyDeregistered => Some(Duration::from_secs(300)),
        Reason::PinLocked => hours(1),
        Reason::CertificateUnavailable => hours(2),
        Reason::RegistrationBlocked => hours(72),
        Reason::RateLimited => post.asked_wait().filter(|wait| wait.as_secs() > 60),
        _ => None,
    }
}

/// Whether nothing is tried again for this reason until something changes (the book's table of reasons: "stall").
fn is_final(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::TokenRejected
            | Reason::PermissionDenied
            | Reason::PhoneNumberNotFound
            | Reason::AppSecretRejected
            | Reason::PinMismatch
            | Reason::AccountLocked
            | Reason::OwnershipNotVerified
            | Reason::InvalidRequest
            | Reason::DeregistrationIncomplete
    )
}
