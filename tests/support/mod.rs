//! What the tests share.

pub mod control_plane;
pub mod simulator;

use control_plane::{Binaries, ControlPlane};
use std::io::Write;
use tokio::sync::OnceCell;

/// The control plane of this test binary, started by the first test that asks for it.
///
/// Statics are not dropped, but its programs end with the process. Clients belong to the runtime of
/// the test that made them, so make new ones with [`ControlPlane::client`].
pub async fn shared() -> &'static ControlPlane {
    // A failure is kept as well: starting again for each test would take long and fail again.
    static SHARED: OnceCell<Result<ControlPlane, String>> = OnceCell::const_new();
    match SHARED.get_or_init(start).await {
        Ok(control_plane) => control_plane,
        Err(message) => panic!("these tests need a control plane: {message}"),
    }
}

/// Starts another control plane, with its error as text.
pub async fn start() -> Result<ControlPlane, String> {
    let binaries = binaries().await?;
    ControlPlane::start(binaries)
        .await
        .map_err(|error| error.to_string())
}

/// The programs of a control plane, built first where they are not there.
pub async fn binaries() -> Result<Binaries, String> {
    tokio::task::spawn_blocking(|| Binaries::locate_or_build(say))
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())
}

/// Prints past the capture of test output, as the first run takes minutes.
fn say(line: &str) {
    // Not being able to print is no reason to fail.
    let _ = writeln!(std::io::stderr(), "control plane: {line}");
}
