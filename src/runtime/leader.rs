//! Leader election: one replica works, the others watch and wait. It only avoids duplicate work; the claim in the status is what
//! prevents a second registration.
//!
//! Every candidate reads the Lease every [`Timing::retry`], decides ([`next_step`]) and writes at most once, with the
//! `resourceVersion` that it has read: one of two candidates gets a conflict, reads again and decides again. Clocks of
//! different machines are never compared: a leader's term ends by its own monotonic clock, and a follower takes a Lease
//! that it has seen unchanged, by its own, for as long as the Lease says.
//!
//! The end of a term ends new work. What is in flight is finished, and the process becomes a candidate again.

use std::time::Duration;

use futures::Stream;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use operator_core::api::MANAGER;

use crate::config::LeaderSettings;
use crate::telemetry::Chain;

/// How long releasing the Lease may take when the process ends.
const RELEASE: Duration = Duration::from_secs(5);

const TIMING: Timing = Timing {
    duration: Duration::from_secs(30),
    retry: Duration::from_secs(2),
    request: Duration::from_secs(5),
};

/// Whether this process leads.
#[derive(Debug)]
pub struct Leadership {
    leads: watch::Receiver<bool>,
    campaign: Campaign,
}

#[derive(Debug)]
enum Campaign {
    /// There is no election; the sender keeps the channel open.
    Unopposed { _sender: watch::Sender<bool> },
    /// A task runs for election again and again.
    Running {
        stop: CancellationToken,
        task: JoinHandle<()>,
    },
}

/// One candidate.
struct Candidate {
    leases: Api<Lease>,
    settings: LeaderSettings,
    timing: Timing,
    leads: watch::Sender<bool>,
    seen: Observation,
    /// When the last write that succeeded was sent; none while this candidate follows.
    renewed: Option<Instant>,
}

/// How long everything may take.
#[derive(Clone, Copy, Debug)]
struct Timing {
    /// How long the Lease is valid without renewal, in whole seconds.
    duration: Duration,
    /// How often the Lease is read.
    retry: Duration,
    /// How long one request may take.
    request: Duration,
}

/// The Lease as it was read last, and since when it has been so.
#[derive(Debug)]
struct Observation {
    spec: LeaseSpec,
    since: Instant,
}

/// What the Lease says about its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeaseState {
    /// It names no holder, or does not exist.
    Free,
    Mine,
    /// Another candidate, for so long after each renewal.
    Other(Duration),
}

/// What a candidate does about the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Wait,
    /// Writes that this candidate is the holder: takes the Lease, or renews it.
    Hold,
    EndTerm,
}

/// Why a leader stopped leading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// The Lease was deleted, or names another holder or none.
    Taken,
    /// The Lease could not be renewed in time.
    Expired,
}

#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error("failed to read the Lease")]
    Read(#[source] kube::Error),
    #[error("failed to write the Lease")]
    Write(#[source] kube::Error),
}

// === impl Leadership ===

impl Leadership {
    /// Leads from the start to the end: there is no election.
    pub fn always() -> Self {
        let (sender, leads) = watch::channel(true);
        Self {
            leads,
            campaign: Campaign::Unopposed { _sender: sender },
        }
    }

    /// Runs for election until [`Self::release`]. A missing Lease is created; an API server that cannot be reached
    /// is retried.
    pub fn elect(client: Client, settings: LeaderSettings) -> Self {
        Self::elect_with(client, settings, TIMING)
    }

    fn elect_with(client: Client, settings: LeaderSettings, timing: Timing) -> Self {
        let (sender, leads) = watch::channel(false);
        let leases = match &settings.lease_namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::default_namespaced(client),
        };
        let candidate = Candidate {
            leases,
            settings,
            timing,
            leads: sender,
            seen: Observation {
                spec: LeaseSpec::default(),
                since: Instant::now(),
            },
            renewed: None,
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(candidate.run(stop.clone()));
        Self {
            leads,
            campaign: Campaign::Running { stop, task },
        }
    }

    /// Returns a channel that always holds whether this process leads.
    pub fn receiver(&self) -> watch::Receiver<bool> {
        self.leads.clone()
    }

    /// Returns whether this process leads: now, and whenever that has changed. A term that was lost and won again before
    /// the stream was polled is reported as well: reconciles may have been left out in between. With an election it ends
    /// after [`Self::release`]; at any other time that is a fault after which this process would never lead again.
    pub fn changes(&self) -> impl Stream<Item = bool> + Send + Unpin + use<> {
        let mut leads = self.leads.clone();
        leads.mark_changed();
        Box::pin(futures::stream::unfold(leads, async |mut leads| {
            leads.changed().await.ok()?;
            let now = *leads.borrow_and_update();
            Some((now, leads))
        }))
    }

    /// Releases the Lease, so that another replica need not wait until it expires. Call it when the work is done.
    pub async fn release(self) {
        let Campaign::Running { stop, mut task } = self.campaign else {
            return;
        };
        stop.cancel();
        if timeout(RELEASE, &mut task).await.is_err() {
            tracing::warn!("the Lease was not released in time; it will expire");
            task.abort();
        }
    }
}

// === impl Candidate ===

impl Candidate {
    async fn run(mut self, stop: CancellationToken) {
        let mut ticks = interval(self.timing.retry);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let term_end = self.renewed.map(|sent| sent + self.timing.term());
            let round = before(term_end, async {
                ticks.tick().await;
                self.step().await
            });
            match stop.run_until_cancelled(round).await {
                None => break,
                Some(None) => self.end_term(Loss::Expired),
                Some(Some(result)) => self.report(result),
            }
        }
        self.publish(false);
        let released = self.release().await;
        self.report(released);
    }

    /// Reads the Lease, and does what follows from it.
    async fn step(&mut self) -> Result<(), LeaseError> {
        let lease = self.read().await?;
        let now = Instant::now();
        let spec = lease.spec.clone().unwrap_or_default();
        let state = LeaseState::of(&spec, &self.settings.identity, self.timing.duration);
        let unchanged = self.seen.unchanged(&spec, now);
        let renewed = self.renewed.map(|sent| now - sent);
        match next_step(state, unchanged, renewed, self.timing.renewal()) {
            Step::Wait => {}
            Step::Hold => {
                if self.write(lease, self.held(spec)).await? {
                    self.lead(now);
                }
            }
            Step::EndTerm => self.end_term(Loss::Taken),
        }
        Ok(())
    }

    /// Clears the holder, even if this candidate follows: the answer to its last write may have been lost.
    async fn release(&self) -> Result<(), LeaseError> {
        let lease = self.read().await?;
        let spec = lease.spec.as_ref();
        let holder = spec.and_then(|spec| spec.holder_identity.as_ref());
        let released = LeaseSpec {
            holder_identity: Some(String::new()),
            ..LeaseSpec::default()
        };
        if holder == Some(&self.settings.identity) && self.write(lease, released).await? {
            tracing::info!(lease = self.settings.lease_name, "released the Lease");
        }
        Ok(())
    }

    /// Returns the Lease; one that does not exist has no `resourceVersion`.
    async fn read(&self) -> Result<Lease, LeaseError> {
        let lease = self.leases.get_opt(&self.settings.lease_name);
        let lease = self.in_time(lease).await.map_err(LeaseError::Read)?;
        Ok(lease.unwrap_or_default())
    }

    /// Changes the Lease that was read, or creates it. Returns whether no other writer was first.
    async fn write(&self, read: Lease, spec: LeaseSpec) -> Result<bool, LeaseError> {
        let name = &self.settings.lease_name;
        let exists = read.metadata.resource_version.is_some();
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                resource_version: read.metadata.resource_version,
                ..ObjectMeta::default()
            },
            spec: Some(spec),
        };
        let written = if exists {
            let patch = Patch::Merge(&lease);
            let parameters = PatchParams::apply(MANAGER);
            self.in_time(self.leases.patch(name, &parameters, &patch))
                .await
        } else {
            let parameters = PostParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PostParams::default()
            };
            self.in_time(self.leases.create(&parameters, &lease)).await
        };
        match written {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(LeaseError::Write(error)),
        }
    }

    async fn in_time<T>(&self, request: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
        timeout(self.timing.request, request)
            .await
            .unwrap_or_else(|late| Err(kube::Error::Service(late.into())))
    }

    /// Returns how this candidate interprets the Lease that it has read.
    fn held(&self, read: LeaseSpec) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        let new_term = self.renewed.is_none();
        let transitions = read.lease_transitions.unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.settings.identity.clone()),
            lease_duration_seconds: i32::try_from(self.timing.duration.as_secs()).ok(),
            lease_transitions: Some(transitions.saturating_add(new_term.into())),
            acquire_time: if new_term {
                now.clone()
            } else {
                read.acquire_time
            },
            renew_time: now,
            ..read
        }
    }

    fn lead(&mut self, sent: Instant) {
        if self.renewed.replace(sent).is_none() {
            tracing::info!(
                lease = self.settings.lease_name,
                identity = self.settings.identity,
                "leading"
            );
        }
        self.publish(true);
    }

    fn end_term(&mut self, loss: Loss) {
        self.renewed = None;
        self.publish(false);
        tracing::warn!(
            lease = self.settings.lease_name,
            ?loss,
            "not leading any more"
        );
    }

    fn publish(&self, leads: bool) {
        self.leads
            .send_if_modified(|now| std::mem::replace(now, leads) != leads);
    }

    fn report(&self, result: Result<(), LeaseError>) {
        if let Err(error) = result {
            let lease = &self.settings.lease_name;
            tracing::warn!(error = %Chain(&error), lease, "leader election: a request failed");
        }
    }
}

/// A candidate whose task has ended unexpectedly does not lead either.
impl Drop for Candidate {
    fn drop(&mut self) {
        self.publish(false);
    }
}

// === impl Timing ===

impl Timing {
    /// Returns how long a renewal lets a leader lead: a little less than it keeps others away, as timers are late and
    /// clocks differ in speed.
    fn term(&self) -> Duration {
        self.duration.saturating_sub(self.retry)
    }

    /// Returns the age at which a renewal is followed by the next one.
    fn renewal(&self) -> Duration {
        self.duration / 2
    }
}

// === impl Observation ===

impl Observation {
    /// Returns for how long the Lease has been seen as it was read now.
    fn unchanged(&mut self, spec: &LeaseSpec, now: Instant) -> Duration {
        if self.spec != *spec {
            self.spec = spec.clone();
            self.since = now;
        }
        now - self.since
    }
}

// === impl LeaseState ===

impl LeaseState {
    /// `duration` is for a Lease that does not say how long it holds.
    fn of(spec: &LeaseSpec, identity: &str, duration: Duration) -> Self {
        match spec.holder_identity.as_deref() {
            None | Some("") => Self::Free,
            Some(holder) if holder == identity => Self::Mine,
            Some(_) => {
                let seconds = spec
                    .lease_duration_seconds
                    .and_then(|s| u64::try_from(s).ok());
                Self::Other(seconds.map_or(duration, Duration::from_secs))
            }
        }
    }
}

/// Returns what a candidate does about a Lease that it has seen `unchanged` for so long. `renewed` is the age of its own
/// last renewal if it leads, `renewal` that at which the next one is due.
fn next_step(
    lease: LeaseState,
    unchanged: Duration,
    renewed: Option<Duration>,
    renewal: Duration,
) -> Step {
    match (lease, renewed) {
        (LeaseState::Mine, Some(age)) if age < renewal => Step::Wait,
        (LeaseState::Mine, _) => Step::Hold,
        (_, Some(_)) => Step::EndTerm,
        (LeaseState::Other(duration), None) if unchanged < duration => Step::Wait,
        (_, None) => Step::Hold,
    }
}

/// Waits for `work`, but not beyond `end`.
async fn before<T>(end: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match end {
        Some(end) => timeout_at(end, work).await.ok(),
        None => Some(work.await),
    }
}

#[cfg(test)]
mod tests;
