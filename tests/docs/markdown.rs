//! As much of Markdown as the documentation uses.

use std::collections::BTreeMap;

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
