//! What holds of every network, checked where one comes from outside.

use super::{ACTIVATIONS, MAX_NODES, Network, Parts, Slots};

/// What is wrong with the parts of a [`Network`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// No inputs, no outputs, fewer rows than outputs, or too many nodes.
    #[error(
        "{inputs} inputs, {outputs} outputs, {rows} rows: must be at least 1, 1, the outputs, and {MAX_NODES} nodes at most"
    )]
    Size {
        /// Inputs.
        inputs: usize,
        /// Outputs.
        outputs: usize,
        /// Rows.
        rows: usize,
    },
    /// `indptr` does not ascend from 0 to the number of connections, with one entry more than there are rows.
    #[error(
        "indptr has {entries} entries for {rows} rows and must ascend from 0 to the {connections} connections"
    )]
    Indptr {
        /// Its entries.
        entries: usize,
        /// Rows.
        rows: usize,
        /// Connections.
        connections: usize,
    },
    /// An array is not as long as there are connections.
    #[error("{what} has {len} values: {connections} connections ask for as many")]
    Length {
        /// The array.
        what: &'static str,
        /// Its length.
        len: usize,
        /// Connections.
        connections: usize,
    },
    /// A row reads itself, a later row, or an output.
    #[error("row {row} reads position {source_position}: must be below {bound}, which no output is")]
    Source {
        /// The row.
        row: usize,
        /// What it reads.
        source_position: usize,
        /// What it may read is below.
        bound: usize,
    },
    /// A row's sources do not ascend.
    #[error("row {row} reads position {source_position} after {before}: must ascend")]
    Order {
        /// The row.
        row: usize,
        /// What it reads.
        source_position: usize,
        /// What it read before.
        before: usize,
    },
    /// Two rows have one name.
    #[error("row {row} has the name {id:#x} of another node: must be its own")]
    Name {
        /// The row.
        row: usize,
        /// Its name.
        id: u64,
    },
    /// An activation that no node may have.
    #[error(
        "row {row} has the activation {name}: must be relu, sigmoid, tanh or identity, for an output identity"
    )]
    Activation {
        /// The row.
        row: usize,
        /// Its activation.
        name: &'static str,
    },
}

impl Network {
    /// A network from its parts, settled.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn from_parts(parts: Parts) -> Result<Network, NetworkError> {
        let Parts { inputs, outputs, nodes, indptr, sources, values, m, v } = parts;
        let slots = Slots { values, m, v };
        let mut network = Network { inputs, outputs, nodes, levels: Vec::new(), indptr, sources, slots };
        network.check()?;
        network.settle();
        Ok(network)
    }

    /// States what holds of every network, between edits too: a topological order, no connection twice, names of their
    /// own.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn check(&self) -> Result<(), NetworkError> {
        let (inputs, outputs, rows) = (self.inputs, self.outputs, self.nodes.len());
        let fits = inputs.checked_add(1 + rows).is_some_and(|n| n <= MAX_NODES);
        if inputs == 0 || outputs == 0 || rows < outputs || !fits {
            return Err(NetworkError::Size { inputs, outputs, rows });
        }
        let connections = self.sources.len();
        let indptr = &self.indptr;
        let ends = indptr.first() == Some(&0) && indptr.last() == Some(&connections);
        if indptr.len() != rows + 1 || !ends || !indptr.is_sorted() {
            return Err(NetworkError::Indptr { entries: indptr.len(), rows, connections });
        }
        let arrays = [("values", &self.slots.values), ("m", &self.slots.m), ("v", &self.slots.v)];
        for (what, array) in arrays {
            if array.len() != connections {
                return Err(NetworkError::Length { what, len: array.len(), connections });
            }
        }
        for row in 0..rows {
            let bound = (self.first_row() + row).min(self.positions() - outputs);
            let mut before = None;
            for &source in &self.sources[indptr[row]..indptr[row + 1]] {
                let source_position = usize::from(source);
                if source_position >= bound {
                    return Err(NetworkError::Source { row, source_position, bound });
                }
                if let Some(before) = before.replace(source_position).filter(|&b| b >= source_position) {
                    return Err(NetworkError::Order { row, source_position, before });
                }
            }
            let activation = self.nodes[row].activation;
            let allowed = if row < rows - outputs { &ACTIVATIONS[..] } else { &ACTIVATIONS[3..] };
            if !allowed.contains(&activation) {
                return Err(NetworkError::Activation { row, name: activation.name() });
            }
        }
        let mut names: Vec<(u64, usize)> =
            self.nodes.iter().enumerate().map(|(row, n)| (n.id.0, row)).collect();
        names.sort_unstable();
        let mut before = inputs as u64; // the inputs' names and the constant's are their positions
        for &(id, row) in &names {
            if id <= before {
                return Err(NetworkError::Name { row, id });
            }
            before = id;
        }
        Ok(())
    }
}
