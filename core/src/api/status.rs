//! The status: what the operator reports, and what it remembers between two reconciliations. There is no other store.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::reason::Reason;

/// The observed state of the phone number. Only the operator writes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct WhatsAppPhoneNumberStatus {
    /// The generation of the spec that was reconciled last; -1 before the operator has seen the resource.
    #[serde(default = "never_observed")]
    pub observed_generation: i64,

    /// The conditions Registered, Failed, Ready, Reconciling, Stalled and Observed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,

    /// The trace ID of the last register call, or of the last read before there is one. Meta's support asks for it.
    #[serde(rename = "fbtraceID", default, skip_serializing_if = "Option::is_none")]
    pub fbtrace_id: Option<String>,

    /// The time at which the registration succeeded, or was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration_time: Option<Time>,

    /// How the number came to be registered. Absent while it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<Registration>,

    /// How the number was found to be no longer registered. Absent while it is registered, or never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,

    /// The time of the first read that showed a registered number as no longer registered. A second one makes it a loss; one that
    /// shows it as registered removes this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_suspected_time: Option<Time>,

    /// The time of the last loss. After a second one within 24 hours, spec.lossPolicy Register does not apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_loss_time: Option<Time>,

    /// What the last observation of the number found. Absent before there is one, and while observing is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observation: Option<Observation>,

    /// Whether the number may be registered because of this resource: set with every register call and when a registration is
    /// found, removed when a read shows that it is not. Only then does spec.deletionPolicy Deregister call Meta.
    #[serde(default, skip_serializing_if = "is_false")]
    pub may_be_registered: bool,

    /// The ledger of the register and deregister calls of the last 72 hours, newest first. An entry without finishTime is an open
    /// claim: its call may be in flight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<AttemptStatus>", extend("x-kubernetes-list-type" = "atomic"))]
    pub attempts: Vec<LedgerEntry>,

    /// The register calls of the number that count toward Meta's ten in 72 hours, as of the last write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,

    /// The time of the next automatic attempt. Absent while the operator waits for a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_time: Option<Time>,

    /// What the operator waits for after the last call or read failed. Absent while it does not wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,

    /// What stalled the last call or read, so that no other follows until something changes. Absent while nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall: Option<Stall>,

    /// The reason why no automatic call is made with the inputs of the last attempt: Graph has refused them, or no read tells what became
    /// of that attempt. It outlasts a requested call that fails for a reason that passes.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "reasons::of_verdict"
    )]
    #[schemars(with = "Option<String>")]
    pub verdict: Option<Reason>,

    /// What holds the number back apart from its last call or read, such as a missing Secret or a token that cools down. It lies
    /// over the wait or the stall and takes nothing from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,

    /// The rate limit of a token that this resource met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_wait: Option<TokenWait>,

    /// The last error from the Graph API, with secrets removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<GraphErrorStatus>,

    /// The SHA-256 digest of the access token of the last attempt, to notice a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_digest: Option<String>,

    /// The HMAC-SHA256 digest, keyed with the access token, of the PIN of the last attempt, to notice a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin_digest: Option<String>,

    /// The HMAC-SHA256 digest, keyed with the access token, of all other inputs of the last attempt, to notice a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs_digest: Option<String>,

    /// The version of the Graph API of the last call.
    #[serde(
        rename = "graphAPIVersion",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub graph_api_version: Option<String>,

    /// The number of reads in a row without a usable answer.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0))]
    pub read_failures: i32,

    /// The number of reads in a row whose answer does not tell whether the number is registered.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0))]
    pub unclear_reads: i32,

    /// The last handled value of the annotation whatsapp-operator.dev/register-requested-at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_register_request: Option<String>,

    /// The phone number as the Graph API last reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone_number: Option<PhoneNumberStatus>,
}

impl WhatsAppPhoneNumberStatus {
    /// The status of a resource that the operator has not seen yet, as the CRD's default has it.
    pub fn unseen() -> Self {
        Self {
            observed_generation: never_observed(),
            ..Self::default()
        }
    }

    /// Forgets what observing has found so far: it is off.
    pub fn forget_observation(&mut self) {
        self.observation = None;
        self.loss_suspected_time = None;
    }

    /// Whether the last observation failed for its token, or for want of a Secret: there may be another one by now.
    pub fn observation_waits_for_secret(&self) -> bool {
        let observation = self.observation.as_ref();
        let fault = observation.and_then(|observation| observation.fault.as_ref());
        fault.is_some_and(|fault| fault.token_digest.is_some() || fault.reason.is_secret_fault())
    }
}

/// How a number came to be registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    /// RegistrationSucceeded, AlreadyRegistered or OutcomeConfirmed.
    #[serde(deserialize_with = "reasons::of_registration")]
    #[schemars(with = "String")]
    pub reason: Reason,
    /// What happened.
    pub message: String,
}

/// The register calls of a number that count toward Meta's limit, those of other and of deleted resources included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// The number of calls in the last 72 hours.
    #[schemars(range(min = 0))]
    pub used: i32,
    /// The number that Meta allows.
    #[schemars(range(min = 0))]
    pub limit: i32,
    /// The time at which the oldest of them no longer counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_free_time: Option<Time>,
}

/// The loss of a registration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Loss {
    /// RegistrationLost, or why the number cannot be registered: AccountLocked, PhoneNumberNotFound.
    #[serde(deserialize_with = "reasons::of_loss")]
    #[schemars(with = "String")]
    pub reason: Reason,
    /// What happened.
    pub message: String,
    /// The time at which it was certain.
    pub time: Time,
    /// Whether there was another loss in the 24 hours before, so that spec.lossPolicy does not apply.
    #[serde(default, skip_serializing_if = "is_false")]
    pub repeated: bool,
    /// Whether the operator is registering the number again: spec.lossPolicy is Register.
    #[serde(default, skip_serializing_if = "is_false")]
    pub recovering: bool,
}

/// What the last observation of a number found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// Why there was no usable answer. Absent where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<ObservationFault>,
}

/// Why an observation had no usable answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObservationFault {
    /// The reason, as in the conditions.
    #[serde(deserialize_with = "reasons::of_wait")]
    #[schemars(with = "String")]
    pub reason: Reason,
    /// What happened.
    pub message: String,
    /// The SHA-256 digest of the token that was refused: another one is tried soon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_digest: Option<String>,
}

/// A wait after a call or read that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Wait {
    /// The reason, as in the conditions.
    #[serde(deserialize_with = "reasons::of_wait")]
    #[schemars(with = "String")]
    pub reason: Reason,
    /// What happened.
    pub message: String,
    /// The end of the wait.
    pub until: Time,
    /// Whether the outcome of the last call is not known, and reads are to confirm it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub confirming: bool,
}

/// A failure that stays until something changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stall {
    /// The reason, as in the conditions.
    #[serde(deserialize_with = "reasons::of_stall")]
    #[schemars(with = "String")]
    pub reason: Reason,
    /// What happened.
    pub message: String,
    /// Whether the token changed since, so that the operator cannot tell whether the PIN changed as well.
    #[serde(default, skip_serializing_if = "is_false")]
    pub token_changed: bool,
    /// The value of the annotation whatsapp-operator.dev/register-requested-at that this answers: a read stood against the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// A reason not to call, apart from the last call or read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// The reason, as in the conditions.
    #[serde(deserialize_with = "reasons::of_wait")]
    #[schemars(with = "String")]
    pub reason: Reason,
    /// What happened.
    pub message: String,
    /// The end of the hold, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// The time since which a Secret has been missing or unreadable while the resource is being deleted. The operator waits five minutes for
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

impl Hold {
    /// A hold without an end.
    pub const fn new(reason: Reason, message: String) -> Self {
        Self {
            reason,
            message,
            until: None,
            since: None,
        }
    }
}

/// The rate limit of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenWait {
    /// The SHA-256 digest of the token.
    pub digest: String,
    /// The end of the wait.
    pub until: Time,
    /// How many such waits of the token there were in a row.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0))]
    pub in_a_row: i32,
}

impl Wait {
    /// A wait in which nothing is to be confirmed.
    pub fn new(reason: Reason, message: String, until: Timestamp) -> Self {
        Self {
            reason,
            message,
            until: Time(until),
            confirming: false,
        }
    }
}

impl Stall {
    pub fn new(reason: Reason, message: String) -> Self {
        Self {
            reason,
            message,
            token_changed: false,
            request: None,
        }
    }
}

impl TokenWait {
    pub fn new(digest: &str, until: Timestamp, in_a_row: i32) -> Self {
        Self {
            digest: digest.to_owned(),
            until: Time(until),
            in_a_row,
        }
    }
}

/// Reasons that were stored by any version: one that this version does not know reads as one with the same consequence.
mod reasons {
    use serde::{Deserialize, Deserializer};

    use super::Reason;

    pub fn of_registration<'de, D: Deserializer<'de>>(from: D) -> Result<Reason, D::Error> {
        known_or(Reason::AlreadyRegistered, from)
    }

    pub fn of_loss<'de, D: Deserializer<'de>>(from: D) -> Result<Reason, D::Error> {
        known_or(Reason::RegistrationLost, from)
    }

    pub fn of_wait<'de, D: Deserializer<'de>>(from: D) -> Result<Reason, D::Error> {
        known_or(Reason::GraphUnavailable, from)
    }

    pub fn of_stall<'de, D: Deserializer<'de>>(from: D) -> Result<Reason, D::Error> {
        known_or(Reason::InvalidRequest, from)
    }

    pub fn of_verdict<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Reason>, D::Error> {
        let stored = Option::<String>::deserialize(from)?;
        Ok(stored.map(|stored| stored.parse().unwrap_or(Reason::InvalidRequest)))
    }

    fn known_or<'de, D: Deserializer<'de>>(other: Reason, from: D) -> Result<Reason, D::Error> {
        Ok(String::deserialize(from)?.parse().unwrap_or(other))
    }
}

/// A kind of call that changes a number, and that Meta counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operation {
    /// `POST /{version}/{phone-number-id}/register`.
    #[default]
    Register,
    /// `POST /{version}/{phone-number-id}/deregister`.
    Deregister,
}

/// One call, or several that were never sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "AttemptStatus", into = "AttemptStatus")]
pub struct LedgerEntry {
    /// A random ID. Only the process that wrote it may make the call.
    pub id: String,
    pub operation: Operation,
    /// The time of the claim.
    pub start_time: Time,
    /// How long, in seconds, no other process may consider this attempt abandoned.
    pub ttl_seconds: i64,
    /// The value of the annotation that requested this attempt.
    pub request: Option<String>,
    /// Whether the read before the call, with the same token, showed the number. Older entries do not tell.
    pub seen: Option<bool>,
    /// Whether the call was made for an earlier resource of this name, from which this one took the entry over.
    pub earlier: bool,
    /// The number of attempts that share this entry, where none of them was sent.
    pub count: Option<i32>,
    /// The end. Without one this is an open claim: its call may be in flight.
    pub end: Option<AttemptEnd>,
}

/// The end of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptEnd {
    /// The time at which the outcome was known.
    pub time: Time,
    pub outcome: AttemptOutcome,
    /// The reason as it is stored; another version may have stored one that this version does not know.
    pub reason: Option<String>,
    /// The HTTP status of the answer.
    pub http_status: Option<i32>,
    /// The error code from the Graph API.
    pub code: Option<i64>,
    /// The error subcode from the Graph API.
    pub subcode: Option<i64>,
    /// The trace ID of the answer.
    pub fbtrace_id: Option<String>,
}

/// One call, or several that were never sent.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct AttemptStatus {
    /// A random ID. Only the process that wrote it may make the call.
    id: String,

    /// The kind of call: Register or Deregister.
    #[serde(default)]
    #[schemars(with = "Operation")] // a reference to the type would lose the text above
    operation: Operation,

    /// The time of the claim.
    start_time: Time,

    /// The time at which the outcome was known. Absent while the call may be in flight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    finish_time: Option<Time>,

    /// How long, in seconds, no other process may consider this attempt abandoned.
    #[schemars(range(min = 0))]
    ttl_seconds: i64,

    /// The outcome: Succeeded, Failed, Unknown (no readable answer) or NotSent (costs nothing at Meta).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "AttemptOutcome")] // an optional enum would lose the text above
    outcome: Option<AttemptOutcome>,

    /// The reason of the outcome, as in the conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,

    /// The value of the annotation whatsapp-operator.dev/register-requested-at that requested this attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request: Option<String>,

    /// The HTTP status of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http_status: Option<i32>,

    /// The error code from the Graph API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<i64>,

    /// The error subcode from the Graph API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subcode: Option<i64>,

    /// The trace ID of the answer.
    #[serde(rename = "fbtraceID", default, skip_serializing_if = "Option::is_none")]
    fbtrace_id: Option<String>,

    /// Whether the read before the call, with the same token, showed the number. A call without that does not count for other
    /// resources of the number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<bool>,

    /// Whether the call was made for an earlier resource of the same name, which was deleted.
    #[serde(default, skip_serializing_if = "is_false")]
    earlier: bool,

    /// The number of attempts that share this entry, where none of them was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    count: Option<i32>,
}

impl From<AttemptStatus> for LedgerEntry {
    /// An end without an outcome is one of another writer's: it counts, and is as clear as its reason.
    fn from(stored: AttemptStatus) -> Self {
        let end = stored.finish_time.map(|time| AttemptEnd {
            time,
            outcome: stored.outcome.unwrap_or(match stored.reason {
                Some(_) => AttemptOutcome::Failed,
                None => AttemptOutcome::Unknown,
            }),
            reason: stored.reason,
            http_status: stored.http_status,
            code: stored.code,
            subcode: stored.subcode,
            fbtrace_id: stored.fbtrace_id,
        });
        Self {
            id: stored.id,
            operation: stored.operation,
            start_time: stored.start_time,
            ttl_seconds: stored.ttl_seconds,
            request: stored.request,
            seen: stored.seen,
            earlier: stored.earlier,
            count: stored.count,
            end,
        }
    }
}

impl From<LedgerEntry> for AttemptStatus {
    fn from(entry: LedgerEntry) -> Self {
        let end = entry.end.as_ref();
        Self {
            finish_time: end.map(|end| end.time.clone()),
            outcome: end.map(|end| end.outcome),
            reason: end.and_then(|end| end.reason.clone()),
            http_status: end.and_then(|end| end.http_status),
            code: end.and_then(|end| end.code),
            subcode: end.and_then(|end| end.subcode),
            fbtrace_id: end.and_then(|end| end.fbtrace_id.clone()),
            id: entry.id,
            operation: entry.operation,
            start_time: entry.start_time,
            ttl_seconds: entry.ttl_seconds,
            request: entry.request,
            seen: entry.seen,
            earlier: entry.earlier,
            count: entry.count,
        }
    }
}

/// The outcome of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AttemptOutcome {
    /// The answer, or a later read, showed the number as registered.
    Succeeded,
    /// Graph answered with an error.
    Failed,
    /// The call may have taken effect: there is no readable answer.
    Unknown,
    /// Nothing was sent.
    NotSent,
}

/// An error from the Graph API, with secrets removed and texts cut to a bounded length.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GraphErrorStatus {
    /// The HTTP status of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<i32>,
    /// The error type, for example OAuthException.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// The error code from the Graph API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    /// The error subcode from the Graph API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subcode: Option<i64>,
    /// The error message, with its details where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The title that Graph intends for end users, in their language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_title: Option<String>,
    /// The message that Graph intends for end users, in their language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_message: Option<String>,
    /// The trace ID of the answer.
    #[serde(rename = "fbtraceID", default, skip_serializing_if = "Option::is_none")]
    pub fbtrace_id: Option<String>,
    /// Whether Graph marked the error as transient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transient: Option<bool>,
}

/// The phone number as the Graph API reports it. Fields may have other values than those listed: Meta adds new ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PhoneNumberStatus {
    /// The status, for example CONNECTED, PENDING or BANNED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The platform: CLOUD_API, ON_PREMISE or NOT_APPLICABLE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform_type: Option<String>,
    /// Whether the ownership of the number is verified by code: VERIFIED, NOT_VERIFIED or EXPIRED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_verification_status: Option<String>,
    /// The phone number in display format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_phone_number: Option<String>,
    /// The display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_name: Option<String>,
    /// The quality rating: GREEN, YELLOW, RED or UNKNOWN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality_rating: Option<String>,
    /// The review of the display name, for example APPROVED, PENDING_REVIEW or DECLINED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_status: Option<String>,
    /// The review of a display name that was asked for since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_name_status: Option<String>,
    /// Whether the number is connected to the WhatsApp Business app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_business_app: Option<bool>,
    /// The time of the first read with these values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_time: Option<Time>,
}

fn never_observed() -> i64 {
    -1
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(n: &i32) -> bool {
    *n == 0
}

/// A list of `metav1.Condition` that merges by `type`, with the bounds of the Go type.
fn conditions_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "The conditions Registered, Failed, Ready, Reconciling, Stalled and Observed.",
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "description": "One aspect of the current state.",
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {
                    "description": "The type: Registered, Failed, Ready, Reconciling, Stalled or Observed.",
                    "type": "string", "maxLength": 316,
                    "pattern": r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
                },
                "status": {
                    "description": "The status: True, False or Unknown.",
                    "type": "string", "enum": ["True", "False", "Unknown"]
                },
                "observedGeneration": {
                    "description": "The generation of the spec that the condition was set for.",
                    "type": "integer", "format": "int64", "minimum": 0
                },
                "lastTransitionTime": {
                    "description": "The last time the status changed from one value to another.",
                    "type": "string", "format": "date-time"
                },
                "reason": {
                    "description": "The reason in one word.",
                    "type": "string", "minLength": 1, "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
                },
                "message": {
                    "description": "What happened, why, and what to do next.",
                    "type": "string", "maxLength": 32768
                }
            }
        }
    })
}
