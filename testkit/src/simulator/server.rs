//! The Graph side over HTTP: takes a request through the world and puts the reply on the wire.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use futures::{StreamExt, stream};
use hyper::body::{Frame, SizeHint};
use tokio_util::sync::CancellationToken;

use super::answer::{Answer, Delivery, Reply};
use super::connection::{HangUp, Peer};
use super::control;
use super::plan::{CallResult, Hold, Plan};
use super::world::{InFlight, Ticket, World};

/// The largest request that is read; a backup may be large.
const LARGEST_REQUEST: usize = 64 << 20;

/// What handlers share.
#[derive(Clone, Debug)]
pub struct App {
    /// The numbers.
    pub world: Arc<World>,
    /// Ends everything that is under way.
    pub stop: CancellationToken,
}

/// Graph on every path but those of the control endpoint.
pub fn router(app: App) -> Router {
    Router::new()
        .nest("/_simulator", control::router())
        .fallback(graph)
        .layer(DefaultBodyLimit::disable())
        .with_state(app)
}

async fn graph(State(app): State<App>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LARGEST_REQUEST).await else {
        return hang_up();
    };
    let peer = parts.extensions.get::<Peer>();
    let peer = peer
        .map(|Peer(stream)| Arc::downgrade(stream))
        .unwrap_or_default();
    let (ticket, in_flight) = match app.world.arrive(&parts, &body, peer) {
        Ok(arrived) => arrived,
        Err(answer) => return response(answer, None, None),
    };
    let identity = (ticket.target.version.clone(), ticket.trace.clone());
    // In a task of its own: Graph goes on when the client has gone.
    let stop = app.stop.clone();
    let work = async move { stop.run_until_cancelled_owned(run(app.world, ticket)).await };
    match tokio::spawn(work).await {
        Ok(Some(Reply::Answer(answer))) => response(answer, Some(identity), Some(in_flight)),
        Ok(Some(Reply::HangUp) | None) | Err(_) => hang_up(),
    }
}

async fn run(world: Arc<World>, ticket: Ticket) -> Reply {
    tokio::time::sleep(ticket.latency).await;
    hold(&world, &ticket, ticket.plan.before).await;
    let natural = ticket.plan.acts.then(|| world.act(&ticket));
    hold(&world, &ticket, ticket.plan.after).await;
    let reply = apply_outcome(&ticket.plan, natural);
    world.finish(&ticket, &reply);
    reply
}

async fn hold(world: &World, ticket: &Ticket, hold: Hold) {
    match hold {
        Hold::No => {}
        Hold::For(time) => tokio::time::sleep(time).await,
        // An error means that the number was deleted: nobody is left to release it.
        Hold::UntilReleased => drop(world.hold(ticket).await),
    }
}

fn apply_outcome(plan: &Plan, natural: Option<Answer>) -> Reply {
    match (&plan.result, natural) {
        (CallResult::Natural(delivery), Some(answer)) => Reply::Answer(answer.delivered(*delivery)),
        (CallResult::Scripted(answer), _) => Reply::Answer(answer.clone()),
        (CallResult::HangUp, _) | (CallResult::Natural(_), None) => Reply::HangUp,
    }
}

fn hang_up() -> Response {
    let mut response = Response::default();
    response.extensions_mut().insert(HangUp);
    response
}

fn response(
    answer: Answer,
    identity: Option<(String, String)>,
    in_flight: Option<InFlight>,
) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or_default();
    let headers = response.headers_mut();
    if let Some((version, trace)) = identity.filter(|_| answer.from_graph) {
        let request_id = trace.replace("Asim", "Areq");
        let own = [
            ("facebook-api-version", version),
            ("x-fb-trace-id", trace),
            ("x-fb-request-id", request_id),
        ];
        let said = |name: &str| answer.headers.iter().any(|(said, _)| said == name);
        let own = own.iter().filter(|(name, _)| !said(name));
        headers.extend(own.filter_map(|(name, value)| pair(name, value)));
    }
    headers.extend(
        answer
            .headers
            .iter()
            .filter_map(|(name, value)| pair(name, value)),
    );
    if answer.delivery != Delivery::Whole {
        headers.insert(header::CONTENT_LENGTH, answer.body.len().into());
    }
    *response.body_mut() = Body::new(Guarded {
        body: body(answer),
        _in_flight: in_flight,
    });
    response
}

/// A header, unless HTTP cannot carry it: a token in an echoed error may hold anything.
fn pair(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    Some((name.parse().ok()?, value.parse().ok()?))
}

fn body(answer: Answer) -> Body {
    match answer.delivery {
        Delivery::Whole => Body::from(answer.body),
        Delivery::Cut(bytes) => cut(answer.body, bytes),
        Delivery::Trickle(rate) => trickle(answer.body, rate),
    }
}

/// The first bytes, then an error that makes hyper close the connection.
fn cut(mut body: Vec<u8>, bytes: Option<usize>) -> Body {
    let whole = body.len();
    body.truncate(bytes.unwrap_or(whole / 2).min(whole.saturating_sub(1)));
    let end = stream::once(async {
        // Hyper sends what it has when the body has nothing more for the moment.
        tokio::task::yield_now().await;
        Err(io::Error::other("told to cut the body"))
    });
    Body::from_stream(stream::iter([Ok(Bytes::from(body))]).chain(end))
}

fn trickle(body: Vec<u8>, bytes_per_second: u32) -> Body {
    let pause = Duration::from_secs(1) / bytes_per_second.max(1);
    Body::from_stream(stream::iter(body).then(move |byte| async move {
        tokio::time::sleep(pause).await;
        Ok::<_, io::Error>(Bytes::from(vec![byte]))
    }))
}

/// A body that keeps its call in flight until its end.
struct Guarded {
    body: Body,
    _in_flight: Option<InFlight>,
}

// === impl Guarded ===

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
