//! Makes the software bill of materials say what is in the program: no more than Cargo built, and the C library.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};

use crate::image::Failure;

/// A document of cargo-cyclonedx, with these crates ("name version") alone, and with the C library.
///
/// Cargo's metadata, which it is made from, also has crates that no enabled feature asks for. A scanner would report
/// faults in code that is not there.
pub fn complete(document: &str, crates: &BTreeSet<String>) -> Result<Vec<u8>, Failure> {
    let mut document: Value = serde_json::from_str(document)?;
    let components = list(&mut document, "components")?;
    components.retain(|component| crates.contains(&name(component)));
    components.push(c_library()?);
    let mut known: BTreeSet<String> = components
        .iter()
        .map(|component| text(&component["bom-ref"]))
        .collect();
    known.insert(text(&document["metadata"]["component"]["bom-ref"]));
    let dependencies = list(&mut document, "dependencies")?;
    dependencies.retain(|dependency| known.contains(&text(&dependency["ref"])));
    for dependency in dependencies {
        if let Some(on) = dependency
            .get_mut("dependsOn")
            .and_then(Value::as_array_mut)
        {
            on.retain(|reference| known.contains(&text(reference)));
        }
    }
    Ok(serde_json::to_vec_pretty(&document)?)
}

/// The C library of this machine, which is linked into the program. On Debian and its kin, with the version of the package:
/// that one says which faults are mended.
fn c_library() -> Result<Value, Failure> {
    let said = said(Command::new("getconf").arg("GNU_LIBC_VERSION"))?;
    let upstream = said.trim().strip_prefix("glibc ").ok_or_else(|| {
        format!("getconf GNU_LIBC_VERSION says {said:?}, not the version of glibc")
    })?;
    let package = package();
    let version = package
        .as_ref()
        .map_or(upstream, |(_, version)| version.as_str());
    let purl = match &package {
        Some((system, _)) => {
            let (distribution, _) = system.split_once('-').unwrap_or((system, ""));
            // A plus sign means something else in a URL.
            let version = version.replace('+', "%2B");
            format!("pkg:deb/{distribution}/glibc@{version}?arch=source&distro={system}")
        }
        None => format!("pkg:generic/glibc@{version}"),
    };
    Ok(json!({
        "type": "library",
        "bom-ref": purl,
        "name": "glibc",
        "version": version,
        "description": "The GNU C Library, linked statically",
        "scope": "required",
        "licenses": [{"expression": "LGPL-2.1-or-later"}],
        "cpe": format!("cpe:2.3:a:gnu:glibc:{upstream}:*:*:*:*:*:*:*"),
        "purl": purl,
    }))
}

/// The system, such as debian-12, and the version of its package that has the static library; nothing where dpkg knows
/// none.
fn package() -> Option<(String, String)> {
    let format = "--showformat=${Version}\n";
    let versions = said(Command::new("dpkg-query").args(["--show", format, "libc6-dev"])).ok()?;
    // One line for each architecture, and all have one version.
    let version = versions.lines().next().filter(|line| !line.is_empty())?;
    let release = std::fs::read_to_string("/etc/os-release").ok()?;
    let field = |name: &str| {
        let mut values = release.lines().filter_map(|line| line.strip_prefix(name));
        values.next().map(|value| value.trim_matches('"'))
    };
    let system = format!("{}-{}", field("ID=")?, field("VERSION_ID=")?);
    Some((system, version.to_owned()))
}

/// What a program prints that succeeds.
fn said(command: &mut Command) -> Result<String, Failure> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn list<'a>(document: &'a mut Value, name: &str) -> Result<&'a mut Vec<Value>, Failure> {
    let list = document.get_mut(name).and_then(Value::as_array_mut);
    list.ok_or_else(|| format!("the software bill of materials has no {name}").into())
}

fn name(component: &Value) -> String {
    format!(
        "{} {}",
        text(&component["name"]),
        text(&component["version"])
    )
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
