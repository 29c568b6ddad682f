//! Training runs of a GPT: one hash whatever the tier, threads, ranks and interruptions; checkpoints; evaluation; text.

mod bits;
mod checkpoints;
mod generate;
mod learning;

use hotlanes_train::data::text::{Corpus, Source};
use hotlanes_train::data::tokenizer::Kind;
use hotlanes_train::models::gpt::config::{Act, Config, Norm};
use hotlanes_train::models::gpt::settings::Settings;
use hotlanes_train::schedule::Schedule;

/// Stories.
fn source(tokenizer: Kind) -> Source {
    Source { stories: 3000, tokenizer, ..Source::default() }
}

fn corpus() -> Corpus {
    source(Kind::Char).load(16).unwrap()
}

/// Small enough for a debug build under emulation. Two micro-batches, each of four chunks; clipping clips.
fn settings() -> Settings {
    Settings {
        model: Config {
            layers: 2,
            heads: 2,
            dim: 16,
            block: 16,
            vocab: corpus().tokenizer.vocab(),
            norm: Norm::RmsNorm,
            act: Act::SquaredRelu,
            tied: false,
            bias: false,
            bf16: false,
            dropout: 0.0,
        },
        batch: 4,
        accumulate: 2,
        schedule: Schedule { lr: 1e-2, min_lr: 1e-3, warmup: 2, decay: 10 },
        beta1: 0.9,
        beta2: 0.99,
        weight_decay: 0.1,
        clip: 0.5,
        eval_every: 5,
        eval_batches: 2,
        patience: 0,
        log_every: 2,
        seed: 1,
    }
}

/// The other model: LayerNorm, GELU, biases, tied, dropout, bf16.
fn other() -> Settings {
    let mut settings = settings();
    let model = settings.model;
    settings.model = Config {
        norm: Norm::LayerNorm,
        act: Act::Gelu,
        tied: true,
        bias: true,
        bf16: true,
        dropout: 0.1,
        ..model
    };
    settings.clip = 0.0;
    settings.accumulate = 1;
    settings
}
