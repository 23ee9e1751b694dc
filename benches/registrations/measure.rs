//! What a process costs: its own CPU and memory as the kernel counts them, and its requests as the API server does.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use operator_core::api::WhatsAppPhoneNumber;
use operator_core::api::conditions::is_registered;

/// The kernel's unit for CPU time in `/proc`, which is the same on every Linux for PCs and servers.
const TICKS_PER_SECOND: f64 = 100.0;

/// How long nothing may be counted until the API server is taken to be quiet.
const QUIET: Duration = Duration::from_millis(500);

/// How long a process may use no CPU until it is taken to be at rest.
const AT_REST: Duration = Duration::from_secs(2);

/// How long the registration of all numbers may take.
const DEADLINE: Duration = Duration::from_secs(600);

/// What the kernel says of a process.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Seconds of CPU, in user and system mode.
    pub cpu: f64,
    /// MiB of memory now.
    pub resident: f64,
    /// The most MiB of memory so far.
    pub peak: f64,
}

/// Requests by resource and verb, as `apiserver_request_total` counts them. Watches count when they end, so they are left
/// out.
#[derive(Clone, Debug, PartialEq)]
pub struct Requests(BTreeMap<String, f64>);

/// A watch of the resources, which sees them become registered as any client of the API server does.
pub struct Registered {
    events: BoxStream<'static, watcher::Result<Event<WhatsAppPhoneNumber>>>,
    names: HashSet<String>,
}

impl Usage {
    /// Reads what `/proc` says of a process.
    pub fn of(pid: u32) -> Self {
        let status = proc_file(pid, "status");
        Self {
            cpu: cpu_seconds(&proc_file(pid, "stat")),
            resident: mebibytes(&status, "VmRSS:"),
            peak: mebibytes(&status, "VmHWM:"),
        }
    }
}

/// Has the kernel measure the peak of a process anew. See `clear_refs` in proc(5).
pub fn forget_peak(pid: u32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("the peak can be measured anew");
}

/// Waits until a process has used no CPU for a while.
pub async fn until_at_rest(pid: u32) {
    let mut before = Usage::of(pid).cpu;
    let mut quiet = Duration::ZERO;
    while quiet < AT_REST {
        tokio::time::sleep(QUIET).await;
        let now = Usage::of(pid).cpu;
        quiet = if now > before {
            Duration::ZERO
        } else {
            quiet + QUIET
        };
        before = now;
    }
}

impl Requests {
    /// Reads what the API server has counted so far.
    pub async fn of(client: &Client) -> Self {
        let request = http::Request::get("/metrics").body(Vec::new());
        let text = client.request_text(request.expect("a request")).await;
        let text = text.expect("the API server's metrics");
        let mut counts = BTreeMap::new();
        for (name, count) in text.lines().filter_map(counted) {
            *counts.entry(name).or_default() += count;
        }
        Self(counts)
    }

    /// Waits until nothing is counted any more.
    pub async fn when_quiet(client: &Client) -> Self {
        let mut before = Self::of(client).await;
        loop {
            tokio::time::sleep(QUIET).await;
            let now = Self::of(client).await;
            if now == before {
                return now;
            }
            before = now;
        }
    }

    /// What was counted since then.
    pub fn since(&self, before: &Self) -> Self {
        let counts = self.0.iter().map(|(name, count)| {
            let before = before.0.get(name).copied().unwrap_or_default();
            (name.clone(), count - before)
        });
        Self(counts.filter(|(_, count)| *count > 0.0).collect())
    }

    /// The requests with this verb and for this resource.
    pub fn count(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// All together.
    pub fn total(&self) -> f64 {
        self.0.values().fold(0.0, |sum, count| sum + count)
    }

    /// By resource and verb, each divided by this.
    pub fn per(&self, divisor: f64) -> String {
        let counts = self.0.iter();
        let texts: Vec<_> = counts
            .map(|(name, count)| format!("{name} {:.3}", count / divisor))
            .collect();
        texts.join(", ")
    }
}

impl Registered {
    /// Starts the watch and waits until it is up, so that its list is none of the contender's requests.
    pub async fn watch(numbers: Api<WhatsAppPhoneNumber>) -> Self {
        let mut events = watcher(numbers, watcher::Config::default()).boxed();
        loop {
            let event = events.next().await.expect("a watch does not end");
            if matches!(event.expect("the watch starts"), Event::InitDone) {
                break;
            }
        }
        let names = HashSet::new();
        Self { events, names }
    }

    /// Waits until so many resources say that they are registered.
    pub async fn until(&mut self, wanted: usize) {
        let reached = tokio::time::timeout(DEADLINE, async {
            while self.names.len() < wanted {
                let event = self.events.next().await.expect("a watch does not end");
                if let Event::Apply(number) = event.expect("the watch goes on") {
                    self.note(&number);
                }
            }
        });
        let reached = reached.await;
        assert!(
            reached.is_ok(),
            "only {} of {wanted} numbers were registered in {DEADLINE:?}",
            self.names.len()
        );
    }

    fn note(&mut self, number: &WhatsAppPhoneNumber) {
        if number.status.as_ref().is_some_and(is_registered) {
            self.names.insert(number.name_any());
        }
    }
}

/// The load of the machine in the last minute.
pub fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = text.split_whitespace().next();
    load.and_then(|load| load.parse().ok()).unwrap_or(f64::NAN)
}

/// Resource and verb of a line of metrics, and its value, where it is about what an operator without a Lease uses.
fn counted(line: &str) -> Option<(String, f64)> {
    let (labels, value) = line
        .strip_prefix("apiserver_request_total{")?
        .rsplit_once("} ")?;
    let label = |name: &str| {
        let mut parts = labels.split(',');
        let value = parts.find_map(|part| part.strip_prefix(name)?.strip_prefix("=\""));
        value.map(|value| value.trim_end_matches('"'))
    };
    let (resource, verb) = (label("resource")?, label("verb")?);
    let counts = ["whatsappphonenumbers", "secrets", "events"].contains(&resource);
    if !counts || verb == "WATCH" {
        return None;
    }
    let name = match label("subresource") {
        None | Some("") => format!("{verb} {resource}"),
        Some(subresource) => format!("{verb} {resource}/{subresource}"),
    };
    Some((name, value.parse().ok()?))
}

fn proc_file(pid: u32, name: &str) -> String {
    let path = format!("/proc/{pid}/{name}");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path} cannot be read: {error}"))
}

/// The fields 14 and 15 of `/proc/PID/stat`; the second, a name in brackets, may hold blanks.
fn cpu_seconds(stat: &str) -> f64 {
    let (_, rest) = stat.rsplit_once(')').expect("a name in brackets");
    let ticks = rest.split_whitespace().skip(11).take(2);
    let ticks = ticks.map(|ticks| ticks.parse::<f64>().expect("a number of ticks"));
    ticks.sum::<f64>() / TICKS_PER_SECOND
}

fn mebibytes(status: &str, field: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kibibytes = line.and_then(|line| line.split_whitespace().next());
    let kibibytes = kibibytes.and_then(|text| text.parse::<f64>().ok());
    kibibytes.unwrap_or_default() / 1024.0
}
