//! What an engine keeps, what it refuses, and its share among ranks.

use hotlanes::AlignedVec;
use hotlanes_train::models::gpt::config::Config;
use hotlanes_train::models::gpt::engine::{Engine, EngineError, Optim, chunks};
use hotlanes_train::models::gpt::params::{self, Layout};

use crate::common::{batch, bits, engine, gpt2, lean, rough};

#[test]
fn chunks_are_a_power_of_two_by_shape() {
    let shapes =
        [(1, 8), (2, 8), (3, 8), (4, 8), (12, 64), (32, 64), (32, 128), (64, 256), (100, 64), (7, 1000)];
    let counts = shapes.map(|(batch, time)| chunks(&gpt2(), batch, time));
    assert_eq!(counts, [1, 2, 2, 4, 4, 8, 16, 16, 4, 4]);
    // A large model's gradient costs too much to be made of few tokens, or often.
    let large = Config { layers: 12, heads: 12, dim: 768, block: 1024, vocab: 50257, ..gpt2() };
    let shapes = [(4, 64), (16, 64), (32, 64), (4, 1024), (64, 1024), (3, 1024)];
    let counts = shapes.map(|(batch, time)| chunks(&large, batch, time));
    assert_eq!(counts, [1, 1, 2, 4, 4, 2]);
}

#[test]
fn a_layout_has_all_parameters_once() {
    for config in [gpt2(), lean(), Config { tied: true, ..gpt2() }, Config { bias: true, ..lean() }] {
        let layout = Layout::new(&config);
        let mut end = 0;
        for tensor in layout.tensors() {
            assert_eq!((tensor.range.start, tensor.range.len()), (end, tensor.shape.iter().product()));
            assert_eq!(tensor.shape.len() == 2, end < layout.matrices());
            end = tensor.range.end;
        }
        assert_eq!([end, layout.len()], [config.parameters(); 2]);
    }
    // GPT-2's own size, and the preset that the figures are of.
    let small = Config { layers: 12, heads: 12, dim: 768, block: 1024, vocab: 50257, tied: true, ..gpt2() };
    assert_eq!(small.parameters(), 124_439_808);
    let seed = Config { layers: 4, heads: 8, dim: 128, block: 64, vocab: 65, ..gpt2() };
    assert_eq!(seed.parameters(), 818_176);
    assert!((seed.flops(32, 64) - 10.18e9).abs() < 0.02e9, "{}", seed.flops(32, 64));
}

#[test]
fn first_parameters_have_their_deviations() {
    let config = Config { layers: 3, heads: 4, dim: 64, vocab: 50, ..gpt2() };
    let params = params::init(&config, 1);
    for tensor in Layout::new(&config).tensors() {
        let values = &params[tensor.range.clone()];
        if tensor.shape.len() == 2 {
            let square = values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / values.len() as f64;
            let want = if tensor.name.ends_with("c_proj.weight") { 0.02 / 6f64.sqrt() } else { 0.02 };
            assert!((square.sqrt() / want - 1.0).abs() < 0.07, "{}: {}", tensor.name, square.sqrt());
        } else {
            let want = if tensor.name.ends_with("weight") { 1.0 } else { 0.0 };
            assert!(values.iter().all(|&x| x == want), "{}", tensor.name);
        }
    }
    assert_eq!(bits(&params), bits(&params::init(&config, 1)));
    assert_ne!(bits(&params), bits(&params::init(&config, 2)));
}

/// Ranks that each have a share of the chunks, summed pair by pair, have the bits of one process.
#[test]
fn ranks_have_the_bits_of_one() {
    for (config, sequences, time) in [(gpt2(), 6, 5), (lean(), 4, 9)] {
        let params = rough(&config, 1);
        let mut alone = engine(&config, sequences, time, params.clone());
        for ranks in [1, 2, 4] {
            let mut engines: Vec<Engine> = (0..ranks)
                .map(|r| {
                    let (config, params) = (config.clone(), params.clone());
                    Engine::for_rank(config, Optim::default(), sequences, time, (r, ranks), params).unwrap()
                })
                .collect();
            let zeros = vec![0.0; params.len()];
            alone.restore(&params, &zeros, &zeros, 0);
            for step in 0..2 {
                let mut sums = vec![0.0; ranks];
                for micro in 0..2 {
                    let [tokens, targets] = batch(&config, sequences, time, 2 * step + micro as u64);
                    let loss = alone.gradients(&tokens, &targets, micro, 2).unwrap();
                    for (engine, sum) in engines.iter_mut().zip(&mut sums) {
                        let own = engine.sequences();
                        let own = own.start * time..own.end * time;
                        engine.gradients(&tokens[own.clone()], &targets[own], micro, 2).unwrap();
                        *sum = engine.loss_sum();
                    }
                    assert_eq!(pairwise(&sums, |a, b| a + b), alone.loss_sum());
                    assert_eq!(loss, alone.loss_sum() / tokens.len() as f64);
                }
                let gradients: Vec<Vec<f32>> =
                    engines.iter_mut().map(|e| e.local_gradient().to_vec()).collect();
                let sum = pairwise(&gradients, |a, b| a.iter().zip(&b).map(|(a, b)| a + b).collect());
                let outcome = alone.step(0.01);
                for engine in &mut engines {
                    engine.local_gradient().copy_from_slice(&sum);
                    assert_eq!(engine.step_with(0.01), outcome);
                    assert_eq!(bits(engine.params()), bits(alone.params()));
                }
            }
        }
    }
}

fn pairwise<T: Clone>(values: &[T], add: fn(T, T) -> T) -> T {
    match values {
        [one] => one.clone(),
        _ => {
            let (a, b) = values.split_at(values.len() / 2);
            add(pairwise(a, add), pairwise(b, add))
        }
    }
}

#[test]
fn a_restored_engine_goes_on_as_the_first() {
    // Dropout's masks follow the number of steps.
    let config = Config { dropout: 0.1, ..gpt2() };
    let mut first = engine(&config, 4, 8, rough(&config, 1));
    let step = |engine: &mut Engine, seed| {
        let [tokens, targets] = batch(&config, 4, 8, seed);
        (engine.gradients(&tokens, &targets, 0, 1).unwrap(), engine.step(0.01))
    };
    (0..3).for_each(|seed| {
        step(&mut first, seed);
    });
    let mut second = engine(&config, 4, 8, params::init(&config, 9));
    let (m, v, steps) = first.state();
    second.restore(first.params(), m, v, steps);
    assert_eq!(steps, 3);
    for seed in 3..5 {
        assert_eq!(step(&mut first, seed), step(&mut second, seed));
        assert_eq!(bits(first.params()), bits(second.params()));
    }
}

#[test]
fn what_is_not_finite_is_skipped() {
    let config = gpt2();
    let mut params = rough(&config, 1);
    params[0] = f32::NAN;
    let mut engine = engine(&config, 1, 8, params);
    let tokens = [0; 8];
    assert!(engine.gradients(&tokens, &tokens, 0, 1).unwrap().is_nan());
    let before = bits(engine.params());
    let outcome = engine.step(0.1);
    assert!(outcome.skipped && outcome.norm.is_nan() && outcome.clip_factor == 0.0, "{outcome:?}");
    assert_eq!((bits(engine.params()), engine.state().2), (before, 0));
}

#[test]
fn decay_is_of_matrices_only() {
    let config = gpt2();
    let params = rough(&config, 1);
    let mut engine = engine(&config, 1, 8, params.clone());
    let gradient = engine.local_gradient();
    gradient.fill(0.0);
    engine.step_with(0.5);
    // A gradient of zero leaves the decay: 1 - 0.5 * 0.1.
    let matrices = engine.layout().matrices();
    for (i, (&after, &before)) in engine.params().iter().zip(params.iter()).enumerate() {
        let want = if i < matrices { before * 0.95 } else { before };
        assert_eq!(after, want, "parameter {i}");
    }
}

#[test]
fn what_makes_no_sense_is_named() {
    let told = |change: fn(&mut Config)| {
        let mut config = gpt2();
        change(&mut config);
        config.check().unwrap_err().to_string()
    };
    assert_eq!(told(|c| c.layers = 0), "layers = 0: must be at least 1");
    assert_eq!(told(|c| c.heads = 3), "dim = 16: must be a multiple of heads, 3");
    assert_eq!(told(|c| c.dropout = 1.0), "dropout = 1: must be at least 0 and below 1");
    assert_eq!(told(|c| c.dropout = f32::NAN), "dropout = NaN: must be at least 0 and below 1");
    assert!(told(|c| c.dim = 258).starts_with("dim = 258: a head may have 128 features"));
    assert!(told(|c| c.vocab = usize::MAX).ends_with(": must be at most 1048576"));
    let told_size = told(|c| (c.layers, c.heads, c.dim) = (4096, 64, 8192));
    assert!(told_size.starts_with("size = layers 4096, heads 64, dim 8192, "), "{told_size}");
    assert!(told_size.ends_with("a model may have 2^31 parameters"), "{told_size}");
    assert!(told(|c| c.dim = usize::MAX - 1).starts_with("dim = "));

    let config = gpt2();
    let with = |batch, time, rank, len| {
        let mut params = AlignedVec::default();
        params.resize_for_overwrite(len);
        Engine::for_rank(config.clone(), Optim::default(), batch, time, rank, params).map(|_| ()).unwrap_err()
    };
    let len = config.parameters();
    assert_eq!(with(0, 8, (0, 1), len), EngineError::Shape { batch: 0, time: 8, block: 8 });
    assert_eq!(with(4, 9, (0, 1), len), EngineError::Shape { batch: 4, time: 9, block: 8 });
    for rank in [(0, 8), (0, 3), (2, 2), (0, 0)] {
        let (rank, ranks) = rank;
        assert_eq!(with(4, 8, (rank, ranks), len), EngineError::Ranks { rank, ranks, chunks: 4 });
    }
    assert_eq!(with(4, 8, (0, 1), 3), EngineError::Length { what: "parameters", got: 3, want: len });
    let optim = Optim { clip: 0.0, ..Optim::default() };
    let refused = Engine::new(config.clone(), optim, 4, 8, rough(&config, 1)).map(|_| ()).unwrap_err();
    assert_eq!(refused.to_string(), "max_norm = 0: must be above 0");

    let mut engine = engine(&config, 1, 4, rough(&config, 1));
    let before = engine.loss(&[1; 4], &[2; 4]);
    assert_eq!(
        engine.loss(&[1, 2, 13, 14], &[0; 4]).unwrap_err().to_string(),
        "token 2 is 13: must be below 13"
    );
    assert_eq!(
        engine.gradients(&[0; 4], &[9, 99, 0, 0], 0, 1).unwrap_err().to_string(),
        "target 1 is 99: must be below 13"
    );
    assert_eq!(engine.loss(&[0; 4], &[0; 5]).unwrap_err().to_string(), "targets: 5 values, there must be 4");
    assert_eq!(engine.loss(&[1; 4], &[2; 4]), before);
}
