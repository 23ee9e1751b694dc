//! The prebuilt control plane of envtest: fetched once, and used only if it is the one that is pinned here.

use crate::go_programs::{CacheError, in_cache, machine};
use aws_lc_rs::digest::{Context, SHA512};
use flate2::read::GzDecoder;
use std::{
    error::Error as _,
    fs::File,
    io::{self, BufReader, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The version of Kubernetes in the archive.
const VERSION: &str = "v1.36.2";

/// Where the project that publishes the archives has them.
const RELEASES: &str = "https://github.com/kubernetes-sigs/controller-tools/releases/download";

/// The SHA-512 of the archive for each kind of machine, from `envtest-releases.yaml` of the same project.
const SUMS: [(&str, &str); 4] = [
    (
        "linux-amd64",
        "ea743186c8a799f5cf8faf16969f86189d003cb7d130e0ac4b58789f1e5748dcf30ebe91c837a10d5ac415383da3e10b9e64d65785c938c23e739781cfb76f08",
    ),
    (
        "linux-arm64",
        "2d72ee985a8e262a3c57dc9f7f0fd891f6a8c7bf7ebaa2db6dc6d8eac8ae28181afe51c1f368b67756cdb40b10de9b205609e1726e5f27f7c6d824dd9c6649ac",
    ),
    (
        "darwin-arm64",
        "9278f9e5af556b2f1f2d139769c1f0d717c7b4426917fdebdba898bcb725a916e4910d6160886194ff9be9589ea7c5c32c2b8ae0754703874b7c8ba8ddfc41ce",
    ),
    (
        "darwin-amd64",
        "b4fe9f973cd1992e3880f8b230ed32c0c243b83371591e3e3315f4404df2cdbef8ee94eeb9bb245b7e5feb987d5c4a76c43e0877654ab73f00d7bbc2b9984514",
    ),
];

/// Where the programs are in the archive.
const PROGRAMS: &str = "controller-tools/envtest";

/// How long the server may be silent: a network that keeps connections waiting must not keep people waiting.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long all of it may take; building from source is not much slower then.
const LIMIT: Duration = Duration::from_secs(5 * 60);

/// How often a download says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// An archive and what it must be.
#[derive(Clone, Debug)]
pub struct Archive {
    /// The name of the directory that it is unpacked into.
    pub name: String,
    url: String,
    sha512: String,
    patience: Duration,
}

/// Why the archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cache cannot be read or written.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The server does not answer, or has stopped to.
    #[error("nothing came from {url} for {} s", patience.as_secs_f32())]
    Silent {
        /// The address.
        url: String,
        /// How long was waited.
        patience: Duration,
    },
    /// It would take too long.
    #[error("{url} is not downloaded after {} minutes", LIMIT.as_secs() / 60)]
    Slow {
        /// The address.
        url: String,
    },
    /// No connection, an answer that is an error, or one that ended early.
    #[error("{url}: {}", root_cause(source))]
    Http {
        /// The address.
        url: String,
        /// What the client said.
        source: reqwest::Error,
    },
    /// It is not the archive that is pinned.
    #[error("{url} has the SHA-512 {found}, not {wanted}: it was changed, or cut off, on its way")]
    OtherSum {
        /// The address.
        url: String,
        /// Its sum.
        found: String,
        /// The sum that is pinned.
        wanted: String,
    },
    /// A file in the archive would be written outside of the directory that it is unpacked into.
    #[error("the archive names a file outside of its folder: {}", _0.display())]
    Outside(PathBuf),
    /// The archive cannot be read or its files cannot be written.
    #[error("failed to unpack the archive: {0}")]
    Unpack(#[source] io::Error),
}

/// The archive that is pinned for this kind of machine, if there is one.
pub fn pinned() -> Option<Archive> {
    let machine = machine();
    let (_, sha512) = SUMS.iter().find(|(name, _)| *name == machine)?;
    Some(Archive {
        name: format!("envtest-{VERSION}-{}", &sha512[..12]),
        url: format!("{RELEASES}/envtest-{VERSION}/envtest-{VERSION}-{machine}.tar.gz"),
        sha512: (*sha512).to_owned(),
        patience: PATIENCE,
    })
}

// === impl Archive ===

impl Archive {
    /// Fetches the archive, checks it and unpacks it into `scratch`; returns the directory with the programs.
    pub fn fetch(&self, scratch: &Path, progress: &dyn Fn(&str)) -> Result<PathBuf, Error> {
        progress(&format!("downloading the control plane from {}", self.url));
        let path = scratch.join("archive.tar.gz");
        let mut file = File::create_new(&path).map_err(in_cache(&path))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(in_cache(scratch))?;
        let download = self.download(&mut file, &path, progress);
        let found = runtime.block_on(async { tokio::time::timeout(LIMIT, download).await });
        let slow = |_| Error::Slow {
            url: self.url.clone(),
        };
        let found = found.map_err(slow)??;
        if found != self.sha512 {
            let (url, wanted) = (self.url.clone(), self.sha512.clone());
            return Err(Error::OtherSum { url, found, wanted });
        }
        unpack(&path, scratch)?;
        Ok(scratch.join(PROGRAMS))
    }

    /// Writes the archive into a file; returns its SHA-512.
    async fn download(
        &self,
        file: &mut File,
        path: &Path,
        progress: &dyn Fn(&str),
    ) -> Result<String, Error> {
        let silent = || Error::Silent {
            url: self.url.clone(),
            patience: self.patience,
        };
        let http = |source: reqwest::Error| {
            if source.is_timeout() {
                return silent();
            }
            let url = self.url.clone();
            Error::Http { url, source }
        };
        let client = reqwest::Client::builder().read_timeout(self.patience);
        let client = client.build().map_err(http)?;
        // Around all of it: the name, the connection, and where the address leads to.
        let answer = tokio::time::timeout(self.patience, client.get(&self.url).send()).await;
        let mut answer = answer
            .map_err(|_| silent())?
            .and_then(reqwest::Response::error_for_status)
            .map_err(http)?;

        let size = answer.content_length().map(megabytes);
        let of = size.map_or_else(String::new, |size| format!(" of {size}"));
        let mut sum = Context::new(&SHA512);
        let (mut received, mut told) = (0, Instant::now());
        while let Some(chunk) = answer.chunk().await.map_err(http)? {
            sum.update(&chunk);
            file.write_all(&chunk).map_err(in_cache(path))?;
            received += chunk.len() as u64;
            if told.elapsed() >= PROGRESS_INTERVAL {
                told = Instant::now();
                progress(&format!("downloaded {}{of} MB", megabytes(received)));
            }
        }
        let sum = sum.finish();
        Ok(sum
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect())
    }
}

fn megabytes(bytes: u64) -> u64 {
    bytes / 1_000_000
}

/// What is at the bottom of an error of the HTTP client, which names only itself.
fn root_cause(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes
        .last()
        .map_or_else(|| error.to_string(), ToString::to_string)
}

/// Unpacks everything below `directory`, and nothing elsewhere.
fn unpack(archive: &Path, directory: &Path) -> Result<(), Error> {
    let file = File::open(archive).map_err(in_cache(archive))?;
    let mut archive = tar::Archive::new(GzDecoder::new(BufReader::new(file)));
    for entry in archive.entries().map_err(Error::Unpack)? {
        let mut entry = entry.map_err(Error::Unpack)?;
        if !entry.unpack_in(directory).map_err(Error::Unpack)? {
            let path = entry.path().map_err(Error::Unpack)?;
            return Err(Error::Outside(path.into_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
