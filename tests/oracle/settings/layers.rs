//! Layers and losses.

use hotlanes::attention::{Attention, Heads, HeadsMut, HeadsShape};
use hotlanes::cross_entropy::{CrossEntropy, Reduction};
use hotlanes::dropout::Dropout;
use hotlanes::norm::{LayerNorm, RmsNorm};

use super::{Outcome, data, walk};

/// Rows that have a scale without an `eps`, if they are long enough, and constant ones.
fn rows(features: usize, eps: f64) -> Vec<f32> {
    let mut x: Vec<f32> =
        (0..4).flat_map(|r| (0..features).map(move |i| (i + r) as f32 * 3.5 - 7.0)).collect();
    if eps == 0.0 {
        // Without a scale their output is NaN, as the documentation says.
        return x;
    }
    for constant in [0.0, 1.0, 0.1, -1e6, 1e-6] {
        x.extend(std::iter::repeat_n(constant, features));
    }
    x
}

fn layernorm(features: usize, eps: f64) -> Outcome {
    let norm = LayerNorm::new(features, eps)?;
    let x = rows(features, eps);
    let (n, size) = (x.len() / features, x.len());
    let (gamma, beta, dy) = (data(features, 1), data(features, 2), data(size, 3));
    let (mut y, mut h, mut mean, mut rstd) = (x.clone(), x.clone(), vec![0.0; n], vec![0.0; n]);
    norm.forward_add(&x, &vec![0.0; size], &gamma, &beta, &mut h, &mut y, &mut mean, &mut rstd);
    let mut all = [&y[..], &h, &mean, &rstd].concat();
    norm.forward(&x, &gamma, &beta, &mut y, &mut mean, &mut rstd);
    let (mut dx, mut dgamma, mut dbeta) = (x.clone(), gamma.clone(), gamma.clone());
    norm.backward(&dy, &x, &gamma, &mean, &rstd, &mut dx, &mut dgamma, &mut dbeta, &mut []);
    all.extend([y, dx, dgamma, dbeta].concat());
    Ok(all)
}

fn rmsnorm(features: usize, eps: f64) -> Outcome {
    let norm = RmsNorm::new(features, eps)?;
    let x = rows(features, eps);
    let (n, size) = (x.len() / features, x.len());
    let (gamma, dy) = (data(features, 1), data(size, 3));
    let (mut y, mut h, mut rstd) = (x.clone(), x.clone(), vec![0.0; n]);
    norm.forward_add(&x, &vec![0.0; size], &gamma, &mut h, &mut y, &mut rstd);
    let mut all = [&y[..], &h, &rstd].concat();
    norm.forward(&x, &gamma, &mut y, &mut rstd);
    let (mut dx, mut dgamma) = (x.clone(), gamma.clone());
    norm.backward(&dy, &x, &gamma, &rstd, &mut dx, &mut dgamma, &mut []);
    all.extend([y, dx, dgamma].concat());
    Ok(all)
}

#[test]
fn norms() {
    for features in [2, 16, 37] {
        let settings: [super::Setting<f64>; 1] = [("eps", |c, x| *c = x)];
        walk("LayerNorm", &1e-5, &settings, |&eps| layernorm(features, eps));
        walk("RMSNorm", &1e-5, &settings, |&eps| rmsnorm(features, eps));
    }
    // A row of one value is constant.
    let settings: [super::Setting<f64>; 1] = [("eps", |c, x| *c = x)];
    walk("LayerNorm of one", &1e-5, &settings, |&eps| {
        layernorm(1, eps).map(|y| if eps == 0.0 { vec![] } else { y })
    });
}

#[test]
fn dropout() {
    walk("Dropout", &0.1, &[("p", |c: &mut f64, x| *c = x)], |&p| {
        let dropout = Dropout::new(p, 7)?;
        let (x, mut y, mut dx) = (data(100, 0), vec![9.0; 100], vec![9.0; 100]);
        dropout.forward(&x, &mut y, 3);
        dropout.backward(&x, &mut dx, u64::MAX - 100);
        Ok([y, dx, vec![dropout.scale(), dropout.keep_probability() as f32]].concat())
    });
}

#[test]
fn losses() {
    for classes in [1, 3, 40] {
        walk("CrossEntropy", &0.1, &[("smoothing", |c: &mut f64, x| *c = x)], |&smoothing| {
            let ce = CrossEntropy::new(classes, smoothing, Some(1000))?;
            let logits = [data(4 * classes, 0), vec![1e6; classes]].concat();
            let labels = [0, classes as u32 - 1, 1000, 0, 0];
            let mut all = vec![];
            for reduction in [Reduction::Mean, Reduction::Sum, Reduction::Scaled(0.0)] {
                let (mut losses, mut d) = (vec![9.0; 5], logits.clone());
                all.push(ce.forward_backward(&logits, &labels, reduction, &mut d, &mut losses).unwrap());
                all.extend([losses, d].concat());
            }
            Ok(all)
        });
        // A probability of 0 costs an infinite loss, wherever the target has a share.
        if classes > 1 {
            walk("a probability of 0", &0.1, &[("smoothing", |c: &mut f64, x| *c = x)], |&smoothing| {
                let ce = CrossEntropy::new(classes, smoothing, None)?;
                let mut logits = data(2 * classes, 0);
                logits[0] = f32::NEG_INFINITY;
                logits[classes] = f32::NEG_INFINITY;
                let (mut losses, mut d) = ([9.0; 2], logits.clone());
                ce.forward_backward(&logits, &[0, 1], Reduction::Sum, &mut d, &mut losses).unwrap();
                assert_eq!(losses[0], f32::INFINITY, "{smoothing}");
                assert_eq!(losses[1] == f32::INFINITY, smoothing > 0.0, "{smoothing}: {}", losses[1]);
                assert!(!losses[1].is_nan());
                Ok(d)
            });
        }
    }
}

#[test]
fn attention() {
    for causal in [false, true] {
        walk("Attention", &0.25, &[("scale", |c: &mut f64, x| *c = x)], |&scale| {
            let attention = Attention::new(18, causal)?.with_scale(scale)?;
            let shape = HeadsShape { batch: 1, heads: 2, seq: 20, dim: 18 };
            let n = 2 * 20 * 18;
            let [q, k, v, dout] = [0, 1, 2, 3].map(|first| data(n, first));
            let (mut out, mut lse) = (vec![9.0; n], vec![9.0; 40]);
            let heads = |x| Heads::new(x, shape);
            attention.forward(heads(&q), heads(&k), heads(&v), HeadsMut::new(&mut out, shape), &mut lse);
            let (mut dq, mut dk, mut dv) = (q.clone(), q.clone(), q.clone());
            let [a, b, c] = [&mut dq, &mut dk, &mut dv].map(|d| HeadsMut::new(d, shape));
            attention.backward(heads(&dout), heads(&q), heads(&k), heads(&v), heads(&out), &lse, a, b, c);
            Ok([out, lse, dq, dk, dv].concat())
        });
    }
}
