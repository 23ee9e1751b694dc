//! What must hold for a number whose resource is deleted with `deletionPolicy: Deregister`, whatever its Graph does. Each function is one
//! guarantee, by the calls since the deletion as the simulator saw them.

use std::time::Duration;

use jiff::SignedDuration;
use operator_core::api::{Operation, Reason};
use operator_core::graph::RegistrationState;

use super::life::{Case, Guarantee, ROUNDING};
use super::meaning::{Answer, Departure, Said};
use super::oracle::{Held, check};
use super::trace::Call;
use super::{TIMEOUT, WINDOW};

/// So many reads that do not tell are followed by a call (protocol, "Reading the number": "reads three more times").
const UNCLEAR_READS: usize = 4;

/// A wait that outlasts the deadline.
const LONG: Duration = Duration::from_secs(60);

/// What is told of the number when the resource goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Told {
    Deregistered,
    LeftRegistered,
    InDoubt,
}

/// How many deregister calls there may be in 72 hours: `--attempt-limit` is about register calls.
const LIMIT: usize = Operation::Deregister.limit();

/// All guarantees.
pub const GUARANTEES: &[Guarantee] = &[
    ("no register call", no_register_call),
    ("no more deregister calls than ten", keeps_the_limit),
    (
        "every deregister call is preceded by two reads",
        looks_before_it_leaps,
    ),
    (
        "the confirm window is waited out",
        waits_out_the_confirm_window,
    ),
    (
        "what Graph refuses is not sent again",
        takes_no_for_an_answer,
    ),
    (
        "nothing is called once the number is off",
        stops_when_it_is_off,
    ),
    (
        "what becomes of the number is told as the answers say",
        tells_what_the_answers_say,
    ),
    (
        "it does not go before the deadline without a reason",
        goes_early_for_a_reason,
    ),
    ("one call at a time, by the contract", one_call_at_a_time),
];

fn no_register_call(case: &Case<'_>) -> Held {
    let posts = case.report.counts.register_calls;
    check(posts == 0, format!("{posts} register calls"))
}

fn keeps_the_limit(case: &Case<'_>) -> Held {
    let calls = case
        .calls
        .iter()
        .filter(|call| call.is_deregister())
        .count();
    check(calls <= LIMIT, format!("{calls} deregister calls"))
}

/// The first one tells that the number is registered, or for the fourth time nothing; the second one is for the Business app.
fn looks_before_it_leaps(case: &Case<'_>) -> Held {
    let mut unclear = 0;
    for (at, call) in case.calls.iter().enumerate() {
        match call.read_state() {
            Some(RegistrationState::Unclear(_)) => unclear += 1,
            _ if call.is_deregister() => {
                let before = at.checked_sub(2).map(|first| &case.calls[first..at]);
                let looked = before.is_some_and(|pair| match pair[0].read_state() {
                    Some(RegistrationState::Registered) => pair[1].is_optional,
                    Some(RegistrationState::Unclear(_)) => {
                        pair[1].is_optional && unclear >= UNCLEAR_READS
                    }
                    _ => false,
                });
                check(
                    looked,
                    format!("{before:?} before {call:?}, {unclear} unclear reads"),
                )?;
                unclear = 0;
            }
            _ => {}
        }
    }
    Ok(())
}

fn waits_out_the_confirm_window(case: &Case<'_>) -> Held {
    for (before, read, call) in case.next_calls() {
        let gap = read.time.duration_since(before.time);
        check(
            !before.answer.leaves_doubt() || gap >= signed(WINDOW),
            format!("{read:?} came {gap:#} after {before:?}, and then {call:?}"),
        )?;
    }
    Ok(())
}

/// "a refusal is settled by a read" (protocol, "Observing and leaving"); what is blocked for 72 hours is not tried again at all.
fn takes_no_for_an_answer(case: &Case<'_>) -> Held {
    for (before, read, call) in case.next_calls() {
        let may = match before.departure() {
            Some(Departure::Again | Departure::Unknown) => true,
            Some(Departure::Refused) => read.read_state() != Some(RegistrationState::Registered),
            Some(Departure::Done | Departure::Blocked) | None => false,
        };
        check(may, format!("{call:?} after {before:?}"))?;
    }
    Ok(())
}

fn stops_when_it_is_off(case: &Case<'_>) -> Held {
    let Some(end) = case.calls.iter().position(says_it_is_off) else {
        return Ok(());
    };
    let after = &case.calls[end + 1..];
    let calls = after
        .iter()
        .filter(|call| !case.lost_writes || call.is_deregister());
    check(
        calls.count() == 0,
        format!("{after:?} after {:?}", case.calls[end]),
    )
}

fn tells_what_the_answers_say(case: &Case<'_>) -> Held {
    let told = case.told.as_slice();
    let expected = expected(case);
    check(
        matches!(told, [told] if expected.contains(told)),
        format!("told {told:?}, not one of {expected:?}"),
    )
}

/// What may be told.
fn expected(case: &Case<'_>) -> Vec<Told> {
    if case.calls.iter().any(says_it_is_off) {
        return vec![Told::Deregistered];
    }
    let Some(last) = case.calls.iter().rposition(Call::is_deregister) else {
        return vec![Told::LeftRegistered];
    };
    if !case.calls[last].answer.leaves_doubt() {
        return vec![Told::LeftRegistered];
    }
    let refused = case.calls[last].departure() == Some(Departure::Refused);
    let registered = |call: &&Call| call.read_state() == Some(RegistrationState::Registered);
    let read = case.calls[last..].iter().rev().find(registered);
    let after = read.map(|read| read.time.duration_since(case.calls[last].time));
    match after {
        // The window is that of the call's end. After a refusal the resource rests; otherwise it may also go without that read.
        Some(after) if refused && after >= signed(WINDOW + TIMEOUT + 2 * ROUNDING) => {
            vec![Told::LeftRegistered]
        }
        Some(after) if after >= signed(WINDOW) => vec![Told::LeftRegistered, Told::InDoubt],
        _ => vec![Told::InDoubt],
    }
}

/// Protocol, "Observing and leaving": the number is off, or nothing can be done before the deadline.
fn goes_early_for_a_reason(case: &Case<'_>) -> Held {
    let calls = case
        .calls
        .iter()
        .filter(|call| call.is_deregister())
        .count();
    let stops = |call: &Call| {
        let outlasts = call.asked_wait().is_some_and(|wait| wait >= LONG);
        let unknown = RegistrationState::Stall(Reason::PhoneNumberNotFound);
        let banned = RegistrationState::Stall(Reason::AccountLocked);
        let state = call.read_state();
        says_it_is_off(call)
            || call.departure() == Some(Departure::Blocked)
            || call.is_limited() && outlasts
            || state == Some(unknown)
            || state == Some(banned) && shows_number(call)
    };
    let reason = calls == LIMIT || case.calls.iter().any(stops);
    check(
        !case.early || reason,
        format!("{:?} after {:?}", case.told, case.calls.last()),
    )
}

/// Whether an answer says in words that can be read that the number is not registered any more.
fn says_it_is_off(call: &Call) -> bool {
    match call.read_state() {
        Some(RegistrationState::NotRegistered) => true,
        Some(RegistrationState::Stall(Reason::PhoneNumberNotFound)) => shows_number(call),
        _ => call.departure() == Some(Departure::Done),
    }
}

fn shows_number(call: &Call) -> bool {
    matches!(call.answer, Answer::Said(_, Said::Number(_)))
}

fn one_call_at_a_time(case: &Case<'_>) -> Held {
    let counts = case.report.counts;
    check(
        counts.max_concurrent <= 1 && counts.violations == 0,
        format!(
            "{} at once, {} bad calls",
            counts.max_concurrent, counts.violations
        ),
    )
}

fn signed(time: Duration) -> SignedDuration {
    SignedDuration::try_from(time).expect("a short time")
}

// === impl Case ===

impl Case<'_> {
    /// Each deregister call after another one: that one, the last read before it that decides, and itself.
    fn next_calls(&self) -> impl Iterator<Item = (&Call, &Call, &Call)> {
        let calls = self
            .calls
            .iter()
            .enumerate()
            .filter(|(_, call)| call.is_deregister());
        let calls: Vec<(usize, &Call)> = calls.collect();
        let pairs: Vec<_> = calls.windows(2).map(|pair| (pair[0], pair[1])).collect();
        pairs
            .into_iter()
            .filter_map(|((first, before), (next, call))| {
                let between = self.calls[first..next].iter().rev();
                let read = between.clone().find(|call| call.read_state().is_some())?;
                Some((before, read, call))
            })
    }
}
