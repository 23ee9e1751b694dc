//! What the demo shows: each resource in `examples/manifests/`, and how it has to end.

use operator_core::api::conditions;
use operator_core::api::{WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};
use testkit::simulator::{Simulator, numbers_from_yaml};

use crate::Failure;

/// The resource whose Secret comes later.
pub const LATE_SECRET: &str = "late-secret";

/// The resource that is shown at the end as one that failed.
pub const FAILED: &str = "wrong-pin";

/// The PIN that its Secret should hold.
pub const RIGHT_PIN: &str = "123456";

/// How the simulated Graph API keeps each number, and the faults to come.
const NUMBERS: &str = include_str!("../../examples/try/numbers.yaml");

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
    /// How it must stand in the end.
    pub ends: Summary,
}

/// Everything that the demo shows, in the order of the phone number IDs.
pub const SCENARIOS: [Scenario; 8] = [
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
        ends: Summary {
            condition: conditions::STALLED,
            status: "True",
            reason: "PinMismatch",
        },
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
        ends: Summary {
            condition: conditions::READY,
            status: "False",
            reason: "Suspended",
        },
    },
];

const fn registered(reason: &'static str) -> Summary {
    Summary {
        condition: conditions::REGISTERED,
        status: "True",
        reason,
    }
}

/// Lets the simulated Graph API know every number of the demo.
pub fn prepare(simulator: &Simulator) -> Result<(), Failure> {
    for (id, number) in numbers_from_yaml(NUMBERS)? {
        simulator.set(&id, number);
    }
    Ok(())
}

// === impl Scenario ===

impl Scenario {
    /// Whether the resource stands as it must in the end.
    pub fn has_ended(&self, resource: &WhatsAppPhoneNumber) -> bool {
        self.ends.is_of(&status(resource))
    }
}

// === impl Summary ===

impl Summary {
    fn is_of(&self, status: &WhatsAppPhoneNumberStatus) -> bool {
        conditions::find(status, self.condition)
            .is_some_and(|found| found.status == self.status && found.reason == self.reason)
    }

    /// In one word or two.
    pub fn describe(&self) -> String {
        describe(self.condition, self.status, self.reason)
    }
}

/// How a resource stands, in the terms of [`Summary`].
pub fn found(resource: &WhatsAppPhoneNumber, expected: &Summary) -> String {
    let status = status(resource);
    conditions::find(&status, expected.condition)
        .or_else(|| conditions::find(&status, conditions::READY))
        .map_or_else(
            || "no conditions".to_owned(),
            |found| describe(&found.type_, &found.status, &found.reason),
        )
}

fn describe(condition: &str, status: &str, reason: &str) -> String {
    format!("{condition}={status} {reason}")
}

fn status(resource: &WhatsAppPhoneNumber) -> WhatsAppPhoneNumberStatus {
    resource.status.clone().unwrap_or_default()
}
