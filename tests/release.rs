//! A release has one version: the program, the chart, the image and the changelog agree on it. That the tag agrees as well is
//! checked by the workflow that the tag starts.

use std::collections::BTreeSet;

use regex::Regex;

/// The version of the program, as `Cargo.toml` has it.
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn text(path: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_chart_has_the_version_of_the_program() {
    let path = "charts/whatsapp-operator/Chart.yaml";
    let chart: serde_json::Value = serde_norway::from_str(&text(path)).expect("a chart is YAML");
    assert_eq!(chart["version"], VERSION, "{path}: version");
    assert_eq!(chart["appVersion"], VERSION, "{path}: appVersion");
}

#[test]
fn the_changelog_begins_with_the_version_of_the_program() {
    let changelog = text("CHANGELOG.md");
    let section = Regex::new(r"(?m)^## \[([^\]]+)\] - (unreleased|\d{4}-\d\d-\d\d)$");
    let section = section.expect("a pattern");
    let first = section.captures(&changelog);
    let first = first.expect("CHANGELOG.md has a section, such as: ## [0.1.0] - 2026-11-27");
    assert_eq!(&first[1], VERSION, "CHANGELOG.md: the first section");
}

/// The texts of a list in a TOML file.
fn list(path: &str, name: &str) -> BTreeSet<String> {
    let text = text(path);
    let list = Regex::new(&format!(r"(?ms)^{name} = \[(.*?)\]")).expect("a pattern");
    let list = list.captures(&text);
    let list = list.unwrap_or_else(|| panic!("{path} has no list {name}"));
    let item = Regex::new(r#""([^"]+)""#).expect("a pattern");
    let items = item.captures_iter(&list[1]);
    items.map(|item| item[1].to_owned()).collect()
}

#[test]
fn the_licences_in_the_image_are_allowed_ones() {
    let accepted = list("about.toml", "accepted");
    let allowed = list("deny.toml", "allow");
    let more: Vec<_> = accepted.difference(&allowed).collect();
    assert!(
        more.is_empty(),
        "about.toml: {more:?}, which deny.toml lacks"
    );
    let targets = list("about.toml", "targets");
    assert_eq!(targets, list("deny.toml", "targets"), "the targets");
}
