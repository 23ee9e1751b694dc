//! As much of Markdown as the documentation uses.

/// A table: its header and its rows, cell by cell.
pub struct Table {
    /// The cells of the first row.
    pub header: Vec<String>,
    /// The cells of the others.
    pub rows: Vec<Vec<String>>,
}

/// The table whose first header cell is this text.
pub fn table(text: &str, first: &str) -> Table {
    let lines: Vec<&str> = text.lines().collect();
    let start = lines
        .iter()
        .position(|line| line.starts_with('|') && cells(line).first().is_some_and(|c| c == first));
    let start = start.unwrap_or_else(|| panic!("there is no table that begins with {first:?}"));
    let rows = lines[start + 2..]
        .iter()
        .take_while(|line| line.starts_with('|'));
    Table {
        header: cells(lines[start]),
        rows: rows.map(|line| cells(line)).collect(),
    }
}

impl Table {
    /// A column by its name.
    pub fn column(&self, name: &str) -> Vec<&str> {
        let index = self.header.iter().position(|cell| cell == name);
        let index = index.unwrap_or_else(|| panic!("there is no column {name:?}"));
        self.rows
            .iter()
            .map(|row| row.get(index).map_or("", String::as_str))
            .collect()
    }

    /// A column of names, each in backticks.
    pub fn names(&self, column: &str) -> Vec<String> {
        let unquoted = |cell: &str| {
            let name = cell
                .strip_prefix('`')
                .and_then(|cell| cell.strip_suffix('`'));
            name.unwrap_or_else(|| panic!("{cell:?} stands without backticks"))
                .to_owned()
        };
        self.column(column).into_iter().map(unquoted).collect()
    }
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

/// The texts of the headings of a level.
pub fn headings(text: &str, level: usize) -> Vec<&str> {
    let mark = format!("{} ", "#".repeat(level));
    text.lines()
        .filter_map(|line| line.strip_prefix(&mark))
        .collect()
}

fn cells(line: &str) -> Vec<String> {
    let line = line.trim().trim_start_matches('|').trim_end_matches('|');
    line.split('|').map(|cell| cell.trim().to_owned()).collect()
}
