//! One hash for a run, whatever the tier, the threads, and however often it was stopped.

use std::path::Path;

use hotlanes::Tier;
use hotlanes_train::data::idx::Split;
use hotlanes_train::models::population::evolve::Evolution;
use hotlanes_train::models::population::run::{Config, OptimizerKind, Run};
use hotlanes_train::models::population::state::{self, NAME, Snapshot};
use hotlanes_train::shell::session;
use hotlanes_train::shell::trainer::Trainer;
use hotlanes_train::store::checkpoint::{self, Checkpoints, Saved};
use hotlanes_train::store::files::System;

use crate::gradients::WILD;

/// Small enough for a debug build under emulation; every mutation happens.
fn config(batch: usize, optimizer: OptimizerKind) -> Config {
    let evolution =
        Evolution { cull: 0.5, elites: 2, crossover: 0.5, mutation: WILD, ..Evolution::default() };
    Config {
        population: 6,
        hidden: vec![12, 6],
        input_density: 0.04,
        batch,
        optimizer,
        lr: if optimizer == OptimizerKind::AdamW { 0.01 } else { 0.05 },
        weight_decay: 0.01,
        generation: 96,
        evolution,
        ..Config::default()
    }
}

fn data() -> Split {
    Split::procedural(100, 20, 1).unwrap()
}

/// The hash after three generations.
fn hash(config: &Config, data: &Split) -> u64 {
    let mut run = Run::new(config.clone(), data).unwrap();
    while run.population.generation < 3 {
        run.advance();
    }
    run.population.individuals.iter().for_each(|i| i.network.check().unwrap());
    run.population.hash()
}

/// The three ways to learn.
fn ways() -> [Config; 3] {
    [config(32, OptimizerKind::Sgd), config(16, OptimizerKind::AdamW), config(1, OptimizerKind::Sgd)]
}

/// Their hashes. Where one moves it is said in CHANGELOG.md, with the reason.
const GOLDEN: [u64; 3] = [0x32e9_d909_fc4d_6c83, 0x404b_0645_c0dc_8783, 0xe29c_8e5d_5a8a_f535];

#[test]
fn tiers_and_threads_give_the_golden_hash() {
    let data = data();
    let best = Tier::available().next_back();
    for tier in Tier::available() {
        let threads: &[usize] = if Some(tier) == best { &[1, 2, 3] } else { &[2] };
        for &threads in threads {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let all = || ways().map(|config| hash(&config, &data));
            let hashes = pool.install(|| hotlanes::with_tier(tier, all).unwrap());
            assert_eq!(hashes, GOLDEN, "{hashes:x?} on {tier}, {threads} threads");
        }
    }
}

/// With the digits in turn, every fifth had been a 4 or a 9, which no image to train on was.
#[test]
fn what_is_learnt_from_drawn_digits_holds_for_those_held_out() {
    let data = Split::procedural(600, 60, 1).unwrap();
    let config =
        Config { population: 4, hidden: vec![32], generation: 3200, ..config(16, OptimizerKind::AdamW) };
    let mut run = Run::new(config, &data).unwrap();
    let last = std::iter::from_fn(|| Some(run.advance())).flatten().nth(1).unwrap();
    assert!(last.best_validation > 0.6 && last.best_test > 0.6, "{last:?}");
}

#[test]
fn the_seed_decides() {
    let data = data();
    let config = config(32, OptimizerKind::Sgd);
    let other = Config { seed: 2, ..config.clone() };
    assert_ne!(hash(&config, &data), hash(&other, &data));
}

fn save(run: &Run<'_>, directory: &Path) {
    let snapshot = serde_json::to_value(run.snapshot()).unwrap();
    let (tensors, step) = (run.tensors(), run.position());
    let saved = Saved { step, sha256: tensors.digest(&snapshot), log: None, snapshot };
    let mut all = Checkpoints::new(&System, directory, NAME, NAME, 1);
    all.save(serde_json::Value::Null, saved, &tensors).unwrap();
}

/// Stops within a generation too: a block is shorter than one here.
#[test]
fn a_run_that_is_saved_and_resumed_is_the_run() {
    let data = data();
    let directory = tempfile::tempdir().unwrap();
    for optimizer in [OptimizerKind::Sgd, OptimizerKind::AdamW] {
        let config = Config { generation: 1440, population: 3, ..config(16, optimizer) };
        let mut whole = Run::new(config.clone(), &data).unwrap();
        let mut parts = Run::new(config.clone(), &data).unwrap();
        let mut within = 0;
        for _ in 0..3 {
            whole.advance();
            parts.advance();
            within += u32::from(!parts.population.examples.is_multiple_of(config.generation));
            save(&parts, directory.path());
            let (_, saved, stored) = checkpoint::load(directory.path(), NAME, None).unwrap();
            parts = Run::new(config.clone(), &data).unwrap();
            session::restore(&mut parts, directory.path(), NAME, &saved, &stored).unwrap();
            assert_eq!(parts.population.hash(), whole.population.hash());
        }
        assert!(within > 0, "no stop was within a generation");
        let losses = |run: &Run<'_>| -> Vec<u64> {
            run.population.individuals.iter().map(|i| i.loss.to_bits()).collect()
        };
        assert_eq!(losses(&parts), losses(&whole));
    }
}

#[test]
fn a_checkpoint_of_other_settings_is_refused() {
    let data = data();
    let directory = tempfile::tempdir().unwrap();
    let config = config(32, OptimizerKind::AdamW);
    save(&Run::new(config.clone(), &data).unwrap(), directory.path());
    let (_, saved, stored) = checkpoint::load(directory.path(), NAME, None).unwrap();
    let snapshot: Snapshot = serde_json::from_value(saved.snapshot).unwrap();
    let named = stored.tensors().unwrap();
    let refused = |config: &Config, inputs| {
        state::population(config, inputs, snapshot, &named).unwrap_err().to_string()
    };
    let told = refused(&Config { population: 5, ..config.clone() }, 784);
    assert!(told.ends_with("6 individuals: the rest of the file asks for 5"), "{told}");
    assert!(refused(&config, 10).contains("individual 0: "));
}

#[test]
fn settings_out_of_range_are_named() {
    let data = data();
    let told = |change: &dyn Fn(&mut Config)| {
        let mut config = config(32, OptimizerKind::Sgd);
        change(&mut config);
        Run::new(config, &data).map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(told(&|c| c.population = 0), "population = 0: must be at least 1");
    assert_eq!(told(&|c| c.batch = 0), "batch = 0: must be at least 1");
    assert_eq!(told(&|c| c.density = 0.0), "density = 0: must be above 0 and at most 1");
    assert_eq!(
        told(&|c| c.generation = 100),
        "generation = 100: must be a multiple of the batch, 32, and at least that"
    );
    assert!(told(&|c| c.hidden = vec![4, 0]).starts_with("hidden = 4,0: "));
    assert!(told(&|c| c.hidden = vec![usize::MAX, 5]).contains("there may be 32768 nodes"));
    assert!(told(&|c| c.lr = f64::NAN).starts_with("lr = NaN: "));
    assert!(told(&|c| c.evolution.cull = 2.0).starts_with("cull = 2: "));
    let online = |c: &mut Config| (c.batch, c.optimizer) = (1, OptimizerKind::AdamW);
    assert!(told(&online).starts_with("optimizer = adamw: "));
}
