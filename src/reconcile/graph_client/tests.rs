//! The client against servers that do what servers do.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use super::*;
use operator_core::api::Reason;
use operator_core::credentials::CallInputs;
use operator_core::graph::RegistrationState;
use testkit::builders::{PIN, TOKEN, inputs, spec};

/// A server on this machine. Each connection is handed to `serve` with the request as far as it was read; what was read
/// is kept.
struct Server {
    url: Url,
    requests: mpsc::Receiver<String>,
}

impl Server {
    fn start(serve: impl Fn(&mut TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (sender, requests) = mpsc::channel();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                if sender.send(read_request(&mut stream)).is_err() {
                    return;
                }
                serve(&mut stream);
            }
        });
        let url = format!("http://127.0.0.1:{port}").parse().expect("a URL");
        Self { url, requests }
    }

    /// A server that always answers so.
    fn answering(answer: String) -> Self {
        Self::start(move |stream| {
            // The client may have hung up already; that is its right.
            let _ = stream.write_all(answer.as_bytes());
        })
    }

    fn requests(&self) -> Vec<String> {
        self.requests.try_iter().collect()
    }
}

/// Head and body of a request; less if the client stops before.
fn read_request(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !is_whole(&text) {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => text += &String::from_utf8_lossy(&buffer[..count]),
        }
    }
    text
}

fn is_whole(text: &str) -> bool {
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.and_then(|length| length.parse().ok()).unwrap_or(0)
}

fn http(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

fn settings(url: &Url) -> GraphSettings {
    GraphSettings {
        base_url: url.clone(),
        allow_insecure: false,
        timeout: Duration::from_secs(20),
    }
}

fn client(url: &Url) -> GraphClient {
    GraphClient::new(&settings(url)).expect("a client")
}

async fn register_with(client: &GraphClient, inputs: &CallInputs) -> RegisterOutcome {
    let spec = spec();
    client
        .register(&Call {
            spec: &spec,
            version: "v23.0",
            inputs,
        })
        .await
}

async fn register(url: &Url) -> RegisterOutcome {
    register_with(&client(url), &inputs()).await
}

async fn read(url: &Url) -> ReadOutcome {
    let (client, spec, inputs) = (client(url), spec(), inputs());
    client
        .read(
            &Call {
                spec: &spec,
                version: "v23.0",
                inputs: &inputs,
            },
            ReadFields::All,
        )
        .await
}

/// A port that nobody listens on.
fn refusing() -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    format!("http://127.0.0.1:{port}").parse().expect("a URL")
}

#[tokio::test]
async fn success_takes_one_request_as_documented() {
    let server = Server::answering(http(
        "200 OK",
        "x-fb-trace-id: AbC\r\n",
        r#"{"success":true}"#,
    ));
    let outcome = register(&server.url).await;
    assert_eq!(outcome.reason, Reason::RegistrationSucceeded, "{outcome:?}");
    assert_eq!(outcome.fbtrace_id.as_deref(), Some("AbC"));
    assert_eq!(
        outcome.message,
        "Graph answered HTTP 200: success, trace AbC"
    );
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    let (head, body) = requests[0]
        .split_once("\r\n\r\n")
        .expect("a head and a body");
    assert!(
        head.starts_with("POST /v23.0/106540352242922/register HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(
        head.contains(&format!("authorization: Bearer {TOKEN}\r\n")),
        "{head}"
    );
    assert!(!head.contains("accept-encoding"), "{head}");
    assert_eq!(
        body,
        format!(r#"{{"messaging_product":"whatsapp","pin":"{PIN}"}}"#)
    );
}

#[tokio::test]
async fn a_read_has_no_body() {
    let body = r#"{"status":"CONNECTED","platform_type":"CLOUD_API"}"#;
    let server = Server::answering(http("200 OK", "", body));
    assert_eq!(read(&server.url).await.state, RegistrationState::Registered);
    let requests = server.requests();
    assert!(
        requests[0].starts_with("GET /v23.0/106540352242922?fields=id,display_phone_number,"),
        "{requests:?}"
    );
    assert!(!requests[0].contains("content-"), "{requests:?}");
}

#[tokio::test]
async fn a_refused_connection_sent_nothing() {
    let url = refusing();
    let outcome = register(&url).await;
    assert_eq!(outcome.reason, Reason::GraphUnreachable, "{outcome:?}");
    assert_eq!((outcome.http_status, &outcome.error), (None, &None));
    assert!(
        outcome.message.starts_with(&format!(
            "no connection to {}: ",
            url.origin().ascii_serialization()
        )),
        "{outcome:?}"
    );
    assert!(
        outcome.message.contains("Connection refused"),
        "{outcome:?}"
    );
    assert_eq!(
        read(&url).await.state,
        RegistrationState::Wait(Reason::GraphUnreachable)
    );
}

#[tokio::test]
async fn an_unknown_host_sent_nothing() {
    let url = "https://graph.invalid".parse().expect("a URL");
    let outcome = register(&url).await;
    assert_eq!(outcome.reason, Reason::GraphUnreachable, "{outcome:?}");
}

#[tokio::test]
async fn a_failed_tls_handshake_sent_nothing() {
    let server = Server::answering("this is not TLS\r\n\r\n".to_owned());
    let mut url = server.url.clone();
    url.set_scheme("https").expect("a scheme that fits");
    // The server's read of the request ends with the client's end of the connection at the latest: after a third of this.
    let mut settings = settings(&url);
    settings.timeout = Duration::from_secs(6);
    let client = GraphClient::new(&settings).expect("a client");
    let outcome = register_with(&client, &inputs()).await;
    assert_eq!(outcome.reason, Reason::GraphUnreachable, "{outcome:?}");
}

#[tokio::test]
async fn no_connection_is_used_again() {
    let answer = http("200 OK", "", r#"{"success":true}"#);
    let server = Server::start(move |stream| {
        let _ = stream.write_all(answer.as_bytes());
        // It stays open, as with a server that keeps connections; but nobody reads from it any more.
        std::mem::forget(stream.try_clone());
    });
    let client = client(&server.url);
    for _ in 0..2 {
        let outcome = register_with(&client, &inputs()).await;
        assert_eq!(outcome.reason, Reason::RegistrationSucceeded, "{outcome:?}");
    }
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_connection_closed_after_the_request_leaves_the_outcome_open() {
    let server = Server::start(|_| ());
    let outcome = register(&server.url).await;
    assert_eq!(outcome.reason, Reason::OutcomeUnknown, "{outcome:?}");
    assert!(
        outcome
            .message
            .starts_with("no answer from http://127.0.0.1:"),
        "{outcome:?}"
    );
    assert_eq!(server.requests().len(), 1, "no second POST");
    assert_eq!(
        read(&server.url).await.state,
        RegistrationState::Wait(Reason::GraphUnavailable)
    );
}

#[tokio::test]
async fn a_slow_server_leaves_the_outcome_open() {
    let server = Server::start(|stream| {
        // Until the client hangs up.
        let _ = stream.read(&mut [0; 1]);
    });
    let mut settings = settings(&server.url);
    settings.timeout = Duration::from_millis(600);
    let client = GraphClient::new(&settings).expect("a client");
    let outcome = register_with(&client, &inputs()).await;
    assert_eq!(outcome.reason, Reason::OutcomeUnknown, "{outcome:?}");
    assert!(outcome.message.contains("timed out"), "{outcome:?}");
    assert_eq!(server.requests().len(), 1, "no second POST");
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_the_outcome_open() {
    let server =
        Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"succ".to_owned());
    let outcome = register(&server.url).await;
    assert_eq!(outcome.reason, Reason::OutcomeUnknown, "{outcome:?}");
    assert_eq!(outcome.http_status, Some(200));
    assert!(
        outcome
            .message
            .starts_with("Graph answered HTTP 200 with a body that broke off: "),
        "{outcome:?}"
    );
    assert_eq!(
        read(&server.url).await.state,
        RegistrationState::Wait(Reason::GraphUnavailable)
    );
}

#[tokio::test]
async fn an_endless_body_is_cut() {
    let body = format!(
        r#"{{"success":true,"padding":"{}"}}"#,
        "x".repeat(MAX_BODY_BYTES)
    );
    let server = Server::answering(http("200 OK", "", &body));
    let outcome = register(&server.url).await;
    assert_eq!(outcome.reason, Reason::OutcomeUnknown, "{outcome:?}");
    assert_eq!(
        outcome.message,
        "Graph answered HTTP 200 with a body that is longer than 64 KiB"
    );
}

#[tokio::test]
async fn a_body_of_just_the_limit_is_read() {
    let (start, end) = (r#"{"success":true,"padding":""#, r#""}"#);
    let body = format!(
        "{start}{}{end}",
        "x".repeat(MAX_BODY_BYTES - start.len() - end.len())
    );
    let server = Server::answering(http("200 OK", "", &body));
    assert_eq!(
        register(&server.url).await.reason,
        Reason::RegistrationSucceeded
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::answering(http("200 OK", "", r#"{"success":true}"#));
    for status in [
        "301 Moved",
        "302 Found",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let server = Server::answering(http(
            status,
            &format!("location: {}\r\n", elsewhere.url),
            "",
        ));
        let outcome = register(&server.url).await;
        assert_eq!(outcome.reason, Reason::OutcomeUnknown, "{outcome:?}");
        assert_eq!(
            read(&server.url).await.state,
            RegistrationState::Wait(Reason::GraphUnavailable)
        );
    }
    assert_eq!(elsewhere.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn no_text_gives_the_proof_or_the_token_away() {
    let mut inputs = inputs();
    inputs.app_secret = Some("an app secret".into());
    let proof = inputs.appsecret_proof().expect("an app secret is set");
    let closing = Server::start(|_| ());
    for url in [refusing(), closing.url.clone()] {
        let outcome = register_with(&client(&url), &inputs).await;
        let text = format!("{outcome:?}");
        assert!(
            !text.contains(secrecy::ExposeSecret::expose_secret(&proof)),
            "{text}"
        );
        assert!(
            !text.contains("appsecret_proof") && !text.contains(TOKEN),
            "{text}"
        );
    }
}

#[tokio::test]
async fn inputs_that_make_no_request_send_nothing() {
    let server = Server::answering(http("200 OK", "", r#"{"success":true}"#));
    let mut inputs = inputs();
    inputs.token = "two\nlines".into();
    let outcome = register_with(&client(&server.url), &inputs).await;
    assert_eq!(outcome.reason, Reason::GraphUnreachable, "{outcome:?}");
    assert_eq!(server.requests(), Vec::<String>::new());
}

#[test]
fn base_urls_are_checked() {
    let result = |url: &str, allow_insecure| {
        let url = url.parse().expect("a URL");
        GraphClient::new(&GraphSettings {
            allow_insecure,
            ..settings(&url)
        })
        .map(|_| ())
        .map_err(|error| error.to_string())
    };
    for good in [
        "https://graph.facebook.com",
        "https://proxy.example/graph/",
        "http://localhost:1",
        "http://127.1.2.3",
        "http://[::1]:80",
    ] {
        assert_eq!(result(good, false), Ok(()), "{good}");
    }
    assert_eq!(result("http://graph.example", true), Ok(()));
    for (bad, why) in [
        (
            "http://graph.example",
            "plain http would send tokens and PINs unencrypted; write https://, or set --allow-insecure-graph",
        ),
        (
            "http://localhost.example",
            "plain http would send tokens and PINs unencrypted; write https://, or set --allow-insecure-graph",
        ),
        (
            "ftp://graph.example",
            "its scheme cannot be used; write https:// and a host",
        ),
        (
            "data:text/plain,x",
            "its scheme cannot be used; write https:// and a host",
        ),
        (
            "https://user@graph.example",
            "it holds a user name or a password; write it without",
        ),
        (
            "https://:secret@graph.example",
            "it holds a user name or a password; write it without",
        ),
        (
            "https://graph.example/?a=b",
            "it has a query or a fragment; write only scheme, host, port and path",
        ),
        (
            "https://graph.example/#a",
            "it has a query or a fragment; write only scheme, host, port and path",
        ),
    ] {
        assert_eq!(
            result(bad, false),
            Err(format!("the Graph base URL cannot be used: {why}")),
            "{bad}"
        );
    }
}

#[test]
fn a_timeout_of_nothing_is_refused() {
    let url: Url = "https://graph.facebook.com".parse().expect("a URL");
    let settings = GraphSettings {
        timeout: Duration::ZERO,
        ..settings(&url)
    };
    assert!(matches!(
        GraphClient::new(&settings),
        Err(GraphClientError::Timeout)
    ));
}
