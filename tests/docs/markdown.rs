//! As much of Markdown as the documentation uses.

use std::collections::{BTreeMap, BTreeSet};

/// The rows of the table whose first header cell is this text: each cell by the header of its column.
pub fn table<'a>(text: &'a str, first: &str) -> Vec<BTreeMap<&'a str, &'a str>> {
    let mut lines = text
        .lines()
        .skip_while(|line| cells(line).next() != Some(first));
    let header = lines.next();
    let header = header.unwrap_or_else(|| panic!("there is no table that begins with {first:?}"));
    lines
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|row| cells(header).zip(cells(row)).collect())
        .collect()
}

/// What stands between backticks in running text and tables; fenced blocks are left out.
pub fn code_spans(text: &str) -> Vec<&str> {
    let mut fenced = false;
    let mut spans = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            spans.extend(line.split('`').skip(1).step_by(2));
        }
    }
    spans
}

/// The contents of the fenced blocks in a language.
pub fn blocks(text: &str, language: &str) -> Vec<String> {
    let opening = format!("```{language}\n");
    text.split(&opening)
        .skip(1)
        .filter_map(|rest| rest.split_once("\n```"))
        .map(|(block, _)| format!("{block}\n"))
        .collect()
}

fn cells(line: &str) -> impl Iterator<Item = &str> {
    let row = line.strip_prefix('|').and_then(|row| row.strip_suffix('|'));
    row.into_iter()
        .flat_map(|row| row.split('|'))
        .map(str::trim)
}

/// The commands in the blocks that show a shell: what follows a `$`, with the lines that a backslash continues.
pub fn commands(text: &str) -> Vec<String> {
    let blocks = blocks(text, "console");
    let joined = blocks.iter().map(|block| block.replace("\\\n", " "));
    let commands = joined.flat_map(|block| {
        let lines = block.lines().filter_map(|line| line.strip_prefix("$ "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    });
    commands.collect()
}

/// The anchors of the headings, as mdBook and GitHub make them.
pub fn anchors(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let mut anchors = BTreeSet::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        let heading = line.trim_start_matches('#').strip_prefix(' ');
        if let (false, true, Some(heading)) = (fenced, line.starts_with('#'), heading) {
            anchors.insert(anchor(heading));
        }
    }
    anchors
}

fn anchor(heading: &str) -> String {
    let kept = |letter: &char| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_');
    let letters = heading.trim().chars().filter(kept);
    letters.collect::<String>().to_lowercase().replace(' ', "-")
}

/// The targets of the links and pictures in running text and tables; fenced blocks are left out.
pub fn links(text: &str) -> Vec<&str> {
    let mut fenced = false;
    let mut links = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let targets = line
                .split("](")
                .skip(1)
                .filter_map(|rest| rest.split_once(')'));
            links.extend(targets.map(|(target, _)| target));
        }
    }
    links
}
