//! A population's checkpoint: index and tensors, damaged behind the hash.
#![no_main]

use std::sync::LazyLock;

use hotlanes_fuzz::damage::{self, Choices};
use hotlanes_fuzz::{parts, restore, save, scratch};
use hotlanes_train::data::idx::Split;
use hotlanes_train::models::population::settings::{Config, OptimizerKind};
use hotlanes_train::models::population::trainer::Recipe as Population;
use hotlanes_train::shell::ranks::Alone;
use hotlanes_train::shell::trainer::{Recipe, Trainer};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

struct Base {
    recipe: Population,
    data: Split,
    index: Value,
    tensors: Vec<u8>,
}

static BASE: LazyLock<Base> = LazyLock::new(|| {
    let config = Config {
        population: 3,
        hidden: vec![2],
        batch: 16,
        generation: 16,
        input_density: 0.005,
        optimizer: OptimizerKind::AdamW,
        ..Config::default()
    };
    let source = hotlanes_train::data::idx::Source { place: None, digits: 100, validation: 10 };
    let mut recipe = Population { config, source };
    let data = recipe.load().expect("settings that work");
    let directory = scratch();
    let mut trainer = recipe.trainer(&data, &Alone).expect("settings that work");
    trainer.advance().expect("a generation");
    save(directory.path(), &recipe, "0", &trainer);
    let (index, tensors) = parts(directory.path(), Population::KIND);
    drop(trainer);
    Base { recipe, data, index, tensors }
});

fuzz_target!(|bytes: &[u8]| {
    let Base { recipe, data, index, tensors } = &*BASE;
    let directory = scratch();
    damage::write(directory.path(), Population::KIND, index.clone(), tensors, &mut Choices(bytes));
    let _ = restore(directory.path(), recipe, data, true);
});
