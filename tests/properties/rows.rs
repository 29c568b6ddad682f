//! A row's results do not depend on the rows beside it, nor on how many are taken together.

use hotlanes::norm::{LayerNorm, RmsNorm};
use hotlanes::softmax::{log_softmax, log_softmax_backward, softmax, softmax_backward};
use hotlanes::tuning::{NORM_SMALL, SOFTMAX_LONG, SOFTMAX_SMALL};

use crate::common::{Rng, SPECIALS, assert_same, for_each_tier};

const ROWS: usize = 37;

/// A kernel on two matrices of rows of `features`, and its results, a row's after the other's.
type Kernel = fn(&[f32], &[f32], usize) -> Vec<f32>;

fn check(name: &str, features: &[usize], kernel: Kernel) {
    let mut rng = Rng::new(3);
    for &features in features {
        let [mut x, dy] = [(); 2].map(|()| rng.vec(ROWS * features, |rng| rng.spread(-3, 4)));
        for _ in 0..3 {
            x[rng.below(ROWS * features)] = SPECIALS[rng.below(SPECIALS.len())];
        }
        for_each_tier(|tier| {
            let together = kernel(&x, &dy, features);
            let len = together.len() / ROWS;
            for row in 0..ROWS {
                let at = row * features..(row + 1) * features;
                let alone = kernel(&x[at.clone()], &dy[at], features);
                let what = format_args!("{name} on {tier}, row {row} of {features}");
                assert_same(&alone, &together[row * len..][..len], what);
            }
        });
    }
}

/// Calls `f` with an output, and gives that.
fn output(n: usize, f: impl FnOnce(&mut [f32])) -> Vec<f32> {
    let mut out = vec![f32::NAN; n];
    f(&mut out);
    out
}

#[test]
fn of_softmax() {
    let features = [7, 16, SOFTMAX_SMALL, SOFTMAX_SMALL + 1, 300, SOFTMAX_LONG + 1];
    check("softmax", &features, |x, _, n| output(x.len(), |y| softmax(x, n, y)));
    check("log softmax", &features, |x, _, n| output(x.len(), |y| log_softmax(x, n, y)));
    check("softmax backward", &features, |x, dy, n| output(x.len(), |dx| softmax_backward(dy, x, n, dx)));
    check("log softmax backward", &features, |x, dy, n| {
        output(x.len(), |dx| log_softmax_backward(dy, x, n, dx))
    });
}

/// `y`, or `dx` of what it saved.
fn layer_norm(x: &[f32], dy: &[f32], features: usize, backward: bool) -> Vec<f32> {
    let (norm, rows) = (LayerNorm::new(features, 1e-5).unwrap(), x.len() / features);
    let (gamma, beta) = (vec![0.7; features], vec![0.1; features]);
    let [mut mean, mut rstd] = [(); 2].map(|()| vec![f32::NAN; rows]);
    let y = output(x.len(), |y| norm.forward(x, &gamma, &beta, y, &mut mean, &mut rstd));
    if !backward {
        return y;
    }
    let [mut dgamma, mut dbeta] = [(); 2].map(|()| vec![f32::NAN; features]);
    output(x.len(), |dx| norm.backward(dy, x, &gamma, &mean, &rstd, dx, &mut dgamma, &mut dbeta, &mut []))
}

fn rms_norm(x: &[f32], dy: &[f32], features: usize, backward: bool) -> Vec<f32> {
    let (norm, gamma) = (RmsNorm::new(features, 1e-5).unwrap(), vec![0.7; features]);
    let mut rstd = vec![f32::NAN; x.len() / features];
    let y = output(x.len(), |y| norm.forward(x, &gamma, y, &mut rstd));
    if !backward {
        return y;
    }
    let mut dgamma = vec![f32::NAN; features];
    output(x.len(), |dx| norm.backward(dy, x, &gamma, &rstd, dx, &mut dgamma, &mut []))
}

#[test]
fn of_norms() {
    let features = [7, 16, NORM_SMALL, NORM_SMALL + 1, 300];
    check("layernorm", &features, |x, dy, n| layer_norm(x, dy, n, false));
    check("layernorm backward", &features, |x, dy, n| layer_norm(x, dy, n, true));
    check("rmsnorm", &features, |x, dy, n| rms_norm(x, dy, n, false));
    check("rmsnorm backward", &features, |x, dy, n| rms_norm(x, dy, n, true));
}
