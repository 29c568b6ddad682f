//! The generator on the lanes, against its known answers.

use super::*;
use crate::tier::{Tier, active, with_tier};

/// Sixteen times the same counter.
struct Words {
    key: [u32; 2],
    counter: [u32; 2],
}

impl Kernel for Words {
    type Output = [Chunk; 2];

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> [Chunk; 2] {
        let (low, high) = (l.splat_u32(self.counter[0]), l.splat_u32(self.counter[1]));
        let (a, b) = Keys::new(l, self.key).threefry(l, low, high);
        let mut words = [[0.0; LANES]; 2];
        l.store(&mut words[0], l.from_bits(a));
        l.store(&mut words[1], l.from_bits(b));
        words
    }
}

/// Key, counter and result of threefry2x32-20 in Random123's `kat_vectors`.
const KNOWN: [[[u32; 2]; 3]; 3] = [
    [[0, 0], [0, 0], [0x6B20_0159, 0x99BA_4EFE]],
    [[!0, !0], [!0, !0], [0x1CB9_96FC, 0xBB00_2BE7]],
    [[0x1319_8A2E, 0x0370_7344], [0x243F_6A88, 0x85A3_08D3], [0xC492_3A9C, 0x483D_F7A0]],
];

#[test]
fn the_known_answers_come_out() {
    for [key, counter, words] in KNOWN {
        assert_eq!(crate::naive::layers::threefry2x32(key, counter), words);
        for tier in Tier::available() {
            let got = with_tier(tier, || dispatch(active(), Words { key, counter })).unwrap();
            for (got, want) in got.iter().zip(words) {
                assert!(got.iter().all(|g| g.to_bits() == want), "{tier}: {got:?} of {key:x?}");
            }
        }
    }
}
