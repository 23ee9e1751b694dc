//! The context that all reconciliations share.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ListParams;
use kube::{Api, Client, CustomResourceExt as _, Resource, ResourceExt as _};
use operator_core::api::{
    DeletionPolicy, Operation, WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus,
};
use operator_core::model::event::{self, EventDraft};
use operator_core::model::machine::Purpose;
use operator_core::model::{Farewell, Policy, Survey};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info};

use super::claims::Recorder;
use super::events::Events;
use super::graph_client::GraphClient;
use super::missing::is_missing;
use super::slots::Slots;
use crate::config::Scope;
use crate::memory::{Memory, Pulses, ResourceStore, WatchId, WatchStates, key_of};
use crate::telemetry::metrics::Metrics;

/// How long the list of a number's resources in one namespace may take.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// How often it is looked whether a reconciliation may wait for its number any longer.
const LOCK_LOOK: Duration = Duration::from_millis(500);

/// The wait before a resource whose finalizer may be off is read again, doubled up to [`DOUBT_CAP`].
const DOUBT_BASE: Duration = Duration::from_secs(1);
const DOUBT_CAP: Duration = Duration::from_secs(60);

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
    /// The state of the watches.
    pub watches: Arc<WatchStates>,
    /// Whether everything still makes progress.
    pub pulses: Arc<Pulses>,
    /// Whether this process is the leader.
    pub leads: watch::Receiver<bool>,
    pub scope: Scope,
    /// Held by the one watch whose resources are woken because they may wait for a Secret that is not watched.
    pub secret_turn: tokio::sync::Mutex<()>,
    pub slots: Slots,
    /// The calls and events that may outlive the reconciliation that started them.
    pub tasks: TaskTracker,
    /// Cancelled when no new work may begin.
    pub shutdown: CancellationToken,
}

impl Context {
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

    /// Reports a status that was written: an event, if the change deserves one, and the warnings about a new spec.
    pub fn tell(
        &self,
        before: &WhatsAppPhoneNumber,
        after: &WhatsAppPhoneNumber,
        purpose: Purpose,
    ) {
        self.remark_on_spec(before, after);
        self.tell_of_number(before, after);
        let draft = self.announce(before, after);
        if let (Some(draft), Purpose::Settle) = (draft, purpose) {
            info!(reason = draft.reason, "{}", draft.note);
        }
    }

    /// Reports a number that was lost, and what is known about it apart from its registration.
    fn tell_of_number(&self, before: &WhatsAppPhoneNumber, after: &WhatsAppPhoneNumber) {
        let [before, now] = [before, after].map(WhatsAppPhoneNumber::status_or_unseen);
        if before.loss.is_none() && now.loss.is_some() {
            self.metrics.registration_lost();
        }
        for draft in event::of_number(&before, &now) {
            self.publish(after, draft);
        }
    }

    /// Reports what happens to the number of a deleted resource.
    pub fn tell_of_farewell(&self, resource: &WhatsAppPhoneNumber, farewell: &Farewell) {
        let told = event::of_farewell(farewell);
        info!(
            resource = resource.qualified_name(),
            number = resource.spec.phone_number_id,
            reason = told.reason,
            "{}",
            told.note
        );
        self.metrics.farewell(farewell.outcome);
        self.publish(resource, told);
    }

    /// The same for one that is found without the finalizer, if an unanswered patch of this process may have taken it off.
    pub fn tell_of_departed(&self, resource: &WhatsAppPhoneNumber) {
        if let Some(farewell) = self.memory.farewells.settle(resource) {
            self.tell_of_farewell(resource, &farewell);
        }
    }

    /// Waits for the time at which a reconciliation of the resource must not wait for anything else any more: the deadline of its deletion, or
    /// a deletion that it does not know of.
    pub async fn given_up(&self, resource: &WhatsAppPhoneNumber) {
        let key = key_of(resource);
        loop {
            let over = match self.policy.release_time(resource) {
                Some(release) => release <= Timestamp::now(),
                // One that is deleted and that nothing of the operator's holds may wait like any other.
                None if resource.metadata.deletion_timestamp.is_some() => false,
                None => self.store.is_deleted(&key),
            };
            if over {
                return;
            }
            tokio::time::sleep(LOCK_LOOK).await;
        }
    }

    /// Finds out what became of an unanswered patch that takes the finalizer off, and tells what becomes of the number once it is off: the
    /// watch may miss that, and then there is nothing left to reconcile.
    pub fn resolve_doubt(self: &Arc<Self>, resource: &WhatsAppPhoneNumber) {
        let (context, resource) = (Arc::clone(self), resource.clone());
        let resolved = async move {
            let mut wait = DOUBT_BASE;
            while context.memory.farewells.is_in_doubt(&resource) {
                match context.recorder.newest(&resource).await {
                    Ok(newest) if newest.uid() == resource.uid() && newest.has_finalizer() => {
                        // The patch was for the version that it names, so another one cannot be taken off by it any more.
                        if newest.resource_version() != resource.resource_version() {
                            return context.memory.farewells.forget_doubt(&resource);
                        }
                    }
                    Err(error) if !error.is_gone() => {}
                    Ok(_) | Err(_) => return context.tell_of_departed(&resource),
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(DOUBT_CAP);
            }
        };
        let shutdown = self.shutdown.clone().cancelled_owned();
        let resolved = async {
            tokio::select! {
                () = resolved => {}
                () = shutdown => {}
            }
        };
        self.tasks.spawn(resolved.in_current_span());
    }

    /// Asks the API server what rules out a call: the other resources of the number, and before a deregister call whether the
    /// CRD is being deleted.
    ///
    /// # Errors
    /// When one watched namespace could not be listed, or the CRD not be read.
    pub async fn survey(
        &self,
        resource: &WhatsAppPhoneNumber,
        operation: Operation,
    ) -> Result<Survey, kube::Error> {
        Ok(Survey {
            peers: self.list_peers(resource, operation).await?,
            definition_deleted: !operation.registers() && self.is_definition_deleted().await?,
        })
    }

    /// Whether the CRD is being deleted. Without the permission to read it, that is not known.
    async fn is_definition_deleted(&self) -> Result<bool, kube::Error> {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let name = WhatsAppPhoneNumber::crd_name();
        let read = tokio::time::timeout(LIST_TIMEOUT, api.get_metadata(name)).await;
        match read.map_err(|_| kube::Error::Service("no answer in 10 s".into()))? {
            Ok(definition) => Ok(definition.metadata.deletion_timestamp.is_some()),
            Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(false),
            Err(error) if is_missing::<CustomResourceDefinition>(&error, name) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Lists the resources of a number from the API server, in the watched namespaces. A namespace whose list is refused is left out,
    /// except before a deregister call, which must not take a number from a resource that cannot be seen.
    async fn list_peers(
        &self,
        resource: &WhatsAppPhoneNumber,
        operation: Operation,
    ) -> Result<Vec<WhatsAppPhoneNumber>, kube::Error> {
        let selector = format!("spec.phoneNumberID={}", resource.spec.phone_number_id);
        let params = ListParams::default().fields(&selector);
        let mut all = Vec::new();
        for namespace in self.scope.namespaces() {
            if operation.registers() && self.watches.is_left_out(&WatchId::resources(namespace)) {
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
            let wanted = after.spec.deletion_policy == DeletionPolicy::Deregister;
            if wanted && !self.policy.life.deregistration {
                let why = "the operator deregisters no numbers (--deregistration=false)";
                self.publish(after, event::of_ignored_policy(why));
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
