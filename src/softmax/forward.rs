//! The forward: a pass for the maximum, one for the exponentials and their sum, one that divides or subtracts.

use super::rows::{IN_PLACE, Row, RowMut, SUM, WRITE, ahead, exp_row, largest, max_row, sums};
use crate::lanes::{Chunk, Kernel, LANES, Lanes, dispatch};
use crate::math::log;
use crate::parallel::Work;
use crate::tier::Active;
use crate::tuning;

/// The softmax of `x`.
pub(super) const SOFTMAX: u8 = 0;
/// The softmax of `y`, over it; `x` is empty.
pub(super) const OVER: u8 = 1;
/// The logarithm of the softmax of `x`.
pub(super) const LOG: u8 = 2;

/// Some rows of a forward pass.
pub(super) struct Forward<'a, const FORM: u8> {
    pub(super) active: Active,
    pub(super) features: usize,
    pub(super) x: &'a [f32],
    pub(super) y: &'a mut [f32],
}

impl<const FORM: u8> Work for Forward<'_, FORM> {
    fn size(&self) -> usize {
        self.y.len()
    }

    fn split(self) -> Result<(Self, Self), Self> {
        let Some(rows) = super::half(self.y.len() / self.features) else {
            return Err(self);
        };
        let at = rows * self.features;
        let (x0, x1) = self.x.split_at(if FORM == OVER { 0 } else { at });
        let (y0, y1) = self.y.split_at_mut(at);
        Ok((Forward { x: x0, y: y0, ..self }, Forward { x: x1, y: y1, ..self }))
    }

    fn run(self) {
        dispatch(self.active, self);
    }
}

impl<const FORM: u8> Kernel for Forward<'_, FORM> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        let (rows, mut row) = (self.y.len() / self.features, 0);
        if self.features <= tuning::SOFTMAX_SMALL {
            while row + 16 <= rows {
                forward_rows::<L, 16, FORM>(l, &mut self, row);
                row += 16;
            }
        }
        while row + 4 <= rows && self.features <= tuning::SOFTMAX_LONG {
            forward_rows::<L, 4, FORM>(l, &mut self, row);
            row += 4;
        }
        while row < rows {
            forward_rows::<L, 1, FORM>(l, &mut self, row);
            row += 1;
        }
    }
}

/// `R` rows together: their horizontal maxima and sums wait for each other's latency, and sixteen are transposed at once.
#[inline(always)]
fn forward_rows<L: Lanes, const R: usize, const FORM: u8>(l: L, a: &mut Forward<'_, FORM>, first: usize) {
    let features = a.features;
    let mut lanes = [l.splat(0.0); R];
    for r in 0..R {
        let x: &[f32] = if FORM == OVER { a.y } else { a.x };
        lanes[r] = max_row(l, Row::of(x, first + r, features));
    }
    let max = largest(l, &lanes);
    for r in 0..R {
        let x = if FORM == OVER { Row::new(&[]) } else { Row::of(a.x, first + r, features) };
        let (y, ahead) = (RowMut::of(a.y, first + r, features), ahead(R, features));
        [lanes[r], _] = match FORM {
            SOFTMAX => exp_row::<L, WRITE, false>(l, x, y, max[r], ahead),
            OVER => exp_row::<L, IN_PLACE, false>(l, x, y, max[r], ahead),
            _ => exp_row::<L, SUM, false>(l, x, y, max[r], ahead),
        };
    }
    let mut sum: Chunk = [1.0; LANES];
    sum[..R].copy_from_slice(&sums(l, &lanes));
    let v = l.load(&sum);
    l.store(&mut sum, if FORM == LOG { log(l, v) } else { l.div(l.splat(1.0), v) });
    for r in 0..R {
        let y = RowMut::of(a.y, first + r, features);
        if FORM == LOG {
            subtract(l, Row::of(a.x, first + r, features), y, max[r], sum[r]);
        } else {
            multiply(l, y, sum[r]);
        }
    }
}

/// `y *= factor`
#[inline(always)]
fn multiply<L: Lanes>(l: L, y: RowMut<'_>, factor: f32) {
    let factor = l.splat(factor);
    for quad in y.quads {
        for k in 0..4 {
            let v = l.mul(l.load(&quad[k]), factor);
            l.store(&mut quad[k], v);
        }
    }
    for v in y.whole {
        let p = l.mul(l.load(v), factor);
        l.store(v, p);
    }
    if !y.rest.is_empty() {
        let v = l.mul(l.load_part(y.rest, factor), factor);
        l.store_part(y.rest, v);
    }
}

/// `y = (x - max) - log_sum`
#[inline(always)]
fn subtract<L: Lanes>(l: L, x: Row<'_>, y: RowMut<'_>, max: f32, log_sum: f32) {
    let (max, log_sum) = (l.splat(max), l.splat(log_sum));
    let quads = y.quads.len();
    let from = &x.quads[..quads];
    for i in 0..quads {
        for k in 0..4 {
            l.store(&mut y.quads[i][k], l.sub(l.sub(l.load(&from[i][k]), max), log_sum));
        }
    }
    let whole = y.whole.len();
    let from = &x.whole[..whole];
    for i in 0..whole {
        l.store(&mut y.whole[i], l.sub(l.sub(l.load(&from[i]), max), log_sum));
    }
    if !y.rest.is_empty() {
        l.store_part(y.rest, l.sub(l.sub(l.load_part(x.rest, max), max), log_sum));
    }
}
