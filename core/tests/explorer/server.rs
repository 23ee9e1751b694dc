//! The API server: an object store with resource versions and UIDs.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Wishes;
use super::state::{NAMES, Print, Seconds, Server, Stored};
use super::time;
use operator_core::api::{
    DEREGISTER_FINALIZER, DeletionPolicy, LossPolicy, REGISTER_REQUESTED_AT, WhatsAppPhoneNumber,
    WhatsAppPhoneNumberStatus,
};
use operator_core::credentials::Digests;

/// The finalizer of somebody else.
const FOREIGN_FINALIZER: &str = "shop.example/keep";

/// Why a write was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// 409: somebody else has written, or it is another resource.
    Conflict,
    /// 404.
    NotFound,
}

impl Server {
    /// Writes a status on the version that it was decided on, as `Recorder::write` asks for it.
    pub(super) fn write(
        &mut self,
        name: usize,
        on: &Stored,
        status: WhatsAppPhoneNumberStatus,
    ) -> Result<Stored, Refused> {
        let mut resource = self.same(name, on)?.resource().clone();
        resource.status = Some(status);
        Ok(self.put(name, resource))
    }

    /// Sets the operator's finalizer or takes it off, on the version that it was decided on. Returns the resource, also where it goes.
    pub(super) fn patch_finalizer(
        &mut self,
        name: usize,
        on: &Stored,
        set: bool,
    ) -> Result<Stored, Refused> {
        let mut resource = self.same(name, on)?.resource().clone();
        let finalizers = resource.metadata.finalizers.get_or_insert_default();
        finalizers.retain(|finalizer| finalizer != DEREGISTER_FINALIZER);
        finalizers.extend(set.then(|| DEREGISTER_FINALIZER.to_owned()));
        let goes = finalizers.is_empty() && on.leaves();
        let after = self.put(name, resource);
        if goes {
            self.remove(name);
        }
        Ok(after)
    }

    /// The newest version, if it is this one.
    fn same(&self, name: usize, version: &Stored) -> Result<&Stored, Refused> {
        let newest = self.objects[name].as_ref().ok_or(Refused::NotFound)?;
        let same = (newest.uid(), newest.version()) == (version.uid(), version.version());
        same.then_some(newest).ok_or(Refused::Conflict)
    }

    /// A change that people make.
    pub(super) fn edit(&mut self, name: usize, change: impl FnOnce(&mut WhatsAppPhoneNumber)) {
        let Some(stored) = &self.objects[name] else {
            return;
        };
        let mut resource = stored.resource().clone();
        change(&mut resource);
        self.put(name, resource);
    }

    pub(super) fn create(&mut self, name: usize, wishes: Wishes, now: Seconds) {
        self.uids += 1;
        self.ties.push(self.uids > 1 && self.created.0 == now);
        self.created.0 = now;
        let mut resource = WhatsAppPhoneNumber::new(NAMES[name], testkit::builders::spec());
        resource.metadata.namespace = Some("shop".to_owned());
        resource.metadata.generation = Some(1);
        resource.metadata.creation_timestamp = Some(Time(time(now)));
        if wishes.deregister {
            resource.spec.deletion_policy = DeletionPolicy::Deregister;
        }
        if wishes.recover {
            resource.spec.loss_policy = LossPolicy::Register;
        }
        resource.status = Some(WhatsAppPhoneNumberStatus::unseen());
        self.before[name] = None;
        self.objects[name] = Some(Stored::new(resource, self.uids, 1));
    }

    /// Its number is registered and was found so.
    pub(super) fn register(&mut self, name: usize, digests: &Digests) {
        self.edit(name, |resource| {
            *resource = testkit::builders::registered(resource.clone());
            if resource.spec.deletion_policy == DeletionPolicy::Deregister {
                resource.metadata.finalizers = Some(vec![DEREGISTER_FINALIZER.to_owned()]);
            }
            let status = resource.status.get_or_insert_default();
            status.token_digest = Some(digests.token.clone());
            status.pin_digest = Some(digests.pin.clone());
            status.inputs_digest = Some(digests.inputs.clone());
        });
        self.before[name] = None;
    }

    /// The operator's finalizer holds the resource.
    pub(super) fn delete(&mut self, name: usize, now: Seconds) {
        let stored = self.objects[name].as_ref().map(Stored::resource);
        if stored.is_some_and(WhatsAppPhoneNumber::has_finalizer) {
            self.edit(name, |resource| leave(resource, now));
        } else {
            self.remove(name);
        }
    }

    fn remove(&mut self, name: usize) {
        self.before[name] = None;
        self.gone
            .extend(self.objects[name].take().map(|last| (name, last)));
    }

    /// A write that was not answered is done after all, or refused.
    pub(super) fn land(&mut self) -> Option<(usize, Stored)> {
        let (name, on, Print(status)) = self.late.take()?;
        let landed = self.write(name, &on, status).ok()?;
        Some((name, landed))
    }

    fn put(&mut self, name: usize, resource: WhatsAppPhoneNumber) -> Stored {
        let before = self.objects[name].take().expect("it was found");
        let stored = Stored::new(resource, before.uid(), before.version() + 1);
        self.before[name] = Some(before);
        self.objects[name] = Some(stored.clone());
        stored
    }
}

/// Sets the annotation.
pub(super) fn ask(resource: &mut WhatsAppPhoneNumber, value: u8) {
    let entry = (REGISTER_REQUESTED_AT.to_owned(), format!("value-{value}"));
    resource.metadata.annotations = Some([entry].into());
}

/// Sets `suspend`, or takes it back.
pub(super) fn suspend(resource: &mut WhatsAppPhoneNumber) {
    resource.spec.suspend = !resource.spec.suspend;
    bump(resource);
}

/// Deletes a resource that somebody's finalizer keeps.
pub(super) fn terminate(resource: &mut WhatsAppPhoneNumber, now: Seconds) {
    let finalizers = resource.metadata.finalizers.get_or_insert_default();
    finalizers.push(FOREIGN_FINALIZER.to_owned());
    leave(resource, now);
}

fn leave(resource: &mut WhatsAppPhoneNumber, now: Seconds) {
    resource.metadata.deletion_timestamp = Some(Time(time(now)));
    bump(resource);
}

/// Takes back that the number is to be deregistered with its resource, or wants it again.
pub(super) fn release(resource: &mut WhatsAppPhoneNumber) {
    resource.spec.deletion_policy = match resource.spec.deletion_policy {
        DeletionPolicy::Deregister => DeletionPolicy::Retain,
        DeletionPolicy::Retain => DeletionPolicy::Deregister,
    };
    bump(resource);
}

/// A new generation that changes nothing in a call.
pub(super) fn bump(resource: &mut WhatsAppPhoneNumber) {
    let generation = resource.metadata.generation.get_or_insert(0);
    *generation += 1;
}
