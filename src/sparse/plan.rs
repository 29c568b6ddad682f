//! The transposed index structure: connections by source, made once per structure.

use super::csr::Csr;
use crate::lanes::{Index, IndexList, Permutation};

/// Neighbouring sources that are ordered among themselves; a parallel backward is cut between blocks.
pub(super) const BLOCK: usize = 128;

/// The connections of a [`Csr`] by source, for the backward.
///
/// Made once for a structure, it serves as long as that does, whatever becomes of the values: it holds none.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The sources in the plan's order: in blocks of [`BLOCK`] neighbours, within a block by their number of connections.
    /// So the loop over a source's connections ends where it did for the source before, and the CPU foresees it; while
    /// threads that take different blocks seldom meet in a cache line of the values' gradient.
    pub(super) sources: Permutation,
    /// Where the connections of each source of that order start, and at the end how many there are.
    pub(super) indptr: Box<[usize]>,
    /// The destination of each connection, by source.
    pub(super) destinations: IndexList<u32>,
    /// Where each connection's value stands in the matrix.
    pub(super) slots: Permutation,
    /// The structure's fingerprint.
    fingerprint: u64,
}

impl Plan {
    /// Transposes the structure of `csr` by a counting sort: linear time but for sorting the sources, and a source's
    /// connections stay in the order of their destinations.
    pub fn new<I: Index>(csr: &Csr<I>) -> Self {
        let mut counts = vec![0; csr.cols()];
        for i in csr.indices() {
            counts[i.to_usize()] += 1;
        }
        // `Csr::new` limits rows, columns and connections to what u32 indexes.
        let mut sources: Vec<u32> = (0..csr.cols() as u32).collect();
        for block in sources.chunks_mut(BLOCK) {
            block.sort_by_key(|&s| counts[s as usize]);
        }

        let mut indptr = Vec::with_capacity(csr.cols() + 1);
        indptr.push(0);
        let mut next = vec![0; csr.cols()];
        let mut end = 0;
        for &s in &sources {
            next[s as usize] = end;
            end += counts[s as usize];
            indptr.push(end);
        }
        let mut destinations = vec![0; csr.nnz()];
        let mut slots = vec![0; csr.nnz()];
        for row in 0..csr.rows() {
            for slot in csr.row(row) {
                let at = &mut next[csr.indices()[slot].to_usize()];
                destinations[*at] = row as u32;
                slots[*at] = slot as u32;
                *at += 1;
            }
        }
        Plan {
            sources: Permutation::new(sources.into()),
            indptr: indptr.into(),
            destinations: IndexList::new(destinations.into(), csr.rows()).expect("each is one of the rows"),
            slots: Permutation::new(slots.into()),
            fingerprint: csr.fingerprint(),
        }
    }

    /// Panics at the caller of a kernel that was given another structure's plan.
    #[track_caller]
    #[inline(always)]
    pub(super) fn check<I: Index>(&self, csr: &Csr<I>) {
        assert!(
            self.fingerprint == csr.fingerprint(),
            "sparse backward: the plan was made for another structure"
        );
    }
}

impl<I: Index> Csr<I> {
    /// The structure by source, for the backward: [`Plan::new`].
    pub fn plan(&self) -> Plan {
        Plan::new(self)
    }
}
