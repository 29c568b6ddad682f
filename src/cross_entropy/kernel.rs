//! The loops: the maximum of a row, its exponentials and their sum, its loss and, if asked for, its gradient.

use crate::lanes::{Chunk, Kernel, LANES, Lanes, dispatch};
use crate::math::log;
use crate::parallel::Work;
use crate::softmax::half;
use crate::softmax::rows::{BLOCK, IN_PLACE, Row, RowMut, SUM, ahead, exp_row, four, largest, max_row, sums};
use crate::tier::Active;
use crate::tuning;

/// What is the same for every row.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub(super) classes: usize,
    /// Rows with this label count for nothing.
    pub(super) ignore: Option<u32>,
    /// The label's share of the target, `1 - smoothing`, and that of every class, `smoothing / classes`.
    pub(super) keep: f32,
    pub(super) spread: f32,
    /// A row's weight in the result, and the two shares times it.
    pub(super) factor: f32,
    pub(super) on: f32,
    pub(super) off: f32,
}

/// Some rows. `MODE` says whether a gradient is written: not at all (`SUM`), to `dlogits` (`WRITE`), or over the logits,
/// which then are in `dlogits` (`IN_PLACE`).
pub(super) struct Rows<'a, const MODE: u8, const SMOOTH: bool> {
    pub(super) active: Active,
    pub(super) terms: Terms,
    pub(super) logits: &'a [f32],
    pub(super) labels: &'a [u32],
    pub(super) dlogits: &'a mut [f32],
    pub(super) losses: &'a mut [f32],
}

impl<const MODE: u8, const SMOOTH: bool> Work for Rows<'_, MODE, SMOOTH> {
    fn size(&self) -> usize {
        self.losses.len().saturating_mul(self.terms.classes)
    }

    fn split(self) -> Result<(Self, Self), Self> {
        let Some(rows) = half(self.losses.len()) else {
            return Err(self);
        };
        let at = rows * self.terms.classes;
        let (x0, x1) = self.logits.split_at(if MODE == IN_PLACE { 0 } else { at });
        let (d0, d1) = self.dlogits.split_at_mut(if MODE == SUM { 0 } else { at });
        let (t0, t1) = self.labels.split_at(rows);
        let (l0, l1) = self.losses.split_at_mut(rows);
        Ok((
            Rows { logits: x0, dlogits: d0, labels: t0, losses: l0, ..self },
            Rows { logits: x1, dlogits: d1, labels: t1, losses: l1, ..self },
        ))
    }

    fn run(self) {
        dispatch(self.active, self);
    }
}

impl<const MODE: u8, const SMOOTH: bool> Kernel for Rows<'_, MODE, SMOOTH> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        let (rows, mut row) = (self.losses.len(), 0);
        if self.terms.classes <= tuning::SOFTMAX_SMALL {
            while row + 16 <= rows {
                some_rows::<L, 16, MODE, SMOOTH>(l, &mut self, row);
                row += 16;
            }
        }
        while row + 4 <= rows && self.terms.classes <= tuning::SOFTMAX_LONG {
            some_rows::<L, 4, MODE, SMOOTH>(l, &mut self, row);
            row += 4;
        }
        while row < rows {
            some_rows::<L, 1, MODE, SMOOTH>(l, &mut self, row);
            row += 1;
        }
    }
}

#[inline(always)]
fn some_rows<L: Lanes, const R: usize, const MODE: u8, const SMOOTH: bool>(
    l: L,
    a: &mut Rows<'_, MODE, SMOOTH>,
    first: usize,
) {
    let Terms { classes, ignore, keep, spread, factor, on, off } = a.terms;
    let labels: &[u32; R] = a.labels[first..].first_chunk().expect("as many labels as losses");
    let zero = l.splat(0.0);
    let (mut lanes, mut centred) = ([zero; R], [zero; R]);
    // The label's logit, read before it may be overwritten. A row that is ignored has a label that may be no class.
    let mut hit: Chunk = [0.0; LANES];
    for r in 0..R {
        let x: &[f32] = if MODE == IN_PLACE { a.dlogits } else { a.logits };
        if Some(labels[r]) != ignore {
            hit[r] = x[(first + r) * classes..][..classes][labels[r] as usize];
        }
        lanes[r] = max_row(l, Row::of(x, first + r, classes));
    }
    let max = largest(l, &lanes);
    for r in 0..R {
        let x = if MODE == IN_PLACE { Row::new(&[]) } else { Row::of(a.logits, first + r, classes) };
        let y =
            if MODE == SUM { RowMut::of(&mut [], 0, 0) } else { RowMut::of(a.dlogits, first + r, classes) };
        let ahead = ahead(R, classes);
        [lanes[r], centred[r]] = exp_row::<L, MODE, SMOOTH>(l, x, y, max[r], ahead);
        hit[r] -= max[r];
    }
    let mut sum: Chunk = [1.0; LANES];
    sum[..R].copy_from_slice(&sums(l, &lanes));
    let sum = l.load(&sum);

    // loss = ln(sum) - keep (x_label - max) - spread * the sum of x - max
    let hit = l.load(&hit);
    let target = if SMOOTH {
        let mut centre: Chunk = [0.0; LANES];
        centre[..R].copy_from_slice(&sums(l, &centred));
        // A label without a share has no part in the loss, not even where its probability is 0.
        let hit = if keep == 0.0 { l.splat(0.0) } else { hit };
        l.mul_add(l.splat(keep), hit, l.mul(l.splat(spread), l.load(&centre)))
    } else {
        hit
    };
    let mut loss: Chunk = [0.0; LANES];
    l.store(&mut loss, l.sub(log(l, sum), target));
    let losses = &mut a.losses[first..][..R];
    for r in 0..R {
        losses[r] = if Some(labels[r]) == ignore { 0.0 } else { loss[r] };
    }

    if MODE == SUM {
        return;
    }
    let mut scale: Chunk = [0.0; LANES];
    l.store(&mut scale, l.mul(l.splat(factor), l.div(l.splat(1.0), sum)));
    for r in 0..R {
        if Some(labels[r]) == ignore {
            a.dlogits[(first + r) * classes..][..classes].fill(0.0);
            continue;
        }
        gradient::<L, SMOOTH>(l, RowMut::of(a.dlogits, first + r, classes), scale[r], off);
    }
    // Not at once: a value that was just stored as part of a vector takes its time to come back.
    for r in 0..R {
        if Some(labels[r]) != ignore {
            a.dlogits[(first + r) * classes..][..classes][labels[r] as usize] -= on;
        }
    }
}

/// The gradient of a row but for the label's share: `d = e * scale - off`, over the exponentials `e`.
#[inline(always)]
fn gradient<L: Lanes, const SMOOTH: bool>(l: L, d: RowMut<'_>, scale: f32, off: f32) {
    let (scale, off) = (l.splat(scale), l.splat(-off));
    for quad in d.quads {
        for k in 0..4 {
            let v = scaled::<L, SMOOTH>(l, l.load(&quad[k]), scale, off);
            l.store(&mut quad[k], v);
        }
    }
    for vector in d.whole {
        let v = scaled::<L, SMOOTH>(l, l.load(vector), scale, off);
        l.store(vector, v);
    }
    if !d.rest.is_empty() {
        let v = scaled::<L, SMOOTH>(l, l.load_part(d.rest, scale), scale, off);
        l.store_part(d.rest, v);
    }
}

#[inline(always)]
fn scaled<L: Lanes, const SMOOTH: bool>(l: L, e: L::F, scale: L::F, less: L::F) -> L::F {
    if SMOOTH { l.mul_add(e, scale, less) } else { l.mul(e, scale) }
}

/// The sum of the rows' losses, in the order of a sum over a row.
pub(super) struct Total<'a> {
    pub(super) losses: &'a [f32],
}

impl Kernel for Total<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f32 {
        let x = Row::new(self.losses);
        let zero = l.splat(0.0);
        let mut total = zero;
        for block in x.quads.chunks(BLOCK) {
            let mut sum = zero;
            for q in block {
                sum = l.add(sum, four(l, &[l.load(&q[0]), l.load(&q[1]), l.load(&q[2]), l.load(&q[3])]));
            }
            total = l.add(total, sum);
        }
        let mut last = [zero; 4];
        for k in 0..3 {
            if k < x.whole.len() {
                last[k] = l.load(&x.whole[k]);
            }
        }
        if !x.rest.is_empty() {
            last[3] = l.load_part(x.rest, zero);
        }
        l.sum(l.add(total, four(l, &last)))
    }
}
