//! The gradient of a batch's inputs by source: it stays in registers while the gradients of the source's destinations are
//! read.

use super::plan::{BLOCK, Plan};
use crate::lanes::{Kernel, LANES, Lanes, Lookup, Slots, dispatch};
use crate::parallel::{Work, middle};
use crate::tier::Active;

/// Some sources.
pub(super) struct Inputs<'a> {
    pub(super) active: Active,
    pub(super) plan: &'a Plan,
    /// Position in the plan's order of the first source, which `dx` starts with.
    pub(super) first: usize,
    pub(super) sources: usize,
    pub(super) batch: usize,
    pub(super) values: &'a [f32],
    pub(super) dy: &'a [f32],
    pub(super) dx: Slots<'a>,
}

impl Work for Inputs<'_> {
    fn size(&self) -> usize {
        let connections = self.plan.indptr[self.first + self.sources] - self.plan.indptr[self.first];
        connections.saturating_mul(self.batch)
    }

    fn split(self) -> Result<(Self, Self), Self> {
        if self.sources < 2 {
            return Err(self);
        }
        // Pieces start where blocks do, while there are several.
        let middle = middle(self.sources, if self.sources > BLOCK { BLOCK } else { 1 });
        let (dx0, dx1) = self.dx.split_at(middle);
        Ok((
            Inputs { sources: middle, dx: dx0, ..self },
            Inputs { first: self.first + middle, sources: self.sources - middle, dx: dx1, ..self },
        ))
    }

    fn run(self) {
        dispatch(self.active, self);
    }
}

impl Kernel for Inputs<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        let mut e = 0;
        while e + 2 * LANES <= self.batch {
            tile::<L, 2, 32>(l, &mut self, e);
            e += 2 * LANES;
        }
        if e + LANES <= self.batch {
            tile::<L, 1, 16>(l, &mut self, e);
            e += LANES;
        }
        if e < self.batch {
            last_tile(l, &mut self, e);
        }
    }
}

/// Connections of a source in each of the partial sums that are added up one after the other; within one, connection `k`
/// goes to accumulator `k % 2`.
const RUN: usize = 16;

/// `T` vectors of examples, `W = 16 T`, from example `e` on.
#[inline(always)]
fn tile<L: Lanes, const T: usize, const W: usize>(l: L, a: &mut Inputs<'_>, e: usize) {
    let dy = a.plan.destinations.over::<W>(a.dy, a.batch, e);
    let w = a.plan.slots.as_list().over::<1>(a.values, 1, 0);
    let ends = &a.plan.indptr[a.first..][..a.sources + 1];
    for source in 0..a.sources {
        let (mut at, end) = (ends[source], ends[source + 1]);
        // Whole runs apart, so that their length is known.
        let mut sum = if at + RUN < end {
            at += RUN;
            run::<L, T, W>(l, w.range(at - RUN..at), dy.range(at - RUN..at), RUN)
        } else {
            let start = at;
            at = end;
            run::<L, T, W>(l, w.range(start..end), dy.range(start..end), end - start)
        };
        while at < end {
            let next = if at + RUN < end {
                at += RUN;
                run::<L, T, W>(l, w.range(at - RUN..at), dy.range(at - RUN..at), RUN)
            } else {
                let start = at;
                at = end;
                run::<L, T, W>(l, w.range(start..end), dy.range(start..end), end - start)
            };
            for t in 0..T {
                sum[t] = l.add(sum[t], next[t]);
            }
        }
        let (dx, _) = a.dx.row(source)[e..][..W].as_chunks_mut::<LANES>();
        for t in 0..T {
            l.store(&mut dx[t], sum[t]);
        }
    }
}

/// The partial sum of `n` connections.
#[inline(always)]
fn run<L: Lanes, const T: usize, const W: usize>(
    l: L,
    w: Lookup<'_, u32, 1>,
    dy: Lookup<'_, u32, W>,
    n: usize,
) -> [L::F; T] {
    let mut acc = [[l.splat(0.0); T]; 2];
    for q in 0..n / 4 {
        let (w, dy) = (w.quad(q), dy.quad(q));
        connection::<L, T, W>(l, w.row(0), dy.row(0), &mut acc[0]);
        connection::<L, T, W>(l, w.row(1), dy.row(1), &mut acc[1]);
        connection::<L, T, W>(l, w.row(2), dy.row(2), &mut acc[0]);
        connection::<L, T, W>(l, w.row(3), dy.row(3), &mut acc[1]);
    }
    let (w, dy) = (w.after_quads(), dy.after_quads());
    // By name: an index that is only known at run time would put the accumulators into memory.
    let rest = n % 4;
    if rest > 0 {
        connection::<L, T, W>(l, w.row(0), dy.row(0), &mut acc[0]);
    }
    if rest > 1 {
        connection::<L, T, W>(l, w.row(1), dy.row(1), &mut acc[1]);
    }
    if rest > 2 {
        connection::<L, T, W>(l, w.row(2), dy.row(2), &mut acc[0]);
    }
    let mut sum = acc[0];
    for t in 0..T {
        sum[t] = l.add(acc[0][t], acc[1][t]);
    }
    sum
}

#[inline(always)]
fn connection<L: Lanes, const T: usize, const W: usize>(
    l: L,
    w: &[f32; 1],
    dy: &[f32; W],
    acc: &mut [L::F; T],
) {
    let (dy, _) = dy.as_chunks::<LANES>();
    let w = l.splat(w[0]);
    for t in 0..T {
        acc[t] = l.mul_add(w, l.load(&dy[t]), acc[t]);
    }
}

/// The last examples, fewer than sixteen: partial loads and stores, the same order of additions.
#[inline(always)]
fn last_tile<L: Lanes>(l: L, a: &mut Inputs<'_>, e: usize) {
    let zero = l.splat(0.0);
    let dy = a.plan.destinations.rows(a.dy, a.batch);
    let w = a.plan.slots.as_list().over::<1>(a.values, 1, 0);
    for source in 0..a.sources {
        let (start, end) = (a.plan.indptr[a.first + source], a.plan.indptr[a.first + source + 1]);
        let (w, dy) = (w.range(start..end), dy.range(start..end));
        let (mut sum, mut acc) = (zero, [zero; 2]);
        let n = end - start;
        for k in 0..n {
            let dy = l.load_part(&dy.row(k)[e..], zero);
            acc[k % 2] = l.mul_add(l.splat(w.row(k)[0]), dy, acc[k % 2]);
            if k % RUN == RUN - 1 || k == n - 1 {
                let run = l.add(acc[0], acc[1]);
                sum = if k < RUN { run } else { l.add(sum, run) };
                acc = [zero; 2];
            }
        }
        l.store_part(&mut a.dx.row(source)[e..], sum);
    }
}
