//! What a number goes through while something happens to it.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Fault, trail};
use testkit::bed::{Bed, PIN};
use testkit::gateway::Kind;
use testkit::simulator::{Action, NumberConfig, Step};

/// How long a deletion may wait.
pub const DEREGISTER_DEADLINE: Duration = Duration::from_secs(20);

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
    Lost,
    Recovered,
    Left,
    LeftAnswerLost,
    LeftServerError,
}

impl Scenario {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 15] = [
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
        Self::Lost,
        Self::Recovered,
        Self::Left,
        Self::LeftAnswerLost,
        Self::LeftServerError,
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
            Self::Lost => "A registered number is lost",
            Self::Recovered => "A number is lost, and registered again by `lossPolicy: Register`",
            Self::Left => "The resource is deleted, and Graph deregisters the number",
            Self::LeftAnswerLost => {
                "The resource is deleted, the answer to the deregister call is lost"
            }
            Self::LeftServerError => "The resource is deleted, and Graph answers 500 once",
        }
    }

    /// Sets the scene for the number `id`, up to what the operator is to do.
    pub async fn prepare(self, bed: &Bed, id: &str) {
        bed.secrets().await;
        let (fresh, registered) = (NumberConfig::fresh(), NumberConfig::registered());
        let config = match self {
            Self::Healthy | Self::Requested => fresh,
            Self::Registered | Self::Lost | Self::Recovered | Self::Left => registered,
            Self::LeftAnswerLost => registered.script(vec![Step::hang_up_after().on_deregister()]),
            Self::LeftServerError => registered.script(vec![Step::server_error().on_deregister()]),
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
        let Some(known) = self.known_as() else {
            begin();
            bed.declare(name, id).await;
            return;
        };
        bed.declare_with(name, id, self.spec()).await;
        bed.until_registered(name, known).await;
        bed.until_event(name, known).await;
        begin();
        if self == Self::Requested {
            bed.request(name, "again").await;
        } else if self.leaves() {
            bed.delete(name).await;
        } else {
            bed.simulator.set(id, NumberConfig::fresh());
            // From now on it is observed.
            bed.patch(name, json!({"spec": {"observeInterval": null}}))
                .await;
        }
    }

    /// Why the number is registered before the steps count, if it is.
    fn known_as(self) -> Option<&'static str> {
        match self {
            Self::Requested => Some("RegistrationSucceeded"),
            _ if self.leaves() || self.reads().is_some() => Some("AlreadyRegistered"),
            _ => None,
        }
    }

    fn spec(self) -> Value {
        match self {
            Self::Lost => json!({"observeInterval": "0s"}),
            Self::Recovered => json!({"observeInterval": "0s", "lossPolicy": "Register"}),
            _ if self.leaves() => json!({"deletionPolicy": "Deregister"}),
            _ => json!({}),
        }
    }

    /// What the operator runs with.
    pub fn flags(self) -> Vec<String> {
        match self.reads() {
            Some(_) => vec!["--observe-interval=1s".to_owned()],
            None => vec![format!(
                "--deregister-deadline={}s",
                DEREGISTER_DEADLINE.as_secs()
            )],
        }
    }

    /// Whether the resource is deleted, and its number is to be deregistered.
    pub fn leaves(self) -> bool {
        matches!(
            self,
            Self::Left | Self::LeftAnswerLost | Self::LeftServerError
        )
    }

    /// Where the number is observed: the last read with steps. There may be any number of reads, as the times of the observations
    /// depend on the resource's UID.
    pub fn reads(self) -> Option<usize> {
        match self {
            Self::Lost => Some(4),
            // They are those of the other one.
            Self::Recovered => Some(0),
            _ => None,
        }
    }

    /// Whether it depends on the time that this step comes at all: the number is observed further after the loss, and what the
    /// first observation after a new call shows is written.
    pub fn is_by_chance(self, step: &trail::Step) -> bool {
        let Some(reads) = self.reads() else {
            return false;
        };
        match step.kind {
            Kind::GraphRead | Kind::GraphCall => step.nth > reads,
            // The new spec, the suspicion and the loss come before.
            Kind::Status => step.nth > 3,
            _ => false,
        }
    }

    /// Whether it is known what comes before and after a fault at this step: events are on their way while other things go on.
    pub fn has_place(self, step: trail::Step, fault: Fault) -> bool {
        !(self.leaves() && fault == Fault::Rename && step.kind == Kind::Event)
    }

    /// How many calls there must be, where that is certain: none if none is needed, and one if the first that Graph sees does
    /// what it is for.
    pub fn calls(self) -> Option<usize> {
        match self {
            Self::Registered | Self::Lost => Some(0),
            Self::Healthy
            | Self::AnswerLost
            | Self::ServerErrorThatActed
            | Self::Recovered
            | Self::Left
            | Self::LeftAnswerLost => Some(1),
            _ => None,
        }
    }

    /// The faults that are tried at each of its steps.
    pub fn faults(self) -> &'static [Fault] {
        match self {
            Self::Healthy | Self::AnswerLost | Self::WrongPin => {
                &[Fault::Crash, Fault::Recreate, Fault::Rename]
            }
            // Its own name is taken until it is gone. What a crash leads to, the other two that leave show.
            Self::LeftServerError => &[Fault::Rename],
            _ => &[Fault::Crash],
        }
    }
}
