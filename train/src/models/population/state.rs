//! A population as tensors, and back.

use serde::{Deserialize, Serialize};

use super::network::{ACTIVATIONS, Network, Node, NodeId, Parts, activation_index};
use super::plan::Plans;
use super::run::{Config, OptimizerKind, Population};
use super::train::Individual;
use crate::data::idx::{CLASSES, Data, Split};
use crate::store::checkpoint::CheckpointError;
use crate::store::hash;
use crate::store::tensors::{Named, Tensors};

/// The name of a population's checkpoint in its directory.
pub const NAME: &str = "population";

/// Examples, steps and generations at most: no machine gets there.
const MOST_DONE: u64 = 1 << 53;

/// A run's state without its tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Examples learnt from.
    pub examples: u64,
    /// Generations that have ended.
    pub generation: u64,
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
pub fn tensors(population: &Population, optimizer: OptimizerKind) -> Tensors<'_> {
    let all = &population.individuals;
    let networks = || all.iter().map(|i| &i.network);
    let rows: usize = networks().map(Network::rows).sum();
    let connections: usize = networks().map(Network::connections).sum();
    let lengths = |n: &Network| -> Vec<u32> { n.indptr().windows(2).map(|p| (p[1] - p[0]) as u32).collect() };
    // The file is the same on every CPU, whatever the signs of its NaNs.
    let one_nan = |x: f32| f32::from_bits(hash::bits(x));
    let loss = |i: &Individual| if i.loss.is_nan() { f64::NAN } else { i.loss };
    let activation = |n: &Node| activation_index(n.activation) as u8;
    let mut tensors = Tensors::default();
    tensors.gather("individual.rows", all.len(), move || networks().map(|n| n.rows() as u64));
    tensors.gather("individual.steps", all.len(), || all.iter().map(|i| i.steps));
    tensors.gather("individual.loss", all.len(), move || all.iter().map(loss));
    tensors.gather("row.id", rows, move || networks().flat_map(Network::nodes).map(|n| n.id.0));
    tensors.gather("row.activation", rows, move || networks().flat_map(Network::nodes).map(activation));
    tensors.gather("row.connections", rows, move || networks().flat_map(lengths));
    tensors.gather("connection.source", connections, move || {
        networks().flat_map(|n| n.sources().iter().copied())
    });
    tensors.gather("connection.weight", connections, move || {
        networks().flat_map(move |n| n.values().iter().copied().map(one_nan))
    });
    if optimizer == OptimizerKind::AdamW {
        for (i, name) in ["connection.m", "connection.v"].into_iter().enumerate() {
            tensors.gather(name, connections, move || {
                networks().flat_map(move |n| n.moments()[i].iter().copied().map(one_nan))
            });
        }
    }
    tensors
}

/// The population of a checkpoint.
///
/// # Errors
/// The tensors are not those of the settings, or not those of networks.
pub fn population(
    config: &Config,
    inputs: usize,
    snapshot: Snapshot,
    named: &Named<'_>,
) -> Result<Population, CheckpointError> {
    let rows: Vec<u64> = named.get("individual.rows")?;
    let steps: Vec<u64> = named.get("individual.steps")?;
    let loss: Vec<f64> = named.get("individual.loss")?;
    let ids: Vec<u64> = named.get("row.id")?;
    let activations: Vec<u8> = named.get("row.activation")?;
    let lengths: Vec<u32> = named.get("row.connections")?;
    let sources: Vec<u16> = named.get("connection.source")?;
    let values: Vec<f32> = named.get("connection.weight")?;
    let [m, v] = match config.optimizer {
        OptimizerKind::AdamW => [named.get("connection.m")?, named.get("connection.v")?],
        OptimizerKind::Sgd => [vec![0.0; values.len()], vec![0.0; values.len()]],
    };
    let done = [("examples", snapshot.examples), ("generation", snapshot.generation)];
    named.check_counts(&done, MOST_DONE)?;
    steps.iter().try_for_each(|&steps| named.check_counts(&[("individual.steps", steps)], MOST_DONE))?;
    // Sums that would wrap are no lengths of anything.
    let sum = |counts: &mut dyn Iterator<Item = u64>| counts.fold(0, u64::saturating_add);
    let counts = [
        ("individuals", rows.len(), config.population as u64),
        ("steps", steps.len(), rows.len() as u64),
        ("losses", loss.len(), rows.len() as u64),
        ("names", ids.len(), sum(&mut rows.iter().copied())),
        ("activations", activations.len(), ids.len() as u64),
        ("row lengths", lengths.len(), ids.len() as u64),
        ("sources", sources.len(), sum(&mut lengths.iter().map(|&n| n.into()))),
        ("weights", values.len(), sources.len() as u64),
        ("first moments", m.len(), sources.len() as u64),
        ("second moments", v.len(), sources.len() as u64),
    ];
    if let Some((what, have, want)) = counts.into_iter().find(|&(_, have, want)| have as u64 != want) {
        return Err(named.wrong(format!("{have} {what}: the rest of the file asks for {want}")));
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
                    named.wrong(format!("row {r} has activation number {}: there are 4", activations[r]))
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
        let network = network.map_err(|e| named.wrong(format!("individual {i}: {e}")))?;
        individuals.push(Individual { plans: Plans::new(&network), network, steps: steps[i], loss: loss[i] });
        (row, slot) = (end, at.end);
    }
    let Snapshot { examples, generation } = snapshot;
    Ok(Population { individuals, examples, generation })
}
