//! What goes on the wire: status, headers, body and the manner of delivery. Pure.

use serde_json::{Value, json};

use super::graph_error::GraphError;

/// How a call ends for the client.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// With an answer.
    Answer(Answer),
    /// With a closed connection and not one byte.
    HangUp,
}

/// An HTTP answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers beside those of the Graph API.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// How the body is sent.
    pub delivery: Delivery,
    /// Whether the Graph API itself answers, so that its headers are there; otherwise something
    /// in front of it does.
    pub from_graph: bool,
    /// `error.code`, for the log.
    pub code: Option<i64>,
}

/// How a body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// At once.
    Whole,
    /// This many bytes of it, then the connection closes; half of it if not said.
    Cut(Option<usize>),
    /// Byte by byte at this rate in bytes per second.
    Trickle(u32),
}

// === impl Answer ===

impl Answer {
    /// A JSON answer of the Graph API.
    pub fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            headers: vec![header("content-type", "application/json; charset=UTF-8")],
            body: body.to_string().into_bytes(),
            delivery: Delivery::Whole,
            from_graph: true,
            code: None,
        }
    }

    /// The success of a register call.
    pub fn success() -> Self {
        Self::json(200, &json!({"success": true}))
    }

    /// A Graph error.
    pub fn error(error: &GraphError, trace: &str) -> Self {
        let mut answer = Self::json(error.http_status, &error.body(trace));
        answer.headers.extend(
            error
                .challenge()
                .map(|text| header("www-authenticate", &text)),
        );
        answer.code = Some(error.code);
        answer
    }

    /// An answer of something in front of the Graph API.
    pub fn edge(status: u16, headers: Vec<(String, String)>, body: Vec<u8>) -> Self {
        let delivery = Delivery::Whole;
        Self {
            status,
            headers,
            body,
            delivery,
            from_graph: false,
            code: None,
        }
    }

    /// With more headers.
    pub fn with_headers(mut self, more: impl IntoIterator<Item = (String, String)>) -> Self {
        self.headers.extend(more);
        self
    }

    /// Sent in another manner.
    pub fn delivered(self, delivery: Delivery) -> Self {
        Self { delivery, ..self }
    }
}

/// A header.
pub fn header(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}
