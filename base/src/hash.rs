//! Hash map and set with a fixed hasher: the same program on the same input iterates in the same order, which the
//! seeded simulation relies on.

/// A hash map whose iteration order depends on its content only.
pub type HashMap<K, V> = hashbrown::HashMap<K, V, FixedState>;
/// A hash set whose iteration order depends on its content only.
pub type HashSet<K> = hashbrown::HashSet<K, FixedState>;
/// The hasher of [`HashMap`] and [`HashSet`].
pub use foldhash::fast::FixedState;
