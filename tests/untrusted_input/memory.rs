//! How much memory untrusted input can take. Each case runs in a process of its own, which says by how much its peak grew.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use operator_core::api::Reason;
use operator_core::api::{REGISTER_REQUESTED_AT, WhatsAppPhoneNumber};
use operator_core::credentials::CallInputs;
use operator_core::graph::{Call, RegisterOutcome};
use testkit::builders::{inputs, spec};
use testkit::untrusted_input::player::Player;
use whatsapp_operator::config::GraphSettings;
use whatsapp_operator::reconcile::GraphClient;

/// Where the process of a case finds its server.
const URL: &str = "UNTRUSTED_INPUT_URL";

/// The most memory that this process had at a time, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number
        .and_then(|number| number.parse().ok())
        .expect("a peak in KiB")
}

/// By how much the peak grew, as the process of a case says it.
fn growth(case: &str, url: &str) -> u64 {
    let program = std::env::current_exe().expect("the test's own program");
    let output = Command::new(program)
        .args(["--exact", "--ignored", "--nocapture"])
        .arg(format!("untrusted_input::memory::{case}"))
        .env(URL, url)
        .output()
        .expect("the test's own program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let grown = text.lines().find_map(|line| line.split_once("grown by "));
    let grown = grown.and_then(|(_, number)| number.trim().parse().ok());
    grown.unwrap_or_else(|| {
        panic!(
            "{case} said nothing: {text} {}",
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

/// Answers `GET` and `POST` with a head and then a piece again and again, until nobody listens any more.
fn server(head: &'static str, piece: Vec<u8>, times: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = serve(&mut stream, head, &piece, times);
        }
    });
    format!("http://127.0.0.1:{port}")
}

fn serve(stream: &mut TcpStream, head: &str, piece: &[u8], times: usize) -> std::io::Result<()> {
    let _ = stream.read(&mut [0; 4096])?;
    stream.write_all(head.as_bytes())?;
    for _ in 0..times {
        stream.write_all(piece)?;
    }
    Ok(())
}

async fn register(url: &str) -> RegisterOutcome {
    let settings = GraphSettings {
        base_url: url.parse().expect("a URL"),
        allow_insecure: false,
        timeout: Duration::from_secs(20),
    };
    let (spec, inputs) = (spec(), inputs());
    let client = GraphClient::new(&settings).expect("a client");
    let call = Call {
        spec: &spec,
        version: "v23.0",
        inputs: &inputs,
    };
    client.register(&call).await
}

/// 64 KiB of a body are read, and some more stand in buffers.
#[test]
fn a_body_of_any_length_takes_little_memory() {
    let huge = "HTTP/1.1 200 OK\r\ncontent-length: 10485760\r\n\r\n";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    for (what, url) in [
        ("10 MB at once", server(huge, vec![b' '; 1 << 20], 10)),
        (
            "one byte at a time",
            server(chunked, b"1\r\n{\r\n".to_vec(), 10 << 20),
        ),
        (
            "one huge chunk",
            server(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nA00000\r\n",
                vec![b'{'; 1 << 20],
                10,
            ),
        ),
        (
            "an endless head",
            server(
                "HTTP/1.1 200 OK\r\nx-fb-trace-id: ",
                vec![b'a'; 1 << 20],
                10,
            ),
        ),
    ] {
        let grown = growth("reads_a_body", &url);
        println!("{what}: {grown} KiB");
        assert!(grown < 4 * 1024, "{what} took {grown} KiB");
    }
}

#[tokio::test]
#[ignore = "a_body_of_any_length_takes_little_memory runs it"]
async fn reads_a_body() {
    let url = std::env::var(URL).expect("another test runs this one");
    // What any first call takes is not counted.
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
    register(&server(head, b"{}".to_vec(), 1)).await;
    let before = peak();
    let outcome = register(&url).await;
    assert_eq!(outcome.reason, Reason::OutcomeUnknown, "{outcome:?}");
    println!("grown by {}", peak() - before);
}

/// As much as the API server stores: a Secret of 1 MiB with 1,000 keys, and 256 KiB of annotations.
#[test]
fn the_largest_objects_take_little_memory() {
    for case in ["reads_a_large_secret", "decides_on_a_large_resource"] {
        let grown = growth(case, "");
        println!("{case}: {grown} KiB");
        assert!(grown < 12 * 1024, "{case} took {grown} KiB");
    }
}

#[test]
#[ignore = "the_largest_objects_take_little_memory runs it"]
fn reads_a_large_secret() {
    let value = "QUFB".repeat(349); // 1,047 bytes
    let pairs: Vec<String> = (0..1_000)
        .map(|at| format!("\"k{at}\":\"{value}\""))
        .collect();
    let json = format!(
        "{{\"data\":{{\"token\":\"RUFBdG9rZW4=\",\"pin\":\"MTIzNDU2\",{}}}}}",
        pairs.join(",")
    );
    let before = peak();
    let secret: Secret = serde_json::from_str(&json).expect("a Secret");
    let data = secret.data.expect("data");
    assert!(CallInputs::from_secrets(&spec(), |_| Some(&data)).is_ok());
    println!("grown by {}", peak() - before);
}

#[test]
#[ignore = "the_largest_objects_take_little_memory runs it"]
fn decides_on_a_large_resource() {
    let mut annotations = json!({REGISTER_REQUESTED_AT: "x".repeat(100_000)});
    annotations["example.com/large"] = "y".repeat(150_000).into();
    let json = json!({
        "apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppPhoneNumber",
        "metadata": {"name": "support", "generation": 1, "annotations": annotations}, "spec": spec(),
    })
    .to_string();
    // What the checks take is not counted.
    testkit::untrusted_input::schema::status_faults(&json!({}));
    let before = peak();
    let resource: WhatsAppPhoneNumber = serde_json::from_str(&json).expect("a resource");
    let mut player = Player::new(resource, Ok(inputs().digests(&spec())));
    let lost = RegisterOutcome::without_answer(Reason::OutcomeUnknown, "no answer");
    let read = operator_core::graph::response::read_outcome(
        &operator_core::graph::response::Exchange::Answered(
            operator_core::graph::response::Answer {
                status: 200,
                body: br#"{"platform_type": "NOT_APPLICABLE"}"#.to_vec(),
                ..Default::default()
            },
        ),
        operator_core::graph::ReadFields::All,
        &operator_core::credentials::Scrubber::new(&inputs()),
        player.now(),
    );
    let (_, called) = player.pass(&read, &lost);
    assert!(
        called,
        "the annotation is too long to count, and the number is not registered"
    );
    println!("grown by {}", peak() - before);
}
