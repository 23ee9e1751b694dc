//! The results as they stand in docs/design/faults.md.

use std::path::Path;

use super::scenario::Scenario;
use super::trail::Step;
use super::{Fault, Outcome};

/// Between these lines of the documentation.
const START: &str = "<!-- every_step: start -->\n";
const END: &str = "<!-- every_step: end -->";

/// What became of the faults at one step.
pub struct Row {
    pub step: Step,
    /// By the scenario's faults; none for one that is not tried at this step.
    pub outcomes: Vec<Option<Outcome>>,
}

/// A table of one scenario.
pub fn table(scenario: Scenario, whole: &Outcome, rows: &[Row]) -> String {
    let faults = scenario.faults();
    let mut text = format!("### {}\n\n| at this step |", scenario.title());
    for fault in faults {
        text.push_str(&format!(" {} |", title(*fault)));
    }
    text.push_str(&format!("\n| --- |{}\n", " --- |".repeat(faults.len())));
    let same = format!(" {} |", cell(whole)).repeat(faults.len());
    text.push_str(&format!("| no fault |{same}\n"));
    for row in rows {
        let cells: String = row
            .outcomes
            .iter()
            .map(|o| format!(" {} |", o.as_ref().map_or("–".to_owned(), cell)))
            .collect();
        text.push_str(&format!("| {} |{cells}\n", row.step));
    }
    text.push('\n');
    text
}

fn title(fault: Fault) -> &'static str {
    match fault {
        Fault::Crash => "the process dies",
        Fault::Recreate => "the resource is re-created",
        Fault::Rename => "the resource is renamed",
    }
}

fn cell(outcome: &Outcome) -> String {
    format!("{}, {}", outcome.calls, outcome.ends)
}

/// Compares the tables with the documentation, or writes them there.
pub fn compare(tables: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/design/faults.md");
    let text = std::fs::read_to_string(&path).expect("docs/design/faults.md");
    let (before, rest) = text.split_once(START).expect("the start of the tables");
    let (written, after) = rest.split_once(END).expect("the end of the tables");
    if std::env::var_os("WRITE_FAULTS").is_some() {
        let text = [before, START, tables, END, after].concat();
        std::fs::write(&path, text).expect("docs/design/faults.md is written");
        return;
    }
    let differences: Vec<_> = tables
        .lines()
        .filter(|line| !written.lines().any(|known| known == *line))
        .collect();
    assert!(
        written == tables,
        "docs/design/faults.md says otherwise. Not there:\n{}\nIf that is meant: WRITE_FAULTS=1 cargo test every_step",
        differences.join("\n")
    );
}
