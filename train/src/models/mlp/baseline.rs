//! What the kernels are compared with: plain loops over a row at a time, as one writes them first. SiLU, squared error
//! and AdamW alone; it uses the C library's `exp`, so its bits are not promised.

use super::layout::Layout;

/// One model of the baseline.
#[derive(Clone, Debug)]
pub struct Baseline {
    /// Of each layer: `[out][input]` weights and `[out]` biases, each with gradient and moments.
    layers: Vec<Layer>,
    steps: i32,
}

#[derive(Clone, Debug)]
struct Layer {
    weights: Vec<Vec<Weight>>,
    biases: Vec<Weight>,
    /// Before and after the activation, and the gradient, of one row.
    z: Vec<f32>,
    a: Vec<f32>,
    dz: Vec<f32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Weight {
    value: f32,
    gradient: f32,
    m: f32,
    v: f32,
}

impl Weight {
    fn of(value: f32) -> Self {
        Weight { value, ..Weight::default() }
    }

    fn step(&mut self, lr: f32, [correction1, correction2]: [f32; 2]) {
        self.value -= lr * 0.01 * self.value;
        self.m += 0.1 * (self.gradient - self.m);
        self.v += 0.001 * (self.gradient * self.gradient - self.v);
        self.value -= lr * (self.m / correction1) / ((self.v / correction2).sqrt() + 1e-8);
        self.gradient = 0.0;
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

impl Baseline {
    /// A model with these parameters.
    pub fn new(layout: &Layout, params: &[f32]) -> Self {
        let layers = layout.layers().iter().map(|layer| {
            let of = |values: &[f32]| values.iter().map(|&value| Weight::of(value)).collect::<Vec<_>>();
            let zeros = vec![0.0; layer.out];
            Layer {
                weights: params[layer.weights()].chunks_exact(layer.input).map(of).collect(),
                biases: of(&params[layer.bias()]),
                z: zeros.clone(),
                a: zeros.clone(),
                dz: zeros,
            }
        });
        Baseline { layers: layers.collect(), steps: 0 }
    }

    /// A step on a batch; gives the mean loss.
    pub fn step(&mut self, x: &[f32], targets: &[f32], lr: f32) -> f32 {
        let rows = targets.len();
        let mut loss = 0.0;
        for (row, &target) in x.chunks_exact(x.len() / rows).zip(targets) {
            let error = self.forward(row) - target;
            loss += error * error;
            self.backward(row, 2.0 * error / rows as f32);
        }
        self.steps += 1;
        let corrections = [1.0 - 0.9_f32.powi(self.steps), 1.0 - 0.999_f32.powi(self.steps)];
        for layer in &mut self.layers {
            layer.weights.iter_mut().flatten().chain(&mut layer.biases).for_each(|w| w.step(lr, corrections));
        }
        loss / rows as f32
    }

    fn forward(&mut self, row: &[f32]) -> f32 {
        let last = self.layers.len() - 1;
        for l in 0..=last {
            let (before, own) = self.layers.split_at_mut(l);
            let input = before.last().map_or(row, |layer| &layer.a);
            let layer = &mut own[0];
            for o in 0..layer.biases.len() {
                let mut sum = layer.biases[o].value;
                for (weight, x) in layer.weights[o].iter().zip(input) {
                    sum += weight.value * x;
                }
                layer.z[o] = sum;
                layer.a[o] = if l == last { sum } else { sum * sigmoid(sum) };
            }
        }
        self.layers[last].a[0]
    }

    fn backward(&mut self, row: &[f32], gradient: f32) {
        let last = self.layers.len() - 1;
        self.layers[last].dz[0] = gradient;
        for l in (0..=last).rev() {
            let (before, own) = self.layers.split_at_mut(l);
            let layer = &mut own[0];
            let input = before.last().map_or(row, |layer| &layer.a);
            for o in 0..layer.biases.len() {
                layer.biases[o].gradient += layer.dz[o];
                for (weight, x) in layer.weights[o].iter_mut().zip(input) {
                    weight.gradient += layer.dz[o] * x;
                }
            }
            let Some(before) = before.last_mut() else { return };
            for i in 0..before.z.len() {
                let mut sum = 0.0;
                for o in 0..layer.biases.len() {
                    sum += layer.dz[o] * layer.weights[o][i].value;
                }
                let s = sigmoid(before.z[i]);
                before.dz[i] = sum * s * (1.0 + before.z[i] * (1.0 - s));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::mlp::engine::Engine;
    use crate::models::mlp::head::Targets;
    use crate::models::mlp::settings::{LossKind, Settings};
    use crate::rng::Rng;

    #[test]
    fn it_learns_as_the_engine_does() {
        let settings = Settings { hidden: vec![7, 6], batch: 9, ..Settings::default() };
        let layout = Layout::new(3, &settings.hidden, 1, false);
        let mut engine = Engine::new(layout.clone(), &settings, LossKind::Mse).unwrap();
        let mut baseline = Baseline::new(&layout, engine.params());
        let mut rng = Rng::new(1, 2, 3, 4);
        let x: Vec<f32> = (0..27).map(|_| rng.symmetric()).collect();
        let targets: Vec<f32> = (0..9).map(|_| rng.symmetric()).collect();
        for step in 0..5 {
            let plain = f64::from(baseline.step(&x, &targets, 0.01));
            let ours = engine.gradients(&x, Targets::Numbers(&targets));
            engine.step(0.01);
            assert!((plain - ours).abs() < 1e-5, "step {step}: {plain} {ours}");
        }
    }
}
