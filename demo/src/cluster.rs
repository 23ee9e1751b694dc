//! The cluster of the demo: a real API server, the CRD, and the operator's account.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use kube::Client;

use testkit::control_plane::{self, Binaries, ControlPlane};

use crate::Failure;

/// The operator's ServiceAccount and its namespace, as `account.yaml` names them.
const ACCOUNT: &str = "whatsapp-operator";

/// The running cluster; dropping it ends it.
pub struct Cluster {
    control_plane: ControlPlane,
    /// A client of the administrator.
    pub client: Client,
}

/// A path in this repository.
pub fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

// === impl Cluster ===

impl Cluster {
    /// Starts the API server, having built it where that was never done.
    pub async fn start() -> Result<Self, Failure> {
        let binaries =
            tokio::task::spawn_blocking(|| Binaries::locate_or_build(|line| println!("{line}")))
                .await??;
        let control_plane = ControlPlane::start(binaries).await?;
        let client = control_plane.client().await?;
        Ok(Self {
            control_plane,
            client,
        })
    }

    /// Installs the CRD and the operator's account; the account's kubeconfig.
    pub async fn install(&self) -> Result<PathBuf, Failure> {
        let crd = in_repository("crds/whatsappphonenumbers.yaml");
        let yaml = std::fs::read_to_string(&crd)
            .map_err(|error| format!("failed to read {}: {error}", crd.display()))?;
        control_plane::apply_crds(&self.client, &yaml).await?;
        self.kubectl(&["apply", "-f"], Some("demo/src/account.yaml"))?;
        let token = control_plane::service_account_token(&self.client, ACCOUNT, ACCOUNT).await?;
        Ok(self.control_plane.kubeconfig_for_token(&token)?)
    }

    /// Runs kubectl as the administrator; what it printed.
    pub fn kubectl(&self, args: &[&str], path: Option<&str>) -> Result<String, Failure> {
        let output = self
            .control_plane
            .kubectl()
            .args(args)
            .args(path.map(in_repository))
            .stdin(Stdio::null())
            // Its own group: Ctrl-C is for the demo, which would report kubectl's end as a failure.
            .process_group(0)
            .output()
            .map_err(|error| format!("failed to start kubectl: {error}"))?;
        if !output.status.success() {
            let command = args.join(" ");
            let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("kubectl {command} failed: {complaint}").into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.control_plane.kubeconfig_path()
    }

    /// Where kubectl is, for people who have none.
    pub fn kubectl_path(&self) -> PathBuf {
        PathBuf::from(self.control_plane.kubectl().get_program())
    }

    /// The API server's address.
    pub fn url(&self) -> &str {
        self.control_plane.url()
    }
}
