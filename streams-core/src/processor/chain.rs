//! How nodes are joined: [`Receive`] is one typed edge, `ProcessorNode` a node with user code, `SinkNode` the end of
//! a chain.
//!
//! A record passes along an edge by one virtual call. The single child of a node gets the record moved, of several
//! children all but the last get a clone.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use base::Timestamp;
use protocol::record::Headers;

use crate::error::{BoxError, ErrorKind, StreamsError};
use crate::processor::api::Processor;
use crate::processor::context::ProcessorContext;
use crate::processor::handlers::ErrorResult;
use crate::processor::punctuation::ScheduleId;
use crate::processor::wrapper::{Next, ProcessorCall, ProcessorWrapper};
use crate::record::Record;
use crate::task::dead_letters::Failure;
use crate::task::shared::TaskShared;

/// The receiving end of an edge.
pub trait Receive<K, V> {
    /// Handles the record and everything downstream of it before returning.
    ///
    /// # Errors
    /// Failures that no handler resumed from; they end the task.
    fn receive(&self, record: Record<K, V>) -> Result<(), BoxError>;
}

pub(crate) struct Child<K, V> {
    pub(crate) name: Arc<str>,
    pub(crate) node: Rc<dyn Receive<K, V>>,
}

/// The edges that leave one node, shared with the stores that forward on its behalf when they flush.
pub struct Children<K, V> {
    task: Rc<TaskShared>,
    list: Box<[Child<K, V>]>,
}

impl<K, V> Children<K, V> {
    pub(crate) fn new(task: Rc<TaskShared>, list: Vec<Child<K, V>>) -> Self {
        Self { task, list: list.into() }
    }

    /// Hands `record` to every child, in the order in which they were connected.
    #[inline]
    pub(crate) fn forward(&self, mut record: Record<K, V>) -> Result<(), BoxError>
    where
        K: Clone,
        V: Clone,
    {
        match &*self.list {
            [] => Ok(()),
            [only] => only.node.receive(record),
            [others @ .., last] => {
                for child in others {
                    child.node.receive(record.clone())?;
                    self.task.refresh_headers(&mut record.headers);
                }
                last.node.receive(record)
            }
        }
    }

    /// Hands `record` to the child called `name` only.
    pub(crate) fn forward_to(&self, name: &str, record: Record<K, V>) -> Result<(), BoxError> {
        match self.list.iter().find(|child| &*child.name == name) {
            Some(child) => child.node.receive(record),
            None => {
                let known: Vec<&str> = self.list.iter().map(|child| &*child.name).collect();
                let message = format!("{name} is not a child of this processor; its children are {known:?}");
                Err(StreamsError::new(ErrorKind::IllegalState, message).into())
            }
        }
    }

    /// Hands `record` to the child of that index, in the order in which children were connected.
    pub(crate) fn forward_to_index(&self, index: usize, record: Record<K, V>) -> Result<(), BoxError> {
        match self.list.get(index) {
            Some(child) => child.node.receive(record),
            None => Err(StreamsError::new(ErrorKind::IllegalState, format!("there is no child number {index}")).into()),
        }
    }

    pub(crate) fn index_of(&self, name: &str) -> Option<usize> {
        self.list.iter().position(|child| &*child.name == name)
    }
}

/// What a task does with any of its nodes, whatever their types.
pub(crate) trait TaskNode {
    fn init(&self) -> Result<(), StreamsError>;
    fn punctuate(&self, schedule: ScheduleId, timestamp: Timestamp) -> Result<(), StreamsError>;
    fn close(&self);
}

struct Inner<P, KOut, VOut> {
    processor: P,
    context: ProcessorContext<KOut, VOut>,
}

/// A node that runs a [`Processor`].
pub(crate) struct ProcessorNode<P, KOut, VOut> {
    name: Arc<str>,
    task: Rc<TaskShared>,
    /// Whether stores read the record context while this node works.
    stateful: bool,
    wrapper: Option<Arc<dyn ProcessorWrapper>>,
    inner: RefCell<Inner<P, KOut, VOut>>,
}

impl<P, KOut, VOut> ProcessorNode<P, KOut, VOut> {
    pub(crate) fn new(processor: P, context: ProcessorContext<KOut, VOut>, stateful: bool) -> Self {
        Self {
            name: context.name().into(),
            task: Rc::clone(context.shared()),
            stateful,
            wrapper: context.shared().processor_wrapper().cloned(),
            inner: RefCell::new(Inner { processor, context }),
        }
    }

    /// Lets the handler decide about an error of this node's own; errors that were decided about pass.
    #[cold]
    fn failed(&self, error: BoxError) -> Result<(), BoxError> {
        failed(&self.task, &self.name, error)
    }

    #[cold]
    fn reentered(&self) -> BoxError {
        let message = "the node was called while it was at work: stores or processors form a cycle";
        StreamsError::new(ErrorKind::IllegalState, message).in_processor(&self.name).into()
    }
}

impl<P, KOut, VOut> ProcessorNode<P, KOut, VOut> {
    /// Calls the processor, by way of what stands around it. Without a wrapper that costs a comparison.
    #[inline]
    fn call<KIn, VIn>(
        &self,
        processor: &mut P,
        record: Record<KIn, VIn>,
        context: &mut ProcessorContext<KOut, VOut>,
    ) -> Result<(), BoxError>
    where
        P: Processor<KIn, VIn, KOut, VOut>,
    {
        let Some(wrapper) = &self.wrapper else { return processor.process(record, context) };
        let (timestamp, headers) = (record.timestamp, record.headers.clone());
        let mut record = Some(record);
        let mut next = || record.take().map_or(Ok(()), |record| processor.process(record, context));
        wrapper.process(&self.call_at(timestamp, &headers), Next::new(&mut next))
    }

    fn call_at<'a>(&'a self, timestamp: Timestamp, headers: &'a Headers) -> ProcessorCall<'a> {
        ProcessorCall { task: self.task.id(), node: &self.name, timestamp, headers }
    }
}

/// Kinds that are passed up: decided about already, or not the record's fault.
fn is_fatal(kind: ErrorKind) -> bool {
    use ErrorKind::{Processing, Send, Store, TaskCorrupted, TaskMigrated, Unavailable};
    matches!(kind, Processing | Send | Store | TaskCorrupted | TaskMigrated | Unavailable)
}

#[cold]
pub(crate) fn failed(task: &TaskShared, node: &str, error: BoxError) -> Result<(), BoxError> {
    let error = match error.downcast::<StreamsError>() {
        Ok(known) if is_fatal(known.kind()) => return Err(known),
        Ok(known) => known as BoxError,
        Err(own) => own,
    };
    let failure =
        Failure { kind: ErrorKind::Processing, node, timestamp: task.context_timestamp(), output_topic: None };
    match task.ask(&failure, &*error)? {
        ErrorResult::Resume => Ok(()),
        ErrorResult::Fail => {
            let mut fatal = StreamsError::caused_by(ErrorKind::Processing, error).in_processor(node).in_task(task.id());
            if let Some((partition, offset)) = task.position() {
                fatal = fatal.at_record(partition, offset);
            }
            Err(fatal.into())
        }
    }
}

impl<P, KIn, VIn, KOut, VOut> Receive<KIn, VIn> for ProcessorNode<P, KOut, VOut>
where
    P: Processor<KIn, VIn, KOut, VOut>,
{
    #[inline]
    fn receive(&self, record: Record<KIn, VIn>) -> Result<(), BoxError> {
        let Ok(mut inner) = self.inner.try_borrow_mut() else { return Err(self.reentered()) };
        let Inner { processor, context } = &mut *inner;
        let before = self.task.enter(record.timestamp);
        let result = if self.stateful {
            let headers = self.task.replace_headers(record.headers.clone());
            let result = self.call(processor, record, context);
            self.task.replace_headers(headers);
            result
        } else {
            self.call(processor, record, context)
        };
        self.task.enter(before);
        match result {
            Ok(()) => Ok(()),
            Err(error) => self.failed(error),
        }
    }
}

/// [`ProcessorNode`] as the task sees it; the input types are needed to know which `Processor` it is.
pub(crate) struct NodeHandle<P, KIn, VIn, KOut, VOut> {
    node: Rc<ProcessorNode<P, KOut, VOut>>,
    input: std::marker::PhantomData<fn(KIn, VIn)>,
}

impl<P, KIn, VIn, KOut, VOut> NodeHandle<P, KIn, VIn, KOut, VOut> {
    pub(crate) fn new(node: Rc<ProcessorNode<P, KOut, VOut>>) -> Self {
        Self { node, input: std::marker::PhantomData }
    }
}

impl<P, KIn, VIn, KOut, VOut> TaskNode for NodeHandle<P, KIn, VIn, KOut, VOut>
where
    P: Processor<KIn, VIn, KOut, VOut>,
{
    fn init(&self) -> Result<(), StreamsError> {
        let node = &*self.node;
        let mut inner = node.inner.borrow_mut();
        let Inner { processor, context } = &mut *inner;
        let mut init = || processor.init(context);
        let initialized = match &node.wrapper {
            None => init(),
            Some(wrapper) => wrapper.init(node.task.id(), &node.name, Next::new(&mut init)),
        };
        initialized.map_err(|error| {
            StreamsError::from_box(ErrorKind::Processing, error).in_processor(&node.name).in_task(node.task.id())
        })
    }

    fn punctuate(&self, schedule: ScheduleId, timestamp: Timestamp) -> Result<(), StreamsError> {
        let node = &*self.node;
        let mut inner = node.inner.borrow_mut();
        let Inner { processor, context } = &mut *inner;
        let mut punctuate = || processor.punctuate(schedule, timestamp, context);
        let result = match &node.wrapper {
            None => punctuate(),
            Some(wrapper) => {
                wrapper.punctuate(&node.call_at(timestamp, &Headers::default()), Next::new(&mut punctuate))
            }
        };
        drop(inner);
        result.or_else(|error| node.failed(error)).map_err(|error| StreamsError::from_box(ErrorKind::Processing, error))
    }

    fn close(&self) {
        // A node that is at work while the task closes has failed in the middle; it is dropped as it is.
        if let Ok(mut inner) = self.node.inner.try_borrow_mut() {
            if let Some(wrapper) = &self.node.wrapper {
                wrapper.close(self.node.task.id(), &self.node.name);
            }
            inner.processor.close();
        }
    }
}
