//! What must hold for every number, whatever its Graph does. Each function is one guarantee, named after it, and looks
//! at the calls as the simulator saw them, not at what the operator says of them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use operator_core::api::Reason;
use operator_core::api::WhatsAppPhoneNumberStatus;
use operator_core::api::conditions::is_registered;
use operator_core::graph::RegistrationState;

use super::ending::{ends_as_the_answers_say, is_settled_by_read};
use super::scenario::{Scenario, Start};
use super::trace::Call;
use super::{BASE, LIMIT, WINDOW};
use testkit::simulator::NumberReport;

/// Meta's window.
const META_WINDOW: SignedDuration = SignedDuration::from_hours(72);

/// Everything that is known of a number at the end.
pub struct Case<'a> {
    pub scenario: &'a Scenario,
    pub report: &'a NumberReport,
    pub calls: &'a [Call],
    pub status: &'a WhatsAppPhoneNumberStatus,
    /// Until when a rate limit that another number met keeps its token from being used.
    pub limited_until: Option<Timestamp>,
    /// Whether the API server left a write unanswered. What follows then is not told by Graph's answers alone: the pass
    /// is made again, with a read of its own, and the write may land late. The calls are judged all the same.
    pub lost_writes: bool,
    pub now: Timestamp,
}

/// What comes of looking for it: what is broken, if it is.
pub type Held = Result<(), String>;

/// A guarantee: its name, and how it is looked for.
type Guarantee = (&'static str, fn(&Case<'_>) -> Held);

/// All of them.
const GUARANTEES: &[Guarantee] = &[
    (
        "no POST after the simulator has the number registered",
        no_post_when_registered,
    ),
    ("every POST is preceded by a read", looks_before_it_leaps),
    (
        "no call after a readable answer said registered",
        rests_when_registered,
    ),
    ("no more POSTs than the attempt limit", keeps_the_limit),
    ("one call at a time", one_call_at_a_time),
    (
        "the confirm window is waited out",
        waits_out_the_confirm_window,
    ),
    (
        "what cannot succeed is not sent again",
        retries_only_what_may_pass,
    ),
    ("waits are not cut short", waits_as_asked),
    ("every POST stands in the ledger", counts_every_post),
    ("the contract is kept", keeps_the_contract),
    (
        "the number ends as the answers say",
        ends_as_the_answers_say,
    ),
    ("healthy numbers take one POST", healthy_takes_one_post),
];

/// What is broken, one line each.
pub fn violations(case: &Case<'_>) -> Vec<String> {
    let broken = |(name, guarantee): &Guarantee| {
        let what = guarantee(case).err()?;
        Some(format!("{}: {name}: {what}", case.scenario.id))
    };
    GUARANTEES.iter().filter_map(broken).collect()
}

/// docs/design/protocol.md: no POST for a number that Graph reports as registered. Two things are no report. Fields
/// that say neither yes nor no, four times in a row. And what shows only when the confirm
/// window is over, the documented limit of a read that is too old: the scripts keep within the window, a busy machine
/// does not always.
fn no_post_when_registered(case: &Case<'_>) -> Held {
    let unclear = Some(RegistrationState::Unclear(None));
    let unknown = case.posts_with(|before| before.read_state() == unclear);
    let late = case.posts_with(|before| case.shows_too_late(before));
    let seen = case.report.counts.register_calls_while_registered;
    check(
        seen <= unknown + late,
        format!(
            "{seen} POSTs to a registered number, {unknown} after a read that said neither, {late} after one that \
             could not know"
        ),
    )
}

fn looks_before_it_leaps(case: &Case<'_>) -> Held {
    let looked = |before: &Call| {
        matches!(
            before.read_state(),
            Some(RegistrationState::NotRegistered | RegistrationState::Unclear(None))
        )
    };
    let posts = case.posts().count();
    let after_a_look = case.posts_with(looked);
    check(
        posts == after_a_look,
        format!("{after_a_look} of {posts} POSTs follow a read that does not say registered"),
    )
}

fn rests_when_registered(case: &Case<'_>) -> Held {
    let said = case.calls.iter().position(Call::says_registered);
    let after = said.map_or(&[][..], |at| &case.calls[at + 1..]);
    let posts = after.iter().filter(|call| call.is_post()).count();
    check(posts == 0, format!("{posts} POSTs after that answer"))?;
    if case.lost_writes {
        return Ok(());
    }
    let after = after.len();
    check(after == 0, format!("{after} calls after that answer"))?;
    check(
        said.is_some() == is_registered(case.status),
        format!("an answer says registered: {}", said.is_some()),
    )
}

fn keeps_the_limit(case: &Case<'_>) -> Held {
    let times: Vec<Timestamp> = case.posts().map(|call| call.time).collect();
    let most = most_in_a_window(&times);
    check(most <= LIMIT, format!("{most} POSTs in 72 h"))?;
    // Calls that others made are not known to the operator: it learns from one refusal.
    let others = usize::from(matches!(case.scenario.start, Start::Spent(_)));
    let over = case.report.counts.register_calls_over_limit;
    check(over <= others, format!("{over} beyond Meta's own limit"))
}

fn one_call_at_a_time(case: &Case<'_>) -> Held {
    let most = case.report.counts.max_concurrent;
    check(most <= 1, format!("{most} at once"))
}

/// Protocol, "Reading the number": after an unclear outcome, and after any 5xx, no POST leaves before the window has passed, and a read
/// after it still does not say registered.
fn waits_out_the_confirm_window(case: &Case<'_>) -> Held {
    for (at, call) in case.calls.iter().enumerate() {
        if !call.is_post() || !call.answer.is_unclear() {
            continue;
        }
        let Some(next) = (at + 1..case.calls.len()).find(|at| case.calls[*at].is_post()) else {
            continue;
        };
        let read = case.calls[next - 1].time.duration_since(call.time);
        check(
            read >= signed(WINDOW),
            format!("the read before the POST after {call:?} came {read:#} after it"),
        )?;
    }
    Ok(())
}

fn retries_only_what_may_pass(case: &Case<'_>) -> Held {
    let posts: Vec<&Call> = case.posts().collect();
    let passes = |call: &&&Call| {
        matches!(
            call.reason(),
            Some(Reason::OutcomeUnknown | Reason::GraphUnavailable | Reason::RateLimited)
        )
    };
    let all_but_last = &posts[..posts.len().saturating_sub(1)];
    match all_but_last.iter().find(|call| !passes(call)) {
        None => Ok(()),
        Some(call) => Err(format!("a POST follows {call:?}")),
    }
}

/// Between two calls lies what the first one's answer asked for, and the backoff where it asked for nothing.
fn waits_as_asked(case: &Case<'_>) -> Held {
    for pair in case.calls.windows(2) {
        let (call, gap) = (&pair[0], pair[1].time.duration_since(pair[0].time));
        // After the last of the reads that do not tell, the call follows at once.
        let untold = match call.read_state() {
            Some(RegistrationState::Wait(_)) => true,
            Some(RegistrationState::Unclear(_)) => !pair[1].is_post(),
            _ => false,
        };
        let waits = untold
            || call.is_limited()
            || call.reason() == Some(Reason::GraphUnavailable) && !call.answer.is_unclear();
        let wait = match call.is_limited() {
            true => call.asked_wait().unwrap_or(BASE),
            false => BASE,
        };
        check(
            !waits || gap >= signed(wait),
            format!("{gap:#} instead of {wait:?} after {call:?}"),
        )?;
    }
    Ok(())
}

fn counts_every_post(case: &Case<'_>) -> Held {
    let ledger: Vec<_> = case.status.attempts.iter().filter(|a| a.counts()).collect();
    let posts: Vec<&Call> = case.posts().collect();
    check(
        ledger.len() == posts.len(),
        format!(
            "{} entries count, {} POSTs arrived",
            ledger.len(),
            posts.len()
        ),
    )?;
    for (entry, post) in ledger.iter().rev().zip(&posts) {
        let confirmed = entry.known_reason() == Some(Reason::OutcomeConfirmed);
        check(
            confirmed && is_settled_by_read(post) || entry.known_reason() == post.reason(),
            format!("{:?} is noted for {post:?}", entry.known_reason()),
        )?;
    }
    Ok(())
}

fn keeps_the_contract(case: &Case<'_>) -> Held {
    let violations = case.report.counts.violations;
    check(violations == 0, format!("{violations} bad calls"))
}

fn healthy_takes_one_post(case: &Case<'_>) -> Held {
    let scenario = case.scenario;
    if !scenario.script.is_empty() || case.waits_for_token() {
        return Ok(());
    }
    let counts = case.report.counts;
    let (posts, reads) = (counts.register_calls, counts.reads);
    let expected = match scenario.start {
        Start::Fresh => 1,
        Start::Registered | Start::Restricted => 0,
        _ => return Ok(()),
    };
    check(posts == expected, format!("{posts} POSTs, {reads} reads"))
}

/// The most of these times that lie within any 72 hours.
pub fn most_in_a_window(times: &[Timestamp]) -> usize {
    let within = |start: &Timestamp| {
        let passed = times.iter().map(|time| time.duration_since(*start));
        passed
            .filter(|passed| !passed.is_negative() && *passed < META_WINDOW)
            .count()
    };
    times.iter().map(within).max().unwrap_or(0)
}

pub fn check(held: bool, otherwise: String) -> Held {
    held.then_some(()).ok_or(otherwise)
}

fn signed(time: Duration) -> SignedDuration {
    SignedDuration::try_from(time).expect("a short time")
}

pub fn later(time: Timestamp, wait: Duration) -> Timestamp {
    time.checked_add(signed(wait)).expect("a time")
}

// === impl Case ===

impl Case<'_> {
    pub fn posts(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(|call| call.is_post())
    }

    /// How many POSTs have such a call directly before them.
    fn posts_with(&self, before: impl Fn(&Call) -> bool) -> usize {
        let pairs = self.calls.windows(2);
        pairs
            .filter(|pair| pair[1].is_post() && before(&pair[0]))
            .count()
    }

    /// Whether this read is beyond the confirm window of a POST that shows in reads after it only.
    fn shows_too_late(&self, read: &Call) -> bool {
        let entries = self.status.attempts.iter().rev().filter(|a| a.counts());
        self.posts().zip(entries).any(|(post, entry)| {
            let finished = entry.end.as_ref().map(|end| later(end.time.0, WINDOW));
            let window_over = finished.is_some_and(|end| end <= read.time);
            window_over && post.shown_time.is_some_and(|shown| shown > read.time)
        })
    }

    pub fn waits_for_token(&self) -> bool {
        self.limited_until.is_some_and(|until| until > self.now)
    }
}
