//! The context that all reconciliations share.

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

/// The context that all reconciliations share.
pub struct Context {
    /// The client for requests that may be retried.
    pub client: Client,
    /// The writer of statuses, over a client without retries.
    pub recorder: Recorder,
    pub graph: GraphClient,
    pub policy: Policy,
    pub store: Arc<ResourceStore>,
    pub memory: Memory,
    pub metrics: Arc<Metrics>,
    pub events: Events,
    /// The number of watches that have not completed their first list. A channel, because kube's own store wakes only the
    /// last of several tasks that wait for it.
    pub unsynced: watch::Sender<usize>,
    /// Whether this process is the leader.
    pub leads: watch::Receiver<bool>,
    pub scope: Scope,
    /// The permits of concurrent reconciliations, over all watches.
    pub slots: Semaphore,
    /// The calls and events that may outlive the reconciliation that started them.
    pub tasks: TaskTracker,
    /// Cancelled when no new work may begin.
    pub shutdown: CancellationToken,
}

impl Context {
    /// Publishes the event for a change of status, if there is one, without waiting for it. Returns the event.
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

    /// Publishes the warnings about a spec once for each observed generation.
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
