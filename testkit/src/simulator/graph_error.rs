//! The error body of the Graph API and what Meta's pages say about each code. Pure.

use serde_json::{Map, Value, json};

/// An error as Graph puts it on the wire, before it has a trace ID.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphError {
    /// HTTP status of the answer.
    pub http_status: u16,
    /// `error.code`.
    pub code: i64,
    /// `error.error_subcode`.
    pub subcode: Option<i64>,
    /// `error.message`.
    pub message: String,
    /// `error.type`.
    pub kind: String,
    /// `error.is_transient`.
    pub is_transient: Option<bool>,
    /// `error.error_data.details`.
    pub details: Option<String>,
    /// `error.error_user_title`.
    pub user_title: Option<String>,
    /// `error.error_user_msg`.
    pub user_msg: Option<String>,
}

/// Code, usual HTTP status and text of the errors that a register call can meet.
const KNOWN: &[(i64, u16, &str)] = &[
    (1, 400, "An unknown error occurred"),
    (2, 500, "Service temporarily unavailable"),
    (
        3,
        500,
        "Application does not have the capability to make this API call.",
    ),
    (4, 429, "Application request limit reached"),
    (
        10,
        403,
        "Application does not have permission for this action",
    ),
    (17, 400, "User request limit reached"),
    (100, 400, "Invalid parameter"),
    (
        104,
        401,
        "An access token is required to request this resource",
    ),
    (
        190,
        401,
        "Invalid OAuth access token - Cannot parse access token",
    ),
    (
        200,
        403,
        "Your app doesn't have permission to register this phone number",
    ),
    (368, 403, "Temporarily blocked for policies violations"),
    (803, 404, "Phone number not found"),
    (80007, 400, "Rate limit issues"),
    (
        80008,
        400,
        "There have been too many calls to this WhatsApp Business account. Wait a bit and try again.",
    ),
    (131000, 500, "Something went wrong"),
    (131005, 403, "Access denied"),
    (131008, 400, "Required parameter is missing"),
    (131009, 400, "Parameter value is not valid"),
    (131016, 500, "Service unavailable"),
    (131031, 403, "Account has been locked"),
    (131045, 500, "Incorrect certificate"),
    (131057, 500, "Account in maintenance mode"),
    (133000, 500, "Incomplete deregistration"),
    (133004, 503, "Server temporarily unavailable"),
    (133005, 400, "Two step verification PIN mismatch"),
    (133006, 400, "Phone number re-verification needed"),
    (133008, 400, "Too many two step verification PIN guesses"),
    (133009, 400, "Two step verification PIN guessed too fast"),
    (133010, 400, "Phone number not registered"),
    (
        133015,
        400,
        "Please wait a few minutes before attempting to register this phone number",
    ),
    (
        133016,
        400,
        "Account register/deregister rate limit exceeded",
    ),
];

// === impl GraphError ===

impl GraphError {
    /// The error with this code, with Meta's usual status and text where they are known.
    pub fn new(code: i64) -> Self {
        let (http_status, text) = KNOWN
            .iter()
            .find(|(known, ..)| *known == code)
            .map_or((400, "Unknown error"), |(_, status, text)| (*status, *text));
        Self {
            http_status,
            code,
            subcode: None,
            message: format!("(#{code}) {text}"),
            kind: "OAuthException".to_owned(),
            is_transient: None,
            details: None,
            user_title: None,
            user_msg: None,
        }
    }

    /// An invalid parameter: the answer to most requests that the contract does not allow.
    pub fn invalid_parameter(reason: &str) -> Self {
        Self::new(100).message(format!("(#100) {reason}"))
    }

    /// What Graph says of an ID that is unknown or that the token may not see.
    pub fn no_such_object(id: &str, method: &str) -> Self {
        let message = format!(
            "Unsupported {method} request. Object with ID '{id}' does not exist, cannot be loaded \
             due to missing permissions, or does not support this operation"
        );
        Self::new(100)
            .subcode(33)
            .kind("GraphMethodException")
            .message(message)
    }

    /// Error 190 with the whole token in its text, as an old SDK issue reports it.
    pub fn malformed_token(token: &str) -> Self {
        let message = format!("Malformed access token {token}");
        Self {
            http_status: 400,
            ..Self::new(190).message(message)
        }
    }

    /// With another text.
    pub fn message(self, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            ..self
        }
    }

    /// With `error_subcode`.
    pub fn subcode(self, subcode: i64) -> Self {
        Self {
            subcode: Some(subcode),
            ..self
        }
    }

    /// With another `type`.
    pub fn kind(self, kind: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            ..self
        }
    }

    /// With `error_data.details`.
    pub fn details(self, details: impl Into<String>) -> Self {
        Self {
            details: Some(details.into()),
            ..self
        }
    }

    /// Marked as worth trying again.
    pub fn transient(self) -> Self {
        Self {
            is_transient: Some(true),
            ..self
        }
    }

    /// The value of `WWW-Authenticate`, which repeats the message on errors about the token.
    pub fn challenge(&self) -> Option<String> {
        let about_token = matches!(self.code, 0 | 102 | 104 | 190);
        about_token.then(|| {
            format!(
                "OAuth \"Facebook Platform\" \"invalid_token\" \"{}\"",
                self.message
            )
        })
    }

    /// The JSON body; fields which Graph would leave out are left out.
    pub fn body(&self, trace: &str) -> Value {
        let mut error = Map::new();
        error.insert("message".to_owned(), json!(self.message));
        error.insert("type".to_owned(), json!(self.kind));
        error.insert("code".to_owned(), json!(self.code));
        let details = self.details.as_ref();
        let data = details.map(|d| json!({"messaging_product": "whatsapp", "details": d}));
        let optional = [
            ("error_data", data),
            ("error_subcode", self.subcode.map(Value::from)),
            ("is_transient", self.is_transient.map(Value::from)),
            ("error_user_title", self.user_title.clone().map(Value::from)),
            ("error_user_msg", self.user_msg.clone().map(Value::from)),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                error.insert(name.to_owned(), value);
            }
        }
        error.insert("fbtrace_id".to_owned(), json!(trace));
        json!({ "error": error })
    }
}
