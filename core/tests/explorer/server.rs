//! The API server: an object store with resource versions and UIDs.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::state::{NAMES, Print, Seconds, Server, Stored};
use super::time;
use operator_core::api::{REGISTER_REQUESTED_AT, WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};

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
        let stored = self.objects[name].as_ref().ok_or(Refused::NotFound)?;
        if (stored.uid(), stored.version()) != (on.uid(), on.version()) {
            return Err(Refused::Conflict);
        }
        let mut resource = stored.resource().clone();
        resource.status = Some(status);
        Ok(self.put(name, resource))
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

    pub(super) fn create(&mut self, name: usize, now: Seconds) {
        self.uids += 1;
        self.ties.push(self.uids > 1 && self.created.0 == now);
        self.created.0 = now;
        let mut resource = WhatsAppPhoneNumber::new(NAMES[name], testkit::builders::spec());
        resource.metadata.namespace = Some("shop".to_owned());
        resource.metadata.generation = Some(1);
        resource.metadata.creation_timestamp = Some(Time(time(now)));
        resource.status = Some(WhatsAppPhoneNumberStatus::unseen());
        self.before[name] = None;
        self.objects[name] = Some(Stored::new(resource, self.uids, 1));
    }

    pub(super) fn delete(&mut self, name: usize) {
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
    resource.metadata.deletion_timestamp = Some(Time(time(now)));
    bump(resource);
}

/// A new generation that changes nothing in a call.
pub(super) fn bump(resource: &mut WhatsAppPhoneNumber) {
    let generation = resource.metadata.generation.get_or_insert(0);
    *generation += 1;
}
