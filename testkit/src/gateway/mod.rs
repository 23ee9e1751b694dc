//! Gates that the operator goes through, one to the API server and one to Graph. They understand what passes, tell a
//! [`Conduct`] of it, and do what that says: hold it up, lose it, refuse it, answer wrongly after it was done.
//!
//! The operator is the real program. It speaks plain HTTP to the gates; how it speaks TLS is tested elsewhere.

pub mod faults;
mod forward;
mod request;
mod watch;

pub use request::{Kind, Request};
pub use watch::{Change, Passage};

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use futures::future::{BoxFuture, FutureExt, ready};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use forward::Upstream;
use watch::Watches;

/// What becomes of everything that passes a gate. Each method may take its time; the request waits meanwhile.
pub trait Conduct: Send + Sync + 'static {
    /// A connection was accepted and nothing was read from it. Whether it is served.
    fn connected(&self, _: Side) -> BoxFuture<'_, bool> {
        ready(true).boxed()
    }

    /// A request has come and was not passed on.
    fn before<'a>(&'a self, _: &'a Request) -> BoxFuture<'a, Before> {
        ready(Before::Pass).boxed()
    }

    /// What goes to the server instead of what a write of the status carries, if anything does.
    fn rewritten(&self, _: &Request) -> Option<serde_json::Value> {
        None
    }

    /// The server has done what it was asked and answered so; the operator does not know yet.
    fn after<'a>(&'a self, _: &'a Request, _: StatusCode) -> BoxFuture<'a, After> {
        ready(After::Answer).boxed()
    }

    /// A watch brings a change.
    fn changed<'a>(&'a self, _: &'a Change) -> BoxFuture<'a, Passage> {
        ready(Passage::Deliver).boxed()
    }
}

/// Which server a gate is before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The API server: a connection carries many requests.
    ApiServer,
    /// Graph: a connection carries one call.
    Graph,
}

/// What becomes of a request that was not passed on yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// It goes to the server.
    Pass,
    /// The connection is closed; the server never sees it.
    Lose,
    /// It is answered with this status; the server never sees it.
    Refuse(u16),
    /// It is answered 429 and told to come again after so many seconds; the server never sees it.
    Throttle(u64),
}

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It goes to the operator.
    Answer,
    /// The connection is closed instead.
    Lose,
    /// This status goes to the operator instead.
    Lie(u16),
}

/// Everything passes.
pub struct Open;

impl Conduct for Open {}

/// A gate; dropping it closes it and every connection through it.
pub struct Gate {
    address: SocketAddr,
    watches: Arc<Watches>,
    _stop: DropGuard,
}

/// What the connections of a gate share.
struct Post {
    upstream: Upstream,
    conduct: Arc<dyn Conduct>,
    watches: Arc<Watches>,
    memory: request::Memory,
}

// === impl Gate ===

impl Gate {
    /// A gate to the API server that this client is for. It uses the client's own credentials, and no retries.
    pub async fn to_api_server(config: kube::Config, conduct: Arc<dyn Conduct>) -> Self {
        let mut config = config;
        config.default_retry = false;
        let client = Client::try_from(config).expect("a client for the gate");
        Self::open(Upstream::ApiServer(client), conduct).await
    }

    /// A gate to the Graph simulator with this base URL.
    pub async fn to_graph(base_url: String, conduct: Arc<dyn Conduct>) -> Self {
        Self::open(Upstream::graph(base_url), conduct).await
    }

    async fn open(upstream: Upstream, conduct: Arc<dyn Conduct>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stop, watches) = (CancellationToken::new(), Arc::new(Watches::default()));
        let post = Arc::new(Post {
            upstream,
            conduct,
            watches: Arc::clone(&watches),
            memory: request::Memory::default(),
        });
        let accept = accept(listener, post, stop.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept));
        Self {
            address,
            watches,
            _stop: stop.drop_guard(),
        }
    }

    /// Where the gate is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A copy of a kubeconfig that goes through the gate.
    pub fn kubeconfig(&self, original: &Path, server: &str) -> PathBuf {
        let text = std::fs::read_to_string(original).expect("a kubeconfig");
        let changed = text.replace(server, &self.url());
        assert_ne!(text, changed, "the kubeconfig names another server");
        let path = original.with_extension(format!("gate-{}", self.address.port()));
        std::fs::write(&path, changed).expect("a kubeconfig");
        path
    }

    /// Ends every watch as the API server does when what was asked for is too old: the operator lists anew.
    pub fn expire_watches(&self) {
        self.watches.expire();
    }

    /// Forgets everything before this version, as the API server does in time: also a watch that is only about to go on
    /// from there is told to list anew. What was kept from the operator before comes to light.
    pub fn forget_before(&self, version: u64) {
        self.watches.forget_before(version);
    }
}

async fn accept(listener: TcpListener, post: Arc<Post>, stop: CancellationToken) {
    while let Ok((stream, _)) = listener.accept().await {
        let post = Arc::clone(&post);
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            if post.conduct.connected(post.upstream.side()).await {
                // How a connection ends is the operator's to see.
                let _ = serve(stream, post).await;
            }
        }));
    }
}

async fn serve(stream: TcpStream, post: Arc<Post>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let service = service_fn(move |request| {
        let post = Arc::clone(&post);
        post.pass(request)
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    connection.await.map_err(io::Error::other)
}

// === impl Post ===

impl Post {
    /// Takes a request to the server and its answer back. An error makes hyper close the connection without a byte.
    async fn pass(self: Arc<Self>, request: hyper::Request<Incoming>) -> io::Result<Response> {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(Body::new(body), usize::MAX).await;
        let body = body.map_err(io::Error::other)?;
        let request = self.memory.understand(&parts, &body);
        match self.conduct.before(&request).await {
            Before::Pass => {}
            Before::Lose => return Err(lost()),
            Before::Refuse(code) => return Ok(failure(code)),
            Before::Throttle(seconds) => return Ok(throttle(seconds)),
        }
        let rewritten = self.conduct.rewritten(&request);
        let body = rewritten.map_or(body, |body| Bytes::from(body.to_string()));
        let since = request::version_asked_for(&parts.uri);
        let answer = Arc::clone(&self).forward(parts, body).await?;
        match self.conduct.after(&request, answer.status()).await {
            After::Answer if request.kind == Kind::Watch => {
                Ok(self.watches.guard(answer, since, Arc::clone(&self.conduct)))
            }
            After::Answer => Ok(answer),
            After::Lose => Err(lost()),
            After::Lie(code) => Ok(failure(code)),
        }
    }
}

impl Post {
    /// What has passed the gate is on its way: the server gets it even if the operator does not wait for the answer.
    async fn forward(self: Arc<Self>, parts: Parts, body: Bytes) -> io::Result<Response> {
        let forwarded = tokio::spawn(async move { self.upstream.forward(parts, body).await });
        forwarded.await.map_err(io::Error::other)?
    }
}

fn lost() -> io::Error {
    io::Error::other("told to lose it")
}

/// What the API server answers when it has too much to do.
fn throttle(seconds: u64) -> Response {
    let mut response = failure(429);
    let value = seconds.to_string().parse().expect("a header");
    response.headers_mut().insert("retry-after", value);
    response
}

/// What the API server answers when it fails.
fn failure(code: u16) -> Response {
    let reason = match code {
        // Without details: it is not said what was not found.
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "metadata": {},
        "message": "the gate was told to fail", "reason": reason, "code": code,
    });
    let mut response = Response::new(Body::from(status.to_string()));
    *response.status_mut() = StatusCode::from_u16(code).expect("a status");
    let json = "application/json".parse().expect("a header");
    response.headers_mut().insert("content-type", json);
    response
}
