//! The store of a table, whichever kind it is: what the operators of tables read and write.

use std::rc::Rc;

use base::Timestamp;

use crate::error::BoxError;
use crate::error::StreamsError;
use crate::processor::context::{NodeContext, ProcessorContext};
use crate::record::Change;
use crate::store::api::ValueAndTimestamp;
use crate::store::key_value::TimestampedKeyValueStore;
use crate::store::versioned::{VersionedKeyValueStore, VersionedPut};

/// The store of a table: timestamped or versioned.
pub enum TableStore<K, V> {
    /// The latest update of each key counts, whatever its time.
    Timestamped(Rc<TimestampedKeyValueStore<K, V>>),
    /// The update with the greatest time counts; older ones enter history.
    Versioned(Rc<VersionedKeyValueStore<K, V>>),
}

impl<K: 'static, V: Clone + 'static> TableStore<K, V> {
    /// The value of `key` now, and its time.
    ///
    /// # Errors
    /// The store failed, or key or value do not fit the serdes.
    #[inline]
    pub fn get(&self, key: &K) -> Result<Option<ValueAndTimestamp<V>>, StreamsError> {
        match self {
            Self::Timestamped(store) => store.get(key),
            Self::Versioned(store) => {
                let found = store.get(key)?;
                Ok(found.map(|found| ValueAndTimestamp { value: found.value, timestamp: found.timestamp }))
            }
        }
    }

    /// Updates `key`. Returns whether the update is the newest of its key, or `None` if it was too old to be kept: then it is not to be
    /// forwarded either.
    ///
    /// # Errors
    /// As [`TableStore::get`]; where a full cache forwards other updates, also what downstream returns.
    #[inline]
    pub fn put(&self, key: &K, value: Option<V>, timestamp: Timestamp) -> Result<Option<bool>, StreamsError> {
        match self {
            Self::Timestamped(store) => {
                store.put(key, value.map(|value| ValueAndTimestamp { value, timestamp }))?;
                Ok(Some(true))
            }
            Self::Versioned(store) => Ok(match store.put(key, value, timestamp)? {
                VersionedPut::Latest => Some(true),
                VersionedPut::ValidUntil(_) => Some(false),
                VersionedPut::Expired => None,
            }),
        }
    }
}

impl NodeContext {
    /// The connected store called `name`, if it is one that tables are kept in.
    ///
    /// # Errors
    /// As [`NodeContext::store`].
    pub fn table_store<K: 'static, V: Clone + 'static>(&self, name: &str) -> Result<TableStore<K, V>, BoxError> {
        if let Ok(store) = self.store::<VersionedKeyValueStore<K, V>>(name) {
            return Ok(TableStore::Versioned(store));
        }
        Ok(TableStore::Timestamped(self.timestamped_key_value_store(name)?))
    }
}

impl<K: Clone + 'static, V: Clone + 'static> ProcessorContext<K, Change<V>> {
    /// As [`ProcessorContext::forward_on_flush`] for a store of any kind: whether the store forwards its updates itself.
    pub fn forward_table_on_flush(&self, store: &TableStore<K, V>, send_old_values: bool) -> bool {
        match store {
            TableStore::Timestamped(store) => self.forward_on_flush(store, send_old_values),
            TableStore::Versioned(_) => false,
        }
    }
}
