//! Matrix products.

use crate::activation::Activation;
use crate::error::check_len;
use crate::lanes::{Chunk, Kernel, LANES, Lanes, dispatch};
use crate::parallel;
use crate::tier::active;
use crate::tuning;

mod kernel;
mod mat;
mod pack;
pub(crate) mod tile;

use kernel::{Product, RightOperand};
pub use mat::{Mat, MatMut};
use pack::pack;

/// What the elements of an operand may be: `f32`, or bf16 as the bits in a `u16`.
pub trait Element: Copy + Send + Sync + sealed::Sealed {
    /// Up to sixteen values, the rest zero.
    #[doc(hidden)]
    #[allow(private_bounds, private_interfaces)]
    fn load<L: Lanes>(l: L, values: &[Self]) -> L::F;

    /// Whether values may be read as they are.
    #[doc(hidden)]
    const IS_F32: bool;

    /// One value.
    #[doc(hidden)]
    fn to_f32(self) -> f32;

    /// The values as they are, if they are f32.
    #[doc(hidden)]
    fn as_f32(values: &[Self]) -> &[f32];
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for u16 {}
}

#[allow(private_bounds, private_interfaces)]
impl Element for f32 {
    #[inline(always)]
    fn load<L: Lanes>(l: L, values: &[f32]) -> L::F {
        match values.first_chunk() {
            Some(whole) if values.len() == LANES => l.load(whole),
            _ => l.load_part(values, l.splat(0.0)),
        }
    }

    const IS_F32: bool = true;

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline(always)]
    fn as_f32(values: &[f32]) -> &[f32] {
        values
    }
}

/// A right operand that was packed, to be used many times.
#[derive(Clone, Debug)]
pub struct Packed {
    rows: usize,
    cols: usize,
    vectors: Box<[Chunk]>,
}

impl Packed {
    /// Room for an operand of `rows` by `cols`, of zeros.
    pub fn new(rows: usize, cols: usize) -> Self {
        Packed { rows, cols, vectors: vec![[0.0; LANES]; cols.div_ceil(LANES) * rows].into_boxed_slice() }
    }

    /// Panel `q`: sixteen columns of all rows.
    #[inline(always)]
    fn panel(&self, q: usize) -> &[Chunk] {
        &self.vectors[q * self.rows..][..self.rows]
    }

    /// Packs a matrix.
    #[track_caller]
    pub fn pack<T: Element>(&mut self, b: Mat<'_, T>) {
        assert!(b.rows() == self.rows && b.cols() == self.cols, "shape");
        if self.rows > 0 {
            dispatch(active(), Pack { b, vectors: &mut self.vectors });
        }
    }
}

/// Packs all panels.
struct Pack<'a, T> {
    b: Mat<'a, T>,
    vectors: &'a mut [Chunk],
}

impl<T: Element> Kernel for Pack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let k = self.b.rows();
        for (q, mut panel) in self.vectors.chunks_exact_mut(k).enumerate() {
            pack(l, self.b, (0, k), (q * LANES, 1), &mut panel);
        }
    }
}

/// A right operand.
pub enum Right<'a, T = f32> {
    /// to be packed on the way
    Mat(Mat<'a, T>),
    /// packed before
    Packed(&'a Packed),
}

impl<'a, T> From<Mat<'a, T>> for Right<'a, T> {
    fn from(b: Mat<'a, T>) -> Self {
        Right::Mat(b)
    }
}

impl<'a, T> From<&'a Packed> for Right<'a, T> {
    fn from(b: &'a Packed) -> Self {
        Right::Packed(b)
    }
}

/// What is done besides the product.
#[derive(Default)]
pub struct Epilogue<'a> {
    /// add to `c`
    pub accumulate: bool,
    /// one for each column
    pub bias: Option<&'a [f32]>,
    /// applied at the end
    pub activation: Activation,
    /// receives what the activation is applied to
    pub pre_activation: Option<MatMut<'a>>,
}

/// `c = a b`
#[track_caller]
pub fn matmul<'a, T: Element>(a: Mat<'_, T>, b: impl Into<Right<'a, T>>, c: MatMut<'_>)
where
    T: 'a,
{
    matmul_with(a, b, c, Epilogue::default());
}

/// `c = f(beta c + a b + bias)`
#[track_caller]
pub fn matmul_with<'a, T: Element + 'a>(
    a: Mat<'_, T>,
    b: impl Into<Right<'a, T>>,
    c: MatMut<'_>,
    e: Epilogue<'_>,
) {
    let b = b.into();
    let (k, n) = match &b {
        Right::Mat(b) => (b.rows(), b.cols()),
        Right::Packed(b) => (b.rows, b.cols),
    };
    let (m, cols) = (c.rows(), c.cols());
    assert!(a.rows() == m && a.cols() == k && n == cols, "shapes");
    if let Some(bias) = e.bias {
        check_len("matmul", "bias", bias.len(), n, "a row");
    }
    let b = match b {
        Right::Mat(b) => RightOperand::Mat(b),
        Right::Packed(b) => RightOperand::Packed(b, 0),
    };
    let (c, activated) = match e.pre_activation {
        Some(pre) => (pre.0, Some(c.0)),
        None => (c.0, None),
    };
    let work = Product {
        active: active(),
        a,
        b,
        c,
        activated,
        accumulate: e.accumulate,
        bias: e.bias,
        activation: e.activation,
    };
    parallel::run(work, tuning::MATMUL_PARALLEL, tuning::MATMUL_PIECE);
}
