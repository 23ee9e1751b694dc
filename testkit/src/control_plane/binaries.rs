//! Where etcd, kube-apiserver and kubectl come from.
//!
//! From `$KUBEBUILDER_ASSETS` when set, as in envtest. Otherwise from the user's cache, into which they are built once.

use super::sources::CONTROL_PLANE;
use crate::go_programs::{self, in_cache, non_empty_env};
use std::path::{Path, PathBuf};

/// The programs of a control plane, and kubectl.
#[derive(Clone, Debug, PartialEq)]
pub struct Binaries {
    /// Path of etcd.
    pub etcd: PathBuf,
    /// Path of kube-apiserver.
    pub kube_apiserver: PathBuf,
    /// Path of kubectl.
    pub kubectl: PathBuf,
}

/// Why the programs are not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `$KUBEBUILDER_ASSETS` names a directory without one of the programs.
    #[error(
        "KUBEBUILDER_ASSETS is {dir}, but there is no program {name} in it: \
         put it there, or unset the variable to have all of them built from source"
    )]
    Missing {
        /// The program.
        name: &'static str,
        /// The directory.
        dir: PathBuf,
    },
    /// They could not be built.
    #[error(transparent)]
    Build(#[from] go_programs::Error),
}

// === impl Binaries ===

impl Binaries {
    /// Finds the programs, or builds them, telling `progress` what is going on.
    pub fn locate_or_build(progress: impl Fn(&str)) -> Result<Self, Error> {
        match non_empty_env("KUBEBUILDER_ASSETS") {
            Some(dir) => Self::in_dir(Path::new(&dir)),
            None => Self::in_dir(&CONTROL_PLANE.locate_or_build(&progress)?),
        }
    }

    fn in_dir(dir: &Path) -> Result<Self, Error> {
        // Absolute, as the programs run in a directory of their own.
        let dir = std::path::absolute(dir).map_err(in_cache(dir))?;
        let program = |name| {
            let path = dir.join(name);
            if path.is_file() {
                Ok(path)
            } else {
                Err(Error::Missing {
                    name,
                    dir: dir.clone(),
                })
            }
        };
        Ok(Self {
            etcd: program("etcd")?,
            kube_apiserver: program("kube-apiserver")?,
            kubectl: program("kubectl")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("etcd"), "")?;
        let error = Binaries::in_dir(dir.path()).map_err(|error| error.to_string());
        let error = error.expect_err("kube-apiserver is not there");
        assert!(error.contains("no program kube-apiserver"), "{error}");
        Ok(())
    }
}
