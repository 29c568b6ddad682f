//! Matrix products, with what a layer does to them: bias and activation.
//!
//! ```text
//! c = f(a b)    c = f(a b + bias)    c = f(c + a b)    c = f(c + bias + a b)        f an activation or nothing
//! ```
//!
//! `a` is `[m][k]`, `b` is `[k][n]` and `c` is `[m][n]`, each with a stride between rows; [`Mat::t`] transposes `a` or `b`. So
//! of a linear layer with weights `[out][in]`, as PyTorch keeps them:
//!
//! ```text
//! y  = x W^T + bias      matmul_with(x, w.t(), y, ..)
//! dx = dy W              matmul(dy, w, dx)
//! dW += dy^T x           matmul_with(dy.t(), x, dw, accumulate)
//! ```
//!
//! Operands are `f32`, or bf16 as bits in `u16`; `c` is always `f32`. Nothing is allocated: operands are packed on the stack,
//! of which a call takes up to 0.35 MiB. Weights that are used more than once can be kept packed ([`Packed`]), as f32 or bf16.
//!
//! # Bits and accuracy
//! Each result is one chain of fused multiply-adds over k in ascending order. It starts from zero, `bias`, `c` or their
//! rounded sum. So neither tier, threads, sizes of tiles, strides, transposition nor packing can move a bit. With
//! u = 2^-24 and exact values on the right its error is at most
//!
//! ```text
//! (k + 1) u (sum |a| |b| + |c| + |bias|)
//! ```
//!
//! and that of the activation on top ([`activation`](crate::activation)); bf16 operands are exact in `f32`. All this while
//! nothing overflows or underflows. A NaN or an infinity reaches all results of its row or column, also times zero.
//!
//! # Algorithm
//! Tiles of the result stay in registers; panels of `b` lie in the L1 cache and blocks of `a` in the L2 cache (Goto and van
//! de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008). Where a result is taken up again after a block of
//! k, its chain goes on from `c`; so results go through all of k some columns at a time, which the L2 cache holds. What comes
//! next of a large right operand is asked for meanwhile. A few rows read what was packed panel after panel. Of few rows,
//! columns or steps, the larger operand is not packed but read where it lies; lines of it that lie along k are turned, sixteen
//! by sixteen. A transposed left operand is not packed for few columns either.

use crate::activation::Activation;
use crate::error::check_len;
use crate::lanes::{Half, LANES, Lanes};
use crate::parallel::Shares;
use crate::tier::active;
use crate::tuning;

mod ahead;
mod finish;
mod kernel;
mod mat;
mod pack;
mod packed;
mod reading;
mod thin;
pub(crate) mod tile;

use kernel::{Product, RightOperand};
use mat::Operand;
pub use mat::{Mat, MatMut};
pub use packed::Packed;

/// What the elements of an operand may be: `f32`, or bf16 as the bits in a `u16`.
pub trait Element: Copy + Send + Sync + sealed::Sealed {
    /// Whether values may be read as they are.
    #[doc(hidden)]
    const IS_F32: bool;

    /// Up to sixteen values, at least one; the rest zero.
    #[doc(hidden)]
    #[allow(private_bounds, private_interfaces)]
    fn load<L: Lanes>(l: L, values: &[Self]) -> L::F;

    /// The values as they are, if they are f32.
    #[doc(hidden)]
    fn as_f32(values: &[Self]) -> &[f32];

    /// A matrix as an operand of a kernel.
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn operand(mat: Mat<'_, Self>) -> Operand<'_>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for u16 {}
}

#[allow(private_bounds, private_interfaces)]
impl Element for f32 {
    const IS_F32: bool = true;

    #[inline(always)]
    fn load<L: Lanes>(l: L, values: &[f32]) -> L::F {
        match values.first_chunk::<LANES>() {
            Some(whole) => l.load(whole),
            None => l.load_part(values, l.splat(0.0)),
        }
    }

    #[inline(always)]
    fn as_f32(values: &[f32]) -> &[f32] {
        values
    }

    fn operand(mat: Mat<'_, f32>) -> Operand<'_> {
        Operand::F32(mat)
    }
}

#[allow(private_bounds, private_interfaces)]
impl Element for u16 {
    const IS_F32: bool = false;

    #[inline(always)]
    fn load<L: Lanes>(l: L, values: &[u16]) -> L::F {
        let whole: Option<&Half> = values.first_chunk();
        match whole {
            Some(whole) => l.load_bf16(whole),
            None => l.load_bf16_part(values),
        }
    }

    #[inline(always)]
    fn as_f32(_: &[u16]) -> &[f32] {
        unreachable!("bf16 operands are packed")
    }

    fn operand(mat: Mat<'_, u16>) -> Operand<'_> {
        Operand::Bf16(mat)
    }
}

/// A right operand: a [`Mat`], which is packed on the way, or what was [`Packed`] before. Each converts into this.
#[derive(Clone, Copy, Debug)]
pub enum Right<'a, T = f32> {
    /// A matrix.
    Mat(Mat<'a, T>),
    /// A packed one.
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

/// What is done besides the product; nothing by default.
#[derive(Default)]
pub struct Epilogue<'a> {
    /// Adds to what `c` holds (a beta of 1) instead of overwriting it (a beta of 0, for which not even a NaN in `c` matters).
    pub accumulate: bool,
    /// One value for each column, `[n]`.
    pub bias: Option<&'a [f32]>,
    /// Applied to each result.
    pub activation: Activation,
    /// Receives what the activation is applied to, `[m][n]`, for its backward.
    pub pre_activation: Option<MatMut<'a>>,
}

/// `c = a b`; see the [module](self).
///
/// # Panics
/// If the shapes do not fit.
#[track_caller]
pub fn matmul<'a, T: Element + 'a>(a: Mat<'_, T>, b: impl Into<Right<'a, T>>, c: MatMut<'_>) {
    matmul_with(a, b, c, Epilogue::default());
}

/// `c = f(beta c + a b + bias)`; see the [module](self). Parallel from [`tuning::MATMUL_PARALLEL`] multiplications on
/// (fewer than five rows count as five, and are spread from a quarter of that on inside a pool or while workers are awake).
///
/// # Panics
/// If the shapes do not fit.
#[track_caller]
pub fn matmul_with<'a, T: Element + 'a>(
    a: Mat<'_, T>,
    b: impl Into<Right<'a, T>>,
    c: MatMut<'_>,
    epilogue: Epilogue<'_>,
) {
    let Epilogue { accumulate, bias, activation, pre_activation } = epilogue;
    let (b, (k, n)) = match b.into() {
        Right::Mat(b) => (RightOperand::Mat(T::operand(b)), (b.rows(), b.cols())),
        Right::Packed(b) => (RightOperand::Packed(b, 0), (b.rows(), b.cols())),
    };
    let (m, cols) = (c.rows(), c.cols());
    assert!(
        (a.rows(), a.cols(), n) == (m, k, cols),
        "matmul: {} x {} times {k} x {n} does not give {m} x {cols}",
        a.rows(),
        a.cols()
    );
    if let Some(bias) = bias {
        check_len("matmul", "bias", bias.len(), n, "a row of c");
    }
    let (c, activated) = match pre_activation {
        Some(mut pre) => {
            assert!(
                (pre.rows(), pre.cols()) == (m, n),
                "matmul: pre_activation is {} x {}, the results are {m} x {n}",
                pre.rows(),
                pre.cols()
            );
            let mut c = c;
            if accumulate {
                // The chains go on where they end.
                for i in 0..m {
                    pre.0.row(i).copy_from_slice(c.0.row(i));
                }
            }
            (pre.0, Some(c.0))
        }
        None => (c.0, None),
    };
    if m == 0 || n == 0 {
        return;
    }
    let a = T::operand(a);
    let path = tuning::product_path();
    let work = Product { active: active(), a, b, c, activated, accumulate, bias, activation, path };
    let (least, most) = (tuning::MATMUL_PIECE, tuning::MATMUL_PIECE_MOST);
    // From outside the pool both begin where a sleeping worker is worth waking.
    let (threshold, outside) = if m < kernel::READ_AS {
        (tuning::MATMUL_PARALLEL / tuning::MATMUL_READING, tuning::MATMUL_READING)
    } else {
        (tuning::MATMUL_PARALLEL, 1)
    };
    Shares { per_thread: 2, least, most, outside }.run(work, threshold);
}
