//! Matrix products as the nets need them: operands that lie in every way there is, and the chain that each result is.

// Each test crate uses a part of it.
#![allow(dead_code)]

use std::fmt;

use hotlanes::LANES;
use hotlanes::matmul::{Element, Epilogue, Mat, MatMut, Packed, matmul_with};

use crate::common::{Guarded, Rng, SPECIALS};

/// What operands are made of.
pub trait Value: Element + fmt::Debug {
    /// Lies between lines and beyond the last: it would poison any result.
    const NAN: Self;
    /// The nearest.
    fn of(x: f32) -> Self;
    /// Exactly.
    fn wide(self) -> f32;
}

impl Value for f32 {
    const NAN: f32 = f32::NAN;

    fn of(x: f32) -> f32 {
        x
    }

    fn wide(self) -> f32 {
        self
    }
}

/// How an operand lies in memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Layout {
    /// Columns, not rows, are side by side.
    pub transposed: bool,
    /// Values between the end of a line and the next one.
    pub gap: usize,
    /// Values from a cache line's start to the first.
    pub offset: usize,
}

/// An operand to be read.
pub struct Operand<T = f32> {
    buffer: Vec<T>,
    start: usize,
    lines: usize,
    line_len: usize,
    layout: Layout,
}

impl<T: Value> Operand<T> {
    /// `rows` by `cols`, with the values of `dense`, row after row.
    pub fn new(dense: &[f32], rows: usize, cols: usize, layout: Layout) -> Self {
        let (lines, line_len) = if layout.transposed { (cols, rows) } else { (rows, cols) };
        let stride = line_len + layout.gap;
        let mut buffer = vec![T::NAN; 2 * LANES + layout.offset + lines * stride + LANES];
        let aligned = (buffer.as_ptr() as usize).next_multiple_of(64) - buffer.as_ptr() as usize;
        let start = aligned / size_of::<T>() + layout.offset;
        for i in 0..rows {
            for j in 0..cols {
                let at = if layout.transposed { j * stride + i } else { i * stride + j };
                buffer[start + at] = T::of(dense[i * cols + j]);
            }
        }
        Operand { buffer, start, lines, line_len, layout }
    }

    /// The matrix; what it borrows ends with its last line.
    pub fn mat(&self) -> Mat<'_, T> {
        let (lines, line_len, gap) = (self.lines, self.line_len, self.layout.gap);
        let end = (lines * (line_len + gap)).saturating_sub(gap);
        let data = &self.buffer[self.start..self.start + end];
        let mat = if gap == 0 {
            Mat::new(data, lines, line_len)
        } else {
            Mat::with_stride(data, lines, line_len, line_len + gap)
        };
        if self.layout.transposed { mat.t() } else { mat }
    }

    /// The values as they are read, row after row.
    pub fn dense(&self) -> Vec<f32> {
        let stride = self.line_len + self.layout.gap;
        let line = |i| self.buffer[self.start + i * stride..][..self.line_len].iter().map(|x| x.wide());
        if !self.layout.transposed {
            return (0..self.lines).flat_map(line).collect();
        }
        let mut dense = vec![0.0; self.lines * self.line_len];
        for j in 0..self.lines {
            for (i, x) in line(j).enumerate() {
                dense[i * self.lines + j] = x;
            }
        }
        dense
    }
}

/// A product, and what its chains start from.
pub struct Product<T = f32> {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub a: Operand<T>,
    pub b: Operand<T>,
    /// What `c` holds before, if that is added to.
    pub c: Option<Vec<f32>>,
    pub bias: Option<Vec<f32>>,
    /// How `c` lies; never transposed.
    pub layout: Layout,
}

/// What is random about a product besides its values.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice {
    pub a: Layout,
    pub b: Layout,
    pub c: Layout,
    pub accumulate: bool,
    pub bias: bool,
    /// Some values that are not finite, huge or denormal.
    pub special: bool,
}

impl Choice {
    /// Any of them.
    pub fn random(rng: &mut Rng) -> Self {
        let mut layout = |transposed: bool| Layout {
            transposed: transposed && rng.below(2) == 0,
            gap: [0, 0, 1, 5, 16][rng.below(5)],
            offset: rng.below(LANES),
        };
        let (a, b, c) = (layout(true), layout(true), layout(false));
        let mut flag = |of: usize| rng.below(of) == 0;
        Choice { a, b, c, accumulate: flag(2), bias: flag(2), special: flag(4) }
    }
}

impl<T: Value> Product<T> {
    /// Random values of one size, or of all sizes.
    pub fn random(rng: &mut Rng, [m, n, k]: [usize; 3], choice: Choice) -> Self {
        let spread = rng.below(2) == 0;
        let mut values = |len: usize| {
            let mut v = rng.vec(len, |rng| if spread { rng.spread(-8, 8) } else { rng.uniform(-1.0, 1.0) });
            // A few, so that most rows and columns stay of numbers.
            for _ in 0..if choice.special && len > 0 { len / 128 + 1 } else { 0 } {
                v[rng.below(len)] = SPECIALS[rng.below(SPECIALS.len())];
            }
            v
        };
        Product {
            m,
            n,
            k,
            a: Operand::new(&values(m * k), m, k, choice.a),
            b: Operand::new(&values(k * n), k, n, choice.b),
            c: choice.accumulate.then(|| values(m * n)),
            bias: choice.bias.then(|| values(n)),
            layout: choice.c,
        }
    }

    /// What the kernel gives, row after row.
    #[track_caller]
    pub fn run(&self) -> Vec<f32> {
        self.into(|a, c, epilogue| matmul_with(a, self.b.mat(), c, epilogue))
    }

    /// The same with a right operand that is packed before.
    #[track_caller]
    pub fn run_packed(&self) -> Vec<f32> {
        let mut packed = Packed::new(self.k, self.n);
        packed.pack(self.b.mat());
        self.run_with(&packed)
    }

    /// The same with what was packed.
    #[track_caller]
    pub fn run_with(&self, packed: &Packed) -> Vec<f32> {
        self.into(|a, c, epilogue| matmul_with(a, packed, c, epilogue))
    }

    /// Lays `c` out between guards, and looks after what lies around and between its rows.
    #[track_caller]
    fn into(&self, f: impl FnOnce(Mat<'_, T>, MatMut<'_>, Epilogue<'_>)) -> Vec<f32> {
        let (m, n, Layout { gap, offset, .. }) = (self.m, self.n, self.layout);
        let stride = n + gap;
        let len = if m * n == 0 { 0 } else { m * stride - gap };
        // Where nothing is added to, what was there does not matter.
        let mut memory = vec![f32::NAN; len];
        // What lies between the rows, to be told from every other value's.
        let mark = |i: usize| f32::from_bits(0x7FD0_0000 + i as u32);
        for (i, x) in memory.iter_mut().enumerate() {
            if i % stride >= n {
                *x = mark(i);
            } else if let Some(c) = &self.c {
                *x = c[i / stride * n + i % stride];
            }
        }
        let mut c = Guarded::new(offset, &memory);
        let data = c.get_mut();
        let mat = if gap == 0 { MatMut::new(data, m, n) } else { MatMut::with_stride(data, m, n, stride) };
        let epilogue =
            Epilogue { accumulate: self.c.is_some(), bias: self.bias.as_deref(), ..Epilogue::default() };
        f(self.a.mat(), mat, epilogue);
        c.assert_guards(format_args!("{self}"));
        let mut dense = Vec::with_capacity(m * n);
        for (i, &x) in c.get().iter().enumerate() {
            if i % stride < n {
                dense.push(x);
            } else {
                assert_eq!(x.to_bits(), mark(i).to_bits(), "{self}: wrote between rows, at {i}");
            }
        }
        dense
    }

    /// What the chain of result (i, j) starts from.
    pub fn start(&self, i: usize, j: usize) -> f32 {
        match (&self.c, &self.bias) {
            (None, None) => 0.0,
            (None, Some(bias)) => bias[j],
            (Some(c), None) => c[i * self.n + j],
            (Some(c), Some(bias)) => c[i * self.n + j] + bias[j],
        }
    }

    /// The documented arithmetic: each result is one chain of fused multiply-adds over k, in order.
    pub fn chains(&self) -> Vec<f32> {
        let (a, b) = (self.a.dense(), self.b.dense());
        let mut c = vec![0.0f32; self.m * self.n];
        for i in 0..self.m {
            let row = &mut c[i * self.n..][..self.n];
            for (j, x) in row.iter_mut().enumerate() {
                *x = self.start(i, j);
            }
            for (p, &x) in a[i * self.k..][..self.k].iter().enumerate() {
                for (c, &y) in row.iter_mut().zip(&b[p * self.n..][..self.n]) {
                    *c = x.mul_add(y, *c);
                }
            }
        }
        c
    }

    /// Results in f64, and the sums of what each is made of, without signs.
    pub fn exact(&self) -> (Vec<f64>, Vec<f64>) {
        let (a, b) = (self.a.dense(), self.b.dense());
        let (mut sums, mut sizes) = (vec![0.0; self.m * self.n], vec![0.0; self.m * self.n]);
        for i in 0..self.m {
            let at = i * self.n..(i + 1) * self.n;
            let (sums, sizes) = (&mut sums[at.clone()], &mut sizes[at]);
            for j in 0..self.n {
                for start in [self.c.as_ref().map(|c| c[i * self.n + j]), self.bias.as_ref().map(|b| b[j])] {
                    let start = start.unwrap_or(0.0) as f64;
                    sums[j] += start;
                    sizes[j] += start.abs();
                }
                for p in 0..self.k {
                    let product = a[i * self.k + p] as f64 * b[p * self.n + j] as f64;
                    sums[j] += product;
                    sizes[j] += product.abs();
                }
            }
        }
        (sums, sizes)
    }
}

impl<T> fmt::Display for Product<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Product { m, n, k, a, b, c, bias, layout } = self;
        write!(f, "{m} x {n} over {k}, a {:?}, b {:?}, c {layout:?}", a.layout, b.layout)?;
        write!(f, ", accumulate {}, bias {}", c.is_some(), bias.is_some())
    }
}
