//! What a number goes through while something happens to it.

use super::Fault;
use testkit::bed::{Bed, PIN};
use testkit::simulator::{Action, NumberConfig, Step};

/// One way for a number to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    Healthy,
    Registered,
    AnswerLost,
    NotDone,
    ServerErrorThatActed,
    ServerError,
    WrongPin,
    RateLimited,
    Requested,
    WithoutSuccess,
}

impl Scenario {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 10] = [
        Self::Healthy,
        Self::Registered,
        Self::AnswerLost,
        Self::NotDone,
        Self::ServerError,
        Self::ServerErrorThatActed,
        Self::WithoutSuccess,
        Self::WrongPin,
        Self::RateLimited,
        Self::Requested,
    ];

    /// Its heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Healthy => "Graph registers the number",
            Self::Registered => "The number is registered already",
            Self::AnswerLost => "Graph registers it, the answer is lost",
            Self::NotDone => "The connection breaks before Graph acts",
            Self::ServerError => "Graph answers 500, then registers it",
            Self::ServerErrorThatActed => "Graph answers 500, and has registered it",
            Self::WithoutSuccess => "Graph answers `success: false`",
            Self::WrongPin => "The PIN is wrong",
            Self::RateLimited => "Graph is at its rate limit, then registers it",
            Self::Requested => "A registered number is registered again on request",
        }
    }

    /// Sets the scene for the number `id`, up to what the operator is to do.
    pub async fn prepare(self, bed: &Bed, id: &str) {
        bed.secrets().await;
        let fresh = NumberConfig::fresh();
        let config = match self {
            Self::Healthy | Self::Requested => fresh,
            Self::Registered => NumberConfig::registered(),
            Self::AnswerLost => fresh.script(vec![Step::hang_up_after()]),
            Self::NotDone => fresh.script(vec![Step::hang_up_before()]),
            Self::ServerError => fresh.script(vec![Step::server_error()]),
            Self::ServerErrorThatActed => fresh.script(vec![Step::server_error().acted()]),
            Self::WithoutSuccess => fresh.script(vec![Step::new(Action::SuccessFalse {})]),
            Self::WrongPin => fresh.pin("111111"),
            Self::RateLimited => fresh.script(vec![Step::rate_limited(None)]),
        };
        assert_ne!(PIN, "111111");
        bed.simulator.set(id, config);
    }

    /// What brings the number here before the steps count, and what makes the operator take the first of them.
    pub async fn begin(self, bed: &Bed, name: &str, id: &str, begin: impl Fn()) {
        if self == Self::Requested {
            bed.declare(name, id).await;
            bed.until_registered(name, "RegistrationSucceeded").await;
            bed.until_event(name, "RegistrationSucceeded").await;
            begin();
            bed.request(name, "again").await;
        } else {
            begin();
            bed.declare(name, id).await;
        }
    }

    /// Whether the first call that Graph sees registers the number, so that there must never be another.
    pub fn registers_at_once(self) -> bool {
        matches!(
            self,
            Self::Healthy | Self::Registered | Self::AnswerLost | Self::ServerErrorThatActed
        )
    }

    /// The faults that are tried at each of its steps.
    pub fn faults(self) -> &'static [Fault] {
        match self {
            Self::Healthy | Self::AnswerLost | Self::WrongPin => {
                &[Fault::Crash, Fault::Recreate, Fault::Rename]
            }
            _ => &[Fault::Crash],
        }
    }
}
