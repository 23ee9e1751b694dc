//! What the operator reports, and what it remembers between two passes: there is no other store.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What the operator did and found out. Only the operator writes here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct WhatsAppPhoneNumberStatus {
    /// The generation of the spec that the operator decided on last; -1 before it has seen the resource.
    #[serde(default = "never_observed")]
    pub observed_generation: i64,

    /// Registered, Failed, Ready, Reconciling and Stalled, as the README's table explains them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,

    /// The trace ID of the last register answer, before there is one of the last read: Meta's support asks for it.
    #[serde(rename = "fbtraceID", default, skip_serializing_if = "Option::is_none")]
    pub fbtrace_id: Option<String>,

    /// When the registration succeeded, or was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration_time: Option<Time>,

    /// The register calls of the last 72 hours, newest first. An entry without finishTime is a call that may be under
    /// way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub attempts: Vec<LedgerEntry>,

    /// When the operator comes back by itself. Absent when it waits for a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_time: Option<Time>,

    /// The last error that Graph gave, with secrets removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<GraphErrorStatus>,

    /// SHA-256 of the access token that the last attempt was made with, to notice a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_digest: Option<String>,

    /// HMAC-SHA256, keyed with the access token, over the other parts of the last attempt, to notice a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs_digest: Option<String>,

    /// The version of the Graph API that was called last.
    #[serde(
        rename = "graphAPIVersion",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub graph_api_version: Option<String>,

    /// How many reads of the number in a row had no usable answer.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0))]
    pub read_failures: i32,

    /// The value of the annotation whatsapp-operator.dev/register-requested-at that was handled last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_register_request: Option<String>,

    /// What Graph last said of the number.
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
}

/// One register call, or several calls in a row that never left the operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LedgerEntry {
    /// A random ID: the process that wrote it is the only one that may make the call.
    pub id: String,

    /// When the attempt was claimed.
    pub start_time: Time,

    /// When its outcome was known. Absent while the call may be under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Time>,

    /// For how long nobody else may take this attempt for abandoned, in seconds.
    #[schemars(range(min = 0))]
    pub ttl_seconds: i64,

    /// How it ended: Succeeded, Failed, Unknown (no readable answer) or NotSent (costs nothing at Meta).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "AttemptOutcome")] // an optional enum would lose the text above
    pub outcome: Option<AttemptOutcome>,

    /// Why it ended so, as in the conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,

    /// The value of the annotation whatsapp-operator.dev/register-requested-at that asked for this attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,

    /// The HTTP status of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<i32>,

    /// Graph's error code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,

    /// Graph's error subcode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subcode: Option<i64>,

    /// The trace ID of the answer.
    #[serde(rename = "fbtraceID", default, skip_serializing_if = "Option::is_none")]
    pub fbtrace_id: Option<String>,

    /// How many attempts in a row share this entry, where none of them left the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub count: Option<i32>,
}

/// How a register attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AttemptOutcome {
    /// Graph said success, or a read afterwards did.
    Succeeded,
    /// Graph refused or failed, in words that can be read.
    Failed,
    /// The call may have been made and nobody can tell how it ended.
    Unknown,
    /// Nothing left the operator.
    NotSent,
}

/// An error as Graph gave it, with secrets removed and every text cut (`crate::api::text`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GraphErrorStatus {
    /// The HTTP status of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<i32>,
    /// Graph's error type, for example OAuthException.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// Graph's error code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    /// Graph's error subcode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subcode: Option<i64>,
    /// Graph's message, and its details where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// A title that Graph meant for people, in their language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_title: Option<String>,
    /// A text that Graph meant for people, in their language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_message: Option<String>,
    /// The trace ID of the answer.
    #[serde(rename = "fbtraceID", default, skip_serializing_if = "Option::is_none")]
    pub fbtrace_id: Option<String>,
    /// Whether Graph called the error transient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transient: Option<bool>,
}

/// What Graph last said of the number. Any text is possible: Meta adds values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PhoneNumberStatus {
    /// CONNECTED, PENDING, BANNED and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// CLOUD_API, ON_PREMISE or NOT_APPLICABLE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform_type: Option<String>,
    /// Whether the ownership of the number was verified by a code: VERIFIED, NOT_VERIFIED or EXPIRED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_verification_status: Option<String>,
    /// The phone number as people write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_phone_number: Option<String>,
    /// The display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_name: Option<String>,
    /// GREEN, YELLOW, RED or UNKNOWN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality_rating: Option<String>,
    /// When Graph said so, or said something else before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_time: Option<Time>,
}

fn never_observed() -> i64 {
    -1
}

fn is_zero(n: &i32) -> bool {
    *n == 0
}

/// metav1.Condition with the bounds that its Go type carries, as a list that merges by `type`.
fn conditions_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "Registered, Failed, Ready, Reconciling and Stalled, as the README's table explains them.",
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "description": "One aspect of the number's current state.",
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {
                    "description": "Registered, Failed, Ready, Reconciling or Stalled.",
                    "type": "string", "maxLength": 316,
                    "pattern": r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
                },
                "status": {
                    "description": "True, False or Unknown.",
                    "type": "string", "enum": ["True", "False", "Unknown"]
                },
                "observedGeneration": {
                    "description": "The generation of the spec that the condition was set upon.",
                    "type": "integer", "format": "int64", "minimum": 0
                },
                "lastTransitionTime": {
                    "description": "When the status last changed from one value to another.",
                    "type": "string", "format": "date-time"
                },
                "reason": {
                    "description": "Why, in one word; the README has a row for each.",
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
