//! Small models and batches.

use hotlanes::AlignedVec;
use hotlanes_train::models::gpt::config::{Act, Config, Norm};
use hotlanes_train::models::gpt::engine::{Engine, Optim};
use hotlanes_train::models::gpt::params::{self, Layout};
use hotlanes_train::rng::Rng;

/// A model as GPT-2 is one.
pub(crate) fn gpt2() -> Config {
    Config {
        layers: 2,
        heads: 2,
        dim: 16,
        block: 8,
        vocab: 13,
        norm: Norm::LayerNorm,
        act: Act::Gelu,
        tied: false,
        bias: true,
        bf16: false,
        dropout: 0.0,
    }
}

/// One with all the other choices.
pub(crate) fn lean() -> Config {
    Config {
        heads: 4,
        dim: 12,
        block: 9,
        norm: Norm::RmsNorm,
        act: Act::SquaredRelu,
        tied: true,
        bias: false,
        ..gpt2()
    }
}

/// Parameters that are all far from 0: biases too, and large enough for every part to matter.
pub(crate) fn rough(config: &Config, seed: u64) -> AlignedVec {
    let mut params = params::init(config, seed);
    let layout = Layout::new(config);
    for (i, tensor) in layout.tensors().iter().enumerate() {
        let mut rng = Rng::new(seed, 77, i as u64, 0);
        params[tensor.range.clone()].iter_mut().for_each(|p| *p += 0.25 * rng.normal());
    }
    params
}

/// Tokens and targets.
pub(crate) fn batch(config: &Config, batch: usize, time: usize, seed: u64) -> [Vec<u32>; 2] {
    let mut rng = Rng::new(seed, 78, 0, 0);
    [(); 2].map(|()| (0..batch * time).map(|_| rng.below(config.vocab) as u32).collect())
}

pub(crate) fn engine(config: &Config, batch: usize, time: usize, params: AlignedVec) -> Engine {
    Engine::new(config.clone(), Optim::default(), batch, time, params).unwrap()
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// FNV-1a.
pub(crate) fn hash(mut hash: u64, words: impl IntoIterator<Item = u64>) -> u64 {
    for word in words {
        for byte in word.to_le_bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
    hash
}
