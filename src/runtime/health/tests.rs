//! The endpoints over real HTTP.

use std::sync::atomic::AtomicU64;
use std::time::Instant;

use http::header::CONTENT_LENGTH;
use jiff::Timestamp;
use kube::core::DeserializeGuard;
use testkit::builders::resource;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::config::MetricsPerNumber;
use crate::memory::{Clock, WatchFault, WatchId};

const DEADLINE: Duration = Duration::from_secs(10);

struct Server {
    address: SocketAddr,
    watches: Arc<WatchStates>,
    /// The seconds of the clock that signs of life are measured by.
    seconds: Arc<AtomicU64>,
    liveness: Liveness,
    readiness: Readiness,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), HealthError>>,
}

async fn start() -> Server {
    start_with(0).await
}

/// A server of a leader with so many numbers.
async fn start_with(numbers: usize) -> Server {
    let listener = bind(([127, 0, 0, 1], 0).into())
        .await
        .expect("a free port on 127.0.0.1");
    let address = listener
        .local_addr()
        .expect("a bound listener has an address");
    let watches = [WatchId::resources(Some("shop")), WatchId::secrets(None)];
    let seconds = Arc::new(AtomicU64::new(0));
    let (began, passed) = (Instant::now(), Arc::clone(&seconds));
    let clock = Clock {
        monotonic: Arc::new(move || began + Duration::from_secs(passed.load(Ordering::SeqCst))),
        ..Clock::default()
    };
    let liveness = Liveness {
        pulses: Arc::new(Pulses::new(watches.clone(), clock)),
        ending: CancellationToken::new(),
    };
    let watches = Arc::new(WatchStates::new(watches, Clock::default()));
    let readiness = Readiness::new(Arc::clone(&watches));
    let number = Arc::new(DeserializeGuard(Ok(resource("support", 0))));
    let numbers = vec![number; numbers];
    let all = MetricsPerNumber::All;
    let metrics = Metrics::new(8, all, Box::new(move || numbers.clone()), Timestamp::now);
    metrics.set_leader(true);
    let metrics = Arc::new(metrics);
    let health = Health {
        liveness: liveness.clone(),
        readiness: readiness.clone(),
        metrics,
    };
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(serve(listener, health, async {
        let _ = stopped.await;
    }));
    Server {
        address,
        watches,
        seconds,
        liveness,
        readiness,
        stop,
        task,
    }
}

impl Server {
    async fn get(&self, path: &str) -> (u16, String, String) {
        let url = format!("http://{}{path}", self.address);
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(DEADLINE)
            .build()
            .expect("a client");
        let response = client.get(url).send().await.expect("an answer");
        let media_type = response.headers().get(CONTENT_TYPE);
        let media_type =
            media_type.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let status = response.status().as_u16();
        (
            status,
            media_type.unwrap_or_default(),
            response.text().await.expect("a body"),
        )
    }

    async fn end(self) -> Result<(), HealthError> {
        self.stop.send(()).expect("the server runs");
        timeout(DEADLINE, self.task)
            .await
            .expect("the server ends in time")
            .expect("the server does not panic")
    }
}

#[tokio::test]
async fn is_alive_from_the_start_and_ready_when_every_watch_has_listed() {
    let server = start().await;
    assert_eq!(server.get("/livez").await.0, 200);
    let (status, _, text) = server.get("/readyz").await;
    let both = "waiting for watches: Secret in all namespaces, WhatsAppPhoneNumber in shop\n";
    assert_eq!((status, text.as_str()), (503, both));
    server.watches.listed(&WatchId::secrets(None));
    let (status, _, text) = server.get("/readyz").await;
    let one = "waiting for watches: WhatsAppPhoneNumber in shop\n";
    assert_eq!((status, text.as_str()), (503, one));
    server.watches.listed(&WatchId::resources(Some("shop")));
    let (status, _, text) = server.get("/readyz").await;
    assert_eq!((status, text.as_str()), (200, "ok\n"));
    server.readiness.shut_down();
    let (status, _, text) = server.get("/readyz").await;
    assert_eq!((status, text.as_str()), (503, "shutting down\n"));
    assert_eq!(server.get("/livez").await.0, 200);
    server.end().await.expect("a clean end");
}

#[tokio::test]
async fn is_dead_when_something_has_not_moved_for_five_minutes() {
    let server = start().await;
    let pulses = &server.liveness.pulses;
    server.seconds.store(299, Ordering::SeqCst);
    // That no watch brings anything says nothing.
    server
        .watches
        .failed(&WatchId::secrets(None), WatchFault::Failed);
    assert_eq!(server.get("/livez").await.0, 200);
    pulses.beat(&Mover::Runtime);
    pulses.beat(&Mover::Watch(WatchId::secrets(None)));
    server.seconds.store(300, Ordering::SeqCst);
    let (status, _, text) = server.get("/livez").await;
    let still = "stands still: the watch of WhatsAppPhoneNumber in shop for 300 s\n";
    assert_eq!((status, text.as_str()), (503, still));
    pulses.beat(&Mover::Watch(WatchId::resources(Some("shop"))));
    assert_eq!(server.get("/livez").await.0, 200);
    server.seconds.store(1000, Ordering::SeqCst);
    assert_eq!(server.get("/livez").await.0, 503);
    // Watches end before the calls in flight, which may take minutes.
    server.liveness.ending.cancel();
    assert_eq!(server.get("/livez").await.0, 200);
    server.end().await.expect("a clean end");
}

#[tokio::test]
async fn shows_metrics_and_nothing_else() {
    let server = start().await;
    let (status, media_type, text) = server.get("/metrics").await;
    assert_eq!((status, media_type.as_str()), (200, metrics::CONTENT_TYPE));
    assert!(text.ends_with("# EOF\n"), "{text}");
    for path in ["/", "/healthz", "/metrics/", "/readyz/x"] {
        assert_eq!(server.get(path).await.0, 404, "{path}");
    }
    server.end().await.expect("a clean end");
}

#[tokio::test]
async fn many_numbers_are_sent_while_they_are_written() {
    let server = start_with(20_000).await;
    let url = format!("http://{}/metrics", server.address);
    let client = reqwest::Client::builder().no_proxy().build();
    let request = client.expect("a client").get(url).timeout(DEADLINE);
    let response = request.send().await.expect("an answer");
    assert_eq!(response.headers().get(CONTENT_LENGTH), None);
    let text = response.text().await.expect("a body");
    let states = text.matches("phone_number_state{").count();
    assert_eq!((states, text.ends_with("# EOF\n")), (20_000, true));
    server.end().await.expect("a clean end");
}

#[tokio::test]
async fn a_client_that_reads_no_further_holds_up_nobody() {
    let server = start_with(200_000).await;
    let mut slow = TcpStream::connect(server.address)
        .await
        .expect("a connection");
    slow.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .expect("a request is sent");
    slow.read_u8().await.expect("the answer begins");
    assert_eq!(server.get("/livez").await.0, 200);
    server.end().await.expect("a clean end");
}

#[tokio::test]
async fn a_client_that_never_finishes_its_request_does_not_hold_up_the_end() {
    let server = start().await;
    let mut slow = TcpStream::connect(server.address)
        .await
        .expect("a connection");
    slow.write_all(b"GET /livez HTTP/1.1\r\nHost: x")
        .await
        .expect("half a request is sent");
    assert_eq!(server.get("/livez").await.0, 200);
    server.end().await.expect("a clean end");
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let server = start().await;
    let error = bind(server.address)
        .await
        .expect_err("the address is taken")
        .to_string();
    assert!(
        error.contains(&server.address.to_string()) && error.contains("--bind-address"),
        "{error}"
    );
    server.end().await.expect("a clean end");
}
