//! What the process costs, again and again: it must not grow.

use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

/// What may be added between the beginning and the end without meaning anything.
const SLACK_MEBIBYTES: f64 = 6.0;
/// The same for file handles: connections come and go.
const SLACK_HANDLES: f64 = 12.0;

/// One look at the process.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    at: Duration,
    mebibytes: f64,
    handles: f64,
}

/// All looks so far.
pub struct Samples {
    pid: u32,
    since: Instant,
    taken: Vec<Sample>,
}

impl Samples {
    /// Samples of this process.
    pub fn new(pid: u32) -> Self {
        Self {
            pid,
            since: Instant::now(),
            taken: Vec::new(),
        }
    }

    /// Looks at the process.
    pub fn take(&mut self) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid));
        let status = status.expect("the status of the process");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = resident.and_then(|text| text.split_whitespace().next()?.parse().ok());
        let kibibytes: f64 = kibibytes.expect("a size");
        let handles = fs::read_dir(format!("/proc/{}/fd", self.pid));
        self.taken.push(Sample {
            at: self.since.elapsed(),
            mebibytes: kibibytes / 1024.0,
            handles: handles.expect("the handles of the process").count() as f64,
        });
    }

    /// The last look.
    pub fn last(&self) -> Sample {
        *self.taken.last().expect("a sample")
    }

    /// Compares the last quarter with the second: the first one is the beginning.
    pub fn check(&self) {
        let quarter = self.taken.len() / 4;
        assert!(quarter > 2, "too short a run to tell anything");
        let (early, late) = (
            &self.taken[quarter..2 * quarter],
            &self.taken[3 * quarter..],
        );
        let memory = [early, late].map(|part| median(part, |sample| sample.mebibytes));
        let handles = [early, late].map(|part| median(part, |sample| sample.handles));
        println!(
            "median of the second quarter and of the last one: {:.1} and {:.1} MiB, {} and {} handles",
            memory[0], memory[1], handles[0], handles[1]
        );
        assert!(
            memory[1] <= memory[0] * 1.1 + SLACK_MEBIBYTES,
            "memory grew"
        );
        assert!(handles[1] <= handles[0] + SLACK_HANDLES, "handles grew");
    }
}

fn median(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, minutes) = (self.at.as_secs(), self.at.as_secs() / 60);
        let (mebibytes, handles) = (self.mebibytes, self.handles);
        write!(
            f,
            "{minutes:>3}:{:02} min: {mebibytes:.1} MiB, {handles} handles",
            at % 60
        )
    }
}
