//! A perceptron in f64, as short as can be: its loss, and its gradient by the chain rule, a row at a time.

use hotlanes::dropout::Dropout;
use hotlanes_train::models::mlp::head::Targets;
use hotlanes_train::models::mlp::layout::Layout;
use hotlanes_train::models::mlp::settings::{Act, LossKind, Settings};

pub struct Oracle<'a> {
    pub layout: &'a Layout,
    pub settings: &'a Settings,
    pub loss: LossKind,
    pub params: Vec<f64>,
    /// One for each hidden layer, if there is dropout.
    pub masks: Vec<Dropout>,
}

/// `ln(1 + e^x)`.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The error function by its series (Abramowitz and Stegun, 7.1.6), which converges everywhere.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..300 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

/// An activation and its derivative.
pub fn activation(act: Act, x: f64) -> (f64, f64) {
    match act {
        Act::Silu => (x * sigmoid(x), sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x)))),
        Act::Relu => (x.max(0.0), if x > 0.0 { 1.0 } else { 0.0 }),
        Act::Gelu => {
            let cdf = (1.0 + erf(x / 2f64.sqrt())) / 2.0;
            (x * cdf, cdf + x * (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt())
        }
        Act::Tanh => (x.tanh(), 1.0 - x.tanh().powi(2)),
    }
}

impl Oracle<'_> {
    /// A row's loss and its derivatives by the outputs.
    pub fn head(&self, y: &[f64], targets: Targets<'_>, row: usize) -> (f64, Vec<f64>) {
        let one = |loss: f64, slope: f64| (loss, vec![slope]);
        match (self.loss, targets) {
            (LossKind::CrossEntropy, Targets::Classes(classes)) => {
                let class = classes[row] as usize;
                let sum: f64 = y.iter().map(|y| y.exp()).sum();
                let slope = |(i, y): (usize, &f64)| y.exp() / sum - f64::from(u8::from(i == class));
                (sum.ln() - y[class], y.iter().enumerate().map(slope).collect())
            }
            (loss, Targets::Numbers(numbers)) => {
                let (t, y, delta) = (f64::from(numbers[row]), y[0], self.settings.delta);
                let d = y - t;
                match loss {
                    LossKind::Mse => one(d * d, 2.0 * d),
                    LossKind::L1 => one(d.abs(), d.signum()),
                    LossKind::Huber if d.abs() <= delta => one(d * d / 2.0, d),
                    LossKind::Huber => one(delta * (d.abs() - delta / 2.0), delta * d.signum()),
                    LossKind::Bce => one(softplus(y) - t * y, sigmoid(y) - t),
                    LossKind::CrossEntropy => unreachable!("it has classes"),
                }
            }
            other => panic!("{other:?}"),
        }
    }

    /// What dropout multiplies a value of a hidden layer by.
    fn mask(&self, layer: usize, row: usize, unit: usize) -> f64 {
        let width = self.layout.layers()[layer].out;
        self.masks.get(layer).map_or(1.0, |mask| {
            let mut kept = [0.0];
            mask.forward(&[1.0], &mut kept, (row * width + unit) as u64);
            f64::from(kept[0])
        })
    }

    /// Each layer's values before its activation, and what goes into each.
    pub fn forward(&self, x: &[f32], row: usize) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
        let layers = self.layout.layers();
        let (mut z, mut a) = (vec![], vec![x.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>()]);
        for (l, layer) in layers.iter().enumerate() {
            let (weights, bias) = (&self.params[layer.weights()], &self.params[layer.bias()]);
            let unit = |o: usize| {
                let products = a[l].iter().zip(&weights[o * layer.input..]).map(|(a, w)| a * w);
                bias[o] + products.sum::<f64>()
            };
            let values: Vec<f64> = (0..layer.out).map(unit).collect();
            if l + 1 < layers.len() {
                let activated = |(unit, &z): (usize, &f64)| {
                    self.mask(l, row, unit) * activation(self.settings.activation, z).0
                };
                a.push(values.iter().enumerate().map(activated).collect());
            }
            z.push(values);
        }
        (z, a)
    }

    /// The mean loss of a batch, and its gradient.
    pub fn gradient(&self, x: &[f32], targets: Targets<'_>) -> (f64, Vec<f64>) {
        let (layers, rows) = (self.layout.layers(), targets.rows());
        let (mut sum, mut gradient) = (0.0, vec![0.0; self.params.len()]);
        for (row, x) in x.chunks_exact(self.layout.inputs()).enumerate() {
            let (z, a) = self.forward(x, row);
            let (loss, mut dz) = self.head(&z[layers.len() - 1], targets, row);
            sum += loss;
            for (l, layer) in layers.iter().enumerate().rev() {
                let mut da = vec![0.0; layer.input];
                for (o, dz) in dz.iter().enumerate() {
                    gradient[layer.bias()][o] += dz / rows as f64;
                    for i in 0..layer.input {
                        let at = layer.weights().start + o * layer.input + i;
                        gradient[at] += dz * a[l][i] / rows as f64;
                        da[i] += dz * self.params[at];
                    }
                }
                if l > 0 {
                    let slope = |i: usize| {
                        self.mask(l - 1, row, i) * activation(self.settings.activation, z[l - 1][i]).1
                    };
                    dz = da.iter().enumerate().map(|(i, da)| da * slope(i)).collect();
                }
            }
        }
        (sum / rows as f64, gradient)
    }
}
