//! The container image: what is in it, what its configuration says, and the archive that holds it.
//!
//! This is the one list of what the image is made of. `cargo image` makes an archive from it without a container engine;
//! the `Dockerfile` takes the root file system from `cargo image`, and a test compares its instructions with [`config`].
//! Nothing here builds anything, so the tests make an image of the program that they have.

// The tests and the example include this module separately, and each uses a part of it.
#![allow(dead_code, unused_imports)]

mod archive;
mod config;
mod root;

pub use archive::archive;
pub use config::{ENTRYPOINT, PORT, USER, environment, labels};
pub use root::{Content, Entry, root};

/// Where the image is published; the chart's default.
pub const REPOSITORY: &str = "ghcr.io/whatsapp-operator/whatsapp-operator";

/// Whatever goes wrong while an image is made.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What an image was made from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The commit.
    pub revision: String,
    /// The one time that everything in the image bears, in seconds since 1970, so that two runs give the same bytes.
    pub time: u64,
}

/// What only a build gives: everything else in the image stands in this directory.
#[derive(Clone, Debug)]
pub struct Built {
    /// The operator's program, linked statically.
    pub program: Vec<u8>,
    /// The software bill of materials of the program, as CycloneDX.
    pub sbom: Vec<u8>,
    /// The licences of what the program contains.
    pub licences: Vec<u8>,
}
