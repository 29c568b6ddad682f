//! Processes that train one model together, and how they add their gradients: by a fixed binary tree, so that any
//! number of them gives the bits of one.

#[cfg(feature = "mpi")]
pub mod processes;

/// The processes of a run, seen from one of them. All of them make the same calls in the same order.
pub trait Ranks {
    /// The number of this one, from 0.
    fn rank(&self) -> usize;

    /// How many there are: a power of two.
    fn size(&self) -> usize;

    /// Sends values to a partner and receives as many from it, which does the same.
    fn exchange(&self, partner: usize, send: &[f32], receive: &mut [f32]);

    /// Everybody's words, in the order of the ranks, at everybody's.
    fn gather(&self, mine: &[u64], all: &mut [u64]);
}

/// One process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Ranks for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn exchange(&self, partner: usize, _: &[f32], _: &mut [f32]) {
        unreachable!("rank {partner} of one");
    }

    fn gather(&self, mine: &[u64], all: &mut [u64]) {
        all.copy_from_slice(mine);
    }
}

/// Makes everybody's values the sum of all: rank 0's plus rank 1's, 2's plus 3's; then these pairs, and so on. Each
/// element goes up that tree, whoever adds it: in each round partners halve the range between them, and in as many more
/// they hand out what they have, so that a rank sends and receives less than twice its values in all.
///
/// `scratch` needs no certain length; it keeps what it has grown to.
pub fn sum(ranks: &dyn Ranks, values: &mut [f32], scratch: &mut Vec<f32>) {
    let (rank, size) = (ranks.rank(), ranks.size());
    scratch.resize(values.len().div_ceil(2), 0.0);
    let (mut low, mut high) = (0, values.len());
    let mut halves = [(0, 0, 0); usize::BITS as usize];
    let rounds = size.ilog2() as usize;
    for round in 0..rounds {
        let middle = low + (high - low) / 2;
        halves[round] = (low, middle, high);
        let bit = 1 << round;
        let (keep, give) =
            if rank & bit == 0 { (low..middle, middle..high) } else { (middle..high, low..middle) };
        let received = &mut scratch[..keep.len()];
        let partner = rank ^ bit;
        ranks.exchange(partner, &values[give], received);
        for (value, add) in values[keep.clone()].iter_mut().zip(received) {
            *value += *add;
        }
        (low, high) = (keep.start, keep.end);
    }
    for round in (0..rounds).rev() {
        let (low, middle, high) = halves[round];
        let bit = 1 << round;
        let (lower, upper) = values[low..high].split_at_mut(middle - low);
        let (mine, theirs) = if rank & bit == 0 { (lower, upper) } else { (upper, lower) };
        ranks.exchange(rank ^ bit, mine, theirs);
    }
}

/// Threads in the place of processes.
pub mod threads {
    use std::sync::{Barrier, Mutex};

    use super::Ranks;

    /// What the threads share.
    #[derive(Debug)]
    pub struct World {
        barrier: Barrier,
        words: Mutex<Vec<Vec<u64>>>,
        floats: Mutex<Vec<Vec<f32>>>,
    }

    impl World {
        /// For so many.
        pub fn new(size: usize) -> Self {
            World {
                barrier: Barrier::new(size),
                words: Mutex::new(vec![Vec::new(); size]),
                floats: Mutex::new(vec![Vec::new(); size]),
            }
        }
    }

    /// One of the threads.
    #[derive(Clone, Copy, Debug)]
    pub struct Thread<'a> {
        /// What they share.
        pub world: &'a World,
        /// Its number.
        pub rank: usize,
    }

    impl Ranks for Thread<'_> {
        fn rank(&self) -> usize {
            self.rank
        }

        fn size(&self) -> usize {
            self.world.words.lock().expect("no thread panicked").len()
        }

        fn exchange(&self, partner: usize, send: &[f32], receive: &mut [f32]) {
            self.world.floats.lock().expect("no thread panicked")[self.rank] = send.to_vec();
            self.world.barrier.wait();
            let theirs = self.world.floats.lock().expect("no thread panicked")[partner].clone();
            receive.copy_from_slice(&theirs);
            self.world.barrier.wait();
        }

        fn gather(&self, mine: &[u64], all: &mut [u64]) {
            self.world.words.lock().expect("no thread panicked")[self.rank] = mine.to_vec();
            self.world.barrier.wait();
            all.copy_from_slice(&self.world.words.lock().expect("no thread panicked").concat());
            self.world.barrier.wait();
        }
    }

    /// Runs `f` as each of so many ranks; results by rank.
    ///
    /// # Panics
    /// If one of them does; the others then wait for ever if they need it.
    pub fn run<R: Send>(size: usize, f: impl Fn(&Thread) -> R + Sync) -> Vec<R> {
        let world = World::new(size);
        std::thread::scope(|scope| {
            let (world, f) = (&world, &f);
            let handles: Vec<_> =
                (0..size).map(|rank| scope.spawn(move || f(&Thread { world, rank }))).collect();
            handles.into_iter().map(|h| h.join().expect("a rank panicked")).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn sums_are_those_of_the_tree_at_every_rank_and_length() {
        for size in [1, 2, 4, 8] {
            for len in [0, 1, 2, 3, 7, 64, 1000] {
                let of = |rank| -> Vec<f32> {
                    let mut rng = Rng::new(1, 2, 3, rank as u64);
                    (0..len).map(|_| rng.symmetric() * 10.0_f32.powi(rng.below(9) as i32)).collect()
                };
                let mut tree: Vec<Vec<f32>> = (0..size).map(of).collect();
                while tree.len() > 1 {
                    let pair = |p: &[Vec<f32>]| p[0].iter().zip(&p[1]).map(|(a, b)| a + b).collect();
                    tree = tree.chunks(2).map(pair).collect();
                }
                let sums = threads::run(size, |thread| {
                    let mut values = of(thread.rank);
                    sum(thread, &mut values, &mut Vec::new());
                    values
                });
                assert!(sums.iter().all(|s| *s == tree[0]), "{size} ranks, {len} values");
            }
        }
    }

    #[test]
    fn words_are_gathered_in_order() {
        let all = threads::run(4, |thread| {
            let mut all = [0; 8];
            thread.gather(&[thread.rank as u64, 7], &mut all);
            all
        });
        assert!(all.iter().all(|a| *a == [0, 7, 1, 7, 2, 7, 3, 7]));
    }
}
