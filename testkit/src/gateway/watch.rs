//! Watches, change by change.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::Conduct;

/// A change that a watch brings.
#[derive(Clone, Debug)]
pub struct Change {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
    pub kind: String,
    /// The object.
    pub object: Value,
    line: Bytes,
}

/// What becomes of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It goes to the operator.
    Deliver,
    /// It is lost; the next one goes to the operator.
    Skip,
    /// It goes to the operator, and then one that the watch has brought before.
    Replay,
    /// The watch ends instead.
    Cut,
    /// The watch ends instead, as too old.
    Expire,
}

/// The watches through a gate.
pub struct Watches {
    /// What is older than this version is forgotten; every change ends the watches of then.
    forgotten: watch::Sender<u64>,
}

impl Default for Watches {
    fn default() -> Self {
        let (forgotten, _) = watch::channel(0);
        Self { forgotten }
    }
}

impl Watches {
    /// Ends every watch of now.
    pub fn expire(&self) {
        self.forgotten.send_modify(|_| {});
    }

    /// Ends every watch of now, and later ones that go on from an older version.
    pub fn forget_before(&self, version: u64) {
        self.forgotten.send_replace(version);
    }

    /// Lets the answer to a watch, which goes on from a version, pass as the conduct has it.
    pub fn guard(
        &self,
        answer: Response,
        since: Option<u64>,
        conduct: Arc<dyn Conduct>,
    ) -> Response {
        let (parts, body) = answer.into_parts();
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut forgotten = self.forgotten.subscribe();
        if since.is_some_and(|since| since < *forgotten.borrow()) {
            forgotten.mark_changed();
        }
        tokio::spawn(async move {
            let ended = tokio::select! {
                biased;
                Ok(()) = forgotten.changed() => Some(gone()),
                ended = relay(body, &sender, conduct.as_ref()) => ended,
                () = sender.closed() => None,
            };
            // Nobody is there to hear it: that is the operator's choice.
            let _ = ended.map(|last| sender.send(last));
        });
        let lines = stream::unfold(receiver, |mut receiver| async {
            let line = receiver.recv().await?;
            Some((Ok::<_, Infallible>(line), receiver))
        });
        Response::from_parts(parts, Body::from_stream(lines))
    }
}

/// Takes changes to the operator until the watch ends; what the operator is told last.
async fn relay(
    body: Body,
    sender: &mpsc::UnboundedSender<Bytes>,
    conduct: &dyn Conduct,
) -> Option<Bytes> {
    let mut chunks = body.into_data_stream();
    let (mut rest, mut delivered) = (Vec::new(), Vec::<Change>::new());
    while let Some(Ok(chunk)) = chunks.next().await {
        rest.extend_from_slice(&chunk);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let change = Change::read(line);
            let mut lines = vec![change.line.clone()];
            match conduct.changed(&change).await {
                Passage::Deliver => {}
                Passage::Skip => continue,
                Passage::Replay => lines.extend(change.older(&delivered)),
                Passage::Cut => return None,
                Passage::Expire => return Some(gone()),
            }
            delivered.push(change);
            let sent: Result<(), _> = lines.into_iter().try_for_each(|line| sender.send(line));
            if sent.is_err() {
                return None;
            }
        }
    }
    None
}

impl Change {
    fn read(line: Vec<u8>) -> Self {
        let value: Value = serde_json::from_slice(&line).unwrap_or(Value::Null);
        Self {
            kind: value["type"].as_str().unwrap_or_default().to_owned(),
            object: value["object"].clone(),
            line: line.into(),
        }
    }

    /// What the watch brought of the same object the time before the last one.
    fn older(&self, delivered: &[Self]) -> Option<Bytes> {
        let uid = &self.object["metadata"]["uid"];
        let same = |change: &&Self| !uid.is_null() && change.object["metadata"]["uid"] == *uid;
        let older = delivered.iter().rev().find(same)?;
        Some(older.line.clone())
    }
}

/// What the API server says when a watch asks for what it has forgotten.
fn gone() -> Bytes {
    let event = json!({"type": "ERROR", "object": {
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "metadata": {},
        "message": "too old resource version", "reason": "Expired", "code": 410,
    }});
    format!("{event}\n").into()
}
