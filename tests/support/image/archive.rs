//! An image as one file: the layout of the OCI's image specification in a tar archive, which `ctr images import`,
//! `kind load image-archive`, `podman load`, `skopeo` and `docker load` take.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use oci_spec::image::{
    ANNOTATION_REF_NAME, Arch, ConfigBuilder, Descriptor, DescriptorBuilder, HistoryBuilder,
    ImageConfigurationBuilder, ImageIndexBuilder, ImageManifestBuilder, MediaType,
    OciLayoutBuilder, Os, PlatformBuilder, RootFsBuilder, Sha256Digest,
};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::config::{ENTRYPOINT, PORT, USER, environment, labels};
use super::{Content, Entry, Failure, Origin};

/// The name that containerd gives to what it imports; the OCI has none for a whole reference.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// The archive of an image for this kind of machine, under a reference such as `ghcr.io/owner/name:tag`.
pub fn archive(
    root: &BTreeMap<String, Entry>,
    origin: &Origin,
    reference: &str,
) -> Result<Vec<u8>, Failure> {
    let time = origin.time;
    let mut blobs = BTreeMap::new();
    // Not compressed: the archive is loaded, not carried over networks, and compressors change their bytes.
    let layer = store(&mut blobs, MediaType::ImageLayer, tar(root, time)?)?;
    let config = json_bytes(&configuration(&layer, origin)?)?;
    let config = store(&mut blobs, MediaType::ImageConfig, config)?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageManifest)
        .config(config.clone())
        .layers(vec![layer.clone()])
        .build()?;
    let manifest = store(&mut blobs, MediaType::ImageManifest, json_bytes(&manifest)?)?;
    let docker = json!([{
        "Config": blob_path(&config),
        "Layers": [blob_path(&layer)],
        "RepoTags": [reference],
    }]);
    let mut files = BTreeMap::from([
        ("index.json".to_owned(), index(&manifest, reference)?),
        // For `docker load` where images are not kept by containerd.
        ("manifest.json".to_owned(), json_bytes(&docker)?),
        ("oci-layout".to_owned(), layout()?),
    ]);
    files.extend(blobs);
    let files = files.into_iter().map(|(path, bytes)| {
        let content = Content::File(bytes);
        (
            path,
            Entry {
                mode: 0o644,
                content,
            },
        )
    });
    tar(&files.collect(), time)
}

/// Keeps a blob under its digest.
fn store(
    blobs: &mut BTreeMap<String, Vec<u8>>,
    media_type: MediaType,
    bytes: Vec<u8>,
) -> Result<Descriptor, Failure> {
    let digest: String = Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let digest: Sha256Digest = digest.parse()?;
    let descriptor = Descriptor::new(media_type, u64::try_from(bytes.len())?, digest);
    blobs.insert(blob_path(&descriptor), bytes);
    Ok(descriptor)
}

/// Where a blob is in the archive.
fn blob_path(descriptor: &Descriptor) -> String {
    let digest = descriptor.digest();
    format!("blobs/{}/{}", digest.algorithm(), digest.digest())
}

/// How the image is run, and what it says about itself.
fn configuration(layer: &Descriptor, origin: &Origin) -> Result<impl Serialize, Failure> {
    let created = Timestamp::from_second(i64::try_from(origin.time)?)?.to_string();
    let environment = environment().into_iter();
    let config = ConfigBuilder::default()
        .user(USER)
        .entrypoint(ENTRYPOINT.map(str::to_owned))
        .exposed_ports([PORT.to_owned()])
        .env(
            environment
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>(),
        )
        .labels(owned(labels(origin)))
        .working_dir("/")
        .build()?;
    let history = HistoryBuilder::default()
        .created(created.clone())
        .created_by("cargo image")
        .build()?;
    Ok(ImageConfigurationBuilder::default()
        .created(created)
        .architecture(Arch::default())
        .os(Os::Linux)
        .config(config)
        .rootfs(
            RootFsBuilder::default()
                .diff_ids([layer.digest().to_string()])
                .build()?,
        )
        .history([history])
        .build()?)
}

/// The archive's table of contents: one image, with its name for whoever imports it.
fn index(manifest: &Descriptor, reference: &str) -> Result<Vec<u8>, Failure> {
    let tag = reference.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    let annotations = BTreeMap::from([
        (ANNOTATION_REF_NAME, tag.to_owned()),
        (CONTAINERD_NAME, reference.to_owned()),
    ]);
    let platform = PlatformBuilder::default()
        .architecture(Arch::default())
        .os(Os::Linux)
        .build()?;
    let manifest = DescriptorBuilder::default()
        .media_type(manifest.media_type().clone())
        .digest(manifest.digest().clone())
        .size(manifest.size())
        .platform(platform)
        .annotations(owned(annotations))
        .build()?;
    let index = ImageIndexBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageIndex)
        .manifests([manifest])
        .build()?;
    json_bytes(&index)
}

fn layout() -> Result<Vec<u8>, Failure> {
    let layout = OciLayoutBuilder::default()
        .image_layout_version("1.0.0")
        .build()?;
    json_bytes(&layout)
}

/// JSON with the keys in order: the crate's maps are written in a different one each time.
fn json_bytes(document: &impl Serialize) -> Result<Vec<u8>, Failure> {
    Ok(serde_json::to_vec(&serde_json::to_value(document)?)?)
}

fn owned(map: BTreeMap<&str, String>) -> HashMap<String, String> {
    map.into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// A tar archive of these entries, all of root and of the same time.
fn tar(entries: &BTreeMap<String, Entry>, time: u64) -> Result<Vec<u8>, Failure> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, entry) in entries {
        let (kind, bytes): (_, &[u8]) = match &entry.content {
            Content::Directory => (tar::EntryType::Directory, &[]),
            Content::File(bytes) => (tar::EntryType::Regular, bytes),
        };
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(entry.mode);
        header.set_mtime(time);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(u64::try_from(bytes.len())?);
        builder.append_data(&mut header, path.trim_start_matches('/'), bytes)?;
    }
    Ok(builder.into_inner()?)
}
