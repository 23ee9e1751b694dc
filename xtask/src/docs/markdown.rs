//! As much of Markdown as the tables need.

/// A table with a header and rows.
pub fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let rows = rows.into_iter().map(|cells| row(&cells));
    let head = [
        row(&header.map(str::to_owned)),
        row(&[(); N].map(|()| "---".to_owned())),
    ];
    head.into_iter().chain(rows).collect()
}

/// A name or a value as code.
pub fn code(text: &str) -> String {
    format!("`{text}`")
}

/// Names as code, one after the other.
pub fn codes<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(code).collect::<Vec<_>>().join(", ")
}

fn row(cells: &[String]) -> String {
    let cells = cells
        .iter()
        .map(|cell| cell.replace('|', r"\|").replace('\n', " "));
    format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
}
