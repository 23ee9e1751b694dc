//! Where etcd, kube-apiserver and kubectl come from.
//!
//! From `$KUBEBUILDER_ASSETS` when set, as in envtest; else from what `setup-envtest` keeps; else from the user's cache. That
//! is filled once: by the archive that envtest publishes, and where it cannot be had, by building from source.

use super::archive::{self, Archive};
use super::setup_envtest;
use super::sources::CONTROL_PLANE;
use crate::go_programs::{self, default_dir, in_cache, non_empty_env, once};
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
    /// One of the programs is not there.
    #[error(
        "there is no program {name} in {dir}: if KUBEBUILDER_ASSETS names that directory, put it there or unset the \
         variable; else remove the directory, and it is made again"
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
    /// Finds the programs, fetches them or builds them, telling `progress` what is going on.
    pub fn locate_or_build(progress: impl Fn(&str)) -> Result<Self, Error> {
        if let Some(dir) = non_empty_env("KUBEBUILDER_ASSETS") {
            return Self::in_dir(Path::new(&dir));
        }
        for dir in setup_envtest::kept() {
            if let Ok(kept) = Self::in_dir(&dir) {
                let dir = dir.display();
                progress(&format!(
                    "using the control plane that setup-envtest keeps in {dir}"
                ));
                return Ok(kept);
            }
        }
        let cache = default_dir()?;
        let built = CONTROL_PLANE.directory(&cache);
        if built.exists() {
            return Self::in_dir(&built);
        }
        let build = || CONTROL_PLANE.locate_or_build(&progress);
        locate_in(&cache, archive::pinned().as_ref(), &progress, build)
    }

    /// The programs in a directory.
    pub(super) fn in_dir(dir: &Path) -> Result<Self, Error> {
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

/// The programs of the archive, fetched into the cache where they are not there yet; else those that are built.
pub(super) fn locate_in(
    cache: &Path,
    archive: Option<&Archive>,
    progress: &dyn Fn(&str),
    build: impl FnOnce() -> Result<PathBuf, go_programs::Error>,
) -> Result<Binaries, Error> {
    if let Some(archive) = archive {
        let fetched = cache.join(&archive.name);
        let fetch = |scratch: &Path| archive.fetch(scratch, progress);
        match once(cache, &fetched, CONTROL_PLANE.what, progress, fetch) {
            Ok(()) => return Binaries::in_dir(&fetched),
            Err(error) => progress(&format!(
                "the control plane could not be downloaded, so it is built from source: {error}"
            )),
        }
    }
    Binaries::in_dir(&build()?)
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
