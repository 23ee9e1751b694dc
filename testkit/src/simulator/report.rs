//! What tests and people can see of a number: state, counts and the log of its calls.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::contract::{Operation, Registration};
use super::number::Number;
use super::script::Step;

/// Everything about one number.
#[derive(Clone, Debug, Serialize)]
pub struct NumberReport {
    /// The phone number ID.
    pub id: String,
    /// As Graph keeps it.
    pub state: NumberState,
    /// What came in.
    pub counts: Counts,
    /// Calls whose client still waits for the end of the answer.
    pub in_flight: usize,
    /// Calls that wait to be released.
    pub held: usize,
    /// Faults that are still due.
    pub script: Vec<Step>,
    /// Every call, oldest first.
    pub log: Vec<LogEntry>,
}

/// The state of a number.
#[derive(Clone, Debug, Serialize)]
pub struct NumberState {
    /// Whether Graph knows the ID.
    pub exists: bool,
    /// Whether it is registered, whatever reads or answers said.
    pub registered: bool,
    /// `status`.
    pub status: String,
    /// `platform_type`.
    pub platform_type: String,
    /// `code_verification_status`.
    pub code_verification_status: String,
    /// `display_phone_number`.
    pub display_phone_number: String,
    /// `verified_name`.
    pub verified_name: String,
    /// `quality_rating`.
    pub quality_rating: String,
    /// The two-step PIN in force.
    pub pin: Option<String>,
    /// The body of the last register call that passed.
    pub last_registration: Option<Registration>,
    /// When it was deregistered.
    pub deregistered: Option<Timestamp>,
    /// Register calls in the last 72 hours.
    pub calls_in_window: usize,
    /// Until when register calls are refused (133016).
    pub blocked_until: Option<Timestamp>,
}

/// What came in for a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Register calls received.
    pub register_calls: usize,
    /// Register calls that registered the number or found it registered with the same PIN.
    pub register_acted: usize,
    /// Register calls received while the number was registered.
    pub register_calls_while_registered: usize,
    /// Register calls received beyond the limit of 72 hours.
    pub register_calls_over_limit: usize,
    /// Deregister calls received.
    pub deregister_calls: usize,
    /// Deregister calls that took the number off.
    pub deregister_acted: usize,
    /// Reads received.
    pub reads: usize,
    /// Calls refused because the contract does not allow them.
    pub violations: usize,
    /// The most calls that were in flight at once.
    pub max_concurrent: usize,
}

/// One call.
#[derive(Clone, Debug, Serialize)]
pub struct LogEntry {
    /// When it came in, by the simulator's clock.
    pub time: Timestamp,
    /// What was asked.
    pub operation: Operation,
    /// The fields that a read asked for, if it named any.
    pub fields: Option<Vec<String>>,
    /// Which call of this operation on this number it was, from 1.
    pub attempt: usize,
    /// The Graph version asked for.
    pub version: String,
    /// `User-Agent`, if sent.
    pub user_agent: Option<String>,
    /// The step of the script that was due.
    pub step: Option<String>,
    /// `fbtrace_id` and `x-fb-trace-id` of the answer.
    pub trace: String,
    /// Whether what was asked was done.
    pub acted: bool,
    /// When it was done.
    pub acted_time: Option<Timestamp>,
    /// What a read found of the number, whether or not it was answered so.
    pub shown: Option<Shown>,
    /// What came of it: `in progress`, `answered`, `hung up`.
    pub outcome: Outcome,
    /// HTTP status of the answer.
    pub http_status: Option<u16>,
    /// `error.code` of the answer.
    pub code: Option<i64>,
}

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// `platform_type`.
    pub platform_type: Option<String>,
    /// `status`.
    pub status: Option<String>,
}

/// What came of a call, as far as the simulator knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is still held or slow.
    InProgress,
    /// An answer was given to the connection.
    Answered,
    /// The connection was closed instead.
    HungUp,
}

/// A request that the contract does not allow.
#[derive(Clone, Debug, Serialize)]
pub struct Violation {
    /// When.
    pub time: Timestamp,
    /// The method.
    pub method: String,
    /// The path, without the query, which may hold secrets.
    pub path: String,
    /// What it does that is not allowed.
    pub reason: String,
}

/// All numbers together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Numbers known.
    pub numbers: usize,
    /// Numbers registered.
    pub registered: usize,
    /// Sums of the counts; of `max_concurrent` the largest.
    pub counts: Counts,
    /// Requests that the contract does not allow, also those that name no number.
    pub violations: usize,
}

// === impl Shown ===

impl Shown {
    /// What an answer shows of a number, if that is what it shows.
    pub fn of(answer: &Value) -> Option<Self> {
        let field = |name: &str| answer.get(name)?.as_str().map(str::to_owned);
        let shown = Self {
            platform_type: field("platform_type"),
            status: field("status"),
        };
        (shown.platform_type.is_some() || shown.status.is_some()).then_some(shown)
    }
}

// === impl NumberReport ===

impl NumberReport {
    /// The register calls in the log.
    pub fn register_log(&self) -> impl Iterator<Item = &LogEntry> {
        self.log
            .iter()
            .filter(|entry| entry.operation == Operation::Register)
    }
}

// === impl NumberState ===

impl NumberState {
    /// What of a number is to be seen.
    pub fn of(number: &Number, now: Timestamp) -> Self {
        Self {
            exists: number.exists,
            registered: number.registered,
            status: number.status.clone(),
            platform_type: number.platform_type.clone(),
            code_verification_status: number.code_verification_status.clone(),
            display_phone_number: number.display_phone_number.clone(),
            verified_name: number.verified_name.clone(),
            quality_rating: number.quality_rating.clone(),
            pin: number.pin.clone(),
            last_registration: number.last_registration.clone(),
            deregistered: number.deregistered,
            calls_in_window: number.calls_in_window(now),
            blocked_until: number.blocked_until,
        }
    }
}

// === impl Totals ===

impl Totals {
    /// Adds one number.
    pub fn add(&mut self, registered: bool, counts: &Counts) {
        let sum = &mut self.counts;
        self.numbers += 1;
        self.registered += usize::from(registered);
        sum.register_calls += counts.register_calls;
        sum.register_acted += counts.register_acted;
        sum.register_calls_while_registered += counts.register_calls_while_registered;
        sum.register_calls_over_limit += counts.register_calls_over_limit;
        sum.deregister_calls += counts.deregister_calls;
        sum.deregister_acted += counts.deregister_acted;
        sum.reads += counts.reads;
        sum.violations += counts.violations;
        sum.max_concurrent = sum.max_concurrent.max(counts.max_concurrent);
    }
}
