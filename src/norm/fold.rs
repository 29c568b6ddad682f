//! Sums over rows: the order of their additions is fixed here, for all tiers, row lengths and alignments.

use crate::lanes::{Chunk, LANES, Lanes};
use crate::tuning;

/// Features of a row that are summed before the accumulators are.
const BLOCK: usize = 4096;

/// `S` sums over a row of `I` inputs that are taken in one pass.
pub(super) trait Fold<L: Lanes, const I: usize, const S: usize>: Copy {
    /// Inputs that add nothing.
    fn neutral(self, l: L) -> [L::F; I];
    /// Adds one vector of each input.
    fn add(self, l: L, inputs: [L::F; I], sums: &mut [L::F; S]);
}

/// Row `row` of a matrix.
#[inline(always)]
pub(super) fn row_of(matrix: &[f32], row: usize, features: usize) -> &[f32] {
    &matrix[row * features..][..features]
}

/// How many features of each row lie before the first boundary of a cache line, if that is the same for all rows, else
/// 0. Vectors that start there cross no line.
#[inline(always)]
pub(super) fn head<L: Lanes>(l: L, matrix: &[f32], features: usize) -> usize {
    if features.is_multiple_of(LANES) && features > tuning::NORM_SMALL { l.before_line(matrix) } else { 0 }
}

/// The pass over `R` rows together, which hides the latency of additions. Feature `i` of a block of 4096 goes to lane
/// `i % 16` of accumulator `i / 16 % A`; the accumulators are added by halving, and so are their lanes later
/// ([`Lanes::sum`]). `NEXT` prefetches the `R` rows after these.
///
/// Halving a ring of `16 A` terms adds the same pairs wherever the ring begins. So the first `head` features go to its
/// end, and whole vectors begin after them: the bits are the same for every `head`.
#[inline(always)]
pub(super) fn fold<L, F, const I: usize, const R: usize, const S: usize, const A: usize, const NEXT: bool>(
    l: L,
    f: [F; R],
    rows: [[&[f32]; I]; R],
    head: usize,
) -> [[L::F; S]; R]
where
    L: Lanes,
    F: Fold<L, I, S>,
{
    // No accumulator is ever -0, so that adding the first block to zeros leaves it as it is.
    let mut total = [[l.splat(0.0); S]; R];
    let (features, mut from) = (rows[0][0].len(), 0);
    while from < features {
        let end = features.min(from + BLOCK);
        let mut block = rows;
        for r in 0..R {
            for k in 0..I {
                block[r][k] = &rows[r][k][from..end];
            }
        }
        let next = if NEXT { R * features / LANES } else { 0 };
        let sums = fold_block::<L, F, I, R, S, A>(l, f, block, head, next);
        for r in 0..R {
            for s in 0..S {
                total[r][s] = l.add(total[r][s], sums[r][s]);
            }
        }
        from = end;
    }
    total
}

/// `next` is how many vectors further on to prefetch; 0 is none.
#[inline(always)]
fn fold_block<L, F, const I: usize, const R: usize, const S: usize, const A: usize>(
    l: L,
    f: [F; R],
    rows: [[&[f32]; I]; R],
    head: usize,
    next: usize,
) -> [[L::F; S]; R]
where
    L: Lanes,
    F: Fold<L, I, S>,
{
    let head = head.min(rows[0][0].len());
    let mut acc = [[[l.splat(0.0); S]; A]; R];
    let mut groups: [[&[[Chunk; A]]; I]; R] = [[&[]; I]; R];
    let mut whole: [[&[Chunk]; I]; R] = [[&[]; I]; R];
    let mut rest: [[&[f32]; I]; R] = [[&[]; I]; R];
    for r in 0..R {
        for k in 0..I {
            let (vectors, last) = rows[r][k][head..].as_chunks();
            (groups[r][k], whole[r][k]) = vectors.as_chunks();
            rest[r][k] = last;
        }
    }
    if head > 0 {
        for r in 0..R {
            let mut inputs = f[r].neutral(l);
            for k in 0..I {
                inputs[k] = l.load_end(&rows[r][k][..head], inputs[k]);
            }
            f[r].add(l, inputs, &mut acc[r][A - 1]);
        }
    }
    // One length for all, so that the bounds are checked once.
    let (count, left, partial) = (groups[0][0].len(), whole[0][0].len(), rest[0][0].len());
    for r in 0..R {
        for k in 0..I {
            groups[r][k] = &groups[r][k][..count];
            whole[r][k] = &whole[r][k][..left];
            rest[r][k] = &rest[r][k][..partial];
        }
    }
    for i in 0..count {
        for a in 0..A {
            for r in 0..R {
                let mut inputs = [l.splat(0.0); I];
                for k in 0..I {
                    if next > 0 {
                        l.prefetch(groups[r][k].as_flattened(), i * A + a + next);
                    }
                    inputs[k] = l.load(&groups[r][k][i][a]);
                }
                f[r].add(l, inputs, &mut acc[r][a]);
            }
        }
    }
    // By name: an index that is only known at run time would put the accumulators into memory.
    for a in 0..A {
        if a < left {
            for r in 0..R {
                let mut inputs = [l.splat(0.0); I];
                for k in 0..I {
                    inputs[k] = l.load(&whole[r][k][a]);
                }
                f[r].add(l, inputs, &mut acc[r][a]);
            }
        }
        if a == left && partial > 0 {
            for r in 0..R {
                let mut inputs = f[r].neutral(l);
                for k in 0..I {
                    inputs[k] = l.load_part(rest[r][k], inputs[k]);
                }
                f[r].add(l, inputs, &mut acc[r][a]);
            }
        }
    }
    let mut out = [[l.splat(0.0); S]; R];
    for r in 0..R {
        let mut step = A / 2;
        while step > 0 {
            for a in 0..step {
                for s in 0..S {
                    acc[r][a][s] = l.add(acc[r][a][s], acc[r][a + step][s]);
                }
            }
            step /= 2;
        }
        out[r] = acc[r][0];
    }
    out
}

/// The horizontal sums of `S` vectors for each of `R` rows: of four rows all at once, of sixteen by one transposition
/// each. The bits are the same.
#[inline(always)]
pub(super) fn sums<L: Lanes, const R: usize, const S: usize>(l: L, v: &[[L::F; R]; S]) -> [[f32; R]; S] {
    let mut out = [[0.0; R]; S];
    if R == 4 && S <= 4 {
        let mut quads = [l.splat(0.0); 4];
        for s in 0..S {
            quads[s] = l.sum_quad([v[s][0], v[s][1 % R], v[s][2 % R], v[s][3 % R]]);
        }
        let mut all = [0.0; LANES];
        l.store(&mut all, l.sum_quads(&quads));
        for s in 0..S {
            out[s].copy_from_slice(&all[4 * s..][..R]);
        }
        return out;
    }
    for s in 0..S {
        if let (Ok(v), Ok(out)) =
            (<&[L::F; LANES]>::try_from(&v[s][..]), <&mut Chunk>::try_from(&mut out[s][..]))
        {
            l.store(out, l.sum16(v));
        } else {
            for r in 0..R {
                out[s][r] = l.sum(v[s][r]);
            }
        }
    }
    out
}
