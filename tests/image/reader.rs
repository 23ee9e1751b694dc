use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use oci_spec::image::{
    Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, OciLayout,
};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

/// The files of an archive by their paths.
pub struct Archive(BTreeMap<String, Vec<u8>>);

/// A file or directory of the image.
#[derive(Debug)]
pub struct File {
    pub path: String,
    pub is_directory: bool,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub time: u64,
}

// === impl Archive ===

impl Archive {
    pub fn read(bytes: &[u8]) -> Self {
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(bytes).entries().expect("a tar archive") {
            let mut entry = entry.expect("an entry");
            let path = entry.path().expect("a path").display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("a file");
            let twice = files.insert(path, content).is_some();
            assert!(!twice, "no file is there twice");
        }
        Self(files)
    }

    pub fn json<T: DeserializeOwned>(&self, path: &str) -> T {
        let file = self.0.get(path);
        let file = file.unwrap_or_else(|| panic!("there is no {path}"));
        serde_json::from_slice(file).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub fn layout(&self) -> OciLayout {
        self.json("oci-layout")
    }

    pub fn index(&self) -> ImageIndex {
        self.json("index.json")
    }

    pub fn manifest(&self) -> ImageManifest {
        let index = self.index();
        let descriptor = &index.manifests()[0];
        assert_eq!(descriptor.media_type(), &MediaType::ImageManifest);
        self.json(&path(descriptor))
    }

    pub fn config(&self) -> ImageConfiguration {
        let manifest = self.manifest();
        assert_eq!(manifest.config().media_type(), &MediaType::ImageConfig);
        self.json(&path(manifest.config()))
    }

    /// The paths of all blobs.
    pub fn blobs(&self) -> BTreeSet<String> {
        let paths = self.0.keys();
        paths
            .filter(|path| path.starts_with("blobs/"))
            .cloned()
            .collect()
    }

    /// Checks that a blob is what its descriptor says; where it is.
    pub fn verify(&self, descriptor: &Descriptor) -> String {
        let path = path(descriptor);
        let blob = self.0.get(&path);
        let blob = blob.unwrap_or_else(|| panic!("there is no {path}"));
        assert_eq!(u64::try_from(blob.len()), Ok(descriptor.size()), "{path}");
        let digest: String = Sha256::digest(blob)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(descriptor.as_digest_sha256(), Some(digest.as_str()));
        path
    }

    /// The image's files, from its only layer, in their order.
    pub fn files(&self) -> Vec<File> {
        let manifest = self.manifest();
        assert_eq!(manifest.layers().len(), 1, "there is one layer");
        let layer = &self.0[&path(&manifest.layers()[0])];
        let mut archive = tar::Archive::new(layer.as_slice());
        let entries = archive.entries().expect("a tar archive");
        entries
            .map(|entry| {
                let entry = entry.expect("an entry");
                let header = entry.header();
                let kind = header.entry_type();
                assert!(kind.is_dir() || kind.is_file(), "no links, no devices");
                File {
                    path: entry.path().expect("a path").display().to_string(),
                    is_directory: kind.is_dir(),
                    mode: header.mode().expect("a mode"),
                    uid: header.uid().expect("an owner"),
                    gid: header.gid().expect("a group"),
                    time: header.mtime().expect("a time"),
                }
            })
            .collect()
    }
}

fn path(descriptor: &Descriptor) -> String {
    let digest = descriptor.digest();
    format!("blobs/{}/{}", digest.algorithm(), digest.digest())
}
