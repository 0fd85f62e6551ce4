//! Places boxes in ranks so that arrows point down: ranks by the longest way from the top, order within a rank by the mean
//! place of the neighbours, then x so that arrows are short and straight. Arrows that would close a circle are led upwards
//! beside the boxes. The same input always gives the same picture.
//!
//! An arrow over several ranks passes a slot of its own in each rank between, so that it crosses no box.

/// Width of the slot of an arrow that passes a rank, and of the lane of one that is led upwards.
const SLOT: f64 = 14.0;
const SWEEPS: usize = 12;
const MOVES: usize = 10;

/// Where a box may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pin {
    /// In any rank; as low as what follows allows if nothing leads to it.
    Free,
    /// In the first rank.
    First,
    /// In the last rank.
    Last,
}

/// A box to place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) pin: Pin,
}

/// An arrow between two boxes; the ports are how far right of their centres it leaves and enters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrow {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) from_port: f64,
    pub(super) to_port: f64,
}

/// A point, from the upper left corner.
pub(super) type Point = (f64, f64);

/// Where everything is.
pub(super) struct Layout {
    /// The middle of the upper edge of each box.
    pub(super) tops: Vec<Point>,
    /// The points that each arrow passes, from the box it leaves to the one it enters.
    pub(super) ways: Vec<Vec<Point>>,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A box, or the slot of an arrow, in a rank.
pub(super) struct Cell {
    pub(super) rank: usize,
    pub(super) left: f64,
    pub(super) right: f64,
    /// Arrows between neighbouring ranks: the other cell, the port here, the port there, and how much it pulls.
    pub(super) above: Vec<(usize, f64, f64, f64)>,
    pub(super) below: Vec<(usize, f64, f64, f64)>,
    pub(super) x: f64,
}

/// The ranks and what stands in them, from left to right.
pub(super) struct Ranks {
    pub(super) cells: Vec<Cell>,
    pub(super) rows: Vec<Vec<usize>>,
    /// For each arrow.
    pub(super) chains: Vec<Chain>,
}

/// How an arrow goes through the ranks.
pub(super) struct Chain {
    /// The cells it passes, from top to bottom.
    pub(super) cells: Vec<usize>,
    /// Of one that is led upwards: how far right of the middle of the uppermost and the lowest box it goes up.
    pub(super) lanes: Option<(f64, f64)>,
}

/// Arrows that close a circle, found on walks from the boxes that nothing leads to.
fn closing(count: usize, arrows: &[(usize, usize)]) -> Vec<bool> {
    let mut below: Vec<Vec<(usize, usize)>> = vec![Vec::new(); count];
    let mut has_above = vec![false; count];
    for (index, (from, to)) in arrows.iter().enumerate() {
        below[*from].push((index, *to));
        has_above[*to] = true;
    }
    let mut closes = vec![false; arrows.len()];
    // 0 not seen, 1 on the present walk, 2 done.
    let mut seen = vec![0u8; count];
    let starts = (0..count).filter(|node| !has_above[*node]).chain(0..count);
    for start in starts {
        if seen[start] != 0 {
            continue;
        }
        seen[start] = 1;
        let mut walk = vec![(start, 0)];
        while let Some((node, next)) = walk.last_mut() {
            let node = *node;
            let Some((arrow, to)) = below[node].get(*next).copied() else {
                seen[node] = 2;
                walk.pop();
                continue;
            };
            *next += 1;
            match seen[to] {
                0 => {
                    seen[to] = 1;
                    walk.push((to, 0));
                }
                1 => closes[arrow] = true,
                _ => {}
            }
        }
    }
    closes
}

/// The rank of each box: one below the lowest of those that lead to it. Arrows in a circle are turned.
pub(super) fn ranks(pins: &[Pin], arrows: &[(usize, usize)]) -> (Vec<usize>, Vec<bool>) {
    let closes = closing(pins.len(), arrows);
    let turned = arrows.iter().zip(&closes).map(|(&(from, to), closes)| if *closes { (to, from) } else { (from, to) });
    // A box's arrow to itself is no order.
    let edges: Vec<(usize, usize)> = turned.filter(|(from, to)| from != to).collect();
    let mut waiting = vec![0; pins.len()];
    let mut below: Vec<Vec<usize>> = vec![Vec::new(); pins.len()];
    for (from, to) in &edges {
        waiting[*to] += 1;
        below[*from].push(*to);
    }
    let has_above: Vec<bool> = waiting.iter().map(|count| *count > 0).collect();
    let mut rank = vec![0usize; pins.len()];
    let mut ready: Vec<usize> = (0..pins.len()).filter(|node| waiting[*node] == 0).collect();
    while let Some(node) = ready.pop() {
        for &to in &below[node] {
            rank[to] = rank[to].max(rank[node] + 1);
            waiting[to] -= 1;
            if waiting[to] == 0 {
                ready.push(to);
            }
        }
    }
    let last = rank.iter().copied().max().unwrap_or(0);
    for node in 0..pins.len() {
        match pins[node] {
            Pin::Last => rank[node] = last,
            Pin::Free if !has_above[node] => {
                let next = below[node].iter().map(|&to| rank[to]).min();
                rank[node] = next.map_or(rank[node], |next| next.saturating_sub(1));
            }
            Pin::Free | Pin::First => {}
        }
    }
    (rank, closes)
}

impl Ranks {
    fn new(boxes: &[Size], arrows: &[Arrow]) -> Self {
        let pins: Vec<Pin> = boxes.iter().map(|size| size.pin).collect();
        let ends: Vec<(usize, usize)> = arrows.iter().map(|arrow| (arrow.from, arrow.to)).collect();
        let (rank, closes) = ranks(&pins, &ends);
        let mut cells: Vec<Cell> = boxes
            .iter()
            .zip(&rank)
            .map(|(size, &rank)| Cell {
                rank,
                left: size.width / 2.0,
                right: size.width / 2.0,
                above: Vec::new(),
                below: Vec::new(),
                x: 0.0,
            })
            .collect();
        let mut chains = Vec::with_capacity(arrows.len());
        for (arrow, &is_up) in arrows.iter().zip(&closes) {
            let (top, bottom) = if is_up { (arrow.to, arrow.from) } else { (arrow.from, arrow.to) };
            let lanes = is_up.then(|| {
                // A lane at the right of both boxes.
                for end in [top, bottom] {
                    cells[end].right += SLOT;
                }
                (cells[top].right - SLOT / 2.0, cells[bottom].right - SLOT / 2.0)
            });
            let ports = lanes.unwrap_or((arrow.from_port, arrow.to_port));
            chains.push(Chain { cells: chain(&mut cells, top, bottom, ports), lanes });
        }
        let mut ranks = Self { rows: Vec::new(), cells, chains };
        ranks.rows = ranks.first_order();
        ranks
    }

    /// Cells in the order in which a walk downwards meets them: what is connected stands together.
    fn first_order(&self) -> Vec<Vec<usize>> {
        let last = self.cells.iter().map(|cell| cell.rank).max().map_or(0, |rank| rank + 1);
        let mut rows = vec![Vec::new(); last];
        let mut seen = vec![false; self.cells.len()];
        for start in 0..self.cells.len() {
            let mut walk = vec![start];
            while let Some(cell) = walk.pop() {
                if std::mem::replace(&mut seen[cell], true) {
                    continue;
                }
                rows[self.cells[cell].rank].push(cell);
                let around = self.cells[cell].above.iter().chain(&self.cells[cell].below);
                let others: Vec<usize> = around.map(|(other, ..)| *other).collect();
                walk.extend(others.into_iter().rev());
            }
        }
        rows
    }

    fn crossings(&self) -> usize {
        let mut place = vec![0usize; self.cells.len()];
        for row in &self.rows {
            row.iter().enumerate().for_each(|(index, cell)| place[*cell] = index);
        }
        let key = |cell: usize, port: f64| place[cell] as f64 + port / (self.cells[cell].left * 2.0 + 1.0);
        let mut crossings = 0;
        for row in &self.rows {
            let mut arrows: Vec<(f64, f64)> = row
                .iter()
                .flat_map(|&cell| {
                    let below = &self.cells[cell].below;
                    below.iter().map(move |&(to, here, there, _)| (key(cell, here), key(to, there)))
                })
                .collect();
            arrows.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
            for (index, arrow) in arrows.iter().enumerate() {
                crossings += arrows[index + 1..].iter().filter(|other| other.0 > arrow.0 && other.1 < arrow.1).count();
            }
        }
        crossings
    }

    /// Orders each row by the mean place of the neighbours above or below; keeps what crosses least.
    fn order(&mut self) {
        let mut best = (self.crossings(), self.rows.clone());
        for sweep in 0..SWEEPS {
            let is_down = sweep.is_multiple_of(2);
            let count = self.rows.len();
            for step in 1..count {
                let (row, other) = if is_down { (step, step - 1) } else { (count - 1 - step, count - step) };
                self.order_row(row, other, is_down);
            }
            let crossings = self.crossings();
            if crossings < best.0 {
                best = (crossings, self.rows.clone());
            }
        }
        self.rows = best.1;
    }

    fn order_row(&mut self, row: usize, other: usize, is_down: bool) {
        let mut place = vec![0.0; self.cells.len()];
        self.rows[other].iter().enumerate().for_each(|(index, cell)| place[*cell] = index as f64);
        let mut keyed: Vec<(f64, usize)> = self.rows[row]
            .iter()
            .enumerate()
            .map(|(index, &cell)| {
                let near = if is_down { &self.cells[cell].above } else { &self.cells[cell].below };
                let places =
                    near.iter().map(|&(to, _, there, _)| place[to] + there / (self.cells[to].left * 2.0 + 1.0));
                let mean = if near.is_empty() { index as f64 } else { places.sum::<f64>() / near.len() as f64 };
                (mean, cell)
            })
            .collect();
        keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.rows[row] = keyed.into_iter().map(|(_, cell)| cell).collect();
    }

    /// Moves cells towards the ends of their arrows, rank by rank, without changing the order.
    fn set_x(&mut self, gap: f64) {
        for row in 0..self.rows.len() {
            self.move_row(row, gap, &[]);
        }
        for step in 0..MOVES {
            let count = self.rows.len();
            for index in 0..count {
                let row = if step.is_multiple_of(2) { index } else { count - 1 - index };
                let wanted: Vec<f64> = self.rows[row].iter().map(|&cell| self.wanted(cell, step)).collect();
                self.move_row(row, gap, &wanted);
            }
        }
    }

    /// Where the arrows of a cell would be straight: those above, those below, and at last both.
    fn wanted(&self, cell: usize, step: usize) -> f64 {
        let this = &self.cells[cell];
        let both = step + 2 >= MOVES;
        let above = this.above.iter().filter(|_| both || step.is_multiple_of(2));
        let below = this.below.iter().filter(|_| both || !step.is_multiple_of(2));
        let (mut sum, mut weights) = (0.0, 0.0);
        for &(other, here, there, weight) in above.chain(below) {
            sum += weight * (self.cells[other].x + there - here);
            weights += weight;
        }
        if weights > 0.0 { sum / weights } else { this.x }
    }

    /// The places nearest to `wanted` in which cells of a row do not overlap: neighbours that would are moved as one.
    fn move_row(&mut self, row: usize, gap: f64, wanted: &[f64]) {
        let row = &self.rows[row];
        // Distance of each cell's x from that of the first, when packed.
        let mut packed = Vec::with_capacity(row.len());
        let mut x = 0.0;
        for (index, &cell) in row.iter().enumerate() {
            if index > 0 {
                x += self.cells[row[index - 1]].right + gap + self.cells[cell].left;
            }
            packed.push(x);
        }
        // Runs of cells that stand side by side: mean of the wanted starts, and how many.
        let mut runs: Vec<(f64, usize)> = Vec::new();
        for (index, offset) in packed.iter().enumerate() {
            let mut run = (wanted.get(index).map_or(0.0, |wanted| wanted - offset), 1);
            while let Some(&(before, count)) = runs.last() {
                if before < run.0 {
                    break;
                }
                runs.pop();
                run = ((before * count as f64 + run.0 * run.1 as f64) / (count + run.1) as f64, count + run.1);
            }
            runs.push(run);
        }
        let starts = runs.into_iter().flat_map(|(start, count)| std::iter::repeat_n(start, count));
        for ((&cell, offset), start) in row.iter().zip(&packed).zip(starts) {
            self.cells[cell].x = start + offset;
        }
    }
}

/// Joins two boxes by slots in the ranks between; the cells from top to bottom.
fn chain(cells: &mut Vec<Cell>, top: usize, bottom: usize, ports: (f64, f64)) -> Vec<usize> {
    let mut chain = vec![top];
    if top == bottom {
        return chain;
    }
    for rank in cells[top].rank + 1..cells[bottom].rank {
        let half = SLOT / 2.0;
        cells.push(Cell { rank, left: half, right: half, above: Vec::new(), below: Vec::new(), x: 0.0 });
        chain.push(cells.len() - 1);
    }
    chain.push(bottom);
    let last = chain.len() - 2;
    for (index, pair) in chain.windows(2).enumerate() {
        let here = if index == 0 { ports.0 } else { 0.0 };
        let there = if index == last { ports.1 } else { 0.0 };
        // Long arrows are to be straight, rather than short ones.
        let weight = if index == 0 || index == last { 1.0 } else { 6.0 };
        cells[pair[0]].below.push((pair[1], here, there, weight));
        cells[pair[1]].above.push((pair[0], there, here, weight));
    }
    chain
}

/// Places `boxes` with at least `gap_x` and `gap_y` between them.
pub(super) fn layout(boxes: &[Size], arrows: &[Arrow], gap_x: f64, gap_y: f64) -> Layout {
    let mut ranks = Ranks::new(boxes, arrows);
    ranks.order();
    ranks.set_x(gap_x);
    super::route::route(ranks, boxes, arrows, gap_y)
}
