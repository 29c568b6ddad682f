//! What is done to results whose chains have ended: the activation, and their way to memory.

use super::kernel::{Product, Range};
use crate::activation::Activation;
use crate::activation::functions::{self, Function};
use crate::lanes::{Block, Chunk, Kernel, LANES, Lanes, dispatch};

/// Some rows and columns of the results. Values of them that wait lie row after row, each of whole vectors.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub(super) rows: Range,
    pub(super) cols: Range,
    /// Whether these are rows and columns of the results' transpose.
    pub(super) turned: bool,
}

impl Part {
    /// Vectors of a row.
    #[inline(always)]
    pub(super) fn vectors(self) -> usize {
        self.cols.len.div_ceil(LANES)
    }
}

impl Product<'_> {
    /// Whether there is more to do than to store the results.
    #[inline(always)]
    pub(super) fn finishes(&self) -> bool {
        self.activation != Activation::Identity || self.activated.is_some()
    }

    /// Stores results after the activation, and before it where that is asked for. What waits may be more vectors than the
    /// part's, of any values.
    // One call for all ways of a product, or each would bring its copy along.
    #[inline(never)]
    pub(super) fn finish(&mut self, waiting: &mut [Chunk], part: Part) {
        let (c, activated) = (self.c.reborrow(), self.activated.as_mut().map(Block::reborrow));
        dispatch(self.active, Finish { activation: self.activation, c, activated, waiting, part });
    }
}

/// The end of some results. A kernel of its own, or each way of a product would hold all activations.
struct Finish<'a> {
    activation: Activation,
    c: Block<'a>,
    activated: Option<Block<'a>>,
    waiting: &'a mut [Chunk],
    part: Part,
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        let (waiting, part) = (self.waiting, self.part);
        // First before the activation, if that is asked for: one copy of the code for both.
        let mut before = self.activated.is_some();
        loop {
            let to = match &mut self.activated {
                Some(activated) if !before => activated,
                _ => &mut self.c,
            };
            let activation = if before { Activation::Identity } else { self.activation };
            match activation {
                Activation::Identity => {}
                Activation::Relu => apply::<L, functions::Relu>(l, waiting, to, part),
                Activation::SquaredRelu => apply::<L, functions::SquaredRelu>(l, waiting, to, part),
                Activation::Silu => apply::<L, functions::Silu>(l, waiting, to, part),
                Activation::GeluTanh => apply::<L, functions::GeluTanh>(l, waiting, to, part),
                Activation::GeluErf => apply::<L, functions::GeluErf>(l, waiting, to, part),
                Activation::Sigmoid => apply::<L, functions::Sigmoid>(l, waiting, to, part),
                Activation::Tanh => apply::<L, functions::Tanh>(l, waiting, to, part),
            }
            if part.turned || activation == Activation::Identity {
                put(l, waiting, to, part);
            }
            if !before {
                return;
            }
            before = false;
        }
    }
}

/// Vectors that take each operation together on AVX-512: one has a chain of thirty.
const LOCKSTEP: usize = 4;

/// The results' activation, in place if they have yet to be turned, else on their way to memory: stores and addresses then
/// take the room that the arithmetic leaves.
#[inline(always)]
fn apply<L: Lanes, F: Function>(l: L, waiting: &mut [Chunk], to: &mut Block<'_>, part: Part) {
    let count = part.rows.len * part.vectors();
    let mut at = Place { part, i: 0, q: 0 };
    let mut first = 0;
    if L::WIDE {
        while first < count && first + LOCKSTEP <= waiting.len() {
            let four: &mut [Chunk; LOCKSTEP] = waiting[first..].first_chunk_mut().expect("four are left");
            let v = F::value(l, [l.load(&four[0]), l.load(&four[1]), l.load(&four[2]), l.load(&four[3])]);
            for x in 0..LOCKSTEP {
                if part.turned {
                    l.store(&mut four[x], v[x]);
                } else {
                    at.put(l, to, v[x]);
                }
            }
            first += LOCKSTEP;
        }
    }
    while first < count {
        let x = &mut waiting[first];
        let [v] = F::value(l, [l.load(x)]);
        if part.turned {
            l.store(x, v);
        } else {
            at.put(l, to, v);
        }
        first += 1;
    }
}

/// Where the next vector of a part goes.
struct Place {
    part: Part,
    i: usize,
    q: usize,
}

impl Place {
    /// Stores it there, unless it is beyond the part.
    #[inline(always)]
    fn put<L: Lanes>(&mut self, l: L, to: &mut Block<'_>, v: L::F) {
        let Part { rows, cols, .. } = self.part;
        if self.i == rows.len {
            return;
        }
        let row = &mut to.row(rows.from + self.i)[cols.from..][..cols.len][self.q * LANES..];
        match row.first_chunk_mut() {
            Some(whole) => l.store(whole, v),
            None => l.store_part(row, v),
        }
        self.q += 1;
        if self.q * LANES >= cols.len {
            (self.i, self.q) = (self.i + 1, 0);
        }
    }
}

/// Stores what waits.
#[inline(always)]
fn put<L: Lanes>(l: L, waiting: &[Chunk], block: &mut Block<'_>, part: Part) {
    let (Part { rows, cols, turned }, n) = (part, part.vectors());
    if turned {
        return put_turned(l, waiting, block, part);
    }
    for i in 0..rows.len {
        let to = &mut block.row(rows.from + i)[cols.from..][..cols.len];
        let from = &waiting[i * n..][..n];
        let (whole, rest) = to.as_chunks_mut::<LANES>();
        for (q, to) in whole.iter_mut().enumerate() {
            l.store(to, l.load(&from[q]));
        }
        if !rest.is_empty() {
            l.store_part(rest, l.load(&from[n - 1]));
        }
    }
}

/// The same, lanes to rows.
#[inline(always)]
fn put_turned<L: Lanes>(l: L, waiting: &[Chunk], block: &mut Block<'_>, part: Part) {
    let (Part { rows, cols, .. }, n) = (part, part.vectors());
    for q in 0..n {
        let lanes = (cols.len - q * LANES).min(LANES);
        let first = cols.from + q * LANES;
        if rows.len == 1 {
            for (lane, x) in waiting[q][..lanes].iter().enumerate() {
                block.row(first + lane)[rows.from] = *x;
            }
            continue;
        }
        let mut done = 0;
        while done < rows.len {
            let some = (rows.len - done).min(LANES);
            let mut v = [l.splat(0.0); LANES];
            for i in 0..LANES {
                if i < some {
                    v[i] = l.load(&waiting[(done + i) * n + q]);
                }
            }
            l.transpose(&mut v);
            for i in 0..LANES {
                if i < lanes {
                    let to = &mut block.row(first + i)[rows.from + done..][..some];
                    match to.first_chunk_mut() {
                        Some(to) => l.store(to, v[i]),
                        None => l.store_part(to, v[i]),
                    }
                }
            }
            done += some;
        }
    }
}
