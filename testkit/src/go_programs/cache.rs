//! The cache directory: each thing in it is complete or not there, and is made by one process at a time.

use super::Set;
use std::{
    env,
    ffi::OsString,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// Begins the names of directories that builds are made in.
const SCRATCH_PREFIX: &str = "building-";

/// Why programs are not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither `$XDG_CACHE_HOME` nor `$HOME` is set.
    #[error(
        "there is no place for the programs that are built from source: set HOME or XDG_CACHE_HOME"
    )]
    NoCacheDir,
    /// The Go toolchain is not installed.
    #[error(
        "{what} is built from source once, which needs Go {version} or newer: \
         install it from https://go.dev/dl/{instead}: {source}"
    )]
    NoGo {
        /// What was to be built.
        what: &'static str,
        /// The oldest version that will do.
        version: &'static str,
        /// What else helps.
        instead: &'static str,
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

// === impl Error ===

impl Error {
    /// Starting Go failed while a set was built.
    pub fn no_go(set: &Set, version: &'static str, source: io::Error) -> Self {
        Self::NoGo {
            what: set.what,
            version,
            instead: set.instead_of_go,
            source,
        }
    }
}

/// A variable of the environment; an empty one counts as unset.
pub fn non_empty_env(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// The project's directory in the user's cache.
pub fn default_dir() -> Result<PathBuf, Error> {
    non_empty_env("XDG_CACHE_HOME")
        .map(PathBuf::from)
        // The specification has relative paths ignored.
        .filter(|dir| dir.is_absolute())
        .or_else(|| Some(Path::new(&non_empty_env("HOME")?).join(".cache")))
        .map(|dir| dir.join("whatsapp-operator"))
        .ok_or(Error::NoCacheDir)
}

/// Has `build` make the directory `built` in the cache, unless it is there. What `build` makes in its scratch directory
/// is renamed at the end, so that `built` is complete or not there.
pub fn once<E: From<Error>>(
    cache: &Path,
    built: &Path,
    what: &str,
    progress: &dyn Fn(&str),
    build: impl FnOnce(&Path) -> Result<PathBuf, E>,
) -> Result<(), E> {
    if built.exists() {
        return Ok(());
    }
    fs::create_dir_all(cache).map_err(in_cache(cache))?;
    let _lock = lock(&cache.join("build.lock"), what, progress)?;
    // Another process may have built it while this one waited.
    if built.exists() {
        return Ok(());
    }
    remove_abandoned(cache);
    let scratch = tempfile::Builder::new()
        .prefix(SCRATCH_PREFIX)
        .tempdir_in(cache)
        .map_err(in_cache(cache))?;
    let made = build(scratch.path())?;
    fs::rename(&made, built).map_err(in_cache(built))?;
    Ok(())
}

/// One builder at a time; the lock goes with the file, also when its process is killed.
fn lock(path: &Path, what: &str, progress: &dyn Fn(&str)) -> Result<File, Error> {
    let file = File::create(path).map_err(in_cache(path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::Error(source)) => Err(in_cache(path)(source)),
        Err(TryLockError::WouldBlock) => {
            progress(&format!("{what}: waiting for another build to end"));
            file.lock().map_err(in_cache(path))?;
            Ok(file)
        }
    }
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
