//! A number of the faulty Graph: how it begins, and what is known of it beforehand.

use std::time::Duration;

use super::meaning::{self, Answer};
use testkit::bed::PIN;
use testkit::simulator::{Action, NumberConfig, Step};

/// A number, how it begins and what its Graph does.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub id: String,
    pub start: Start,
    pub script: Vec<Step>,
    /// Whether held calls are released only when the client has gone.
    pub late: bool,
    /// The key of its token in the Secret; some numbers share one.
    pub token_key: String,
}

/// How a number is when its resource is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Start {
    Fresh,
    Registered,
    Restricted,
    /// Registered, and Graph says PENDING: neither yes nor no.
    PendingInCloud,
    OnPremises,
    Disconnected,
    WrongPin,
    PinGuessed,
    Banned,
    Deleted,
    Migrated,
    Missing,
    DeregisteredJustNow,
    /// Somebody else has made this many register calls.
    Spent(usize),
    NotVerified,
    TokenOfAnother,
    ProofRequired,
}

// === impl Scenario ===

impl Scenario {
    /// The name of its resource.
    pub fn name(&self) -> String {
        format!("n{}", self.id)
    }

    /// Its token, of Meta's looks.
    pub fn token(&self) -> String {
        format!("{}{}", super::TOKENS, self.token_key.replace('-', "0"))
    }

    /// Whether a step keeps the client waiting until its timeout.
    pub fn lingers(&self, step: &Step) -> bool {
        let held = matches!(
            step.action,
            Action::Slow { .. } | Action::Stall { .. } | Action::Wait {} | Action::WaitAfter {}
        );
        let trickles = matches!(step.action, Action::Trickle { .. });
        match meaning::of_action(&step.action, self.late) {
            Some(Answer::Nothing) => held,
            Some(_) => trickles,
            None => false,
        }
    }

    /// The number as the simulator has it.
    pub fn config(&self) -> NumberConfig {
        let fresh = NumberConfig::fresh().latency(Duration::from_millis(5));
        let config = match self.start {
            Start::Fresh => fresh,
            Start::Registered => NumberConfig::registered().pin(PIN),
            Start::Restricted => NumberConfig::registered().pin(PIN).status("RESTRICTED"),
            Start::PendingInCloud => NumberConfig::registered().pin(PIN).status("PENDING"),
            Start::OnPremises => fresh.platform_type("ON_PREMISE").status("CONNECTED"),
            Start::Disconnected => fresh.status("DISCONNECTED"),
            Start::WrongPin => fresh.pin("111111"),
            Start::PinGuessed => fresh.pin("111111").pin_guesses(0),
            Start::Banned => fresh.status("BANNED"),
            Start::Deleted => fresh.status("DELETED"),
            Start::Migrated => fresh.status("MIGRATED"),
            Start::Missing => NumberConfig::missing(),
            Start::DeregisteredJustNow => fresh.deregistered(Duration::from_secs(3)),
            Start::Spent(calls) => fresh.spent(calls),
            Start::NotVerified => fresh.code_verification_status("NOT_VERIFIED"),
            Start::TokenOfAnother => fresh.token("EAAanother"),
            Start::ProofRequired => fresh.app_secret("0123456789abcdef"),
        };
        config.script(self.script.clone())
    }

    /// The subcode that Graph's own errors have for this number.
    pub fn subcode(&self, code: i64) -> Option<i64> {
        let unknown = matches!(
            self.start,
            Start::Missing | Start::Deleted | Start::Migrated
        );
        (unknown && code == 100).then_some(33)
    }
}
