//! Accepts connections and speaks HTTP/1.1 on them; below axum, as axum cannot close a
//! connection without an answer.

use std::convert::Infallible;
use std::io;
use std::net::TcpStream as StdStream;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// In the extensions of each request: the connection it came in on.
#[derive(Clone, Debug)]
pub struct Peer(pub Arc<StdStream>);

/// In the extensions of a response: close the connection instead of sending it.
#[derive(Clone, Copy, Debug)]
pub struct HangUp;

/// Serves until told to stop.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        // A failed accept is the client's loss; the next one may do.
        if let Ok((stream, _)) = accepted {
            let (router, stop) = (router.clone(), stop.clone());
            tokio::spawn(async move { stop.run_until_cancelled(converse(stream, router)).await });
        }
    }
}

/// Serves one connection. How it ends is seen by the client and counted elsewhere.
async fn converse(stream: TcpStream, router: Router) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    let peer = Peer(Arc::new(stream.try_clone()?));
    let stream = TcpStream::from_std(stream)?;
    let service = service_fn(move |request| answer(request, peer.clone(), router.clone()));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    connection.await.map_err(io::Error::other)
}

/// An error from here makes hyper close the connection without a byte.
async fn answer<B>(request: Request<B>, peer: Peer, router: Router) -> Result<Response, io::Error>
where
    B: hyper::body::Body<Data = axum::body::Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(peer);
    let answered: Result<Response, Infallible> =
        TowerToHyperService::new(router).call(request).await;
    let Ok(response) = answered;
    match response.extensions().get::<HangUp>() {
        Some(HangUp) => Err(io::Error::other("told to hang up")),
        None => Ok(response),
    }
}
