//! Where everything of a topology's picture is: each sub-topology is laid out by itself, then the sub-topologies among the
//! topics. A store of one processor stands beside it, a store of several below the first of them.

use super::graph::{Graph, Group, NodeShape, Store, TopicKind};
use super::layers::{Arrow, Layout, Pin, Point, Size, layout, ranks};

/// Of a letter of the font used: 11 pixels high, fixed width.
const LETTER: f64 = 6.7;
const LINE: f64 = 14.0;
const PADDING: f64 = 10.0;
/// Between a processor and the stores beside it.
const BESIDE: f64 = 16.0;
const TITLE: f64 = 24.0;
const MARGIN: f64 = 20.0;
const LINE_LETTERS: usize = 36;

/// What a shape looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Node(NodeShape),
    Store,
    Topic(TopicKind),
}

/// A node, store or topic.
pub(super) struct Shape {
    pub(super) look: Look,
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    /// Its name, cut to fit.
    pub(super) lines: Vec<String>,
    pub(super) name: String,
}

/// The box of a sub-topology.
pub(super) struct Frame {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) title: String,
    pub(super) is_global: bool,
}

/// A line between shapes, through these points; an arrow unless it leads to a store.
pub(super) struct Line {
    pub(super) points: Vec<Point>,
    pub(super) is_arrow: bool,
}

/// A whole picture.
#[derive(Default)]
pub(super) struct Drawing {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) frames: Vec<Frame>,
    pub(super) shapes: Vec<Shape>,
    pub(super) lines: Vec<Line>,
}

impl Shape {
    fn new(look: Look, name: &str) -> Self {
        let lines = wrap(name);
        let letters = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
        let cap = if look == Look::Store { 10.0 } else { 0.0 };
        Self {
            look,
            x: 0.0,
            y: 0.0,
            width: letters as f64 * LETTER + 2.0 * PADDING + 8.0,
            height: lines.len() as f64 * LINE + 1.4 * PADDING + cap,
            lines,
            name: name.to_owned(),
        }
    }

    fn at(mut self, x: f64, y: f64) -> Self {
        (self.x, self.y) = (x, y);
        self
    }
}

/// Lines of a name, broken behind a sign between words where there is one.
fn wrap(name: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for char in name.chars() {
        line.push(char);
        if line.chars().count() >= LINE_LETTERS {
            let cut = line.rfind(['-', '.', '_', ' ', '/', ',']).map_or(line.len(), |at| at + 1);
            // A cut near the beginning would make a short line and a long one.
            let cut = if cut * 2 < line.len() { line.len() } else { cut };
            let rest = line.split_off(cut);
            lines.push(std::mem::replace(&mut line, rest));
        }
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// A sub-topology laid out by itself; places are from its own corner.
struct Placed {
    width: f64,
    height: f64,
    shapes: Vec<Shape>,
    lines: Vec<Line>,
    /// The middle of each node: x, top, bottom.
    nodes: Vec<(f64, f64, f64)>,
}

/// What stands in one place of a sub-topology's layout.
struct Item {
    size: Size,
    /// How far right of the item's middle the node's own middle is.
    port: f64,
    shape: Shape,
    beside: Vec<Shape>,
}

fn item(shape: Shape, pin: Pin, beside: Vec<Shape>) -> Item {
    let aside = beside.iter().map(|store| store.width).fold(0.0, f64::max);
    let aside = if beside.is_empty() { 0.0 } else { aside + BESIDE };
    let stacked: f64 = beside.iter().map(|store| store.height + 6.0).sum();
    let size = Size { width: shape.width + aside, height: shape.height.max(stacked - 6.0), pin };
    Item { size, port: -aside / 2.0, shape, beside }
}

/// Lines from users to a store of several: from the uppermost down to it, from it down to the others.
fn store_edges(store: &Store, index: usize, ranks: &[usize]) -> Vec<(usize, usize)> {
    let first = store.users.iter().map(|user| ranks[*user]).min().unwrap_or(0);
    let edge = |user: &usize| if ranks[*user] == first { (*user, index) } else { (index, *user) };
    store.users.iter().map(edge).collect()
}

fn place_group(group: &Group) -> Placed {
    let mut items: Vec<Item> = Vec::new();
    for (index, node) in group.nodes.iter().enumerate() {
        let own = group.stores.iter().filter(|store| store.users == [index]);
        let beside = own.map(|store| Shape::new(Look::Store, &store.name)).collect();
        let pin = match node.shape {
            NodeShape::Source => Pin::First,
            NodeShape::Processor => Pin::Free,
            NodeShape::Sink => Pin::Last,
        };
        items.push(item(Shape::new(Look::Node(node.shape), &node.name), pin, beside));
    }
    let pins: Vec<Pin> = items.iter().map(|item| item.size.pin).collect();
    let (node_ranks, _) = ranks(&pins, &group.edges);
    let mut edges = group.edges.clone();
    for store in group.stores.iter().filter(|store| store.users.len() > 1) {
        edges.extend(store_edges(store, items.len(), &node_ranks));
        items.push(item(Shape::new(Look::Store, &store.name), Pin::Free, Vec::new()));
    }
    let arrow = |&(from, to): &(usize, usize)| Arrow { from, to, from_port: items[from].port, to_port: items[to].port };
    let arrows: Vec<Arrow> = edges.iter().map(arrow).collect();
    let sizes: Vec<Size> = items.iter().map(|item| item.size).collect();
    let found = layout(&sizes, &arrows, 26.0, 34.0);
    arrange(group, items, &edges, found)
}

fn arrange(group: &Group, items: Vec<Item>, edges: &[(usize, usize)], found: Layout) -> Placed {
    let title = group.title.chars().count() as f64 * LETTER + 2.0 * MARGIN;
    let inner = found.width.max(title - 2.0 * MARGIN);
    let (left, top) = (MARGIN + (inner - found.width) / 2.0, TITLE + PADDING);
    let mut placed = Placed {
        width: inner + 2.0 * MARGIN,
        height: found.height + top + MARGIN,
        shapes: Vec::new(),
        lines: Vec::new(),
        nodes: Vec::new(),
    };
    let heights: Vec<f64> = items.iter().map(|item| item.shape.height).collect();
    for ((from, to), way) in edges.iter().zip(found.ways) {
        let is_store = *from >= group.nodes.len() || *to >= group.nodes.len();
        let mut points: Vec<Point> = way.into_iter().map(|(x, y)| (x + left, y + top)).collect();
        // The box of a node with stores beside it may be lower than its place.
        if let Some(start) = points.first_mut() {
            start.1 = found.tops[*from].1 + heights[*from] + top;
        }
        placed.lines.push(Line { points, is_arrow: !is_store });
    }
    for (item, (x, y)) in items.into_iter().zip(&found.tops) {
        let (x, y) = (x + left, y + top);
        let node_x = x + item.port - item.shape.width / 2.0;
        let node = item.shape.at(node_x, y);
        let mut below = y;
        for store in item.beside {
            let at = (node.x + node.width + BESIDE, below);
            below += store.height + 6.0;
            let middle = (at.1 + store.height / 2.0).min(node.y + node.height - 4.0);
            let points = vec![(node.x + node.width, middle), (at.0, middle)];
            placed.lines.push(Line { points, is_arrow: false });
            placed.shapes.push(store.at(at.0, at.1));
        }
        placed.nodes.push((x + item.port, node.y, node.y + node.height));
        placed.shapes.push(node);
    }
    placed
}

/// Places all of `graph`.
pub(super) fn place(graph: &Graph) -> Drawing {
    let groups: Vec<Placed> = graph.groups.iter().map(place_group).collect();
    let topics: Vec<Shape> =
        graph.topics.iter().map(|topic| Shape::new(Look::Topic(topic.kind), &topic.name)).collect();
    let size = |width, height| Size { width, height, pin: Pin::Free };
    let mut sizes: Vec<Size> = groups.iter().map(|group| size(group.width, group.height)).collect();
    sizes.extend(topics.iter().map(|topic| size(topic.width, topic.height)));
    let port = |group: usize, node: usize| groups[group].nodes[node].0 - groups[group].width / 2.0;
    let reads = graph.reads.iter().map(|link| Arrow {
        from: groups.len() + link.topic,
        to: link.group,
        from_port: 0.0,
        to_port: port(link.group, link.node),
    });
    let writes = graph.writes.iter().map(|link| Arrow {
        from: link.group,
        to: groups.len() + link.topic,
        from_port: port(link.group, link.node),
        to_port: 0.0,
    });
    let arrows: Vec<Arrow> = reads.chain(writes).collect();
    let found = layout(&sizes, &arrows, 36.0, 46.0);
    let mut drawing =
        Drawing { width: found.width + 2.0 * MARGIN, height: found.height + 2.0 * MARGIN, ..Drawing::default() };
    let links = graph.reads.iter().map(|link| (link, true)).chain(graph.writes.iter().map(|link| (link, false)));
    for ((link, is_read), way) in links.zip(&found.ways) {
        let mut points: Vec<Point> = way.iter().map(|(x, y)| (x + MARGIN, y + MARGIN)).collect();
        // On to the node inside the box.
        let (_, above, below) = groups[link.group].nodes[link.node];
        let corner = found.tops[link.group].1 + MARGIN;
        match (is_read, points.first().copied(), points.last().copied()) {
            (true, _, Some((x, _))) => points.push((x, corner + above)),
            (false, Some((x, _)), _) => points.insert(0, (x, corner + below)),
            _ => {}
        }
        drawing.lines.push(Line { points, is_arrow: true });
    }
    let corners = found.tops.iter().zip(&sizes).map(|((x, y), size)| (x - size.width / 2.0 + MARGIN, y + MARGIN));
    let corners: Vec<Point> = corners.collect();
    for ((placed, group), (x, y)) in groups.into_iter().zip(&graph.groups).zip(&corners) {
        add_group(&mut drawing, placed, group, *x, *y);
    }
    let of_topics = corners.iter().skip(graph.groups.len());
    drawing.shapes.extend(topics.into_iter().zip(of_topics).map(|(topic, (x, y))| topic.at(*x, *y)));
    drawing
}

fn add_group(drawing: &mut Drawing, placed: Placed, group: &Group, x: f64, y: f64) {
    drawing.frames.push(Frame {
        x,
        y,
        width: placed.width,
        height: placed.height,
        title: group.title.clone(),
        is_global: group.is_global,
    });
    drawing.lines.extend(placed.lines.into_iter().map(|line| Line {
        points: line.points.into_iter().map(|(px, py)| (px + x, py + y)).collect(),
        is_arrow: line.is_arrow,
    }));
    drawing.shapes.extend(placed.shapes.into_iter().map(|shape| {
        let (px, py) = (shape.x + x, shape.y + y);
        shape.at(px, py)
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::description::TopologyDescription;

    const GOLDEN: &str = include_str!("../../../tests/data/topology-golden.txt");

    fn overlap(a: (f64, f64, f64, f64), b: (f64, f64, f64, f64)) -> bool {
        a.0 < b.0 + b.2 && b.0 < a.0 + a.2 && a.1 < b.1 + b.3 && b.1 < a.1 + a.3
    }

    fn rectangle(shape: &Shape) -> (f64, f64, f64, f64) {
        (shape.x, shape.y, shape.width, shape.height)
    }

    #[test]
    fn nothing_covers_anything_else() {
        let mut drawn = 0;
        for section in GOLDEN.split("##### ").skip(1) {
            let is_described = |line: &&str| !["   R ", "   C ", "   cop"].iter().any(|mark| line.starts_with(mark));
            let text: String = section.lines().filter(is_described).map(|line| format!("{line}\n")).collect();
            let description: TopologyDescription = text.parse().unwrap();
            let drawing = place(&Graph::of(&description));
            for (index, shape) in drawing.shapes.iter().enumerate() {
                let (x, y, width, height) = rectangle(shape);
                assert!(x >= 0.0 && y >= 0.0 && x + width <= drawing.width && y + height <= drawing.height);
                for other in &drawing.shapes[index + 1..] {
                    assert!(!overlap(rectangle(shape), rectangle(other)), "{} {} in {section}", shape.name, other.name);
                }
            }
            for (index, frame) in drawing.frames.iter().enumerate() {
                let this = (frame.x, frame.y, frame.width, frame.height);
                for other in &drawing.frames[index + 1..] {
                    assert!(!overlap(this, (other.x, other.y, other.width, other.height)), "{section}");
                }
                let topics = drawing.shapes.iter().filter(|shape| matches!(shape.look, Look::Topic(_)));
                for topic in topics {
                    assert!(!overlap(this, rectangle(topic)), "{} in {section}", topic.name);
                }
            }
            drawn += 1;
        }
        assert_eq!(drawn, 57);
    }

    #[test]
    fn long_names_are_broken_between_words() {
        assert_eq!(
            wrap("KTABLE-FK-JOIN-SUBSCRIPTION-REGISTRATION-0000000006-topic"),
            ["KTABLE-FK-JOIN-SUBSCRIPTION-", "REGISTRATION-0000000006-topic"]
        );
        assert_eq!(wrap(&"x".repeat(80)).iter().map(String::len).collect::<Vec<_>>(), [36, 36, 8]);
        assert_eq!(wrap(""), [""]);
    }
}
