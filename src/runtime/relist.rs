//! The objects that a watch has changed, emitted once its store has them.
//!
//! kube's store applies a list only with its last page, but kube's `applied_objects` emits each object with its page: a
//! reconciliation that begins between two pages would see the previous object, or none, and nothing would trigger another
//! one. This concerns every list but the first, for which a controller waits.

use futures::{Stream, TryStreamExt, stream};
use kube::runtime::watcher::Event;

/// Returns the objects that were added or changed; those of a list at its end.
pub fn stored_objects<K, E>(
    events: impl Stream<Item = Result<Event<K>, E>>,
) -> impl Stream<Item = Result<K, E>> {
    let mut listed = Vec::new();
    events
        .map_ok(move |event| {
            let stored = take_stored(&mut listed, event);
            stream::iter(stored.into_iter().map(Ok))
        })
        .try_flatten()
}

fn take_stored<K>(listed: &mut Vec<K>, event: Event<K>) -> Vec<K> {
    match event {
        Event::Apply(object) => return vec![object],
        Event::Init => listed.clear(),
        Event::InitApply(object) => listed.push(object),
        Event::InitDone => return std::mem::take(listed),
        Event::Delete(_) => {}
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::StreamExt;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt;
    use kube::core::ObjectMeta;
    use kube::runtime::reflector::{self, ObjectRef};

    use super::*;

    fn object(name: &str, version: &str) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                resource_version: Some(version.to_owned()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        }
    }

    #[tokio::test]
    async fn what_is_handed_out_stands_in_the_store() {
        let (store, mut writer) = reflector::store();
        let events = stream::iter([
            Event::Init,
            Event::InitApply(object("old", "1")),
            Event::InitDone,
            Event::Apply(object("old", "2")),
            // A list that breaks off, and the one after it.
            Event::Init,
            Event::InitApply(object("gone", "3")),
            Event::Init,
            Event::InitApply(object("old", "4")),
            Event::InitApply(object("new", "5")),
            Event::InitDone,
            Event::Delete(object("new", "6")),
        ]);
        let events = events
            .inspect(|event| writer.apply_watcher_event(event))
            .map(Ok::<_, Infallible>);
        let mut objects = std::pin::pin!(stored_objects(events));
        let mut seen = Vec::new();
        while let Some(Ok(object)) = objects.next().await {
            let stored = store.get(&ObjectRef::from_obj(&object));
            let stored = stored.and_then(|stored| stored.resource_version());
            assert_eq!(stored, object.resource_version(), "{}", object.name_any());
            seen.push(stored.unwrap_or_default());
        }
        assert_eq!(seen, ["1", "2", "4", "5"]);
    }
}
