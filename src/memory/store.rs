//! The watched resources, indexed by the phone number ID and by the Secrets that they reference.
//!
//! The objects themselves are kept once, in the stores of the watches; the index has only their names.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;

use operator_core::api::WhatsAppPhoneNumber;
use operator_core::credentials::secret_names;
use operator_core::model::twins::lost_precedence;

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
    woken: Vec<(usize, Key)>,
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

    /// Applies an event of a watch, before the store of the watch does. Returns the resources to reconcile because a peer
    /// is gone or has lost precedence, each with its watch.
    pub fn observe(
        &self,
        watch: usize,
        event: &Event<Watched>,
        memory: &Memory,
    ) -> Vec<(usize, Key)> {
        match event {
            Event::Init => {
                self.names().listed.insert(watch, Listed::default());
                Vec::new()
            }
            Event::InitApply(object) => {
                let woken = self.apply(watch, object, memory);
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
        let keys: Vec<Key> = {
            let names = self.names();
            let all = names.by_number.get(number).into_iter().flatten();
            all.filter(|key| *key != own).cloned().collect()
        };
        keys.iter().filter_map(|key| self.get(key)).collect()
    }

    /// The resources that reference a Secret.
    pub fn naming_secret(&self, secret: &Key) -> Vec<Key> {
        self.names()
            .by_secret
            .get(secret)
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }

    /// All resources in the stores of the watches.
    pub fn all(&self) -> Vec<Arc<Watched>> {
        self.stores.iter().flat_map(Store::state).collect()
    }

    fn get(&self, key: &Key) -> Option<Arc<Watched>> {
        let reference = ObjectRef::new(&key.name).within(&key.namespace);
        self.stores.iter().find_map(|store| store.get(&reference))
    }

    /// Applies a resource. A list shows a recreated one without an event that the one before is gone.
    fn apply(&self, watch: usize, object: &Watched, memory: &Memory) -> Vec<(usize, Key)> {
        let key = key_of(object);
        let before = self.get(&key);
        let Ok(resource) = &object.0 else {
            return Vec::new();
        };
        let mut woken = Vec::new();
        if let Some(Ok(before)) = before.as_deref().map(|before| &before.0) {
            if before.uid() != resource.uid() {
                woken = self.remove(&key, memory);
            } else if lost_precedence(before, resource) {
                woken = self.names().others(&before.spec.phone_number_id, &key);
            }
            let kept: HashSet<&str> = resource.attempts().iter().map(|a| a.id.as_str()).collect();
            if before
                .attempts()
                .iter()
                .any(|attempt| !kept.contains(attempt.id.as_str()))
            {
                // Recreated, or its status was wiped.
                memory
                    .history
                    .note(&before.spec.phone_number_id, before.attempts());
            }
        }
        memory.note_seen(resource);
        self.names()
            .insert(key.clone(), Entry::of(watch, &key, resource));
        woken
    }

    fn remove(&self, key: &Key, memory: &Memory) -> Vec<(usize, Key)> {
        if let Some(Ok(last)) = self.get(key).as_deref().map(|last| &last.0) {
            memory
                .history
                .note(&last.spec.phone_number_id, last.attempts());
            memory.notes.forget(&last.uid().unwrap_or_default());
        }
        self.names().remove(key)
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

    /// Removes a resource. Returns its peers, each with its watch.
    fn remove(&mut self, key: &Key) -> Vec<(usize, Key)> {
        let Some(entry) = self.entries.remove(key) else {
            return Vec::new();
        };
        for secret in &entry.secrets {
            remove_from(&mut self.by_secret, secret, key);
        }
        remove_from(&mut self.by_number, &entry.number, key);
        self.others(&entry.number, key)
    }

    /// The other resources of a number, each with its watch.
    fn others(&self, number: &str, own: &Key) -> Vec<(usize, Key)> {
        let keys = self.by_number.get(number).into_iter().flatten();
        keys.filter(|key| *key != own)
            .filter_map(|key| Some((self.entries.get(key)?.watch, key.clone())))
            .collect()
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

fn remove_from<K: std::hash::Hash + Eq>(map: &mut HashMap<K, BTreeSet<Key>>, at: &K, key: &Key) {
    if let Some(keys) = map.get_mut(at) {
        keys.remove(key);
        if keys.is_empty() {
            map.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use kube::runtime::reflector::{self, store::Writer};

    use testkit::builders::{claimed, resource, spec};

    use super::*;

    /// An index over one watch that has listed these resources.
    fn after(listed: &[WhatsAppPhoneNumber]) -> (ResourceStore, Writer<Watched>, Memory) {
        let (store, writer) = reflector::store();
        let mut watched = (ResourceStore::new(vec![store]), writer, Memory::default());
        list(&mut watched, listed);
        watched
    }

    /// Lists these resources; returns the names of those to reconcile after the list.
    fn list(
        (index, writer, memory): &mut (ResourceStore, Writer<Watched>, Memory),
        listed: &[WhatsAppPhoneNumber],
    ) -> Vec<String> {
        let applied = listed.iter().cloned().map(|resource| {
            let watched: Watched = DeserializeGuard(Ok(resource));
            Event::InitApply(watched)
        });
        let events = std::iter::once(Event::Init).chain(applied);
        let mut woken = Vec::new();
        for event in events.chain([Event::InitDone]) {
            woken = index.observe(0, &event, memory);
            writer.apply_watcher_event(&event);
        }
        woken.into_iter().map(|(_, key)| key.name).collect()
    }

    fn with_uid(mut resource: WhatsAppPhoneNumber, uid: &str) -> WhatsAppPhoneNumber {
        resource.metadata.uid = Some(uid.to_owned());
        resource
    }

    /// A resource with a call of now.
    fn called(name: &str, uid: &str) -> WhatsAppPhoneNumber {
        let mut resource = with_uid(claimed(resource(name, 1)), uid);
        let status = resource.status.get_or_insert_default();
        status.attempts[0].start_time = Time(Timestamp::now());
        resource
    }

    #[test]
    fn the_calls_of_a_resource_that_is_gone_are_remembered() {
        let number = spec().phone_number_id;
        let mut watched = after(&[called("first", "a")]);
        assert!(watched.2.history.of(&number).is_empty());
        list(&mut watched, &[]);
        assert_eq!(watched.2.history.of(&number).len(), 1);
    }

    #[test]
    fn the_calls_that_a_status_has_lost_are_remembered() {
        let number = spec().phone_number_id;
        let mut watched = after(&[called("first", "a")]);
        list(&mut watched, &[with_uid(resource("first", 1), "a")]);
        assert_eq!(watched.2.history.of(&number).len(), 1);
    }

    #[test]
    fn a_list_that_shows_a_resource_made_anew_wakes_the_others_of_its_number() {
        let first = with_uid(resource("first", 1), "a");
        let second = with_uid(resource("second", 2), "b");
        let mut watched = after(&[first.clone(), second.clone()]);
        assert!(list(&mut watched, &[first, second.clone()]).is_empty());
        // It is younger now than the second one, over which it took precedence.
        let recreated = with_uid(resource("first", 3), "c");
        assert_eq!(list(&mut watched, &[recreated, second]), ["second"]);
    }

    #[test]
    fn a_claim_that_ended_without_success_wakes_the_others_of_its_number() {
        let elder = with_uid(resource("elder", 1), "a");
        let younger = with_uid(resource("younger", 2), "b");
        let mut watched = after(&[elder.clone(), claimed(younger.clone())]);
        assert_eq!(list(&mut watched, &[elder, younger]), ["elder"]);
    }
}
