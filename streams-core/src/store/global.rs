//! Global stores: written by the global task, read by the tasks of all threads.

use std::sync::Arc;

use base::hash::HashMap;
use parking_lot::RwLock;
use storage::state::{ByteStore, Direction};

use crate::error::{ErrorKind, StreamsError};
use crate::serde::{Serde, SerdeRef};
use crate::store::value::ValueFormat;

type Bytes = Arc<RwLock<Box<dyn ByteStore>>>;

/// What is known of one global store. Its typed parts are behind `Any` until a reader names its types.
#[derive(Clone)]
struct Entry {
    store: Arc<dyn std::any::Any + Send + Sync>,
    type_name: &'static str,
}

/// All global stores of a process, by name; cheap to clone, shared by all clones.
#[derive(Clone, Default)]
pub struct GlobalStores {
    stores: Arc<RwLock<HashMap<String, Entry>>>,
}

impl GlobalStores {
    /// Makes a store readable under `name`.
    pub(crate) fn publish<K: 'static, V: 'static>(&self, name: &str, store: GlobalKeyValueStore<K, V>) {
        let entry = Entry { store: Arc::new(store), type_name: std::any::type_name::<GlobalKeyValueStore<K, V>>() };
        self.stores.write().insert(name.to_owned(), entry);
    }

    /// The store called `name`, to be read.
    ///
    /// # Errors
    /// If there is none, or its types differ.
    pub fn key_value<K: 'static, V: 'static>(&self, name: &str) -> Result<GlobalKeyValueStore<K, V>, StreamsError> {
        let stores = self.stores.read();
        let Some(entry) = stores.get(name) else {
            return Err(StreamsError::new(ErrorKind::IllegalState, format!("there is no global store {name}")));
        };
        match entry.store.downcast_ref::<GlobalKeyValueStore<K, V>>() {
            Some(store) => Ok(store.clone()),
            None => {
                let message = format!("global store {name} is a {}", entry.type_name);
                Err(StreamsError::new(ErrorKind::IllegalState, message))
            }
        }
    }
}

/// Reads a global store from any thread. Each read sees what the global task has written so far.
///
/// For a timestamped store (a global table's), `V` is [`ValueAndTimestamp`](crate::ValueAndTimestamp).
pub struct GlobalKeyValueStore<K, V> {
    name: Arc<str>,
    topic: Arc<str>,
    key: SerdeRef<K>,
    format: Arc<dyn ValueFormat<V>>,
    bytes: Bytes,
}

impl<K, V> Clone for GlobalKeyValueStore<K, V> {
    fn clone(&self) -> Self {
        Self {
            name: Arc::clone(&self.name),
            topic: Arc::clone(&self.topic),
            key: Arc::clone(&self.key),
            format: Arc::clone(&self.format),
            bytes: Arc::clone(&self.bytes),
        }
    }
}

impl<K, V> GlobalKeyValueStore<K, V> {
    pub(crate) fn new(
        name: Arc<str>,
        topic: Arc<str>,
        key: SerdeRef<K>,
        format: Arc<dyn ValueFormat<V>>,
        bytes: Bytes,
    ) -> Self {
        Self { name, topic, key, format, bytes }
    }

    fn key_bytes(&self, key: &K) -> Result<Vec<u8>, StreamsError> {
        let mut bytes = Vec::new();
        self.key
            .serialize(&self.topic, &protocol::record::Headers::default(), key, &mut bytes)
            .map_err(|error| StreamsError::caused_by(ErrorKind::Serialization, error).in_store(&self.name))?;
        Ok(bytes)
    }

    fn read_value(&self, bytes: &[u8]) -> Result<V, StreamsError> {
        self.format
            .read(&self.topic, bytes)
            .map_err(|error| StreamsError::caused_by(ErrorKind::Deserialization, error).in_store(&self.name))
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// The store failed, or key or value do not fit the serdes.
    pub fn get(&self, key: &K) -> Result<Option<V>, StreamsError> {
        let key = self.key_bytes(key)?;
        let mut value = None;
        self.bytes
            .read()
            .get_with(&key, &mut |bytes| value = Some(self.read_value(bytes)))
            .map_err(|error| StreamsError::caused_by(ErrorKind::Store, error).in_store(&self.name))?;
        value.transpose()
    }

    /// All entries in the order of their key bytes; copies them.
    ///
    /// # Errors
    /// As [`GlobalKeyValueStore::get`].
    pub fn all(&self) -> Result<Vec<(K, V)>, StreamsError> {
        let failed = |error| StreamsError::caused_by(ErrorKind::Store, error).in_store(&self.name);
        let bytes = self.bytes.read();
        let mut entries = bytes.range(None, None, Direction::Forward).map_err(failed)?;
        let mut all = Vec::new();
        while let Some((key, value)) = entries.next_entry().map_err(failed)? {
            let key = self
                .key
                .deserialize(&self.topic, &protocol::record::Headers::default(), key)
                .map_err(|error| StreamsError::caused_by(ErrorKind::Deserialization, error).in_store(&self.name))?;
            all.push((key, self.read_value(value)?));
        }
        Ok(all)
    }
}
