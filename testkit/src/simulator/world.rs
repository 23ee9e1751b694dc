//! All numbers, the clock, the counts and the calls that are under way, behind one lock.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::request::Parts;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::sync::{oneshot, watch};

use super::answer::{Answer, Reply};
use super::config::{Defaults, NumberConfig};
use super::contract::{self, Call, Refusal, Request, Target};
use super::entry::Entry;
use super::graph_error::GraphError;
use super::plan::Plan;
use super::report::{LogEntry, NumberReport, Outcome, Totals, Violation};

/// Everything the simulator knows.
#[derive(Debug)]
pub struct World {
    inner: Mutex<Inner>,
    changes: watch::Sender<()>,
}

#[derive(Debug)]
struct Inner {
    numbers: BTreeMap<String, Entry>,
    violations: Vec<Violation>,
    defaults: Defaults,
    clock: Clock,
    requests: u64,
    /// By token: the time of the first call that its limit counts, and how many there were since.
    tokens: BTreeMap<String, (Timestamp, usize)>,
}

/// A clock that only tests move ahead of time; never back, whatever the machine's clock does.
#[derive(Debug)]
struct Clock {
    start: Timestamp,
    since: Instant,
    ahead: Duration,
}

/// A call that was let in: what is to become of it.
#[derive(Debug)]
pub struct Ticket {
    /// How it goes.
    pub plan: Plan,
    /// How long it takes anyhow.
    pub latency: Duration,
    /// What it is addressed to.
    pub target: Target,
    /// Its trace ID.
    pub trace: String,
    /// Its place in the log of its number.
    pub index: usize,
    call: Option<Call>,
}

/// Counts a call as in flight until it is dropped, with the last bytes of the answer.
#[derive(Debug)]
pub struct InFlight {
    world: Arc<World>,
    number: String,
    index: usize,
}

// === impl World ===

impl World {
    /// A world without numbers.
    pub fn new() -> Self {
        let inner = Inner {
            numbers: BTreeMap::new(),
            violations: Vec::new(),
            defaults: Defaults::default(),
            clock: Clock::new(),
            requests: 0,
            tokens: BTreeMap::new(),
        };
        Self {
            inner: Mutex::new(inner),
            changes: watch::Sender::new(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A test that panicked elsewhere must not hide its reason behind a poisoned lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, action: impl FnOnce(&mut Inner) -> T) -> T {
        let result = action(&mut self.lock());
        self.changes.send_replace(());
        result
    }

    /// Tells of every change.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Lets a request in, or refuses it and says what to answer.
    pub fn arrive(
        self: &Arc<Self>,
        parts: &Parts,
        body: &Bytes,
        peer: Weak<TcpStream>,
    ) -> Result<(Ticket, InFlight), Answer> {
        let ticket = self.change(|inner| inner.arrive(parts, body, peer))?;
        let (number, index) = (ticket.target.number.clone(), ticket.index);
        Ok((
            ticket,
            InFlight {
                world: Arc::clone(self),
                number,
                index,
            },
        ))
    }

    /// Does what was asked and says what Graph would answer.
    pub fn act(&self, ticket: &Ticket) -> Answer {
        self.change(|inner| inner.act(ticket))
    }

    /// Notes how a call ended.
    pub fn finish(&self, ticket: &Ticket, reply: &Reply) {
        self.change(|inner| {
            let Some(entry) = inner.log_entry(ticket) else {
                return;
            };
            match reply {
                Reply::HangUp => entry.outcome = Outcome::HungUp,
                Reply::Answer(answer) => {
                    entry.outcome = Outcome::Answered;
                    entry.http_status = Some(answer.status);
                    entry.code = answer.code;
                }
            }
        });
    }

    /// Holds a call until the receiver hears something.
    pub fn hold(&self, ticket: &Ticket) -> oneshot::Receiver<()> {
        let (release, released) = oneshot::channel();
        self.change(|inner| inner.entry(&ticket.target.number).held.push(release));
        released
    }

    /// Releases all calls held for a number; how many there were.
    pub fn release(&self, id: &str) -> usize {
        self.change(|inner| {
            let held = inner
                .numbers
                .get_mut(id)
                .map(|entry| std::mem::take(&mut entry.held));
            let releases = held.unwrap_or_default().into_iter();
            releases.filter_map(|release| release.send(()).ok()).count()
        })
    }

    /// Creates or changes a number.
    pub fn configure(&self, id: &str, mut config: NumberConfig) -> Result<(), String> {
        if !contract::is_number_id(id) {
            return Err(format!("the phone number ID {id:?} is not numeric"));
        }
        config.check()?;
        self.change(|inner| {
            let now = inner.clock.now();
            let fresh = || Entry::new(id, true);
            let entry = inner.numbers.entry(id.to_owned()).or_insert_with(fresh);
            if let Some(steps) = config.script.take() {
                entry.script = steps.into();
            }
            entry.number.configure(config, now);
        });
        Ok(())
    }

    /// Forgets a number; whether there was one.
    pub fn delete(&self, id: &str) -> bool {
        self.change(|inner| inner.numbers.remove(id).is_some())
    }

    /// A number as it stands, if it was ever set or called.
    pub fn number(&self, id: &str) -> Option<NumberReport> {
        let inner = self.lock();
        inner
            .numbers
            .get(id)
            .map(|entry| entry.report(inner.clock.now()))
    }

    /// A number that was never set nor called.
    pub fn untouched(&self, id: &str) -> NumberReport {
        let inner = self.lock();
        Entry::new(id, inner.defaults.auto_create).report(inner.clock.now())
    }

    /// All numbers, by ID.
    pub fn all(&self) -> Vec<NumberReport> {
        let inner = self.lock();
        let now = inner.clock.now();
        inner
            .numbers
            .values()
            .map(|entry| entry.report(now))
            .collect()
    }

    /// All numbers together.
    pub fn totals(&self) -> Totals {
        let inner = self.lock();
        let mut totals = Totals {
            violations: inner.violations.len(),
            ..Totals::default()
        };
        for entry in inner.numbers.values() {
            totals.add(entry.number.registered, &entry.counts);
        }
        totals
    }

    /// Requests that the contract does not allow.
    pub fn violations(&self) -> Vec<Violation> {
        self.lock().violations.clone()
    }

    /// Moves the clock ahead; the new time.
    pub fn advance(&self, by: Duration) -> Timestamp {
        self.change(|inner| {
            inner.clock.ahead = inner.clock.ahead.saturating_add(by);
            inner.clock.now()
        })
    }

    /// What holds for numbers that do not say otherwise.
    pub fn defaults(&self) -> Defaults {
        self.lock().defaults.clone()
    }

    /// Changes it.
    pub fn set_defaults(&self, defaults: Defaults) {
        self.change(|inner| inner.defaults = defaults);
    }
}

// === impl Inner ===

impl Inner {
    fn entry(&mut self, id: &str) -> &mut Entry {
        let exists = self.defaults.auto_create;
        self.numbers
            .entry(id.to_owned())
            .or_insert_with(|| Entry::new(id, exists))
    }

    fn log_entry(&mut self, ticket: &Ticket) -> Option<&mut LogEntry> {
        self.numbers
            .get_mut(&ticket.target.number)?
            .log
            .get_mut(ticket.index)
    }

    fn arrive(
        &mut self,
        parts: &Parts,
        body: &Bytes,
        peer: Weak<TcpStream>,
    ) -> Result<Ticket, Answer> {
        self.requests += 1;
        let trace = format!("Asim{:019}", self.requests);
        let (now, defaults) = (self.clock.now(), self.defaults.clone());
        let target = contract::target(&parts.method, parts.uri.path())
            .map_err(|refusal| Answer::error(&self.violation(parts, refusal), &trace))?;
        let call = contract::check(target.operation, &parts.uri, &parts.headers, body)
            .map_err(|refusal| self.violation(parts, refusal));
        let limited = call.as_ref().ok().and_then(|call| self.limited(call, now));
        let entry = self.entry(&target.number);
        let index = entry.log(&target, parts, &trace, now);
        entry.board(index, peer);
        let plan = match (limited, &call) {
            (Some(left), _) => Plan::limited(left, &trace),
            (None, call) => match entry.admit(target.operation, call, &defaults, now) {
                Ok(call) => entry.plan(target.operation, &call.token, &trace),
                Err(error) => Plan::refused(&error, &trace),
            },
        };
        let latency = entry
            .number
            .latency_millis
            .unwrap_or(defaults.latency_millis);
        let latency = Duration::from_millis(latency);
        Ok(Ticket {
            plan,
            latency,
            target,
            trace,
            call: call.ok(),
            index,
        })
    }

    /// Counts a call for its token. Returns the time until the token's next one is let in, where it has met its limit.
    fn limited(&mut self, call: &Call, now: Timestamp) -> Option<Duration> {
        let limit = self.defaults.token_limit?;
        let window = Duration::from_secs(limit.seconds);
        let used = self.tokens.entry(call.token.clone()).or_insert((now, 0));
        let passed = Duration::try_from(now.duration_since(used.0)).unwrap_or_default();
        if passed >= window {
            *used = (now, 0);
        }
        used.1 += 1;
        (used.1 > limit.calls).then(|| window.saturating_sub(passed))
    }

    fn violation(&mut self, parts: &Parts, refusal: Refusal) -> GraphError {
        self.violations.push(Violation {
            time: self.clock.now(),
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            reason: refusal.violation,
        });
        refusal.error
    }

    fn act(&mut self, ticket: &Ticket) -> Answer {
        let now = self.clock.now();
        let entry = self.entry(&ticket.target.number);
        let number = &mut entry.number;
        let done = match ticket.call.as_ref().map(|call| &call.request) {
            None => Err(GraphError::new(1)),
            Some(Request::Read(fields)) => Ok(number.read(fields.as_deref(), now)),
            Some(Request::Register(wanted)) => number
                .register(wanted, now)
                .map(|()| json!({"success": true})),
            Some(Request::Deregister) => number.deregister(now).map(|()| json!({"success": true})),
        };
        let headers = number.answer_headers.clone();
        if let Ok(answer) = &done {
            entry.acted(ticket, answer, now);
        }
        done.map(|answer| Answer::json(200, &answer))
            .unwrap_or_else(|error| Answer::error(&error, &ticket.trace))
            .with_headers(headers)
    }
}

// === impl Clock ===

impl Clock {
    fn new() -> Self {
        Self {
            start: Timestamp::now(),
            since: Instant::now(),
            ahead: Duration::ZERO,
        }
    }

    fn now(&self) -> Timestamp {
        let passed = self.since.elapsed().saturating_add(self.ahead);
        let passed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
        self.start.checked_add(passed).unwrap_or(Timestamp::MAX)
    }
}

// === impl InFlight ===

impl Drop for InFlight {
    fn drop(&mut self) {
        self.world.change(|inner| {
            if let Some(entry) = inner.numbers.get_mut(&self.number) {
                entry.in_flight.retain(|(index, _)| *index != self.index);
            }
        });
    }
}
