//! An API server with up to two resources of one phone number: it takes a status only on the newest version.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use operator_core::api::{DEREGISTER_FINALIZER, WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};

/// The name of a resource.
pub(crate) type Name = &'static str;

/// The resources that there may be; both name the same number.
pub(crate) const NAMES: [Name; 2] = ["berlin", "bremen"];

/// How many versions of a resource are kept for those who see old ones.
const KEPT: usize = 6;

/// Why a status was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Conflict,
    Gone,
    /// The API server failed, or its answer was lost.
    Failed,
}

#[derive(Default)]
pub(crate) struct Cluster {
    /// The versions of each name, the newest last; `None` where it was deleted.
    versions: BTreeMap<Name, Vec<Option<WhatsAppPhoneNumber>>>,
    /// Writes that were not answered and may land yet.
    pub(crate) late: Vec<WhatsAppPhoneNumber>,
    version: u64,
    uids: u32,
}

/// The name as this module writes it.
pub(crate) fn name_of(resource: &WhatsAppPhoneNumber) -> Name {
    let name = resource.name_any();
    NAMES
        .into_iter()
        .find(|known| *known == name)
        .expect("a known name")
}

impl Cluster {
    pub(crate) fn newest(&self, name: Name) -> Option<&WhatsAppPhoneNumber> {
        self.versions.get(name)?.last()?.as_ref()
    }

    /// A version so many before the newest, or the oldest that is kept.
    pub(crate) fn version(&self, name: Name, back: usize) -> Option<&WhatsAppPhoneNumber> {
        let versions = self.versions.get(name)?;
        versions
            .get(versions.len().saturating_sub(back + 1))?
            .as_ref()
    }

    /// The newest version of a resource, unless it was deleted or made anew.
    pub(crate) fn same(&self, resource: &WhatsAppPhoneNumber) -> Option<&WhatsAppPhoneNumber> {
        let newest = self.newest(name_of(resource))?;
        (newest.uid() == resource.uid()).then_some(newest)
    }

    pub(crate) fn create(&mut self, name: Name, now: Timestamp) {
        if self.newest(name).is_some() {
            return;
        }
        self.uids += 1;
        let mut resource = WhatsAppPhoneNumber::new(name, testkit::builders::spec());
        resource.metadata.namespace = Some("shop".to_owned());
        resource.metadata.uid = Some(format!("uid-{}", self.uids));
        resource.metadata.generation = Some(1);
        resource.metadata.creation_timestamp = Some(Time(now));
        resource.status = Some(WhatsAppPhoneNumberStatus::unseen());
        self.push(name, Some(resource));
    }

    /// A finalizer holds the resource.
    pub(crate) fn delete(&mut self, name: Name, now: Timestamp) {
        let Some(newest) = self.newest(name) else {
            return;
        };
        if !newest.has_finalizer() {
            self.push(name, None);
        } else if newest.metadata.deletion_timestamp.is_none() {
            self.edit(name, |r| r.metadata.deletion_timestamp = Some(Time(now)));
        }
    }

    /// Sets the finalizer or takes it off, if that was decided on the newest version. Returns the resource, also where it goes.
    pub(crate) fn patch_finalizer(
        &mut self,
        decided_on: &WhatsAppPhoneNumber,
        set: bool,
    ) -> Result<WhatsAppPhoneNumber, Refusal> {
        let name = name_of(decided_on);
        let newest = self.same(decided_on).ok_or(Refusal::Gone)?;
        if newest.resource_version() != decided_on.resource_version() {
            return Err(Refusal::Conflict);
        }
        let mut patched = newest.clone();
        patched.metadata.finalizers = set.then(|| vec![DEREGISTER_FINALIZER.to_owned()]);
        let gone = !set && patched.metadata.deletion_timestamp.is_some();
        self.push(name, (!gone).then_some(patched.clone()));
        Ok(self.newest(name).cloned().unwrap_or(patched))
    }

    /// A change that somebody else makes.
    pub(crate) fn edit(&mut self, name: Name, change: impl FnOnce(&mut WhatsAppPhoneNumber)) {
        let Some(mut edited) = self.newest(name).cloned() else {
            return;
        };
        let before = serde_json::to_value(&edited.spec).expect("a spec is JSON");
        change(&mut edited);
        if serde_json::to_value(&edited.spec).expect("a spec is JSON") != before {
            *edited.metadata.generation.get_or_insert(0) += 1;
        }
        self.push(name, Some(edited));
    }

    /// Takes a status, if it was decided on the newest version.
    pub(crate) fn put_status(
        &mut self,
        written: &WhatsAppPhoneNumber,
    ) -> Result<WhatsAppPhoneNumber, Refusal> {
        let name = name_of(written);
        let newest = self.newest(name).ok_or(Refusal::Gone)?;
        if newest.uid() != written.uid() || newest.resource_version() != written.resource_version()
        {
            return Err(Refusal::Conflict);
        }
        let mut stored = newest.clone();
        stored.status.clone_from(&written.status);
        self.push(name, Some(stored.clone()));
        Ok(self.newest(name).cloned().unwrap_or(stored))
    }

    fn push(&mut self, name: Name, resource: Option<WhatsAppPhoneNumber>) {
        self.version += 1;
        let version = self.version.to_string();
        let versions = self.versions.entry(name).or_default();
        versions.push(resource.map(|mut resource| {
            resource.metadata.resource_version = Some(version);
            resource
        }));
        if versions.len() > KEPT {
            versions.remove(0);
        }
    }
}
