//! What a step can do to a call, and what is answered then. Pure.

use std::collections::BTreeMap;

use axum::http::{HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::{Answer, Delivery, header};
use super::graph_error::GraphError;

/// The most a step may send or wait, so that a slip of the pen does not stop the machine.
const LARGEST_BODY: usize = 1 << 30;

/// What a step does. Where it says *failing*, nothing is done unless the step says `acted`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Nothing special.
    Natural {},
    /// Failing: a Graph error.
    Error(ErrorStep),
    /// Failing: throttled, with the usage headers. With `regain_minutes` it is the limit of the
    /// business account (80008), else that of the app (4).
    RateLimited {
        /// `estimated_time_to_regain_access`, in minutes.
        regain_minutes: Option<u64>,
        /// `Retry-After`, verbatim.
        retry_after: Option<String>,
        /// HTTP status, if not the usual one.
        http_status: Option<u16>,
        /// Code, if not the usual one.
        code: Option<i64>,
    },
    /// Failing: HTTP 500, code 2, transient.
    ServerError {},
    /// Failing: a page of the edge.
    Html {
        /// HTTP status; 502 if not said.
        http_status: Option<u16>,
    },
    /// Failing: no body.
    Empty {
        /// HTTP status; 500 if not said.
        http_status: Option<u16>,
    },
    /// Failing: the head and the first bytes of a success, then the connection closes.
    Truncated {
        /// How many bytes of the body; half of it if not said.
        bytes: Option<usize>,
    },
    /// Failing: this answer, without any header of the Graph API.
    Raw {
        /// HTTP status.
        http_status: u16,
        /// Headers.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// Body.
        #[serde(default)]
        body: String,
    },
    /// The connection closes, nothing is done.
    HangUpBefore {},
    /// The call is done, then the connection closes.
    HangUpAfter {},
    /// The call is done, then answered after this time.
    Slow {
        /// How long.
        millis: u64,
    },
    /// The call is done only after this time.
    Stall {
        /// How long.
        millis: u64,
    },
    /// The call is done and answered byte by byte.
    Trickle {
        /// Bytes per second.
        bytes_per_second: u32,
    },
    /// Failing: a JSON body of this size, with HTTP 200.
    Huge {
        /// Size.
        bytes: usize,
    },
    /// Failing: answered as a success.
    SuccessLie {},
    /// Failing: `{"success":false}`.
    SuccessFalse {},
    /// Done, unless the step says otherwise: `{"success":"true"}`.
    SuccessString {},
    /// Failing: HTTP 200 and `{}`.
    SuccessMissing {},
    /// Done, unless the step says otherwise: the form the reference page prints.
    SuccessExample {},
    /// The registration is done, but the next reads still show the old state.
    Lag {
        /// How many reads.
        reads: u32,
    },
    /// Failing: error 190 that repeats the token in its text and in `WWW-Authenticate`.
    MalformedTokenEcho {},
    /// The call is held until released, then done and answered.
    Wait {},
    /// The call is done, its answer is held until released.
    WaitAfter {},
}

/// A Graph error in a script; what is left out is as Meta's pages have it for the code.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorStep {
    /// `error.code`.
    pub code: i64,
    /// HTTP status.
    pub http_status: Option<u16>,
    /// `error.error_subcode`.
    pub subcode: Option<i64>,
    /// `error.message`.
    pub message: Option<String>,
    /// `error.type`.
    pub r#type: Option<String>,
    /// `error.is_transient`.
    pub is_transient: Option<bool>,
    /// `error.error_data.details`.
    pub details: Option<String>,
    /// `error.error_user_title`.
    pub user_title: Option<String>,
    /// `error.error_user_msg`.
    pub user_msg: Option<String>,
    /// More headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

// === impl Action ===

impl Action {
    /// Its name in JSON.
    pub fn name(&self) -> String {
        let json = serde_json::to_value(self).unwrap_or_default();
        json["step"].as_str().unwrap_or("?").to_owned()
    }

    /// Whether a step may choose if this action comes before or after acting.
    pub fn may_lie(&self) -> bool {
        self.lies_with().is_some()
    }

    /// Whether what was asked is done if the step does not say; nothing where it cannot say.
    pub fn lies_with(&self) -> Option<bool> {
        match self {
            Self::Error(_)
            | Self::RateLimited { .. }
            | Self::ServerError {}
            | Self::Html { .. }
            | Self::Empty { .. }
            | Self::Truncated { .. }
            | Self::Raw { .. }
            | Self::Huge { .. }
            | Self::SuccessLie {}
            | Self::SuccessFalse {}
            | Self::SuccessMissing {}
            | Self::MalformedTokenEcho {} => Some(false),
            Self::SuccessString {} | Self::SuccessExample {} => Some(true),
            _ => None,
        }
    }

    /// Refuses what cannot be sent.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Error(step) => {
                check_status(step.http_status)?;
                check_headers(&step.headers)
            }
            Self::RateLimited {
                http_status,
                retry_after,
                ..
            } => {
                check_status(*http_status)?;
                let retry_after = retry_after
                    .iter()
                    .map(|text| ("retry-after".to_owned(), text.clone()));
                check_headers(&retry_after.collect())
            }
            Self::Html { http_status } | Self::Empty { http_status } => check_status(*http_status),
            Self::Raw {
                http_status,
                headers,
                ..
            } => {
                check_status(Some(*http_status))?;
                check_headers(headers)
            }
            Self::Trickle {
                bytes_per_second: 0,
            } => Err("bytes_per_second must be at least 1".to_owned()),
            Self::Huge { bytes } if *bytes > LARGEST_BODY => {
                Err(format!("bytes must be at most {LARGEST_BODY}"))
            }
            _ => Ok(()),
        }
    }

    /// What is answered whatever was done.
    pub fn scripted(&self, token: &str, trace: &str) -> Option<Answer> {
        let answer = match self {
            Self::Error(step) => {
                Answer::error(&step.error(), trace).with_headers(step.headers.clone())
            }
            Self::RateLimited {
                regain_minutes,
                retry_after,
                http_status,
                code,
            } => rate_limited(
                *regain_minutes,
                retry_after.as_deref(),
                *http_status,
                *code,
                trace,
            ),
            Self::ServerError {} => Answer::error(&server_error(), trace),
            Self::Html { http_status } => html(http_status.unwrap_or(502)),
            Self::Empty { http_status } => {
                Answer::edge(http_status.unwrap_or(500), Vec::new(), Vec::new())
            }
            Self::Truncated { bytes } => Answer::success().delivered(Delivery::Cut(*bytes)),
            Self::Raw {
                http_status,
                headers,
                body,
            } => {
                let headers = headers.clone().into_iter().collect();
                Answer::edge(*http_status, headers, body.clone().into_bytes())
            }
            Self::Huge { bytes } => huge(*bytes),
            Self::SuccessLie {} => Answer::success(),
            Self::SuccessFalse {} => Answer::json(200, &json!({"success": false})),
            Self::SuccessString {} => Answer::json(200, &json!({"success": "true"})),
            Self::SuccessMissing {} => Answer::json(200, &json!({})),
            Self::SuccessExample {} => Answer::json(200, &printed_example()),
            Self::MalformedTokenEcho {} => {
                Answer::error(&GraphError::malformed_token(token), trace)
            }
            _ => return None,
        };
        Some(answer)
    }
}

fn check_status(status: Option<u16>) -> Result<(), String> {
    match status {
        // An interim answer (1xx) is none that a call could end with.
        Some(code @ (0..200 | 1000..)) => Err(format!("http_status {code} is not in 200..=999")),
        Some(code) => StatusCode::from_u16(code)
            .map(drop)
            .map_err(|error| error.to_string()),
        None => Ok(()),
    }
}

/// Refuses headers that HTTP could not carry.
pub fn check_headers(headers: &BTreeMap<String, String>) -> Result<(), String> {
    for (name, value) in headers {
        HeaderName::try_from(name).map_err(|error| format!("header {name:?}: {error}"))?;
        HeaderValue::try_from(value).map_err(|error| format!("header {name:?}: {error}"))?;
    }
    Ok(())
}

fn server_error() -> GraphError {
    let text = "An unexpected error occurred during registration. Please retry your request";
    GraphError::new(2)
        .message(text)
        .kind("GraphMethodException")
        .transient()
}

fn html(status: u16) -> Answer {
    let page = "<!DOCTYPE html><html><head><title>Facebook | Error</title></head>\
                <body><h1>Sorry, something went wrong.</h1></body></html>";
    let headers = vec![header("content-type", "text/html; charset=utf-8")];
    Answer::edge(status, headers, page.into())
}

/// The success stands at the end, where a reader with a bound never comes.
fn huge(bytes: usize) -> Answer {
    let (start, end) = (r#"{"padding":""#, r#"","success":true}"#);
    let padding = "x".repeat(bytes.saturating_sub(start.len() + end.len()));
    Answer {
        body: [start, &padding, end].concat().into_bytes(),
        ..Answer::success()
    }
}

fn printed_example() -> Value {
    let example = json!({"summary": "Successful registration", "value": {"success": true}});
    json!({ "successful_registration": example })
}

fn rate_limited(
    regain_minutes: Option<u64>,
    retry_after: Option<&str>,
    http_status: Option<u16>,
    code: Option<i64>,
    trace: &str,
) -> Answer {
    let code = code.unwrap_or(if regain_minutes.is_some() { 80008 } else { 4 });
    let mut error = GraphError::new(code).subcode(2446079).transient();
    error.http_status = http_status.unwrap_or(error.http_status);
    let app = json!({"call_count": 100, "total_time": 25, "total_cputime": 25});
    let mut headers = vec![header("x-app-usage", &app.to_string())];
    headers.extend(regain_minutes.map(business_usage));
    headers.extend(retry_after.map(|text| header("retry-after", text)));
    Answer::error(&error, trace).with_headers(headers)
}

/// `X-Business-Use-Case-Usage` in its real shape: by account, with an entry of each type.
fn business_usage(regain_minutes: u64) -> (String, String) {
    let entry = |kind: &str, minutes: u64, percent: u64| {
        json!({
            "type": kind,
            "call_count": percent,
            "total_cputime": 1,
            "total_time": 1,
            "estimated_time_to_regain_access": minutes,
        })
    };
    let account = json!([
        entry("whatsapp", 0, 1),
        entry("whatsapp_business_management", regain_minutes, 100),
    ]);
    header(
        "x-business-use-case-usage",
        &json!({"102290129340398": account}).to_string(),
    )
}

// === impl ErrorStep ===

impl ErrorStep {
    fn error(&self) -> GraphError {
        let usual = GraphError::new(self.code);
        GraphError {
            http_status: self.http_status.unwrap_or(usual.http_status),
            code: self.code,
            subcode: self.subcode,
            message: self.message.clone().unwrap_or(usual.message),
            kind: self.r#type.clone().unwrap_or(usual.kind),
            is_transient: self.is_transient,
            details: self.details.clone(),
            user_title: self.user_title.clone(),
            user_msg: self.user_msg.clone(),
        }
    }
}
