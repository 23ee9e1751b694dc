//! One phone number as Graph keeps it: its state, its budget and what a call does to it. Pure:
//! the time is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use super::config::{Defaults, NumberConfig};
use super::contract::{Call, Registration};
use super::graph_error::GraphError;

/// Meta counts register calls over this time, and blocks for as long.
const WINDOW: SignedDuration = SignedDuration::from_hours(72);
/// Register calls in that time, failed ones included; as many deregister calls, which have a count of their own.
const REGISTER_LIMIT: usize = 10;
/// How long a deregistration takes to finish.
const DEREGISTRATION: SignedDuration = SignedDuration::from_mins(5);
/// What a read without `fields` gives.
const DEFAULT_FIELDS: &[&str] = &[
    "code_verification_status",
    "display_phone_number",
    "id",
    "last_onboarded_time",
    "platform_type",
    "quality_rating",
    "throughput",
    "verified_name",
    "webhook_configuration",
];

/// A phone number.
#[derive(Clone, Debug)]
pub struct Number {
    pub(super) id: String,
    pub(super) exists: bool,
    pub(super) registered: bool,
    pub(super) status: String,
    pub(super) platform_type: String,
    pub(super) code_verification_status: String,
    pub(super) display_phone_number: String,
    pub(super) verified_name: String,
    pub(super) quality_rating: String,
    pub(super) pin: Option<String>,
    pub(super) last_registration: Option<Registration>,
    pub(super) deregistered: Option<Timestamp>,
    pub(super) blocked_until: Option<Timestamp>,
    pub(super) latency_millis: Option<u64>,
    pub(super) answer_headers: BTreeMap<String, String>,
    fields: BTreeMap<String, Value>,
    onboarded: Option<Timestamp>,
    token: Option<String>,
    app_secret: Option<String>,
    register_limit: usize,
    register_calls: Vec<Timestamp>,
    deregister_calls: Vec<Timestamp>,
    pin_guesses: Option<u32>,
    wrong_pins: u32,
    lagging_reads: u32,
    lagging_until: Option<Timestamp>,
}

// === impl Number ===

impl Number {
    /// A number that was added to an account and whose ownership is verified, no more.
    pub fn fresh(id: &str) -> Self {
        let mut number = Self {
            id: id.to_owned(),
            exists: true,
            registered: false,
            status: String::new(),
            platform_type: String::new(),
            code_verification_status: "VERIFIED".to_owned(),
            display_phone_number: format!("+1 555-{id}"),
            verified_name: "Jasper's Market".to_owned(),
            quality_rating: "UNKNOWN".to_owned(),
            pin: None,
            last_registration: None,
            deregistered: None,
            blocked_until: None,
            latency_millis: None,
            answer_headers: BTreeMap::new(),
            fields: BTreeMap::new(),
            onboarded: None,
            token: None,
            app_secret: None,
            register_limit: REGISTER_LIMIT,
            register_calls: Vec::new(),
            deregister_calls: Vec::new(),
            pin_guesses: None,
            wrong_pins: 0,
            lagging_reads: 0,
            lagging_until: None,
        };
        number.set_registered(false);
        number
    }

    /// Takes over what a configuration says; its script is not the number's business.
    pub fn configure(&mut self, config: NumberConfig, now: Timestamp) {
        let implied = self.exists || config.registered.is_some();
        self.exists = config.exists.unwrap_or(implied);
        if let Some(registered) = config.registered {
            self.set_registered(registered);
        }
        replace(&mut self.status, config.status);
        replace(&mut self.platform_type, config.platform_type);
        replace(
            &mut self.code_verification_status,
            config.code_verification_status,
        );
        replace(&mut self.display_phone_number, config.display_phone_number);
        replace(&mut self.verified_name, config.verified_name);
        replace(&mut self.quality_rating, config.quality_rating);
        replace(&mut self.register_limit, config.register_limit);
        self.pin = config.pin.or(self.pin.take());
        self.token = config.token.or(self.token.take());
        self.app_secret = config.app_secret.or(self.app_secret.take());
        self.pin_guesses = config.pin_guesses.or(self.pin_guesses);
        self.latency_millis = config.latency_millis.or(self.latency_millis);
        self.fields.extend(config.fields);
        self.answer_headers.extend(config.answer_headers);
        if let Some(ago) = config.deregistered_seconds_ago {
            self.deregistered = Some(before(now, ago));
        }
        if let Some(spent) = config.spent {
            self.register_calls = vec![now; spent];
        }
    }

    fn set_registered(&mut self, registered: bool) {
        let (status, platform) = natural_state(registered);
        self.registered = registered;
        self.status = status.to_owned();
        self.platform_type = platform.to_owned();
        self.lagging_reads = 0;
        self.lagging_until = None;
    }

    /// How many register calls the last 72 hours saw.
    pub fn calls_in_window(&self, now: Timestamp) -> usize {
        let recent = |time: &&Timestamp| now.duration_since(**time) < WINDOW;
        self.register_calls.iter().filter(recent).count()
    }

    /// Counts a register call: every one which arrives does, whatever becomes of it. The one
    /// beyond the limit blocks the number for 72 hours; those in that time change nothing more.
    pub fn spend(&mut self, now: Timestamp) -> Result<(), GraphError> {
        if self.blocked_until.is_some_and(|end| now < end) {
            return Err(GraphError::new(133016));
        }
        self.blocked_until = None;
        if self.calls_in_window(now) >= self.register_limit {
            self.blocked_until = now.checked_add(WINDOW).ok();
            return Err(GraphError::new(133016));
        }
        self.register_calls
            .retain(|time| now.duration_since(*time) < WINDOW);
        self.register_calls.push(now);
        Ok(())
    }

    /// Counts a deregister call.
    pub fn spend_deregister(&mut self, now: Timestamp) -> Result<(), GraphError> {
        self.deregister_calls
            .retain(|time| now.duration_since(*time) < WINDOW);
        self.deregister_calls.push(now);
        if self.deregister_calls.len() > REGISTER_LIMIT {
            return Err(GraphError::new(133016));
        }
        Ok(())
    }

    /// Takes the number off the Cloud API. Meta's refusals differ in their text only.
    pub fn deregister(&mut self, now: Timestamp) -> Result<(), GraphError> {
        if self.fields.get("is_on_biz_app") == Some(&json!(true)) {
            return Err(GraphError::new(100).message(
                "Deregister endpoint is not available for API solution for SMB businesses.",
            ));
        }
        if !self.registered {
            return Err(GraphError::new(100)
                .message("Phone number is not currently linked in Facebook Hosted System"));
        }
        self.set_registered(false);
        "DISCONNECTED".clone_into(&mut self.status);
        self.deregistered = Some(now);
        Ok(())
    }

    /// Checks token and proof.
    pub fn authenticate(&self, call: &Call, defaults: &Defaults) -> Result<(), GraphError> {
        let expected = self.token.as_ref().or(defaults.token.as_ref());
        if expected.is_some_and(|token| *token != call.token) {
            return Err(GraphError::new(190));
        }
        let Some(secret) = &self.app_secret else {
            return Ok(());
        };
        let complaint = match &call.proof {
            None => "API calls from the server require an appsecret_proof argument",
            Some(proof) if *proof == appsecret_proof(secret, &call.token) => return Ok(()),
            Some(_) => "Invalid appsecret_proof provided in the API argument",
        };
        Err(GraphError::new(100)
            .kind("GraphMethodException")
            .message(complaint))
    }

    /// Registers the number. Once more with the same PIN passes and changes nothing.
    pub fn register(&mut self, wanted: &Registration, now: Timestamp) -> Result<(), GraphError> {
        self.check_registrable(now)?;
        self.check_pin(&wanted.pin)?;
        if !self.registered {
            self.set_registered(true);
            self.onboarded = Some(now);
        }
        self.pin.get_or_insert_with(|| wanted.pin.clone());
        self.last_registration = Some(wanted.clone());
        self.deregistered = None;
        Ok(())
    }

    fn check_registrable(&self, now: Timestamp) -> Result<(), GraphError> {
        match self.status.as_str() {
            "BANNED" => return Err(GraphError::new(131031)),
            "DELETED" | "MIGRATED" => return Err(GraphError::no_such_object(&self.id, "post")),
            _ => {}
        }
        if self.code_verification_status == "NOT_VERIFIED" {
            return Err(GraphError::new(133006));
        }
        if self
            .deregistered
            .is_some_and(|then| now.duration_since(then) < DEREGISTRATION)
        {
            return Err(GraphError::new(133015));
        }
        Ok(())
    }

    fn check_pin(&mut self, pin: &str) -> Result<(), GraphError> {
        if self
            .pin_guesses
            .is_some_and(|limit| self.wrong_pins >= limit)
        {
            let details = "Too many wrong guesses. Please try again after 12 hours.";
            return Err(GraphError::new(133008).details(details));
        }
        if self.pin.as_deref().is_some_and(|in_force| in_force != pin) {
            self.wrong_pins += 1;
            return Err(GraphError::new(133005));
        }
        self.wrong_pins = 0;
        Ok(())
    }

    /// Makes the next reads, and those in this time, still show the state before the registration.
    pub fn lag(&mut self, reads: u32, time: Duration, now: Timestamp) {
        self.lagging_reads = reads;
        let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
        self.lagging_until = now.checked_add(time).ok();
    }

    /// What a read shows: the fields asked for, the ID always.
    pub fn read(&mut self, fields: Option<&[String]>, now: Timestamp) -> Value {
        let lagging = self.lagging_reads > 0 || self.lagging_until.is_some_and(|end| now < end);
        self.lagging_reads = self.lagging_reads.saturating_sub(1);
        let wanted = |name: &str| match fields {
            Some(names) => name == "id" || names.iter().any(|wanted| wanted == name),
            None => DEFAULT_FIELDS.contains(&name),
        };
        let node = self.node(lagging).into_iter();
        Value::Object(
            node.filter(|(name, value)| wanted(name) && !value.is_null())
                .collect(),
        )
    }

    fn node(&self, lagging: bool) -> Map<String, Value> {
        let (status, platform) = match lagging {
            true => natural_state(false),
            false => (self.status.as_str(), self.platform_type.as_str()),
        };
        let level = if platform == "CLOUD_API" {
            "STANDARD"
        } else {
            "NOT_APPLICABLE"
        };
        let known = [
            ("id", json!(self.id)),
            ("display_phone_number", json!(self.display_phone_number)),
            ("verified_name", json!(self.verified_name)),
            ("quality_rating", json!(self.quality_rating)),
            (
                "code_verification_status",
                json!(self.code_verification_status),
            ),
            ("status", json!(status)),
            ("platform_type", json!(platform)),
            ("throughput", json!({ "level": level })),
            ("is_pin_enabled", json!(self.pin.is_some())),
            ("account_mode", json!("LIVE")),
            ("name_status", json!("APPROVED")),
            ("is_on_biz_app", json!(false)),
            ("last_onboarded_time", json!(self.onboarded)),
        ];
        let known = known.map(|(name, value)| (name.to_owned(), value));
        known.into_iter().chain(self.fields.clone()).collect()
    }
}

fn natural_state(registered: bool) -> (&'static str, &'static str) {
    if registered {
        ("CONNECTED", "CLOUD_API")
    } else {
        ("PENDING", "NOT_APPLICABLE")
    }
}

fn replace<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn before(now: Timestamp, seconds: u64) -> Timestamp {
    let ago = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    now.checked_sub(ago).unwrap_or(Timestamp::MIN)
}

/// Hex HMAC-SHA256 of the token, keyed with the app secret.
pub fn appsecret_proof(app_secret: &str, token: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(app_secret.as_bytes())
        .expect("HMAC takes a key of any length");
    mac.update(token.as_bytes());
    mac.finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
