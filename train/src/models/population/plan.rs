//! A network in the kernels' form, level by level, and kept in step with it: a level whose connections did not change
//! keeps its structure.

use std::ops::Range;

use hotlanes::activation::Activation;
use hotlanes::sparse::{Csr, Plan};

use super::network::Network;
use crate::shell::profile::{Work, bytes, op};

/// The kernels' matrices for one network.
#[derive(Clone, Debug, Default)]
pub struct Plans {
    pub(super) levels: Vec<Level>,
    /// By level, without the last: what the gradients of a level's nodes are made of.
    pub(super) back: Vec<Back>,
    /// How many levels were built anew, ever.
    built: u64,
}

/// The connections of a level's nodes.
#[derive(Clone, Debug)]
pub(super) struct Level {
    pub(super) rows: Range<usize>,
    pub(super) slots: Range<usize>,
    /// The first position that the level reads; the matrix' columns start there and end where the level starts.
    pub(super) first_source: usize,
    pub(super) csr: Csr<u16>,
    pub(super) plan: Plan,
    /// Rows of each activation.
    pub(super) groups: Vec<(Activation, Range<usize>)>,
}

/// The connections that read a level's nodes: the transposed matrix, whose rows are those nodes and whose columns are
/// the rows after the level. One level's gradient is then one product, wherever the connections lead.
#[derive(Clone, Debug)]
pub(super) struct Back {
    pub(super) csr: Csr<u16>,
    /// By level that the connections belong to: where each stands in this matrix, and where in the level's.
    copies: Vec<(usize, Vec<[u32; 2]>)>,
}

impl Plans {
    /// The plans of a network.
    pub fn new(network: &Network) -> Self {
        let mut plans = Plans::default();
        plans.update(network);
        plans
    }

    /// Bytes of the matrices, of their transposes, and of the plans for the backward pass, about.
    pub(super) fn bytes(&self) -> f64 {
        let matrix = |csr: &Csr<u16>| bytes(csr.values()) + bytes(csr.indices()) + bytes(csr.indptr());
        let level = |level: &Level| {
            // A plan lists each connection by source: where it leads, and where its value stands.
            let plan = (2 * size_of::<u32>() * level.csr.values().len()) as f64;
            matrix(&level.csr) + plan + (size_of::<usize>() * level.csr.cols()) as f64
        };
        let back =
            |back: &Back| matrix(&back.csr) + back.copies.iter().map(|copies| bytes(&copies.1)).sum::<f64>();
        self.levels.iter().map(level).sum::<f64>() + self.back.iter().map(back).sum::<f64>()
    }

    /// Levels that were built anew, ever.
    pub fn built(&self) -> u64 {
        self.built
    }

    /// Follows the network's structure. Levels whose connections are what they were stay.
    pub fn update(&mut self, network: &Network) {
        let bounds = network.levels();
        let count = bounds.len() - 1;
        let same = |old: &[Level]| {
            old.len() == count
                && old.iter().zip(0..).all(|(l, i)| l.matches(network, bounds[i]..bounds[i + 1]))
        };
        if !same(&self.levels) {
            let mut old = std::mem::take(&mut self.levels).into_iter();
            for level in bounds.windows(2) {
                let rows = level[0]..level[1];
                let kept = old.next().filter(|l| l.matches(network, rows.clone()));
                self.built += u64::from(kept.is_none());
                self.levels.push(kept.unwrap_or_else(|| Level::new(network, rows)));
            }
            self.back = backs(network, &self.levels);
        }
        for level in &mut self.levels {
            level.groups = groups(network, level.rows.clone());
        }
    }

    /// Takes the network's weights.
    pub(super) fn load(&mut self, values: &[f32]) {
        for level in &mut self.levels {
            level.csr.values_mut().copy_from_slice(&values[level.slots.clone()]);
        }
        self.transpose();
    }

    /// Gives the weights back to the network.
    pub(super) fn store(&self, values: &mut [f32]) {
        for level in &self.levels {
            values[level.slots.clone()].copy_from_slice(level.csr.values());
        }
    }

    /// Copies the levels' weights to the transposed matrices, after each step.
    pub(super) fn transpose(&mut self) {
        let copies: usize = self.back.iter().map(|back| back.csr.values().len()).sum();
        op!("transposed weights", None, [copies, 0, 0], Work::of_values(0, 4 * copies) => {
            for back in &mut self.back {
                let transposed = back.csr.values_mut();
                for (level, copies) in &back.copies {
                    let values = self.levels[*level].csr.values();
                    for &[to, from] in copies {
                        transposed[to as usize] = values[from as usize];
                    }
                }
            }
        });
    }
}

impl Level {
    fn new(network: &Network, rows: Range<usize>) -> Self {
        let slots = network.indptr()[rows.start]..network.indptr()[rows.end];
        let first_source = first_source(network, &slots, &rows);
        let sources = &network.sources()[slots.clone()];
        let indptr = network.indptr()[rows.start..=rows.end].iter().map(|p| p - slots.start).collect();
        let indices = sources.iter().map(|&s| s - first_source as u16).collect();
        let columns = network.first_row() + rows.start - first_source;
        let values = network.values()[slots.clone()].to_vec();
        let csr =
            Csr::new(rows.len(), columns, indptr, indices, values).expect("a network's rows are in order");
        let plan = csr.plan();
        Level { groups: groups(network, rows.clone()), rows, slots, first_source, csr, plan }
    }

    /// Whether this is the matrix of the network's level with these rows.
    fn matches(&self, network: &Network, rows: Range<usize>) -> bool {
        let slots = network.indptr()[rows.start]..network.indptr()[rows.end];
        self.rows == rows
            && self.slots == slots
            && self.first_source == first_source(network, &slots, &rows)
            && self.csr.cols() == network.first_row() + rows.start - self.first_source
            && (network.indptr()[rows.start..=rows.end].iter().zip(self.csr.indptr()))
                .all(|(a, b)| a - slots.start == *b)
            && (network.sources()[slots].iter().zip(self.csr.indices()))
                .all(|(&a, &b)| usize::from(a) == usize::from(b) + self.first_source)
    }
}

/// The least position that a level reads; without connections, its own start.
fn first_source(network: &Network, slots: &Range<usize>, rows: &Range<usize>) -> usize {
    let sources = network.sources()[slots.clone()].iter();
    sources.min().map_or(network.first_row() + rows.start, |&s| usize::from(s))
}

/// A level's rows by activation; settled networks have them sorted.
pub(super) fn groups(network: &Network, rows: Range<usize>) -> Vec<(Activation, Range<usize>)> {
    let mut groups: Vec<(Activation, Range<usize>)> = Vec::new();
    for row in rows {
        let activation = network.nodes()[row].activation;
        match groups.last_mut() {
            Some((a, range)) if *a == activation => range.end = row + 1,
            _ => groups.push((activation, row..row + 1)),
        }
    }
    groups
}

/// The transposed matrices, by counting.
fn backs(network: &Network, levels: &[Level]) -> Vec<Back> {
    let first = network.first_row();
    let hidden = network.rows() - network.outputs();
    let mut starts = vec![0_usize; hidden + 1];
    for &source in network.sources() {
        if let Some(row) = usize::from(source).checked_sub(first) {
            starts[row + 1] += 1;
        }
    }
    for row in 0..hidden {
        starts[row + 1] += starts[row];
    }
    let mut next = starts.clone();
    let mut readers = vec![0_u32; starts[hidden]];
    let mut slots = vec![0_u32; starts[hidden]];
    for reader in 0..network.rows() {
        for slot in network.indptr()[reader]..network.indptr()[reader + 1] {
            if let Some(row) = usize::from(network.sources()[slot]).checked_sub(first) {
                readers[next[row]] = reader as u32;
                slots[next[row]] = slot as u32;
                next[row] += 1;
            }
        }
    }
    let hidden_levels = &levels[..levels.len().saturating_sub(1)];
    let back = hidden_levels.iter().map(|level| {
        let Range { start, end } = level.rows;
        let at = starts[start]..starts[end];
        let indptr = starts[start..=end].iter().map(|p| p - at.start).collect();
        let indices = readers[at.clone()].iter().map(|&r| (r as usize - end) as u16).collect();
        let csr = Csr::new(end - start, network.rows() - end, indptr, indices, vec![0.0; at.len()]);
        let mut copies: Vec<(usize, Vec<[u32; 2]>)> = Vec::new();
        for (to, &slot) in slots[at].iter().enumerate() {
            let from = levels.partition_point(|l| l.slots.end <= slot as usize);
            let copy = [to as u32, slot - levels[from].slots.start as u32];
            match copies.iter_mut().find(|(level, _)| *level == from) {
                Some((_, copies)) => copies.push(copy),
                None => copies.push((from, vec![copy])),
            }
        }
        Back { csr: csr.expect("counted in order"), copies }
    });
    back.collect()
}
