//! The loops over rows, and how they are cut.

use crate::lanes::{Chunk, Kernel, LANES, Lanes, dispatch};
use crate::parallel::{Work, middle};
use crate::tier::Active;

/// How many elements ahead of the row at hand, at least, the next rows are asked for: their ids are known, but no CPU guesses
/// the addresses. A row beyond is asked for whole, a vector for each one that is worked on.
const AHEAD: usize = 512;

/// How many rows that is.
#[inline(always)]
fn rows_ahead(features: usize) -> usize {
    (AHEAD / features.max(1)).max(1)
}

/// Some positions of a forward.
pub(super) struct Forward<'a> {
    pub(super) active: Active,
    pub(super) features: usize,
    pub(super) ids: &'a [u32],
    pub(super) table: &'a [f32],
    /// Rows to be added, as many as there are and then from the first again.
    pub(super) positions: Option<&'a [f32]>,
    /// The first position.
    pub(super) first: usize,
    pub(super) y: &'a mut [f32],
}

impl Work for Forward<'_> {
    fn size(&self) -> usize {
        self.y.len()
    }

    fn split(self) -> Result<(Self, Self), Self> {
        if self.ids.len() < 2 {
            return Err(self);
        }
        let middle = self.ids.len() / 2;
        let (ids0, ids1) = self.ids.split_at(middle);
        let (y0, y1) = self.y.split_at_mut(middle * self.features);
        let first = self.first + middle;
        Ok((Forward { ids: ids0, y: y0, ..self }, Forward { ids: ids1, y: y1, first, ..self }))
    }

    fn run(self) {
        dispatch(self.active, self);
    }
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Forward { features, ids, table, positions, first, y, .. } = self;
        match positions {
            None => forward::<L, false>(l, features, ids, table, &[], 0, y),
            Some(positions) => forward::<L, true>(l, features, ids, table, positions, first, y),
        }
    }
}

#[inline(always)]
fn forward<L: Lanes, const ADD: bool>(
    l: L,
    features: usize,
    ids: &[u32],
    table: &[f32],
    positions: &[f32],
    first: usize,
    y: &mut [f32],
) {
    let ahead = rows_ahead(features);
    let places = if ADD { positions.len() / features.max(1) } else { 1 };
    let mut place = first % places.max(1);
    for k in 0..ids.len() {
        let (row, row_rest) = table[ids[k] as usize * features..][..features].as_chunks::<LANES>();
        let next = ids[(k + ahead).min(ids.len() - 1)] as usize * features;
        let (next, _) = table[next..][..features].as_chunks::<LANES>();
        let added = if ADD { &positions[place * features..][..features] } else { &[] };
        let (added, added_rest) = added.as_chunks::<LANES>();
        let (out, out_rest) = y[k * features..][..features].as_chunks_mut::<LANES>();
        let n = out.len();
        let (row, added) = (&row[..n], if ADD { &added[..n] } else { added });
        for i in 0..n {
            l.prefetch(next, i);
            let mut v = l.load(&row[i]);
            if ADD {
                v = l.add(v, l.load(&added[i]));
            }
            l.store(&mut out[i], v);
        }
        if !out_rest.is_empty() {
            let zero = l.splat(0.0);
            let mut v = l.load_part(row_rest, zero);
            if ADD {
                v = l.add(v, l.load_part(added_rest, zero));
            }
            l.store_part(out_rest, v);
        }
        if ADD {
            place += 1;
            if place == places {
                place = 0;
            }
        }
    }
}

/// Some ids of a backward, or some columns of one id.
pub(super) struct Backward<'a> {
    pub(super) active: Active,
    pub(super) features: usize,
    /// The ids, ascending.
    pub(super) distinct: &'a [u32],
    /// Where their positions start, and where the last one's end.
    pub(super) starts: &'a [u32],
    /// All positions of the batch.
    pub(super) positions: &'a [u32],
    /// All of the batch's gradients.
    pub(super) dy: &'a [f32],
    /// The columns: all of them, but for one id alone.
    pub(super) column: usize,
    pub(super) width: usize,
    /// The id of the first row in `dtable`, which ends with the row of the last id or later. Where the columns are not all of
    /// them, it holds those of the one id.
    pub(super) first: usize,
    pub(super) dtable: &'a mut [f32],
}

impl Backward<'_> {
    /// How many positions there are.
    fn positions(&self) -> usize {
        (self.starts[self.distinct.len()] - self.starts[0]) as usize
    }
}

impl Work for Backward<'_> {
    fn size(&self) -> usize {
        self.positions() * self.width
    }

    fn split(self) -> Result<(Self, Self), Self> {
        let n = self.distinct.len();
        if n < 2 {
            return self.split_columns();
        }
        let half = self.starts[0] + self.positions() as u32 / 2;
        let middle = self.starts.partition_point(|&s| s < half).clamp(1, n - 1);
        let (ids0, ids1) = self.distinct.split_at(middle);
        let first = ids1[0] as usize;
        let (d0, d1) = self.dtable.split_at_mut((first - self.first) * self.features);
        Ok((
            Backward { distinct: ids0, starts: &self.starts[..=middle], dtable: d0, ..self },
            Backward { distinct: ids1, starts: &self.starts[middle..], dtable: d1, first, ..self },
        ))
    }

    fn run(self) {
        dispatch(self.active, self);
    }
}

impl<'a> Backward<'a> {
    /// One id: its row is cut where a vector ends, if it has two.
    fn split_columns(self) -> Result<(Self, Self), Self> {
        let middle = middle(self.width, LANES);
        if self.distinct.is_empty() || middle >= self.width {
            return Err(self);
        }
        let first = self.distinct[0] as usize;
        let row: &'a mut [f32] = &mut self.dtable[(first - self.first) * self.features..][..self.width];
        let (d0, d1) = row.split_at_mut(middle);
        Ok((
            Backward { width: middle, first, dtable: d0, ..self },
            Backward { column: self.column + middle, width: self.width - middle, first, dtable: d1, ..self },
        ))
    }
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        for k in 0..self.distinct.len() {
            let (mut at, end) = (self.starts[k] as usize, self.starts[k + 1] as usize);
            let id = self.distinct[k] as usize;
            while at + 4 <= end {
                add_rows::<L, 4>(l, &mut self, id, at);
                at += 4;
            }
            while at < end {
                add_rows::<L, 1>(l, &mut self, id, at);
                at += 1;
            }
        }
    }
}

/// Adds the rows at `R` of the id's positions, so that the sum is loaded and stored once for all of them; each value's
/// additions go by ascending position all the same.
#[inline(always)]
fn add_rows<L: Lanes, const R: usize>(l: L, a: &mut Backward<'_>, id: usize, at: usize) {
    let (features, width) = (a.features, a.width);
    let (sum, sum_rest) = a.dtable[(id - a.first) * features..][..width].as_chunks_mut::<LANES>();
    let n = sum.len();
    let last = a.positions.len() - 1;
    let ahead = R.max(rows_ahead(features));
    let empty: &[Chunk] = &[];
    let (mut dy, mut next, mut rest) = ([empty; R], [empty; R], [&a.dy[..0]; R]);
    for r in 0..R {
        let row = &a.dy[a.positions[at + r] as usize * features + a.column..][..width];
        let (whole, left) = row.as_chunks::<LANES>();
        (dy[r], rest[r]) = (&whole[..n], left);
        // The positions that follow, of this id or the next.
        let position = a.positions[(at + ahead + r).min(last)] as usize;
        (next[r], _) = a.dy[position * features + a.column..][..width].as_chunks::<LANES>();
    }
    for i in 0..n {
        let mut v = l.load(&sum[i]);
        for r in 0..R {
            l.prefetch(next[r], i);
            v = l.add(v, l.load(&dy[r][i]));
        }
        l.store(&mut sum[i], v);
    }
    if !sum_rest.is_empty() {
        let zero = l.splat(0.0);
        let mut v = l.load_part(sum_rest, zero);
        for r in 0..R {
            v = l.add(v, l.load_part(rest[r], zero));
        }
        l.store_part(sum_rest, v);
    }
}
