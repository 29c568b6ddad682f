//! Vectors that PyTorch made in f64 (`train/tests/golden/mlp.py`): outputs, losses, gradients, ten AdamW steps.

use clap::ValueEnum;
use hotlanes_train::models::mlp::engine::Engine;
use hotlanes_train::models::mlp::head::Targets;
use hotlanes_train::models::mlp::layout::Layout;
use hotlanes_train::models::mlp::settings::{Act, LossKind, Settings};

#[path = "../golden/case.rs"]
mod case;

use crate::common::predictor;
use case::{Case, apart, largest};

fn settings(case: &Case) -> Settings {
    let hidden = case.settings["hidden"].split(',').filter(|n| !n.is_empty());
    Settings {
        hidden: hidden.map(|n| n.parse().unwrap()).collect(),
        activation: Act::from_str(case.settings["activation"], false).unwrap(),
        delta: case.number("delta"),
        batch: case.number("batch"),
        lr: case.number("lr"),
        beta1: case.number("beta1"),
        beta2: case.number("beta2"),
        weight_decay: case.number("weight_decay"),
        ..Settings::default()
    }
}

/// What is predicted from raw outputs.
fn predicted(loss: LossKind, outputs: &[f32], width: usize) -> Vec<f32> {
    let row = |row: &[f32]| -> Vec<f32> {
        let row: Vec<f64> = row.iter().map(|&y| f64::from(y)).collect();
        let all: Vec<f64> = match loss {
            LossKind::Bce => [0.0, row[0]].map(f64::exp).to_vec(),
            LossKind::CrossEntropy => row.iter().map(|y| y.exp()).collect(),
            _ => return vec![row[0] as f32],
        };
        all.iter().map(|p| (p / all.iter().sum::<f64>()) as f32).collect()
    };
    outputs.chunks_exact(width).flat_map(row).collect()
}

#[test]
fn ten_steps_follow_pytorch() {
    let cases = case::cases(include_str!("../golden/mlp.txt"));
    assert_eq!(cases.len(), 7);
    for case in cases {
        let (settings, name) = (settings(&case), case.settings["case"]);
        let loss = LossKind::from_str(case.settings["loss"], false).unwrap();
        let [inputs, outputs, batch]: [usize; 3] = ["inputs", "outputs", "batch"].map(|key| case.number(key));
        let layout = Layout::new(inputs, &settings.hidden, outputs, false);
        let mut params = layout.zeros();
        for (name, _, place) in layout.tensors() {
            params[place].copy_from_slice(&case.values(&name));
        }
        let mut engine = Engine::new(layout.clone(), &settings, loss).unwrap();
        engine.restore(&params, &layout.zeros(), &layout.zeros(), 0);
        let (x, numbers, losses) = (case.values("x"), case.values("t"), case.values("losses"));
        let classes = &case.words["t"];

        let mut predictor = predictor(&layout, &settings, loss, params);
        let rows = x.chunks_exact(inputs).take(batch);
        let got: Vec<f32> = rows
            .flat_map(|row| {
                let row: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
                predictor.predict_row(&row).iter().map(|&y| y as f32).collect::<Vec<f32>>()
            })
            .collect();
        let want = predicted(loss, &case.values("outputs"), outputs);
        let off = apart(&got, &want, largest(&want));
        assert!(off < 2e-6, "{name}: predictions are off by {off:e} of the largest");

        for step in 0..case.number("steps") {
            let at = step * batch..(step + 1) * batch;
            let targets = match loss {
                LossKind::CrossEntropy => Targets::Classes(&classes[at]),
                _ => Targets::Numbers(&numbers[at]),
            };
            let got = engine.gradients(&x[step * batch * inputs..][..batch * inputs], targets);
            if step == 0 {
                for (tensor, _, place) in layout.tensors() {
                    let want = case.values(&format!("gradient.{tensor}"));
                    let off = apart(&engine.gradient()[place], &want, largest(&want));
                    assert!(off < 5e-6, "{name}: {tensor} is off by {off:e} of its largest");
                }
            }
            let want = f64::from(losses[step]);
            assert!((got - want).abs() < 1e-5 * want, "{name}, step {step}: loss {got}, PyTorch's {want}");
            engine.step(settings.lr);
        }
        for (tensor, _, place) in layout.tensors() {
            let want = case.values(&format!("after.{tensor}"));
            for (i, (&ours, &want)) in engine.params()[place].iter().zip(&want).enumerate() {
                // In learning rates: ten steps go up to ten of them.
                let off = f64::from(ours - want).abs() / settings.lr;
                assert!(off < 5e-3, "{name}: {tensor} [{i}] is {ours}, PyTorch's {want}: {off}");
            }
        }
    }
}
