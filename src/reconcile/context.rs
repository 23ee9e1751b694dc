//! The context that all reconciliations share.

use std::sync::Arc;
use std::time::Duration;

use kube::api::ListParams;
use kube::{Api, Client, Resource};
use operator_core::api::{WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};
use operator_core::model::Policy;
use operator_core::model::event::{self, EventDraft};
use operator_core::model::machine::Purpose;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info};

use super::claims::Recorder;
use super::events::Events;
use super::graph_client::GraphClient;
use crate::config::Scope;
use crate::memory::{Memory, Pulses, ResourceStore, WatchId, WatchStates};
use crate::telemetry::metrics::Metrics;

/// How long the list of a number's resources in one namespace may take.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// The permit of one reconciliation to work. It is given up while nothing but another one, or a faulty API server, is waited for.
pub type Slot = OwnedSemaphorePermit;

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
    /// How the watches fare.
    pub watches: Arc<WatchStates>,
    /// Whether everything still moves.
    pub pulses: Arc<Pulses>,
    /// Whether this process is the leader.
    pub leads: watch::Receiver<bool>,
    pub scope: Scope,
    /// The permits of concurrent reconciliations, over all watches.
    pub slots: Arc<Semaphore>,
    /// The calls and events that may outlive the reconciliation that started them.
    pub tasks: TaskTracker,
    /// Cancelled when no new work may begin.
    pub shutdown: CancellationToken,
}

impl Context {
    /// Waits for a free slot. There is always one to wait for: nothing closes the semaphore.
    pub async fn slot(&self) -> Option<Slot> {
        Arc::clone(&self.slots).acquire_owned().await.ok()
    }

    /// Publishes the event for a change of status, if there is one, without waiting for it. Returns the event.
    fn announce(
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

    /// Tells of a status that was written: an event, where the change is worth one, and the warnings about a new spec.
    pub fn tell(
        &self,
        before: &WhatsAppPhoneNumber,
        after: &WhatsAppPhoneNumber,
        purpose: Purpose,
    ) {
        self.remark_on_spec(before, after);
        let draft = self.announce(before, after);
        if let (Some(draft), Purpose::Settle) = (draft, purpose) {
            info!(reason = draft.reason, "{}", draft.note);
        }
    }

    /// Lists the resources of a number from the API server, in the namespaces that are watched: one whose list is refused is not.
    ///
    /// # Errors
    /// When one watched namespace could not be listed.
    pub async fn list_peers(
        &self,
        resource: &WhatsAppPhoneNumber,
    ) -> Result<Vec<WhatsAppPhoneNumber>, kube::Error> {
        let selector = format!("spec.phoneNumberID={}", resource.spec.phone_number_id);
        let params = ListParams::default().fields(&selector);
        let mut all = Vec::new();
        for namespace in self.scope.namespaces() {
            if self.watches.is_left_out(&WatchId::resources(namespace)) {
                continue;
            }
            let api: Api<WhatsAppPhoneNumber> = match namespace {
                Some(namespace) => Api::namespaced(self.client.clone(), namespace),
                None => Api::all(self.client.clone()),
            };
            let list = tokio::time::timeout(LIST_TIMEOUT, api.list(&params)).await;
            let list = list.map_err(|_| kube::Error::Service("no answer in 10 s".into()))??;
            all.extend(list.items);
        }
        Ok(all)
    }

    /// Publishes the warnings about a spec once for each observed generation.
    fn remark_on_spec(&self, before: &WhatsAppPhoneNumber, after: &WhatsAppPhoneNumber) {
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
