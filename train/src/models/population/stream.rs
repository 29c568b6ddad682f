//! The stream of examples that all individuals see, and blocks of it laid out for the kernels.

use rayon::prelude::*;

use crate::data::idx::Data;
use crate::rng::Rng;

/// What the random numbers are for.
const PURPOSE: u64 = 0x7374_7265_616d;

/// Bytes of a block: with an individual and its activations it shall lie in the second cache, since every individual
/// goes over the whole block before the next one is taken up.
const BLOCK_BYTES: usize = 1 << 20;

/// Examples of a block that are taken one at a time: an individual's form for that fills the second cache by itself,
/// and is made anew for each block, which so many examples outweigh.
const BLOCK_EXAMPLES: usize = 4096;

/// Example number `i` of the stream, without end: each epoch is a permutation of the data of its own.
#[derive(Clone, Debug)]
pub struct Order {
    seed: u64,
    epoch: Option<u64>,
    indices: Vec<u32>,
}

impl Order {
    /// The order for `len` examples.
    ///
    /// # Panics
    /// If there are none, or more than 2^32.
    pub fn new(seed: u64, len: usize) -> Self {
        assert!(len > 0 && u32::try_from(len).is_ok(), "a stream of {len} examples");
        Order { seed, epoch: None, indices: (0..len as u32).collect() }
    }

    /// Which example comes at a place of the stream. Cheap while places ascend.
    pub fn at(&mut self, place: u64) -> usize {
        let len = self.indices.len() as u64;
        let epoch = place / len;
        if self.epoch != Some(epoch) {
            self.indices = (0..len as u32).collect();
            Rng::new(self.seed, PURPOSE, epoch, 0).shuffle(&mut self.indices);
            self.epoch = Some(epoch);
        }
        self.indices[(place % len) as usize] as usize
    }
}

/// Some batches of examples.
#[derive(Clone, Debug)]
pub struct Block {
    /// Examples in a batch; 1 is one example after the other.
    pub batch: usize,
    /// Values of an example.
    pub features: usize,
    /// `[batches][features][batch]`: in each batch the examples of a feature lie together.
    pub tiles: Vec<u8>,
    /// `[batches][batch]`
    pub labels: Vec<u32>,
}

impl Block {
    /// How many batches of a size a block should have.
    pub fn batches_for(batch: usize, features: usize) -> usize {
        if batch == 1 { BLOCK_EXAMPLES } else { (BLOCK_BYTES / (batch * features)).max(1) }
    }

    /// Lays out the examples with these numbers; their count is a multiple of `batch`.
    ///
    /// # Panics
    /// If it is not.
    pub fn new(data: &Data, examples: &[usize], batch: usize) -> Block {
        assert!(examples.len().is_multiple_of(batch), "{} examples in batches of {batch}", examples.len());
        let features = data.features;
        let mut tiles = vec![0; examples.len() * features];
        let tile_of = tiles.par_chunks_exact_mut(batch * features).zip(examples.par_chunks_exact(batch));
        tile_of.for_each(|(tile, examples)| {
            for (e, &example) in examples.iter().enumerate() {
                for (f, &pixel) in data.image(example).iter().enumerate() {
                    tile[f * batch + e] = pixel;
                }
            }
        });
        let labels = examples.iter().map(|&e| data.labels[e].into()).collect();
        Block { batch, features, tiles, labels }
    }

    /// All of some data, in order, as many whole batches as there are; and the rest as a block of its own.
    pub fn of(data: &Data, batch: usize) -> Vec<Block> {
        let all: Vec<usize> = (0..data.len()).collect();
        let (whole, rest) = all.split_at(data.len() / batch * batch);
        let blocks = [(whole, batch), (rest, rest.len())].into_iter().filter(|(part, _)| !part.is_empty());
        blocks.map(|(part, batch)| Block::new(data, part, batch)).collect()
    }

    /// The batches: the examples' values and labels.
    pub fn batches(&self) -> impl Iterator<Item = (&[u8], &[u32])> {
        self.tiles.chunks_exact(self.batch * self.features).zip(self.labels.chunks_exact(self.batch))
    }

    /// Examples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_epoch_is_a_permutation_and_places_stand_alone() {
        let mut order = Order::new(3, 50);
        let epochs: Vec<Vec<usize>> =
            (0..3).map(|e| (0..50).map(|i| order.at(e * 50 + i)).collect()).collect();
        for epoch in &epochs {
            let mut sorted = epoch.clone();
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..50));
        }
        assert_ne!(epochs[0], epochs[1]);
        assert_eq!(Order::new(3, 50).at(107), epochs[2][7]);
    }

    #[test]
    fn a_tile_has_the_examples_of_a_feature_together() {
        let data = Data { features: 3, pixels: (0..30).collect(), labels: (0..10).collect() };
        let block = Block::new(&data, &[4, 1, 2, 9], 2);
        assert_eq!(block.tiles, [12, 3, 13, 4, 14, 5, 6, 27, 7, 28, 8, 29]);
        assert_eq!(block.labels, [4, 1, 2, 9]);
        assert_eq!(block.batches().count(), 2);
        let parts: Vec<(usize, usize)> = Block::of(&data, 4).iter().map(|b| (b.batch, b.len())).collect();
        assert_eq!(parts, [(4, 8), (2, 2)]);
    }
}
