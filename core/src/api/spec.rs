//! The spec: what the user declares.

use std::time::Duration;

use jiff::SignedDuration;
use kube_core::ResourceExt as _;
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::status::{LedgerEntry, WhatsAppPhoneNumberStatus};

/// The annotation that requests one register call, in the manner of
/// `reconcile.fluxcd.io/requestedAt`: any value other than `status.lastHandledRegisterRequest`.
pub const REGISTER_REQUESTED_AT: &str = "whatsapp-operator.dev/register-requested-at";

/// The finalizer of resources whose number is to be taken off the Cloud API before they go.
pub const DEREGISTER_FINALIZER: &str = "whatsapp-operator.dev/deregister";

/// The longest value of [`REGISTER_REQUESTED_AT`] that is accepted, in bytes of UTF-8: the ledger repeats it. A longer one is
/// ignored, and an event says so.
pub const REGISTER_REQUEST_MAX_BYTES: usize = 256;

/// The desired state of a phone number: its ID, the Secrets with the credentials for the register call, and options.
#[allow(clippy::duplicated_attributes)] // every print column has its own priority
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[kube(
    crates(kube_core = "::kube_core"),
    group = "whatsapp-operator.dev",
    version = "v1alpha1",
    kind = "WhatsAppPhoneNumber",
    plural = "whatsappphonenumbers",
    shortname = "wapn",
    category = "whatsapp",
    namespaced,
    status = "WhatsAppPhoneNumberStatus",
    doc = "A WhatsApp Business phone number that the operator registers with Meta's Cloud API: once, and not again while it is registered.",
    selectable = ".spec.phoneNumberID",
    derive = "PartialEq",
    printcolumn(
        name = "PHONE-ID",
        type_ = "string",
        json_path = ".spec.phoneNumberID",
        description = "The phone number ID from WhatsApp Manager"
    ),
    printcolumn(
        name = "NUMBER",
        type_ = "string",
        json_path = ".status.phoneNumber.displayPhoneNumber",
        description = "The phone number as Meta displays it"
    ),
    printcolumn(
        name = "REGISTERED",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Registered')].status",
        description = "Whether the number is registered"
    ),
    printcolumn(
        name = "REASON",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason",
        description = "The reason of Ready"
    ),
    printcolumn(
        name = "AGE",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "NEXT",
        type_ = "string",
        json_path = ".status.nextAttemptTime",
        priority = 1,
        description = "The time of the next automatic attempt"
    ),
    printcolumn(
        name = "FBTRACE",
        type_ = "string",
        json_path = ".status.fbtraceID",
        priority = 1,
        description = "The trace ID to give to Meta's support"
    ),
    printcolumn(
        name = "MESSAGE",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1,
        description = "What happened, why, and what to do next"
    ),
    printcolumn(
        name = "CALLS",
        type_ = "integer",
        json_path = ".status.budget.used",
        priority = 1,
        description = "The register calls that count toward Meta's ten in 72 hours"
    ),
    printcolumn(
        name = "FAILED",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Failed')].status",
        priority = 1,
        description = "Whether the last attempt failed, or none can be made at present"
    ),
    printcolumn(
        name = "SUSPENDED",
        type_ = "boolean",
        json_path = ".spec.suspend",
        priority = 1,
        description = "Whether no call is made"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct WhatsAppPhoneNumberSpec {
    /// The ID of the phone number, as WhatsApp Manager and the Graph API show it: digits, in quotes, and not the phone
    /// number itself. Immutable: to register another number, create another resource.
    #[serde(rename = "phoneNumberID")]
    #[schemars(regex(pattern = "^[0-9]{1,32}$"), length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]+$')").message("phoneNumberID must be the ID that WhatsApp Manager shows for the number: digits only, and not the phone number itself"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("phoneNumberID is immutable: create another resource for the other number, and delete this one"))]
    pub phone_number_id: String,

    /// The version of the Graph API to call, for example v23.0. Defaults to the operator's own setting
    /// (--graph-api-version), so that an upgrade of the operator upgrades every number.
    #[serde(
        rename = "graphAPIVersion",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(regex(pattern = r"^v[0-9]+\.[0-9]+$"), length(max = 16))]
    #[x_kube(validation = Rule::new(r"self.matches('^v[0-9]+\\.[0-9]+$')").message("graphAPIVersion must be a version of the Graph API, for example v23.0"))]
    pub graph_api_version: Option<String>,

    /// The Secret, in this namespace, with the access token: that of a system user with
    /// whatsapp_business_management. Whitespace around the token is trimmed.
    pub token_secret_ref: TokenSecretRef,

    /// The Secret, in this namespace, with the six-digit PIN of two-step verification. If the number has a PIN, it must
    /// be the same; else it becomes the number's PIN. Whitespace around the PIN is trimmed.
    pub pin_secret_ref: PinSecretRef,

    /// The Secret, in this namespace, with the backup of an on-premises account, to migrate a number from the
    /// On-Premises API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_secret_ref: Option<BackupSecretRef>,

    /// The Secret, in this namespace, with the app secret. When set, every call carries an appsecret_proof, which apps
    /// with "Require App Secret" need. Whitespace around the app secret is trimmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_secret_ref: Option<AppSecretRef>,

    /// The country in which messages are stored (local storage), as a two-letter code. Deprecated by Meta since v21;
    /// sent as given, with a Warning event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DataLocalizationRegion")] // an optional enum would lose the text above
    pub data_localization_region: Option<DataLocalizationRegion>,

    /// How long Meta keeps messages when they are stored in a region, in minutes: 60 is the only value. Deprecated by
    /// Meta since v21; sent as given, with a Warning event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 60))]
    pub meta_store_retention_minutes: Option<i32>,

    /// Stops all calls to the Graph API for this number while true. A registered number stays registered. Defaults to
    /// false.
    #[serde(default)]
    pub suspend: bool,

    /// The treatment of the number when this resource is deleted. Retain, the default, leaves it registered. Deregister takes it
    /// off the Cloud API first, which can delay the deletion by up to an hour (--deregister-deadline).
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// How often the number is read once it is registered, to notice when it no longer is: a duration such as 30m or 12h, at
    /// least 5m; 0s turns it off. Defaults to the operator's own setting (--observe-interval).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        regex(pattern = r"^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?$"),
        length(min = 2, max = 22)
    )]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?$') && (duration(self) == duration('0s') || duration(self) >= duration('5m'))").message("observeInterval must be a duration such as 30m or 12h, at least 5m, or 0s to turn observing off"))]
    pub observe_interval: Option<String>,

    /// What to do when the number was registered and no longer is. Report, the default, says so and makes no call. Register
    /// registers it again, at most once in 24 hours.
    #[serde(default)]
    pub loss_policy: LossPolicy,
}

impl WhatsAppPhoneNumberSpec {
    /// How often the number is to be observed, where the spec says so; zero is never.
    pub fn observe_interval(&self) -> Option<Duration> {
        let interval: SignedDuration = self.observe_interval.as_deref()?.parse().ok()?;
        Some(interval.unsigned_abs())
    }
}

impl WhatsAppPhoneNumber {
    /// The ledger in the status, newest entry first.
    pub fn attempts(&self) -> &[LedgerEntry] {
        self.status
            .as_ref()
            .map(|status| status.attempts.as_slice())
            .unwrap_or_default()
    }

    /// The value of the annotation [`REGISTER_REQUESTED_AT`], where it is valid.
    pub fn register_request(&self) -> Option<&str> {
        let value = self
            .metadata
            .annotations
            .as_ref()?
            .get(REGISTER_REQUESTED_AT)?;
        (!value.is_empty() && value.len() <= REGISTER_REQUEST_MAX_BYTES).then_some(value)
    }

    /// The status, or that of a resource which the operator has not seen yet. A request in such a resource counts as
    /// handled: it came with Git or a backup and is not meant for this operator.
    pub fn status_or_unseen(&self) -> WhatsAppPhoneNumberStatus {
        let mut status = self
            .status
            .clone()
            .unwrap_or_else(WhatsAppPhoneNumberStatus::unseen);
        if status.observed_generation < 0 {
            status.last_handled_register_request = self.register_request().map(str::to_owned);
        }
        status
    }

    /// Whether the resource carries the operator's finalizer.
    pub fn has_finalizer(&self) -> bool {
        self.finalizers()
            .iter()
            .any(|name| name == DEREGISTER_FINALIZER)
    }

    /// `namespace/name`, as messages name the resource.
    pub fn qualified_name(&self) -> String {
        format!(
            "{}/{}",
            self.namespace().unwrap_or_default(),
            self.name_any()
        )
    }
}

/// A reference to one key of a Secret in the resource's own namespace, with a default for the key.
macro_rules! secret_key_ref {
    ($(#[$doc:meta])* $name:ident, $default_key:ident, $default_key_name:literal, $default:literal) => {
        $(#[$doc])*
        #[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[x_kube(crates(kube_core = "::kube_core"))]
        #[serde(rename_all = "camelCase")]
        pub struct $name {
            /// The name of the Secret.
            #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"))]
            pub name: String,
            #[doc = concat!("The key in the Secret. Defaults to ", $default, ".")]
            #[serde(default = $default_key_name)]
            #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
            pub key: String,
        }

        fn $default_key() -> String {
            $default.to_owned()
        }
    };
}

secret_key_ref!(
    /// A reference to the access token.
    TokenSecretRef, default_token_key, "default_token_key", "token"
);
secret_key_ref!(
    /// A reference to the PIN.
    PinSecretRef, default_pin_key, "default_pin_key", "pin"
);
secret_key_ref!(
    /// A reference to the app secret.
    AppSecretRef, default_app_secret_key, "default_app_secret_key", "appSecret"
);

/// A reference to the backup of an on-premises account: two keys of one Secret.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct BackupSecretRef {
    /// The name of the Secret.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
    /// The key of the backup's password. Defaults to password.
    #[serde(default = "default_password_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub password_key: String,
    /// The key of the backup's data. Defaults to data.
    #[serde(default = "default_data_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub data_key: String,
}

fn default_password_key() -> String {
    "password".to_owned()
}

fn default_data_key() -> String {
    "data".to_owned()
}

/// The countries in which Meta offers local storage, as the register endpoint accepts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)] // ISO 3166-1 codes
pub enum DataLocalizationRegion {
    Ae,
    Au,
    Bh,
    Br,
    Ca,
    Ch,
    De,
    Gb,
    Id,
    In,
    Jp,
    Kr,
    Sg,
    Za,
}

/// The treatment of the number when the resource is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The number stays registered.
    #[default]
    Retain,
    /// The number is taken off the Cloud API.
    Deregister,
}

/// What to do when a registered number is found to be no longer registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LossPolicy {
    /// Say so, and make no call.
    #[default]
    Report,
    /// Register it again.
    Register,
}
