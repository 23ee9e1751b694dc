//! The reasons: their meaning, what to do, and what the operator does then.

use std::time::Duration;

use jiff::Timestamp;
use operator_core::api::Operation;
use operator_core::api::{Disposition, LedgerEntry, Reason, WhatsAppPhoneNumberStatus};
use operator_core::graph::RegisterOutcome;
use operator_core::model::schedule::{Backoff, until};
use operator_core::model::{ApplyContext, CallResult, Policy, apply_outcome};
use testkit::world;

use super::markdown::{code, table};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// The reasons, in the order of [`Reason::ALL`].
pub fn reasons() -> String {
    let rows = Reason::ALL.iter().map(|&reason| {
        [
            code(reason.as_str()),
            reason.meaning().to_owned(),
            reason.advice().to_owned(),
            then(reason) + if counts(reason) { " Counts." } else { "" },
        ]
    });
    table(["reason", "what it means", "what to do", "then"], rows)
}

/// The operator's next step after an attempt with this reason, or without one.
fn then(reason: Reason) -> String {
    const READS: &str = "Reads the number until the confirm window is over, then";
    match reason.disposition() {
        Disposition::Done => "Rests.".to_owned(),
        Disposition::Stall => "Stalls.".to_owned(),
        Disposition::Retry | Disposition::Confirm if !reason.ends_an_attempt() => {
            "Waits.".to_owned()
        }
        Disposition::Retry => match wait(reason, 1) {
            Duration::ZERO => "Backs off.".to_owned(),
            wait => format!("Tries again after {} or more.", short(wait)),
        },
        Disposition::RetryN(tries) => {
            let waits: Vec<String> = (1..tries).map(|made| short(wait(reason, made))).collect();
            let waits = waits.join(" and ");
            format!("Tries {tries} times in a row, {waits} apart or more, then stalls.")
        }
        Disposition::Confirm => format!("{READS} tries again."),
        Disposition::ConfirmThenStall => format!("{READS} stalls."),
    }
}

/// Whether a register call with this reason counts toward Meta's limit.
fn counts(reason: Reason) -> bool {
    let in_the_ledger = reason.ends_an_attempt() || reason == Reason::Registering;
    in_the_ledger && after(reason, 1).attempts.iter().all(LedgerEntry::counts)
}

/// The wait that the reason itself asks for, after so many attempts in a row.
fn wait(reason: Reason, attempts: u32) -> Duration {
    let next = after(reason, attempts).next_attempt_time;
    until(next.expect("the reason has a wait").0, NOW)
}

/// The status after so many attempts in a row that ended with this reason, under settings without waits.
fn after(reason: Reason, attempts: u32) -> WhatsAppPhoneNumberStatus {
    let policy = Policy {
        backoff: Backoff {
            base: Duration::ZERO,
            cap: Duration::ZERO,
        },
        confirm_window: Duration::ZERO,
        ..world::policy()
    };
    let context = ApplyContext {
        policy: &policy,
        cooldown: None,
        generation: 1,
        jitter: 0.0,
        now: NOW,
    };
    let result = CallResult {
        operation: Operation::Register,
        id: "claim",
        outcome: &RegisterOutcome::without_answer(reason, ""),
        handled_before: None,
    };
    (0..attempts).fold(WhatsAppPhoneNumberStatus::unseen(), |mut status, _| {
        let claim = LedgerEntry::open(Operation::Register, result.id, Duration::ZERO, None, NOW);
        status.attempts.insert(0, claim);
        apply_outcome(&status, &result, &context)
    })
}

fn short(wait: Duration) -> String {
    let minutes = wait.as_secs() / 60;
    if minutes.is_multiple_of(60) {
        format!("{} h", minutes / 60)
    } else {
        format!("{minutes} min")
    }
}
