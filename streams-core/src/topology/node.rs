//! One node of a topology with its types erased: what is known by name, and a factory that makes the typed node for a
//! task once its children exist.

use std::any::{Any, TypeId, type_name};
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use crate::error::{ErrorKind, StreamsError};
use crate::processor::api::{Processor, ProcessorSupplier};
use crate::processor::chain::{Child, Children, NodeHandle, ProcessorNode, Receive, TaskNode};
use crate::processor::context::{NodeContext, ProcessorContext};
use crate::store::StateStore;
use crate::task::record_queue::{SourceQueue, TypedQueue};
use crate::task::shared::TaskShared;
use crate::task::sink::{SinkNode, SinkTopic};
use crate::topology::options::{AutoOffsetReset, SinkOptions, SourceOptions};
use crate::topology::pattern::TopicPattern;

/// Types of the records on an edge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EdgeType {
    id: TypeId,
    key: &'static str,
    value: &'static str,
}

impl EdgeType {
    pub(crate) fn of<K: 'static, V: 'static>() -> Self {
        Self { id: TypeId::of::<(K, V)>(), key: type_name::<K>(), value: type_name::<V>() }
    }

    pub(crate) fn is(self, other: Self) -> bool {
        self.id == other.id
    }
}

impl std::fmt::Display for EdgeType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<{}, {}>", self.key, self.value)
    }
}

/// The receiving end of a node, an `Rc<dyn Receive<K, V>>` with its types erased.
pub(crate) type ErasedReceive = Box<dyn Any>;

/// A child as its parent's factory gets it.
pub(crate) struct ErasedChild<'a> {
    pub(crate) name: Arc<str>,
    pub(crate) receive: &'a ErasedReceive,
}

/// What a factory needs besides the children.
pub(crate) struct NodeSeed {
    pub(crate) name: Arc<str>,
    pub(crate) index: u32,
    pub(crate) task: Rc<TaskShared>,
    pub(crate) stores: Vec<Rc<dyn StateStore>>,
}

fn typed_children<K: 'static, V: 'static>(
    task: &Rc<TaskShared>,
    children: &[ErasedChild<'_>],
) -> Result<Children<K, V>, StreamsError> {
    let mut list = Vec::with_capacity(children.len());
    for child in children {
        let node = child.receive.downcast_ref::<Rc<dyn Receive<K, V>>>().ok_or_else(|| {
            // Edges were compared when the child was added; this can only be a mistake in this crate.
            StreamsError::new(ErrorKind::Topology, format!("{} takes other types than its parent sends", child.name))
        })?;
        list.push(Child { name: Arc::clone(&child.name), node: Rc::clone(node) });
    }
    Ok(Children::new(Rc::clone(task), list))
}

/// Makes processors of one type.
pub(crate) trait ProcessorFactory: Send + Sync {
    fn input(&self) -> EdgeType;
    fn output(&self) -> EdgeType;
    fn build(
        &self,
        seed: NodeSeed,
        children: &[ErasedChild<'_>],
    ) -> Result<(ErasedReceive, Box<dyn TaskNode>), StreamsError>;
}

/// The types of a processor and of the edges to and from it, owning none of them.
type Types<P, KIn, VIn, KOut, VOut> = fn(KIn, VIn) -> (P, KOut, VOut);

pub(crate) struct TypedProcessor<S, P, KIn, VIn, KOut, VOut> {
    supplier: S,
    types: PhantomData<Types<P, KIn, VIn, KOut, VOut>>,
}

impl<S, P, KIn, VIn, KOut, VOut> TypedProcessor<S, P, KIn, VIn, KOut, VOut> {
    pub(crate) fn new(supplier: S) -> Self {
        Self { supplier, types: PhantomData }
    }
}

impl<S, P, KIn, VIn, KOut, VOut> ProcessorFactory for TypedProcessor<S, P, KIn, VIn, KOut, VOut>
where
    S: ProcessorSupplier<P>,
    P: Processor<KIn, VIn, KOut, VOut>,
    KIn: 'static,
    VIn: 'static,
    KOut: 'static,
    VOut: 'static,
{
    fn input(&self) -> EdgeType {
        EdgeType::of::<KIn, VIn>()
    }

    fn output(&self) -> EdgeType {
        EdgeType::of::<KOut, VOut>()
    }

    fn build(
        &self,
        seed: NodeSeed,
        children: &[ErasedChild<'_>],
    ) -> Result<(ErasedReceive, Box<dyn TaskNode>), StreamsError> {
        let children: Rc<Children<KOut, VOut>> = Rc::new(typed_children(&seed.task, children)?);
        let stateful = !seed.stores.is_empty();
        let context = ProcessorContext::new(NodeContext::new(seed.name, seed.index, seed.task, seed.stores), children);
        let node = Rc::new(ProcessorNode::new(self.supplier.get(), context, stateful));
        let receive: Rc<dyn Receive<KIn, VIn>> = Rc::<ProcessorNode<P, KOut, VOut>>::clone(&node);
        Ok((Box::new(receive), Box::new(NodeHandle::<P, KIn, VIn, KOut, VOut>::new(node))))
    }
}

/// Makes the queues of one source, one for each partition.
pub(crate) trait SourceFactory: Send + Sync {
    fn output(&self) -> EdgeType;
    fn reset(&self) -> Option<AutoOffsetReset>;
    fn build(&self, seed: &NodeSeed, children: &[ErasedChild<'_>]) -> Result<Box<dyn QueueFactory>, StreamsError>;
}

/// Makes queues that feed the same children.
pub(crate) trait QueueFactory {
    fn queue(&self, source: u32, partition: base::TopicPartition) -> Box<dyn SourceQueue>;
}

pub(crate) struct TypedSource<K, V> {
    pub(crate) options: SourceOptions<K, V>,
}

struct TypedQueues<K, V> {
    options: SourceOptions<K, V>,
    name: Arc<str>,
    task: Rc<TaskShared>,
    children: Rc<Children<K, V>>,
}

impl<K: Clone + 'static, V: Clone + 'static> QueueFactory for TypedQueues<K, V> {
    fn queue(&self, source: u32, partition: base::TopicPartition) -> Box<dyn SourceQueue> {
        Box::new(TypedQueue::new(
            &self.options,
            Arc::clone(&self.name),
            Rc::clone(&self.task),
            Rc::clone(&self.children),
            source,
            partition,
        ))
    }
}

impl<K: Clone + 'static, V: Clone + 'static> SourceFactory for TypedSource<K, V> {
    fn output(&self) -> EdgeType {
        EdgeType::of::<K, V>()
    }

    fn reset(&self) -> Option<AutoOffsetReset> {
        self.options.reset
    }

    fn build(&self, seed: &NodeSeed, children: &[ErasedChild<'_>]) -> Result<Box<dyn QueueFactory>, StreamsError> {
        Ok(Box::new(TypedQueues {
            options: self.options.clone(),
            name: Arc::clone(&seed.name),
            task: Rc::clone(&seed.task),
            children: Rc::new(typed_children(&seed.task, children)?),
        }))
    }
}

/// Makes the sink of a task.
pub(crate) trait SinkFactory: Send + Sync {
    fn input(&self) -> EdgeType;
    fn build(&self, seed: NodeSeed, resolve: &dyn Fn(&str) -> String) -> ErasedReceive;
}

pub(crate) struct TypedSink<K, V> {
    pub(crate) options: SinkOptions<K, V>,
    pub(crate) topic: SinkTopic<K, V>,
}

impl<K: 'static, V: 'static> SinkFactory for TypedSink<K, V> {
    fn input(&self) -> EdgeType {
        EdgeType::of::<K, V>()
    }

    fn build(&self, seed: NodeSeed, resolve: &dyn Fn(&str) -> String) -> ErasedReceive {
        let node: Rc<dyn Receive<K, V>> =
            Rc::new(SinkNode::new(&self.options, &self.topic, seed.name, seed.task, resolve));
        Box::new(node)
    }
}

/// Which topics a source reads.
#[derive(Clone, Debug)]
pub(crate) enum SourceTopics {
    Names(Vec<String>),
    Pattern(TopicPattern),
}

/// A node by kind.
#[derive(Clone)]
pub(crate) enum NodeKind {
    Source {
        topics: SourceTopics,
        factory: Arc<dyn SourceFactory>,
    },
    Processor {
        /// In the order in which they were connected.
        stores: Vec<String>,
        factory: Arc<dyn ProcessorFactory>,
    },
    /// The topic is `None` for a dynamic sink, which `describe()` shows by `description`.
    Sink {
        topic: Option<String>,
        description: String,
        factory: Arc<dyn SinkFactory>,
    },
}

/// A node by name; its position in the topology's list is its insertion order.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) name: Arc<str>,
    pub(crate) parents: Vec<usize>,
    pub(crate) children: Vec<usize>,
    pub(crate) kind: NodeKind,
}

impl Node {
    /// Types of what it forwards; `None` for a sink.
    pub(crate) fn output(&self) -> Option<EdgeType> {
        match &self.kind {
            NodeKind::Source { factory, .. } => Some(factory.output()),
            NodeKind::Processor { factory, .. } => Some(factory.output()),
            NodeKind::Sink { .. } => None,
        }
    }
}
