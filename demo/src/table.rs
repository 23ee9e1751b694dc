//! The table that `kubectl get` prints, as the API server makes it, and showing it while it changes.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};

use kube::Client;
use operator_core::api::WhatsAppPhoneNumber;
use serde::Deserialize;
use serde_json::Value;

use crate::Failure;

/// The resources of the demo, whole objects beside what is printed of them.
const PATH: &str = "/apis/whatsapp-operator.dev/v1alpha1/namespaces/default/whatsappphonenumbers?includeObject=Object";

/// What kubectl asks for.
const ACCEPT: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// The column that changes all the time.
const AGE: &str = "AGE";

/// What kubectl leaves between two columns.
const PADDING: usize = 3;

/// Cells by row; the first row has the names of the columns.
pub type Cells = Vec<Vec<String>>;

/// A table from the API server.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    column_definitions: Vec<Column>,
    /// One row for each resource.
    #[serde(default)]
    pub rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Column {
    name: String,
    priority: i32,
}

/// A row of a table.
#[derive(Deserialize)]
pub struct Row {
    cells: Vec<Value>,
    /// The resource.
    pub object: WhatsAppPhoneNumber,
}

/// A table that people watch: drawn anew in place on a terminal, else a line for each row that changes, as
/// `kubectl get --watch` has it.
pub struct Live {
    terminal: bool,
    lines_drawn: usize,
    printed: BTreeMap<String, Vec<String>>,
}

/// The table of all resources as it is now.
pub async fn fetch(client: &Client) -> Result<Table, Failure> {
    let request = http::Request::get(PATH)
        .header(http::header::ACCEPT, ACCEPT)
        .body(Vec::new())?;
    Ok(client.request(request).await?)
}

/// The lines of a table as kubectl sets them.
pub fn lines(cells: &Cells, least_widths: &[usize]) -> Vec<String> {
    let width = |column: usize| {
        let widest = cells
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max();
        widest.max(least_widths.get(column).copied()).unwrap_or(0) + PADDING
    };
    let line = |row: &Vec<String>| -> String {
        let padded = row.iter().enumerate();
        let padded = padded.map(|(column, cell)| format!("{cell:<0$}", width(column)));
        padded.collect::<String>().trim_end().to_owned()
    };
    cells.iter().map(line).collect()
}

// === impl Table ===

impl Table {
    /// What kubectl prints without `-o wide`.
    fn cells(&self) -> Cells {
        let shown: Vec<bool> = self.columns().map(|column| column.priority == 0).collect();
        let header = self.columns().map(|column| column.name.to_uppercase());
        let rows = self
            .rows
            .iter()
            .map(|row| row.cells.iter().map(text).collect());
        std::iter::once(header.collect())
            .chain(rows)
            .map(|row: Vec<String>| {
                let cells = row.into_iter().zip(&shown);
                cells
                    .filter(|(_, shown)| **shown)
                    .map(|(cell, _)| cell)
                    .collect()
            })
            .collect()
    }

    /// The resource of this name.
    pub fn object(&self, name: &str) -> Option<&WhatsAppPhoneNumber> {
        let objects = self.rows.iter().map(|row| &row.object);
        objects
            .into_iter()
            .find(|object| object.metadata.name.as_deref() == Some(name))
    }

    fn columns(&self) -> impl Iterator<Item = &Column> {
        self.column_definitions.iter()
    }
}

fn text(cell: &Value) -> String {
    match cell {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

// === impl Live ===

impl Live {
    /// For standard output.
    pub fn new() -> Self {
        Self {
            terminal: io::stdout().is_terminal(),
            lines_drawn: 0,
            printed: BTreeMap::new(),
        }
    }

    /// Shows the table as it is now, on a terminal with a line below it.
    pub fn show(&mut self, table: &Table, below: &str) -> io::Result<()> {
        if self.terminal {
            self.draw(&table.cells(), below)
        } else {
            self.print_changes(&table.cells())
        }
    }

    /// Tells of something that happens now, above what comes next.
    pub fn note(&mut self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.lines_drawn > 0 {
            write!(out, "\x1b[{}A\x1b[J", self.lines_drawn)?;
            self.lines_drawn = 0;
        }
        writeln!(out, "--> {text}")?;
        out.flush()
    }

    fn draw(&mut self, cells: &Cells, below: &str) -> io::Result<()> {
        let mut lines = lines(cells, &[]);
        lines.extend([String::new(), below.to_owned()]);
        let mut out = io::stdout().lock();
        if self.lines_drawn > 0 {
            write!(out, "\x1b[{}A\x1b[J", self.lines_drawn)?;
        }
        // Lines that are too long are cut, not wrapped: the next table would miss its place.
        write!(out, "\x1b[?7l{}\n\x1b[?7h", lines.join("\n"))?;
        self.lines_drawn = lines.len();
        out.flush()
    }

    fn print_changes(&mut self, cells: &Cells) -> io::Result<()> {
        let Some((header, rows)) = cells.split_first() else {
            return Ok(());
        };
        let age = header.iter().position(|name| name == AGE);
        let mut changed: Cells = Vec::new();
        if self.printed.is_empty() {
            changed.push(header.clone());
        }
        for row in rows {
            let mut timeless = row.clone();
            if let Some(age) = age {
                timeless[age].clear();
            }
            let name = row.first().cloned().unwrap_or_default();
            if self.printed.get(&name) != Some(&timeless) {
                self.printed.insert(name, timeless);
                changed.push(row.clone());
            }
        }
        let mut out = io::stdout().lock();
        // Wide enough for what is to come: what is printed stays.
        for line in lines(&changed, &[18, 15, 15, 10, 21]) {
            writeln!(out, "{line}")?;
        }
        out.flush()
    }
}
