//! Many buffers into one: groups of eight in registers, groups of groups in tiles on the stack.

use crate::elementwise::Elementwise;
use crate::lanes::{Kernel, LANES, Lanes, Stack};
use crate::tier::Active;

/// Buffers whose sum stays in registers.
const GROUP: usize = 8;
/// Elements of which the sums of groups wait on the stack for each other.
const TILE: usize = 256;
/// Groups that are added by a tree; such trees are added one after the other.
const GROUPS: usize = 128;
/// Sums that wait: one of each level of the tree, that of the last group, and that of the trees before.
const LEVELS: usize = GROUPS.ilog2() as usize + 2;

/// Some elements of an aggregation.
pub(super) struct Aggregate<'a> {
    pub(super) active: Active,
    pub(super) scale: f32,
    /// Where `dst` begins in the buffers.
    pub(super) first: usize,
    pub(super) dst: &'a mut [f32],
    pub(super) buffers: &'a [&'a [f32]],
}

impl Elementwise for Aggregate<'_> {
    fn active(&self) -> Active {
        self.active
    }

    fn written(&self) -> &[f32] {
        self.dst
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let (a, b) = self.dst.split_at_mut(at);
        (Aggregate { dst: a, ..self }, Aggregate { dst: b, first: self.first + at, ..self })
    }

    fn size(&self) -> usize {
        self.dst.len().saturating_mul(self.buffers.len())
    }
}

impl Kernel for Aggregate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Aggregate { scale, first, dst, buffers, .. } = self;
        let (one, scale) = (l.splat(1.0), l.splat(scale));
        let only = buffers.len() <= GROUP;
        // A single group needs no tiles: its streams run through.
        let tile = if only { dst.len() } else { TILE };
        let mut room = Stack::<{ TILE / LANES * LEVELS }>::new();
        let room = if only { &mut [] } else { room.first_mut(TILE / LANES * LEVELS) };
        let (waiting, _) = room.as_flattened_mut().as_chunks_mut::<TILE>();
        let mut at = 0;
        while at < dst.len() {
            let n = tile.min(dst.len() - at);
            let (mut depth, mut group) = (0, 0);
            while group * GROUP < buffers.len() {
                let members = &buffers[group * GROUP..buffers.len().min((group + 1) * GROUP)];
                let (out, factor) =
                    if only { (&mut dst[at..at + n], scale) } else { (&mut waiting[depth][..n], one) };
                sum_group(l, members, first + at, factor, out);
                depth += 1;
                let mut merges = (group % GROUPS).trailing_ones();
                // The end of a tree that is not the first.
                if group >= GROUPS && (group + 1).is_multiple_of(GROUPS) {
                    merges += 1;
                }
                while merges > 0 {
                    merge(l, waiting, depth, n);
                    depth -= 1;
                    merges -= 1;
                }
                group += 1;
            }
            if !only {
                while depth > 1 {
                    merge(l, waiting, depth, n);
                    depth -= 1;
                }
                sum_of::<L, 1>(l, &[&waiting[0]], 0, scale, &mut dst[at..at + n]);
            }
            at += n;
        }
    }
}

/// Adds the last of `depth` sums that wait to the one before it.
#[inline(always)]
fn merge<L: Lanes>(l: L, waiting: &mut [[f32; TILE]], depth: usize, n: usize) {
    let (before, from) = waiting.split_at_mut(depth - 1);
    let (to, from) = (before[depth - 2].as_chunks_mut::<LANES>().0, from[0].as_chunks::<LANES>().0);
    // The last vector's unused lanes hold whatever they do.
    for i in 0..n.div_ceil(LANES) {
        let sum = l.add(l.load(&to[i]), l.load(&from[i]));
        l.store(&mut to[i], sum);
    }
}

/// `out = factor * sum of the members` (one to eight), from `first` on.
#[inline(always)]
fn sum_group<L: Lanes>(l: L, members: &[&[f32]], first: usize, factor: L::F, out: &mut [f32]) {
    match members.len() {
        1 => sum_of::<L, 1>(l, members, first, factor, out),
        2 => sum_of::<L, 2>(l, members, first, factor, out),
        3 => sum_of::<L, 3>(l, members, first, factor, out),
        4 => sum_of::<L, 4>(l, members, first, factor, out),
        5 => sum_of::<L, 5>(l, members, first, factor, out),
        6 => sum_of::<L, 6>(l, members, first, factor, out),
        7 => sum_of::<L, 7>(l, members, first, factor, out),
        _ => sum_of::<L, 8>(l, members, first, factor, out),
    }
}

#[inline(always)]
fn sum_of<L: Lanes, const K: usize>(l: L, members: &[&[f32]], first: usize, factor: L::F, out: &mut [f32]) {
    let n = out.len();
    let mut x = [&members[0][first..first + n]; K];
    for k in 1..K {
        x[k] = &members[k][first..first + n];
    }
    let (to, to_rest) = out.as_chunks_mut::<LANES>();
    let vectors = to.len();
    let mut whole = [&x[0].as_chunks::<LANES>().0[..vectors]; K];
    for k in 1..K {
        whole[k] = &x[k].as_chunks::<LANES>().0[..vectors];
    }
    for i in 0..vectors {
        let mut v = [factor; K];
        for k in 0..K {
            v[k] = l.load(&whole[k][i]);
        }
        l.store(&mut to[i], l.mul(tree(l, v), factor));
    }
    if !to_rest.is_empty() {
        let mut v = [factor; K];
        for k in 0..K {
            v[k] = l.load_part(x[k].as_chunks::<LANES>().1, factor);
        }
        l.store_part(to_rest, l.mul(tree(l, v), factor));
    }
}

/// Neighbours, then pairs, then fours: `T(k) = T(p) + T(k - p)` with `p` the largest power of two below `k`.
#[inline(always)]
fn tree<L: Lanes, const K: usize>(l: L, mut v: [L::F; K]) -> L::F {
    let mut step = 1;
    while step < K {
        let mut i = 0;
        while i + step < K {
            v[i] = l.add(v[i], v[i + step]);
            i += 2 * step;
        }
        step *= 2;
    }
    v[0]
}
