//! What every reconciliation uses.

use std::sync::Arc;

use kube::{Client, Resource};
use operator_core::api::{WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};
use operator_core::model::Policy;
use operator_core::model::event::{self, EventDraft};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::claims::Recorder;
use super::events::Events;
use super::graph_client::GraphClient;
use crate::config::Scope;
use crate::memory::{Memory, ResourceStore};
use crate::telemetry::metrics::Metrics;

/// What every reconciliation uses.
pub struct Context {
    /// The API server, for everything that may be retried.
    pub client: Client,
    /// The API server, for writing statuses.
    pub recorder: Recorder,
    /// Meta.
    pub graph: GraphClient,
    /// The settings that decisions depend on.
    pub policy: Policy,
    /// The watched resources.
    pub store: Arc<ResourceStore>,
    /// What the process knows beside them.
    pub memory: Memory,
    /// What Prometheus asks for.
    pub metrics: Arc<Metrics>,
    /// What `kubectl describe` shows.
    pub events: Events,
    /// How many watches have not listed everything yet. kube's own store wakes only the last of several that wait for it.
    pub unsynced: watch::Sender<usize>,
    /// Whether this process is the one to work.
    pub leads: watch::Receiver<bool>,
    /// What is watched.
    pub scope: Scope,
    /// How many reconciliations may run at a time.
    pub slots: Semaphore,
    /// Calls and events that outlive the reconciliation that started them.
    pub tasks: TaskTracker,
    /// Cancelled when no new work may begin.
    pub shutdown: CancellationToken,
}

impl Context {
    /// Publishes the event for a change of status, if it is worth one, without waiting for it; returns it.
    pub fn announce(
        &self,
        before: &WhatsAppPhoneNumber,
        after: &WhatsAppPhoneNumber,
    ) -> Option<EventDraft> {
        let unseen = WhatsAppPhoneNumberStatus::unseen();
        let (before, now) = (before.status.as_ref(), after.status.as_ref());
        let draft = event::of_change(before.unwrap_or(&unseen), now.unwrap_or(&unseen))?;
        self.publish(after, draft.clone());
        Some(draft)
    }

    /// Publishes the remarks on a spec when a new generation of it was observed.
    pub fn remark_on_spec(&self, before: &WhatsAppPhoneNumber, after: &WhatsAppPhoneNumber) {
        let observed = |resource: &WhatsAppPhoneNumber| {
            resource
                .status
                .as_ref()
                .map_or(-1, |status| status.observed_generation)
        };
        if observed(before) != observed(after) {
            for remark in event::of_spec(&after.spec) {
                self.publish(after, remark);
            }
        }
    }

    /// Publishes an event without waiting for it.
    pub fn publish(&self, resource: &WhatsAppPhoneNumber, draft: EventDraft) {
        let events = self.events.clone();
        let about = resource.object_ref(&());
        self.tasks
            .spawn(async move { events.publish(&about, draft).await }.in_current_span());
    }
}
