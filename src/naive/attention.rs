//! Attention, a query at a time. Heads are `[queries][dim]` and `[keys][dim]`, one after the other, as many of both.

use super::twins;
use crate::lanes::{Kernel, Lanes, dispatch};
use crate::tier::active;

twins! {
    /// Attention; `scores` (`[keys]`) is scratch.
    attention_forward, attention_forward_auto,
    (q: &[f32], k: &[f32], v: &[f32], queries: usize, keys: usize, dim: usize, causal: bool, scores: &mut [f32],
     out: &mut [f32], lse: &mut [f32]) {
        let scale = 1.0 / (dim as f32).sqrt();
        for (row, ((q, out), lse)) in q.chunks_exact(dim).zip(out.chunks_exact_mut(dim)).zip(lse).enumerate() {
            let head = row / queries * keys * dim..(row / queries + 1) * keys * dim;
            let seen = if causal { keys.min(row % queries + 1) } else { keys };
            let scores = &mut scores[..seen];
            let mut max = f32::NEG_INFINITY;
            for (s, k) in scores.iter_mut().zip(k[head.clone()].chunks_exact(dim)) {
                let mut dot = 0.0;
                for (q, k) in q.iter().zip(k) {
                    dot += q * k;
                }
                *s = scale * dot;
                max = max.max(*s);
            }
            let mut sum = 0.0;
            for s in scores.iter_mut() {
                *s = (*s - max).exp();
                sum += *s;
            }
            out.fill(0.0);
            for (s, v) in scores.iter().zip(v[head].chunks_exact(dim)) {
                for (out, v) in out.iter_mut().zip(v) {
                    *out += s / sum * v;
                }
            }
            *lse = max + sum.ln();
        }
    }
}

twins! {
    /// The gradients of attention, from the output and the log-sum-exp that were saved.
    attention_backward, attention_backward_auto,
    (dout: &[f32], q: &[f32], k: &[f32], v: &[f32], out: &[f32], lse: &[f32], queries: usize, keys: usize, dim: usize,
     causal: bool, dq: &mut [f32], dk: &mut [f32], dv: &mut [f32]) {
        let scale = 1.0 / (dim as f32).sqrt();
        dq.fill(0.0);
        dk.fill(0.0);
        dv.fill(0.0);
        for row in 0..lse.len() {
            let at = row * dim..(row + 1) * dim;
            let (q, dout, out, dq) = (&q[at.clone()], &dout[at.clone()], &out[at.clone()], &mut dq[at]);
            let mut delta = 0.0;
            for (dout, out) in dout.iter().zip(out) {
                delta += dout * out;
            }
            let seen = if causal { keys.min(row % queries + 1) } else { keys };
            for key in row / queries * keys..row / queries * keys + seen {
                let at = key * dim..(key + 1) * dim;
                let (k, v, dk, dv) = (&k[at.clone()], &v[at.clone()], &mut dk[at.clone()], &mut dv[at]);
                let (mut s, mut dp) = (0.0, 0.0);
                for c in 0..dim {
                    s += q[c] * k[c];
                    dp += dout[c] * v[c];
                }
                let p = (scale * s - lse[row]).exp();
                let ds = scale * p * (dp - delta);
                for c in 0..dim {
                    dq[c] += ds * k[c];
                    dk[c] += ds * q[c];
                    dv[c] += p * dout[c];
                }
            }
        }
    }
}
