//! The positions by id, for the backward.

use super::EmbeddingIndices;
use super::kernel::Backward;
use crate::error::check_len;
use crate::parallel;
use crate::tier::active;
use crate::tuning;

/// The positions of a batch by id: what the backward goes by. It does not keep the indices that it was made from.
#[derive(Clone, Debug)]
pub struct EmbeddingPlan {
    vocab: usize,
    /// The ids that stand somewhere, ascending.
    distinct: Vec<u32>,
    /// Where the positions of each of them start, and at the end how many there are.
    starts: Vec<u32>,
    /// All positions, by id, those of one id ascending.
    positions: Vec<u32>,
    /// For each id a counter, which is zero outside of `rebuild`.
    counts: Vec<u32>,
}

/// Ids are sorted where there are fewer of them than one in this many counters, else found by a look at each counter: a look
/// is a load and a branch, a sort compares each id some ten times. Either way gives the same plan.
const SCAN: usize = 32;

impl EmbeddingPlan {
    /// Sorts the positions by their ids.
    pub fn new(indices: &EmbeddingIndices) -> Self {
        let mut plan =
            EmbeddingPlan { vocab: 0, distinct: vec![], starts: vec![], positions: vec![], counts: vec![] };
        plan.rebuild(indices);
        plan
    }

    /// Makes the plan of another batch in the same memory; allocates only for more positions or a larger vocabulary than
    /// ever before. A counting sort: linear time. On the calling thread.
    pub fn rebuild(&mut self, indices: &EmbeddingIndices) {
        let (ids, vocab) = (indices.ids(), indices.vocab());
        let EmbeddingPlan { distinct, starts, positions, counts, .. } = self;
        self.vocab = vocab;
        counts.resize(vocab, 0);
        distinct.clear();
        distinct.reserve(ids.len().min(vocab));
        for &id in ids {
            let count = &mut counts[id as usize];
            if *count == 0 {
                distinct.push(id);
            }
            *count += 1;
        }
        if distinct.len().saturating_mul(SCAN) < vocab {
            distinct.sort_unstable();
        } else {
            distinct.clear();
            distinct.extend((0..vocab as u32).filter(|&id| counts[id as usize] > 0));
        }

        starts.clear();
        starts.reserve(distinct.len() + 1);
        starts.push(0);
        let mut end = 0;
        for &id in distinct.iter() {
            // From now on the counter says where the id's next position goes.
            let count = std::mem::replace(&mut counts[id as usize], end);
            end += count;
            starts.push(end);
        }
        positions.resize(ids.len(), 0);
        for (position, &id) in ids.iter().enumerate() {
            let next = &mut counts[id as usize];
            positions[*next as usize] = position as u32;
            *next += 1;
        }
        for &id in distinct.iter() {
            counts[id as usize] = 0;
        }
    }

    /// The ids that stand somewhere, ascending: the rows of the gradient that the backward adds to.
    pub fn distinct(&self) -> &[u32] {
        &self.distinct
    }

    /// Adds to each id's row of `dtable` (`[vocab][features]`) the rows of `dy` (`[positions][features]`) at its positions, one
    /// after the other. Rows of other ids are not touched, so a dense gradient starts from zeros, or from that of the batch
    /// before. Parallel from [`tuning::EMBEDDING_PARALLEL`] elements of `dy` on; threads share the ids, and the columns of an id
    /// that stands at many positions.
    ///
    /// # Panics
    /// If a slice's length does not fit.
    #[track_caller]
    pub fn backward(&self, dy: &[f32], features: usize, dtable: &mut [f32]) {
        let size = self.positions.len().saturating_mul(features);
        let rows = self.vocab.saturating_mul(features);
        check_len("embedding backward", "dy", dy.len(), size, "positions x features");
        check_len("embedding backward", "dtable", dtable.len(), rows, "vocab x features");
        let work = Backward {
            active: active(),
            features,
            distinct: &self.distinct,
            starts: &self.starts,
            positions: &self.positions,
            dy,
            column: 0,
            width: features,
            first: 0,
            dtable,
        };
        parallel::run(work, tuning::EMBEDDING_PARALLEL, tuning::EMBEDDING_PIECE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_rebuilt_in_its_own_memory() {
        // Few ids of many, which are sorted, and many of few, which are found by their counters.
        for vocab in [1 << 14, 50] {
            let ids = |n: u32, step: u32| -> Vec<u32> { (0..n).map(|i| i * step % vocab as u32).collect() };
            let mut indices = EmbeddingIndices::new(&ids(300, 7919), vocab).unwrap();
            let mut plan = EmbeddingPlan::new(&indices);
            let memory = |p: &EmbeddingPlan| {
                [p.distinct.as_ptr(), p.starts.as_ptr(), p.positions.as_ptr(), p.counts.as_ptr()]
            };
            let before = memory(&plan);
            for (n, step) in [(300, 13), (299, 0), (0, 1), (1, 1), (300, 1)] {
                indices.set(&ids(n, step)).unwrap();
                plan.rebuild(&indices);
                assert_eq!(memory(&plan), before, "{n} of {vocab}");
                // The same from new memory.
                let new = EmbeddingPlan::new(&indices);
                assert_eq!(plan.distinct, new.distinct);
                assert_eq!((&plan.starts, &plan.positions), (&new.starts, &new.positions));
                assert_eq!(plan.counts, vec![0; vocab]);
                // Ascending ids, ascending positions, each under its id.
                assert!(plan.distinct.is_sorted_by(|a, b| a < b));
                assert_eq!((plan.starts[0], plan.positions.len()), (0, n as usize));
                assert_eq!(plan.starts.last(), Some(&n));
                for (id, ends) in plan.distinct.iter().zip(plan.starts.windows(2)) {
                    let at = &plan.positions[ends[0] as usize..ends[1] as usize];
                    assert!(!at.is_empty() && at.is_sorted_by(|a, b| a < b));
                    assert!(at.iter().all(|&p| indices.ids()[p as usize] == *id));
                }
            }
        }
    }
}
