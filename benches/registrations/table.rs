//! The rounds as a table: a line for each, then the medians.

use std::time::Duration;

use super::Args;
use super::measure::{Requests, Usage};

/// What it took to register all numbers.
pub struct Round {
    /// How many.
    pub numbers: usize,
    /// From the start of the process until the last resource said that it was registered.
    pub took: Duration,
    /// What the API server was asked for.
    pub requests: Requests,
    /// Reads of numbers that Graph was asked for.
    pub reads: usize,
    /// Register calls that Graph was asked for.
    pub registers: usize,
    /// What the process cost.
    pub usage: Usage,
    /// The load of the machine in the minute before: the benchmark itself makes about 2.
    pub load: f64,
}

/// The columns of a round.
const HEADINGS: [&str; 8] = [
    "seconds",
    "numbers/s",
    "API",
    "reads",
    "POSTs",
    "peak MiB",
    "CPU s",
    "load",
];

/// Says what is measured, and the headings.
pub fn print_setup(args: &Args) {
    let Args {
        numbers,
        concurrency,
        graph_latency,
        ..
    } = args;
    println!(
        "{numbers} numbers, {concurrency} at a time, Graph takes {graph_latency} ms; API, reads and POSTs for each number\n"
    );
    let headings = HEADINGS.map(|heading| format!("{heading:>11}"));
    println!("{:18}{}", "", headings.concat());
}

/// The medians, and the requests of the round in the middle.
pub fn print_medians(floors: &[Round], operators: &[Round]) {
    println!();
    for (name, rounds) in [("floor", floors), ("operator", operators)] {
        print_row(&format!("{name}, median"), &medians(rounds));
    }
    println!();
    for (name, rounds) in [("floor", floors), ("operator", operators)] {
        let Some(last) = rounds.last() else { continue };
        println!(
            "{name}, API requests per number: {}",
            last.requests.per(count(last.numbers))
        );
    }
}

impl Round {
    /// Prints the round and hands it on.
    pub fn printed(self, name: &str) -> Self {
        print_row(name, &self.figures());
        self
    }

    fn figures(&self) -> [f64; 8] {
        let numbers = count(self.numbers);
        let seconds = self.took.as_secs_f64();
        [
            seconds,
            numbers / seconds,
            self.requests.total() / numbers,
            count(self.reads) / numbers,
            count(self.registers) / numbers,
            self.usage.peak,
            self.usage.cpu,
            self.load,
        ]
    }
}

fn print_row(name: &str, figures: &[f64]) {
    let figures: Vec<_> = figures
        .iter()
        .map(|figure| format!("{figure:>11.2}"))
        .collect();
    println!("{name:18}{}", figures.concat());
}

/// The median of each column.
fn medians(rounds: &[Round]) -> Vec<f64> {
    let rows: Vec<_> = rounds.iter().map(Round::figures).collect();
    let column = |place: usize| {
        let mut figures: Vec<f64> = rows.iter().map(|row| row[place]).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    (0..HEADINGS.len()).map(column).collect()
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}
