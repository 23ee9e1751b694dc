//! What a test holds: a running simulator that stops when it is dropped.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::config::{Defaults, NumberConfig};
use super::connection;
use super::report::{NumberReport, Totals, Violation};
use super::script::Step;
use super::server::{App, router};
use super::world::World;

/// How long tests wait for something that should happen soon.
const DEADLINE: Duration = Duration::from_secs(30);

/// A running simulator.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    world: Arc<World>,
    _stop: DropGuard,
}

/// What was waited for did not happen.
pub struct DeadlinePassed {
    deadline: Duration,
    last: Box<NumberReport>,
}

// === impl Simulator ===

impl Simulator {
    /// Starts on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        let started = Self::start_on((Ipv4Addr::LOCALHOST, 0).into()).await;
        started.unwrap_or_else(|error| panic!("failed to listen on 127.0.0.1: {error}"))
    }

    /// Starts on this address.
    pub async fn start_on(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (world, stop) = (Arc::new(World::new()), CancellationToken::new());
        let app = App {
            world: Arc::clone(&world),
            stop: stop.clone(),
        };
        tokio::spawn(connection::serve(listener, router(app), stop.clone()));
        Ok(Self {
            address,
            world,
            _stop: stop.drop_guard(),
        })
    }

    /// What to put before `/v23.0/…`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Creates or changes a number; what the configuration does not say stays as it is.
    #[track_caller]
    pub fn set(&self, id: &str, config: NumberConfig) {
        let set = self.world.configure(id, config);
        set.unwrap_or_else(|error| panic!("failed to set number {id}: {error}"));
    }

    /// Replaces the faults that are due for a number.
    #[track_caller]
    pub fn script(&self, id: &str, steps: Vec<Step>) {
        self.set(id, NumberConfig::default().script(steps));
    }

    /// Replaces the defaults.
    pub fn set_defaults(&self, defaults: Defaults) {
        self.world.set_defaults(defaults);
    }

    /// A number as it stands; without any calls if it was never set nor called.
    pub fn number(&self, id: &str) -> NumberReport {
        self.world
            .number(id)
            .unwrap_or_else(|| self.world.untouched(id))
    }

    /// All numbers, by ID.
    pub fn all(&self) -> Vec<NumberReport> {
        self.world.all()
    }

    /// All numbers together.
    pub fn totals(&self) -> Totals {
        self.world.totals()
    }

    /// Requests that the contract does not allow.
    pub fn violations(&self) -> Vec<Violation> {
        self.world.violations()
    }

    /// Moves the clock ahead.
    pub fn advance(&self, by: Duration) {
        self.world.advance(by);
    }

    /// Releases the calls held for a number; how many there were.
    pub fn release(&self, id: &str) -> usize {
        self.world.release(id)
    }

    /// Waits until the number is as wanted, at most 30 seconds.
    pub async fn until(
        &self,
        id: &str,
        wanted: impl FnMut(&NumberReport) -> bool,
    ) -> Result<NumberReport, DeadlinePassed> {
        self.until_within(id, DEADLINE, wanted).await
    }

    /// Waits until the number is as wanted.
    pub async fn until_within(
        &self,
        id: &str,
        deadline: Duration,
        mut wanted: impl FnMut(&NumberReport) -> bool,
    ) -> Result<NumberReport, DeadlinePassed> {
        let mut changes = self.world.subscribe();
        let reached = async {
            loop {
                changes.mark_unchanged();
                let report = self.number(id);
                if wanted(&report) {
                    return report;
                }
                // Cannot fail: the world is held here.
                let _ = changes.changed().await;
            }
        };
        let passed = |_| DeadlinePassed {
            deadline,
            last: Box::new(self.number(id)),
        };
        tokio::time::timeout(deadline, reached)
            .await
            .map_err(passed)
    }
}

// === impl DeadlinePassed ===

impl fmt::Display for DeadlinePassed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { deadline, last } = self;
        write!(
            formatter,
            "number {} is not as wanted after {deadline:?}: {last:#?}",
            last.id
        )
    }
}

impl fmt::Debug for DeadlinePassed {
    /// As people read it: this is what a failed test prints.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Error for DeadlinePassed {}
