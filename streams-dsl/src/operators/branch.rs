//! `split` of a stream: each record goes to the first branch that it matches.

use std::collections::BTreeMap;
use std::sync::Arc;

use streams_core::{BoxError, Processor, ProcessorContext, Record};

use crate::kstream::KStream;
use crate::naming;
use crate::operators::merge::PassThrough;

type Predicate<K, V> = Arc<dyn Fn(Option<&K>, Option<&V>) -> bool + Send + Sync>;

struct Split<K, V> {
    predicates: Arc<[Predicate<K, V>]>,
    has_default: bool,
}

impl<K: Clone + 'static, V: Clone + 'static> Processor<K, V, K, V> for Split<K, V> {
    fn process(&mut self, record: Record<K, V>, ctx: &mut ProcessorContext<K, V>) -> Result<(), BoxError> {
        let matches = |predicate: &Predicate<K, V>| predicate(record.key.as_ref(), record.value.as_ref());
        match self.predicates.iter().position(matches) {
            Some(branch) => ctx.forward_to_index(branch, record),
            None if self.has_default => ctx.forward_to_index(self.predicates.len(), record),
            None => Ok(()),
        }
    }
}

/// A stream being split; see [`KStream::split`].
pub struct BranchedKStream<K, V> {
    stream: KStream<K, V>,
    parent: String,
    predicates: Vec<Predicate<K, V>>,
    names: Vec<String>,
}

/// The branches of a split, by name.
pub struct Branches<K, V> {
    by_name: BTreeMap<String, KStream<K, V>>,
    in_order: Vec<String>,
}

impl<K, V> Branches<K, V> {
    /// The branch of that full name: the split's name followed by the branch's, or by its number.
    pub fn get(&self, name: &str) -> Option<KStream<K, V>> {
        self.by_name.get(name).cloned()
    }

    /// The branches in the order of the calls, the default branch last.
    pub fn streams(&self) -> Vec<KStream<K, V>> {
        self.in_order.iter().filter_map(|name| self.get(name)).collect()
    }

    /// Full names of the branches in the order of the calls, the default branch last.
    pub fn names(&self) -> &[String] {
        &self.in_order
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Splits the stream: branches are tried in the order in which they are added, and the first that matches gets the record.
    ///
    /// ```
    /// # use streams_dsl::{Consumed, Produced, StreamsBuilder};
    /// # let builder = StreamsBuilder::new();
    /// let numbers = builder.stream("numbers", Consumed::<String, i64>::default());
    /// let branches = numbers
    ///     .named("by-sign-")
    ///     .split()
    ///     .branch_named("negative", |_, number| *number < 0)
    ///     .default_branch_named("positive");
    /// branches.get("by-sign-negative").unwrap().to("negatives", Produced::default());
    /// ```
    pub fn split(&self) -> BranchedKStream<K, V> {
        let parent = self.place.take_name(naming::BRANCH);
        BranchedKStream {
            stream: self.same(self.place.node.clone()),
            parent,
            predicates: Vec::new(),
            names: Vec::new(),
        }
    }
}

impl<K: Clone + 'static, V: Clone + 'static> BranchedKStream<K, V> {
    /// Adds a branch for the records whose value is not null and matches; its name is its number, from 1.
    #[must_use]
    pub fn branch(self, predicate: impl Fn(Option<&K>, &V) -> bool + Send + Sync + 'static) -> Self {
        let number = (self.predicates.len() + 1).to_string();
        self.branch_named(&number, predicate)
    }

    /// As [`BranchedKStream::branch`], with a name.
    #[must_use]
    pub fn branch_named(self, name: &str, predicate: impl Fn(Option<&K>, &V) -> bool + Send + Sync + 'static) -> Self {
        self.branch_nullable(name, move |key, value| value.is_some_and(|value| predicate(key, value)))
    }

    /// As [`BranchedKStream::branch_named`], asked for null values too.
    #[must_use]
    pub fn branch_nullable(
        mut self,
        name: &str,
        predicate: impl Fn(Option<&K>, Option<&V>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.stream.place.graph.skip_names(1);
        self.names.push(format!("{}{name}", self.parent));
        self.predicates.push(Arc::new(predicate));
        self
    }

    /// Ends the split; what matched nothing goes to a branch named `0`.
    pub fn default_branch(self) -> Branches<K, V> {
        self.default_branch_named("0")
    }

    /// Ends the split; what matched nothing goes to the branch `name`.
    pub fn default_branch_named(mut self, name: &str) -> Branches<K, V> {
        self.stream.place.graph.skip_names(1);
        self.names.push(format!("{}{name}", self.parent));
        self.finish(true)
    }

    /// Ends the split; what matched nothing is dropped.
    pub fn no_default_branch(self) -> Branches<K, V> {
        self.finish(false)
    }

    fn finish(self, has_default: bool) -> Branches<K, V> {
        let Self { stream, parent, predicates, names } = self;
        let predicates: Arc<[Predicate<K, V>]> = predicates.into();
        let (node, above, children) = (parent, stream.place.node.clone(), names.clone());
        stream.place.graph.add(move |topology| {
            let predicates = Arc::clone(&predicates);
            let supplier = move || Split { predicates: Arc::clone(&predicates), has_default };
            topology.add_processor::<_, K, V, K, V>(&node, supplier, &[&above])?;
            for child in &children {
                topology.add_processor::<_, K, V, K, V>(child, || PassThrough, &[&node])?;
            }
            Ok(())
        });
        let by_name = names.iter().map(|name| (name.clone(), stream.same(name.clone()))).collect();
        Branches { by_name, in_order: names }
    }
}
