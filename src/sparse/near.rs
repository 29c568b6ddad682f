//! Sixteens of a row's connections whose sources are near each other: where a few vectors of the example begin that have them
//! all, and which values of those they are. So they are picked by permutations, without a gather.

use crate::lanes::{Chunk, Index, LANES, NEAR};

/// Of all sixteens, row by row; a row's last one may have fewer.
#[derive(Clone, Debug)]
pub(super) struct Near {
    /// The first sixteen of each row.
    starts: Box<[usize]>,
    /// Where the values near a sixteen begin; [`FAR`] if they are not near.
    bases: Box<[u32]>,
    /// Which of those values each connection reads.
    places: Box<[[u8; LANES]]>,
}

/// A sixteen that is gathered.
const FAR: u32 = u32::MAX;

impl Near {
    /// If nine in ten are near, so that the branch is predicted, of sixteen connections to a row at least: from about half of all
    /// places on.
    pub(super) fn of<I: Index>(cols: usize, indptr: &[usize], indices: &[I]) -> Option<Near> {
        // Fewer columns have no four vectors.
        let last = cols.checked_sub(NEAR)?;
        let sixteens = || indptr.windows(2).flat_map(|row| indices[row[0]..row[1]].chunks(LANES));
        // At a vector's start, so that with an aligned example no load crosses a line.
        let base = |sixteen: &[I]| (sixteen[0].to_usize() / LANES * LANES).min(last);
        let is_far = |sixteen: &[I]| sixteen[sixteen.len() - 1].to_usize() - base(sixteen) >= NEAR;
        let (count, far) = (sixteens().count(), sixteens().filter(|s| is_far(s)).count());
        if indices.len() < LANES * (indptr.len() - 1) || 10 * far > count {
            return None;
        }
        let (mut starts, mut next) = (Vec::with_capacity(indptr.len()), 0);
        for row in indptr.windows(2) {
            starts.push(next);
            next += (row[1] - row[0]).div_ceil(LANES);
        }
        let bases = sixteens().map(|s| if is_far(s) { FAR } else { base(s) as u32 });
        let places = sixteens().map(|sixteen| {
            let mut places = [0; LANES];
            for (place, i) in places.iter_mut().zip(sixteen) {
                *place = (i.to_usize() - base(sixteen)) as u8;
            }
            places
        });
        Some(Near { starts: starts.into(), bases: bases.collect(), places: places.collect() })
    }

    /// The sixteens of a row, from its first on: where each one's values begin, and its places.
    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> (&[u32], &[[u8; LANES]]) {
        let start = self.starts[row];
        (&self.bases[start..], &self.places[start..])
    }
}

/// The values from `base` on, if it is a place of `x`.
#[inline(always)]
pub(super) fn window(x: &[f32], base: u32) -> Option<&[Chunk; NEAR / LANES]> {
    let base = base as usize;
    x.get(base..base.checked_add(NEAR)?)?.as_chunks().0.first_chunk()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sixteens and fewer at every place of rows of several lengths, of which some are just too wide.
    #[test]
    fn places_lead_to_the_sources() {
        for cols in [NEAR - 1, NEAR, NEAR + 1, 100, 160] {
            let x: Vec<f32> = (0..cols).map(|i| i as f32).collect();
            for first in (0..cols - LANES).step_by(if cfg!(miri) { 17 } else { 1 }) {
                for (count, step) in
                    [(1, 1), (3, 20), (LANES, 1), (LANES, 3), (LANES, 4), (LANES, 5), (40, 2)]
                {
                    let row: Vec<u32> = (first..cols).step_by(step).take(count).map(|i| i as u32).collect();
                    // Ten rows that are near besides.
                    let near: Vec<u32> = (0..10).flat_map(|_| 0..2 * LANES as u32).collect();
                    let starts: Vec<usize> =
                        (0..=10).map(|i| i * 2 * LANES).chain([near.len() + row.len()]).collect();
                    let all = Near::of(cols, &starts, &[near, row.clone()].concat());
                    assert_eq!(all.is_some(), cols >= NEAR, "{cols} columns");
                    let Some(all) = all else { continue };
                    let (bases, places) = all.row(10);
                    let base = (first / LANES * LANES).min(cols - NEAR);
                    let sixteens = row.chunks(LANES);
                    assert_eq!((bases.len(), places.len()), (sixteens.len(), sixteens.len()));
                    let is_near = row[row.len().min(LANES) - 1] as usize - base < NEAR;
                    assert_eq!(bases[0] != FAR, is_near, "{count} from {first} by {step} of {cols}");
                    for ((&base, places), sixteen) in bases.iter().zip(places).zip(sixteens) {
                        let Some(from) = window(&x, base) else {
                            assert_eq!(base, FAR);
                            continue;
                        };
                        for (&place, &source) in places.iter().zip(sixteen) {
                            assert_eq!(from.as_flattened()[place as usize], source as f32);
                        }
                    }
                }
            }
        }
    }
}
