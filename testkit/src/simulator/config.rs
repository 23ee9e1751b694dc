//! What tests and the control endpoint can say about a number. Everything is optional: what is
//! not said stays as it is. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::action::check_headers;
use super::contract::is_pin;
use super::script::Step;

/// Changes to a number, or how a new one begins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NumberConfig {
    /// Whether there is such a number at all.
    pub exists: Option<bool>,
    /// Registered or not; brings `status` and `platform_type` along unless they are said too.
    pub registered: Option<bool>,
    /// `status`, such as `BANNED`.
    pub status: Option<String>,
    /// `platform_type`, such as `ON_PREMISE`.
    pub platform_type: Option<String>,
    /// `code_verification_status`: with `NOT_VERIFIED` a registration fails (133006).
    pub code_verification_status: Option<String>,
    /// `display_phone_number`.
    pub display_phone_number: Option<String>,
    /// `verified_name`.
    pub verified_name: Option<String>,
    /// `quality_rating`.
    pub quality_rating: Option<String>,
    /// More fields of the node; null takes one away, also one of the above.
    pub fields: BTreeMap<String, Value>,
    /// The two-step PIN in force.
    pub pin: Option<String>,
    /// The only token that is accepted; any without.
    pub token: Option<String>,
    /// The app secret; with it every call needs the right `appsecret_proof`.
    pub app_secret: Option<String>,
    /// How long ago the number was deregistered; under 5 minutes a registration fails (133015).
    pub deregistered_seconds_ago: Option<u64>,
    /// How many register calls fit in 72 hours.
    pub register_limit: Option<usize>,
    /// How many register calls were already made, just now.
    pub spent: Option<usize>,
    /// After how many wrong PINs there are too many (133008); without, never.
    pub pin_guesses: Option<u32>,
    /// How long each call takes.
    pub latency_millis: Option<u64>,
    /// Headers of every natural answer, such as `x-app-usage`.
    pub answer_headers: BTreeMap<String, String>,
    /// Faults to come; replaces those that were due.
    pub script: Option<Vec<Step>>,
}

/// What holds for every number that does not say otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Defaults {
    /// How long each call takes.
    pub latency_millis: u64,
    /// Whether an unknown ID becomes a fresh number; otherwise it does not exist.
    pub auto_create: bool,
    /// The only token that is accepted; any without.
    pub token: Option<String>,
    /// How many calls of each token are let in; any number without.
    pub token_limit: Option<TokenLimit>,
}

/// The rate limit of each token, reads included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenLimit {
    /// So many calls,
    pub calls: usize,
    /// in so many seconds from the first of them.
    pub seconds: u64,
}

/// Numbers in YAML, by their ID.
pub fn numbers_from_yaml(yaml: &str) -> Result<BTreeMap<String, NumberConfig>, String> {
    let numbers: BTreeMap<String, NumberConfig> =
        serde_norway::from_str(yaml).map_err(|error| error.to_string())?;
    for (id, number) in &numbers {
        number.check().map_err(|error| format!("{id}: {error}"))?;
    }
    Ok(numbers)
}

// === impl NumberConfig ===

impl NumberConfig {
    /// A number that was never registered, or is so no longer.
    pub fn fresh() -> Self {
        Self {
            registered: Some(false),
            ..Self::default()
        }
    }

    /// A number that is registered.
    pub fn registered() -> Self {
        Self {
            registered: Some(true),
            ..Self::default()
        }
    }

    /// An ID that Graph does not know, whatever the defaults say of unknown IDs.
    pub fn missing() -> Self {
        Self {
            exists: Some(false),
            ..Self::default()
        }
    }

    /// With this two-step PIN in force.
    pub fn pin(self, pin: &str) -> Self {
        Self {
            pin: Some(pin.to_owned()),
            ..self
        }
    }

    /// Accepting this token only.
    pub fn token(self, token: &str) -> Self {
        Self {
            token: Some(token.to_owned()),
            ..self
        }
    }

    /// Requiring the `appsecret_proof` of this app secret.
    pub fn app_secret(self, secret: &str) -> Self {
        Self {
            app_secret: Some(secret.to_owned()),
            ..self
        }
    }

    /// With this `status`.
    pub fn status(self, status: &str) -> Self {
        Self {
            status: Some(status.to_owned()),
            ..self
        }
    }

    /// With this `platform_type`.
    pub fn platform_type(self, platform: &str) -> Self {
        Self {
            platform_type: Some(platform.to_owned()),
            ..self
        }
    }

    /// With this `code_verification_status`.
    pub fn code_verification_status(self, status: &str) -> Self {
        Self {
            code_verification_status: Some(status.to_owned()),
            ..self
        }
    }

    /// Deregistered this long ago.
    pub fn deregistered(self, ago: Duration) -> Self {
        Self {
            deregistered_seconds_ago: Some(ago.as_secs()),
            ..self
        }
    }

    /// With this many register calls in 72 hours instead of ten.
    pub fn register_limit(self, limit: usize) -> Self {
        Self {
            register_limit: Some(limit),
            ..self
        }
    }

    /// With this many register calls already made.
    pub fn spent(self, calls: usize) -> Self {
        Self {
            spent: Some(calls),
            ..self
        }
    }

    /// Locking after this many wrong PINs.
    pub fn pin_guesses(self, guesses: u32) -> Self {
        Self {
            pin_guesses: Some(guesses),
            ..self
        }
    }

    /// Taking this long for each call.
    pub fn latency(self, latency: Duration) -> Self {
        let millis = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        Self {
            latency_millis: Some(millis),
            ..self
        }
    }

    /// With this field of the node; null takes it away.
    pub fn field(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// With this header in every natural answer.
    pub fn answer_header(mut self, name: &str, value: &str) -> Self {
        self.answer_headers
            .insert(name.to_owned(), value.to_owned());
        self
    }

    /// With these faults to come.
    pub fn script(self, steps: Vec<Step>) -> Self {
        Self {
            script: Some(steps),
            ..self
        }
    }

    /// Refuses what could not be simulated.
    pub fn check(&self) -> Result<(), String> {
        if self.pin.as_deref().is_some_and(|pin| !is_pin(pin)) {
            return Err("pin must be six digits".to_owned());
        }
        check_headers(&self.answer_headers)
    }
}

// === impl Defaults ===

impl Default for Defaults {
    fn default() -> Self {
        Self {
            latency_millis: 0,
            auto_create: true,
            token: None,
            token_limit: None,
        }
    }
}
