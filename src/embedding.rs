//! Embedding: rows of a table by index, forward and backward.
//!
//! For a `table` of `vocab` rows of `features` values and `n` positions with an id each:
//!
//! ```text
//! y[i]        = table[ids[i]]                         or  table[ids[i]] + positions[i mod rows of positions]
//! dtable[id] += dy[i] for each i with ids[i] = id, by ascending i
//! ```
//!
//! Ids come from outside and are checked once, in [`EmbeddingIndices`]. The backward goes by id, through the positions of
//! each, which an [`EmbeddingPlan`] sorts by counting (as a compressed-sparse-row structure has its rows): threads then share
//! the distinct ids among them, no two write one row, and none looks at an index that is not its own. A plan is made anew for
//! each batch in the memory that it has, by [`EmbeddingPlan::rebuild`].
//!
//! The positions' gradient is that of an embedding whose ids are `i mod rows`; its plan is made once.
//!
//! ```
//! use hotlanes::embedding::{EmbeddingIndices, EmbeddingPlan};
//!
//! let table = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5];
//! let ids = EmbeddingIndices::new(&[2, 0, 2], 3)?;
//! let mut y = [0.0; 6];
//! ids.forward(&table, 2, &mut y);
//! assert_eq!(y, [2.0, 2.5, 0.0, 0.5, 2.0, 2.5]);
//!
//! let (dy, mut dtable) = ([1.0; 6], [0.0; 6]);
//! EmbeddingPlan::new(&ids).backward(&dy, 2, &mut dtable);
//! assert_eq!(dtable, [1.0, 1.0, 0.0, 0.0, 2.0, 2.0]);
//! # Ok::<(), hotlanes::embedding::EmbeddingError>(())
//! ```
//!
//! # Accuracy
//! The forward copies, or rounds one sum. A gradient is one chain of additions that starts from what `dtable` holds: with
//! `n` positions of the id and u = 2^-24, it is off by at most `n u (|dtable| + sum |dy|)`.
//!
//! # Bits
//! Every value of `dtable` has the bits that a plain loop over the positions gives it, on every tier and for every number of
//! threads; so neither cuts nor the plan's way of sorting can be seen in them.
//!
//! # NaN and infinity
//! IEEE rules, row by row: a row that no id names is neither read nor written.

use std::fmt;

use crate::error::check_len;
use crate::parallel;
use crate::tier::active;
use crate::tuning;

mod kernel;
mod plan;

use kernel::Forward;
pub use plan::EmbeddingPlan;

/// The ids of a batch's positions, each of which was found to name a row of the table.
#[derive(Clone, Debug)]
pub struct EmbeddingIndices {
    // Each is below `vocab`, and there are at most `MAX_POSITIONS`.
    ids: Vec<u32>,
    vocab: usize,
}

/// What is wrong with the ids of an embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EmbeddingError {
    /// More positions than a plan can count.
    TooMany {
        /// How many there are.
        positions: usize,
        /// How many there may be.
        max: usize,
    },
    /// An id is not below the number of the table's rows.
    OutOfRange {
        /// Its position.
        position: usize,
        /// The id.
        id: u32,
        /// The number of rows.
        vocab: usize,
    },
}

impl fmt::Display for EmbeddingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            EmbeddingError::TooMany { positions, max } => {
                write!(f, "{positions} positions: at most {max} can be counted")
            }
            EmbeddingError::OutOfRange { position, id, vocab } => {
                write!(f, "position {position}: id {id} must be below {vocab}")
            }
        }
    }
}

impl std::error::Error for EmbeddingError {}

/// A plan counts positions in `u32`.
const MAX_POSITIONS: usize = i32::MAX as usize;

fn check_ids(ids: &[u32], vocab: usize) -> Result<(), EmbeddingError> {
    if ids.len() > MAX_POSITIONS {
        return Err(EmbeddingError::TooMany { positions: ids.len(), max: MAX_POSITIONS });
    }
    match ids.iter().position(|&id| id as usize >= vocab) {
        Some(position) => Err(EmbeddingError::OutOfRange { position, id: ids[position], vocab }),
        None => Ok(()),
    }
}

impl EmbeddingIndices {
    /// Checks that each id is below `vocab`, the number of the table's rows. No positions are fine, and so are ids that
    /// stand at several.
    ///
    /// # Errors
    /// See [`EmbeddingError`]; it names position, id and `vocab`.
    pub fn new(ids: &[u32], vocab: usize) -> Result<Self, EmbeddingError> {
        check_ids(ids, vocab)?;
        Ok(EmbeddingIndices { ids: ids.to_vec(), vocab })
    }

    /// Takes another batch's ids into the same memory; allocates only for more positions than ever before.
    ///
    /// # Errors
    /// As [`EmbeddingIndices::new`]; then the ids stay what they were.
    pub fn set(&mut self, ids: &[u32]) -> Result<(), EmbeddingError> {
        check_ids(ids, self.vocab)?;
        self.ids.clear();
        self.ids.extend_from_slice(ids);
        Ok(())
    }

    /// The ids, by position.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The number of the table's rows.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// Copies the row of each position's id from `table` (`[vocab][features]`) to `y` (`[positions][features]`). Parallel
    /// from [`tuning::EMBEDDING_PARALLEL`] elements of `y` on. The bits are the table's own.
    ///
    /// # Panics
    /// If a slice's length does not fit.
    #[track_caller]
    pub fn forward(&self, table: &[f32], features: usize, y: &mut [f32]) {
        self.run(table, None, features, y);
    }

    /// [`EmbeddingIndices::forward`] with a row of `positions` (`[rows][features]`, any number of rows but none) added: its
    /// first one at the first position, and after its last one the first again.
    ///
    /// # Panics
    /// If a slice's length does not fit.
    #[track_caller]
    pub fn forward_with_positions(&self, table: &[f32], positions: &[f32], features: usize, y: &mut [f32]) {
        let whole = features > 0 && !positions.is_empty() && positions.len().is_multiple_of(features);
        assert!(
            whole || (features == 0 && positions.is_empty()),
            "embedding forward: positions has {} values, must be one or more rows of {features}",
            positions.len()
        );
        self.run(table, Some(positions), features, y);
    }

    #[track_caller]
    fn run(&self, table: &[f32], positions: Option<&[f32]>, features: usize, y: &mut [f32]) {
        let (rows, size) = (self.vocab.saturating_mul(features), self.ids.len().saturating_mul(features));
        check_len("embedding forward", "table", table.len(), rows, "vocab x features");
        check_len("embedding forward", "y", y.len(), size, "positions x features");
        let work = Forward { active: active(), features, ids: &self.ids, table, positions, first: 0, y };
        parallel::run(work, tuning::EMBEDDING_PARALLEL, tuning::EMBEDDING_PIECE);
    }
}
