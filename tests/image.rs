//! The container image that `cargo image` and the `Dockerfile` make: valid, the same each time, and with nothing in it
//! that anybody but root could change.

/// What the `Dockerfile` says.
mod dockerfile;
/// The archive, read as a container engine does.
mod reader;

use std::collections::BTreeSet;
use std::sync::LazyLock;

#[allow(clippy::module_inception)]
#[path = "support/image/mod.rs"]
mod image;

use self::image::{Built, Content, ENTRYPOINT, Origin, PORT, USER};
use dockerfile::Dockerfile;
use reader::Archive;

const REFERENCE: &str = "registry.example/whatsapp-operator:test";

/// The program of this build; the one of a release only differs by how it was compiled.
static BUILT: LazyLock<Built> = LazyLock::new(|| Built {
    program: std::fs::read(env!("CARGO_BIN_EXE_whatsapp-operator")).expect("the program is built"),
    sbom: b"{}".to_vec(),
    licences: b"None.".to_vec(),
});

static ARCHIVE: LazyLock<Vec<u8>> = LazyLock::new(make);

fn origin() -> Origin {
    Origin {
        revision: "0123456789abcdef0123456789abcdef01234567".to_owned(),
        time: 1_790_000_000,
    }
}

fn make() -> Vec<u8> {
    image::archive(&image::root(&BUILT), &origin(), REFERENCE).expect("an archive can be made")
}

#[test]
fn the_archive_is_an_oci_image_layout() {
    let archive = Archive::read(&ARCHIVE);
    assert_eq!(archive.layout().image_layout_version(), "1.0.0");
    let index = archive.index();
    assert_eq!(index.manifests().len(), 1, "there is one image");
    let manifest = archive.manifest();
    let config = manifest.config();
    let mut described: Vec<_> = manifest.layers().iter().collect();
    described.extend([config, &index.manifests()[0]]);
    let paths: BTreeSet<_> = described
        .iter()
        .map(|descriptor| archive.verify(descriptor))
        .collect();
    assert_eq!(paths, archive.blobs(), "each blob is described");
    let layers: Vec<_> = manifest
        .layers()
        .iter()
        .map(|layer| layer.digest().to_string())
        .collect();
    // A layer that is not compressed has one digest, not two.
    assert_eq!(archive.config().rootfs().diff_ids(), &layers);
}

#[test]
fn container_engines_find_its_name() {
    let archive = Archive::read(&ARCHIVE);
    let index = archive.index();
    let annotations = index.manifests()[0].annotations().as_ref();
    let annotations = annotations.expect("the image has a name");
    assert_eq!(annotations["io.containerd.image.name"], REFERENCE);
    assert_eq!(annotations["org.opencontainers.image.ref.name"], "test");
    let manifest = archive.manifest();
    let path = |digest: &oci_spec::image::Digest| format!("blobs/sha256/{}", digest.digest());
    let docker = serde_json::json!([{
        "Config": path(manifest.config().digest()),
        "Layers": [path(manifest.layers()[0].digest())],
        "RepoTags": [REFERENCE],
    }]);
    assert_eq!(archive.json::<serde_json::Value>("manifest.json"), docker);
}

#[test]
fn the_configuration_starts_the_operator_without_rights() {
    let archive = Archive::read(&ARCHIVE);
    let configuration = archive.config();
    assert_eq!(configuration.os().to_string(), "linux");
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    assert_eq!(configuration.architecture().to_string(), architecture);
    assert_eq!(
        configuration.created().as_deref(),
        Some("2026-09-21T14:13:20Z")
    );
    let config = configuration.config().as_ref();
    let config = config.expect("it says how it is run");
    assert_eq!(config.user().as_deref(), Some("65532:65532"));
    let entrypoint = vec!["/whatsapp-operator".to_owned()];
    assert_eq!(config.entrypoint().as_ref(), Some(&entrypoint));
    assert_eq!(config.cmd(), &None, "the arguments are the pod's");
    let ports = vec!["8080/tcp".to_owned()];
    assert_eq!(config.exposed_ports().as_ref(), Some(&ports));
    let environment = vec!["SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt".to_owned()];
    assert_eq!(config.env().as_ref(), Some(&environment));
    let labels = config.labels().clone().expect("it has labels");
    let label = |name: &str| labels[&format!("org.opencontainers.image.{name}")].clone();
    assert_eq!(label("version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(label("revision"), origin().revision);
    assert_eq!(label("source"), env!("CARGO_PKG_REPOSITORY"));
}

#[test]
fn it_holds_these_files_and_only_root_may_change_them() {
    let files = Archive::read(&ARCHIVE).files();
    let paths: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "etc",
            "etc/group",
            "etc/nsswitch.conf",
            "etc/passwd",
            "etc/ssl",
            "etc/ssl/certs",
            "etc/ssl/certs/ca-certificates.crt",
            "usr",
            "usr/share",
            "usr/share/doc",
            "usr/share/doc/whatsapp-operator",
            "usr/share/doc/whatsapp-operator/LICENSE",
            "usr/share/doc/whatsapp-operator/THIRD-PARTY-LICENSES.txt",
            "usr/share/doc/whatsapp-operator/whatsapp-operator.cdx.json",
            "whatsapp-operator",
        ]
    );
    for file in &files {
        let path = &file.path;
        assert_eq!((file.uid, file.gid), (0, 0), "{path} belongs to root");
        assert_eq!(
            file.time,
            origin().time,
            "{path} has the time of the commit"
        );
        let runs = file.is_directory || path == "whatsapp-operator";
        // Neither set-user-ID nor anything that others may write to.
        let mode = if runs { 0o755 } else { 0o644 };
        assert_eq!(file.mode, mode, "{path} has the mode {:o}", file.mode);
    }
}

#[test]
fn its_user_has_a_name() {
    let root = image::root(&BUILT);
    let Content::File(passwd) = &root["/etc/passwd"].content else {
        panic!("/etc/passwd is a file")
    };
    let passwd = String::from_utf8_lossy(passwd);
    let (user, group) = USER.split_once(':').expect("a user and a group");
    let line = format!("nonroot:x:{user}:{group}:");
    assert!(passwd.lines().any(|entry| entry.starts_with(&line)));
}

#[test]
fn it_trusts_what_mozilla_trusts() {
    let root = image::root(&BUILT);
    let Content::File(file) = &root["/etc/ssl/certs/ca-certificates.crt"].content else {
        panic!("the certificates are a file")
    };
    let certificates = pem::parse_many(file).expect("the file is PEM");
    let contents = certificates.iter().map(pem::Pem::contents);
    let expected = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
    assert!(contents.eq(expected.map(AsRef::as_ref)));
    assert!(certificates.len() > 100, "there are some");
}

#[test]
fn two_runs_give_the_same_bytes() {
    let again = make();
    assert!(*ARCHIVE == again, "the archive is the same each time");
}

#[test]
fn the_dockerfile_makes_the_same_image() {
    let dockerfile = Dockerfile::read();
    let last = dockerfile.last_stage();
    assert_eq!(last.all("FROM"), ["scratch"], "nothing is below the files");
    assert_eq!(last.all("COPY"), ["--from=build /rootfs/ /"]);
    let entrypoint = serde_json::json!(ENTRYPOINT).to_string();
    assert_eq!(last.all("ENTRYPOINT"), [entrypoint]);
    assert_eq!(last.all("USER"), [USER]);
    assert_eq!(last.all("EXPOSE"), [PORT]);
    let environment: Vec<_> = image::environment()
        .iter()
        .map(|(name, value)| format!("{name}=\"{value}\""))
        .collect();
    assert_eq!(last.all("ENV"), [environment.join(" ")]);
    let origin = Origin {
        revision: "${REVISION}".to_owned(),
        ..origin()
    };
    let labels = image::labels(&origin).into_iter();
    let labels = labels.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(last.labels(), labels.collect());
    let others: BTreeSet<_> = last.names();
    let known = [
        "ARG",
        "COPY",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "FROM",
        "LABEL",
        "USER",
    ];
    assert_eq!(others, known.into(), "nothing else is done to the image");
}

#[test]
fn the_build_stage_runs_cargo_image() {
    let dockerfile = Dockerfile::read();
    let build = dockerfile.first_stage();
    let runs = build.all("RUN");
    let [run] = runs.as_slice() else {
        panic!("one RUN, but there are {runs:?}")
    };
    assert!(run.ends_with(" cargo image --rootfs /rootfs"), "{run}");
    // The compiler that everything is tested with.
    let rust = env!("CARGO_PKG_RUST_VERSION");
    let from = build.all("FROM").concat();
    let tag = format!("rust:{rust}-");
    assert!(from.starts_with(&tag), "{from} is not of Rust {rust}");
}
