//! From ranks to points: the height of each rank, and the way of each arrow from box to box.

use super::layers::{Arrow, Chain, Layout, Point, Ranks, Size};

/// How far beyond its rank an arrow that is led upwards turns.
const TURN: f64 = 10.0;

/// Upper and lower end of a rank.
type Span = (f64, f64);

/// Moves everything to the upper left corner and leads the arrows.
pub(super) fn route(mut ranks: Ranks, boxes: &[Size], arrows: &[Arrow], gap_y: f64) -> Layout {
    let left = ranks.cells.iter().map(|cell| cell.x - cell.left).fold(f64::INFINITY, f64::min);
    ranks.cells.iter_mut().for_each(|cell| cell.x -= left);
    let width = ranks.cells.iter().map(|cell| cell.x + cell.right).fold(0.0, f64::max);
    let has_circles = ranks.chains.iter().any(|chain| chain.lanes.is_some());
    let margin = if has_circles { 2.0 * TURN } else { 0.0 };
    let mut spans: Vec<Span> = Vec::with_capacity(ranks.rows.len());
    let mut y = margin;
    for row in &ranks.rows {
        let height = row.iter().filter_map(|cell| boxes.get(*cell)).map(|size| size.height).fold(0.0, f64::max);
        spans.push((y, y + height));
        y += height + gap_y;
    }
    let height = spans.last().map_or(0.0, |span| span.1) + margin;
    let tops: Vec<Point> = ranks.cells.iter().take(boxes.len()).map(|cell| (cell.x, spans[cell.rank].0)).collect();
    let ways = arrows
        .iter()
        .zip(&ranks.chains)
        .map(|(arrow, chain)| {
            let start = (tops[arrow.from].0 + arrow.from_port, tops[arrow.from].1 + boxes[arrow.from].height);
            let end = (tops[arrow.to].0 + arrow.to_port, tops[arrow.to].1);
            match chain.lanes {
                Some(lanes) => up(&ranks, chain, lanes, &spans, start, end),
                None => down(&ranks, chain, &spans, start, end),
            }
        })
        .collect();
    Layout { tops, ways, width, height }
}

fn down(ranks: &Ranks, chain: &Chain, spans: &[Span], start: Point, end: Point) -> Vec<Point> {
    let mut way = vec![start];
    if let Some(first) = chain.cells.first() {
        way.push((start.0, spans[ranks.cells[*first].rank].1));
    }
    for slot in between(&chain.cells) {
        let cell = &ranks.cells[*slot];
        way.push((cell.x, spans[cell.rank].0));
        way.push((cell.x, spans[cell.rank].1));
    }
    way.push(end);
    way
}

/// Out below, over to the lane at the right, up, and in from above.
fn up(ranks: &Ranks, chain: &Chain, lanes: (f64, f64), spans: &[Span], start: Point, end: Point) -> Vec<Point> {
    let (Some(&top), Some(&bottom)) = (chain.cells.first(), chain.cells.last()) else { return vec![start, end] };
    let (top, bottom) = (&ranks.cells[top], &ranks.cells[bottom]);
    let (lane_top, lane_bottom) = (top.x + lanes.0, bottom.x + lanes.1);
    let (above, below) = (spans[top.rank].0 - TURN, spans[bottom.rank].1 + TURN);
    let mut way = vec![start, (start.0, below), (lane_bottom, below), (lane_bottom, spans[bottom.rank].0)];
    for slot in between(&chain.cells).iter().rev() {
        let cell = &ranks.cells[*slot];
        way.push((cell.x, spans[cell.rank].1));
        way.push((cell.x, spans[cell.rank].0));
    }
    way.extend([(lane_top, spans[top.rank].1), (lane_top, above), (end.0, above), end]);
    way
}

/// The slots of an arrow in the ranks between its boxes.
fn between(cells: &[usize]) -> &[usize] {
    cells.get(1..cells.len().saturating_sub(1)).unwrap_or_default()
}
