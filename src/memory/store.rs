//! The watched resources, indexed by the phone number ID and by the Secrets that they reference; and the only
//! place that decides what a change of one wakes.
//!
//! The objects themselves are kept once, in the stores of the watches; the index has only their names.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::core::{DeserializeGuard, ObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};

use operator_core::api::{WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};
use operator_core::credentials::secret_names;
use operator_core::model::twins::lost_precedence;

use super::notes::waits_for_secret;
use super::process::Memory;

/// A resource from a watch. One that cannot be parsed does not stop the others.
pub type Watched = DeserializeGuard<WhatsAppPhoneNumber>;

/// The resources of all watches.
pub struct ResourceStore {
    stores: Vec<Store<Watched>>,
    names: Mutex<Names>,
}

/// A resource's namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub namespace: String,
    pub name: String,
}

/// A resource to reconcile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wake {
    /// Its watch.
    pub watch: usize,
    pub key: Key,
    /// Where another writer may have changed its status: when to look, with [`ResourceStore::is_worth_the_look`].
    pub look_after: Option<Duration>,
}

/// What has changed from one version of a resource to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// Nothing that a reconciliation depends on.
    Nothing,
    /// A fact in the status.
    Status,
    /// Anything else that a reconciliation depends on.
    Resource,
}

#[derive(Default)]
struct Names {
    entries: HashMap<Key, Entry>,
    by_number: HashMap<String, BTreeSet<Key>>,
    by_secret: HashMap<Key, BTreeSet<Key>>,
    /// The resources that each watch has listed so far, during a list.
    listed: HashMap<usize, Listed>,
}

#[derive(Default)]
struct Listed {
    keys: HashSet<Key>,
    /// The resources to reconcile once the store has the list.
    woken: Vec<Wake>,
}

/// The watch of a resource, and what the resource references.
#[derive(Clone, PartialEq, Eq)]
struct Entry {
    watch: usize,
    number: String,
    secrets: Vec<Key>,
}

impl ResourceStore {
    /// A store over the stores of the watches, each numbered by its position.
    pub fn new(stores: Vec<Store<Watched>>) -> Self {
        Self {
            stores,
            names: Mutex::default(),
        }
    }

    /// Applies an event of a watch, before the store of the watch does. Returns the resources to reconcile once it has: what has
    /// changed itself, and what a peer that is gone or has lost precedence leaves the number to.
    pub fn observe(&self, watch: usize, event: &Event<Watched>, memory: &Memory) -> Vec<Wake> {
        match event {
            Event::Init => {
                self.names().listed.insert(watch, Listed::default());
                Vec::new()
            }
            Event::InitApply(object) => {
                let mut woken = self.apply(watch, object, memory);
                // A list is read from the storage: only one that was restored from a backup has a version older than this process's own.
                let resource = object.0.as_ref().ok();
                if resource.is_some_and(|resource| memory.notes.is_older_than_written(resource)) {
                    woken.push(Wake::now(watch, key_of(object)));
                }
                if let Some(listed) = self.names().listed.get_mut(&watch) {
                    listed.keys.insert(key_of(object));
                    listed.woken.extend(woken);
                }
                Vec::new()
            }
            Event::Apply(object) => self.apply(watch, object, memory),
            Event::Delete(object) => self.remove(&key_of(object), memory),
            Event::InitDone => {
                let listed = self.names().listed.remove(&watch).unwrap_or_default();
                let gone = self.names().unlisted(watch, &listed.keys);
                let woken = gone.iter().flat_map(|key| self.remove(key, memory));
                woken.chain(listed.woken).collect()
            }
        }
    }

    /// The other resources with this phone number ID.
    pub fn others(&self, number: &str, own: &Key) -> Vec<Arc<Watched>> {
        let others = self.names().others(number, own);
        let stored = others
            .iter()
            .filter_map(|other| self.get(other.watch, &other.key));
        stored.collect()
    }

    /// Whether a resource is being deleted, as far as its watch has brought.
    pub fn is_deleted(&self, key: &Key) -> bool {
        let Some(wake) = self.names().wake(key) else {
            return true;
        };
        let stored = self.get(wake.watch, key);
        let meta = stored.as_deref().map(Resource::meta);
        meta.is_none_or(|meta| meta.deletion_timestamp.is_some())
    }

    /// The resources of other watches that share a number with one of this watch, to be reconciled.
    pub fn wake_twins(&self, watch: usize) -> Vec<Wake> {
        let names = self.names();
        let own = names.entries.iter().filter(|(_, e)| e.watch == watch);
        let twins = own.flat_map(|(key, entry)| names.others(&entry.number, key));
        twins.filter(|twin| twin.watch != watch).collect()
    }

    /// The resources that reference a Secret.
    pub fn naming_secret(&self, secret: &Key) -> Vec<Wake> {
        let names = self.names();
        let keys = names.by_secret.get(secret).into_iter().flatten();
        keys.filter_map(|key| names.wake(key)).collect()
    }

    /// All resources in the stores of the watches.
    pub fn all(&self) -> Vec<Arc<Watched>> {
        self.stores.iter().flat_map(Store::state).collect()
    }

    /// The same, to be reconciled.
    pub fn wake_all(&self) -> Vec<Wake> {
        let stores = self.stores.iter().enumerate();
        let woken = stores.flat_map(|(watch, store)| {
            let stored = store.state().into_iter();
            stored.map(move |object| Wake::now(watch, key_of(object.as_ref())))
        });
        woken.collect()
    }

    /// The resources of a watch that wait for a change of a Secret, to be reconciled.
    pub fn wake_waiting(&self, watch: usize) -> Vec<Wake> {
        let stored = self.stores.get(watch).map(Store::state);
        let waiting = stored.into_iter().flatten().filter(|object| {
            let resource = object.0.as_ref().ok();
            resource.is_some_and(waits_for_secret)
        });
        waiting
            .map(|object| Wake::now(watch, key_of(object.as_ref())))
            .collect()
    }

    /// Whether a resource is to be reconciled now, where it was woken to look at its status: another writer may have written it since
    /// this process did.
    pub fn is_worth_the_look(&self, wake: &Wake, memory: &Memory) -> bool {
        let stored = self.get(wake.watch, &wake.key);
        let resource = stored.as_deref().and_then(|stored| stored.0.as_ref().ok());
        resource.is_some_and(|resource| memory.notes.look(resource))
    }

    fn get(&self, watch: usize, key: &Key) -> Option<Arc<Watched>> {
        let reference = ObjectRef::new(&key.name).within(&key.namespace);
        self.stores.get(watch)?.get(&reference)
    }

    /// Applies a resource. A list shows a recreated one without an event that the previous one is gone.
    fn apply(&self, watch: usize, object: &Watched, memory: &Memory) -> Vec<Wake> {
        let key = key_of(object);
        let before = self.get(watch, &key);
        let before = before.as_deref();
        let own = match change(before, object) {
            Change::Nothing => None,
            Change::Status => object.0.as_ref().ok().and_then(|resource| {
                let look_after = Some(memory.notes.plan_look(resource)?);
                let key = key.clone();
                Some(Wake {
                    watch,
                    key,
                    look_after,
                })
            }),
            Change::Resource => Some(Wake::now(watch, key.clone())),
        };
        let others = self.index(watch, &key, before, object, memory);
        own.into_iter().chain(others).collect()
    }

    /// Indexes a version of a resource, and remembers what the previous version had and this one lacks. Returns the peers to
    /// reconcile.
    fn index(
        &self,
        watch: usize,
        key: &Key,
        before: Option<&Watched>,
        object: &Watched,
        memory: &Memory,
    ) -> Vec<Wake> {
        let Ok(resource) = &object.0 else {
            // Its claims are unknown, so it takes precedence over no other.
            return self.remove(key, memory);
        };
        let mut woken = Vec::new();
        if let Some(Ok(before)) = before.map(|before| &before.0) {
            if before.uid() != resource.uid() {
                woken = self.remove(key, memory);
            } else if lost_precedence(before, resource) {
                woken = self.names().others(&before.spec.phone_number_id, key);
            }
            if has_lost_calls(before, resource) {
                memory.history.note(before, before.attempts());
            }
        }
        memory.note_seen(resource);
        self.names()
            .insert(key.clone(), Entry::of(watch, key, resource));
        woken
    }

    fn remove(&self, key: &Key, memory: &Memory) -> Vec<Wake> {
        let Some(entry) = self.names().remove(key) else {
            return Vec::new();
        };
        if let Some(Ok(last)) = self.get(entry.watch, key).as_deref().map(|last| &last.0) {
            memory.history.note(last, last.attempts());
            memory.notes.forget(&last.uid().unwrap_or_default());
        }
        self.names().others(&entry.number, key)
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    fn insert(&mut self, key: Key, entry: Entry) {
        if self.entries.get(&key) == Some(&entry) {
            return;
        }
        self.remove(&key);
        self.by_number
            .entry(entry.number.clone())
            .or_default()
            .insert(key.clone());
        for secret in &entry.secrets {
            self.by_secret
                .entry(secret.clone())
                .or_default()
                .insert(key.clone());
        }
        self.entries.insert(key, entry);
    }

    /// Removes a resource. Returns what was known of it.
    fn remove(&mut self, key: &Key) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        for secret in &entry.secrets {
            remove_from(&mut self.by_secret, secret, key);
        }
        remove_from(&mut self.by_number, &entry.number, key);
        Some(entry)
    }

    /// The other resources of a number.
    fn others(&self, number: &str, own: &Key) -> Vec<Wake> {
        let keys = self.by_number.get(number).into_iter().flatten();
        keys.filter(|key| *key != own)
            .filter_map(|key| self.wake(key))
            .collect()
    }

    fn wake(&self, key: &Key) -> Option<Wake> {
        let entry = self.entries.get(key)?;
        Some(Wake::now(entry.watch, key.clone()))
    }

    fn unlisted(&self, watch: usize, listed: &HashSet<Key>) -> Vec<Key> {
        let entries = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.watch == watch);
        entries
            .map(|(key, _)| key)
            .filter(|key| !listed.contains(key))
            .cloned()
            .collect()
    }
}

impl Wake {
    fn now(watch: usize, key: Key) -> Self {
        Self {
            watch,
            key,
            look_after: None,
        }
    }
}

impl Entry {
    fn of(watch: usize, key: &Key, resource: &WhatsAppPhoneNumber) -> Self {
        let secret = |name: &str| Key {
            namespace: key.namespace.clone(),
            name: name.to_owned(),
        };
        Self {
            watch,
            number: resource.spec.phone_number_id.clone(),
            secrets: secret_names(&resource.spec)
                .into_iter()
                .map(secret)
                .collect(),
        }
    }
}

/// The namespace and name of a resource.
pub fn key_of<K: ResourceExt>(object: &K) -> Key {
    Key {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
    }
}

/// What has changed in a resource, which may be new here: created, or matched by the selector again.
fn change(before: Option<&Watched>, after: &Watched) -> Change {
    let Some(before) = before else {
        return Change::Resource;
    };
    if triggers(before.meta()) != triggers(after.meta()) {
        return Change::Resource;
    }
    match (&before.0, &after.0) {
        (Ok(before), Ok(after)) if before.status == after.status => Change::Nothing,
        (Ok(before), Ok(after)) if facts(before) == facts(after) => Change::Nothing,
        (Ok(_), Ok(_)) => Change::Status,
        (Err(_), Err(_)) => Change::Nothing,
        // It can be parsed again, or no longer.
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => Change::Resource,
    }
}

/// The metadata that a reconciliation depends on.
fn triggers(meta: &ObjectMeta) -> impl PartialEq {
    (
        &meta.uid,
        &meta.generation,
        &meta.annotations,
        &meta.deletion_timestamp,
        &meta.finalizers,
    )
}

/// The status without what is only shown and follows from the rest.
fn facts(resource: &WhatsAppPhoneNumber) -> WhatsAppPhoneNumberStatus {
    WhatsAppPhoneNumberStatus {
        conditions: Vec::new(),
        next_attempt_time: None,
        ..resource.status_or_unseen()
    }
}

/// Whether the ledger has lost calls: the resource was recreated, or its status was wiped.
fn has_lost_calls(before: &WhatsAppPhoneNumber, after: &WhatsAppPhoneNumber) -> bool {
    let kept: HashSet<&str> = after.attempts().iter().map(|a| a.id.as_str()).collect();
    let mut known = before.attempts().iter();
    known.any(|a| !kept.contains(a.id.as_str()))
}

fn remove_from<K: std::hash::Hash + Eq>(map: &mut HashMap<K, BTreeSet<Key>>, at: &K, key: &Key) {
    if let Some(keys) = map.get_mut(at) {
        keys.remove(key);
        if keys.is_empty() {
            map.remove(at);
        }
    }
}

#[cfg(test)]
mod tests;
