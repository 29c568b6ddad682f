//! Small changes of a network. Each leaves a topological order; levels are found again by [`Network::settle`].

use hotlanes::activation::Activation;

use super::{MAX_NODES, Network, Node, NodeId};

impl Network {
    /// Adds a connection from a position to a later row. False, and nothing changes, where there is one already, where
    /// the row is not later, or where an output would be read.
    pub fn add_connection(&mut self, from: usize, row: usize, value: f32) -> bool {
        let hidden = self.positions() - self.outputs;
        if row >= self.rows() || from >= hidden || from >= self.first_row() + row {
            return false;
        }
        let Err(slot) = self.find(from, row) else { return false };
        self.sources.insert(slot, from as u16);
        self.slots.values.insert(slot, value);
        self.slots.m.insert(slot, 0.0);
        self.slots.v.insert(slot, 0.0);
        self.indptr[row + 1..].iter_mut().for_each(|p| *p += 1);
        true
    }

    /// Removes a connection.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn remove_connection(&mut self, slot: usize) {
        let row = self.row_of(slot);
        self.sources.remove(slot);
        self.slots.values.remove(slot);
        self.slots.m.remove(slot);
        self.slots.v.remove(slot);
        self.indptr[row + 1..].iter_mut().for_each(|p| *p -= 1);
    }

    /// Puts a new node into a connection: the node reads what the connection read with weight 1, the connection's
    /// reader reads the node with the connection's weight, and the connection is gone (Stanley and Miikkulainen,
    /// "Evolving Neural Networks through Augmenting Topologies", 2002). With ReLU, and a source that is never negative,
    /// the network computes what it did. False, and nothing changes, where there are [`MAX_NODES`] nodes.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn split_connection(&mut self, slot: usize, activation: Activation) -> bool {
        if self.positions() >= MAX_NODES {
            return false;
        }
        let (from, value) = (usize::from(self.sources[slot]), self.slots.values[slot]);
        let id = self.split_id(slot);
        // Before its reader, and before all outputs, which stay the last rows.
        let row = self.row_of(slot).min(self.rows() - self.outputs);
        let reader = self.row_of(slot) + 1;
        self.remove_connection(slot);
        let position = self.first_row() + row;
        for source in self.sources.iter_mut().filter(|s| usize::from(**s) >= position) {
            *source += 1;
        }
        self.nodes.insert(row, Node { id, activation });
        self.indptr.insert(row, self.indptr[row]);
        let added = self.add_connection(from, row, 1.0) && self.add_connection(position, reader, value);
        debug_assert!(added, "a new node has no connections yet");
        true
    }

    /// A name that no node of this network has, after the connection that is split, and the same in every individual
    /// that splits it.
    fn split_id(&self, slot: usize) -> NodeId {
        let connection = self.connection_id(slot);
        let mut id = connection.from.0;
        loop {
            id = mix(id.rotate_left(32) ^ connection.to.0);
            // Small numbers are those of the first nodes.
            let name = NodeId(id | 1 << 63);
            if self.nodes.iter().all(|n| n.id != name) {
                return name;
            }
        }
    }

    /// Removes a node that is no output, with its connections.
    ///
    /// # Panics
    /// If the row is an output, or there is none.
    pub fn remove_node(&mut self, row: usize) {
        assert!(row < self.rows() - self.outputs, "row {row} is an output");
        let position = (self.first_row() + row) as u16;
        let mut kept = 0;
        let mut start = 0;
        for r in 0..self.rows() {
            let end = self.indptr[r + 1];
            for slot in start..end {
                let source = self.sources[slot];
                if r != row && source != position {
                    self.sources[kept] = source - u16::from(source > position);
                    self.slots.values[kept] = self.slots.values[slot];
                    self.slots.m[kept] = self.slots.m[slot];
                    self.slots.v[kept] = self.slots.v[slot];
                    kept += 1;
                }
            }
            start = end;
            self.indptr[r + 1] = kept;
        }
        self.sources.truncate(kept);
        for slots in [&mut self.slots.values, &mut self.slots.m, &mut self.slots.v] {
            slots.truncate(kept);
        }
        self.indptr.remove(row + 1);
        self.nodes.remove(row);
    }

    /// Gives a node that is no output another activation.
    ///
    /// # Panics
    /// If the row is an output, or there is none.
    pub fn set_activation(&mut self, row: usize, activation: Activation) {
        assert!(row < self.rows() - self.outputs, "row {row} is an output");
        self.nodes[row].activation = activation;
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): a permutation of the words that looks random.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
