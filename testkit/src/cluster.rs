//! The control plane that the tests of one binary share.

use std::io::Write;

use tokio::sync::OnceCell;

use crate::control_plane::{Binaries, ControlPlane, apply_crds};

/// The resource definition as it is handed out.
const CRD: &str = include_str!("../../crds/whatsappphonenumbers.yaml");

/// The control plane of this test binary, with the operator's definition, started by the first test that asks for it.
///
/// Statics are not dropped, but its programs end with the process. Clients belong to the runtime of
/// the test that made them, so make new ones with [`ControlPlane::client`].
pub async fn shared() -> &'static ControlPlane {
    // A failure is kept as well: starting again for each test would take long and fail again.
    static SHARED: OnceCell<Result<ControlPlane, String>> = OnceCell::const_new();
    match SHARED.get_or_init(start_with_crd).await {
        Ok(control_plane) => control_plane,
        Err(message) => panic!("these tests need a control plane: {message}"),
    }
}

/// Starts a control plane that serves the operator's resource.
pub async fn start_with_crd() -> Result<ControlPlane, String> {
    let control_plane = start().await?;
    let client = control_plane
        .client()
        .await
        .map_err(|error| error.to_string())?;
    apply_crds(&client, CRD)
        .await
        .map_err(|error| error.to_string())?;
    Ok(control_plane)
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
pub(crate) fn say(line: &str) {
    // Not being able to print is no reason to fail.
    let _ = writeln!(std::io::stderr(), "tests: {line}");
}
