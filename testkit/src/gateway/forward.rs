//! Takes a request on to its server and brings the answer back as it comes.

use std::io;

use axum::body::{Body, Bytes};
use axum::http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use axum::http::request::Parts;
use axum::response::Response;

use super::Side;

/// What is behind a gate.
pub enum Upstream {
    /// The API server.
    ApiServer(kube::Client),
    /// The Graph simulator.
    Graph {
        /// Its base URL.
        base_url: String,
        /// Makes one request on one connection.
        client: reqwest::Client,
    },
}

impl Upstream {
    /// The Graph simulator with this base URL.
    pub fn graph(base_url: String) -> Self {
        let client = reqwest::Client::builder()
            .no_proxy()
            .retry(reqwest::retry::never())
            .pool_max_idle_per_host(0)
            .build();
        Self::Graph {
            base_url,
            client: client.expect("a client for the gate"),
        }
    }

    /// Which one it is.
    pub fn side(&self) -> Side {
        match self {
            Self::ApiServer(_) => Side::ApiServer,
            Self::Graph { .. } => Side::Graph,
        }
    }

    /// Makes the request; an error where the server gave no answer.
    pub async fn forward(&self, mut parts: Parts, body: Bytes) -> io::Result<Response> {
        // These are the connection's, not the request's.
        for header in [HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
            parts.headers.remove(header);
        }
        match self {
            Self::ApiServer(client) => {
                parts.headers.remove(AUTHORIZATION);
                let request = http::Request::from_parts(parts, kube::client::Body::from(body));
                let answer = client.send(request).await.map_err(io::Error::other)?;
                Ok(answer.map(Body::new))
            }
            Self::Graph { base_url, client } => {
                let url = format!("{base_url}{}", parts.uri);
                let request = client.request(parts.method, url).headers(parts.headers);
                let answer = request.body(body).send().await;
                let mut answer = answer.map_err(io::Error::other)?;
                let (status, headers) = (answer.status(), std::mem::take(answer.headers_mut()));
                let body = answer.bytes().await.map_err(io::Error::other)?;
                let mut response = Response::new(Body::from(body));
                (*response.status_mut(), *response.headers_mut()) = (status, headers);
                Ok(response)
            }
        }
    }
}
