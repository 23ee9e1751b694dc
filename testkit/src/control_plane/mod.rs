//! A real Kubernetes control plane, etcd and kube-apiserver with RBAC, for the tests and the demo.
//!
//! There is no controller manager: nothing is garbage collected, namespaces are never deleted for
//! good, and a ServiceAccount is there only if somebody creates it. Everything is in temporary
//! directories and is gone when a [`ControlPlane`] is dropped or its process ends, however it does.

// The tests and the demo include this module separately, and each uses a part of it.

mod archive;
pub mod audit;
mod backup;
mod binaries;
mod credentials;
mod objects;
mod process;
mod setup_envtest;
mod sources;

pub use backup::Backup;
pub use binaries::Binaries;
pub use objects::{apply_crds, create_namespace, service_account_token};
pub use process::{Program, program_dir};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tempfile::TempDir;
use tokio::time::Instant;

/// How long a start may take: 3 seconds on an idle machine, much longer on a busy one.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// How long to wait before asking again whether the API server is ready.
const READY_POLL: Duration = Duration::from_millis(50);

/// How often the API server is started anew when its port was taken by somebody else.
const PORT_TRIES: usize = 5;

/// Where kube-apiserver puts the certificate that it makes for itself.
const CERTIFICATE: &str = "certificates/apiserver.crt";

/// A running control plane; dropping it stops it and removes its data.
#[derive(Debug)]
pub struct ControlPlane {
    // Fields are dropped in this order: the API server goes before its storage.
    api_server: Program,
    etcd: Program,
    binaries: Binaries,
    port: u16,
    url: String,
    admin_token: String,
}

/// Why there is no control plane.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The programs are not there.
    #[error(transparent)]
    Binaries(#[from] binaries::Error),
    /// A file or process could not be made.
    #[error("failed to set up a control plane in the directory for temporary files: {0}")]
    Io(#[from] io::Error),
    /// A program ended while the control plane was starting.
    #[error(
        "{name} ended with exit status {status} while it was starting; \
         if the programs in KUBEBUILDER_ASSETS are your own, check that they run here. \
         The end of its log:\n{log}"
    )]
    Exited {
        /// The program.
        name: &'static str,
        /// Its exit status.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// The API server did not become ready.
    #[error(
        "the API server was not ready after {READY_WITHIN:?}; the machine may be too busy or short \
         of memory (it takes about 350 MB). The end of etcd's log:\n{etcd}\n\
         The end of kube-apiserver's log:\n{api_server}"
    )]
    NotReady {
        /// The end of etcd's log.
        etcd: String,
        /// The end of kube-apiserver's log.
        api_server: String,
    },
    /// No client could be made for the API server.
    #[error("failed to make a client for the control plane: {0}")]
    Client(#[from] kube::Error),
    /// The kubeconfig cannot be used.
    #[error("failed to use the kubeconfig of the control plane: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
}

// === impl ControlPlane ===

impl ControlPlane {
    /// Starts a control plane and waits until it is ready.
    pub async fn start(binaries: Binaries) -> Result<Self, Error> {
        let mut control_plane = Self::launch(binaries)?;
        let mut tries = 1;
        while let Err(error) = control_plane.wait_until_ready().await {
            if tries == PORT_TRIES || !control_plane.port_was_taken() {
                return Err(error);
            }
            tries += 1;
            control_plane = Self::launch(control_plane.binaries.clone())?;
        }
        Ok(control_plane)
    }

    fn launch(binaries: Binaries) -> Result<Self, Error> {
        let dirs = (process::program_dir()?, process::program_dir()?);
        let admin_token = credentials::random_token();
        write_keys(dirs.1.path(), &admin_token)?;
        Self::launch_in(dirs, free_port()?, admin_token, binaries)
    }

    /// Starts from a backup, at the same address and with the same keys. What was backed up must have been killed.
    pub async fn restore(backup: &Backup) -> Result<Self, Error> {
        let dirs = (process::program_dir()?, process::program_dir()?);
        backup.copy_to(dirs.0.path(), dirs.1.path())?;
        let (token, binaries) = (backup.admin_token.clone(), backup.binaries.clone());
        let control_plane = Self::launch_in(dirs, backup.port, token, binaries)?;
        control_plane.wait_until_ready().await?;
        Ok(control_plane)
    }

    /// Copies what etcd has stored at this moment, and the keys of the API server.
    pub fn back_up(&self) -> io::Result<Backup> {
        Backup::of(
            &self.etcd,
            &self.api_server,
            self.port,
            self.admin_token.clone(),
            self.binaries.clone(),
        )
    }

    /// Ends both programs at once, as a power cut does; their files stay until this is dropped.
    pub async fn kill(&self) -> io::Result<()> {
        for program in [&self.api_server, &self.etcd] {
            program.signal("KILL")?;
            while program.exit_status().is_none() {
                tokio::time::sleep(READY_POLL).await;
            }
        }
        Ok(())
    }

    /// Starts both programs in directories that have all that they need: etcd's, then the API server's.
    fn launch_in(
        dirs: (TempDir, TempDir),
        port: u16,
        admin_token: String,
        binaries: Binaries,
    ) -> Result<Self, Error> {
        let (etcd, etcd_url) = start_etcd(&binaries.etcd, dirs.0)?;
        let api_server = start_api_server(&binaries.kube_apiserver, dirs.1, &etcd_url, port)?;
        let url = format!("https://127.0.0.1:{port}");
        let control_plane = Self {
            api_server,
            etcd,
            binaries,
            port,
            url,
            admin_token,
        };
        let admin = control_plane.kubeconfig(&control_plane.admin_token);
        credentials::write_kubeconfig(&control_plane.kubeconfig_path(), &admin)?;
        Ok(control_plane)
    }

    /// The API server's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A kubeconfig file of the administrator.
    pub fn kubeconfig_path(&self) -> PathBuf {
        self.api_server.dir().join("kubeconfig")
    }

    /// A new kubeconfig file of the owner of `token`, which goes with the control plane.
    pub fn kubeconfig_for_token(&self, token: &str) -> Result<PathBuf, Error> {
        let name = format!("kubeconfig-{:016x}", rand::random::<u64>());
        let path = self.api_server.dir().join(name);
        credentials::write_kubeconfig(&path, &self.kubeconfig(token))?;
        Ok(path)
    }

    /// How the administrator's clients are configured.
    pub async fn config(&self) -> Result<Config, Error> {
        self.config_for_token(&self.admin_token).await
    }

    /// How clients of the owner of `token` are configured.
    pub async fn config_for_token(&self, token: &str) -> Result<Config, Error> {
        let options = KubeConfigOptions::default();
        let mut config = Config::from_custom_kubeconfig(self.kubeconfig(token), &options).await?;
        // A proxy from the environment does not lead to this machine.
        config.proxy_url = None;
        Ok(config)
    }

    /// A new client of the administrator. It belongs to the runtime that it is made in, so do not
    /// share one between tests.
    pub async fn client(&self) -> Result<Client, Error> {
        Ok(Client::try_from(self.config().await?)?)
    }

    /// A new client of the owner of `token`.
    pub async fn client_for_token(&self, token: &str) -> Result<Client, Error> {
        Ok(Client::try_from(self.config_for_token(token).await?)?)
    }

    /// The certificate that the API server made for itself, which vouches for itself alone.
    pub fn certificate_path(&self) -> PathBuf {
        self.api_server.dir().join(CERTIFICATE)
    }

    /// kubectl as the administrator, who has no settings or caches of the user's.
    pub fn kubectl(&self) -> Command {
        let home = self.api_server.dir();
        let mut kubectl = Command::new(&self.binaries.kubectl);
        kubectl
            .env("KUBECONFIG", self.kubeconfig_path())
            .env("HOME", home)
            .env("KUBECACHEDIR", home.join("kubectl-cache"))
            .env_remove("KUBERC");
        kubectl
    }

    /// What a ServiceAccount has asked the API server for so far.
    pub fn requests_of(&self, namespace: &str, account: &str) -> io::Result<Vec<audit::Request>> {
        audit::requests_of(&self.api_server.dir().join(audit::LOG), namespace, account)
    }

    /// Directories of the running programs, which are gone when these have ended.
    pub fn program_dirs(&self) -> [&Path; 2] {
        [self.etcd.dir(), self.api_server.dir()]
    }

    /// Ends the programs and removes their data, as dropping it does.
    pub fn stop(self) {}

    fn kubeconfig(&self, token: &str) -> Kubeconfig {
        credentials::kubeconfig(&self.url, &self.certificate_path(), token)
    }

    async fn wait_until_ready(&self) -> Result<(), Error> {
        let deadline = Instant::now() + READY_WITHIN;
        while !self.is_ready().await {
            for program in [&self.etcd, &self.api_server] {
                if let Some(status) = program.exit_status() {
                    return Err(exited(program, status));
                }
            }
            if Instant::now() > deadline {
                let (etcd, api_server) = (self.etcd.log_tail(), self.api_server.log_tail());
                return Err(Error::NotReady { etcd, api_server });
            }
            tokio::time::sleep(READY_POLL).await;
        }
        Ok(())
    }

    /// Errors are what is expected here until the server has written its certificate and listens.
    async fn is_ready(&self) -> bool {
        let Ok(mut config) = self.config().await else {
            return false;
        };
        config.default_retry = false;
        config.connect_timeout = Some(Duration::from_secs(1));
        config.read_timeout = Some(Duration::from_secs(5));
        let Ok(client) = Client::try_from(config) else {
            return false;
        };
        // The namespace `default` is made shortly after the server says that it is ready.
        for path in ["/readyz", "/api/v1/namespaces/default"] {
            let Ok(request) = http::Request::get(path).body(Vec::new()) else {
                return false;
            };
            if client.request_text(request).await.is_err() {
                return false;
            }
        }
        true
    }

    fn port_was_taken(&self) -> bool {
        self.api_server.exit_status().is_some()
            && self.api_server.log().contains("address already in use")
    }
}

fn exited(program: &Program, status: String) -> Error {
    Error::Exited {
        name: program.name(),
        status,
        log: program.log_tail(),
    }
}

/// A port that is free now; somebody may take it before it is used.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// Starts etcd on Unix sockets, which need no ports and are out of others' reach.
fn start_etcd(binary: &Path, dir: TempDir) -> io::Result<(Program, String)> {
    let client = format!("unix://{}", dir.path().join("client.sock").display());
    let peer = format!("unix://{}", dir.path().join("peer.sock").display());
    let args = [
        format!("--data-dir={}", backup::DATA),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        // The data is worth nothing after a crash.
        "--unsafe-no-fsync".to_owned(),
    ];
    Ok((Program::start("etcd", binary, dir, args)?, client))
}

/// Writes what the API server and its clients know each other by; its certificate it makes itself.
fn write_keys(dir: &Path, admin_token: &str) -> io::Result<()> {
    credentials::write_admin_token(&dir.join("tokens.csv"), admin_token)?;
    credentials::write_service_account_keys(&dir.join("sa.key"), &dir.join("sa.pub"))?;
    fs::create_dir(dir.join("certificates"))
}

fn start_api_server(binary: &Path, dir: TempDir, etcd_url: &str, port: u16) -> io::Result<Program> {
    audit::write_policy(&dir.path().join("audit.yaml"))?;
    let args = [
        format!("--etcd-servers={etcd_url}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        "--cert-dir=certificates".to_owned(),
        "--token-auth-file=tokens.csv".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        "--service-account-key-file=sa.pub".to_owned(),
        "--service-account-signing-key-file=sa.key".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        "--service-cluster-ip-range=10.96.0.0/24".to_owned(),
        // Without a controller manager no namespace has a default ServiceAccount.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        "--audit-policy-file=audit.yaml".to_owned(),
        format!("--audit-log-path={}", audit::LOG),
    ];
    Program::start("kube-apiserver", binary, dir, args)
}
