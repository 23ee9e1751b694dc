//! Which resources name a phone number ID or a Secret, kept up to date by the watches.
//!
//! The objects themselves stand once, in the stores of the watches; here are only their names.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;

use crate::api::{RegisterAttempt, WhatsAppPhoneNumber};
use crate::memory::Memory;
use crate::secrets::secret_names;

/// A resource as a watch brings it: one that cannot be read does not stop the others.
pub type Watched = DeserializeGuard<WhatsAppPhoneNumber>;

/// The index over all watches.
pub struct Index {
    stores: Vec<Store<Watched>>,
    names: Mutex<Names>,
}

/// A resource's namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

#[derive(Default)]
struct Names {
    entries: HashMap<Key, Entry>,
    by_number: HashMap<String, BTreeSet<Key>>,
    by_secret: HashMap<Key, BTreeSet<Key>>,
    /// What a watch has listed so far, from the start of a list to its end.
    listed: HashMap<usize, HashSet<Key>>,
}

/// What a resource names.
#[derive(Clone, PartialEq, Eq)]
struct Entry {
    watch: usize,
    number: String,
    secrets: Vec<Key>,
}

impl Index {
    /// An index over the stores of the watches, which are numbered by their place.
    pub fn new(stores: Vec<Store<Watched>>) -> Self {
        Self {
            stores,
            names: Mutex::default(),
        }
    }

    /// Takes in what a watch says, before its store does. Returns the resources that should be looked at because
    /// another one of their number is gone, each with the watch that brings it.
    pub fn observe(
        &self,
        watch: usize,
        event: &Event<Watched>,
        memory: &Memory,
    ) -> Vec<(usize, Key)> {
        match event {
            Event::Init => {
                self.names().listed.insert(watch, HashSet::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                if let Some(listed) = self.names().listed.get_mut(&watch) {
                    listed.insert(key_of(object));
                }
                self.apply(watch, object, memory);
                Vec::new()
            }
            Event::Apply(object) => {
                self.apply(watch, object, memory);
                Vec::new()
            }
            Event::Delete(object) => self.remove(&key_of(object), memory),
            Event::InitDone => {
                let listed = self.names().listed.remove(&watch).unwrap_or_default();
                let gone = self.names().unlisted(watch, &listed);
                gone.iter()
                    .flat_map(|key| self.remove(key, memory))
                    .collect()
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

    /// The resources that name a Secret.
    pub fn naming_secret(&self, secret: &Key) -> Vec<Key> {
        self.names()
            .by_secret
            .get(secret)
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }

    /// All resources as their watches last brought them.
    pub fn all(&self) -> Vec<Arc<Watched>> {
        self.stores.iter().flat_map(Store::state).collect()
    }

    /// A resource as its watch last brought it.
    fn get(&self, key: &Key) -> Option<Arc<Watched>> {
        let reference = ObjectRef::new(&key.name).within(&key.namespace);
        self.stores.iter().find_map(|store| store.get(&reference))
    }

    fn apply(&self, watch: usize, object: &Watched, memory: &Memory) {
        let key = key_of(object);
        let before = self.get(&key);
        let Ok(resource) = &object.0 else { return };
        if let Some(Ok(before)) = before.as_deref().map(|before| &before.0) {
            let kept: HashSet<&str> = attempts(resource).iter().map(|a| a.id.as_str()).collect();
            if attempts(before)
                .iter()
                .any(|attempt| !kept.contains(attempt.id.as_str()))
            {
                // Recreated, or its status was wiped.
                memory.remember(&before.spec.phone_number_id, attempts(before));
            }
        }
        memory.saw(resource);
        self.names()
            .insert(key.clone(), Entry::of(watch, &key, resource));
    }

    fn remove(&self, key: &Key, memory: &Memory) -> Vec<(usize, Key)> {
        if let Some(Ok(last)) = self.get(key).as_deref().map(|last| &last.0) {
            memory.remember(&last.spec.phone_number_id, attempts(last));
            memory.forget(&last.uid().unwrap_or_default());
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

    /// Forgets a resource; returns the others of its number, each with its watch.
    fn remove(&mut self, key: &Key) -> Vec<(usize, Key)> {
        let Some(entry) = self.entries.remove(key) else {
            return Vec::new();
        };
        for secret in &entry.secrets {
            remove_from(&mut self.by_secret, secret, key);
        }
        remove_from(&mut self.by_number, &entry.number, key);
        let others = self.by_number.get(&entry.number).into_iter().flatten();
        others
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

/// The ledger in a resource's status.
pub fn attempts(resource: &WhatsAppPhoneNumber) -> &[RegisterAttempt] {
    resource
        .status
        .as_ref()
        .map(|status| status.attempts.as_slice())
        .unwrap_or_default()
}

fn remove_from<K: std::hash::Hash + Eq>(map: &mut HashMap<K, BTreeSet<Key>>, at: &K, key: &Key) {
    if let Some(keys) = map.get_mut(at) {
        keys.remove(key);
        if keys.is_empty() {
            map.remove(at);
        }
    }
}
