//! The compressed-sparse-row matrix: checked once, so that no kernel checks an index again.

use std::fmt;
use std::ops::Range;

use super::near::Near;
use crate::lanes::{Index, IndexList};

/// A sparse matrix in compressed sparse rows whose structure was checked and never changes; its values may.
///
/// Row `r` has the connections `indptr[r]..indptr[r + 1]`; each has a column in `indices`, ascending within the row, and
/// a weight in `values`. `I` is `u32`, or `u16` for half the index traffic where there are at most 65,536 columns.
#[derive(Clone, Debug)]
pub struct Csr<I: Index = u32> {
    rows: usize,
    cols: usize,
    // Invariants, from `Csr::new`: rows + 1 ascending entries from 0 to nnz; every index is below cols; values has
    // nnz entries, which `values_mut` cannot change.
    indptr: Box<[usize]>,
    indices: IndexList<I>,
    values: Box<[f32]>,
    /// How many panels of neighbouring columns a batch is multiplied by, one after the other.
    panels: usize,
    /// For each panel but the first, where each row's connections in it start.
    cuts: Box<[usize]>,
    /// Where sixteens of a row's connections are near each other, if most are.
    near: Option<Near>,
    fingerprint: u64,
}

/// What is wrong with the parts of a [`Csr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CsrError {
    /// More rows, columns or connections than an index can count.
    TooLarge {
        /// "rows", "cols" or "connections".
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// `indptr` does not have one entry more than there are rows.
    IndptrLength {
        /// Its length.
        len: usize,
        /// Rows of the matrix.
        rows: usize,
    },
    /// `indptr` does not start at 0.
    IndptrStart {
        /// Its first entry.
        first: usize,
    },
    /// A row ends before it starts.
    IndptrDescends {
        /// The row.
        row: usize,
        /// Where it starts.
        start: usize,
        /// Where it ends.
        end: usize,
    },
    /// `indptr` does not end at the number of indices.
    IndptrEnd {
        /// Its last entry.
        last: usize,
        /// The number of indices.
        indices: usize,
    },
    /// There are not as many values as indices.
    ValuesLength {
        /// The number of values.
        values: usize,
        /// The number of indices.
        indices: usize,
    },
    /// An index is not below the number of columns.
    OutOfRange {
        /// The row it stands in.
        row: usize,
        /// Its position in `indices`.
        position: usize,
        /// The index.
        index: usize,
        /// The number of columns.
        bound: usize,
    },
    /// An index stands twice in its row.
    Duplicate {
        /// The row it stands in.
        row: usize,
        /// The second one's position in `indices`.
        position: usize,
        /// The index.
        index: usize,
    },
    /// A row's indices do not ascend.
    Unsorted {
        /// The row.
        row: usize,
        /// The position of the index that is smaller than the one before it.
        position: usize,
        /// That index.
        index: usize,
    },
}

impl fmt::Display for CsrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            CsrError::TooLarge { what, count, max } => {
                write!(f, "{count} {what}: at most {max} can be indexed")
            }
            CsrError::IndptrLength { len, rows } => {
                write!(f, "indptr has {len} entries: {rows} rows ask for one more than rows")
            }
            CsrError::IndptrStart { first } => write!(f, "indptr starts at {first}: must start at 0"),
            CsrError::IndptrDescends { row, start, end } => {
                write!(f, "row {row} runs from {start} to {end}: indptr must not descend")
            }
            CsrError::IndptrEnd { last, indices } => {
                write!(f, "indptr ends at {last}: must end at the number of indices, {indices}")
            }
            CsrError::ValuesLength { values, indices } => {
                write!(f, "{values} values for {indices} indices: must be as many")
            }
            CsrError::OutOfRange { row, position, index, bound } => {
                write!(f, "row {row}, position {position}: index {index} must be below {bound}")
            }
            CsrError::Duplicate { row, position, index } => {
                write!(f, "row {row}, position {position}: index {index} stands twice in the row")
            }
            CsrError::Unsorted { row, position, index } => {
                write!(
                    f,
                    "row {row}, position {position}: index {index} is below the one before it, indices must ascend"
                )
            }
        }
    }
}

impl std::error::Error for CsrError {}

impl<I: Index> Csr<I> {
    /// Checks the parts of a matrix of `rows` destinations by `cols` sources. Empty and full rows are fine.
    ///
    /// # Errors
    /// See [`CsrError`]; it names row, position, index and bound.
    pub fn new(
        rows: usize,
        cols: usize,
        indptr: Vec<usize>,
        indices: Vec<I>,
        values: Vec<f32>,
    ) -> Result<Self, CsrError> {
        let nnz = indices.len();
        for (what, count, max) in [
            ("rows", rows, u32::MAX_BOUND),
            ("cols", cols, I::MAX_BOUND),
            ("connections", nnz, u32::MAX_BOUND),
        ] {
            if count > max {
                return Err(CsrError::TooLarge { what, count, max });
            }
        }
        if indptr.len() != rows + 1 {
            return Err(CsrError::IndptrLength { len: indptr.len(), rows });
        }
        if indptr[0] != 0 {
            return Err(CsrError::IndptrStart { first: indptr[0] });
        }
        for (row, pair) in indptr.windows(2).enumerate() {
            if pair[1] < pair[0] {
                return Err(CsrError::IndptrDescends { row, start: pair[0], end: pair[1] });
            }
        }
        if indptr[rows] != nnz {
            return Err(CsrError::IndptrEnd { last: indptr[rows], indices: nnz });
        }
        if values.len() != nnz {
            return Err(CsrError::ValuesLength { values: values.len(), indices: nnz });
        }
        for row in 0..rows {
            let at = indptr[row]..indptr[row + 1];
            for position in at.clone() {
                let index = indices[position].to_usize();
                if index >= cols {
                    return Err(CsrError::OutOfRange { row, position, index, bound: cols });
                }
                if position > at.start {
                    let before = indices[position - 1].to_usize();
                    if index == before {
                        return Err(CsrError::Duplicate { row, position, index });
                    }
                    if index < before {
                        // A duplicate in a row that is also unsorted is told as what it is.
                        return Err(if indices[at.start..position].contains(&indices[position]) {
                            CsrError::Duplicate { row, position, index }
                        } else {
                            CsrError::Unsorted { row, position, index }
                        });
                    }
                }
            }
        }
        // The proof that the kernels rest on; the loop above found no index out of range.
        let indices = IndexList::new(indices.into_boxed_slice(), cols).expect("every index was checked");
        let fingerprint = fingerprint(cols, &indptr, indices.as_slice());
        let panels = panels(rows, cols, values.len());
        let cuts = cuts(cols, &indptr, indices.as_slice(), panels);
        let near = Near::of(cols, &indptr, indices.as_slice());
        Ok(Csr {
            rows,
            cols,
            indptr: indptr.into(),
            indices,
            values: values.into(),
            panels,
            cuts,
            near,
            fingerprint,
        })
    }

    /// Destinations.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Sources.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Connections.
    pub fn nnz(&self) -> usize {
        self.values.len()
    }

    /// Where each row's connections start, and at the end how many there are.
    pub fn indptr(&self) -> &[usize] {
        &self.indptr
    }

    /// The column of each connection.
    pub fn indices(&self) -> &[I] {
        self.indices.as_slice()
    }

    /// The weight of each connection.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The weights, to be changed, for example by an optimizer.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// The connections of a row.
    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> Range<usize> {
        self.indptr[row]..self.indptr[row + 1]
    }

    /// Where sixteens of a row's connections are near each other, if most are.
    #[inline(always)]
    pub(super) fn near(&self) -> Option<&Near> {
        self.near.as_ref()
    }

    /// How many panels of columns a batch is multiplied by.
    #[inline(always)]
    pub(super) fn panels(&self) -> usize {
        self.panels
    }

    /// Columns of a panel; the last one may have fewer.
    #[inline(always)]
    pub(super) fn panel_cols(&self) -> usize {
        self.cols.div_ceil(self.panels)
    }

    /// Where the connections of these rows that lie in a panel start, and where they end.
    #[inline(always)]
    pub(super) fn panel(&self, panel: usize, rows: Range<usize>) -> (&[usize], &[usize]) {
        let starts = match panel.checked_sub(1) {
            None => &self.indptr[rows.clone()],
            Some(cut) => &self.cuts[cut * self.rows..][rows.clone()],
        };
        let ends = if panel + 1 == self.panels {
            &self.indptr[rows.start + 1..rows.end + 1]
        } else {
            &self.cuts[panel * self.rows..][rows]
        };
        (starts, ends)
    }

    /// Row starts, indices and values at once, the values to be changed.
    #[inline(always)]
    pub(super) fn parts_mut(&mut self) -> (&[usize], &IndexList<I>, &mut [f32]) {
        (&self.indptr, &self.indices, &mut self.values)
    }

    /// A hash of the structure, by which a plan knows its matrix.
    #[inline(always)]
    pub(super) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The indices with their proof.
    #[inline(always)]
    pub(super) fn index_list(&self) -> &IndexList<I> {
        &self.indices
    }
}

/// A number of panels by the structure alone, since it is part of the order of a sum: as many as make 32 examples of a
/// panel's columns a small part of the nearest cache, but of at least so many connections to a row that the row's sum, which
/// each panel but the first takes up again, is not what takes the time.
fn panels(rows: usize, cols: usize, connections: usize) -> usize {
    let of_a_row = connections / rows.max(1);
    (of_a_row / PANEL_CONNECTIONS).min(cols.div_ceil(PANEL_COLS)).max(1)
}

/// Columns of a panel: with 32 examples 25 KB.
const PANEL_COLS: usize = 200;
/// Connections that a row should have in a panel, on average.
const PANEL_CONNECTIONS: usize = 32;

/// Where each row's connections reach each panel but the first, panel by panel.
fn cuts<I: Index>(cols: usize, indptr: &[usize], indices: &[I], panels: usize) -> Box<[usize]> {
    let width = cols.div_ceil(panels);
    let mut cuts = Vec::with_capacity((panels - 1) * (indptr.len() - 1));
    for panel in 1..panels {
        let before = |c: &I| c.to_usize() < panel * width;
        cuts.extend(indptr.windows(2).map(|row| row[0] + indices[row[0]..row[1]].partition_point(before)));
    }
    cuts.into()
}

/// FNV-1a over words: not for adversaries, for a plan that was given the wrong matrix.
fn fingerprint<I: Index>(cols: usize, indptr: &[usize], indices: &[I]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let words = indptr.iter().copied().chain(indices.iter().map(|i| i.to_usize()));
    for word in std::iter::once(cols).chain(words) {
        hash = (hash ^ word as u64).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}
