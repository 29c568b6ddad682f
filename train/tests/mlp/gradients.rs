//! Losses and the whole gradient against the f64 oracle, and the oracle against finite differences.

use hotlanes::dropout::Dropout;
use hotlanes_train::models::mlp::engine::Engine;
use hotlanes_train::models::mlp::layout::Layout;
use hotlanes_train::models::mlp::settings::{LossKind, Settings};
use hotlanes_train::rng::Rng;

use crate::common::{ACTS, LOSSES, batch, rough, settings};
use crate::oracle::Oracle;

/// The purpose of the masks' random numbers: a mask is a function of seed, step and layer.
const DROPOUT: u64 = 0x6d6c_7001;

/// Checks a step with this number, of a model with three inputs, on so many rows.
fn check(settings: &Settings, loss: LossKind, outputs: usize, rows: usize, step: u64) {
    let layout = Layout::new(3, &settings.hidden, outputs, settings.dropout > 0.0);
    let params = rough(&layout, 5);
    let (x, targets) = batch(loss, &layout, rows, 6);
    let mut engine = Engine::new(layout.clone(), settings, loss).unwrap();
    let zeros = layout.zeros();
    engine.restore(&params, &zeros, &zeros, step);
    let value = engine.gradients(&x, targets.targets());

    let masks = (0..settings.hidden.len()).filter(|_| settings.dropout > 0.0).map(|layer| {
        let seed = Rng::new(settings.seed, DROPOUT, step, layer as u64).bits();
        Dropout::new(settings.dropout, seed).unwrap()
    });
    let params = params.iter().map(|&p| f64::from(p)).collect();
    let oracle = Oracle { layout: &layout, settings, loss, params, masks: masks.collect() };
    let (want, exact) = oracle.gradient(&x, targets.targets());
    let what = format!("{loss:?}, {settings:?}, {rows} rows");
    assert!((value - want).abs() < 3e-6 * want.abs().max(1.0), "{what}: the loss is {value}: {want}");
    for (name, _, place) in layout.tensors() {
        let (ours, exact) = (&engine.gradient()[place.clone()], &exact[place.clone()]);
        let scale = exact.iter().fold(1e-3, |a: f64, b| a.max(b.abs()));
        for (i, (&ours, &exact)) in ours.iter().zip(exact).enumerate() {
            let apart = (f64::from(ours) - exact).abs();
            assert!(apart < 2e-5 * scale, "{what}: {name} [{i}] is {ours}: {exact}");
        }
    }
    // What lies between tensors is 0, as the optimizer passes over it.
    let used: Vec<usize> = layout.tensors().flat_map(|(_, _, place)| place).collect();
    let gaps = (0..layout.len()).filter(|i| !used.contains(i));
    assert!(gaps.into_iter().all(|i| engine.gradient()[i] == 0.0), "{what}");
}

/// What the engine is compared with is right.
#[test]
fn the_oracles_gradient_is_that_of_finite_differences() {
    for loss in LOSSES {
        for activation in ACTS {
            let settings = Settings { hidden: vec![7, 6, 4], activation, delta: 0.8, ..settings() };
            let layout = Layout::new(3, &settings.hidden, outputs(loss), true);
            let params = rough(&layout, 5).iter().map(|&p| f64::from(p)).collect();
            let masks = (0..3).map(|layer| Dropout::new(0.2, layer).unwrap()).collect();
            let mut oracle = Oracle { layout: &layout, settings: &settings, loss, params, masks };
            let (x, targets) = batch(loss, &layout, 12, 6);
            let (_, exact) = oracle.gradient(&x, targets.targets());
            let (mut rng, h) = (Rng::new(9, 0, 0, 0), 1e-6);
            for (name, _, place) in layout.tensors() {
                for at in [place.start, place.start + rng.below(place.len()), place.end - 1] {
                    let value = oracle.params[at];
                    let mut at_moved = |moved: f64| {
                        oracle.params[at] = value + moved;
                        oracle.gradient(&x, targets.targets()).0
                    };
                    let slope = (at_moved(h) - at_moved(-h)) / (2.0 * h);
                    oracle.params[at] = value;
                    let apart = (slope - exact[at]).abs();
                    assert!(
                        apart < 1e-7,
                        "{loss:?}, {activation:?}, {name}: {}, difference {slope}",
                        exact[at]
                    );
                }
            }
        }
    }
}

fn outputs(loss: LossKind) -> usize {
    if loss == LossKind::CrossEntropy { 5 } else { 1 }
}

#[test]
fn every_loss_and_activation_has_the_oracles_gradient() {
    for loss in LOSSES {
        for activation in ACTS {
            for (hidden, dropout) in
                [(vec![], 0.0), (vec![6], 0.0), (vec![7, 6, 4], 0.0), (vec![6], 0.3), (vec![7, 6, 4], 0.2)]
            {
                let settings = Settings { hidden, activation, dropout, delta: 0.8, batch: 12, ..settings() };
                check(&settings, loss, outputs(loss), 12, 3);
                // The last batch of an epoch.
                check(&settings, loss, outputs(loss), 1, 0);
            }
        }
    }
}

/// The sum over chunks, of which the last is short; each chunk's rows have their own part of the mask.
#[test]
fn chunks_add_up() {
    for loss in LOSSES {
        for (batch, rows) in [(300, 300), (1000, 1000), (1000, 257), (1000, 256)] {
            for dropout in [0.0, 0.2] {
                let settings = Settings { hidden: vec![5, 4], dropout, batch, ..settings() };
                check(&settings, loss, outputs(loss), rows, 7);
            }
        }
    }
}

/// Of two classes, too: with cross-entropy there are two logits.
#[test]
fn two_classes_have_two_losses() {
    check(&settings(), LossKind::CrossEntropy, 2, 12, 0);
    let layout = Layout::new(3, &[], 2, false);
    let (x, targets) = batch(LossKind::CrossEntropy, &layout, 12, 6);
    let mut engine = Engine::new(layout.clone(), &settings(), LossKind::CrossEntropy).unwrap();
    let two = engine.gradients(&x, targets.targets());
    // One logit, the difference of the two, has the same loss.
    let one = Layout::new(3, &[], 1, false);
    let mut single = Engine::new(one.clone(), &settings(), LossKind::Bce).unwrap();
    let (mut params, from) = (one.zeros(), &layout.layers()[0]);
    let (weights, bias) = (&engine.params()[from.weights()], &engine.params()[from.bias()]);
    let to = &one.layers()[0];
    for i in 0..3 {
        params[to.weights().start + i] = weights[3 + i] - weights[i];
    }
    params[to.bias().start] = bias[1] - bias[0];
    single.restore(&params, &one.zeros(), &one.zeros(), 0);
    let crate::common::Rows::Classes(classes) = targets else { panic!("classes") };
    let numbers: Vec<f32> = classes.iter().map(|&class| class as f32).collect();
    let bce = single.gradients(&x, hotlanes_train::models::mlp::head::Targets::Numbers(&numbers));
    assert!((two - bce).abs() < 1e-6 * two, "{two}, {bce}");
}
