//! Softmax and its logarithm against the formulas of their documentation, in f64.

use hotlanes::softmax::{log_softmax, log_softmax_backward, softmax, softmax_backward, softmax_in_place};

use crate::common::{Rng, assert_same, for_each_tier};

/// Half the distance from 1 to the next f32.
pub const U: f64 = 1.0 / (1 << 24) as f64;
/// 2^-149 and 2^-126.
const TINY: [f64; 2] = [f32::MIN_POSITIVE as f64 / (1 << 23) as f64, f32::MIN_POSITIVE as f64];

/// A row's maximum, the sum of its exponentials, and its softmax.
pub struct Row {
    pub max: f64,
    pub sum: f64,
    pub p: Vec<f64>,
}

pub fn row(x: &[f64]) -> Row {
    let max = x.iter().fold(f64::NEG_INFINITY, |a, &x| a.max(x));
    let sum = x.iter().map(|x| (x - max).exp()).sum::<f64>();
    Row { max, sum, p: x.iter().map(|x| (x - max).exp() / sum).collect() }
}

pub fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| x as f64).collect()
}

/// The roundings of a sum over a row, as documented.
pub fn levels(n: usize) -> f64 {
    n.min(4096) as f64 / 64.0 + n as f64 / 4096.0 + 9.0
}

/// An error over its bound; where nothing may be lost nothing must be, and NaN is infinitely far.
pub fn ratio(got: f32, want: f64, bound: f64) -> f64 {
    let error = (got as f64 - want).abs();
    let ratio = if error == 0.0 { 0.0 } else { error / bound };
    if ratio.is_nan() { f64::INFINITY } else { ratio }
}

/// Makes the logits of one row.
pub type Kind = fn(&mut Rng, usize) -> Vec<f32>;

pub const KINDS: [Kind; 7] = [
    |rng, n| rng.vec(n, |rng| rng.normal()),
    |rng, n| rng.vec(n, |rng| 1e4 + 5.0 * rng.normal()),
    // Over the whole range in which an exponential is no zero.
    |rng, n| rng.vec(n, |rng| rng.uniform(-100.0, 0.0)),
    |rng, n| rng.vec(n, |rng| rng.spread(-10, 10)),
    |rng, n| vec![rng.uniform(-9.0, 9.0); n],
    // All but one alike: the roundings of the sum go one way.
    |rng, n| {
        let mut x = vec![rng.uniform(-2.0, -0.1); n];
        x[n / 2] = 0.0;
        x
    },
    |rng, n| {
        let mut x = rng.vec(n, |rng| rng.normal());
        x[n / 3] = f32::NEG_INFINITY;
        x[n / 2] = 30.0;
        x
    },
];

/// Every count of features around vectors, quads and blocks.
pub fn shapes() -> Vec<(usize, usize)> {
    let mut shapes = vec![];
    for features in (1..=34).chain(62..=66).chain(126..=130) {
        shapes.extend([1, 4, 21].map(|rows| (features, rows)));
    }
    shapes.extend([512, 1000, 1025, 4095, 4096, 4097, 4160, 8200, 20_000].map(|features| (features, 7)));
    shapes
}

pub fn matrix(rng: &mut Rng, features: usize, rows: usize) -> Vec<f32> {
    (0..rows).flat_map(|r| KINDS[r % KINDS.len()](rng, features)).collect()
}

const NAMES: [&str; 4] = ["y", "dx", "log y", "log dx"];

/// The largest error of each output over its bound.
fn errors(n: usize, x: &[f32], dy: &[f32]) -> [f64; 4] {
    let mut out: [Vec<f32>; 4] = std::array::from_fn(|_| vec![f32::NAN; x.len()]);
    let [y, dx, log, dlog] = &mut out;
    softmax(x, n, y);
    softmax_backward(dy, y, n, dx);
    log_softmax(x, n, log);
    log_softmax_backward(dy, log, n, dlog);
    let mut over = x.to_vec();
    softmax_in_place(&mut over, n);
    assert_same(&over, y, "in place");

    let (l, ln) = (levels(n), (n as f64).ln());
    let mut worst = [0.0; 4];
    let mut see = |k: usize, ratio: f64| worst[k] = f64::max(worst[k], ratio);
    for at in (0..x.len()).step_by(n).map(|i| i..i + n) {
        let (x, dy) = (wide(&x[at.clone()]), wide(&dy[at.clone()]));
        let exact = row(&x);
        let (y, log) = (wide(&out[0][at.clone()]), wide(&out[2][at.clone()]));
        let t: f64 = y.iter().zip(&dy).map(|(y, d)| y * d).sum();
        let t_size: f64 = y.iter().zip(&dy).map(|(y, d)| (y * d).abs()).sum();
        let (sum, sum_size) = (dy.iter().sum::<f64>(), dy.iter().map(|d| d.abs()).sum::<f64>());
        for i in 0..n {
            let d = exact.max - x[i];
            if d == f64::INFINITY {
                assert_eq!((y[i], log[i]), (0.0, f64::NEG_INFINITY));
                continue;
            }
            let got = |k: usize| out[k][at.start + i];
            see(0, ratio(got(0), exact.p[i], U * (d + ln + l) * exact.p[i] + TINY[1]));
            let want = -d - exact.sum.ln();
            see(2, ratio(got(2), want, U * (d + 3.0 * want.abs() + ln + l)));
            let bound = U * y[i] * (2.0 * dy[i].abs() + 2.0 * t.abs() + (l + 1.0) * t_size) + TINY[0];
            see(1, ratio(got(1), y[i] * (dy[i] - t), bound));
            let e = log[i].exp();
            let bound = U * (2.0 * dy[i].abs() + e * ((l + 1.0) * sum_size + 2.0 * sum.abs()));
            see(3, ratio(got(3), dy[i] - e * sum, bound + TINY[1] * sum.abs()));
        }
    }
    worst
}

#[test]
fn everything_is_within_its_bound() {
    let mut rng = Rng::new(1);
    let mut worst = [(0.0, (0, 0)); 4];
    for (features, rows) in shapes() {
        let x = matrix(&mut rng, features, rows);
        let same = rng.uniform(0.5, 1.0);
        let plain = rng.below(3);
        let dy = rng.vec(x.len(), |rng| [rng.normal(), rng.spread(-8, 4), same][plain]);
        for_each_tier(|tier| {
            for (k, error) in errors(features, &x, &dy).into_iter().enumerate() {
                let name = NAMES[k];
                assert!(error <= 1.0, "{tier} {rows} x {features}: {name} off by {error} of its bound");
                if error > worst[k].0 {
                    worst[k] = (error, (rows, features));
                }
            }
        });
    }
    for ((error, (rows, features)), name) in worst.into_iter().zip(NAMES) {
        println!("{name}: largest error {error:.3} of its bound, at {rows} x {features}");
        assert!(error > 0.1, "the bound of {name} is too loose to mean anything: {error}");
    }
}

#[test]
fn the_backward_is_the_derivative_of_the_forward() {
    let mut rng = Rng::new(2);
    for n in [1, 2, 5, 9] {
        let [x, dy] = [(); 2].map(|()| rng.vec(n, |rng| rng.normal()));
        let [mut y, mut dx, mut log, mut dlog] = [(); 4].map(|()| vec![f32::NAN; n]);
        softmax(&x, n, &mut y);
        softmax_backward(&dy, &y, n, &mut dx);
        log_softmax(&x, n, &mut log);
        log_softmax_backward(&dy, &log, n, &mut dlog);
        let dot = |p: &[f64]| p.iter().zip(&dy).map(|(p, d)| p * *d as f64).sum::<f64>();
        for i in 0..n {
            let [above, below] = [1e-5, -1e-5].map(|step| {
                let mut x = wide(&x);
                x[i] += step;
                let p = row(&x).p;
                [dot(&p), dot(&p.iter().map(|p| p.ln()).collect::<Vec<_>>())]
            });
            for (k, got) in [dx[i], dlog[i]].into_iter().enumerate() {
                let slope = (above[k] - below[k]) / 2e-5;
                assert!((slope - got as f64).abs() < 2e-6, "n {n}, form {k}: slope {slope}, dx[{i}] {got}");
            }
        }
    }
}
