//! What the demo shows: each resource in `examples/manifests/`, and how it has to end.

use operator_core::api::conditions;
use operator_core::api::{WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};
use testkit::simulator::{NumberConfig, Simulator, numbers_from_yaml};

use crate::Failure;

/// The resource whose Secret comes later.
pub const LATE_SECRET: &str = "late-secret";

/// The resource whose number Graph no longer shows as registered, once it is.
pub const LOST: &str = "lost-number";

/// The resource that is deleted once its number is registered.
pub const LEAVING: &str = "leaving-number";

/// The resource that is shown at the end as one that failed.
pub const FAILED: &str = "wrong-pin";

/// The PIN that its Secret should hold.
pub const RIGHT_PIN: &str = "123456";

/// What is said of a resource that is not there any more.
const GONE: &str = "deleted, deregistered";

/// How the simulated Graph API keeps each number, and the faults to come.
const NUMBERS: &str = include_str!("../../examples/try/numbers.yaml");

/// What becomes of the number that is lost.
const LOST_NUMBER: &str = include_str!("../../examples/try/lost.json");

/// How a resource ends.
pub enum End {
    /// With this condition.
    Stands(Summary),
    /// Gone, after one deregister call.
    Gone,
}

/// How a resource stands, in few words.
pub struct Summary {
    /// The condition that tells most.
    pub condition: &'static str,
    /// Its status.
    pub status: &'static str,
    /// Its reason.
    pub reason: &'static str,
}

/// One resource of the demo.
pub struct Scenario {
    /// The resource's name.
    pub name: &'static str,
    /// What it names.
    pub phone_number_id: &'static str,
    /// What happens, in few words.
    pub story: &'static str,
    /// How many register calls it must take.
    pub posts: usize,
    /// How it must end.
    pub ends: End,
}

/// Everything that the demo shows, in the order of the phone number IDs.
pub const SCENARIOS: [Scenario; 10] = [
    Scenario {
        name: "fresh-number",
        phone_number_id: "106540352242901",
        story: "not registered yet",
        posts: 1,
        ends: registered("RegistrationSucceeded"),
    },
    Scenario {
        name: "already-registered",
        phone_number_id: "106540352242902",
        story: "registered before: adopted",
        posts: 0,
        ends: registered("AlreadyRegistered"),
    },
    Scenario {
        name: FAILED,
        phone_number_id: "106540352242903",
        story: "wrong PIN: one try is all",
        posts: 1,
        ends: stands(conditions::STALLED, "True", "PinMismatch"),
    },
    Scenario {
        name: "rate-limited",
        phone_number_id: "106540352242904",
        story: "429 with usage header, success",
        posts: 2,
        ends: registered("RegistrationSucceeded"),
    },
    Scenario {
        name: "server-error",
        phone_number_id: "106540352242905",
        story: "500, then success",
        posts: 2,
        ends: registered("RegistrationSucceeded"),
    },
    Scenario {
        name: "lost-answer",
        phone_number_id: "106540352242906",
        story: "registered, the answer is lost",
        posts: 1,
        ends: registered("OutcomeConfirmed"),
    },
    Scenario {
        name: LATE_SECRET,
        phone_number_id: "106540352242907",
        story: "the Secret appears later",
        posts: 1,
        ends: registered("RegistrationSucceeded"),
    },
    Scenario {
        name: "suspended",
        phone_number_id: "106540352242908",
        story: "suspended: left alone",
        posts: 0,
        ends: stands(conditions::READY, "False", "Suspended"),
    },
    Scenario {
        name: LOST,
        phone_number_id: "106540352242909",
        story: "registered, then lost at Meta",
        posts: 1,
        ends: stands(conditions::REGISTERED, "False", "RegistrationLost"),
    },
    Scenario {
        name: LEAVING,
        phone_number_id: "106540352242910",
        story: "registered, then deleted",
        posts: 1,
        ends: End::Gone,
    },
];

const fn registered(reason: &'static str) -> End {
    stands(conditions::REGISTERED, "True", reason)
}

const fn stands(condition: &'static str, status: &'static str, reason: &'static str) -> End {
    End::Stands(Summary {
        condition,
        status,
        reason,
    })
}

/// Lets the simulated Graph API know every number of the demo.
pub fn prepare(simulator: &Simulator) -> Result<(), Failure> {
    for (id, number) in numbers_from_yaml(NUMBERS)? {
        simulator.set(&id, number);
    }
    Ok(())
}

/// Takes a registered number off the Cloud API, behind the operator's back.
pub fn lose(simulator: &Simulator) -> Result<(), Failure> {
    let lost: NumberConfig = serde_json::from_str(LOST_NUMBER)?;
    let ids = SCENARIOS.iter().filter(|scenario| scenario.name == LOST);
    ids.for_each(|scenario| simulator.set(scenario.phone_number_id, lost.clone()));
    Ok(())
}

// === impl Scenario ===

impl Scenario {
    /// Whether the resource, if there is one, is as it must be in the end.
    pub fn has_ended(&self, resource: Option<&WhatsAppPhoneNumber>) -> bool {
        match (&self.ends, resource) {
            (End::Stands(summary), Some(resource)) => summary.is_of(&status(resource)),
            (End::Gone, None) => true,
            (End::Stands(_), None) | (End::Gone, Some(_)) => false,
        }
    }

    /// How many deregister calls it must take.
    pub fn deregisters(&self) -> usize {
        usize::from(matches!(self.ends, End::Gone))
    }
}

// === impl End ===

impl End {
    /// In one word or two.
    pub fn describe(&self) -> String {
        match self {
            Self::Stands(wanted) => describe(wanted.condition, wanted.status, wanted.reason),
            Self::Gone => GONE.to_owned(),
        }
    }

    /// How a resource ended, in the same words.
    pub fn found(&self, resource: Option<&WhatsAppPhoneNumber>) -> String {
        let Some(resource) = resource else {
            return GONE.to_owned();
        };
        let status = status(resource);
        let condition = match self {
            Self::Stands(wanted) => wanted.condition,
            Self::Gone => conditions::READY,
        };
        conditions::find(&status, condition)
            .or_else(|| conditions::find(&status, conditions::READY))
            .map_or_else(
                || "no conditions".to_owned(),
                |found| describe(&found.type_, &found.status, &found.reason),
            )
    }
}

// === impl Summary ===

impl Summary {
    fn is_of(&self, status: &WhatsAppPhoneNumberStatus) -> bool {
        conditions::find(status, self.condition)
            .is_some_and(|found| found.status == self.status && found.reason == self.reason)
    }
}

fn describe(condition: &str, status: &str, reason: &str) -> String {
    format!("{condition}={status} {reason}")
}

fn status(resource: &WhatsAppPhoneNumber) -> WhatsAppPhoneNumberStatus {
    resource.status.clone().unwrap_or_default()
}
