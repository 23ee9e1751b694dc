//! A way to the API server on which answers can be held up: bytes pass as they are, TLS and all.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A running proxy; dropping it ends it.
pub struct Proxy {
    address: SocketAddr,
    frozen: watch::Sender<bool>,
    _stop: DropGuard,
}

impl Proxy {
    /// A way to this server.
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        let (frozen, state) = watch::channel(false);
        let stop = CancellationToken::new();
        let accept = async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, server, state.clone()));
            }
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept));
        Self {
            address,
            frozen,
            _stop: stop.drop_guard(),
        }
    }

    /// Holds up every answer, or lets them go on. Requests pass all the time.
    pub fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// A copy of a kubeconfig that goes this way.
    pub fn kubeconfig(&self, original: &Path, server: &str) -> PathBuf {
        let text = std::fs::read_to_string(original).expect("a kubeconfig");
        let changed = text.replace(server, &format!("https://{}", self.address));
        assert_ne!(
            text, changed,
            "the kubeconfig names another server than {server}"
        );
        let path = original.with_extension(format!("proxy-{}", self.address.port()));
        std::fs::write(&path, changed).expect("a kubeconfig");
        path
    }
}

async fn pass(client: TcpStream, server: SocketAddr, mut frozen: watch::Receiver<bool>) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = async {
        // The other direction ends the connection.
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
    };
    let answers = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            if frozen.wait_for(|frozen| !frozen).await.is_err() {
                return;
            }
            if to_client.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = requests => {}
        () = answers => {}
    }
}
