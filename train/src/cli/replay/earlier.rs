//! The design that this buffer replaces, as it was: three arrays of `f32` in a ring, batches gathered into vectors that
//! are resized each time, copied again for the caller, and a file that is written in place.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::sync::Mutex;

/// Values of a record: planes, policy, value.
pub(super) const COLUMNS: [usize; 3] = [8 * 8 * 122, 4672, 1];
/// Bytes of a record.
pub(super) const RECORD: usize = 4 * (COLUMNS[0] + COLUMNS[1] + COLUMNS[2]);

pub(super) struct Earlier {
    pub(super) columns: [Vec<f32>; 3],
    capacity: usize,
    position: usize,
    pub(super) size: usize,
}

impl Earlier {
    pub(super) fn new(capacity: usize) -> Earlier {
        Earlier { columns: COLUMNS.map(|n| vec![0.0; n * capacity]), capacity, position: 0, size: 0 }
    }

    pub(super) fn add_batch(&mut self, batch: &[Vec<f32>; 3], records: usize) {
        let mut done = 0;
        while done < records {
            let some = (records - done).min(self.capacity - self.position);
            for ((column, batch), n) in self.columns.iter_mut().zip(batch).zip(COLUMNS) {
                let to = &mut column[self.position * n..][..some * n];
                to.copy_from_slice(&batch[done * n..][..some * n]);
            }
            self.position = (self.position + some) % self.capacity;
            self.size = (self.size + some).min(self.capacity);
            done += some;
        }
    }

    /// The batch as the caller gets it.
    pub(super) fn sample(&self, indices: &[usize]) -> [Vec<f32>; 3] {
        // First into vectors of its own, then into arrays that are made for each call.
        let mut gathered: [Vec<f32>; 3] = Default::default();
        for ((out, column), n) in gathered.iter_mut().zip(&self.columns).zip(COLUMNS) {
            out.resize(indices.len() * n, 0.0);
            for (row, &index) in out.chunks_exact_mut(n).zip(indices) {
                row.copy_from_slice(&column[index * n..][..n]);
            }
        }
        gathered.each_ref().map(|gathered| gathered.to_vec())
    }

    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        let mut file = File::create(path)?;
        for (column, n) in self.columns.iter().zip(COLUMNS) {
            for record in column[..self.size * n].chunks(n) {
                file.write_all(bytemuck::cast_slice(record))?;
            }
        }
        Ok(())
    }

    pub(super) fn load(&mut self, path: &Path) -> io::Result<()> {
        let mut file = BufReader::new(File::open(path)?);
        for (column, n) in self.columns.iter_mut().zip(COLUMNS) {
            for record in column[..self.size * n].chunks_mut(n) {
                file.read_exact(bytemuck::cast_slice_mut(record))?;
            }
        }
        Ok(())
    }
}

/// A sum tree with two children to a node, updated by differences under a lock.
pub(super) struct EarlierTree(Mutex<Vec<f32>>);

impl EarlierTree {
    pub(super) fn new(leaves: usize) -> EarlierTree {
        let tree = EarlierTree(Mutex::new(vec![0.0; 2 * leaves.next_power_of_two()]));
        (0..leaves).for_each(|leaf| tree.update(leaf, 1.0));
        tree
    }

    pub(super) fn update(&self, leaf: usize, priority: f32) {
        let mut tree = self.0.lock().expect("no thread panics");
        let mut node = tree.len() / 2 + leaf;
        let change = priority - tree[node];
        while node > 0 {
            tree[node] += change;
            node /= 2;
        }
    }

    pub(super) fn find(&self, unit: f32) -> usize {
        let tree = self.0.lock().expect("no thread panics");
        let (mut node, mut rest) = (1, unit * tree[1]);
        while node < tree.len() / 2 {
            node *= 2;
            if rest >= tree[node] && tree[node + 1] > 0.0 {
                rest -= tree[node];
                node += 1;
            }
        }
        node - tree.len() / 2
    }
}
