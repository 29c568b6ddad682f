//! The backward's second pass: `dx`, and the sums over rows.

use std::array::from_fn;
use std::mem::take;

use super::backward::{Rows, Sums};
use super::fold::{head, row_of};
use super::hat::Hat;
use crate::lanes::{Chunk, LANES, Lanes};

/// A row's coefficients in `dx = dy gamma rstd - c1 - xhat * c2`, and the statistics of its x-hat.
#[derive(Clone, Copy, Default)]
pub(super) struct Coefficients {
    pub(super) mean: f32,
    pub(super) rstd: f32,
    pub(super) shift: f32,
    pub(super) c1: f32,
    pub(super) c2: f32,
}

/// The second pass over `R` rows, column by column, so that the sums over rows are loaded and stored once for all of
/// them; each column's additions go by ascending row all the same.
#[inline(always)]
pub(super) fn write_rows<L: Lanes, const R: usize, const MEAN: bool, const ADD: bool, const LONG: bool>(
    l: L,
    a: &mut Rows<'_, MEAN, ADD>,
    sums: &mut Sums<'_>,
    first: usize,
    c: &[Coefficients],
) {
    let features = a.features;
    let head = if LONG { head(l, a.dx, features) } else { 0 };
    let (dy, x) = (&a.dy[first * features..][..R * features], &a.x[first * features..][..R * features]);
    let dh = if ADD { &a.dh[first * features..][..R * features] } else { dy };
    let dx = &mut a.dx[first * features..][..R * features];
    let mut k = [Splat::<L, MEAN>::new(l, &c[0]); R];
    for r in 1..R {
        k[r] = Splat::new(l, &c[r]);
    }
    let (gamma_head, gamma) = a.gamma[..features].split_at(head);
    let (dgamma_head, dgamma) = sums.dgamma[..features].split_at_mut(head);
    let (dbeta_head, dbeta) = sums.dbeta.split_at_mut(if MEAN { head } else { 0 });
    let (mut columns, mut starts, mut rests) =
        (Columns::<R>::none(), Columns::<R>::none(), Columns::<R>::none());
    let mut left = dx;
    for r in 0..R {
        let row;
        (row, left) = left.split_at_mut(features);
        (starts.dx[r], columns.dx[r]) = row.split_at_mut(head);
        (starts.dy[r], columns.dy[r]) = row_of(dy, r, features).split_at(head);
        (starts.dh[r], columns.dh[r]) = row_of(dh, r, features).split_at(head);
        (starts.x[r], columns.x[r]) = row_of(x, r, features).split_at(head);
    }
    if head > 0 {
        part::<L, R, MEAN, ADD>(l, &k, starts, gamma_head, dgamma_head, dbeta_head);
    }
    let (gamma, gamma_rest) = gamma.as_chunks::<LANES>();
    let (dgamma, dgamma_rest) = dgamma.as_chunks_mut::<LANES>();
    let (dbeta, dbeta_rest) = dbeta.as_chunks_mut::<LANES>();
    let vectors = gamma.len();
    let dgamma = &mut dgamma[..vectors];
    let dbeta = if MEAN { &mut dbeta[..vectors] } else { dbeta };
    let mut xs = [gamma; R];
    let (mut dys, mut dhs) = (xs, xs);
    let mut dxs: [&mut [Chunk]; R] = from_fn(|_| Default::default());
    for r in 0..R {
        (xs[r], rests.x[r]) = columns.x[r].as_chunks();
        (dys[r], rests.dy[r]) = columns.dy[r].as_chunks();
        (dhs[r], rests.dh[r]) = columns.dh[r].as_chunks();
        (dxs[r], rests.dx[r]) = take(&mut columns.dx[r]).as_chunks_mut();
        xs[r] = &xs[r][..vectors];
        dys[r] = &dys[r][..vectors];
        dhs[r] = &dhs[r][..vectors];
        dxs[r] = &mut take(&mut dxs[r])[..vectors];
    }
    let zero = l.splat(0.0);
    for i in 0..vectors {
        let gamma = l.load(&gamma[i]);
        let (mut to_gamma, mut to_beta) = (l.load(&dgamma[i]), zero);
        if MEAN {
            to_beta = l.load(&dbeta[i]);
        }
        // Of long rows all loads before the first store: that holds up the load of another row at the same place of its
        // page.
        let (mut x, mut dy, mut dh) = ([zero; R], [zero; R], [zero; R]);
        for r in 0..R {
            if LONG {
                (x[r], dy[r]) = (l.load(&xs[r][i]), l.load(&dys[r][i]));
                if ADD {
                    dh[r] = l.load(&dhs[r][i]);
                }
            }
        }
        for r in 0..R {
            if !LONG {
                (x[r], dy[r]) = (l.load(&xs[r][i]), l.load(&dys[r][i]));
                if ADD {
                    dh[r] = l.load(&dhs[r][i]);
                }
            }
            let (value, xhat) = k[r].dx(l, x[r], dy[r], gamma);
            to_gamma = l.mul_add(dy[r], xhat, to_gamma);
            if MEAN {
                to_beta = l.add(to_beta, dy[r]);
            }
            x[r] = if ADD { l.add(dh[r], value) } else { value };
            if !LONG {
                l.store(&mut dxs[r][i], x[r]);
            }
        }
        for r in 0..R {
            if LONG {
                l.store(&mut dxs[r][i], x[r]);
            }
        }
        l.store(&mut dgamma[i], to_gamma);
        if MEAN {
            l.store(&mut dbeta[i], to_beta);
        }
    }
    if !gamma_rest.is_empty() {
        part::<L, R, MEAN, ADD>(l, &k, rests, gamma_rest, dgamma_rest, dbeta_rest);
    }
}

/// The same columns of `R` rows.
struct Columns<'a, const R: usize> {
    dy: [&'a [f32]; R],
    dh: [&'a [f32]; R],
    x: [&'a [f32]; R],
    dx: [&'a mut [f32]; R],
}

impl<const R: usize> Columns<'_, R> {
    #[inline(always)]
    fn none() -> Self {
        Columns { dy: [&[]; R], dh: [&[]; R], x: [&[]; R], dx: from_fn(|_| Default::default()) }
    }
}

/// Less than a vector of columns.
#[inline(always)]
fn part<L: Lanes, const R: usize, const MEAN: bool, const ADD: bool>(
    l: L,
    k: &[Splat<L, MEAN>; R],
    a: Columns<'_, R>,
    gamma: &[f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    // One length for all: a tier makes one mask of it.
    let (n, zero) = (gamma.len(), l.splat(0.0));
    let dgamma = &mut dgamma[..n];
    let dbeta = &mut dbeta[..if MEAN { n } else { 0 }];
    let (mut to_gamma, mut to_beta) = (l.load_part(dgamma, zero), zero);
    if MEAN {
        to_beta = l.load_part(dbeta, zero);
    }
    let gamma = l.load_part(gamma, zero);
    for r in 0..R {
        let dy = l.load_part(&a.dy[r][..n], zero);
        let x = l.load_part(&a.x[r][..n], k[r].hat.mean);
        let (mut value, xhat) = k[r].dx(l, x, dy, gamma);
        to_gamma = l.mul_add(dy, xhat, to_gamma);
        if MEAN {
            to_beta = l.add(to_beta, dy);
        }
        if ADD {
            value = l.add(l.load_part(&a.dh[r][..n], zero), value);
        }
        l.store_part(&mut a.dx[r][..n], value);
    }
    l.store_part(dgamma, to_gamma);
    if MEAN {
        l.store_part(dbeta, to_beta);
    }
}

/// A row's coefficients in all lanes.
#[derive(Clone, Copy)]
pub(super) struct Splat<L: Lanes, const MEAN: bool> {
    hat: Hat<L, MEAN>,
    c1: L::F,
    c2: L::F,
}

impl<L: Lanes, const MEAN: bool> Splat<L, MEAN> {
    #[inline(always)]
    pub(super) fn new(l: L, c: &Coefficients) -> Self {
        Splat { hat: Hat::new(l, c.mean, c.rstd, c.shift), c1: l.splat(-c.c1), c2: l.splat(c.c2) }
    }

    /// The gradient of one vector of the input, and its x-hat.
    #[inline(always)]
    pub(super) fn dx(&self, l: L, x: L::F, dy: L::F, gamma: L::F) -> (L::F, L::F) {
        let (xhat, g) = (self.hat.of(l, x), l.mul(dy, gamma));
        let direct = if MEAN { l.mul_add(g, self.hat.rstd, self.c1) } else { l.mul(g, self.hat.rstd) };
        (l.neg_mul_add(xhat, self.c2, direct), xhat)
    }

    /// Of two rows: `yes` where the mask is set.
    #[inline(always)]
    pub(super) fn select(&self, l: L, mask: L::M, yes: &Self) -> Self {
        let mut both = Splat {
            hat: self.hat.select(l, mask, &yes.hat),
            c1: self.c1,
            c2: l.select(mask, yes.c2, self.c2),
        };
        if MEAN {
            both.c1 = l.select(mask, yes.c1, self.c1);
        }
        both
    }
}
