//! What must hold for a registered number that is observed, whatever its Graph answers. Each function is one guarantee, by the reads as
//! the simulator saw them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use operator_core::api::conditions::is_registered;
use operator_core::graph::RegistrationState;

use super::life::{Case, Guarantee, ROUNDING};
use super::meaning::{Answer, Said};
use super::oracle::{Held, check};
use super::trace::Call;
use super::{TIMEOUT, WINDOW};

/// All guarantees.
pub const GUARANTEES: &[Guarantee] = &[
    ("no call that acts", no_call_that_acts),
    (
        "two definite answers make a loss, and nothing else",
        is_lost_by_two_answers,
    ),
    ("it ends as the last answers say", ends_as_the_answers_say),
    ("a limit is left to calls", leaves_the_limit_to_calls),
];

/// What an answer to a read says of the registration, if it is definite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Definite {
    Registered,
    Gone,
}

fn no_call_that_acts(case: &Case<'_>) -> Held {
    let counts = case.report.counts;
    let calls = (counts.register_calls, counts.deregister_calls);
    check(calls == (0, 0), format!("{calls:?} calls"))
}

/// Protocol, "Observing and leaving": "Only definite answers count. The second definite answer that shows the number as not registered makes
/// it lost. That read comes after the confirm window".
fn is_lost_by_two_answers(case: &Case<'_>) -> Held {
    let lost = case.status.last_loss_time.is_some();
    let spans = gone_for(case);
    check(
        !lost || losses(case) > 0,
        format!("lost, and the answers that say so are {spans:?} apart"),
    )?;
    check(
        lost || case.lost_writes || spans.iter().all(|span| *span < signed(WINDOW + TIMEOUT)),
        format!("not lost, and the answers that say so are {spans:?} apart"),
    )
}

fn ends_as_the_answers_say(case: &Case<'_>) -> Held {
    if case.lost_writes {
        return Ok(());
    }
    let spans = gone_for(case);
    let (lost, registered) = (case.status.loss.is_some(), is_registered(&case.status));
    check(
        lost != registered,
        format!("lost: {lost}, registered: {registered}"),
    )?;
    match (definite(case).last(), spans.last()) {
        (Some((_, Definite::Registered)) | None, _) => check(registered, "it is lost".to_owned()),
        (_, Some(span)) if *span >= signed(WINDOW + TIMEOUT) => {
            check(lost, format!("not lost after {span:#}"))
        }
        (_, Some(span)) if *span >= signed(WINDOW - ROUNDING) => Ok(()),
        _ => check(registered, format!("lost after {spans:?}")),
    }
}

/// Usage headers are heeded: what is left of a limit that is nearly used up is for calls.
fn leaves_the_limit_to_calls(case: &Case<'_>) -> Held {
    let Some(limited) = case.calls.iter().position(Call::is_busy) else {
        return Ok(());
    };
    // The optional read belongs to the same pass.
    let after = case.calls[limited + 1..]
        .iter()
        .filter(|call| !call.is_optional);
    check(
        after.count() == 0,
        format!("reads after {:?}", case.calls[limited]),
    )
}

/// How often the number may have been told as lost.
pub fn losses(case: &Case<'_>) -> usize {
    let spans = gone_for(case).into_iter();
    spans
        .filter(|span| *span >= signed(WINDOW - ROUNDING))
        .count()
}

/// The time between the first and the last of the answers in a row that say that the number is not registered; of each such row.
fn gone_for(case: &Case<'_>) -> Vec<SignedDuration> {
    let answers: Vec<_> = definite(case).collect();
    let rows = answers.split(|(_, said)| *said == Definite::Registered);
    let ends = rows.filter_map(|row| Some((row.first()?.0, row.last()?.0)));
    ends.map(|(first, last)| last.duration_since(first))
        .collect()
}

fn definite<'a>(case: &'a Case<'_>) -> impl Iterator<Item = (Timestamp, Definite)> + 'a {
    case.calls.iter().filter_map(|call| {
        let shows_number = matches!(call.answer, Answer::Said(_, Said::Number(_)));
        let said = match call.read_state()? {
            RegistrationState::Registered => Definite::Registered,
            RegistrationState::NotRegistered => Definite::Gone,
            RegistrationState::Stall(_) if shows_number => Definite::Gone,
            _ => return None,
        };
        Some((call.time, said))
    })
}

fn signed(time: Duration) -> SignedDuration {
    SignedDuration::try_from(time).expect("a short time")
}
