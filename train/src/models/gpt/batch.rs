//! Batches: windows of a text and their targets.

use std::ops::Range;

use crate::rng::Rng;

/// Purpose of the random numbers.
const PURPOSE: u64 = 0x7769_6e64_6f77;

/// Inputs and targets of some windows, `[windows][block]` each: the target of a token is the one after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Inputs.
    pub tokens: Vec<u32>,
    /// Targets.
    pub targets: Vec<u32>,
}

impl Batch {
    /// Lays out the windows that begin there. Allocates only if there never were so many.
    pub fn fill(&mut self, text: &[u16], block: usize, starts: impl Iterator<Item = usize>) {
        self.tokens.clear();
        self.targets.clear();
        for start in starts {
            let window = &text[start..=start + block];
            self.tokens.extend(window[..block].iter().map(|&t| u32::from(t)));
            self.targets.extend(window[1..].iter().map(|&t| u32::from(t)));
        }
    }

    /// Rows `rows` of the batch of `batch` windows that a step learns from, drawn with replacement: a function of the
    /// arguments alone. A rank that asks for its rows gets those of the one batch that all ranks share.
    pub fn draw(&mut self, text: &[u16], block: usize, at: At, rows: Range<usize>) {
        let mut rng = Rng::new(at.seed, PURPOSE, at.step, at.micro as u64);
        let places = text.len() - block;
        (0..rows.start).for_each(|_| {
            rng.below(places);
        });
        self.fill(text, block, rows.map(|_| rng.below(places)));
    }
}

/// Which batch.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// The run's.
    pub seed: u64,
    /// The step, from 0.
    pub step: u64,
    /// The micro-batch of the step, from 0.
    pub micro: usize,
}

/// Where window `i` of `count` begins, if they are spread evenly over a text from its first token to its last.
pub fn spread(len: usize, block: usize, count: usize, i: usize) -> usize {
    let last = (len - 1 - block) as u128;
    if count < 2 { 0 } else { (last * i as u128 / (count - 1) as u128) as usize }
}

/// The least multiple of `batch` at which windows, spread evenly, cover the whole text.
pub fn covering(len: usize, block: usize, batch: usize) -> usize {
    (len - 1).div_ceil(block).next_multiple_of(batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_windows_of_the_text_and_ranks_share_them() {
        let text: Vec<u16> = (0..500).collect();
        let draw = |step, micro, rows| {
            let mut batch = Batch::default();
            batch.draw(&text, 8, At { seed: 3, step, micro }, rows);
            batch
        };
        let whole = draw(5, 1, 0..6);
        assert_eq!((whole.tokens.len(), whole.targets.len()), (48, 48));
        for (tokens, targets) in whole.tokens.chunks(8).zip(whole.targets.chunks(8)) {
            assert!(
                tokens
                    .iter()
                    .zip(targets)
                    .enumerate()
                    .all(|(i, (t, n))| t + 1 == *n && *t == tokens[0] + i as u32)
            );
        }
        assert_eq!([draw(5, 1, 0..3).tokens, draw(5, 1, 3..6).tokens].concat(), whole.tokens);
        assert!(draw(5, 0, 0..6) != whole && draw(6, 1, 0..6) != whole && draw(5, 1, 0..6) == whole);
        // Every place is drawn, the last one too.
        let short: Vec<u16> = (0..10).collect();
        let mut seen = [false; 2];
        for step in 0..50 {
            let mut batch = Batch::default();
            batch.draw(&short, 8, At { seed: 1, step, micro: 0 }, 0..1);
            seen[batch.tokens[0] as usize] = true;
        }
        assert_eq!(seen, [true; 2]);
    }

    #[test]
    fn windows_are_spread_and_cover() {
        for len in [9, 10, 16, 17, 18, 100, 1000] {
            let count = covering(len, 8, 3);
            assert_eq!(count % 3, 0);
            let mut seen = vec![false; len];
            // Targets are what is predicted: all tokens but the first.
            (0..count).for_each(|i| {
                let start = spread(len, 8, count, i);
                seen[start + 1..=start + 8].fill(true);
            });
            assert!(seen[1..].iter().all(|&s| s), "{len}");
        }
        assert_eq!([0, 1, 2].map(|i| spread(101, 20, 3, i)), [0, 40, 80]);
        assert_eq!(spread(101, 20, 1, 0), 0);
    }
}
