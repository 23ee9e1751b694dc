//! The calls of each phone number, for 72 hours, and the deregister calls of resources that are gone, by name and number.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use operator_core::api::{LedgerEntry, Operation, WhatsAppPhoneNumber};
use operator_core::model::ledger;
use operator_core::model::schedule::{META_WINDOW, plus, sane_past};

use super::clock::Clock;

/// The interval at which old calls are dropped.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// The register calls of each number that this process made, or that were in a status that is gone.
pub struct CallHistory {
    clock: Clock,
    calls: Mutex<Calls>,
}

struct Calls {
    by_number: HashMap<String, Vec<LedgerEntry>>,
    swept: Instant,
}

impl Default for CallHistory {
    fn default() -> Self {
        Self::new(Clock::default())
    }
}

impl CallHistory {
    pub fn new(clock: Clock) -> Self {
        let calls = Calls {
            by_number: HashMap::new(),
            swept: clock.instant(),
        };
        Self {
            clock,
            calls: Mutex::new(calls),
        }
    }

    /// Notes register calls of a number. An older version that shows a call as open does not replace its outcome.
    pub fn note(&self, number: &str, entries: &[LedgerEntry]) {
        if entries.is_empty() {
            return;
        }
        let now = self.clock.now();
        let mut calls = self.calls();
        calls.sweep(now, self.clock.instant());
        let known = calls.by_number.entry(number.to_owned()).or_default();
        for entry in entries {
            let same = known.iter_mut().find(|known| known.id == entry.id);
            match same {
                Some(known) if entry.is_open() && !known.is_open() => {}
                Some(known) => known.clone_from(entry),
                None => known.push(entry.clone()),
            }
        }
        known.sort_by_key(|entry| Reverse(entry.start_time.0));
        forget_old(known, now);
    }

    /// The known register calls of a number. The time of one in the future is set to now, once: otherwise the window after
    /// it would move on with the clock.
    pub fn of(&self, number: &str) -> Vec<LedgerEntry> {
        let now = self.clock.now();
        let mut calls = self.calls();
        let Some(known) = calls.by_number.get_mut(number) else {
            return Vec::new();
        };
        forget_old(known, now);
        for entry in known.iter_mut() {
            entry.start_time = sane_past(&entry.start_time, now);
            if let Some(end) = &mut entry.end {
                end.time = sane_past(&end.time, now);
            }
        }
        known.clone()
    }

    /// Remembers the deregister calls of a resource that is gone, for the next one of its name.
    pub fn note_gone(&self, resource: &WhatsAppPhoneNumber) {
        let calls = ledger::of(resource.attempts(), Operation::Deregister);
        if !calls.is_empty() {
            self.note(&name_and_number(resource), &calls);
        }
    }

    /// The deregister calls of earlier resources of this one's name and number.
    pub fn of_earlier(&self, resource: &WhatsAppPhoneNumber) -> Vec<LedgerEntry> {
        self.of(&name_and_number(resource))
    }

    /// All known register calls of a number: the history, and the ledgers of its other resources. There as well, the time
    /// of a call in the future is set to now, once.
    pub fn with_ledgers(&self, number: &str, others: &[&LedgerEntry]) -> Vec<LedgerEntry> {
        let now = self.clock.now();
        let (mut future, others): (Vec<_>, Vec<_>) = others
            .iter()
            .map(|entry| (*entry).clone())
            .partition(|entry| is_ahead(entry, now));
        let noted = self.of(number);
        future.retain(|entry| {
            let mut same = noted.iter().filter(|known| known.id == entry.id);
            !same.any(|known| known.is_open() == entry.is_open())
        });
        self.note(number, &future);
        let mut calls = self.of(number);
        calls.retain(|known| others.iter().all(|entry| entry.id != known.id));
        calls.extend(others);
        calls
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the entry has a time in the future, by a clock fault.
fn is_ahead(attempt: &LedgerEntry, now: Timestamp) -> bool {
    let end = attempt.end.as_ref().map(|end| &end.time);
    let time = end.unwrap_or(&attempt.start_time);
    sane_past(time, now) != *time
}

impl Calls {
    /// Drops calls that are too old to count, at most once in [`SWEEP_EVERY`].
    fn sweep(&mut self, now: Timestamp, monotonic: Instant) {
        if monotonic - self.swept < SWEEP_EVERY {
            return;
        }
        self.swept = monotonic;
        self.by_number.retain(|_, entries| {
            forget_old(entries, now);
            entries.iter().any(LedgerEntry::counts)
        });
    }
}

/// Drops calls older than 72 h, including open ones: nothing closes the claim of a resource that is gone.
fn forget_old(entries: &mut Vec<LedgerEntry>, now: Timestamp) {
    ledger::prune(entries, now);
    entries.retain(|entry| plus(entry.time(now), META_WINDOW) > now);
}

/// What the calls of resources that are gone are kept under.
fn name_and_number(resource: &WhatsAppPhoneNumber) -> String {
    let number = &resource.spec.phone_number_id;
    format!("{} {number}", resource.qualified_name())
}

#[cfg(test)]
mod tests {
    use operator_core::api::{AttemptEnd, Operation, Reason};

    use super::*;

    #[test]
    fn a_call_from_the_future_is_put_to_now_once() {
        let history = CallHistory::default();
        let ahead = Timestamp::now() + Duration::from_secs(7200);
        let open = LedgerEntry::open(
            Operation::Register,
            "a",
            Duration::from_secs(60),
            None,
            ahead,
        );
        history.note("1", &[open]);
        let first = history.of("1");
        assert!(first[0].start_time.0 <= Timestamp::now());
        assert_eq!(history.of("1"), first);
    }

    #[test]
    fn a_call_from_the_future_in_another_ledger_is_put_to_now_once() {
        let history = CallHistory::default();
        let now = Timestamp::now();
        let ahead = now + Duration::from_secs(7200);
        let entry = |id: &str, at| LedgerEntry {
            end: Some(AttemptEnd::unknown(at)),
            ..LedgerEntry::open(Operation::Register, id, Duration::from_secs(60), None, at)
        };
        let (early, late) = (entry("early", ahead), entry("late", ahead));
        let first = history.with_ledgers("1", &[&early]);
        assert!(first[0].time(ahead) <= Timestamp::now());
        assert_eq!(history.with_ledgers("1", &[&early]), first);
        assert_eq!(history.with_ledgers("1", &[&early, &late]).len(), 2);
        // What a correct clock has written stays in the ledger as it is.
        let sound = entry("early", now);
        assert!(history.with_ledgers("1", &[&sound]).contains(&sound));
    }

    #[test]
    fn an_open_claim_of_a_resource_that_is_gone_is_forgotten_after_72_hours() {
        let history = CallHistory::default();
        let claimed = |ago| {
            let at = Timestamp::now() - Duration::from_secs(ago);
            LedgerEntry::open(Operation::Register, "a", Duration::from_secs(60), None, at)
        };
        history.note("1", &[claimed(71 * 3600)]);
        history.note("2", &[claimed(73 * 3600)]);
        assert_eq!(history.of("1").len(), 1);
        assert!(history.of("2").is_empty());
    }

    #[test]
    fn an_older_version_does_not_open_an_attempt_again() {
        let history = CallHistory::default();
        let now = Timestamp::now();
        let open = LedgerEntry::open(Operation::Register, "a", Duration::from_secs(60), None, now);
        let ended = LedgerEntry {
            end: Some(AttemptEnd {
                reason: Some(Reason::RegistrationBlocked.to_string()),
                ..AttemptEnd::unknown(now)
            }),
            ..open.clone()
        };
        history.note("1", std::slice::from_ref(&open));
        history.note("1", std::slice::from_ref(&ended));
        // The resource is deleted before its cached version shows the record.
        history.note("1", std::slice::from_ref(&open));
        assert_eq!(history.of("1"), [ended]);
    }
}
