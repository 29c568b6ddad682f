//! A network: a directed acyclic graph whose connections are one matrix in compressed sparse rows.
//!
//! Positions number the nodes in topological order: first the inputs, then a constant 1 (whose connections are biases),
//! then the rows of the matrix, of which the last ones are the outputs. A connection runs from any position to a later
//! row; outputs feed nothing. Rows lie in levels: a node's level is one more than the highest that it reads, and all
//! outputs have the last. Nodes of a level do not feed each other, so a level is computed at once.

use hotlanes::activation::Activation;

use crate::rng::Rng;
use crate::shell::profile::bytes;
use crate::store::hash;

mod check;
mod edit;
mod settle;

pub use check::NetworkError;

/// What names a node for as long as its line lives, wherever it stands in its network.
///
/// The first nodes are numbered alike in every individual. The node that splits a connection is named after that
/// connection, so that individuals that split the same one have the same node, without a register of who did so first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

/// What names a connection, by which parents are compared in crossover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// The node that is read.
    pub from: NodeId,
    /// The node that reads.
    pub to: NodeId,
}

/// A node with connections of its own: not an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub id: NodeId,
    /// What its sum goes through.
    pub activation: Activation,
}

/// The activations that nodes may have, in the order in which a level is sorted by them.
pub const ACTIVATIONS: [Activation; 4] =
    [Activation::Relu, Activation::Sigmoid, Activation::Tanh, Activation::Identity];

/// At most this many nodes, inputs included: positions are `u16`.
pub const MAX_NODES: usize = 1 << 16;

/// A network with its weights and the optimizer's moments.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    inputs: usize,
    outputs: usize,
    // Invariants, which `check` states: one activation and id per row; the outputs are the last rows.
    nodes: Vec<Node>,
    /// The first row of each level, and at the end how many rows there are. As of the last `settle`.
    levels: Vec<usize>,
    indptr: Vec<usize>,
    sources: Vec<u16>,
    /// Weights, and AdamW's moments.
    slots: Slots,
}

/// What each connection has.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Slots {
    pub(super) values: Vec<f32>,
    pub(super) m: Vec<f32>,
    pub(super) v: Vec<f32>,
}

/// The parts of a network, as a checkpoint has them.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Inputs, without the constant.
    pub inputs: usize,
    /// Outputs.
    pub outputs: usize,
    /// The rows' nodes.
    pub nodes: Vec<Node>,
    /// Where each row's connections start, and at the end how many there are.
    pub indptr: Vec<usize>,
    /// The position that each connection reads.
    pub sources: Vec<u16>,
    /// Its weight.
    pub values: Vec<f32>,
    /// Its first moment.
    pub m: Vec<f32>,
    /// Its second moment.
    pub v: Vec<f32>,
}

/// What a first network looks like.
#[derive(Clone, Debug, PartialEq)]
pub struct Layers<'a> {
    /// Inputs, without the constant.
    pub inputs: usize,
    /// Nodes of each hidden layer.
    pub hidden: &'a [usize],
    /// Outputs.
    pub outputs: usize,
    /// The share of the inputs that a node of the first hidden layer reads.
    pub input_density: f64,
    /// The share of its layer that every later node reads of the one before.
    pub density: f64,
}

impl Network {
    /// Bytes of nodes, levels and connections, without what the connections have.
    pub(super) fn structure_bytes(&self) -> f64 {
        bytes(&self.nodes) + bytes(&self.levels) + bytes(&self.indptr) + bytes(&self.sources)
    }

    /// A layered network with ReLU in between: each node reads as many nodes of the layer before as the density says
    /// (at least one), chosen at random, and the constant. Weights are uniform with variance 2 / connections (He et
    /// al., "Delving Deep into Rectifiers", arXiv 1502.01852), biases 0.
    ///
    /// # Panics
    /// If there are no inputs or outputs, an empty layer, or more than [`MAX_NODES`] nodes.
    pub fn layered(layers: &Layers<'_>, rng: &mut Rng) -> Network {
        let Layers { inputs, hidden, outputs, input_density, density } = *layers;
        let sizes: Vec<usize> = hidden.iter().copied().chain([outputs]).collect();
        assert!(inputs > 0 && sizes.iter().all(|&n| n > 0), "every layer has at least one node");
        assert!(inputs + 1 + sizes.iter().sum::<usize>() <= MAX_NODES, "at most {MAX_NODES} nodes");
        let constant = inputs as u16;
        let mut before: Vec<u16> = (0..constant).collect();
        let mut first = inputs + 1;
        let mut network = Network {
            inputs,
            outputs,
            nodes: Vec::new(),
            levels: Vec::new(),
            indptr: vec![0],
            sources: Vec::new(),
            slots: Slots::default(),
        };
        for (layer, &size) in sizes.iter().enumerate() {
            let density = if layer == 0 { input_density } else { density };
            let reads = ((before.len() as f64 * density).round() as usize).clamp(1, before.len());
            let limit = (6.0 / reads as f32).sqrt();
            let activation = if layer + 1 == sizes.len() { Activation::Identity } else { Activation::Relu };
            for node in first..first + size {
                rng.shuffle(&mut before);
                let mut row: Vec<(u16, f32)> =
                    before[..reads].iter().map(|&source| (source, limit * rng.symmetric())).collect();
                row.push((constant, 0.0));
                row.sort_unstable_by_key(|&(source, _)| source);
                network.sources.extend(row.iter().map(|&(source, _)| source));
                network.slots.values.extend(row.iter().map(|&(_, value)| value));
                network.indptr.push(network.sources.len());
                network.nodes.push(Node { id: NodeId(node as u64), activation });
            }
            before = (first as u16..(first + size) as u16).collect();
            first += size;
        }
        network.slots.m = vec![0.0; network.connections()];
        network.slots.v = vec![0.0; network.connections()];
        network.settle();
        network
    }

    /// Inputs, without the constant.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Positions before the first row: the inputs and the constant.
    pub fn first_row(&self) -> usize {
        self.inputs + 1
    }

    /// Outputs.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Nodes that are not inputs: rows of the matrix.
    pub fn rows(&self) -> usize {
        self.nodes.len()
    }

    /// All nodes, inputs and the constant included.
    pub fn positions(&self) -> usize {
        self.first_row() + self.rows()
    }

    /// Connections.
    pub fn connections(&self) -> usize {
        self.sources.len()
    }

    /// The rows' nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The first row of each level, and at the end how many rows there are; as of the last [`Network::settle`].
    pub fn levels(&self) -> &[usize] {
        &self.levels
    }

    /// Where each row's connections start, and at the end how many there are.
    pub fn indptr(&self) -> &[usize] {
        &self.indptr
    }

    /// The position that each connection reads, ascending in a row.
    pub fn sources(&self) -> &[u16] {
        &self.sources
    }

    /// The weights.
    pub fn values(&self) -> &[f32] {
        &self.slots.values
    }

    /// The weights, to be changed.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.slots.values
    }

    /// AdamW's moments.
    pub fn moments(&self) -> [&[f32]; 2] {
        [&self.slots.m, &self.slots.v]
    }

    /// Weights and AdamW's moments, to be changed.
    pub fn slots_mut(&mut self) -> [&mut [f32]; 3] {
        [&mut self.slots.values, &mut self.slots.m, &mut self.slots.v]
    }

    /// The name of the node at a position.
    pub fn id(&self, position: usize) -> NodeId {
        match position.checked_sub(self.first_row()) {
            Some(row) => self.nodes[row].id,
            None => NodeId(position as u64),
        }
    }

    /// The row of a connection.
    pub fn row_of(&self, slot: usize) -> usize {
        self.indptr.partition_point(|&start| start <= slot) - 1
    }

    /// The name of a connection.
    pub fn connection_id(&self, slot: usize) -> ConnectionId {
        let to = self.nodes[self.row_of(slot)].id;
        ConnectionId { from: self.id(self.sources[slot].into()), to }
    }

    /// The slot of the connection from a position to a row, or where it would be.
    pub fn find(&self, from: usize, row: usize) -> Result<usize, usize> {
        let at = self.indptr[row]..self.indptr[row + 1];
        match self.sources[at.clone()].binary_search(&(from as u16)) {
            Ok(k) => Ok(at.start + k),
            Err(k) => Err(at.start + k),
        }
    }

    /// Folds structure, weights and moments into a hash (FNV-1a over words): equal networks, equal hashes.
    pub fn hash(&self, mut state: u64) -> u64 {
        let mut fold = |word: u64| state = hash::add(state, word);
        self.nodes.iter().for_each(|n| {
            fold(n.id.0);
            fold(activation_index(n.activation) as u64);
        });
        self.indptr.iter().for_each(|&p| fold(p as u64));
        self.sources.iter().for_each(|&s| fold(s.into()));
        for slots in [&self.slots.values, &self.slots.m, &self.slots.v] {
            slots.iter().for_each(|&x| fold(hash::bits(x).into()));
        }
        state
    }
}

/// The place of an activation in [`ACTIVATIONS`].
///
/// # Panics
/// If it is not one of them.
pub fn activation_index(activation: Activation) -> usize {
    ACTIVATIONS.iter().position(|&a| a == activation).expect("nodes have one of these activations")
}
