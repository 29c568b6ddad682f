//! The settings of a run, and their rules.

use serde::{Deserialize, Serialize};

use super::evolve::Evolution;
use super::network::MAX_NODES;
use super::stream::Block;
use super::train::Optimizer;
use crate::data::idx::CLASSES;
use crate::shell::memory;
use crate::shell::settings::{self, SettingError, number};

/// How weights follow gradients.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Plain stochastic gradient descent.
    Sgd,
    /// AdamW.
    AdamW,
}

/// The settings of a run, on which, with the data, every bit of it depends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Individuals.
    pub population: usize,
    /// Nodes of each hidden layer of the first networks.
    pub hidden: Vec<usize>,
    /// The share of the inputs that a node of the first hidden layer reads.
    pub input_density: f64,
    /// The share of the layer before that every later node reads.
    pub density: f64,
    /// Examples per step; 1 is exact online learning.
    pub batch: usize,
    /// How weights follow gradients.
    pub optimizer: OptimizerKind,
    /// Learning rate.
    pub lr: f64,
    /// AdamW's weight decay.
    pub weight_decay: f64,
    /// Examples in a generation, a multiple of `batch`.
    pub generation: u64,
    /// Selection and mutation at the end of each.
    pub evolution: Evolution,
    /// All randomness.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            population: 200,
            hidden: vec![128, 64],
            input_density: 0.1,
            density: 0.5,
            batch: 32,
            optimizer: OptimizerKind::Sgd,
            lr: 0.3,
            weight_decay: 0.0,
            generation: 8000,
            evolution: Evolution::default(),
            seed: 1,
        }
    }
}

/// Individuals of a population.
const MOST_INDIVIDUALS: u64 = 1 << 20;
/// Examples of a generation: the population's sum of them is then a `u64`.
const MOST_EXAMPLES: u64 = 1 << 40;
/// Values of a batch: examples by inputs.
const MOST_VALUES: usize = 1 << 30;

impl Config {
    /// Checks the settings for images of `inputs` values, and makes the optimizer.
    ///
    /// # Errors
    /// Names the first setting that breaks a rule, its value and the rule.
    pub fn check(&self, inputs: usize) -> Result<Optimizer, SettingError> {
        settings::count("population", self.population as u64, MOST_INDIVIDUALS)?;
        let most = (MOST_VALUES / inputs.max(1)).max(1);
        settings::check(self.batch > 0, "batch", self.batch, "must be at least 1")?;
        let rule = || format!("must be at most {most}, 2^30 values of images");
        settings::check(self.batch <= most, "batch", self.batch, rule())?;
        let hidden = || self.hidden.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        settings::check(!self.hidden.contains(&0), "hidden", hidden(), "every layer has at least 1 node")?;
        let first = inputs.checked_add(1 + CLASSES);
        let nodes = self.hidden.iter().try_fold(first, |sum, &n| Some(sum?.checked_add(n))).flatten();
        // Half of what can be, so that there is room to grow.
        let fits = nodes.is_some_and(|n| n <= MAX_NODES / 2);
        let rule = || format!("with {inputs} inputs there may be {} nodes in all", MAX_NODES / 2);
        settings::check(fits, "hidden", hidden(), rule())?;
        for (name, value) in [("density", self.density), ("input-density", self.input_density)] {
            let rule = "must be above 0 and at most 1";
            settings::check(value > 0.0 && value <= 1.0, name, number(value), rule)?;
        }
        settings::at_most("generation", self.generation, MOST_EXAMPLES)?;
        let whole = self.generation > 0 && self.generation.is_multiple_of(self.batch as u64);
        let rule = || format!("must be a multiple of the batch, {}, and at least that", self.batch);
        settings::check(whole, "generation", self.generation, rule())?;
        self.evolution.check()?;
        let adamw = self.optimizer == OptimizerKind::AdamW;
        let rule = "must be sgd for a batch of 1, which is the exact online step";
        settings::check(!adamw || self.batch > 1, "optimizer", "adamw", rule)?;
        // SGD does not use the decay, but it is stored with the rest.
        let with_decay = Optimizer::adamw(if adamw { self.lr } else { 0.0 }, self.weight_decay)?;
        Ok(if adamw { with_decay } else { Optimizer::sgd(self.lr)? })
    }

    /// Checks that there is memory for the population and `examples` examples of `inputs` values. The settings were
    /// checked.
    ///
    /// # Errors
    /// Names the population, and both amounts.
    pub fn check_memory(&self, inputs: usize, examples: usize) -> Result<(), SettingError> {
        memory::check("population", self.population, "population", self.memory_needed(inputs, examples))
    }

    /// Bytes that a run needs, about.
    pub(super) fn memory_needed(&self, inputs: usize, examples: usize) -> f64 {
        let (mut before, mut density) = (inputs as f64, self.input_density);
        let (mut nodes, mut connections) = (0.0, 0.0);
        for size in self.hidden.iter().copied().chain([CLASSES]).map(|n| n as f64) {
            connections += size * ((before * density).round().clamp(1.0, before) + 1.0);
            nodes += size;
            (before, density) = (size, self.density);
        }
        let individual = INDIVIDUAL_BYTES + connections * CONNECTION_BYTES + nodes * NODE_BYTES;
        let networks = self.population as f64 * individual;
        let batch = self.batch as f64;
        let threads = rayon::current_num_threads().min(self.population) as f64;
        let scratch = threads * 4.0 * (batch * (inputs as f64 + 3.0 * nodes) + connections);
        let values = inputs as f64;
        let block = values * batch * Block::batches_for(self.batch, inputs) as f64;
        // The examples are there twice while they are split.
        networks + scratch + block + 2.0 * values * examples as f64
    }
}

/// Bytes of an individual beside its connections and nodes: measured on networks of a few nodes.
const INDIVIDUAL_BYTES: f64 = 10_000.0;
/// Bytes of a connection: its source, weight and moments, and its places in the plans of both directions.
const CONNECTION_BYTES: f64 = 60.0;
/// Bytes of a node: its name, its row's start in the network and in both plans, its place among its level's sources.
const NODE_BYTES: f64 = 80.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn told(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        config.check(784).unwrap_err().to_string()
    }

    #[test]
    fn settings_out_of_range_are_named_as_they_are_typed() {
        Config::default().check(784).unwrap();
        assert_eq!(told(|c| c.population = 0), "population = 0: must be at least 1");
        assert_eq!(
            told(|c| c.population = usize::MAX),
            format!("population = {}: must be at most 1048576", usize::MAX)
        );
        assert_eq!(
            told(|c| c.batch = usize::MAX),
            format!("batch = {}: must be at most 1369568, 2^30 values of images", usize::MAX)
        );
        assert_eq!(told(|c| c.hidden = vec![8, 0]), "hidden = 8,0: every layer has at least 1 node");
        assert!(
            told(|c| c.hidden = vec![usize::MAX, 2])
                .starts_with("hidden = 18446744073709551615,2: with 784 inputs")
        );
        assert_eq!(told(|c| c.density = 2.0), "density = 2: must be above 0 and at most 1");
        assert!(told(|c| c.input_density = f64::NAN).starts_with("input-density = NaN: must be above 0"));
        assert!(
            told(|c| c.generation = 33).starts_with("generation = 33: must be a multiple of the batch, 32")
        );
        assert!(told(|c| c.generation = u64::MAX - 31).ends_with("must be at most 1099511627776"));
        assert!(told(|c| c.lr = 1e300).starts_with("lr = 1e300: must be at least 0 and at most 1e30"));
        assert!(told(|c| c.weight_decay = f64::NAN).starts_with("weight-decay = NaN: "), "SGD stores it too");
        assert!(
            told(|c| (c.batch, c.optimizer) = (1, OptimizerKind::AdamW)).starts_with("optimizer = adamw: ")
        );
    }

    #[test]
    fn what_does_not_fit_into_memory_is_refused_before_it_is_allocated() {
        let config = Config { population: 1 << 20, hidden: vec![16_000, 15_000], ..Config::default() };
        config.check(784).unwrap();
        if memory::available().is_some() {
            let told = config.check_memory(784, 5000).unwrap_err().to_string();
            assert!(told.starts_with("population = 1048576: this population would need about "), "{told}");
            Config { population: 2, ..Config::default() }.check_memory(784, 5000).unwrap();
        }
        // Each part counts.
        let of = |config: &Config, examples| config.memory_needed(784, examples);
        let base = Config { population: 4, ..Config::default() };
        let more = [
            (Config { population: 5, ..base.clone() }, 0),
            (Config { batch: 64, ..base.clone() }, 0),
            (Config { hidden: vec![200], ..base.clone() }, 0),
            (base.clone(), 10),
        ];
        assert!(more.iter().all(|(config, examples)| of(config, *examples) > of(&base, 0)));
    }
}
