//! A population as tensors, and back.

use serde::{Deserialize, Serialize};

use super::network::{ACTIVATIONS, Network, Node, NodeId, Parts, activation_index};
use super::plan::Plans;
use super::run::{Config, Generation, OptimizerKind, Population};
use super::train::Individual;
use crate::data::idx::{CLASSES, Data, Split};
use crate::store::checkpoint::{CheckpointError, Stored, Tensors};
use crate::store::hash;

/// The name of a population's checkpoint in its directory.
pub const NAME: &str = "population";

/// Where a run's data come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The directory of the IDX files; without one the program draws digits.
    pub directory: Option<std::path::PathBuf>,
    /// Digits that the program draws.
    pub images: usize,
    /// Training images set aside to select by.
    pub validation: usize,
}

/// What a checkpoint's JSON file says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// The settings.
    pub config: Config,
    /// Where the data come from.
    pub source: Source,
    /// A hash of the data.
    pub data: String,
    /// Examples learnt from.
    pub examples: u64,
    /// Generations that have ended.
    pub generation: u64,
    /// [`Population::hash`], by which the tensors are known to be those of this file.
    pub hash: String,
    /// All generations so far.
    pub history: Vec<Generation>,
}

/// A hash of what a run learns from and selects by.
pub fn data_hash(split: &Split) -> String {
    let fold = |hash: u64, data: &Data| {
        let bytes = data.pixels.iter().chain(&data.labels);
        bytes.fold(hash ^ data.features as u64, |h, &b| hash::add(h, b.into()))
    };
    let hash = [&split.train, &split.validation, &split.test].into_iter().fold(hash::START, fold);
    format!("{hash:016x}")
}

/// The population's tensors: the individuals' arrays one after the other, and how long each is.
pub fn tensors(population: &Population, optimizer: OptimizerKind) -> Tensors {
    let all = &population.individuals;
    let networks = || all.iter().map(|i| &i.network);
    let rows: usize = networks().map(Network::rows).sum();
    let connections: usize = networks().map(Network::connections).sum();
    let lengths = |n: &Network| -> Vec<u32> { n.indptr().windows(2).map(|p| (p[1] - p[0]) as u32).collect() };
    // The file is the same on every CPU, whatever the signs of its NaNs.
    let one_nan = |x: f32| f32::from_bits(hash::bits(x));
    let mut tensors = Tensors::default();
    tensors.add("individual.rows", &[all.len()], networks().map(|n| n.rows() as u64));
    tensors.add("individual.steps", &[all.len()], all.iter().map(|i| i.steps));
    tensors.add(
        "individual.loss",
        &[all.len()],
        all.iter().map(|i| if i.loss.is_nan() { f64::NAN } else { i.loss }),
    );
    tensors.add("row.id", &[rows], networks().flat_map(Network::nodes).map(|n| n.id.0));
    let activation = |n: &Node| activation_index(n.activation) as u8;
    tensors.add("row.activation", &[rows], networks().flat_map(Network::nodes).map(activation));
    tensors.add("row.connections", &[rows], networks().flat_map(lengths));
    tensors.add("connection.source", &[connections], networks().flat_map(|n| n.sources().iter().copied()));
    tensors.add(
        "connection.weight",
        &[connections],
        networks().flat_map(|n| n.values().iter().copied().map(one_nan)),
    );
    if optimizer == OptimizerKind::AdamW {
        for (i, name) in ["connection.m", "connection.v"].into_iter().enumerate() {
            tensors.add(
                name,
                &[connections],
                networks().flat_map(|n| n.moments()[i].iter().copied().map(one_nan)),
            );
        }
    }
    tensors
}

/// The population of a checkpoint.
///
/// # Errors
/// The tensors are not those of the state, or not those of networks.
pub fn population(state: &State, inputs: usize, stored: &Stored) -> Result<Population, CheckpointError> {
    let named = stored.tensors()?;
    let rows: Vec<u64> = named.get("individual.rows")?;
    let steps: Vec<u64> = named.get("individual.steps")?;
    let loss: Vec<f64> = named.get("individual.loss")?;
    let ids: Vec<u64> = named.get("row.id")?;
    let activations: Vec<u8> = named.get("row.activation")?;
    let lengths: Vec<u32> = named.get("row.connections")?;
    let sources: Vec<u16> = named.get("connection.source")?;
    let values: Vec<f32> = named.get("connection.weight")?;
    let [m, v] = match state.config.optimizer {
        OptimizerKind::AdamW => [named.get("connection.m")?, named.get("connection.v")?],
        OptimizerKind::Sgd => [vec![0.0; values.len()], vec![0.0; values.len()]],
    };
    let counts = [
        ("individuals", rows.len(), state.config.population),
        ("steps", steps.len(), rows.len()),
        ("losses", loss.len(), rows.len()),
        ("names", ids.len() as u64 as usize, rows.iter().sum::<u64>() as usize),
        ("activations", activations.len(), ids.len()),
        ("row lengths", lengths.len(), ids.len()),
        ("sources", sources.len(), lengths.iter().map(|&n| n as usize).sum()),
        ("weights", values.len(), sources.len()),
        ("first moments", m.len(), sources.len()),
        ("second moments", v.len(), sources.len()),
    ];
    if let Some((what, have, want)) = counts.into_iter().find(|&(_, have, want)| have != want) {
        return Err(stored.wrong(format!("{have} {what}: the rest of the file asks for {want}")));
    }
    let mut individuals = Vec::new();
    let (mut row, mut slot) = (0, 0);
    for (i, &count) in rows.iter().enumerate() {
        let end = row + count as usize;
        let mut indptr = vec![0];
        let mut nodes = Vec::new();
        for r in row..end {
            let Some(&activation) = ACTIVATIONS.get(usize::from(activations[r])) else {
                return Err(
                    stored.wrong(format!("row {r} has activation number {}: there are 4", activations[r]))
                );
            };
            nodes.push(Node { id: NodeId(ids[r]), activation });
            indptr.push(indptr[r - row] + lengths[r] as usize);
        }
        let at = slot..slot + indptr[count as usize];
        let network = Network::from_parts(Parts {
            inputs,
            outputs: CLASSES,
            nodes,
            indptr,
            sources: sources[at.clone()].to_vec(),
            values: values[at.clone()].to_vec(),
            m: m[at.clone()].to_vec(),
            v: v[at.clone()].to_vec(),
        });
        let network = network.map_err(|e| stored.wrong(format!("individual {i}: {e}")))?;
        individuals.push(Individual { plans: Plans::new(&network), network, steps: steps[i], loss: loss[i] });
        (row, slot) = (end, at.end);
    }
    let population = Population { individuals, examples: state.examples, generation: state.generation };
    let hash = format!("{:016x}", population.hash());
    if hash != state.hash {
        return Err(
            stored.wrong(format!("the population's hash is {hash}: the JSON file says {}", state.hash))
        );
    }
    Ok(population)
}
