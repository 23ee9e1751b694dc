//! A client that keeps to the contract, and one that sees every byte.

use std::error::Error;
use std::sync::LazyLock;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, USER_AGENT};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use testkit::simulator::Simulator;

/// What every test here returns.
pub type Tested = Result<(), Box<dyn Error>>;

/// The number that tests use unless they need two.
pub const ID: &str = "106540352242922";
/// How long a test waits for an answer that should come at once.
const DEADLINE: Duration = Duration::from_secs(10);

/// One client for all tests, as it takes long to build. Without idle connections: each test has a
/// runtime of its own, and a connection ends with the runtime that it began in.
static CLIENT: LazyLock<Client> = LazyLock::new(|| {
    let client = Client::builder().pool_max_idle_per_host(0).no_proxy();
    client.build().expect("a plain HTTP client can be built")
});

/// Status, headers and body of an answer.
#[derive(Debug)]
pub struct Answered {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

// === impl Answered ===

impl Answered {
    /// `error.code`, or null.
    pub fn code(&self) -> &Value {
        &self.body["error"]["code"]
    }

    /// A header as text, empty without.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

/// A request with a token and a User-Agent.
pub fn request(simulator: &Simulator, method: Method, path: &str) -> RequestBuilder {
    CLIENT
        .request(method, format!("{}{path}", simulator.base_url()))
        .timeout(DEADLINE)
        .header(AUTHORIZATION, "Bearer a-token")
        .header(USER_AGENT, "whatsapp-operator/0.1.0")
}

/// A register request with this body.
pub fn register_with(simulator: &Simulator, body: &Value) -> RequestBuilder {
    request(simulator, Method::POST, &format!("/v23.0/{ID}/register"))
        .header(CONTENT_TYPE, "application/json")
        .body(body.to_string())
}

/// Sends a request and reads the answer; a body that is not JSON becomes text.
pub async fn send(request: RequestBuilder) -> reqwest::Result<Answered> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await?;
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Ok(Answered {
        status,
        headers,
        body,
    })
}

/// Registers with this PIN.
pub async fn register(simulator: &Simulator, pin: &str) -> reqwest::Result<Answered> {
    send(register_with(
        simulator,
        &json!({"messaging_product": "whatsapp", "pin": pin}),
    ))
    .await
}

/// Reads these fields.
pub async fn read(simulator: &Simulator, fields: &str) -> reqwest::Result<Answered> {
    let path = format!("/v23.0/{ID}?fields={fields}");
    send(request(simulator, Method::GET, &path)).await
}

/// Changes something through the control endpoint.
pub async fn control(
    simulator: &Simulator,
    method: Method,
    path: &str,
    body: Value,
) -> reqwest::Result<Answered> {
    let url = format!("{}/_simulator/{path}", simulator.base_url());
    send(
        Client::new()
            .request(method, url)
            .timeout(DEADLINE)
            .body(body.to_string()),
    )
    .await
}

/// Registers and returns every byte that came back before the connection was closed.
pub async fn register_bytes(simulator: &Simulator) -> Result<String, Box<dyn Error>> {
    let body = r#"{"messaging_product":"whatsapp","pin":"123456"}"#;
    let head = format!(
        "POST /v23.0/{ID}/register HTTP/1.1\r\nhost: graph\r\nauthorization: Bearer a-token\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(simulator.base_url().replace("http://", "")).await?;
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    let mut bytes = Vec::new();
    tokio::time::timeout(DEADLINE, stream.read_to_end(&mut bytes)).await??;
    Ok(String::from_utf8(bytes)?)
}
