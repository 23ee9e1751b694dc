//! `cargo image`: the container image, without a container engine.
//!
//! Links the operator statically, puts it together with what else belongs into the image (`tests/support/image/`) and
//! writes an archive that container engines load. The same commit, compiler and C library give the same bytes.

#[path = "../tests/support/image/mod.rs"]
mod image;
#[path = "image/origin.rs"]
mod origin;
#[path = "image/papers.rs"]
mod papers;
#[path = "image/program.rs"]
mod program;
#[path = "image/rootfs.rs"]
mod rootfs;
#[path = "image/sbom.rs"]
mod sbom;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use crate::image::{Built, Failure, REPOSITORY};

/// Makes the container image of the operator, without a container engine.
#[derive(Debug, Parser)]
#[command(name = "cargo image")]
struct Args {
    /// The name of the image in the archive; the chart's default if it is not given
    #[arg(long, default_value_t = format!("{REPOSITORY}:{}", env!("CARGO_PKG_VERSION")))]
    reference: String,

    /// Where to write the archive
    #[arg(long, default_value = "target/image.tar")]
    output: PathBuf,

    /// Write the root file system into this directory, which must not exist, and no archive
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "papers")]
    rootfs: Option<PathBuf>,

    /// Write the software bill of materials and the licences into this directory, and no archive
    #[arg(long, value_name = "DIRECTORY")]
    papers: Option<PathBuf>,
}

fn main() -> ExitCode {
    match make(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo image failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn make(args: &Args) -> Result<(), Failure> {
    let origin = origin::origin()?;
    let sbom = papers::sbom(&origin)?;
    let licences = papers::licences()?;
    if let Some(directory) = &args.papers {
        write(&directory.join("whatsapp-operator.cdx.json"), &sbom)?;
        return write(&directory.join("THIRD-PARTY-LICENSES.txt"), &licences);
    }
    let program = program::build()?;
    let root = image::root(&Built {
        program,
        sbom,
        licences,
    });
    match &args.rootfs {
        Some(directory) => {
            rootfs::write(&root, directory)?;
            println!("{}: the root file system", directory.display());
            Ok(())
        }
        None => {
            let archive = image::archive(&root, &origin, &args.reference)?;
            write(&args.output, &archive)?;
            println!("It is the image {}", args.reference);
            Ok(())
        }
    }
}

/// Writes a file and says so.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("{}: {} bytes", path.display(), bytes.len());
    Ok(())
}
