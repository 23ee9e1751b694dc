//! The operator's program, linked statically: the image needs no libraries then.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::image::Failure;

/// The binary, as Cargo.toml has it.
const BINARY: &str = "whatsapp-operator";

/// Builds the program and reads it.
pub fn build() -> Result<Vec<u8>, Failure> {
    let target = target()?;
    let output = cargo()
        .args(["build", "--locked", "--profile=image"])
        // With a target, the flags are not those of build scripts and macros, which cannot be linked statically.
        .args(["--bin", BINARY, "--target", &target])
        .arg("--message-format=json-render-diagnostics")
        .env("CARGO_ENCODED_RUSTFLAGS", rust_flags()?)
        .env("CFLAGS", c_flags()?)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("failed to start cargo to build {BINARY}: {error}"))?;
    if !output.status.success() {
        return Err(format!("failed to build {BINARY}: see Cargo's output above").into());
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let path = messages
        .lines()
        .find_map(executable)
        .ok_or_else(|| format!("cargo built {BINARY} but did not say where it is"))?;
    Ok(fs::read(path)?)
}

/// Cargo as it runs this program.
pub fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The kind of machine that this is: an image for another one is built on another one.
pub fn target() -> Result<String, Failure> {
    match env::consts::ARCH {
        arch @ ("x86_64" | "aarch64") if cfg!(target_os = "linux") => {
            Ok(format!("{arch}-unknown-linux-gnu"))
        }
        arch => Err(format!(
            "images are for Linux on x86_64 and aarch64, and this is {} on {arch}: build one there",
            env::consts::OS
        )
        .into()),
    }
}

/// Links statically, and keeps this machine's paths out of the program: wherever it is built, it has the same bytes.
fn rust_flags() -> Result<OsString, Failure> {
    let mut flags = OsString::from("-Ctarget-feature=+crt-static");
    for (path, name) in paths()? {
        flags.push("\u{1f}--remap-path-prefix=");
        flags.push(path);
        flags.push("=");
        flags.push(name);
    }
    Ok(flags)
}

/// The same for what is written in C.
fn c_flags() -> Result<OsString, Failure> {
    let mut flags = OsString::new();
    for (path, name) in paths()? {
        flags.push(" -ffile-prefix-map=");
        flags.push(path);
        flags.push("=");
        flags.push(name);
    }
    Ok(flags)
}

/// Where the sources are, and what stands in the program instead; the last that fits counts.
fn paths() -> Result<[(PathBuf, &'static str); 3], Failure> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).to_owned();
    let cargo = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")))
        .ok_or("there is no home directory: set CARGO_HOME")?;
    let target = env::current_exe()?;
    let target = target.ancestors().nth(3).ok_or("this program is nowhere")?;
    Ok([
        (sources, "/src"),
        (target.to_owned(), "/target"),
        (cargo, "/cargo"),
    ])
}

/// The program's path, where a line of Cargo's messages tells of it.
fn executable(line: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["target"]["name"] != BINARY {
        return None;
    }
    message["executable"].as_str().map(PathBuf::from)
}
