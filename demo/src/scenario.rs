//! What the demo shows: for each resource in `examples/manifests/` how Graph behaves, and how it has to end.

use operator_core::api::conditions;
use operator_core::api::{WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};
use testkit::simulator::{Action, NumberConfig, Simulator, Step};

/// The resource whose Secret comes later.
pub const LATE_SECRET: &str = "late-secret";

/// The resource that is shown at the end as one that failed.
pub const FAILED: &str = "wrong-pin";

/// The PIN that its Secret should hold.
pub const RIGHT_PIN: &str = "123456";

/// What `Retry-After` says in the demo: real usage headers count in minutes, which would be long to watch.
const RETRY_AFTER_SECONDS: &str = "8";

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
    /// How Graph keeps the number, and the faults to come.
    graph: fn() -> NumberConfig,
}

/// Everything that the demo shows, in the order of the phone number IDs.
pub const SCENARIOS: [Scenario; 8] = [
    Scenario {
        name: "fresh-number",
        phone_number_id: "106540352242901",
        story: "not registered yet",
        posts: 1,
        ends: registered("RegistrationSucceeded"),
        graph: NumberConfig::fresh,
    },
    Scenario {
        name: "already-registered",
        phone_number_id: "106540352242902",
        story: "registered before: adopted",
        posts: 0,
        ends: registered("AlreadyRegistered"),
        graph: || NumberConfig::registered().app_secret("already-registered-demo-app-secret"),
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
        graph: || NumberConfig::fresh().pin(RIGHT_PIN),
    },
    Scenario {
        name: "rate-limited",
        phone_number_id: "106540352242904",
        story: "429 with usage header, success",
        posts: 2,
        ends: registered("RegistrationSucceeded"),
        graph: || NumberConfig::fresh().script(vec![rate_limit()]),
    },
    Scenario {
        name: "server-error",
        phone_number_id: "106540352242905",
        story: "500, then success",
        posts: 2,
        ends: registered("RegistrationSucceeded"),
        graph: || NumberConfig::fresh().script(vec![Step::server_error()]),
    },
    Scenario {
        name: "lost-answer",
        phone_number_id: "106540352242906",
        story: "registered, the answer is lost",
        posts: 1,
        ends: registered("OutcomeConfirmed"),
        graph: || NumberConfig::fresh().script(vec![Step::hang_up_after()]),
    },
    Scenario {
        name: LATE_SECRET,
        phone_number_id: "106540352242907",
        story: "the Secret appears later",
        posts: 1,
        ends: registered("RegistrationSucceeded"),
        graph: NumberConfig::fresh,
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
        graph: NumberConfig::fresh,
    },
];

const fn registered(reason: &'static str) -> Summary {
    Summary {
        condition: conditions::REGISTERED,
        status: "True",
        reason,
    }
}

fn rate_limit() -> Step {
    Step::new(Action::RateLimited {
        regain_minutes: Some(0),
        retry_after: Some(RETRY_AFTER_SECONDS.to_owned()),
        http_status: Some(429),
        code: None,
    })
}

/// Lets the simulated Graph API know every number of the demo.
pub fn prepare(simulator: &Simulator) {
    for (number, scenario) in SCENARIOS.iter().enumerate() {
        let displayed = NumberConfig {
            display_phone_number: Some(format!("+1 555-025-{:04}", 3481 + number)),
            ..(scenario.graph)()
        };
        simulator.set(scenario.phone_number_id, displayed);
    }
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
