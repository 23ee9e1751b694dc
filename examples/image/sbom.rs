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

/// The C library of this machine, which is linked into the program.
fn c_library() -> Result<Value, Failure> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output()?;
    let said = String::from_utf8(output.stdout)?;
    let version = said.trim().strip_prefix("glibc ").ok_or_else(|| {
        format!("getconf GNU_LIBC_VERSION says {said:?}, not the version of glibc")
    })?;
    Ok(json!({
        "type": "library",
        "bom-ref": format!("pkg:generic/glibc@{version}"),
        "name": "glibc",
        "version": version,
        "description": "The GNU C Library, linked statically",
        "scope": "required",
        "licenses": [{"expression": "LGPL-2.1-or-later"}],
        "cpe": format!("cpe:2.3:a:gnu:glibc:{version}:*:*:*:*:*:*:*"),
        "purl": format!("pkg:generic/glibc@{version}"),
    }))
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
