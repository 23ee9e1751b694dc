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

/// The jobs of the workflow that the tag starts: each name, and the steps as text.
fn jobs() -> Vec<(String, Vec<String>)> {
    let workflow = text(".github/workflows/release.yml");
    let workflow: serde_json::Value = serde_norway::from_str(&workflow).expect("it is YAML");
    let jobs = workflow["jobs"].as_object().expect("there are jobs");
    let steps = |job: &serde_json::Value| {
        let steps = job["steps"].as_array().into_iter().flatten();
        steps.map(ToString::to_string).collect()
    };
    jobs.iter()
        .map(|(name, job)| (name.clone(), steps(job)))
        .collect()
}

/// The jobs with a step that has a text in it.
fn jobs_that_say(text: &str) -> Vec<String> {
    let says = |steps: &[String]| steps.iter().any(|step| step.contains(text));
    let jobs = jobs().into_iter().filter(|(_, steps)| says(steps));
    jobs.map(|(name, _)| name).collect()
}

#[test]
fn a_job_that_runs_again_pushes_what_was_made_and_not_over_a_tag() {
    assert_eq!(jobs_that_say(".ci/release/chart"), ["package"]);
    let asks = ".ci/release/published";
    for push in ["helm push", "imagetools create"] {
        let all: Vec<_> = jobs().into_iter().flat_map(|(_, steps)| steps).collect();
        let pushing: Vec<_> = all.iter().filter(|step| step.contains(push)).collect();
        assert_eq!(pushing.len(), 1, "{push} stands in one step");
        let asked = pushing[0]
            .find(asks)
            .map(|asked| pushing[0].find(push) > Some(asked));
        assert_eq!(asked, Some(true), "{push}: first see what is there");
    }
}

#[test]
fn the_image_of_each_platform_is_started() {
    assert_eq!(jobs_that_say("docker run"), ["build"]);
}

#[test]
fn updates_are_looked_for_wherever_versions_are_pinned() {
    let updates = text(".github/dependabot.yml");
    let updates: serde_json::Value = serde_norway::from_str(&updates).expect("it is YAML");
    let updates = updates["updates"].as_array().expect("there are updates");
    let found: BTreeSet<_> = updates
        .iter()
        .flat_map(|update| {
            let ecosystem = update["package-ecosystem"].as_str().unwrap_or_default();
            let many = update["directories"].as_array().into_iter().flatten();
            let all = many.chain([&update["directory"]]);
            all.filter_map(move |directory| Some((ecosystem, directory.as_str()?)))
        })
        .collect();
    let wanted = BTreeSet::from([
        ("cargo", "/"),
        ("cargo", "/fuzz"),
        ("docker", "/"),
        ("github-actions", "/"),
        ("gomod", "/testkit/src/control_plane/etcd"),
        ("gomod", "/testkit/src/control_plane/kubernetes"),
        ("gomod", "/testkit/src/tools/*"),
    ]);
    assert_eq!(found, wanted);
}
