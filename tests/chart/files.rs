//! What stands in the chart twice, or is made from something else, is current.

use std::path::Path;

use super::helm::{Helm, chart, combinations};
use testkit::tools::HELM_DOCS;

/// Compares a file of the chart with what it is made from, or writes it where `WRITE_CHART` is set.
fn check(file: &Path, made: &str) {
    if std::env::var_os("WRITE_CHART").is_some() {
        std::fs::write(file, made).expect("the chart can be written");
    }
    assert!(
        text(file) == made,
        "{} is not current; run: WRITE_CHART=1 cargo test chart::files",
        file.display()
    );
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_definition_is_the_one_of_the_operator() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds/whatsappphonenumbers.yaml");
    check(
        &chart().join("files/whatsappphonenumbers.yaml"),
        &text(&source),
    );
}

#[test]
fn the_readme_is_made_from_the_values() {
    let chart = chart();
    let directory = chart.to_str().expect("a path that is text");
    let made = HELM_DOCS.run(&[
        "--chart-search-root",
        directory,
        "--sort-values-order=file",
        "--dry-run",
        "--log-level=warning",
    ]);
    check(&chart.join("README.md"), &format!("{}\n", made.trim_end()));
}

#[test]
fn the_base_for_kustomize_is_what_the_chart_makes_by_default() {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("kustomize/base/whatsapp-operator.yaml");
    let chart = chart();
    let chart = chart.to_str().expect("a path that is text");
    let name = "whatsapp-operator";
    let made = Helm::alone().run(&["template", name, chart, "--namespace", name]);
    check(&base, &made);
}

#[test]
fn helm_finds_nothing_to_complain_about() {
    let helm = Helm::alone();
    let chart = chart();
    let chart = chart.to_str().expect("a path that is text");
    for values in combinations() {
        let values = values.to_str().expect("a path that is text");
        helm.run(&["lint", "--strict", "--quiet", chart, "--values", values]);
    }
}
