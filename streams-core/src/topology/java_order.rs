//! The orders in which two collections of the JVM are walked, for texts that must come out as there.

use std::cmp::Ordering;

/// Java's `String.hashCode`: over UTF-16 units.
fn java_hash(text: &str) -> u32 {
    text.encode_utf16().fold(0u32, |hash, unit| hash.wrapping_mul(31).wrapping_add(u32::from(unit)))
}

/// Iterates as a `java.util.HashMap` with these keys does: buckets in order, each in the order of insertion.
pub(crate) struct JavaSet<'a> {
    buckets: Vec<Vec<&'a str>>,
    count: usize,
}

impl<'a> JavaSet<'a> {
    pub(crate) fn new() -> Self {
        Self { buckets: vec![Vec::new(); 16], count: 0 }
    }

    fn bucket(text: &str, buckets: usize) -> usize {
        let hash = java_hash(text);
        (hash ^ (hash >> 16)) as usize & (buckets - 1)
    }

    pub(crate) fn insert(&mut self, text: &'a str) {
        let bucket = Self::bucket(text, self.buckets.len());
        if self.buckets[bucket].contains(&text) {
            return;
        }
        self.buckets[bucket].push(text);
        self.count += 1;
        if self.count * 4 > self.buckets.len() * 3 {
            let doubled = self.buckets.len() * 2;
            let mut buckets = vec![Vec::new(); doubled];
            for text in self.buckets.iter().flatten() {
                buckets[Self::bucket(text, doubled)].push(*text);
            }
            self.buckets = buckets;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &'a str> {
        self.buckets.iter().flatten().copied()
    }
}

impl<'a> FromIterator<&'a str> for JavaSet<'a> {
    fn from_iter<I: IntoIterator<Item = &'a str>>(texts: I) -> Self {
        let mut set = Self::new();
        for text in texts {
            set.insert(text);
        }
        set
    }
}

/// Where a node of the tree hangs, by index.
type Link = Option<usize>;

struct TreeNode {
    item: usize,
    parent: Link,
    /// Below, left and right.
    below: [Link; 2],
    is_red: bool,
}

/// A `java.util.TreeSet` whose comparator changes its mind between insertions: then the order is what the red-black tree was told on the way
/// down at each insertion, and only a tree of the same shape gives it again.
#[derive(Default)]
pub(crate) struct JavaTree {
    nodes: Vec<TreeNode>,
    root: Link,
}

const LEFT: usize = 0;
const RIGHT: usize = 1;

impl JavaTree {
    /// Inserts `item` unless the tree holds an equal one where it looks; `compare` is asked for the item and one in the tree.
    pub(crate) fn insert(&mut self, item: usize, mut compare: impl FnMut(usize, usize) -> Ordering) {
        let (mut parent, mut side, mut next) = (None, LEFT, self.root);
        while let Some(node) = next {
            parent = next;
            side = match compare(item, self.nodes[node].item) {
                Ordering::Less => LEFT,
                Ordering::Greater => RIGHT,
                Ordering::Equal => return,
            };
            next = self.nodes[node].below[side];
        }
        let added = self.nodes.len();
        self.nodes.push(TreeNode { item, parent, below: [None, None], is_red: true });
        match parent {
            Some(parent) => self.nodes[parent].below[side] = Some(added),
            None => self.root = Some(added),
        }
        self.rebalance(added);
    }

    /// Items from left to right.
    pub(crate) fn items(&self) -> Vec<usize> {
        let (mut items, mut above, mut next) = (Vec::with_capacity(self.nodes.len()), Vec::new(), self.root);
        loop {
            while let Some(node) = next {
                above.push(node);
                next = self.nodes[node].below[LEFT];
            }
            let Some(node) = above.pop() else { return items };
            items.push(self.nodes[node].item);
            next = self.nodes[node].below[RIGHT];
        }
    }

    fn parent(&self, node: Link) -> Link {
        node.and_then(|node| self.nodes[node].parent)
    }

    fn is_red(&self, node: Link) -> bool {
        node.is_some_and(|node| self.nodes[node].is_red)
    }

    fn paint(&mut self, node: Link, is_red: bool) {
        if let Some(node) = node {
            self.nodes[node].is_red = is_red;
        }
    }

    /// Lets the node's child on the other side take its place, the node going down on `side`.
    fn rotate(&mut self, node: Link, side: usize) {
        let Some(node) = node else { return };
        let Some(child) = self.nodes[node].below[1 - side] else { return };
        let moved = self.nodes[child].below[side];
        self.nodes[node].below[1 - side] = moved;
        if let Some(moved) = moved {
            self.nodes[moved].parent = Some(node);
        }
        let parent = self.nodes[node].parent;
        self.nodes[child].parent = parent;
        match parent {
            None => self.root = Some(child),
            Some(parent) => {
                let place = usize::from(self.nodes[parent].below[LEFT] != Some(node));
                self.nodes[parent].below[place] = Some(child);
            }
        }
        self.nodes[child].below[side] = Some(node);
        self.nodes[node].parent = Some(child);
    }

    fn rebalance(&mut self, added: usize) {
        let mut node = Some(added);
        while node.is_some() && node != self.root && self.is_red(self.parent(node)) {
            let parent = self.parent(node);
            let Some(grand) = self.parent(parent) else { break };
            let side = usize::from(self.nodes[grand].below[LEFT] != parent);
            let uncle = self.nodes[grand].below[1 - side];
            if self.is_red(uncle) {
                self.paint(parent, false);
                self.paint(uncle, false);
                self.paint(Some(grand), true);
                node = Some(grand);
                continue;
            }
            if let Some(above) = parent
                && node == self.nodes[above].below[1 - side]
            {
                node = parent;
                self.rotate(node, side);
            }
            let parent = self.parent(node);
            let grand = self.parent(parent);
            self.paint(parent, false);
            self.paint(grand, true);
            self.rotate(grand, 1 - side);
        }
        self.paint(self.root, false);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn with_one_order_it_is_a_sorted_set(items in proptest::collection::vec(0usize..200, 0..100)) {
            let mut tree = JavaTree::default();
            items.iter().for_each(|&item| tree.insert(item, |a, b| a.cmp(&b)));
            let expected: Vec<usize> = items.into_iter().collect::<std::collections::BTreeSet<_>>().into_iter().collect();
            prop_assert_eq!(tree.items(), expected);
        }

        #[test]
        fn it_stays_balanced(count in 1usize..500) {
            let mut tree = JavaTree::default();
            (0..count).for_each(|item| tree.insert(item, |a, b| a.cmp(&b)));
            let depth = |mut node: Link| {
                let mut depth = 0;
                while let Some(at) = node {
                    depth += 1;
                    node = tree.nodes[at].parent;
                }
                depth
            };
            let deepest = (0..count).map(|node| depth(Some(node))).max().unwrap_or(0);
            prop_assert!(deepest <= 2 * (count + 1).ilog2() as usize + 1);
        }
    }
}
