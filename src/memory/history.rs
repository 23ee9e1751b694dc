//! The calls of each phone number, for 72 hours, and the resources that they were made for.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use operator_core::api::{LedgerEntry, Operation, WhatsAppPhoneNumber};
use operator_core::model::schedule::{META_WINDOW, plus, sane_past};
use operator_core::model::twins::KnownCall;

use super::clock::Clock;

/// The interval at which old calls are dropped.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// The calls of each number that this process made, or that were in a status that is gone.
pub struct CallHistory {
    clock: Clock,
    calls: Mutex<Calls>,
}

struct Calls {
    by_number: HashMap<String, Vec<KnownCall>>,
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

    /// Notes calls for a resource. An older version that shows a call as open does not replace its outcome.
    pub fn note(&self, resource: &WhatsAppPhoneNumber, entries: &[LedgerEntry]) {
        let calls = entries.iter().map(|entry| KnownCall::of(resource, entry));
        self.note_all(&resource.spec.phone_number_id, calls.collect());
    }

    fn note_all(&self, number: &str, new: Vec<KnownCall>) {
        if new.is_empty() {
            return;
        }
        let now = self.clock.now();
        let mut calls = self.calls();
        calls.sweep(now, self.clock.instant());
        let known = calls.by_number.entry(number.to_owned()).or_default();
        for call in new {
            let same = known
                .iter_mut()
                .find(|known| known.entry.id == call.entry.id);
            match same {
                Some(known) if call.entry.is_open() && !known.entry.is_open() => {}
                // A resource that has taken the call over did not make it.
                Some(known) => known.entry = call.entry,
                None => known.push(call),
            }
        }
        known.sort_by_key(|call| Reverse(call.entry.start_time.0));
        forget_old(known, now);
    }

    /// The known calls of a number. The time of one in the future is set to now, once: otherwise the window after it would move on with
    /// the clock.
    pub fn of(&self, number: &str) -> Vec<KnownCall> {
        let now = self.clock.now();
        let mut calls = self.calls();
        let Some(known) = calls.by_number.get_mut(number) else {
            return Vec::new();
        };
        forget_old(known, now);
        for KnownCall { entry, .. } in known.iter_mut() {
            entry.start_time = sane_past(&entry.start_time, now);
            if let Some(end) = &mut entry.end {
                end.time = sane_past(&end.time, now);
            }
        }
        known.clone()
    }

    /// All known calls of a number: the history, and the ledgers of these resources. There as well, the time of a call in the future is
    /// set to now, once.
    pub fn with_ledgers(&self, number: &str, others: &[&WhatsAppPhoneNumber]) -> Vec<KnownCall> {
        let now = self.clock.now();
        let ledgers = others.iter().flat_map(|other| calls_of(other));
        let (mut future, others): (Vec<_>, Vec<_>) =
            ledgers.partition(|call| is_ahead(&call.entry, now));
        let noted = self.of(number);
        future.retain(|call| {
            let mut same = noted.iter().filter(|known| known.entry.id == call.entry.id);
            !same.any(|known| known.entry.is_open() == call.entry.is_open())
        });
        self.note_all(number, future);
        let mut calls = self.of(number);
        calls.retain(|known| others.iter().all(|call| call.entry.id != known.entry.id));
        calls.extend(others);
        calls
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The calls in the ledger of a resource.
fn calls_of(resource: &WhatsAppPhoneNumber) -> impl Iterator<Item = KnownCall> {
    let entries = resource.attempts().iter();
    entries.map(|entry| KnownCall::of(resource, entry))
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
            entries.iter().any(|call| call.entry.counts())
        });
    }
}

/// Drops calls older than 72 h, including open ones: nothing closes the claim of a resource that is gone.
/// Of each resource as many are kept as Meta allows for the number: those of a stranger replace nobody else's.
fn forget_old(calls: &mut Vec<KnownCall>, now: Timestamp) {
    let mut counted: Vec<(String, Operation)> = Vec::new();
    calls.retain(
        |KnownCall {
             resource, entry, ..
         }| {
            let kind = (resource.clone(), entry.operation);
            let known = counted.iter().filter(|known| **known == kind).count();
            let fits = !entry.counts() || known < entry.operation.limit();
            counted.extend(entry.counts().then_some(kind));
            fits && plus(entry.time(now), META_WINDOW) > now
        },
    );
}

#[cfg(test)]
mod tests {
    use operator_core::api::{AttemptEnd, Operation, Reason};
    use testkit::builders::resource;

    use super::*;

    /// The resource of a number, of which the calls are noted.
    fn of_number(number: &str) -> WhatsAppPhoneNumber {
        let mut resource = resource("number", 1);
        resource.spec.phone_number_id = number.to_owned();
        resource
    }

    fn entries(history: &CallHistory, number: &str) -> Vec<LedgerEntry> {
        let calls = history.of(number).into_iter();
        calls.map(|call| call.entry).collect()
    }

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
        history.note(&of_number("1"), &[open]);
        let first = history.of("1");
        assert!(first[0].entry.start_time.0 <= Timestamp::now());
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
        let with = |entries: &[&LedgerEntry]| {
            let mut other = of_number("1");
            let attempts = entries.iter().map(|entry| (*entry).clone()).collect();
            other.status.get_or_insert_default().attempts = attempts;
            let known = history.with_ledgers("1", &[&other]).into_iter();
            known.map(|call| call.entry).collect::<Vec<_>>()
        };
        let first = with(&[&early]);
        assert!(first[0].time(ahead) <= Timestamp::now());
        assert_eq!(with(&[&early]), first);
        assert_eq!(with(&[&early, &late]).len(), 2);
        // What a correct clock has written stays in the ledger as it is.
        let sound = entry("early", now);
        assert!(with(&[&sound]).contains(&sound));
    }

    #[test]
    fn an_open_claim_of_a_resource_that_is_gone_is_forgotten_after_72_hours() {
        let history = CallHistory::default();
        let claimed = |ago| {
            let at = Timestamp::now() - Duration::from_secs(ago);
            LedgerEntry::open(Operation::Register, "a", Duration::from_secs(60), None, at)
        };
        history.note(&of_number("1"), &[claimed(71 * 3600)]);
        history.note(&of_number("2"), &[claimed(73 * 3600)]);
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
        history.note(&of_number("1"), std::slice::from_ref(&open));
        history.note(&of_number("1"), std::slice::from_ref(&ended));
        // The resource is deleted before its cached version shows the record.
        history.note(&of_number("1"), std::slice::from_ref(&open));
        assert_eq!(entries(&history, "1"), [ended]);
    }

    #[test]
    fn the_calls_of_a_stranger_replace_nobody_elses() {
        let history = CallHistory::default();
        let call = |id: String| LedgerEntry {
            end: Some(AttemptEnd::unknown(Timestamp::now())),
            ..LedgerEntry::open(
                Operation::Register,
                &id,
                Duration::from_secs(60),
                None,
                Timestamp::now(),
            )
        };
        history.note(&resource("own", 1), &[call("own".to_owned())]);
        let theirs: Vec<_> = (0..30).map(|n| call(format!("their-{n}"))).collect();
        history.note(&resource("stranger", 2), &theirs);
        let calls = history.of(&resource("own", 1).spec.phone_number_id);
        assert_eq!(calls.len(), 11);
        assert!(calls.iter().any(|call| call.entry.id == "own"));
    }
}
