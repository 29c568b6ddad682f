//! Embedding: the bits of the plain loop over positions, on every tier, at every offset, for every number of threads.

use hotlanes::embedding::{EmbeddingIndices, EmbeddingPlan};
use hotlanes::tuning::{EMBEDDING_PARALLEL, EMBEDDING_PIECE};
use hotlanes::{LANES, naive};
use proptest::prelude::*;

use crate::common::{Guarded, Hash, Rng, SPECIALS, assert_same, for_each_tier, offsets};
use crate::pools::on_pools;

/// Ids, and what a forward and a backward read.
struct Case {
    ids: Vec<u32>,
    vocab: usize,
    features: usize,
    table: Vec<f32>,
    positions: Vec<f32>,
    dy: Vec<f32>,
    /// What the gradient starts from.
    before: Vec<f32>,
}

/// y, y with positions, dtable
type Outputs = [Vec<f32>; 3];

impl Case {
    /// `heavy` of four positions have the same id.
    fn random(rng: &mut Rng, n: usize, vocab: usize, features: usize, heavy: usize) -> Self {
        let common = rng.below(vocab) as u32;
        let id = |rng: &mut Rng| if rng.below(4) < heavy { common } else { rng.below(vocab) as u32 };
        let ids = (0..n).map(|_| id(rng)).collect();
        let rows = 1 + rng.below(n + 1);
        let value = |rng: &mut Rng| match rng.below(50) {
            0 => SPECIALS[rng.below(SPECIALS.len())],
            _ => rng.spread(-8, 4),
        };
        Case {
            ids,
            vocab,
            features,
            table: rng.vec(vocab * features, value),
            positions: rng.vec(rows * features, value),
            dy: rng.vec(n * features, value),
            before: rng.vec(vocab * features, value),
        }
    }

    fn run(&self) -> Outputs {
        self.run_at([0; 7])
    }

    /// With each slice at its offset from a cache line, between guards of NaN.
    fn run_at(&self, offsets: [usize; 7]) -> Outputs {
        let (n, features) = (self.ids.len(), self.features);
        let indices = EmbeddingIndices::new(&self.ids, self.vocab).unwrap();
        let plan = EmbeddingPlan::new(&indices);
        let nan = vec![f32::NAN; n * features];
        let slices = [&self.table, &self.positions, &self.dy, &nan, &nan, &self.before];
        let mut guarded: [Guarded; 6] = std::array::from_fn(|i| Guarded::new(offsets[i], slices[i]));
        let [table, positions, dy, y, summed, dtable] = &mut guarded;
        indices.forward(table.get(), features, y.get_mut());
        indices.forward_with_positions(table.get(), positions.get(), features, summed.get_mut());
        plan.backward(dy.get(), features, dtable.get_mut());
        for (i, slice) in guarded.iter().enumerate() {
            slice.assert_guards(format_args!("{n} x {features}, slice {i} of {offsets:?}"));
        }
        for (i, before) in slices.into_iter().take(3).enumerate() {
            assert_same(guarded[i].get(), before, "an input");
        }
        [3, 4, 5].map(|i| guarded[i].get().to_vec())
    }

    /// What a plain program does.
    fn plain(&self) -> Outputs {
        let (n, f) = (self.ids.len(), self.features);
        let mut y = vec![f32::NAN; n * f];
        let mut summed = y.clone();
        naive::embedding::embedding_forward(&self.ids, &self.table, &[], f, &mut y);
        naive::embedding::embedding_forward(&self.ids, &self.table, &self.positions, f, &mut summed);
        let mut dtable = self.before.clone();
        for (i, &id) in self.ids.iter().enumerate() {
            for c in 0..f {
                dtable[id as usize * f + c] += self.dy[i * f + c];
            }
        }
        [y, summed, dtable]
    }
}

#[track_caller]
fn assert_all_same(got: &Outputs, want: &Outputs, what: &str) {
    for (i, name) in ["y", "y with positions", "dtable"].into_iter().enumerate() {
        assert_same(&got[i], &want[i], format_args!("{what}: {name}"));
    }
}

fn features() -> Vec<usize> {
    if cfg!(miri) { vec![1, 17, 33] } else { (1..=2 * LANES + 1).chain([47, 48, 49, 130]).collect() }
}

#[test]
fn every_length_has_the_bits_of_the_plain_loop() {
    let mut rng = Rng::new(1);
    for features in features() {
        for (n, vocab, heavy) in [(0, 1, 0), (1, 3, 0), (9, 40, 0), (9, 2, 0), (23, 9, 2)] {
            let case = Case::random(&mut rng, n, vocab, features, heavy);
            let want = case.plain();
            for_each_tier(|tier| {
                let what = format!("{tier}, {n} of {vocab} x {features}");
                assert_all_same(&case.run(), &want, &what);
            });
        }
    }
}

#[test]
fn offsets_and_guards_change_nothing() {
    let mut rng = Rng::new(2);
    for features in if cfg!(miri) { vec![19] } else { vec![1, 16, 35, 64] } {
        let case = Case::random(&mut rng, 7, 5, features, 1);
        let want = case.plain();
        for_each_tier(|tier| {
            for offset in offsets() {
                for step in [0, 3] {
                    let offsets = std::array::from_fn(|i| (offset + i * step) % 17);
                    assert_all_same(&case.run_at(offsets), &want, &format!("{tier} {offsets:?}"));
                }
            }
        });
    }
}

#[test]
fn threads_change_nothing() {
    let (parallel, piece) = (EMBEDDING_PARALLEL, EMBEDDING_PIECE);
    // Around the threshold; ids that are cut between, one that is cut by columns, and one that is too narrow for that.
    let shapes = [
        (parallel / 64, 600, 63, 0),
        (parallel / 64 + 1, 50, 64, 2),
        (parallel / 15 + 1, 1, 15, 0),
        (parallel / piece + 1, 1, piece + 17, 0),
    ];
    let mut rng = Rng::new(3);
    for (n, vocab, features, heavy) in shapes {
        let case = Case::random(&mut rng, n, vocab, features, heavy);
        let want = case.plain();
        on_pools(|threads| {
            let check = |tier| {
                let what = format!("{tier}, {threads} threads, {n} of {vocab} x {features}");
                assert_all_same(&case.run(), &want, &what);
            };
            // The cuts are the same on each tier: one number of threads shows that every tier follows them.
            if threads == 3 { for_each_tier(check) } else { check(hotlanes::tier()) }
        });
    }
}

/// The hash that every machine must find. A change that moves it is a decision for CHANGELOG.md.
const GOLDEN: u64 = 0x112A_FEE4_1B93_1377;

#[test]
fn the_hash_is_golden() {
    let mut rng = Rng::new(4);
    let cases = [(30, 12, 1, 0), (50, 20, 16, 1), (31, 7, 45, 3), (3, 400, 100, 0)]
        .map(|(n, vocab, features, heavy)| Case::random(&mut rng, n, vocab, features, heavy));
    for_each_tier(|tier| {
        let mut hash = Hash::new();
        for output in cases.iter().flat_map(Case::run) {
            hash.add(&output);
        }
        assert_eq!(format!("{:#018x}", hash.get()), format!("{GOLDEN:#018x}"), "{tier}");
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_shape_has_the_bits_of_the_plain_loop(
        n in 0..60usize, vocab in 1..200usize, features in 1..150usize, heavy in 0..4usize, seed: u64,
    ) {
        let case = Case::random(&mut Rng::new(seed), n, vocab, features, heavy);
        let want = case.plain();
        for_each_tier(|tier| assert_all_same(&case.run(), &want, &format!("{tier}")));
    }
}
