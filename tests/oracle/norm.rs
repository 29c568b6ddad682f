//! LayerNorm against the formulas of its documentation, in f64.

use hotlanes::norm::{LayerNorm, ROWS_PER_CHUNK};

use crate::common::{Rng, for_each_tier};

/// Half the distance from 1 to the next f32.
pub const U: f64 = 1.0 / (1 << 24) as f64;

/// A row's statistics.
struct Row {
    mean: f64,
    rstd: f64,
    xhat: Vec<f64>,
}

fn row(x: &[f64], eps: f64) -> Row {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
    let rstd = 1.0 / (variance + eps).sqrt();
    Row { mean, rstd, xhat: x.iter().map(|x| (x - mean) * rstd).collect() }
}

/// The gradient of a row, from `g = dy * gamma`.
fn dx(row: &Row, g: &[f64]) -> Vec<f64> {
    let n = g.len() as f64;
    let mean_g = g.iter().sum::<f64>() / n;
    let mean_gx = g.iter().zip(&row.xhat).map(|(g, x)| g * x).sum::<f64>() / n;
    g.iter().zip(&row.xhat).map(|(g, x)| row.rstd * (g - mean_g - x * mean_gx)).collect()
}

pub fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| x as f64).collect()
}

#[derive(Clone)]
pub struct Inputs {
    pub features: usize,
    pub rows: usize,
    pub eps: f64,
    pub x: Vec<f32>,
    pub dy: Vec<f32>,
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
}

/// What the forward and the backward from its statistics gave.
pub struct Outputs {
    pub y: Vec<f32>,
    pub mean: Vec<f32>,
    pub rstd: Vec<f32>,
    pub dx: Vec<f32>,
    pub dgamma: Vec<f32>,
    pub dbeta: Vec<f32>,
}

impl Inputs {
    pub fn random(rng: &mut Rng, features: usize, rows: usize, kinds: &[Kind]) -> Self {
        let (mut x, mut dy) = (vec![], vec![]);
        // The same in every row and column: the roundings of a sum of it all go one way.
        let c = rng.uniform(0.5, 1.0);
        let plain = rng.below(3);
        for r in 0..rows {
            x.extend(kinds[r % kinds.len()](rng, features));
            dy.extend(rng.vec(features, |rng| [rng.normal(), rng.spread(-8, 4), c][plain]));
        }
        let gamma = rng.vec(features, |rng| rng.spread(-3, 2));
        let beta = rng.vec(features, |rng| rng.spread(-6, 1));
        Inputs { features, rows, eps: 1e-5, x, dy, gamma, beta }
    }

    pub fn run(&self) -> Outputs {
        self.run_with(f32::NAN)
    }

    /// `scratch` fills the scratch.
    pub fn run_with(&self, scratch: f32) -> Outputs {
        let norm = LayerNorm::new(self.features, self.eps).unwrap();
        let size = self.rows * self.features;
        let mut o = Outputs {
            y: vec![f32::NAN; size],
            mean: vec![f32::NAN; self.rows],
            rstd: vec![f32::NAN; self.rows],
            dx: vec![f32::NAN; size],
            dgamma: vec![f32::NAN; self.features],
            dbeta: vec![f32::NAN; self.features],
        };
        norm.forward(&self.x, &self.gamma, &self.beta, &mut o.y, &mut o.mean, &mut o.rstd);
        let mut scratch = vec![scratch; norm.scratch_len(self.rows)];
        let (dg, db) = (&mut o.dgamma, &mut o.dbeta);
        norm.backward(&self.dy, &self.x, &self.gamma, &o.mean, &o.rstd, &mut o.dx, dg, db, &mut scratch);
        o
    }
}

/// Makes the values of one row.
pub type Kind = fn(&mut Rng, usize) -> Vec<f32>;

/// Rows as they come, and the two that a naive variance or an uncentred sum gets wrong.
pub const ORDINARY: [Kind; 6] = [
    |rng, n| rng.vec(n, |rng| rng.normal()),
    |rng, n| rng.vec(n, |rng| 1e4 + rng.normal()),
    |rng, n| rng.vec(n, |rng| rng.spread(-10, 10)),
    |rng, n| vec![rng.uniform(-1e4, 1e4); n],
    |rng, n| {
        let mut x = rng.vec(n, |rng| rng.normal());
        x[n / 3] = 1e3;
        x
    },
    |rng, n| {
        let mut x = rng.vec(n, |rng| rng.normal());
        x.sort_by(f32::total_cmp);
        x
    },
];

/// Rows of two different values: the roundings of their sums all go one way.
pub const TWO_VALUES: [Kind; 3] = [
    |rng, n| {
        let (a, b) = (rng.uniform(0.5, 1.0), -rng.uniform(0.5, 1.0));
        (0..n).map(|i| if i < n / 2 { a } else { b }).collect()
    },
    |rng, n| {
        let a = rng.uniform(0.5, 1.0);
        (0..n).map(|i| if i % 2 == 0 { a } else { -a }).collect()
    },
    |rng, n| {
        let a = rng.uniform(5e3, 1e4);
        rng.vec(n, |rng| if rng.below(3) == 0 { a + 1.0 } else { a })
    },
];

/// How often an error may exceed its terms, in units of u: the documentation's figure.
pub fn factor(features: usize, two_values: bool) -> f64 {
    let long = if two_values { 4.0 + features.min(4096) as f64 / 128.0 } else { 0.0 };
    long.max(10.0)
}

/// Roundings that the first row's term of a sum over rows goes through.
pub fn levels(rows: usize) -> f64 {
    let chunks = rows.div_ceil(ROWS_PER_CHUNK);
    rows.min(ROWS_PER_CHUNK) as f64 + chunks.next_power_of_two().ilog2() as f64
}

const NAMES: [&str; 6] = ["mean", "rstd", "y", "dx", "dgamma", "dbeta"];

/// The largest error of each output over its bound.
fn errors(i: &Inputs, o: &Outputs, two_values: bool) -> [f64; 6] {
    let (n, f) = (i.features, factor(i.features, two_values));
    let (gamma, beta) = (wide(&i.gamma), wide(&i.beta));
    let mut worst = [0.0; 6];
    let mut see = |name: usize, got: f32, want: f64, bound: f64| {
        let error = (got as f64 - want).abs();
        // Where nothing may be lost nothing must be; NaN is infinitely far.
        let ratio = if error == 0.0 { 0.0 } else { error / bound };
        worst[name] = f64::max(worst[name], if ratio.is_nan() { f64::INFINITY } else { ratio });
    };
    let (mut dgamma, mut dbeta) = (vec![(0.0, 0.0); n], vec![(0.0, 0.0); n]);
    for r in 0..i.rows {
        let at = r * n..(r + 1) * n;
        let (row, dy) = (row(&wide(&i.x[at.clone()]), i.eps), wide(&i.dy[at.clone()]));
        see(0, o.mean[r], row.mean, U * (row.mean.abs() + f / row.rstd));
        see(1, o.rstd[r], row.rstd, U * f * row.rstd);
        let g: Vec<f64> = dy.iter().zip(&gamma).map(|(d, g)| d * g).collect();
        let dx = dx(&row, &g);
        // An error of x-hat has a part that is not relative to it: hence each 1 beside it.
        let mean_gx = g.iter().zip(&row.xhat).map(|(g, x)| g.abs() * (1.0 + x.abs())).sum::<f64>() / n as f64;
        for c in 0..n {
            let xhat = row.xhat[c];
            let terms = (xhat * gamma[c]).abs() + gamma[c].abs() + beta[c].abs();
            see(2, o.y[at.start + c], xhat * gamma[c] + beta[c], U * f * terms);
            let terms = row.rstd * (g[c].abs() + (1.0 + xhat.abs()) * mean_gx);
            see(3, o.dx[at.start + c], dx[c], U * f * terms);
            dgamma[c].0 += dy[c] * xhat;
            dgamma[c].1 += dy[c].abs() * (1.0 + xhat.abs());
            dbeta[c].0 += dy[c];
            dbeta[c].1 += dy[c].abs();
        }
    }
    for c in 0..n {
        see(4, o.dgamma[c], dgamma[c].0, U * (levels(i.rows) + f) * dgamma[c].1);
        see(5, o.dbeta[c], dbeta[c].0, U * levels(i.rows) * dbeta[c].1);
    }
    worst
}

/// Every count of features around the vectors, the threshold and the blocks; many rows only where they are short.
pub fn shapes() -> Vec<(usize, usize)> {
    let mut shapes = vec![];
    for features in (1..=40).chain(63..=66).chain(127..=130) {
        shapes.extend((1..=5).chain([16, 17]).map(|rows| (features, rows)));
    }
    for features in [1, 3, 16, 33, 64, 127, 130] {
        shapes.extend([127, 128, 129, 300].map(|rows| (features, rows)));
    }
    shapes.extend([512, 768].into_iter().flat_map(|features| [1, 4, 17].map(|rows| (features, rows))));
    shapes.extend([4095, 4096, 4097, 4112, 8192, 10000].map(|features| (features, 6)));
    shapes
}

#[test]
fn everything_is_within_its_bound() {
    let mut rng = Rng::new(1);
    for (two_values, kinds) in [(false, &ORDINARY[..]), (true, &TWO_VALUES[..])] {
        let mut worst = [(0.0, (0, 0)); 6];
        for (features, rows) in shapes() {
            let i = Inputs::random(&mut rng, features, rows, kinds);
            for_each_tier(|tier| {
                for (k, error) in errors(&i, &i.run(), two_values).into_iter().enumerate() {
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
            assert!(error > 0.2, "the bound of {name} is too loose to mean anything: {error}");
        }
    }
}

#[test]
fn the_backward_is_the_derivative_of_the_forward() {
    let mut rng = Rng::new(2);
    for n in [1, 2, 5, 9] {
        let [x, dy, gamma] = [(); 3].map(|()| wide(&rng.vec(n, |rng| rng.normal())));
        let g: Vec<f64> = dy.iter().zip(&gamma).map(|(d, g)| d * g).collect();
        // What dy is the gradient of; beta adds a constant.
        let loss = |x: &[f64]| row(x, 0.1).xhat.iter().zip(&g).map(|(x, g)| x * g).sum::<f64>();
        let dx = dx(&row(&x, 0.1), &g);
        for i in 0..n {
            let (mut above, mut below) = (x.clone(), x.clone());
            above[i] += 1e-5;
            below[i] -= 1e-5;
            let slope = (loss(&above) - loss(&below)) / 2e-5;
            assert!((slope - dx[i]).abs() < 1e-7, "n {n}: slope {slope}, dx[{i}] {}", dx[i]);
        }
    }
}
