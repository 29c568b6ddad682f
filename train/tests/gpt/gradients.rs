//! The whole gradient against finite differences of the f64 oracle.

use hotlanes_train::models::gpt::config::{Act, Config, Norm};
use hotlanes_train::models::gpt::params::Layout;
use hotlanes_train::rng::Rng;

use crate::common::{batch, bits, engine, gpt2, lean, rough};
use crate::oracle::Oracle;

/// The gradient, summed over micro-batches whose tokens follow each other.
fn gradient(
    config: &Config,
    params: &[f32],
    tokens: &[u32],
    targets: &[u32],
    time: usize,
    micros: usize,
) -> Vec<f32> {
    let mut start = hotlanes::AlignedVec::default();
    start.resize_for_overwrite(params.len());
    start.copy_from_slice(params);
    let rows = tokens.len() / micros;
    let mut engine = engine(config, rows / time, time, start);
    for micro in 0..micros {
        let at = micro * rows..(micro + 1) * rows;
        engine.gradients(&tokens[at.clone()], &targets[at], micro, micros).unwrap();
    }
    engine.local_gradient().to_vec()
}

/// Every tensor, a few elements each: the largest and some at random.
fn check(config: &Config, sequences: usize, time: usize, micros: usize) {
    let params = rough(config, 5);
    let [tokens, targets] = batch(config, sequences, time, 6);
    let gradient = gradient(config, &params, &tokens, &targets, time, micros);
    let mut oracle = Oracle::new(config, &params);
    let mut rng = Rng::new(9, 0, 0, 0);
    for tensor in Layout::new(config).tensors() {
        let ours = &gradient[tensor.range.clone()];
        let largest =
            (0..ours.len()).fold(0, |best, i| if ours[i].abs() > ours[best].abs() { i } else { best });
        let scale = f64::from(ours[largest].abs()).max(1e-3);
        for k in [largest, rng.below(ours.len()), rng.below(ours.len()), ours.len() - 1] {
            let (at, h) = (tensor.range.start + k, 1e-5);
            let value = oracle.params[at];
            let mut loss = |moved: f64| {
                oracle.params[at] = value + moved;
                oracle.loss(&tokens, &targets, time)
            };
            let slope = (loss(h) - loss(-h)) / (2.0 * h);
            oracle.params[at] = value;
            let apart = (slope - f64::from(ours[k])).abs();
            assert!(apart < 2e-5 * scale + 1e-7, "{} [{k}]: {}, difference {slope}", tensor.name, ours[k]);
        }
    }
}

#[test]
fn gradients_are_those_of_the_oracle() {
    // Chunks of equal and of unequal size, sequences as long as the block and shorter.
    check(&gpt2(), 4, 8, 1);
    check(&lean(), 3, 7, 1);
    check(&Config { tied: true, bias: false, ..gpt2() }, 2, 5, 1);
    check(
        &Config { tied: false, bias: true, norm: Norm::RmsNorm, act: Act::Gelu, layers: 1, ..lean() },
        1,
        9,
        1,
    );
    check(&Config { act: Act::SquaredRelu, layers: 3, heads: 1, ..gpt2() }, 5, 3, 1);
}

/// A chunk of more rows than go through the kernels together.
#[test]
fn a_long_sequence_has_the_oracles_gradient() {
    check(&Config { layers: 1, dim: 8, block: 150, ..gpt2() }, 1, 150, 1);
}

#[test]
fn micro_batches_add_up() {
    check(&gpt2(), 6, 4, 3);
    check(&lean(), 4, 5, 2);
}

#[test]
fn losses_are_those_of_the_oracle() {
    for config in [gpt2(), lean()] {
        let params = rough(&config, 2);
        let [tokens, targets] = batch(&config, 5, 8, 3);
        let exact = Oracle::new(&config, &params).loss(&tokens, &targets, 8);
        let mut engine = engine(&config, 5, 8, params);
        let losses = [
            engine.loss(&tokens, &targets).unwrap(),
            engine.gradients(&tokens, &targets, 0, 1).unwrap(),
            engine.loss_sum() / 40.0,
        ];
        for loss in losses {
            assert!((loss - exact).abs() < 2e-6 * exact, "{loss}, exact {exact}");
        }
        assert_eq!(losses[1], losses[2]);
    }
}

/// Along the gradient the loss rises by its square, with one mask in all of the three passes.
#[test]
fn dropouts_gradient_is_that_of_its_mask() {
    let config = Config { dropout: 0.3, ..gpt2() };
    let params = rough(&config, 3);
    let [tokens, targets] = batch(&config, 16, 8, 4);
    let mut engine = engine(&config, 16, 8, params.clone());
    let with = engine.gradients(&tokens, &targets, 0, 1).unwrap();
    let gradient = engine.local_gradient().to_vec();
    let again = engine.gradients(&tokens, &targets, 0, 1).unwrap();
    assert_eq!(with, again, "one step has one mask");
    // Without dropout the loss is another; so it is with another micro-batch's mask.
    let without = engine.loss(&tokens, &targets).unwrap();
    let other = engine.gradients(&tokens, &targets, 1, 2).unwrap();
    assert!((with - without).abs() > 1e-3 && (with - other).abs() > 1e-4, "{with} {without} {other}");

    let square: f64 = gradient.iter().map(|&g| f64::from(g).powi(2)).sum();
    let h = 3e-3 / square.sqrt();
    let mut moved = |h: f64| {
        let mut at = params.to_vec();
        at.iter_mut().zip(&gradient).for_each(|(p, g)| *p = (f64::from(*p) + h * f64::from(*g)) as f32);
        let zeros = vec![0.0; at.len()];
        engine.restore(&at, &zeros, &zeros, 0);
        engine.gradients(&tokens, &targets, 0, 1).unwrap()
    };
    let slope = (moved(h) - moved(-h)) / (2.0 * h);
    assert!((slope / square - 1.0).abs() < 2e-3, "{slope} along a gradient of square {square}");
}

#[test]
fn bf16_products_see_rounded_weights() {
    let config = Config { bf16: true, ..gpt2() };
    let params = rough(&config, 7);
    let mut rounded = params.clone();
    for tensor in Layout::new(&config).tensors() {
        // Embeddings are rows, not products.
        if tensor.shape.len() == 2 && !tensor.name.contains(".wte.") && !tensor.name.contains(".wpe.") {
            for p in &mut rounded[tensor.range.clone()] {
                let bits = p.to_bits();
                // To nearest, ties to even.
                *p = f32::from_bits(bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000);
            }
        }
    }
    let [tokens, targets] = batch(&config, 4, 8, 8);
    let half = gradient(&config, &params, &tokens, &targets, 8, 1);
    let plain = gradient(&gpt2(), &rounded, &tokens, &targets, 8, 1);
    assert_eq!(bits(&half), bits(&plain));
    assert_ne!(bits(&half), bits(&gradient(&gpt2(), &params, &tokens, &targets, 8, 1)));
}
