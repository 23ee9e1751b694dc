//! What a process remembers: the operator's `Memory` with a clock that is told, and the events of the resource store.

use std::time::Duration;

use super::operator::uid_of;
use super::state::{Memory, Moment, NAMES, Seconds, State, Stored};
use operator_core::api::{LedgerEntry, WhatsAppPhoneNumber};
use operator_core::model::OpenClaim;
use operator_core::model::twins::{self, KnownCall};

impl Memory {
    /// `Memory::saw`.
    pub(super) fn saw(&mut self, resource: &WhatsAppPhoneNumber, now: Seconds) {
        let open = resource.attempts().iter().find(|a| a.is_open());
        let uid = uid_of(resource);
        match (open, self.open_claims.get(&uid)) {
            (Some(open), Some((seen, _))) if *seen == open.id => {}
            (Some(open), _) => {
                let seen = (open.id.clone(), Moment(now));
                self.open_claims.insert(uid, seen);
            }
            (None, _) => {
                self.open_claims.remove(&uid);
            }
        }
    }

    /// `Memory::open_claim`.
    pub(super) fn open_claim(&mut self, resource: &WhatsAppPhoneNumber, now: Seconds) -> OpenClaim {
        self.saw(resource, now);
        match self.open_claims.get(&uid_of(resource)) {
            Some((id, _)) if self.unsent.contains(id) => OpenClaim::Unsent,
            Some((_, since)) => OpenClaim::SeenFor(Duration::from_secs((now - since.0).into())),
            None => OpenClaim::SeenFor(Duration::ZERO),
        }
    }

    /// `CallHistory::note`.
    pub(super) fn remember(&mut self, resource: &WhatsAppPhoneNumber, attempts: &[LedgerEntry]) {
        let known = &mut self.calls.0;
        for call in attempts.iter().map(|entry| KnownCall::of(resource, entry)) {
            match known
                .iter_mut()
                .find(|known| known.entry.id == call.entry.id)
            {
                Some(known) if call.entry.is_open() && !known.entry.is_open() => {}
                Some(known) => known.entry = call.entry,
                None => known.push(call),
            }
        }
        known.sort_by_key(|call| std::cmp::Reverse(call.entry.start_time.0));
    }

    /// `Memory::wrote`.
    pub(super) fn wrote(&mut self, after: &WhatsAppPhoneNumber) {
        self.written.insert(uid_of(after), version_of(after));
    }

    /// `Memory::is_stale`.
    pub(super) fn is_stale(&self, cached: &WhatsAppPhoneNumber) -> bool {
        let written = self.written.get(&uid_of(cached));
        written.is_some_and(|written| version_of(cached) < *written)
    }

    fn forget(&mut self, uid: u8) {
        self.open_claims.remove(&uid);
        self.plans.remove(&uid);
        self.reads.remove(&uid);
        self.written.remove(&uid);
    }
}

/// The watch brings everything that has happened, in order: `ResourceStore::observe`.
pub(super) fn sync(state: &mut State, who: usize) {
    let gone = state.server.gone.clone();
    for (name, last) in &gone[state.operators[who].noticed..] {
        notice_deletion(state, who, *name, last);
    }
    state.operators[who].noticed = gone.len();
    for name in 0..NAMES.len() {
        if let Some(newest) = state.server.objects[name].clone() {
            bring(state, who, name, newest);
        }
    }
}

/// A version of a resource comes: `ResourceStore::apply`, and `resource_changes` in `controller`.
pub(super) fn bring(state: &mut State, who: usize, name: usize, version: Stored) {
    let now = state.now();
    let operator = &mut state.operators[who];
    if let Some(before) = &operator.cache[name] {
        let kept = |id: &str| version.attempts().iter().any(|a| a.id == id);
        if before.attempts().iter().any(|a| !kept(&a.id)) {
            operator
                .memory
                .remember(before.resource(), before.attempts());
        }
    }
    operator.memory.saw(version.resource(), now);
    let asks = |stored: &Stored| {
        let metadata = &stored.resource().metadata;
        (
            stored.uid(),
            metadata.generation,
            metadata.annotations.clone(),
            metadata.deletion_timestamp.is_some(),
            metadata.finalizers.clone(),
        )
    };
    // The operators' own writes are no reason for a pass.
    if operator.cache[name].as_ref().map(asks) != Some(asks(&version)) {
        operator.pending[name] = true;
    }
    let fell = operator.cache[name].as_ref().is_some_and(|before| {
        let anew = before.uid() != version.uid();
        anew || twins::lost_precedence(before.resource(), version.resource())
    });
    operator.pending[1 - name] |= fell && operator.cache[1 - name].is_some();
    operator.cache[name] = Some(version);
}

/// `ResourceStore::remove`, with the version that the delete event carries... and the one that the store had.
fn notice_deletion(state: &mut State, who: usize, name: usize, last: &Stored) {
    let operator = &mut state.operators[who];
    // The watch has brought all versions up to the last one, in order.
    operator.memory.remember(last.resource(), last.attempts());
    operator.memory.forget(last.uid());
    operator.cache[name] = None;
    operator.pending[name] = false;
    operator.wakes[name] = None;
    operator.pending[1 - name] |= operator.cache[1 - name].is_some();
}

fn version_of(resource: &WhatsAppPhoneNumber) -> u32 {
    let version = resource.metadata.resource_version.as_ref();
    version
        .and_then(|version| version.parse().ok())
        .expect("a version")
}
