//! The root file system: the program, what it needs to call Graph, and the papers. No shell, no libraries, no package
//! manager: what is not there needs no updates and helps nobody who breaks in.

use std::collections::BTreeMap;

use pem::{EncodeConfig, LineEnding, Pem};

use super::Built;

/// The operator.
pub(super) const PROGRAM: &str = "/whatsapp-operator";

/// The certificate authorities that Mozilla trusts, where programs look for them on Debian and in distroless images.
pub(super) const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Names for the numbers of users, which only people and tools read.
const PASSWD: &str = "\
root:x:0:0:root:/:/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin
nonroot:x:65532:65532:nonroot:/nonexistent:/sbin/nologin
";

/// Names for the numbers of groups.
const GROUP: &str = "\
root:x:0:
nobody:x:65534:
nonroot:x:65532:
";

/// `/etc/hosts` goes before DNS, or `hostAliases` of a pod would do nothing.
const NSSWITCH: &str = "hosts: files dns\n";

/// Something in the root file system; its owner is root.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Everybody may read it, root alone may write to it.
    pub mode: u32,
    /// What it holds.
    pub content: Content,
}

/// What an entry of the root file system holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Other entries.
    Directory,
    /// These bytes.
    File(Vec<u8>),
}

/// Everything in the root file system by its absolute path, directories before what is in them.
pub fn root(built: &Built) -> BTreeMap<String, Entry> {
    let files = [
        (PROGRAM, 0o755, built.program.clone()),
        (CERTIFICATES, 0o644, certificates()),
        ("/etc/group", 0o644, GROUP.into()),
        ("/etc/nsswitch.conf", 0o644, NSSWITCH.into()),
        ("/etc/passwd", 0o644, PASSWD.into()),
        (
            "/usr/share/doc/whatsapp-operator/LICENSE",
            0o644,
            include_bytes!("../../../LICENSE").into(),
        ),
        (
            "/usr/share/doc/whatsapp-operator/THIRD-PARTY-LICENSES.txt",
            0o644,
            built.licences.clone(),
        ),
        // Scanners of images read files of this ending.
        (
            "/usr/share/doc/whatsapp-operator/whatsapp-operator.cdx.json",
            0o644,
            built.sbom.clone(),
        ),
    ];
    let mut root = BTreeMap::new();
    for (path, mode, bytes) in files {
        let content = Content::File(bytes);
        root.insert(path.to_owned(), Entry { mode, content });
        for (end, _) in path.match_indices('/').skip(1) {
            let content = Content::Directory;
            let mode = 0o755;
            root.insert(path[..end].to_owned(), Entry { mode, content });
        }
    }
    root
}

/// One file of all certificates. `Cargo.lock` says which edition of Mozilla's list it is, whatever machine this runs on.
fn certificates() -> Vec<u8> {
    let certificates: Vec<Pem> = webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .map(|certificate| Pem::new("CERTIFICATE", certificate.as_ref()))
        .collect();
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_many_config(&certificates, config).into_bytes()
}
