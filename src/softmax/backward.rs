//! The backward: a pass for the row's sum, and one that writes `dx` and finds the row in the cache.

use super::rows::{BLOCK, Quad, Row, RowMut, ahead, four, sums};
use crate::lanes::{Kernel, Lanes, dispatch};
use crate::math::exp_flush;
use crate::parallel::Work;
use crate::tier::Active;
use crate::tuning;

/// Some rows of a backward pass: of the softmax, or of its logarithm.
pub(super) struct Backward<'a, const LOG: bool> {
    pub(super) active: Active,
    pub(super) features: usize,
    pub(super) dy: &'a [f32],
    pub(super) y: &'a [f32],
    pub(super) dx: &'a mut [f32],
}

impl<const LOG: bool> Work for Backward<'_, LOG> {
    fn size(&self) -> usize {
        self.dx.len()
    }

    fn split(self) -> Result<(Self, Self), Self> {
        let Some(rows) = super::half(self.dx.len() / self.features) else {
            return Err(self);
        };
        let at = rows * self.features;
        let (dy0, dy1) = self.dy.split_at(at);
        let (y0, y1) = self.y.split_at(at);
        let (dx0, dx1) = self.dx.split_at_mut(at);
        Ok((Backward { dy: dy0, y: y0, dx: dx0, ..self }, Backward { dy: dy1, y: y1, dx: dx1, ..self }))
    }

    fn run(self) {
        dispatch(self.active, self);
    }
}

impl<const LOG: bool> Kernel for Backward<'_, LOG> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        let (rows, mut row) = (self.dx.len() / self.features, 0);
        if self.features <= tuning::SOFTMAX_SMALL {
            while row + 16 <= rows {
                backward_rows::<L, 16, LOG>(l, &mut self, row);
                row += 16;
            }
        }
        while row + 4 <= rows && self.features <= tuning::SOFTMAX_LONG {
            backward_rows::<L, 4, LOG>(l, &mut self, row);
            row += 4;
        }
        while row < rows {
            backward_rows::<L, 1, LOG>(l, &mut self, row);
            row += 1;
        }
    }
}

#[inline(always)]
fn backward_rows<L: Lanes, const R: usize, const LOG: bool>(l: L, a: &mut Backward<'_, LOG>, first: usize) {
    let features = a.features;
    let mut lanes = [l.splat(0.0); R];
    for r in 0..R {
        let (dy, y) = (Row::of(a.dy, first + r, features), Row::of(a.y, first + r, features));
        lanes[r] = sum_row::<L, LOG>(l, dy, y);
    }
    let sum = sums(l, &lanes);
    for r in 0..R {
        let (dy, y) = (Row::of(a.dy, first + r, features), Row::of(a.y, first + r, features));
        let dx = RowMut::of(a.dx, first + r, features);
        write_row::<L, LOG>(l, dy, y, dx, sum[r], ahead(R, features));
    }
}

/// The sum of `dy y`, or of `dy` where `LOG`, by lanes.
#[inline(always)]
fn sum_row<L: Lanes, const LOG: bool>(l: L, dy: Row<'_>, y: Row<'_>) -> L::F {
    let zero = l.splat(0.0);
    let mut total = zero;
    let quads = dy.quads.len();
    let other = &y.quads[..quads];
    let mut i = 0;
    while i < quads {
        let end = quads.min(i + BLOCK);
        let mut sum = zero;
        while i < end {
            sum = l.add(sum, sum_quad::<L, LOG>(l, &dy.quads[i], &other[i]));
            i += 1;
        }
        total = l.add(total, sum);
    }
    let mut last = [zero; 4];
    for k in 0..3 {
        if k < dy.whole.len() {
            last[k] = l.load(&dy.whole[k]);
            if !LOG {
                last[k] = l.mul(last[k], l.load(&y.whole[k]));
            }
        }
    }
    if !dy.rest.is_empty() {
        last[3] = l.load_part(dy.rest, zero);
        if !LOG {
            last[3] = l.mul(last[3], l.load_part(y.rest, zero));
        }
    }
    l.add(total, four(l, &last))
}

#[inline(always)]
fn sum_quad<L: Lanes, const LOG: bool>(l: L, dy: &Quad, y: &Quad) -> L::F {
    let mut v = [l.load(&dy[0]), l.load(&dy[1]), l.load(&dy[2]), l.load(&dy[3])];
    if LOG {
        return four(l, &v);
    }
    for k in 0..2 {
        v[2 * k] = l.mul(v[2 * k], l.load(&y[2 * k]));
        v[2 * k] = l.mul_add(v[2 * k + 1], l.load(&y[2 * k + 1]), v[2 * k]);
    }
    l.add(v[0], v[2])
}

/// `dx = y (dy - sum)`, or `dy - e^y sum` where `LOG`. Asks for the vectors that lie `ahead`.
#[inline(always)]
fn write_row<L: Lanes, const LOG: bool>(
    l: L,
    dy: Row<'_>,
    y: Row<'_>,
    dx: RowMut<'_>,
    sum: f32,
    ahead: usize,
) {
    let (sum, zero) = (l.splat(sum), l.splat(0.0));
    let quads = dx.quads.len();
    let (dyq, yq) = (&dy.quads[..quads], &y.quads[..quads]);
    for i in 0..quads {
        for k in 0..4 {
            l.prefetch(dyq.as_flattened(), 4 * i + k + ahead);
            l.prefetch(yq.as_flattened(), 4 * i + k + ahead);
            l.prefetch(dx.quads.as_flattened(), 4 * i + k + ahead);
        }
        let mut v = [l.load(&yq[i][0]), l.load(&yq[i][1]), l.load(&yq[i][2]), l.load(&yq[i][3])];
        if LOG && L::WIDE {
            v = exp_flush(l, v);
        }
        for k in 0..4 {
            if LOG && !L::WIDE {
                [v[k]] = exp_flush(l, [v[k]]);
            }
            l.store(&mut dx.quads[i][k], derivative::<L, LOG>(l, l.load(&dyq[i][k]), v[k], sum));
        }
    }
    for k in 0..3 {
        if k < dx.whole.len() {
            let v = one::<L, LOG>(l, l.load(&y.whole[k]));
            l.store(&mut dx.whole[k], derivative::<L, LOG>(l, l.load(&dy.whole[k]), v, sum));
        }
    }
    if !dx.rest.is_empty() {
        let v = one::<L, LOG>(l, l.load_part(y.rest, zero));
        l.store_part(dx.rest, derivative::<L, LOG>(l, l.load_part(dy.rest, zero), v, sum));
    }
}

/// The softmax, from what the forward gave.
#[inline(always)]
fn one<L: Lanes, const LOG: bool>(l: L, y: L::F) -> L::F {
    if LOG {
        let [p] = exp_flush(l, [y]);
        p
    } else {
        y
    }
}

#[inline(always)]
fn derivative<L: Lanes, const LOG: bool>(l: L, dy: L::F, p: L::F, sum: L::F) -> L::F {
    if LOG { l.neg_mul_add(p, sum, dy) } else { l.mul(p, l.sub(dy, sum)) }
}
