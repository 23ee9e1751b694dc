//! Where etcd, kube-apiserver and kubectl come from.
//!
//! From `$KUBEBUILDER_ASSETS` when set, as in envtest. Otherwise from a cache in the user's cache
//! directory, into which they are built once from the Go modules beside this file.

use super::go_modules::{self, SOURCES};
use std::{
    env,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// Begins the names of directories that builds are made in.
const SCRATCH_PREFIX: &str = "building-";

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
    /// Neither `$XDG_CACHE_HOME` nor `$HOME` is set.
    #[error(
        "there is no place for the control plane's programs: set HOME, XDG_CACHE_HOME or KUBEBUILDER_ASSETS"
    )]
    NoCacheDir,
    /// The Go toolchain is not installed.
    #[error(
        "the control plane is built from source once, which needs Go {version} or newer: \
         install it from https://go.dev/dl/, or set KUBEBUILDER_ASSETS to a directory \
         with etcd, kube-apiserver and kubectl: {source}"
    )]
    NoGo {
        /// The oldest version that will do.
        version: &'static str,
        /// What starting it said.
        source: io::Error,
    },
    /// `go build` failed.
    #[error(
        "failed to build {name} (are the Go module proxy and enough disk space within reach?):\n{output}"
    )]
    Build {
        /// The program.
        name: &'static str,
        /// What the compiler said.
        output: String,
    },
    /// The cache cannot be read or written.
    #[error("failed to use the cache {}: {source}", path.display())]
    Cache {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

// === impl Binaries ===

impl Binaries {
    /// Finds the programs, or builds them, telling `progress` what is going on.
    pub fn locate_or_build(progress: impl Fn(&str)) -> Result<Self, Error> {
        match non_empty_env("KUBEBUILDER_ASSETS") {
            Some(dir) => Self::in_dir(Path::new(&dir)),
            None => Self::cached_or_built(&default_cache_dir()?, &progress),
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

    fn cached_or_built(cache: &Path, progress: &dyn Fn(&str)) -> Result<Self, Error> {
        let built = cache.join(go_modules::key());
        if !built.exists() {
            fs::create_dir_all(cache).map_err(in_cache(cache))?;
            let _lock = lock(&cache.join("build.lock"), progress)?;
            // Another process may have built them while this one waited.
            if !built.exists() {
                build_all(cache, &built, progress)?;
            }
        }
        Self::in_dir(&built)
    }
}

fn non_empty_env(name: &str) -> Option<std::ffi::OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn default_cache_dir() -> Result<PathBuf, Error> {
    non_empty_env("XDG_CACHE_HOME")
        .map(PathBuf::from)
        // The specification has relative paths ignored.
        .filter(|dir| dir.is_absolute())
        .or_else(|| Some(Path::new(&non_empty_env("HOME")?).join(".cache")))
        .map(|dir| dir.join("whatsapp-operator"))
        .ok_or(Error::NoCacheDir)
}

/// One builder at a time; the lock goes with the file, also when its process is killed.
fn lock(path: &Path, progress: &dyn Fn(&str)) -> Result<File, Error> {
    let file = File::create(path).map_err(in_cache(path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::Error(source)) => Err(in_cache(path)(source)),
        Err(TryLockError::WouldBlock) => {
            progress("waiting for another process that is building the control plane");
            file.lock().map_err(in_cache(path))?;
            Ok(file)
        }
    }
}

/// Builds into a scratch directory and renames it, so that `built` is complete or not there.
fn build_all(cache: &Path, built: &Path, progress: &dyn Fn(&str)) -> Result<(), Error> {
    progress(&format!(
        "building a control plane (Kubernetes {}) from source into {}; \
         this happens once and takes about 9 minutes on 2 cores",
        go_modules::kubernetes_version(),
        built.display()
    ));
    remove_abandoned(cache);
    let scratch = tempfile::Builder::new()
        .prefix(SCRATCH_PREFIX)
        .tempdir_in(cache)
        .map_err(in_cache(cache))?;
    let bin = scratch.path().join("bin");
    for (number, source) in SOURCES.iter().enumerate() {
        let label = format!(
            "building {} ({} of {})",
            source.name,
            number + 1,
            SOURCES.len()
        );
        source.build(scratch.path(), &bin.join(source.name), &label, progress)?;
    }
    fs::rename(&bin, built).map_err(in_cache(built))
}

/// Removes what killed builders left; the caller holds the lock, so no builder is at work.
fn remove_abandoned(cache: &Path) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(SCRATCH_PREFIX)
        {
            // It is in nobody's way if it stays.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Makes an error of what the system said of `path`.
pub fn in_cache(path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Cache { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("etcd"), "")?;
        let error = Binaries::in_dir(dir.path()).map_err(|error| error.to_string());
        let error = error.expect_err("kube-apiserver is not there");
        assert!(error.contains("no program kube-apiserver"), "{error}");
        Ok(())
    }
}
