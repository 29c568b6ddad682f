//! A tree of sums with sixteen children to a node, from which numbers are drawn by weight.
//!
//! A parent is always computed from its children, by one fixed tree of additions, and never by adding a difference. So
//! after any updates in any order each node has the bits that a tree built anew from the leaves has: nothing drifts.

use hotlanes::{AlignedVec, LANES, sumtree};

/// Children of a node: a cache line of `f32`.
const WAYS: usize = LANES;

/// Draws that go down the tree together, so that none waits for another one's memory.
const AT_ONCE: usize = 256;

/// Weights of at least 0, and the sums over them.
#[derive(Clone, Debug)]
pub struct SumTree {
    /// From the leaves to a level of one node.
    levels: Vec<Level>,
    /// Nodes of leaves that were set.
    dirty: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq)]
struct Level {
    weights: AlignedVec,
    /// A bit for each node: whether it is in the list of those whose sum is to be computed.
    listed: Vec<u64>,
}

impl Level {
    fn zeros(nodes: usize) -> Option<Level> {
        let mut listed = Vec::new();
        listed.try_reserve_exact(nodes.div_ceil(64)).ok()?;
        listed.resize(nodes.div_ceil(64), 0);
        Some(Level { weights: AlignedVec::try_zeros(nodes.checked_mul(WAYS)?)?, listed })
    }

    fn nodes(&self) -> &[[f32; WAYS]] {
        self.weights.as_chunks().0
    }

    /// Lists a node. Whether it was not in the list.
    #[inline]
    fn list(&mut self, node: usize) -> bool {
        let (word, bit) = (&mut self.listed[node / 64], 1 << (node % 64));
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

impl SumTree {
    /// `len` weights of 0. `None` where the system has no memory for them.
    pub fn new(len: usize) -> Option<SumTree> {
        let mut nodes = len.div_ceil(WAYS).max(1);
        let mut levels = vec![Level::zeros(nodes)?];
        while nodes > 1 {
            nodes = nodes.div_ceil(WAYS);
            levels.push(Level::zeros(nodes)?);
        }
        Some(SumTree { levels, dirty: Vec::new() })
    }

    /// Bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.levels.iter().map(|level| size_of_val(&level.weights[..]) + size_of_val(&level.listed[..])).sum()
    }

    /// The sum of all.
    pub fn total(&self) -> f32 {
        let mut total = [[0.0; WAYS]];
        sumtree::sums(self.levels[self.levels.len() - 1].nodes(), &[0], &mut total);
        total[0][0]
    }

    /// The weight of a leaf.
    ///
    /// # Panics
    /// If there is no such leaf, here as below.
    #[inline]
    pub fn get(&self, leaf: usize) -> f32 {
        self.levels[0].weights[leaf]
    }

    /// Sets weights; [`total`](SumTree::total) and draws see them after [`refresh`](SumTree::refresh).
    ///
    /// # Panics
    /// In debug builds if a weight is not finite and at least 0.
    #[inline]
    pub fn set(&mut self, leaf: usize, weight: f32) {
        debug_assert!((0.0..f32::INFINITY).contains(&weight), "weight {weight}");
        let leaves = &mut self.levels[0];
        leaves.weights[leaf] = weight;
        if leaves.list(leaf / WAYS) {
            self.dirty.push(leaf / WAYS);
        }
    }

    /// Computes the sums over what was set.
    pub fn refresh(&mut self) {
        let dirty = &mut self.dirty;
        for level in 1..self.levels.len() {
            let (children, parents) = self.levels.split_at_mut(level);
            let (children, parents) = (&mut children[level - 1], &mut parents[0]);
            sumtree::sums(children.nodes(), dirty, parents.weights.as_chunks_mut().0);
            // Their parents, each once. Written in any case and then kept or not: a branch would be guessed wrong.
            let mut kept = 0;
            for i in 0..dirty.len() {
                let node = dirty[i];
                children.listed[node / 64] = 0;
                dirty[kept] = node / WAYS;
                kept += usize::from(parents.list(node / WAYS));
            }
            dirty.truncate(kept);
        }
        dirty.clear();
        let last = self.levels.len() - 1;
        self.levels[last].listed[0] = 0;
    }

    /// The leaves at numbers in [0, 1) of the total: each is drawn by its weight, to within the rounding of the sums
    /// (2^-22 of a node's sum for a level); one of weight 0 never. None, and false, if all are 0.
    ///
    /// The leaves do not ascend with the numbers: see [`hotlanes::sumtree`] for their order.
    pub fn find(&self, units: &[f64], leaves: &mut Vec<usize>) -> bool {
        leaves.clear();
        let total = f64::from(self.total());
        if total <= 0.0 {
            return false;
        }
        leaves.resize(units.len(), 0);
        for (units, at) in units.chunks(AT_ONCE).zip(leaves.chunks_mut(AT_ONCE)) {
            let (mut high, mut low) = ([0.0; AT_ONCE], [0.0; AT_ONCE]);
            let (high, low) = (&mut high[..units.len()], &mut low[..units.len()]);
            for i in 0..units.len() {
                let number = units[i] * total;
                high[i] = number as f32;
                low[i] = (number - f64::from(high[i])) as f32;
            }
            for level in self.levels.iter().rev() {
                sumtree::search(level.nodes(), at, high, low);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_root_is_that_of_a_tree_built_anew(
            len in 1usize..700, updates in prop::collection::vec((any::<usize>(), 0f32..1e9), 0..200),
            every in 1usize..9,
        ) {
            let mut tree = SumTree::new(len).unwrap();
            let mut plain = vec![0.0; len];
            for (i, &(leaf, weight)) in updates.iter().enumerate() {
                tree.set(leaf % len, weight);
                plain[leaf % len] = weight;
                if i % every == 0 {
                    tree.refresh();
                }
            }
            tree.refresh();
            let mut anew = SumTree::new(len).unwrap();
            plain.iter().enumerate().rev().for_each(|(leaf, &weight)| anew.set(leaf, weight));
            anew.refresh();
            prop_assert_eq!(tree.total().to_bits(), anew.total().to_bits());
            prop_assert_eq!(&tree.levels, &anew.levels);
            let exact: f64 = plain.iter().map(|&x| f64::from(x)).sum();
            prop_assert!((f64::from(tree.total()) - exact).abs() <= exact * 1e-6);
        }

        #[test]
        fn what_is_drawn_has_weight(
            weights in prop::collection::vec(prop_oneof![2 => Just(0.0f32), 1 => 1e-30f32..1e9], 1..300),
            unit in 0f64..1.0,
        ) {
            let mut tree = SumTree::new(weights.len()).unwrap();
            weights.iter().enumerate().for_each(|(leaf, &weight)| tree.set(leaf, weight));
            tree.refresh();
            let zeros = weights.iter().all(|&weight| weight == 0.0);
            let mut leaves = vec![];
            prop_assert_eq!(tree.find(&[0.0, unit, 1f64.next_down()], &mut leaves), !zeros);
            prop_assert!(leaves.len() == 3 || zeros);
            prop_assert!(leaves.iter().all(|&leaf| weights[leaf] > 0.0));
        }
    }

    #[test]
    fn leaves_are_drawn_by_their_weight() {
        let weights: Vec<f32> = (0..1000).map(|i| (i % 7) as f32).collect();
        let mut tree = SumTree::new(weights.len()).unwrap();
        weights.iter().enumerate().for_each(|(leaf, &weight)| tree.set(leaf, weight));
        tree.refresh();
        let n = 1_000_000;
        let mut counts = vec![0u32; weights.len()];
        let units: Vec<f64> = (0..n).map(|i| f64::from(i) / f64::from(n)).collect();
        let mut leaves = vec![];
        assert!(tree.find(&units, &mut leaves));
        leaves.into_iter().for_each(|leaf| counts[leaf] += 1);
        for (leaf, &weight) in weights.iter().enumerate() {
            let want = f64::from(weight) / f64::from(tree.total()) * f64::from(n);
            assert!((f64::from(counts[leaf]) - want).abs() <= 2.0, "{leaf}: {} of {want}", counts[leaf]);
        }
    }
}
