//! The container image without a container engine: `umoci` puts it together, `skopeo` writes the archive.
//!
//! How the image runs is read from the last stage of the `Dockerfile`, so the two agree.

#[cfg(test)]
mod tests;

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Parser;
use xshell::{Shell, cmd};

const DOCKERFILE: &str = include_str!("../../Dockerfile");
const REFERENCE: &str = concat!(
    "ghcr.io/whatsapp-operator/whatsapp-operator:",
    env!("CARGO_PKG_VERSION")
);

/// The certificate authorities, on this machine and in the image.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// `/etc/hosts` before DNS: by default the C library asks DNS first, and the `hostAliases` of a pod do nothing.
const NSSWITCH: &str = "hosts: files dns\n";

/// The user of the image, as its base has it: without a group here, the container would run with that of root.
const PASSWD: &str = "nonroot:x:65532:65532:nonroot:/:/sbin/nologin\n";

/// Where the image goes, and under which name.
#[derive(Debug, Parser)]
pub struct Args {
    /// Name of the image in the archive
    #[arg(long, default_value = REFERENCE)]
    reference: String,
    /// Where to write the archive, which docker, podman, containerd and kind load
    #[arg(long, default_value = "target/image.tar")]
    output: PathBuf,
}

/// Builds the program and the image, and writes the archive.
pub fn run(args: &Args) -> Result<()> {
    let shell = Shell::new()?;
    // Before a build that takes minutes.
    for tool in ["umoci", "skopeo"] {
        let version = cmd!(shell, "{tool} --version").quiet().read();
        version
            .context("failed to find umoci or skopeo; on Debian: apt-get install umoci skopeo")?;
    }
    let program = build(&shell)?;
    let directory = shell.create_temp_dir()?;
    let root = directory.path().join("root");
    let layout = directory.path().join("layout");
    copy_files(&shell, &program, &root)?;
    assemble(&shell, &root, &layout)?;
    archive(&shell, &layout, args)
}

/// Builds the program, linked statically, and returns its path.
fn build(shell: &Shell) -> Result<PathBuf> {
    let executable = env::current_exe().context("failed to find this program")?;
    let directory = executable.ancestors().nth(2);
    let directory = directory.context("failed to find the target directory")?;
    let target = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    // With a target, build scripts and macros are not linked statically.
    cmd!(shell, "cargo build --locked --profile image --package whatsapp-operator --target {target} --target-dir {directory}")
        .env("RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .run()?;
    Ok(directory.join(target).join("image/whatsapp-operator"))
}

/// Copies the image's files, for everyone to read whatever the umask is.
fn copy_files(shell: &Shell, program: &Path, root: &Path) -> Result<()> {
    cmd!(
        shell,
        "install -D -m 755 {program} {root}/whatsapp-operator"
    )
    .run()?;
    cmd!(
        shell,
        "install -D -m 644 {CERTIFICATES} {root}{CERTIFICATES}"
    )
    .run()?;
    for (name, text) in [("nsswitch.conf", NSSWITCH), ("passwd", PASSWD)] {
        let written = cmd!(shell, "install -D -m 644 /dev/stdin {root}/etc/{name}");
        written.stdin(text).run()?;
    }
    Ok(())
}

/// Makes an image of the files, in an OCI layout.
fn assemble(shell: &Shell, root: &Path, layout: &Path) -> Result<()> {
    let revision = cmd!(shell, "git rev-parse HEAD").read();
    let settings = settings(DOCKERFILE, revision.as_deref().unwrap_or("unknown"))?;
    cmd!(shell, "umoci init --layout {layout}").run()?;
    cmd!(shell, "umoci new --image {layout}:image").run()?;
    // Rootless: in the image the files belong to root, whoever runs this.
    cmd!(
        shell,
        "umoci insert --rootless --image {layout}:image {root} /"
    )
    .run()?;
    Ok(cmd!(shell, "umoci config --image {layout}:image {settings...}").run()?)
}

/// Writes the archive, in place of one that is there.
fn archive(shell: &Shell, layout: &Path, args: &Args) -> Result<()> {
    let Args { reference, output } = args;
    shell.create_dir(output.parent().unwrap_or(output))?;
    shell.remove_path(output)?;
    let archive = format!("docker-archive:{}:{reference}", output.display());
    cmd!(
        shell,
        "skopeo --insecure-policy copy oci:{layout}:image {archive}"
    )
    .run()?;
    Ok(())
}

/// Returns the arguments of `umoci config` for what the last stage of a Dockerfile says.
fn settings(dockerfile: &str, revision: &str) -> Result<Vec<String>> {
    let (_, stage) = dockerfile.rsplit_once("\nFROM ").context("no FROM")?;
    let mut settings = Vec::new();
    for line in stage.lines().skip(1) {
        let (instruction, value) = line.split_once(' ').unwrap_or((line, ""));
        let option = match instruction {
            "ENTRYPOINT" => "entrypoint",
            "ENV" => "env",
            "EXPOSE" => "exposedports",
            "LABEL" => "label",
            "USER" => "user",
            "ARG" | "COPY" => continue,
            _ => bail!("the Dockerfile says {line:?}, which `cargo image` does not know"),
        };
        let value = value.replace(['[', ']', '"'], "");
        let value = value.replace("${REVISION}", revision);
        settings.push(format!("--config.{option}={value}"));
    }
    Ok(settings)
}
