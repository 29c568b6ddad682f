//! A gpt run's checkpoint: index and tensors, damaged behind the hash; resumed, and read to generate with.
#![no_main]

use std::sync::LazyLock;

use hotlanes_fuzz::damage::{self, Choices};
use hotlanes_fuzz::{parts, restore, save, scratch};
use hotlanes_train::data::text::{Corpus, Source};
use hotlanes_train::models::gpt::config::{Act, Config, Norm};
use hotlanes_train::models::gpt::schedule::Schedule;
use hotlanes_train::models::gpt::settings::Settings;
use hotlanes_train::models::gpt::state::{self, Which};
use hotlanes_train::models::gpt::trainer::Recipe as Gpt;
use hotlanes_train::shell::ranks::Alone;
use hotlanes_train::shell::trainer::{Recipe, Trainer};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

struct Base {
    recipe: Gpt,
    data: Corpus,
    index: Value,
    tensors: Vec<u8>,
}

static BASE: LazyLock<Base> = LazyLock::new(|| {
    let model = Config {
        layers: 1,
        heads: 1,
        dim: 4,
        block: 4,
        vocab: 1,
        norm: Norm::LayerNorm,
        act: Act::Gelu,
        tied: true,
        bias: true,
        bf16: false,
        dropout: 0.0,
    };
    let settings = Settings {
        model,
        batch: 1,
        accumulate: 1,
        schedule: Schedule { lr: 1e-2, min_lr: 1e-3, warmup: 2, decay: 10 },
        beta1: 0.9,
        beta2: 0.99,
        weight_decay: 0.1,
        clip: 0.5,
        eval_every: 5,
        eval_batches: 1,
        patience: 0,
        log_every: 2,
        seed: 1,
    };
    let source = Source { stories: 2000, ..Source::default() };
    let mut recipe = Gpt { settings, source };
    let data = recipe.load().expect("settings that work");
    let directory = scratch();
    let mut trainer = recipe.trainer(&data, &Alone).expect("settings that work");
    // What is due, and a step.
    (0..2).for_each(|_| drop(trainer.advance().expect("a step")));
    save(directory.path(), &recipe, "0", &trainer);
    let (index, tensors) = parts(directory.path(), Gpt::KIND);
    drop(trainer);
    Base { recipe, data, index, tensors }
});

fuzz_target!(|bytes: &[u8]| {
    let Base { recipe, data, index, tensors } = &*BASE;
    let directory = scratch();
    damage::write(directory.path(), Gpt::KIND, index.clone(), tensors, &mut Choices(bytes));
    let _ = state::load_model(directory.path(), Some(Which::Last));
    let _ = restore(directory.path(), recipe, data, true);
});
