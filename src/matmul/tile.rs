//! The tile: a few rows by a few vectors of the result, which stay in registers over all of k.
//!
//! Each result is one chain of fused multiply-adds over k, in order, so it does not matter to its bits how large a tile is
//! or which tile it is in.

use crate::lanes::{Block, Chunk, Half, LANES, Lanes};

/// The body once for each `$i` below `$n`, at most sixteen, written out. A loop that LLVM does not unroll in time would index
/// the tile at run time and keep it in memory, every step of k.
macro_rules! each {
    ($i:ident < $n:ident => $body:expr) => {
        each!($i < $n => $body; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    ($i:ident < $n:ident => $body:expr; $($value:literal)*) => {
        $({
            #[allow(non_upper_case_globals)]
            const $i: usize = $value;
            if $i < $n {
                $body
            }
        })*
    };
}

pub(crate) use each;

/// The left operand of a tile: for each step of k one value for each of its `M` rows.
pub(crate) trait Left<const M: usize>: Copy {
    /// The value of row `i` at step `p`. One at a time, so that each is loaded into all lanes at once: LLVM would load
    /// an array as a vector and take it apart by shuffles, which keep the multipliers waiting.
    fn value(self, p: usize, i: usize) -> f32;
}

/// Rows that lie along k, each as long as the loop: the operand as it is.
#[derive(Clone, Copy)]
pub(crate) struct Across<'a, const M: usize>(pub(crate) [&'a [f32]; M]);

impl<const M: usize> Left<M> for Across<'_, M> {
    #[inline(always)]
    fn value(self, p: usize, i: usize) -> f32 {
        self.0[i][p]
    }
}

/// Rows whose values lie `step` apart along k. All are as long.
#[derive(Clone, Copy)]
pub(crate) struct Strided<'a, const M: usize> {
    pub(crate) lines: [&'a [f32]; M],
    pub(crate) step: usize,
}

impl<const M: usize> Left<M> for Strided<'_, M> {
    #[inline(always)]
    fn value(self, p: usize, i: usize) -> f32 {
        self.lines[i][p * self.step]
    }
}

/// Rows that lie side by side in lines along k, `stride` apart: a transpose as it is, from the first value of the tile on.
#[derive(Clone, Copy)]
pub(crate) struct Beside<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
}

impl<const M: usize> Left<M> for Beside<'_> {
    #[inline(always)]
    fn value(self, p: usize, i: usize) -> f32 {
        self.values[p * self.stride..][..M][i]
    }
}

/// A packed panel: for each step of k the tile's rows, side by side.
#[derive(Clone, Copy)]
pub(crate) struct Packed<'a, const M: usize>(pub(crate) &'a [[f32; M]]);

impl<const M: usize> Left<M> for Packed<'_, M> {
    #[inline(always)]
    fn value(self, p: usize, i: usize) -> f32 {
        self.0[p][i]
    }
}

/// The right operand of a tile: for each step of k, `N` vectors.
pub(crate) trait Right<const N: usize>: Copy {
    fn step<L: Lanes>(self, l: L, p: usize) -> [L::F; N];
}

/// Packed panels of one vector's width, each as long as the loop.
#[derive(Clone, Copy)]
pub(crate) struct Panels<'a, const N: usize>(pub(crate) [&'a [Chunk]; N]);

impl<const N: usize> Right<N> for Panels<'_, N> {
    #[inline(always)]
    fn step<L: Lanes>(self, l: L, p: usize) -> [L::F; N] {
        let mut b = [l.splat(0.0); N];
        each!(j < N => b[j] = l.load(&self.0[j][p]));
        b
    }
}

/// The same of bf16.
#[derive(Clone, Copy)]
pub(crate) struct Halves<'a, const N: usize>(pub(crate) [&'a [Half]; N]);

impl<const N: usize> Right<N> for Halves<'_, N> {
    #[inline(always)]
    fn step<L: Lanes>(self, l: L, p: usize) -> [L::F; N] {
        let mut b = [l.splat(0.0); N];
        each!(j < N => b[j] = l.load_bf16(&self.0[j][p]));
        b
    }
}

/// Continues the chains of `c` over `k` steps.
#[inline(always)]
pub(crate) fn chains<L: Lanes, const M: usize, const N: usize>(
    l: L,
    k: usize,
    left: impl Left<M>,
    right: impl Right<N>,
    mut c: [[L::F; N]; M],
) -> [[L::F; N]; M] {
    for p in 0..k {
        let b = right.step(l, p);
        each!(i < M => {
            let x = l.splat(left.value(p, i));
            each!(j < N => c[i][j] = l.mul_add(x, b[j], c[i][j]));
        });
    }
    c
}

/// What the chains of a tile start from.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    /// Zero.
    Zero,
    /// The block, plus the bias if there is one: one value for each column of the block.
    Block,
    /// The bias: whole vectors, one for each of the tile's.
    Bias(&'a [Chunk]),
    /// Both, added.
    BlockAndBias(&'a [Chunk]),
}

/// The tile at row `i0` and column `j0` of the block, of `width` columns: at most `N` vectors, and more than one vector less.
#[inline(always)]
pub(crate) fn load<L: Lanes, const M: usize, const N: usize>(
    l: L,
    block: &mut Block<'_>,
    (i0, j0, width): (usize, usize, usize),
    start: Start<'_>,
) -> [[L::F; N]; M] {
    let mut c = [[l.splat(0.0); N]; M];
    if let Start::Bias(bias) | Start::BlockAndBias(bias) = start {
        let bias = &bias[..N];
        each!(j < N => {
            let b = l.load(&bias[j]);
            each!(i < M => c[i][j] = b);
        });
    }
    if let Start::Block | Start::BlockAndBias(_) = start {
        let add = matches!(start, Start::BlockAndBias(_));
        each!(i < M => {
            let row = &block.row(i0 + i)[j0..j0 + width];
            let (whole, rest) = row.as_chunks::<LANES>();
            each!(j < N => {
                let v = if j < whole.len() { l.load(&whole[j]) } else { l.load_part(rest, l.splat(0.0)) };
                c[i][j] = if add { l.add(v, c[i][j]) } else { v };
            });
        });
    }
    c
}

/// Asks for the tile at row `i0`, as far as there are rows, before it is loaded.
#[inline(always)]
pub(crate) fn prefetch<L: Lanes, const M: usize, const N: usize>(
    l: L,
    block: &mut Block<'_>,
    (i0, j0, width): (usize, usize, usize),
) {
    let mut i = i0;
    while i < (i0 + M).min(block.rows()) {
        let vectors = block.row(i)[j0..j0 + width].as_chunks::<LANES>().0;
        // Vectors that lie across lines end in one more.
        let lines = N + usize::from(!vectors.as_ptr().addr().is_multiple_of(size_of::<Chunk>()));
        let mut j = 0;
        while j < lines {
            l.prefetch(vectors, j);
            j += 1;
        }
        i += 1;
    }
}

/// Stores the tile where [`load`] found it.
#[inline(always)]
pub(crate) fn store<L: Lanes, const M: usize, const N: usize>(
    l: L,
    block: &mut Block<'_>,
    (i0, j0, width): (usize, usize, usize),
    c: [[L::F; N]; M],
) {
    let partial = width < N * LANES;
    each!(i < M => {
        let row = &mut block.row(i0 + i)[j0..j0 + width];
        let (whole, rest) = row.as_chunks_mut::<LANES>();
        if partial {
            each!(j < N => if j + 1 < N { l.store(&mut whole[j], c[i][j]) } else { l.store_part(rest, c[i][j]) });
        } else {
            each!(j < N => l.store(&mut whole[j], c[i][j]));
        }
    });
}
