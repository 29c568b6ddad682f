//! Both gradients of a batch in one sweep by source: the source's activations stay in registers, each destination's
//! gradient is loaded once for both results, and values are reached through their slots. For a tier whose registers
//! hold all this.

use super::example::gather;
use super::plan::{BLOCK, Plan};
use crate::lanes::{GatherBlock, Kernel, LANES, Lanes, Lookup, Rows, Slots, dispatch};
use crate::parallel::{Work, middle};
use crate::tier::Active;

/// The values of some sources' connections.
pub(super) struct Values<'a> {
    /// All values by slot, where they are only read.
    pub(super) from: Option<Lookup<'a, u32, 1>>,
    pub(super) to: To<'a>,
}

/// What becomes of the gradient of the values.
pub(super) enum To<'a> {
    /// It is written.
    Gradient(Slots<'a>),
    /// The values, read through here too, step against it by this learning rate.
    Sgd(Slots<'a>, f32),
}

impl<'a> To<'a> {
    fn split_at(self, k: usize) -> (To<'a>, To<'a>) {
        match self {
            To::Gradient(slots) => {
                let (a, b) = slots.split_at(k);
                (To::Gradient(a), To::Gradient(b))
            }
            To::Sgd(slots, lr) => {
                let (a, b) = slots.split_at(k);
                (To::Sgd(a, lr), To::Sgd(b, lr))
            }
        }
    }
}

impl Values<'_> {
    /// The `n` values of the connections from `k` on, which are `k - base` in the part at hand.
    #[inline(always)]
    fn block(&self, k: usize, base: usize, n: usize) -> GatherBlock<'_, u32> {
        match (&self.to, self.from) {
            (To::Sgd(slots, _), _) => slots.block(k - base, n),
            (_, Some(from)) => from.block(k, n),
            (_, None) => unreachable!("values that are only read have a table"),
        }
    }

    /// Takes the gradient `dv` of the `n` connections from `k` of the part at hand.
    #[inline(always)]
    fn take<L: Lanes, const GATHER: bool>(&mut self, l: L, k: usize, n: usize, dv: L::F) {
        let mut out = [0.0; LANES];
        let slots = match &mut self.to {
            To::Gradient(slots) => {
                l.store(&mut out, dv);
                slots
            }
            To::Sgd(slots, lr) => {
                let w = gather::<L, u32, GATHER>(l, slots.block(k, n));
                l.store(&mut out, l.neg_mul_add(l.splat(*lr), dv, w));
                slots
            }
        };
        // Said for a whole block, so that the loop has no end to look for.
        if n == LANES { slots.set(k, &out) } else { slots.set(k, &out[..n]) }
    }
}

/// Some sources.
pub(super) struct Both<'a> {
    pub(super) active: Active,
    pub(super) plan: &'a Plan,
    /// Position in the plan's order of the first source, which `dx` and the values start with.
    pub(super) first: usize,
    pub(super) sources: usize,
    pub(super) batch: usize,
    pub(super) gather: bool,
    pub(super) x: &'a [f32],
    pub(super) dy: &'a [f32],
    pub(super) dx: Slots<'a>,
    pub(super) values: Values<'a>,
}

impl Work for Both<'_> {
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
        let second = self.first + middle;
        let (dx0, dx1) = self.dx.split_at(middle);
        let (to0, to1) = self.values.to.split_at(self.plan.indptr[second] - self.plan.indptr[self.first]);
        let from = self.values.from;
        Ok((
            Both { sources: middle, dx: dx0, values: Values { from, to: to0 }, ..self },
            Both {
                first: second,
                sources: self.sources - middle,
                dx: dx1,
                values: Values { from, to: to1 },
                ..self
            },
        ))
    }

    fn run(self) {
        dispatch(self.active, self);
    }
}

impl Kernel for Both<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        if self.gather { examples::<L, true>(l, self) } else { examples::<L, false>(l, self) }
    }
}

/// A batch. Connections of a source in blocks of sixteen, each block over all tiles of examples: so the gradients of
/// its values are whole when they are taken, and an SGD step cannot reach another tile's `dx`.
#[inline(always)]
fn examples<L: Lanes, const GATHER: bool>(l: L, mut a: Both<'_>) {
    let (plan, batch) = (a.plan, a.batch);
    let base = plan.indptr[a.first];
    let dy = plan.destinations.rows(a.dy, batch);
    for source in 0..a.sources {
        let at = plan.indptr[a.first + source]..plan.indptr[a.first + source + 1];
        let x = &a.x[plan.sources.as_list().as_slice()[a.first + source] as usize * batch..][..batch];
        let dx = a.dx.row(source);
        if at.is_empty() {
            dx.fill(0.0);
        }
        let mut k = at.start;
        while k < at.end {
            let n = LANES.min(at.end - k);
            let w = a.values.block(k, base, n);
            let block = Block { first: k == at.start, n, w, dy: dy.range(k..k + n) };
            let mut dv = l.splat(0.0);
            let mut e = 0;
            while e + 2 * LANES <= batch {
                let tile = block.whole::<L, 2, 32>(l, &x[e..], dx, e);
                dv = l.add(dv, tile);
                e += 2 * LANES;
            }
            if e + LANES <= batch {
                let tile = block.whole::<L, 1, 16>(l, &x[e..], dx, e);
                dv = l.add(dv, tile);
                e += LANES;
            }
            if e < batch {
                let tile = block.part::<L>(l, &x[e..], dx, e);
                dv = l.add(dv, tile);
            }
            a.values.take::<L, GATHER>(l, k - base, n, dv);
            k += n;
        }
    }
}

/// Up to sixteen connections of one source.
struct Block<'a> {
    /// Whether they are the source's first.
    first: bool,
    n: usize,
    w: GatherBlock<'a, u32>,
    /// Their destinations' gradients.
    dy: Rows<'a, u32>,
}

/// A turn for each of sixteen connections, by name: an index that is only known at run time would put accumulators and
/// products into memory, and LLVM does not unroll a loop this long.
macro_rules! sixteen_turns {
    ($turn:ident) => {
        $turn!(0);
        $turn!(1);
        $turn!(2);
        $turn!(3);
        $turn!(4);
        $turn!(5);
        $turn!(6);
        $turn!(7);
        $turn!(8);
        $turn!(9);
        $turn!(10);
        $turn!(11);
        $turn!(12);
        $turn!(13);
        $turn!(14);
        $turn!(15);
    };
}

impl Block<'_> {
    /// `T` vectors of examples, `W = 16 T`, from example `e` on. Adds to the source's `dx` and returns the sums of the
    /// connections' products.
    #[inline(always)]
    fn whole<L: Lanes, const T: usize, const W: usize>(
        &self,
        l: L,
        x: &[f32],
        dx: &mut [f32],
        e: usize,
    ) -> L::F {
        let (from, _) = x[..W].as_chunks::<LANES>();
        let mut x = [l.splat(0.0); T];
        for t in 0..T {
            x[t] = l.load(&from[t]);
        }
        let mut acc = [[l.splat(0.0); T]; 2];
        let mut products = [l.splat(0.0); LANES];
        macro_rules! turn {
            ($i:literal) => {
                if $i < self.n {
                    products[$i] =
                        turn::<L, T, W>(l, self.w.get($i), &self.dy.row($i)[e..], &x, &mut acc[$i % 2]);
                }
            };
        }
        sixteen_turns!(turn);
        let (dx, _) = dx[e..][..W].as_chunks_mut::<LANES>();
        for t in 0..T {
            let sum = l.add(acc[0][t], acc[1][t]);
            let sum = if self.first { sum } else { l.add(l.load(&dx[t]), sum) };
            l.store(&mut dx[t], sum);
        }
        l.sum16(&products)
    }

    /// The last examples, fewer than sixteen: partial loads and stores, the same order of additions.
    #[inline(always)]
    fn part<L: Lanes>(&self, l: L, x: &[f32], dx: &mut [f32], e: usize) -> L::F {
        let zero = l.splat(0.0);
        let x = l.load_part(x, zero);
        let mut acc = [zero; 2];
        let mut products = [zero; LANES];
        for i in 0..self.n {
            let dy = l.load_part(&self.dy.row(i)[e..], zero);
            products[i] = l.mul(x, dy);
            acc[i % 2] = l.mul_add(l.splat(self.w.get(i)), dy, acc[i % 2]);
        }
        let dx = &mut dx[e..];
        let sum = l.add(acc[0], acc[1]);
        let sum = if self.first { sum } else { l.add(l.load_part(dx, zero), sum) };
        l.store_part(dx, sum);
        l.sum16(&products)
    }
}

/// One connection over one tile: adds to `dx`'s accumulator and returns the product for `dvalues`, in which all the
/// tile's vectors are one.
#[inline(always)]
fn turn<L: Lanes, const T: usize, const W: usize>(
    l: L,
    w: f32,
    dy: &[f32],
    x: &[L::F; T],
    acc: &mut [L::F; T],
) -> L::F {
    let (from, _) = dy[..W].as_chunks::<LANES>();
    let mut dy = *x;
    for t in 0..T {
        dy[t] = l.load(&from[t]);
    }
    let w = l.splat(w);
    for t in 0..T {
        acc[t] = l.mul_add(w, dy[t], acc[t]);
    }
    let mut product = l.mul(x[0], dy[0]);
    for t in 1..T {
        product = l.mul_add(x[t], dy[t], product);
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparse::Csr;
    use crate::tier::active;

    /// A cut inside a block costs time, which no test of results sees.
    #[test]
    fn pieces_start_where_blocks_do() {
        for (sources, first) in
            [(2, 1), (BLOCK, BLOCK / 2), (BLOCK + 1, BLOCK), (2 * BLOCK + 44, BLOCK), (5 * BLOCK, 3 * BLOCK)]
        {
            // One destination, which sees each source.
            let indices = (0..sources as u32).collect();
            let csr = Csr::new(1, sources, vec![0, sources], indices, vec![0.0; sources]).unwrap();
            let plan = Plan::new(&csr);
            let (mut dx, mut dvalues) = (vec![0.0; sources], vec![0.0; sources]);
            let to = To::Gradient(plan.slots.slots(&mut dvalues, 1));
            let work = Both {
                active: active(),
                plan: &plan,
                first: 0,
                sources,
                batch: 1,
                gather: false,
                x: &[],
                dy: &[],
                dx: plan.sources.slots(&mut dx, 1),
                values: Values { from: None, to },
            };
            let Ok((a, b)) = work.split() else { panic!("{sources} sources were not cut") };
            assert_eq!((a.first, a.sources, b.first, b.sources), (0, first, first, sources - first));
        }
    }
}
