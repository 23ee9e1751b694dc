//! What is in the program, for people and tools that must know: the software bill of materials and the licences.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use crate::image::{Failure, Origin};
use crate::program::{cargo, target};
use crate::sbom;

/// Writes the software bill of materials.
const CYCLONEDX: Tool = Tool {
    name: "cargo-cyclonedx",
    version: "0.5.9",
    features: "",
};

/// Collects the licences; about.toml says which are allowed.
const ABOUT: Tool = Tool {
    name: "cargo-about",
    version: "0.9.3",
    features: "cli",
};

/// Licences of what is in the image and is no crate of the program.
const OTHERS: [(&str, &str); 2] = [
    (
        "GNU C Library (https://www.gnu.org/software/libc/), linked into the program: LGPL-2.1-or-later.\n\
         The source and `cargo image` link the program with another edition of the library.",
        include_str!("licences/LGPL-2.1.txt"),
    ),
    (
        "Certificates of Mozilla's root store, from the crate webpki-root-certs: CDLA-Permissive-2.0.",
        include_str!("licences/CDLA-Permissive-2.0.txt"),
    ),
];

/// A program that is installed from crates.io when it is needed first.
struct Tool {
    name: &'static str,
    version: &'static str,
    features: &'static str,
}

/// The software bill of materials of the program, as CycloneDX.
pub fn sbom(origin: &Origin) -> Result<Vec<u8>, Failure> {
    let mut command = CYCLONEDX.command()?;
    command
        .args(["cyclonedx", "--quiet", "--describe=binaries"])
        .args(["--format=json", "--spec-version=1.5", "--no-build-deps"])
        .args(["--target", &target()?])
        // With it, the document has no random number.
        .env("SOURCE_DATE_EPOCH", origin.time.to_string());
    output(command)?;
    // It knows no other place than beside Cargo.toml.
    let path = sources().join("whatsapp-operator_bin.cdx.json");
    let sbom = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    fs::remove_file(&path)?;
    let here = format!("path+file://{}", sources().display());
    sbom::complete(&sbom.replace(&here, "path+file:///src"), &crates()?)
}

/// The crates in the program, as "name version".
fn crates() -> Result<BTreeSet<String>, Failure> {
    let mut tree = cargo();
    tree.args(["tree", "--locked", "--edges=normal", "--prefix=none"])
        .args(["--format={p}", "--target", &target()?]);
    let tree = String::from_utf8(output(tree)?)?;
    let crates = tree.lines().filter_map(|line| {
        let (name, version) = line.split_once(" v")?;
        let version = version.split(' ').next()?;
        Some(format!("{name} {version}"))
    });
    Ok(crates.collect())
}

/// The licences of everything in the image, one after the other.
pub fn licences() -> Result<Vec<u8>, Failure> {
    let target = target()?;
    // Every file of every crate is looked at, which takes minutes: that need not be done twice for the same crates.
    let known = sources().join(format!("target/licences-{}.txt", inputs(&target)?));
    if !known.exists() {
        // Without a network after that, so that the texts are those of the crates.
        let mut fetch = cargo();
        fetch.args(["fetch", "--quiet", "--locked"]);
        output(fetch)?;
        let mut command = ABOUT.command()?;
        command
            .args(["generate", "--frozen", "--fail", "about.hbs"])
            .args(["--target", &target]);
        let licences = output(command)?;
        fs::create_dir_all(sources().join("target"))?;
        fs::write(&known, licences)?;
    }
    let mut licences = fs::read(known)?;
    let line = "=".repeat(80);
    for (what, text) in OTHERS {
        licences.extend(format!("\n{line}\n{what}\n\n{text}").bytes());
    }
    Ok(licences)
}

/// What the licences of the crates depend on, as a short name.
fn inputs(target: &str) -> Result<String, Failure> {
    let mut inputs = Sha256::new();
    inputs.update(format!("{target} {} ", ABOUT.version));
    for file in ["Cargo.lock", "Cargo.toml", "about.hbs", "about.toml"] {
        inputs.update(fs::read(sources().join(file))?);
    }
    let digest = inputs.finalize();
    Ok(digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// Where Cargo.toml is.
fn sources() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a program to its end; what it printed.
fn output(mut command: Command) -> Result<Vec<u8>, Failure> {
    let name = PathBuf::from(command.get_program());
    let name = name.display();
    let output = command
        .current_dir(sources())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("failed to start {name}: {error}"))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!("{name} failed: see its output above").into())
    }
}

// === impl Tool ===

impl Tool {
    /// The program, installed where it was not, beside those of `.ci/run`.
    fn command(&self) -> Result<Command, Failure> {
        let tools = sources().join("target/tools");
        let mut install = cargo();
        install
            .args(["install", "--quiet", "--locked", self.name])
            .args(["--version", self.version, "--features", self.features])
            .arg("--root")
            .arg(&tools);
        output(install)?;
        Ok(Command::new(tools.join("bin").join(self.name)))
    }
}
