//! A tree of sums with sixteen children to a node, from which numbers are drawn by weight.
//!
//! A parent is always computed from its children, by one fixed tree of additions, and never by adding a difference. So
//! after any updates in any order each node has the bits that a tree built anew from the leaves has: nothing drifts.

/// Children of a node: a cache line of `f32`.
const WAYS: usize = 16;

/// Draws that go down the tree together.
const AT_ONCE: usize = 16;

/// Weights of at least 0, and the sums over them.
#[derive(Clone, Debug)]
pub struct SumTree {
    /// From the leaves to a level of one node.
    levels: Vec<Vec<Node>>,
    dirty: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(align(64))]
struct Node([f32; WAYS]);

impl Node {
    /// By halving, as the lanes of the kernel crate add.
    #[inline]
    fn sum(&self) -> f32 {
        let a = &self.0;
        let mut eight = [0.0; 8];
        for i in 0..8 {
            eight[i] = a[i] + a[i + 8];
        }
        let four = [eight[0] + eight[4], eight[1] + eight[5], eight[2] + eight[6], eight[3] + eight[7]];
        (four[0] + four[2]) + (four[1] + four[3])
    }

    /// The child in which `rest` lies, and where in it: among fours, then in the four, without a branch that could be
    /// guessed wrong.
    #[inline(always)]
    fn search(&self, rest: f64) -> (usize, f64) {
        let fours = self.0.as_chunks::<4>().0;
        let sum = |i: usize| {
            let [a, b, c, d] = fours[i].map(f64::from);
            (a + b) + (c + d)
        };
        let (four, inside) = quarter([sum(0), sum(1), sum(2), sum(3)], rest);
        let children = fours[four].map(f64::from);
        let (child, inside) = quarter(children, inside);
        let last = f64::from(self.0[4 * four + child]);
        // Never true of a child of weight 0.
        if inside < last { (4 * four + child, inside) } else { self.search_in_order(rest) }
    }

    /// The same where rounding led to a child of too little weight.
    #[cold]
    fn search_in_order(&self, mut rest: f64) -> (usize, f64) {
        for (i, &child) in self.0.iter().enumerate() {
            let child = f64::from(child);
            if rest < child {
                return (i, rest);
            }
            rest -= child;
        }
        // The sum was rounded up, beyond the last child.
        let last = self.0.iter().rposition(|&child| child > 0.0).expect("a node that is drawn has weight");
        (last, f64::from(self.0[last]).next_down())
    }
}

/// Which of four parts `rest` lies in, and where in it, by halves. All ones where it goes right, from the bits, which
/// are in the order of the numbers where none is negative: of a comparison LLVM makes a branch, which is guessed wrong
/// half of the time.
#[inline(always)]
fn quarter([a, b, c, _]: [f64; 4], rest: f64) -> (usize, f64) {
    let beyond = |rest: f64, part: f64| {
        let less_one = part.to_bits().wrapping_sub(rest.to_bits()).wrapping_sub(1);
        (less_one as i64 >> 63) as u64
    };
    let half = a + b;
    let right = beyond(rest, half);
    let inside = rest - f64::from_bits(half.to_bits() & right);
    let part = f64::from_bits(a.to_bits() ^ (a.to_bits() ^ c.to_bits()) & right);
    let further = beyond(inside, part);
    ((2 & right | 1 & further) as usize, inside - f64::from_bits(part.to_bits() & further))
}

fn zeros(nodes: usize) -> Option<Vec<Node>> {
    let mut level = Vec::new();
    level.try_reserve_exact(nodes).ok()?;
    level.resize(nodes, Node([0.0; WAYS]));
    Some(level)
}

impl SumTree {
    /// `len` weights of 0. `None` where the system has no memory for them.
    pub fn new(len: usize) -> Option<SumTree> {
        let mut levels = vec![zeros(len.div_ceil(WAYS).max(1))?];
        while levels[levels.len() - 1].len() > 1 {
            let nodes = levels[levels.len() - 1].len().div_ceil(WAYS);
            levels.push(zeros(nodes)?);
        }
        Some(SumTree { levels, dirty: Vec::new() })
    }

    /// Bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.levels.iter().map(|level| size_of_val(&level[..])).sum()
    }

    /// The sum of all.
    pub fn total(&self) -> f32 {
        self.levels[self.levels.len() - 1][0].sum()
    }

    /// The weight of a leaf.
    ///
    /// # Panics
    /// If there is no such leaf, here as below.
    pub fn get(&self, leaf: usize) -> f32 {
        self.levels[0][leaf / WAYS].0[leaf % WAYS]
    }

    /// Sets weights; [`total`](SumTree::total) and draws see them after [`refresh`](SumTree::refresh).
    ///
    /// # Panics
    /// In debug builds if a weight is not finite and at least 0.
    #[inline]
    pub fn set(&mut self, leaf: usize, weight: f32) {
        debug_assert!((0.0..f32::INFINITY).contains(&weight), "weight {weight}");
        self.levels[0][leaf / WAYS].0[leaf % WAYS] = weight;
        if self.dirty.last() != Some(&(leaf / WAYS)) {
            self.dirty.push(leaf / WAYS);
        }
    }

    /// Computes the sums over what was set.
    pub fn refresh(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.sort_unstable();
        for level in 1..self.levels.len() {
            dirty.dedup();
            let (children, parents) = self.levels.split_at_mut(level);
            let (children, parents) = (&children[level - 1], &mut parents[0]);
            for node in &mut dirty {
                parents[*node / WAYS].0[*node % WAYS] = children[*node].sum();
                *node /= WAYS;
            }
        }
        dirty.clear();
        self.dirty = dirty;
    }

    /// The leaves at numbers in [0, 1) of the total: each is drawn by its weight, to within the rounding of the sums
    /// (2^-24 for a level); one of weight 0 never. None, and false, if all are 0.
    pub fn find(&self, units: &[f64], leaves: &mut Vec<usize>) -> bool {
        leaves.clear();
        let total = f64::from(self.total());
        if total <= 0.0 {
            return false;
        }
        // Several at a time, level by level: none waits for another one's memory.
        for units in units.chunks(AT_ONCE) {
            let (mut nodes, mut rests) = ([0; AT_ONCE], [0.0; AT_ONCE]);
            rests.iter_mut().zip(units).for_each(|(rest, unit)| *rest = unit * total);
            for level in self.levels.iter().rev() {
                // All are loaded before one is looked at.
                let loaded = nodes.iter().fold(0, |all, &node| all ^ level[node].0[0].to_bits());
                std::hint::black_box(loaded);
                for (node, rest) in nodes.iter_mut().zip(&mut rests) {
                    let (child, inside) = level[*node].search(*rest);
                    (*node, *rest) = (*node * WAYS + child, inside);
                }
            }
            leaves.extend(&nodes[..units.len()]);
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
