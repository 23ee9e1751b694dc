//! A copy of what a control plane keeps on disk, to start another one from.

use super::{
    binaries::Binaries,
    process::{Program, program_dir},
};
use std::{
    io,
    path::Path,
    process::{Command, Stdio},
};
use tempfile::TempDir;

/// etcd's data in its directory, and in a backup.
pub(super) const DATA: &str = "data";

/// What the API server and its clients know each other by.
const KEYS: [&str; 4] = ["tokens.csv", "sa.key", "sa.pub", "certificates"];

/// A copy of what etcd stored, and of the keys of the API server.
#[derive(Debug)]
pub struct Backup {
    dir: TempDir,
    /// Where the API server listens.
    pub(super) port: u16,
    pub(super) admin_token: String,
    pub(super) binaries: Binaries,
}

// === impl Backup ===

impl Backup {
    pub(super) fn of(
        etcd: &Program,
        api_server: &Program,
        port: u16,
        admin_token: String,
        binaries: Binaries,
    ) -> io::Result<Self> {
        let dir = program_dir()?;
        // While it is stopped, its files are as a crash would leave them, from which it recovers.
        etcd.signal("STOP")?;
        let copied = copy(etcd.dir(), &[DATA], dir.path());
        etcd.signal("CONT")?;
        copied?;
        copy(api_server.dir(), &KEYS, dir.path())?;
        Ok(Self {
            dir,
            port,
            admin_token,
            binaries,
        })
    }

    /// Puts everything where the programs will look for it.
    pub(super) fn copy_to(&self, etcd: &Path, api_server: &Path) -> io::Result<()> {
        copy(self.dir.path(), &[DATA], etcd)?;
        copy(self.dir.path(), &KEYS, api_server)
    }
}

/// Copies files and directories of these names.
fn copy(from: &Path, names: &[&str], to: &Path) -> io::Result<()> {
    let status = Command::new("cp")
        .arg("-Rp")
        .args(names.iter().map(|name| from.join(name)))
        .arg(to)
        .stdin(Stdio::null())
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "failed to copy {names:?}: {status}"
        )))
    }
}
