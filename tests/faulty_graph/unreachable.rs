//! Connections to Graph that do not come about: TLS, DNS, proxies, closed ports. Nothing was sent, so nothing is spent;
//! the number waits, says why, and is registered as soon as the address works.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use futures::future::join_all;
use operator_core::api::conditions;
use tokio::io::copy_bidirectional;
use tokio::net::TcpSocket;

use testkit::bed::{Bed, is, message};
use testkit::operator::Operator;

/// A way not to reach Graph.
struct Fault {
    name: &'static str,
    /// The base URL.
    url: String,
    /// The environment of the operator.
    environment: Vec<String>,
    /// What the message names, for the person who has to mend it; one of these, in lower case.
    names: &'static [&'static str],
}

/// Every fault; their servers live as long as the test.
fn faults(bed: &Bed) -> Vec<Fault> {
    let fault = |name, url: String, names| Fault {
        name,
        url,
        environment: Vec::new(),
        names,
    };
    let https = |port: u16| format!("https://127.0.0.1:{port}");
    let behind = |name, proxy: u16, names| Fault {
        environment: vec![
            format!("HTTPS_PROXY=http://127.0.0.1:{proxy}"),
            "NO_PROXY=127.0.0.1".to_owned(),
        ],
        ..fault(name, "https://graph.invalid".to_owned(), names)
    };
    vec![
        fault(
            "plain-http",
            bed.simulator.base_url().replace("http:", "https:"),
            &["message", "corrupt"],
        ),
        // The API server's certificate is signed by itself.
        fault(
            "self-signed",
            bed.control_plane.url().to_owned(),
            &["certificate"],
        ),
        fault(
            "hangs-up-in-handshake",
            https(server(hang_up)),
            &["eof", "closed", "reset"],
        ),
        fault(
            "answers-nonsense",
            https(server(answer_nonsense)),
            &["message", "corrupt"],
        ),
        fault(
            "silent",
            https(server(say_nothing)),
            &["timed out", "timeout"],
        ),
        fault("refused", https(closed_port()), &["refused"]),
        fault(
            "no-such-host",
            "https://graph.invalid".to_owned(),
            &["dns", "lookup", "timed out"],
        ),
        behind(
            "proxy-refuses",
            server(refuse_connect),
            &["tunnel", "proxy", "403"],
        ),
        behind(
            "proxy-hangs-up",
            server(hang_up),
            &["tunnel", "proxy", "closed", "eof", "reset"],
        ),
        behind("proxy-refused", closed_port(), &["refused"]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_connection_costs_no_attempt() {
    let names: Vec<_> = faults(&Bed::new().await)
        .iter()
        .map(|fault| fault.name)
        .collect();
    join_all(names.iter().map(|name| suffer(name))).await;
}

/// One fault, with a namespace, a simulator and an operator of its own.
async fn suffer(name: &str) {
    let bed = Bed::new().await;
    let mut faults = faults(&bed);
    faults.retain(|fault| fault.name == name);
    let fault = faults.pop().expect("the fault");
    bed.secrets().await;
    bed.declare(name, "9001").await;
    let url = format!("--graph-base-url={}", fault.url);
    let args = bed.args(&[&url, "--graph-timeout=3s"]);
    let environment: Vec<&str> = fault.environment.iter().map(String::as_str).collect();
    let operator = Operator::start_in(&bed.kubeconfig, &environment, &args).await;
    let again = |status: &operator_core::api::WhatsAppPhoneNumberStatus| {
        status.read_failures >= 2 && is(status, "Reconciling", "True", "GraphUnreachable")
    };
    let number = bed.until(name, "unreachable, and tried again", again).await;
    let text = message(&number, conditions::READY).to_lowercase();
    assert!(
        fault.names.iter().any(|word| text.contains(word)),
        "{name}: the message does not say what is wrong: {text}"
    );
    let status = number.status.expect("a status");
    assert!(is(&status, "Failed", "True", "GraphUnreachable"), "{name}");
    assert!(status.attempts.is_empty(), "{name}: {:?}", status.attempts);
    assert!(status.next_attempt_time.is_some(), "{name}");
    assert!(bed.simulator.all().is_empty(), "{name}: something was sent");
    let (exit, log) = operator.terminate().await;
    assert_eq!(exit, "0");
    assert!(!log.contains("panicked at"), "{name}: {log}");

    let _operator = bed.operator(&[]).await;
    let number = bed.until_registered(name, "RegistrationSucceeded").await;
    assert_eq!(number.status.expect("a status").attempts.len(), 1, "{name}");
    assert_eq!(bed.posts("9001"), 1, "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_refused_between_read_and_call_costs_no_attempt() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let gate = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = gate.local_addr().expect("an address");
    let graph = bed.simulator.base_url().replace("http://", "");
    let through = |mut client: tokio::net::TcpStream| {
        let graph = graph.clone();
        tokio::spawn(async move {
            let mut graph = tokio::net::TcpStream::connect(graph).await.expect("Graph");
            // How it ends is the client's affair.
            let _ = copy_bidirectional(&mut client, &mut graph).await;
        })
    };
    let url = format!("--graph-base-url=http://{address}");
    let _operator = bed.operator(&[&url]).await;
    bed.declare("cut-off", "9002").await;
    let (read, _) = gate.accept().await.expect("the read");
    drop(gate);
    through(read);
    let number = bed.until_waiting("cut-off", "GraphUnreachable").await;
    let attempts = number.status.expect("a status").attempts;
    assert_eq!(attempts.len(), 1, "{attempts:?}");
    assert!(!attempts[0].counts(), "{attempts:?}");
    assert_eq!(bed.posts("9002"), 0);

    let gate = tokio::net::TcpListener::bind(address)
        .await
        .expect("the same port");
    let serve = async {
        while let Ok((client, _)) = gate.accept().await {
            through(client);
        }
    };
    let registered = bed.until_registered("cut-off", "RegistrationSucceeded");
    let number = tokio::select! {
        number = registered => number,
        () = serve => unreachable!("it serves on"),
    };
    let attempts = number.status.expect("a status").attempts;
    let counted = attempts.iter().filter(|attempt| attempt.counts()).count();
    assert_eq!((counted, bed.posts("9002")), (1, 1), "{attempts:?}");
}

/// A server on this machine that does this with each connection; its port.
fn server(serve: fn(&mut TcpStream)) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || serve(&mut stream));
        }
    });
    port
}

/// A port that nobody listens on: it stays taken, or another test's server could get it.
fn closed_port() -> u16 {
    let socket = TcpSocket::new_v4().expect("a socket");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(any).expect("a free port");
    let port = socket.local_addr().expect("an address").port();
    std::mem::forget(socket);
    port
}

fn hang_up(stream: &mut TcpStream) {
    let _ = stream.read(&mut [0; 1024]);
}

fn answer_nonsense(stream: &mut TcpStream) {
    let _ = stream.read(&mut [0; 1024]);
    let _ = stream.write_all(b"220 mail.example.com ESMTP\r\n\x00\x01\x02\xff");
}

/// Until the client has had enough.
fn say_nothing(stream: &mut TcpStream) {
    while matches!(stream.read(&mut [0; 1024]), Ok(1..)) {}
}

fn refuse_connect(stream: &mut TcpStream) {
    let _ = stream.read(&mut [0; 1024]);
    let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
}
