//! A long text as a response that is sent while it is written.
//!
//! The metrics of ten thousand numbers are megabytes, and take a while. So they are written in a separate thread, where they
//! block nothing else, and are never in memory as a whole.

use std::convert::Infallible;
use std::fmt::{self, Write};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// How much of the text is sent at once.
const CHUNK: usize = 32 * 1024;

/// How long a client may read nothing, because it blocks a thread.
const PATIENCE: Duration = Duration::from_secs(10);

/// The text that `write` writes. If that fails, the text breaks off, which clients notice: OpenMetrics has an end marker.
pub fn body(write: impl FnOnce(&mut Chunks) -> fmt::Result + Send + 'static) -> Body {
    let (sender, mut receiver) = mpsc::channel(1);
    let mut chunks = Chunks {
        text: String::with_capacity(CHUNK),
        sender,
        runtime: Handle::current(),
    };
    tokio::task::spawn_blocking(move || {
        if write(&mut chunks).and_then(|()| chunks.send()).is_err() {
            tracing::debug!("The metrics were not read to their end");
        }
    });
    let chunks = stream::poll_fn(move |context| receiver.poll_recv(context));
    Body::from_stream(chunks.map(Ok::<_, Infallible>))
}

/// What is written goes to the client as soon as it fills a chunk.
pub struct Chunks {
    text: String,
    sender: mpsc::Sender<Bytes>,
    runtime: Handle,
}

impl Write for Chunks {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.text.len() + text.len() > CHUNK {
            self.send()?;
        }
        self.text.push_str(text);
        Ok(())
    }
}

impl Chunks {
    fn send(&mut self) -> fmt::Result {
        let text = std::mem::replace(&mut self.text, String::with_capacity(CHUNK));
        let sent = self.sender.send_timeout(text.into(), PATIENCE);
        self.runtime.block_on(sent).map_err(|_| fmt::Error)
    }
}
