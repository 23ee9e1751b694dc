//! The ledger of register and deregister calls in `status.attempts`: which entries count, how much of Meta's budget is left, and what an
//! open entry (a claim) means.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_core::ResourceExt as _;

use super::schedule::{ConfirmWindow, META_WINDOW, plus, sane_past, whole_seconds};
use crate::api::{
    AttemptEnd, AttemptOutcome, Budget, Disposition, LedgerEntry, Operation, Reason,
    WhatsAppPhoneNumber,
};

impl LedgerEntry {
    /// A new claim: an open entry.
    pub fn open(
        operation: Operation,
        id: &str,
        ttl: Duration,
        request: Option<&str>,
        now: Timestamp,
    ) -> Self {
        Self {
            id: id.to_owned(),
            operation,
            start_time: Time(whole_seconds(now)),
            ttl_seconds: i64::try_from(ttl.as_secs_f64().ceil() as u64).unwrap_or(i64::MAX),
            request: request.map(str::to_owned),
            seen: None,
            earlier: false,
            count: None,
            end: None,
        }
    }

    /// Whether the call may be in flight, as far as the entry shows.
    pub fn is_open(&self) -> bool {
        self.end.is_none()
    }

    /// How long an open entry must be seen unchanged before it counts as abandoned.
    pub fn ttl(&self) -> Duration {
        Duration::from_secs(u64::try_from(self.ttl_seconds).unwrap_or(0))
    }

    /// The outcome, if the entry has ended.
    pub fn outcome(&self) -> Option<AttemptOutcome> {
        self.end.as_ref().map(|end| end.outcome)
    }

    /// The reason of the outcome; `None` if this version does not know it.
    pub fn known_reason(&self) -> Option<Reason> {
        self.end.as_ref()?.known_reason()
    }

    /// Whether Meta may have counted the call: every call that may have been sent, open claims included.
    pub fn counts(&self) -> bool {
        self.outcome() != Some(AttemptOutcome::NotSent)
    }

    /// The end of the attempt, or its start while it is open; never later than now.
    pub fn time(&self, now: Timestamp) -> Timestamp {
        let end = self.end.as_ref().map(|end| &end.time);
        end.unwrap_or(&self.start_time).0.min(now)
    }

    /// Whether the call may have taken effect although its answer did not confirm it.
    pub fn is_unclear(&self) -> bool {
        self.end
            .as_ref()
            .is_some_and(|end| end.is_unclear(self.operation))
    }

    /// Whether the call has, or may have, taken effect: Graph did not refuse it.
    pub fn may_have_acted(&self) -> bool {
        let end = self.end.as_ref();
        end.is_none_or(|end| match end.outcome {
            AttemptOutcome::Succeeded | AttemptOutcome::Unknown => true,
            AttemptOutcome::Failed => end.is_server_fault(),
            AttemptOutcome::NotSent => false,
        })
    }

    /// The reason against another call with the same inputs, where the entry's own is one.
    pub fn verdict(&self) -> Option<Reason> {
        let reason = self.known_reason()?;
        let stalls = match self.operation.disposition(reason) {
            Disposition::Stall | Disposition::ConfirmThenStall => true,
            Disposition::Done
            | Disposition::Retry
            | Disposition::RetryN(_)
            | Disposition::Confirm => false,
        };
        stalls.then_some(reason)
    }

    /// Whether the answer may mean that the call was not needed: a read settles it.
    pub fn is_unchecked(&self) -> bool {
        let end = self.end.as_ref();
        end.is_some_and(|end| {
            self.operation
                .asks_for_check(end.known_reason(), end.http_status)
        })
    }
}

impl AttemptEnd {
    /// The end of an attempt about which nothing else is known.
    pub fn unknown(time: Timestamp) -> Self {
        Self {
            time: Time(time),
            outcome: AttemptOutcome::Unknown,
            reason: None,
            http_status: None,
            code: None,
            subcode: None,
            fbtrace_id: None,
        }
    }

    /// The reason; `None` where this version does not know it.
    pub fn known_reason(&self) -> Option<Reason> {
        self.reason.as_deref()?.parse().ok()
    }

    /// There is no readable answer, one without success, or a fault inside Graph, which is any 5xx.
    fn is_unclear(&self, operation: Operation) -> bool {
        let disposition = self
            .known_reason()
            .map(|reason| operation.disposition(reason));
        match (self.outcome, disposition) {
            (AttemptOutcome::Succeeded | AttemptOutcome::NotSent, _) => false,
            (AttemptOutcome::Unknown, _) | (AttemptOutcome::Failed, None) => true,
            (
                AttemptOutcome::Failed,
                Some(Disposition::Confirm | Disposition::ConfirmThenStall),
            ) => true,
            (
                AttemptOutcome::Failed,
                Some(
                    Disposition::Done
                    | Disposition::Retry
                    | Disposition::RetryN(_)
                    | Disposition::Stall,
                ),
            ) => self.is_server_fault(),
        }
    }

    fn is_server_fault(&self) -> bool {
        self.http_status.is_some_and(|status| status >= 500)
    }
}

/// The open claim, if there is one.
pub fn open(attempts: &[LedgerEntry]) -> Option<&LedgerEntry> {
    attempts.iter().find(|entry| entry.is_open())
}

/// Whether the newest version is of the same resource and holds the open claim.
pub fn holds_claim(newest: &WhatsAppPhoneNumber, claimed: &WhatsAppPhoneNumber, id: &str) -> bool {
    newest.uid() == claimed.uid()
        && newest
            .attempts()
            .iter()
            .any(|attempt| attempt.id == id && attempt.is_open())
}

/// Returns the entries with the faults of other clocks corrected: a time in the future counts as now.
pub fn with_sane_times(attempts: &[LedgerEntry], now: Timestamp) -> Vec<LedgerEntry> {
    let sane = |attempt: &LedgerEntry| LedgerEntry {
        start_time: sane_past(&attempt.start_time, now),
        end: attempt.end.as_ref().map(|end| AttemptEnd {
            time: sane_past(&end.time, now),
            ..end.clone()
        }),
        ..attempt.clone()
    };
    attempts
        .iter()
        .map(|a| if a.is_open() { a.clone() } else { sane(a) })
        .collect()
}

/// Adds a claim as the newest entry, and prunes the others.
pub fn push(attempts: &mut Vec<LedgerEntry>, claim: LedgerEntry, now: Timestamp) {
    attempts.insert(0, claim);
    prune(attempts, now);
}

/// The entries of one kind of call.
pub fn of(attempts: &[LedgerEntry], operation: Operation) -> Vec<LedgerEntry> {
    let same = attempts.iter().filter(|entry| entry.operation == operation);
    same.cloned().collect()
}

/// Removes entries older than 72 h, and the oldest of those that count beyond the limit of their kind.
pub fn prune(attempts: &mut Vec<LedgerEntry>, now: Timestamp) {
    let mut counted: Vec<Operation> = Vec::new();
    attempts.retain(|attempt| {
        let operation = attempt.operation;
        counted.extend(attempt.counts().then_some(operation));
        let same = counted.iter().filter(|known| **known == operation).count();
        let fits = !attempt.counts() || same <= operation.limit();
        attempt.is_open() || fits && plus(attempt.time(now), META_WINDOW) > now
    });
}

/// Joins all entries of calls of one kind that were never sent into one with a count, in the place of the newest.
pub fn join_unsent(attempts: &mut Vec<LedgerEntry>, operation: Operation) {
    let unsent = |a: &LedgerEntry| a.operation == operation && !a.counts();
    let total: i32 = attempts
        .iter()
        .filter(|a| unsent(a))
        .map(|a| a.count.unwrap_or(1))
        .fold(0, i32::saturating_add);
    let mut first = true;
    attempts.retain_mut(|attempt| {
        if !unsent(attempt) {
            return true;
        }
        attempt.count = Some(total);
        std::mem::take(&mut first)
    });
}

/// The number of attempts in a row that failed, up to the newest.
pub fn failures_in_a_row(attempts: &[LedgerEntry]) -> u32 {
    attempts
        .iter()
        .filter(|attempt| !attempt.is_open())
        .take_while(|attempt| attempt.outcome() != Some(AttemptOutcome::Succeeded))
        .map(|attempt| u32::try_from(attempt.count.unwrap_or(1)).unwrap_or(1))
        .fold(0, u32::saturating_add)
}

/// The number of counting attempts in a row that ended with this reason, up to the newest. A temporary fault and a lost answer
/// in between do not interrupt the row.
pub fn in_a_row(attempts: &[LedgerEntry], reason: Reason) -> u32 {
    let telling = attempts.iter().filter(|attempt| {
        let passing = attempt.known_reason().is_some_and(|other| {
            matches!(
                attempt.operation.disposition(other),
                Disposition::Retry | Disposition::Confirm
            )
        });
        attempt.counts()
            && !attempt.is_open()
            && (!passing || attempt.known_reason() == Some(reason))
    });
    let count = telling
        .take_while(|attempt| attempt.known_reason() == Some(reason))
        .count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The number of attempts that count toward Meta's limit now.
pub fn counted(attempts: &[LedgerEntry], now: Timestamp) -> usize {
    ends_of_counted(attempts, now).count()
}

/// What these register calls leave of Meta's limit.
pub fn budget(attempts: &[LedgerEntry], now: Timestamp) -> Option<Budget> {
    let first = ends_of_counted(attempts, now).min()?;
    let small = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    Some(Budget {
        used: small(counted(attempts, now)),
        limit: small(Operation::Register.limit()),
        next_free_time: Some(Time(whole_seconds(first))),
    })
}

/// The times at which the attempts that count now stop counting.
fn ends_of_counted(attempts: &[LedgerEntry], now: Timestamp) -> impl Iterator<Item = Timestamp> {
    attempts
        .iter()
        .filter(|attempt| attempt.counts())
        .map(move |attempt| plus(attempt.time(now), META_WINDOW))
        .filter(move |end| *end > now)
}

/// The time at which a limit of attempts in 72 h allows the next one; `None` if it does so now.
pub fn budget_opens(attempts: &[LedgerEntry], limit: usize, now: Timestamp) -> Option<Timestamp> {
    let mut counted: Vec<Timestamp> = ends_of_counted(attempts, now).collect();
    counted.sort_unstable();
    let too_many = counted.len().checked_sub(limit)?;
    counted.get(too_many).copied()
}

/// The end of Meta's block of register calls for the number, if there is one.
pub fn blocked_until(attempts: &[LedgerEntry], now: Timestamp) -> Option<Timestamp> {
    attempts
        .iter()
        .filter(|attempt| attempt.known_reason() == Some(Reason::RegistrationBlocked))
        .map(|attempt| plus(attempt.time(now), META_WINDOW))
        .filter(|end| *end > now)
        .max()
}

/// The confirm window of the newest call for this resource whose outcome is unclear.
pub fn unclear_window(
    attempts: &[LedgerEntry],
    length: Duration,
    now: Timestamp,
) -> Option<ConfirmWindow> {
    attempts
        .iter()
        .filter(|attempt| attempt.is_unclear())
        .map(|attempt| ConfirmWindow::after(attempt.time(now), length))
        .max_by_key(|window| window.end)
}

/// The window after the newest call for a peer, in which no call is made for this resource. An open claim ends when its
/// process must have abandoned it.
pub fn others_window(
    attempts: &[LedgerEntry],
    length: Duration,
    now: Timestamp,
) -> Option<ConfirmWindow> {
    attempts
        .iter()
        .filter(|attempt| attempt.counts())
        .map(|attempt| {
            let grace = if attempt.is_open() {
                attempt.ttl()
            } else {
                Duration::ZERO
            };
            let length = length.max(attempt.operation.aftermath());
            ConfirmWindow::after(attempt.time(now), length.saturating_add(grace))
        })
        .max_by_key(|window| window.end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: i64 = 3600;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn claim(id: &str, now: Timestamp) -> LedgerEntry {
        let ttl = Duration::from_secs(60);
        LedgerEntry::open(Operation::Register, id, ttl, None, now)
    }

    fn ended(id: &str, second: i64, outcome: AttemptOutcome, reason: Reason) -> LedgerEntry {
        LedgerEntry {
            end: Some(AttemptEnd {
                outcome,
                reason: Some(reason.to_string()),
                ..AttemptEnd::unknown(at(second))
            }),
            ..claim(id, at(second))
        }
    }

    fn failed(second: i64, reason: Reason) -> LedgerEntry {
        ended("x", second, AttemptOutcome::Failed, reason)
    }

    #[test]
    fn the_budget_opens_when_the_oldest_attempts_leave_the_window() {
        let now = at(100 * HOUR);
        let at_hours = |hours: &[i64]| -> Vec<LedgerEntry> {
            hours
                .iter()
                .map(|h| failed(h * HOUR, Reason::GraphUnavailable))
                .collect()
        };
        assert_eq!(budget_opens(&at_hours(&[90, 80]), 3, now), None);
        assert_eq!(
            budget_opens(&at_hours(&[90, 80, 70]), 3, now),
            Some(at(142 * HOUR))
        );
        assert_eq!(
            budget_opens(&at_hours(&[95, 90, 80, 70]), 3, now),
            Some(at(152 * HOUR))
        );
        // 28 h is exactly 72 h ago: it no longer counts.
        assert_eq!(budget_opens(&at_hours(&[90, 80, 28]), 3, now), None);
    }

    #[test]
    fn open_claims_count_and_unsent_ones_do_not() {
        let now = at(1_000_000);
        let open = claim("a", now);
        let unsent = ended(
            "b",
            999_990,
            AttemptOutcome::NotSent,
            Reason::GraphUnreachable,
        );
        assert!(budget_opens(std::slice::from_ref(&open), 1, now).is_some());
        assert_eq!(budget_opens(std::slice::from_ref(&unsent), 1, now), None);
        assert_eq!(counted(&[open, unsent], now), 1);
    }

    #[test]
    fn unsent_entries_share_one_and_displace_none_that_counts() {
        let mut attempts: Vec<_> = (0..10)
            .map(|i| failed(1000 - i, Reason::PinMismatch))
            .collect();
        for i in 0..5 {
            attempts.insert(
                0,
                ended("n", 2000 + i, AttemptOutcome::NotSent, Reason::NotSent),
            );
            join_unsent(&mut attempts, Operation::Register);
            prune(&mut attempts, at(3000));
        }
        assert_eq!(attempts.len(), 11);
        assert_eq!(attempts[0].count, Some(5));
        assert_eq!(attempts[0].start_time.0, at(2004));
    }

    #[test]
    fn each_kind_of_call_has_a_limit_of_its_own() {
        let of = |operation: Operation| {
            move |second| LedgerEntry {
                operation,
                ..failed(second, Reason::GraphUnavailable)
            }
        };
        let unsent = |second| ended("n", second, AttemptOutcome::NotSent, Reason::NotSent);
        let mut attempts: Vec<_> = (0..12).map(of(Operation::Register)).collect();
        attempts.extend((0..12).map(of(Operation::Deregister)));
        attempts.extend((0..12).map(unsent));
        prune(&mut attempts, at(3000));
        let left = |operation| {
            let of_kind = attempts.iter().filter(|a| a.operation == operation);
            of_kind.filter(|a| a.counts()).count()
        };
        assert_eq!(left(Operation::Register), Operation::Register.limit());
        assert_eq!(left(Operation::Deregister), Operation::Deregister.limit());
        assert_eq!(attempts.iter().filter(|a| !a.counts()).count(), 12);
    }

    #[test]
    fn entries_leave_after_72_hours_and_open_ones_never() {
        let mut attempts = vec![
            claim("open", at(0)),
            failed(0, Reason::PinMismatch),
            failed(HOUR, Reason::PinMismatch),
        ];
        prune(&mut attempts, at(72 * HOUR));
        assert_eq!(attempts.len(), 2);
        assert!(attempts[0].is_open());
    }

    #[test]
    fn which_outcomes_are_unclear() {
        let with_status = |status, reason| {
            let mut entry = failed(0, reason);
            if let Some(end) = &mut entry.end {
                end.http_status = Some(status);
            }
            entry
        };
        assert!(with_status(500, Reason::GraphUnavailable).is_unclear());
        assert!(with_status(503, Reason::PermissionDenied).is_unclear());
        assert!(!with_status(400, Reason::GraphUnavailable).is_unclear());
        assert!(with_status(200, Reason::RegistrationRejected).is_unclear());
        assert!(ended("u", 0, AttemptOutcome::Unknown, Reason::OutcomeUnknown).is_unclear());
        assert!(!ended("n", 0, AttemptOutcome::NotSent, Reason::GraphUnreachable).is_unclear());
        assert!(!ended("s", 0, AttemptOutcome::Succeeded, Reason::OutcomeConfirmed).is_unclear());
        assert!(!claim("o", at(0)).is_unclear());
    }

    #[test]
    fn failures_in_a_row_end_at_a_success() {
        let attempts = [
            LedgerEntry {
                count: Some(4),
                ..ended("n", 5, AttemptOutcome::NotSent, Reason::GraphUnreachable)
            },
            failed(4, Reason::GraphUnavailable),
            ended(
                "s",
                3,
                AttemptOutcome::Succeeded,
                Reason::RegistrationSucceeded,
            ),
            failed(2, Reason::GraphUnavailable),
        ];
        assert_eq!(failures_in_a_row(&attempts), 5);
        assert_eq!(in_a_row(&attempts, Reason::GraphUnavailable), 1);
    }

    #[test]
    fn a_fault_in_between_does_not_end_a_row() {
        let attempts = [
            claim("o", at(7)),
            failed(6, Reason::PinLocked),
            ended("u", 5, AttemptOutcome::Unknown, Reason::OutcomeUnknown),
            failed(4, Reason::GraphUnavailable),
            failed(3, Reason::PinLocked),
            failed(2, Reason::PinMismatch),
            failed(1, Reason::PinLocked),
        ];
        assert_eq!(in_a_row(&attempts, Reason::PinLocked), 2);
    }

    proptest! {
        #[test]
        fn the_ledger_stays_small(kinds in proptest::collection::vec((any::<bool>(), 0i64..400_000), 0..60)) {
            let mut attempts = Vec::new();
            let mut clock = 0;
            for (sent, step) in kinds {
                clock += step;
                let outcome = if sent { AttemptOutcome::Failed } else { AttemptOutcome::NotSent };
                push(&mut attempts, ended("x", clock, outcome, Reason::GraphUnavailable), at(clock));
                join_unsent(&mut attempts, Operation::Register);
            }
            prop_assert!(attempts.len() <= Operation::Register.limit() + 1);
            prop_assert!(attempts.iter().all(|a| clock - a.start_time.0.as_second() < 72 * HOUR));
        }
    }
}
