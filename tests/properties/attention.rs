//! Attention: one hash for all tiers, offsets and numbers of threads, and the hashes that it had.

use hotlanes::attention::{Attention, Heads, HeadsMut, HeadsShape};
use proptest::prelude::*;

use crate::common::{Guarded, Hash, Rng, SPECIALS, assert_same, for_each_tier, offsets};
use crate::pools::on_pools;

/// Forward and backward of one input.
struct Case {
    shape: Shape,
    causal: bool,
    /// q, k, v, dout
    inputs: [Vec<f32>; 4],
}

/// Batch, heads, heads of keys, queries, keys, size of a head.
type Shape = [usize; 6];

/// out, lse, dq, dk, dv
type Outputs = [Vec<f32>; 5];

const NAMES: [&str; 5] = ["out", "lse", "dq", "dk", "dv"];

impl Case {
    /// Heads of all kinds: with flat and with sharp softmaxes, and where `special`, with infinities and NaN.
    fn random(rng: &mut Rng, shape: Shape, causal: bool, special: bool) -> Self {
        let [batch, heads, kv_heads, queries, keys, dim] = shape;
        let (nq, nk) = (batch * heads * queries * dim, batch * kv_heads * keys * dim);
        let size = [0.1, 1.0, 4.0][rng.below(3)];
        let mut inputs = [nq, nk, nk, nq].map(|n| rng.vec(n, |rng| size * rng.normal()));
        // A few, so that most results stay numbers.
        for input in &mut inputs {
            for _ in 0..if special && !input.is_empty() { 1 + input.len() / 2000 } else { 0 } {
                let at = rng.below(input.len());
                input[at] = SPECIALS[rng.below(SPECIALS.len())];
            }
        }
        Case { shape, causal, inputs }
    }

    fn run(&self) -> Outputs {
        self.run_at([0; 9])
    }

    /// With each slice at its offset from a cache line, between guards of NaN: the four inputs, the five outputs.
    fn run_at(&self, offsets: [usize; 9]) -> Outputs {
        let [batch, heads, kv_heads, queries, keys, dim] = self.shape;
        let qs = HeadsShape { batch, heads, seq: queries, dim };
        let ks = HeadsShape { batch, heads: kv_heads, seq: keys, dim };
        let [nq, nk, ..] = self.inputs.each_ref().map(|x| x.len());
        let lengths = [nq, batch * heads * queries, nq, nk, nk];
        let inputs: [Guarded; 4] = std::array::from_fn(|i| Guarded::new(offsets[i], &self.inputs[i]));
        let mut outputs: [Guarded; 5] =
            std::array::from_fn(|i| Guarded::new(offsets[4 + i], &vec![f32::NAN; lengths[i]]));
        let [q, k, v, dout] = inputs.each_ref().map(|i| i.get());
        let [out, lse, dq, dk, dv] = outputs.each_mut().map(|o| o.get_mut());
        let (q, k, v) = (Heads::new(q, qs), Heads::new(k, ks), Heads::new(v, ks));
        let kernel = Attention::new(dim, self.causal).unwrap();
        kernel.forward(q, k, v, HeadsMut::new(out, qs), lse);
        let (dq, dk, dv) = (HeadsMut::new(dq, qs), HeadsMut::new(dk, ks), HeadsMut::new(dv, ks));
        kernel.backward(Heads::new(dout, qs), q, k, v, Heads::new(out, qs), lse, dq, dk, dv);
        for (i, slice) in inputs.iter().chain(&outputs).enumerate() {
            slice.assert_guards(format_args!("{:?}, slice {i} of {offsets:?}", self.shape));
        }
        std::array::from_fn(|i| outputs[i].get().to_vec())
    }
}

#[track_caller]
fn assert_all_same(got: &Outputs, want: &Outputs, what: &str) {
    for (i, name) in NAMES.into_iter().enumerate() {
        assert_same(&got[i], &want[i], format_args!("{what}: {name}"));
    }
}

/// Runs on all tiers, which must agree, and gives what they gave.
#[track_caller]
fn on_tiers(case: &Case) -> Outputs {
    let mut first: Option<Outputs> = None;
    for_each_tier(|tier| {
        let got = case.run();
        let want = first.get_or_insert_with(|| got.clone());
        assert_all_same(&got, want, &format!("{tier}, {:?}, causal {}", case.shape, case.causal));
    });
    first.expect("there is a tier")
}

/// The hashes that every machine must find. A change that moves one is a decision for CHANGELOG.md.
const GOLDEN: [(&str, &[Shape], u64); 4] = [
    (
        "sizes of a head",
        &[
            [1, 2, 1, 3, 3, 1],
            [1, 2, 1, 3, 3, 2],
            [1, 1, 1, 5, 5, 7],
            [1, 1, 1, 5, 5, 12],
            [1, 1, 1, 5, 5, 15],
            [1, 1, 1, 5, 5, 16],
            [1, 1, 1, 5, 5, 17],
            [1, 1, 1, 5, 5, 31],
            [1, 1, 1, 5, 5, 32],
            [1, 1, 1, 5, 5, 33],
            [1, 1, 1, 3, 4, 63],
            [1, 1, 1, 3, 4, 64],
            [1, 1, 1, 3, 4, 80],
            [1, 1, 1, 2, 3, 127],
            [1, 1, 1, 2, 3, 128],
        ],
        0xD6A3_143A_0749_AED6,
    ),
    (
        "blocks of queries",
        &[
            [1, 1, 1, 1, 1, 4],
            [1, 1, 1, 15, 15, 4],
            [1, 1, 1, 16, 16, 4],
            [1, 1, 1, 17, 17, 4],
            [1, 1, 1, 31, 31, 4],
            [1, 1, 1, 32, 32, 4],
            [1, 1, 1, 33, 33, 4],
            [1, 1, 1, 49, 49, 4],
            [1, 1, 1, 65, 65, 4],
        ],
        0xDD6D_1458_124A_C299,
    ),
    (
        "blocks of keys",
        &[
            [1, 1, 1, 3, 63, 5],
            [1, 1, 1, 3, 64, 5],
            [1, 1, 1, 3, 65, 5],
            [1, 1, 1, 3, 129, 5],
            [1, 1, 1, 70, 9, 5],
            [1, 1, 1, 9, 70, 5],
        ],
        0x7D75_3223_2873_5345,
    ),
    ("groups", &[[2, 4, 2, 18, 18, 6], [1, 6, 1, 7, 9, 3], [3, 2, 2, 2, 3, 20]], 0xDCBD_3C1B_5E22_9CAB),
];

#[test]
fn the_hashes_are_golden() {
    let mut found = vec![];
    for (name, shapes, _) in GOLDEN {
        let mut hash = Hash::new();
        for (n, &shape) in shapes.iter().enumerate() {
            for (causal, special) in [(false, false), (true, false), (true, true)] {
                let mut rng = Rng::new(n as u64);
                for output in on_tiers(&Case::random(&mut rng, shape, causal, special)) {
                    hash.add(&output);
                }
            }
        }
        found.push((name, hash.get()));
    }
    let hashes = |h: &[(&str, u64)]| h.iter().map(|(n, h)| format!("{n}: {h:#018x}")).collect::<Vec<_>>();
    assert_eq!(hashes(&found), hashes(&GOLDEN.map(|(name, _, hash)| (name, hash))));
}

#[test]
fn offsets_and_guards_change_nothing() {
    let mut rng = Rng::new(1);
    let shapes: [Shape; 4] =
        [[1, 2, 1, 5, 6, 7], [1, 1, 1, 17, 17, 16], [1, 1, 1, 3, 5, 33], [1, 1, 1, 34, 66, 4]];
    for (n, shape) in shapes.into_iter().take(if cfg!(miri) { 1 } else { 4 }).enumerate() {
        let case = Case::random(&mut rng, shape, n % 2 == 1, false);
        for_each_tier(|tier| {
            let want = case.run();
            for offset in offsets() {
                // 3 and 17 have no common divisor: each where the others are not.
                let offsets = std::array::from_fn(|i| (offset + i * 3) % 17);
                assert_all_same(&case.run_at(offsets), &want, &format!("{tier} {offsets:?}"));
            }
        });
    }
}

#[test]
fn threads_change_nothing() {
    // Many heads; few, which are cut by queries and keys; groups; a sequence that is no multiple of the blocks.
    let shapes: [Shape; 5] = [
        [8, 4, 4, 48, 48, 16],
        [1, 1, 1, 200, 200, 16],
        [1, 4, 2, 130, 130, 12],
        [1, 2, 1, 70, 260, 16],
        [2, 4, 2, 200, 70, 9],
    ];
    let mut rng = Rng::new(2);
    for (n, shape) in shapes.into_iter().enumerate() {
        for causal in [false, true] {
            let case = Case::random(&mut rng, shape, causal, n == 3);
            let mut first: Option<Outputs> = None;
            on_pools(|threads| {
                // The tiers agree in the other nets; each has its share of these.
                for_each_tier(|tier| {
                    if cfg!(debug_assertions) && tier.name() == "scalar" {
                        return;
                    }
                    let got = case.run();
                    let want = first.get_or_insert_with(|| got.clone());
                    assert_all_same(&got, want, &format!("{tier}, {threads} threads, {shape:?}"));
                });
            });
        }
    }
}

/// A query's results do not depend on the queries beside it, nor on those that come after it.
#[test]
fn a_query_does_not_depend_on_the_others() {
    let mut rng = Rng::new(3);
    for (causal, dim) in [(true, 4), (false, 3)] {
        let case = Case::random(&mut rng, [1, 1, 1, 70, 70, dim], causal, false);
        for_each_tier(|tier| {
            let [out, lse, dq, ..] = case.run();
            for n in [1, 2, 16, 31, 33, 64] {
                // The first n, with as many keys where no more are seen.
                let keys = if causal { n } else { 70 };
                let inputs =
                    [(0, n), (1, keys), (2, keys), (3, n)].map(|(i, n)| case.inputs[i][..n * dim].to_vec());
                let alone = Case { shape: [1, 1, 1, n, keys, dim], causal, inputs }.run();
                for (i, together) in [(0, &out[..n * dim]), (1, &lse[..n]), (2, &dq[..n * dim])] {
                    assert_same(&alone[i], together, format_args!("{tier}, {n} queries: {}", NAMES[i]));
                }
            }
        });
    }
}

proptest! {
    // Tiers are slow in a debug build; other nets have the shapes that are known to matter.
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn any_shape_has_one_result(
        batch in 0..3usize, kv_heads in 1..3usize, group in 1..3usize, queries in 0..40usize, keys in 0..70usize,
        dim in 1..20usize, causal: bool, special: bool, seed: u64, offset in 0..=16usize,
    ) {
        let shape = [batch, group * kv_heads, kv_heads, queries, keys, dim];
        let case = Case::random(&mut Rng::new(seed), shape, causal, special);
        let want = on_tiers(&case);
        let offsets = std::array::from_fn(|i| (offset + 5 * i) % 17);
        assert_all_same(&case.run_at(offsets), &want, &format!("{offsets:?}"));
    }
}
