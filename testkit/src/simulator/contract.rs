//! Which requests the official contract allows (`graph-v23.0-excerpt.yaml` and the reference
//! page). Pure: a request goes in, a checked [`Call`] or a [`Refusal`] comes out.

use std::sync::LazyLock;

use axum::http::{HeaderMap, Method, Uri, header};
use regex::Regex;
use serde::{Deserialize, Deserializer, Serialize};

use super::graph_error::GraphError;

/// What a request does to a phone number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// `GET /{version}/{id}`.
    Read,
    /// `POST /{version}/{id}/register`.
    Register,
    /// `POST /{version}/{id}/deregister`.
    Deregister,
}

/// What a request is addressed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The Graph version asked for, such as `v23.0`.
    pub version: String,
    /// The phone number ID.
    pub number: String,
    /// What is asked of it.
    pub operation: Operation,
}

/// A request that keeps to the contract.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The bearer token.
    pub token: String,
    /// `appsecret_proof`, if sent.
    pub proof: Option<String>,
    /// What is asked for.
    pub request: Request,
}

/// What is asked for in a [`Call`].
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// These fields, or the default ones.
    Read(Option<Vec<String>>),
    /// This registration.
    Register(Registration),
    /// The end of it.
    Deregister,
}

/// The body of a register call. `tier` is in the official file but not on the reference page
/// that the operator implements, so it counts as unknown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// Always `whatsapp`.
    pub messaging_product: MessagingProduct,
    /// The six digits.
    pub pin: String,
    /// Backup of an on-premises account.
    #[serde(
        default,
        deserialize_with = "not_null",
        skip_serializing_if = "Option::is_none"
    )]
    pub backup: Option<Backup>,
    /// Where messages are stored.
    #[serde(
        default,
        deserialize_with = "not_null",
        skip_serializing_if = "Option::is_none"
    )]
    pub data_localization_region: Option<Region>,
    /// How long messages are stored: 60 is the only value.
    #[serde(
        default,
        deserialize_with = "not_null",
        skip_serializing_if = "Option::is_none"
    )]
    pub meta_store_retention_minutes: Option<u64>,
}

/// `messaging_product`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessagingProduct {
    /// The only one.
    Whatsapp,
}

/// `backup`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// Password of the backup.
    #[serde(
        default,
        deserialize_with = "not_null",
        skip_serializing_if = "Option::is_none"
    )]
    pub password: Option<String>,
    /// The encrypted backup.
    #[serde(
        default,
        deserialize_with = "not_null",
        skip_serializing_if = "Option::is_none"
    )]
    pub data: Option<String>,
}

/// `data_localization_region`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[rustfmt::skip]
pub enum Region { Ae, Au, Bh, Br, Ca, Ch, De, Gb, Id, In, Jp, Kr, Sg, Za }

/// Why a request is refused, and what Graph would answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// What the request does that the contract does not allow.
    pub violation: String,
    /// The answer.
    pub error: GraphError,
}

/// The fields that a phone number node has; any other name fails the whole read.
const FIELDS: &[&str] = &[
    "account_mode",
    "code_verification_status",
    "display_phone_number",
    "health_status",
    "host_platform",
    "id",
    "is_official_business_account",
    "is_on_biz_app",
    "is_pin_enabled",
    "is_preverified_number",
    "last_onboarded_time",
    "messaging_limit_tier",
    "name_status",
    "new_name_status",
    "platform_type",
    "quality_rating",
    "status",
    "throughput",
    "verified_name",
    "webhook_configuration",
];

static VERSION: LazyLock<Regex> = LazyLock::new(|| pattern(r"^v[0-9]+\.[0-9]+$"));
static NUMBER_ID: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[0-9]+$"));
static PIN: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[0-9]{6}$"));
// The contract's pattern for Authorization, without the blanks it would allow after the token.
static BEARER: LazyLock<Regex> = LazyLock::new(|| pattern(r"^Bearer\s+([A-Za-z0-9\-_.]+[^\s]*)$"));
static USER_AGENT: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^[a-zA-Z0-9\-_]+/[0-9]+\.[0-9]+\.[0-9]+(;[a-zA-Z0-9\-=\.]+)?(\s+[a-zA-Z0-9\-_]+/[0-9\-\.]+)?$",
    )
});

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a constant pattern is valid")
}

fn not_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    value: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

/// Whether a text is a PIN as the contract has it.
pub fn is_pin(text: &str) -> bool {
    PIN.is_match(text)
}

/// Whether a text is a phone number ID as the contract has it.
pub fn is_number_id(text: &str) -> bool {
    NUMBER_ID.is_match(text)
}

/// Finds out what a request is addressed to.
pub fn target(method: &Method, path: &str) -> Result<Target, Refusal> {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let operation = match (method.as_str(), segments.as_slice()) {
        ("GET", [_, _]) => Operation::Read,
        ("POST", [_, _, "register"]) => Operation::Register,
        ("POST", [_, _, "deregister"]) => Operation::Deregister,
        _ => return Err(unknown_path(method, path)),
    };
    let (version, number) = (segments[0], segments[1]);
    if !VERSION.is_match(version) {
        let error =
            GraphError::invalid_parameter("Invalid version format. Use format like 'v23.0'");
        return Err(Refusal::new(
            format!("version {version:?} is not v<digits>.<digits>"),
            error,
        ));
    }
    if !is_number_id(number) {
        let text = "Invalid phone number ID format. Must be numeric.";
        let error = GraphError::invalid_parameter(text);
        return Err(Refusal::new(
            format!("phone number ID {number:?} is not numeric"),
            error,
        ));
    }
    Ok(Target {
        version: version.to_owned(),
        number: number.to_owned(),
        operation,
    })
}

fn unknown_path(method: &Method, path: &str) -> Refusal {
    let error = GraphError::new(2500).message(format!("Unknown path components: {path}"));
    Refusal::new(
        format!("{method} {path} is not a call of the contract"),
        error,
    )
}

/// Checks headers, query and body of a request to `operation`.
pub fn check(
    operation: Operation,
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Call, Refusal> {
    check_user_agent(headers)?;
    let token = bearer_token(headers)?;
    let query = Query::parse(operation, uri)?;
    let request = match operation {
        Operation::Read => Request::Read(query.fields),
        Operation::Register => Request::Register(registration(headers, body)?),
        Operation::Deregister if body.is_empty() => Request::Deregister,
        Operation::Deregister => {
            return Err(Refusal::invalid("deregister has no body".to_owned()));
        }
    };
    Ok(Call {
        token,
        proof: query.proof,
        request,
    })
}

fn check_user_agent(headers: &HeaderMap) -> Result<(), Refusal> {
    // The contract does not require the header, only its form.
    let Some(value) = headers.get(header::USER_AGENT) else {
        return Ok(());
    };
    match value.to_str() {
        Ok(text) if USER_AGENT.is_match(text) => Ok(()),
        _ => Err(Refusal::invalid(format!(
            "User-Agent {value:?} does not match the contract"
        ))),
    }
}

fn bearer_token(headers: &HeaderMap) -> Result<String, Refusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let token = match (
        values.next().and_then(|value| value.to_str().ok()),
        values.next(),
    ) {
        (Some(value), None) => BEARER.captures(value).map(|found| found[1].to_owned()),
        _ => None,
    };
    token.ok_or_else(|| {
        Refusal::new(
            "no Authorization: Bearer <token>".to_owned(),
            GraphError::new(104),
        )
    })
}

/// The query parameters that the contract knows.
#[derive(Debug, Default)]
struct Query {
    fields: Option<Vec<String>>,
    proof: Option<String>,
}

// === impl Query ===

impl Query {
    fn parse(operation: Operation, uri: &Uri) -> Result<Self, Refusal> {
        let mut query = Self::default();
        for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or("").as_bytes()) {
            match (name.as_ref(), operation) {
                ("appsecret_proof", _) => query.proof = Some(value.into_owned()),
                ("fields", Operation::Read) => query.fields = Some(fields(&value)?),
                ("access_token", _) => {
                    let text = "access_token in the query, where proxies log it";
                    return Err(Refusal::invalid(text.to_owned()));
                }
                _ => {
                    return Err(Refusal::invalid(format!(
                        "unknown query parameter {name:?}"
                    )));
                }
            }
        }
        Ok(query)
    }
}

fn fields(list: &str) -> Result<Vec<String>, Refusal> {
    let names: Vec<String> = list.split(',').map(str::to_owned).collect();
    match names.iter().find(|name| !FIELDS.contains(&name.as_str())) {
        None => Ok(names),
        Some(unknown) => {
            let text = format!("Tried accessing nonexisting field ({unknown})");
            let error = GraphError::invalid_parameter(&text);
            Err(Refusal::new(format!("unknown field {unknown:?}"), error))
        }
    }
}

fn registration(headers: &HeaderMap, body: &[u8]) -> Result<Registration, Refusal> {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let media_type = content_type
        .and_then(|value| value.split(';').next())
        .map(str::trim);
    if !media_type.is_some_and(|value| value.eq_ignore_ascii_case("application/json")) {
        return Err(Refusal::invalid(format!(
            "Content-Type {content_type:?} is not JSON"
        )));
    }
    let registration: Registration = serde_json::from_slice(body)
        .map_err(|error| Refusal::invalid(format!("body of register: {error}")))?;
    if !is_pin(&registration.pin) {
        let error =
            GraphError::invalid_parameter("Invalid PIN format. PIN must be exactly 6 digits");
        return Err(Refusal::new("pin is not six digits".to_owned(), error));
    }
    if !matches!(registration.meta_store_retention_minutes, None | Some(60)) {
        return Err(Refusal::invalid(
            "meta_store_retention_minutes is not 60".to_owned(),
        ));
    }
    Ok(registration)
}

// === impl Refusal ===

impl Refusal {
    fn new(violation: String, error: GraphError) -> Self {
        Self { violation, error }
    }

    fn invalid(violation: String) -> Self {
        let error = GraphError::invalid_parameter(&format!("Invalid parameter: {violation}"));
        Self { violation, error }
    }
}
