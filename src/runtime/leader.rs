//! Leader election: one replica works, the others watch and wait. It saves work; what keeps a number from being
//! registered twice is the claim in the status, not this.
//!
//! `kube-lease-manager` takes and renews the Lease. It says nothing while renewals fail, does not make a deleted Lease
//! anew, and as a follower looks again only when the Lease runs out. So each of its managers serves for one term here:
//! a follower's ends after [`Timing::retry`], a leader's when the Lease is lost or no read has shown for the length of
//! the Lease that it was renewed. The next term starts with a fresh manager.

use std::time::Duration;

use futures::Stream;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError, LeaseParams};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use operator_core::api::MANAGER;

use crate::config::LeaderSettings;

/// How long giving up the Lease may take when the process ends.
const RELEASE: Duration = Duration::from_secs(5);

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
    /// A task stands for election again and again.
    Running {
        stop: CancellationToken,
        task: JoinHandle<()>,
    },
}

/// One candidate.
struct Candidate {
    client: Client,
    namespace: String,
    settings: LeaderSettings,
    timing: Timing,
    leads: watch::Sender<bool>,
}

/// How long everything may take.
#[derive(Clone, Copy, Debug)]
struct Timing {
    /// How long the Lease holds without renewal, in seconds.
    duration: u64,
    /// How long before its end it is renewed, in seconds.
    grace: u64,
    /// How long a follower, or a leader that looks at the Lease, waits until the next look.
    retry: Duration,
    /// How long one look at the Lease may take.
    request: Duration,
}

/// A term could not begin, or not go on.
#[derive(Debug, thiserror::Error)]
enum TermError {
    #[error("the API server gave no answer in time")]
    Timeout,
    #[error("cannot take the Lease: {0}")]
    Lease(#[from] LeaseManagerError),
}

/// Why a leader stopped leading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// Another candidate holds the Lease, or nobody, or the Lease is gone.
    Taken,
    /// The Lease was not renewed in time, or nobody could see that it was.
    Expired,
}

/// What a look at the Lease says to the one who thinks that he holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// He does, for so long.
    Mine(Duration),
    /// He does not.
    NotMine,
}

const TIMING: Timing = Timing {
    duration: 30,
    grace: 15,
    retry: Duration::from_secs(2),
    request: Duration::from_secs(5),
};

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

    /// Stands for election until [`Self::release`]. A Lease that is missing is made; an API server that cannot be
    /// reached is tried again.
    pub fn elect(client: Client, settings: LeaderSettings) -> Self {
        Self::elect_with(client, settings, TIMING)
    }

    fn elect_with(client: Client, settings: LeaderSettings, timing: Timing) -> Self {
        let (sender, leads) = watch::channel(false);
        let namespace = settings.lease_namespace.clone();
        let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
        let candidate = Candidate {
            client,
            namespace,
            settings,
            timing,
            leads: sender,
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(candidate.run(stop.clone()));
        Self {
            leads,
            campaign: Campaign::Running { stop, task },
        }
    }

    /// Whether this process leads, for those who ask again and again.
    pub fn receiver(&self) -> watch::Receiver<bool> {
        self.leads.clone()
    }

    #[cfg(test)]
    /// Whether this process leads now.
    pub fn is_leader(&self) -> bool {
        *self.leads.borrow()
    }

    /// Whether this process leads: now, and whenever that has changed. A term that was lost and won again before
    /// anybody looked is told as well: passes may have been left out in between. With an election it ends after
    /// [`Self::release`]; at any other time that is a fault after which this process would never lead again.
    pub fn changes(&self) -> impl Stream<Item = bool> + Send + Unpin + use<> {
        let mut leads = self.leads.clone();
        leads.mark_changed();
        Box::pin(futures::stream::unfold(leads, async |mut leads| {
            leads.changed().await.ok()?;
            let now = *leads.borrow_and_update();
            Some((now, leads))
        }))
    }

    /// Gives the Lease up, so that another replica need not wait for its end. Call it when the work is done.
    pub async fn release(self) {
        let Campaign::Running { stop, mut task } = self.campaign else {
            return;
        };
        stop.cancel();
        if timeout(RELEASE, &mut task).await.is_err() {
            tracing::warn!("the Lease was not given up in time; it runs out by itself");
            task.abort();
        }
    }
}

// === impl Candidate ===

impl Candidate {
    async fn run(self, stop: CancellationToken) {
        loop {
            match stop.run_until_cancelled(self.start_term()).await {
                None => return,
                Some(Ok(Some(manager))) => self.lead(&manager, &stop).await,
                Some(Ok(None)) => {}
                Some(Err(error)) => {
                    tracing::warn!(%error, lease = self.settings.lease_name, "leader election: trying again")
                }
            }
            if stop
                .run_until_cancelled(sleep(self.timing.retry))
                .await
                .is_none()
            {
                return;
            }
        }
    }

    /// Tries to take the Lease; none if another candidate holds it.
    async fn start_term(&self) -> Result<Option<LeaseManager>, TermError> {
        let manager = timeout(self.timing.request, self.manager())
            .await
            .map_err(|_| TermError::Timeout)??;
        match timeout(self.timing.request, manager.changed()).await {
            Ok(leads) => Ok(leads?.then_some(manager)),
            Err(_) => Ok(None),
        }
    }

    /// Finds the Lease, or makes it.
    async fn manager(&self) -> Result<LeaseManager, LeaseManagerError> {
        let identity = &self.settings.identity;
        let parameters = LeaseParams::new(identity, self.timing.duration, self.timing.grace)
            .with_field_manager(format!("{MANAGER}-{identity}"));
        LeaseManagerBuilder::new(self.client.clone(), &self.settings.lease_name)
            .with_namespace(&self.namespace)
            .with_parameters(parameters)
            .build()
            .await
    }

    /// Leads until the Lease is lost, or until told to stop; then gives it up.
    async fn lead(&self, manager: &LeaseManager, stop: &CancellationToken) {
        tracing::info!(
            lease = self.settings.lease_name,
            identity = self.settings.identity,
            "leading"
        );
        let lost = tokio::select! {
            () = stop.cancelled() => None,
            () = self.renew(manager) => Some(Loss::Taken),
            loss = self.supervise() => Some(loss),
        };
        self.publish(false);
        match lost {
            Some(loss) => tracing::warn!(
                lease = self.settings.lease_name,
                ?loss,
                "not leading any more"
            ),
            None => match manager.release().await {
                Ok(()) => tracing::info!(lease = self.settings.lease_name, "gave the Lease up"),
                Err(error) => {
                    tracing::warn!(%error, "cannot give the Lease up; it runs out by itself")
                }
            },
        }
    }

    /// Renews the Lease; returns when it is another's.
    async fn renew(&self, manager: &LeaseManager) {
        loop {
            match manager.changed().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(%error, "cannot renew the Lease; trying again");
                    sleep(self.timing.retry / 5).await;
                }
            }
        }
    }

    /// Reads the Lease now and then, and leads for as long as that shows it in force.
    async fn supervise(&self) -> Loss {
        let leases = Api::<Lease>::namespaced(self.client.clone(), &self.namespace);
        // A term can begin with a Lease of mine that ran out: leave the time to renew it.
        let mut until = Instant::now() + self.timing.request;
        loop {
            let asked = Instant::now();
            match self.look(&leases, until - asked).await {
                Some(Look::NotMine) => return Loss::Taken,
                Some(Look::Mine(left)) => {
                    until = until.max(asked + left);
                    self.publish(!left.is_zero());
                }
                None => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Loss::Expired;
            }
            sleep(left.min(self.timing.retry)).await;
        }
    }

    /// Reads the Lease once; none if there was no answer in the time that is left.
    async fn look(&self, leases: &Api<Lease>, left: Duration) -> Option<Look> {
        let now = wall_clock();
        let read = leases.get_opt(&self.settings.lease_name);
        match timeout(left.min(self.timing.request), read).await {
            Ok(Ok(lease)) => Some(judge(lease.as_ref(), &self.settings.identity, now)),
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot read the Lease; trying again");
                None
            }
            Err(_) => {
                tracing::warn!("cannot read the Lease: the API server gave no answer in time");
                None
            }
        }
    }

    fn publish(&self, leads: bool) {
        self.leads
            .send_if_modified(|now| std::mem::replace(now, leads) != leads);
    }
}

/// Also a candidate whose task has come to an unforeseen end leads no more.
impl Drop for Candidate {
    fn drop(&mut self) {
        self.publish(false);
    }
}

/// What the Lease says to `identity`, who reads it at `now`. Only the holder writes the time of the renewal, so his
/// own clock is compared with itself.
fn judge(lease: Option<&Lease>, identity: &str, now: Timestamp) -> Look {
    let Some(spec) = lease.and_then(|lease| lease.spec.as_ref()) else {
        return Look::NotMine;
    };
    if spec.holder_identity.as_deref() != Some(identity) {
        return Look::NotMine;
    }
    let (Some(renewed), Some(seconds)) = (spec.renew_time.as_ref(), spec.lease_duration_seconds)
    else {
        return Look::NotMine;
    };
    let whole = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    // A renewal from the future (the clock was set back) counts as one from now.
    let age = Duration::try_from(now.duration_since(renewed.0)).unwrap_or_default();
    Look::Mine(whole.saturating_sub(age))
}

#[allow(clippy::disallowed_methods)] // the Lease carries wall-clock times
fn wall_clock() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests;
