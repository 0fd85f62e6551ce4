//! Describes versioned key-value stores.

use std::rc::Rc;

use storage::state::versioned_segment_interval_ms;

use crate::error::StreamsError;
use crate::serde::{Serde, SerdeRef};
use crate::store::api::{StateStore, StoreContext};
use crate::store::builder::{Common, Logging, Storage, StoreBuilder, StoreKind, Stores, storage_options};
use crate::store::versioned::VersionedKeyValueStore;

/// Describes a [`VersionedKeyValueStore`].
pub struct VersionedStoreBuilder<K, V> {
    pub(crate) common: Common,
    pub(crate) history_retention_ms: i64,
    pub(crate) segment_interval_ms: i64,
    pub(crate) key: SerdeRef<K>,
    pub(crate) value: SerdeRef<V>,
}

impl Stores {
    /// A key-value store that keeps former values, and since when each was valid, for `history_retention_ms` of stream time.
    pub fn versioned_key_value<K: 'static, V: 'static>(
        name: impl Into<String>,
        history_retention_ms: i64,
        key: impl Serde<K> + 'static,
        value: impl Serde<V> + 'static,
    ) -> VersionedStoreBuilder<K, V> {
        VersionedStoreBuilder {
            common: Common::new(name),
            history_retention_ms: history_retention_ms.max(0),
            segment_interval_ms: versioned_segment_interval_ms(history_retention_ms),
            key: key.into_ref(),
            value: value.into_ref(),
        }
    }
}

impl<K, V> VersionedStoreBuilder<K, V> {
    /// Cuts history into segments of `interval_ms` (at least 1): it expires a segment at a time, and all versions of a key that ended in
    /// one segment are read and written together.
    #[must_use]
    pub fn with_segment_interval_ms(mut self, interval_ms: i64) -> Self {
        self.segment_interval_ms = interval_ms.max(1);
        self
    }
}

storage_options!(VersionedStoreBuilder);

impl<K: 'static, V: 'static> StoreBuilder for VersionedStoreBuilder<K, V> {
    fn name(&self) -> &str {
        &self.common.name
    }

    fn logging(&self) -> &Logging {
        &self.common.logging
    }

    fn kind(&self) -> StoreKind {
        StoreKind::Versioned { history_retention_ms: self.history_retention_ms }
    }

    fn is_persistent(&self) -> bool {
        self.common.storage != Storage::InMemory
    }

    fn build(&self, context: &StoreContext) -> Result<Rc<dyn StateStore>, StreamsError> {
        Ok(Rc::new(VersionedKeyValueStore::open(self, context)?))
    }
}
