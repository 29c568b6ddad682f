//! Priorities of the records, beside them: writers know nothing of it.
//!
//! A record that was added since gets the greatest priority so far when samplers or updates next look.

use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::snapshot::{At, Snapshot};
use crate::sumtree::SumTree;
use crate::writer::Step;

/// So that 2^40 of them have a finite sum.
const MOST: f32 = 1e24;

pub(crate) struct Priorities {
    pub(crate) tree: SumTree,
    alpha: f32,
    /// Leaves of a place: a segment's records, rounded up to whole nodes.
    stride: usize,
    /// For each place the ordinal and the rows whose leaves are set.
    pub(crate) synced: Vec<Synced>,
    /// For each place its part in the snapshot that was taken up last.
    parts: Vec<u32>,
    /// For each of its parts the place.
    places: Vec<u32>,
    /// The greatest weight so far, which new records get.
    pub(crate) greatest: f32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Synced {
    pub(crate) ordinal: u64,
    from: usize,
    pub(crate) rows: usize,
}

impl Priorities {
    pub(crate) fn new(layout: &Layout, alpha: f32) -> Result<Priorities> {
        if !(0.0..=1.0).contains(&alpha) {
            return Err(Error::setting("alpha", alpha, "must be 0 to 1"));
        }
        let stride = layout.rows.next_multiple_of(16);
        let none = Synced { ordinal: u64::MAX, from: 0, rows: 0 };
        Ok(Priorities {
            tree: SumTree::new(stride * layout.places)
                .ok_or(Error::Memory { bytes: 4 * stride * layout.places })?,
            alpha,
            stride,
            synced: vec![none; layout.places],
            parts: vec![0; layout.places],
            places: vec![0; layout.places],
            greatest: 1.0,
        })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.tree.bytes()
    }

    pub(crate) fn leaf(&self, ordinal: u64, row: usize) -> usize {
        (ordinal % self.synced.len() as u64) as usize * self.stride + row
    }

    /// The record of a leaf with weight, in the snapshot that was taken up last.
    pub(crate) fn at(&self, leaf: usize) -> At {
        At { part: self.parts[leaf / self.stride], row: (leaf % self.stride) as u32 }
    }

    /// The weight of a record in that snapshot.
    #[inline]
    pub(crate) fn weight(&self, at: At) -> f32 {
        self.tree.get(self.places[at.part as usize] as usize * self.stride + at.row as usize)
    }

    /// Takes up what was added and evicted. The snapshot is one that was made under this lock.
    pub(crate) fn sync(&mut self, snapshot: &Snapshot<'_>) {
        let places = self.synced.len() as u64;
        let mut empty = vec![true; self.synced.len()];
        // The place of the ordinal before: most ordinals are the next, and a division takes long.
        let (mut ordinal, mut place) = (u64::MAX - 1, 0);
        for (index, part) in snapshot.parts().iter().enumerate() {
            if part.ordinal == ordinal + 1 {
                place = if place + 1 == self.synced.len() { 0 } else { place + 1 };
            } else {
                place = (part.ordinal % places) as usize;
            }
            ordinal = part.ordinal;
            self.parts[place] = index as u32;
            self.places[index] = place as u32;
            empty[place] = false;
            let mut old = self.synced[place];
            if old.ordinal != part.ordinal {
                self.clear(place, 0..old.rows);
                old = Synced { ordinal: part.ordinal, from: 0, rows: 0 };
            }
            if old.from == part.from && old.rows == part.rows {
                self.synced[place] = old;
                continue;
            }
            self.clear(place, old.from..part.from.min(old.rows));
            for row in old.rows.max(part.from)..part.rows {
                let drawable = snapshot.step(At { part: index as u32, row: row as u32 }) != Step::Final;
                self.tree.set(place * self.stride + row, if drawable { self.greatest } else { 0.0 });
            }
            self.synced[place] = Synced { ordinal: part.ordinal, from: part.from, rows: part.rows };
        }
        for (place, _) in empty.iter().enumerate().filter(|&(_, &empty)| empty) {
            self.clear(place, 0..self.synced[place].rows);
            self.synced[place] = Synced { ordinal: u64::MAX, from: 0, rows: 0 };
        }
        self.tree.refresh();
    }

    fn clear(&mut self, place: usize, rows: std::ops::Range<usize>) {
        rows.for_each(|row| self.tree.set(place * self.stride + row, 0.0));
    }

    /// Sets priorities; those of records that are evicted are dropped. Returns how many were set.
    pub(crate) fn update(
        &mut self,
        snapshot: &Snapshot<'_>,
        ids: &[u64],
        priorities: &[f32],
    ) -> Result<usize> {
        if ids.len() != priorities.len() {
            let expected = format!("{}, one for each id", ids.len());
            return Err(Error::Count { what: "priorities", expected, given: priorities.len() });
        }
        if let Some(index) = priorities.iter().position(|p| !(0.0..=MOST).contains(p)) {
            return Err(Error::Priority { index, value: priorities[index] });
        }
        let mut weights = priorities.to_vec();
        if self.alpha != 1.0 {
            // p^alpha = e^(alpha ln p), of which each step has the same bits on every CPU.
            hotlanes::activation::log_in_place(&mut weights);
            weights.iter_mut().for_each(|x| *x *= self.alpha);
            hotlanes::activation::exp_in_place(&mut weights);
        }
        let rows = snapshot.layout().rows as u64;
        let mut set = 0;
        for ((&id, &priority), &weight) in ids.iter().zip(priorities).zip(&weights) {
            let (ordinal, row) = (id / rows, (id % rows) as usize);
            let place = (ordinal % self.synced.len() as u64) as usize;
            let Synced { ordinal: now, from, rows } = self.synced[place];
            if now != ordinal || !(from..rows).contains(&row) {
                continue;
            }
            set += 1;
            if snapshot.step(At { part: self.parts[place], row: row as u32 }) == Step::Final {
                continue;
            }
            // Not 0 unless the priority is.
            let weight = if priority == 0.0 { 0.0 } else { weight.max(f32::MIN_POSITIVE) };
            self.greatest = self.greatest.max(weight);
            self.tree.set(place * self.stride + row, weight);
        }
        self.tree.refresh();
        Ok(set)
    }

    /// Puts back what was saved of a segment.
    pub(crate) fn restore(&mut self, ordinal: u64, from: usize, weights: &[f32]) {
        let place = (ordinal % self.synced.len() as u64) as usize;
        for (row, &weight) in weights.iter().enumerate() {
            self.tree.set(place * self.stride + row, weight);
        }
        self.synced[place] = Synced { ordinal, from, rows: weights.len() };
        self.tree.refresh();
    }
}
