//! CPU training kernels in explicit SIMD: **the same bits on every CPU and thread count**, at a speed that is stated
//! against the machine's limit.
//!
//! | module | kernels | limit on data in cache |
//! |---|---|---|
//! | [`matmul`] | products of `f32` or bf16 with bias and activation, packed weights | multipliers |
//! | [`adamw`] | optimizer step: AdamW, Adam (L2), AMSGrad; one tensor or many | square roots, then copy bandwidth |
//! | [`attention`] | scaled dot-product attention, causal or full, forward and backward | multipliers, then exponentials |
//! | [`sgd`], [`lion`] | optimizer steps: SGD with momentum and Nesterov, Lion | copy bandwidth |
//! | [`adafactor`] | optimizer step with a factored second moment | read bandwidth, multipliers |
//! | [`muon`] | optimizer step with orthogonal momentum | multipliers |
//! | [`norm`] | LayerNorm and RMSNorm forward and backward, also with a residual | copy bandwidth |
//! | [`reduce`] | sum, dot product, norm, mean and variance, maximum; many gradients into one | read bandwidth |
//! | [`clip`] | clipping by the global norm, fused with unscaling and AdamW | copy bandwidth |
//! | [`axpy`] | `y += a x`, moving averages, products | copy bandwidth |
//! | [`bf16`] | `f32` to bf16 and back, rounded to the nearest or split exactly | copy bandwidth |
//! | [`softmax`](mod@softmax) | softmax and log-softmax, forward and backward | copy bandwidth; exponentials in L2 |
//! | [`cross_entropy`] | loss of class labels, with the gradient in the same sweep | copy bandwidth; exponentials in L2 |
//! | [`loss`] | MSE, L1, Huber, binary cross-entropy; gradient in the same sweep | copy bandwidth; exponentials |
//! | [`sparse`] | sparse matrix times vector or batch, backward, fused SGD, online SGD over non-zero inputs | read bandwidth, multipliers |
//! | [`dropout`] | dropout forward and backward, its mask recomputed from the element's number | integer operations |
//! | [`embedding`] | embedding forward, with position rows, and backward | copy bandwidth |
//! | [`activation`] | ReLU, SiLU, GELU, sigmoid, tanh, forward and backward; exp, log | copy bandwidth, multipliers |
//! | [`bits`] | zeros and ones in `f32` to bits and back | copy bandwidth |
//! | [`nonzero`] | the few values that are not +0, with their indices | read bandwidth |
//! | [`sumtree`] | draws by weight and sums of a tree with sixteen children to a node | latency of memory, shuffles |
//! | [`convert`] | bytes to `f32`, scaling | copy bandwidth |
//! | [`limits`] | loops that ask for the machine's limits | |
//!
//! # Tiers
//! Each kernel is written once, on a virtual vector of sixteen `f32` lanes, and compiled for the tiers `scalar`, `avx2`,
//! `avx512` and `neon`. The best one that the CPU has is chosen on first use; [`tier`](fn@tier) says which, the
//! environment variable `HOTLANES_TIER` and [`with_tier`] override it. A build for a better CPU (`-C target-cpu=native`,
//! `x86-64-v4`) leaves out the tiers below it; with one left there is nothing to dispatch.
//!
//! ```
//! use hotlanes::adamw::{AdamW, AdamWConfig, AdamWTensor};
//!
//! let adamw = AdamW::new(AdamWConfig { lr: 1e-3, ..Default::default() })?;
//! let (mut param, grad) = (vec![1.0; 1000], vec![0.5; 1000]);
//! let (mut m, mut v) = (vec![0.0; 1000], vec![0.0; 1000]);
//! for step in 1..=10 {
//!     let tensor = AdamWTensor { param: &mut param, grad: &grad, m: &mut m, v: &mut v, v_max: None };
//!     adamw.at(step)?.update(tensor);
//! }
//! assert!(param.iter().all(|p| (p - 0.99).abs() < 1e-3));
//! # Ok::<(), hotlanes::HyperParamError>(())
//! ```
//!
//! # The contract on bits
//! One kernel, one input: the same output bits on every tier, for every thread count, slice offset and cut of the work.
//! A size threshold chooses speed, never bits. Arithmetic is IEEE-754 binary32, rounded to nearest even, each fused
//! multiply-add written as one; root and quotient are correctly rounded; sums run on a fixed number of lanes and are
//! combined by a fixed tree. Where the target lacks a fused multiply-add the scalar tier emulates it exactly. A NaN is a
//! NaN on every tier; its payload is not promised. The default floating-point environment is assumed: no
//! flush-to-zero, rounding to nearest. A change of bits is a change of the format: golden hashes in `tests/bits` pin
//! them, and CHANGELOG.md says when one moves.
//!
//! # Threads
//! With the feature `rayon` (on by default) large calls are cut by their shape into pieces of a fixed size and run on
//! the current rayon pool: `ThreadPool::install` chooses another. Below the thresholds of [`tuning`] a call stays on its
//! own thread. A caller that is not of the pool, such as the main thread, takes a share itself, and since sleeping
//! workers take long to wake, its calls are cut from [`tuning::OUTSIDE`] times the threshold on. No kernel allocates on
//! the heap, but for the first look at CPU and environment, rayon's own queues, and a box of rayon's for each share of
//! a call from outside the pool; scratch is the caller's.
//!
//! # Errors
//! A slice of the wrong length is the programmer's bug and panics with both lengths. Data from outside (hyper-parameters,
//! sparse structures) is checked once, in a constructor whose typed error names the value and the rule.

#![deny(unsafe_code)]

#[cfg(all(target_arch = "x86", not(target_feature = "sse2")))]
compile_error!(
    "hotlanes needs SSE2 on 32-bit x86: x87 arithmetic keeps excess precision, and bits would differ"
);

pub mod activation;
pub mod adafactor;
pub mod adamw;
mod aligned;
pub mod attention;
pub mod axpy;
pub mod bf16;
pub mod bits;
pub mod clip;
// In a build for one CPU multiversion leaves its other versions unused.
#[allow(dead_code)]
pub mod convert;
pub mod cross_entropy;
pub mod dropout;
mod elementwise;
pub mod embedding;
mod error;
// The one room with intrinsics: see CONTRIBUTING.md.
#[allow(unsafe_code)]
mod lanes;
pub mod limits;
pub mod lion;
pub mod loss;
mod math;
pub mod matmul;
pub mod muon;
#[doc(hidden)]
pub mod naive;
pub mod nonzero;
pub mod norm;
mod parallel;
pub mod reduce;
pub mod sgd;
pub mod softmax;
pub mod sparse;
pub mod sumtree;
mod tensors;
mod tier;
pub mod tuning;

/// The version of the bits that the kernels compute. It is raised whenever a golden hash moves: what was recorded with
/// another version is then told as old, and not as wrong.
pub const BITS: u32 = 2;

pub use aligned::AlignedVec;
pub use error::HyperParamError;
pub use lanes::{Index, LANES};
pub use tier::{TIER_ENV, Tier, TierError, tier, try_tier, with_tier};

/// The README's examples run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
