//! Scaled dot-product attention, forward and backward.
//!
//! For each query `q` of a head, with the keys `k` and values `v` that it sees (Vaswani et al., "Attention Is All You Need",
//! arXiv 1706.03762):
//!
//! ```text
//! s = scale q . k        lse = ln(sum over keys of exp(s))        p = exp(s - lse)        out = sum over keys of p v
//! ds = p (dout . v - dout . out)
//! dq = scale sum over keys of ds k        dk = scale sum over queries of ds q        dv = sum over queries of p dout
//! ```
//!
//! A query sees all keys, or if causal those up to its own place, counted from the first of both (PyTorch's `is_causal`).
//! Heads of queries may share those of keys and values: with `g` times as many (grouped-query attention, Ainslie et al.,
//! arXiv 2305.13245), head `h` of the queries reads head `h / g`, and `dk` and `dv` are sums over the `g` heads too.
//!
//! No matrix of scores is kept: a block of queries goes through the keys with a running softmax (Milakov and Gimelshein,
//! arXiv 1805.02867), and the backward finds the weights again from `lse` (Dao et al., "FlashAttention", arXiv 2205.14135).
//!
//! # Accuracy
//! Bounds to first order in u = 2^-24, with exact values on the right, `|...|` the sum of the moduli of a product's terms,
//! `d` the head's size, `n` how many keys the query sees, `b` one and one for each 64 keys, `c` the queries of the heads that
//! share a key:
//!
//! ```text
//! t    = (d + 1) scale |q . k|                         e = t + max(s) - s + 3 b          E = n + sum over keys of p e
//! lse    u L    with L = E + 2 |lse - max(s)| + |lse|
//! out    u O    with O = sum over keys of p |v| (e + E + n + 2)
//! dv     u sum over queries of |dout| p (w + c + 1)    with w = t + L + |s - lse| + 2
//! ds     u D    with D = p ((w + 2) |dout . v - dout . out| + d |dout . v| + (d / 16 + 5) |dout . out| + |dout . O|)
//! dq     u scale sum over keys of |k| (D + (n + 1) |ds|)
//! dk     u scale sum over queries of |q| (D + (c + 1) |ds|)
//! ```
//!
//! Tests come to 0.1 to 0.4 of them. A weight below 2^-126 of the query's largest so far is 0, since arithmetic becomes slow
//! there; so each `p` below 2^-101 counts as that much in the bounds.
//!
//! # Bits
//! Products are chains of fused multiply-adds in order: a score over the head's size, from 0, of `scale * q` (rounded) and
//! `k`; an output and `dq` over the keys; `dk` and `dv` over the heads of a group and their queries. The softmax's maximum
//! moves after every 64 keys. So results depend on shape and data alone, not on tier, threads or how the work was cut.
//!
//! # Not finite
//! A score that is NaN or infinite makes NaN of its query's output and `lse`; minus infinity hides the key, and a query
//! without any other has NaN for output and minus infinity for `lse`. Hidden keys have weight 0, which a value that is NaN
//! or infinite makes NaN: where causal, it may so reach the queries before it, at most 15. Without keys the output is 0.

use crate::error::{HyperParamError, MAX_FACTOR, check_len};
use crate::lanes::Block;
use crate::parallel::Shares;
use crate::tier::active;
use crate::tuning;

mod backward;
mod forward;
mod heads;
#[cfg(test)]
mod tests;
mod tiles;

use backward::{Backward, Inputs};
use forward::Forward;
pub use heads::{Heads, HeadsMut, HeadsShape, Strides};

/// The largest size of a head.
pub const MAX_HEAD_DIM: usize = tiles::MAX_DIM;

/// Attention with heads of one size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    head_dim: usize,
    causal: bool,
    scale: f32,
}

/// What a kernel has to know.
#[derive(Clone, Copy)]
struct Settings {
    causal: bool,
    scale: f32,
    /// Heads of queries for each of keys.
    group: usize,
}

/// How attention is spread over threads.
const SHARES: Shares = Shares {
    per_thread: 4,
    least: tuning::ATTENTION_PIECE,
    most: tuning::ATTENTION_PIECE_MOST,
    outside: tuning::OUTSIDE,
};

impl Attention {
    /// Heads of `head_dim` values, with scale `1 / sqrt(head_dim)`; if `causal`, a query sees no keys after it.
    ///
    /// # Errors
    /// `head_dim` is 0 or above [`MAX_HEAD_DIM`].
    pub fn new(head_dim: usize, causal: bool) -> Result<Self, HyperParamError> {
        let fits = (1..=MAX_HEAD_DIM).contains(&head_dim);
        HyperParamError::check(fits, "head_dim", head_dim as f64, "must be from 1 to 128")?;
        Ok(Attention { head_dim, causal, scale: (1.0 / (head_dim as f64).sqrt()) as f32 })
    }

    /// The same with another scale.
    ///
    /// # Errors
    /// It is not finite, or its modulus is above 1e12.
    pub fn with_scale(self, scale: f64) -> Result<Self, HyperParamError> {
        let fits = scale.abs() <= MAX_FACTOR;
        HyperParamError::check(fits, "scale", scale, "must be from -1e12 to 1e12")?;
        Ok(Attention { scale: scale as f32, ..self })
    }

    /// What scores are multiplied by.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// Attends with the queries `q` to the keys `k` and the values `v`, into `out`, shaped as `q`; and saves each query's
    /// log-sum-exp in `lse` (`[batch][heads][seq]` of the queries) for the backward. Parallel from
    /// [`tuning::ATTENTION_PARALLEL`] multiplications on.
    ///
    /// # Panics
    /// If a shape or a length does not fit.
    #[track_caller]
    pub fn forward(&self, q: Heads<'_>, k: Heads<'_>, v: Heads<'_>, out: HeadsMut<'_>, lse: &mut [f32]) {
        let settings = self.settings("attention forward", &q, &k, &v);
        let shape = q.shape();
        check_shape("attention forward", "out", out.shape(), shape, "q");
        check_len("attention forward", "lse", lse.len(), count(shape), "batch x heads x seq");
        if lse.is_empty() {
            return;
        }
        let rows = shape.batch * shape.heads;
        let lse = Block::new(lse, rows, shape.seq, shape.seq);
        let work = Forward { active: active(), settings, q, k, v, first: [0; 3], out: out.0, lse };
        SHARES.run(work, tuning::ATTENTION_PARALLEL);
    }

    /// From `dout`, the gradient of the output, and what the forward read and wrote: the gradients `dq`, `dk` and `dv`,
    /// shaped as `q`, `k` and `v`, overwritten. Parallel from [`tuning::ATTENTION_PARALLEL`] multiplications on.
    ///
    /// # Panics
    /// If a shape or a length does not fit.
    #[track_caller]
    #[allow(clippy::too_many_arguments)]
    pub fn backward(
        &self,
        dout: Heads<'_>,
        q: Heads<'_>,
        k: Heads<'_>,
        v: Heads<'_>,
        out: Heads<'_>,
        lse: &[f32],
        dq: HeadsMut<'_>,
        dk: HeadsMut<'_>,
        dv: HeadsMut<'_>,
    ) {
        let settings = self.settings("attention backward", &q, &k, &v);
        let (queries, keys) = (q.shape(), k.shape());
        for (name, shape) in [("dout", dout.shape()), ("out", out.shape()), ("dq", dq.shape())] {
            check_shape("attention backward", name, shape, queries, "q");
        }
        for (name, shape) in [("dk", dk.shape()), ("dv", dv.shape())] {
            check_shape("attention backward", name, shape, keys, "k");
        }
        check_len("attention backward", "lse", lse.len(), count(queries), "batch x heads x seq");
        if lse.is_empty() {
            // Their shape may have any number of heads of nothing.
            for d in [dk, dv] {
                d.0.fill_zero();
            }
            return;
        }
        let work = Backward {
            active: active(),
            settings,
            inputs: Inputs { dout, q, k, v, out, lse },
            few_heads: keys.batch * keys.heads < tuning::ATTENTION_FEW_HEADS,
            batch: 0..queries.batch,
            heads: 0..queries.heads,
            queries: 0..queries.seq,
            keys: 0..keys.seq,
            dq: Some(dq.0),
            dkv: Some([dk.0, dv.0]),
        };
        SHARES.run(work, tuning::ATTENTION_PARALLEL);
    }

    /// Checks that queries, keys and values fit each other.
    #[track_caller]
    fn settings(&self, kernel: &str, q: &Heads<'_>, k: &Heads<'_>, v: &Heads<'_>) -> Settings {
        let (queries, keys) = (q.shape(), k.shape());
        check_shape(kernel, "v", v.shape(), keys, "k");
        check_shape(kernel, "q", HeadsShape { dim: self.head_dim, ..queries }, queries, "this head_dim");
        let wanted = HeadsShape { heads: keys.heads, seq: keys.seq, ..queries };
        check_shape(kernel, "k", keys, wanted, "q");
        let group = queries.heads.checked_div(keys.heads).unwrap_or(0);
        assert!(
            group * keys.heads == queries.heads && (group > 0 || keys.heads == 0),
            "{kernel}: {} heads of queries cannot share {} of keys",
            queries.heads,
            keys.heads
        );
        Settings { causal: self.causal, scale: self.scale, group: group.max(1) }
    }
}

/// Rows of a shape.
fn count(shape: HeadsShape) -> usize {
    // Rows lie in memory: only a product with a 0 overflows.
    let size = [shape.batch, shape.heads, shape.seq];
    if size.contains(&0) { 0 } else { size.into_iter().product() }
}

/// Panics with both shapes where they differ.
#[track_caller]
fn check_shape(kernel: &str, name: &str, got: HeadsShape, want: HeadsShape, what: &str) {
    assert!(got == want, "{kernel}: {name} is {got:?}, {what} asks for {want:?}");
}
