//! The horizontal sums, against the halving tree that the trait promises.

use super::*;

/// `sum` of each of sixteen vectors, `sum16` of all, and `sum_quads` of their quads.
struct Sums<'a>(&'a [Chunk; LANES]);

impl Kernel for Sums<'_> {
    type Output = (Chunk, Chunk, Chunk);
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> (Chunk, Chunk, Chunk) {
        let (mut one_by_one, mut together, mut by_quads) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        let mut v = [l.splat(0.0); LANES];
        for i in 0..LANES {
            v[i] = l.load(&self.0[i]);
            one_by_one[i] = l.sum(v[i]);
        }
        l.store(&mut together, l.sum16(&v));
        let mut quads = [l.splat(0.0); 4];
        for q in 0..4 {
            quads[q] = l.sum_quad([v[4 * q], v[4 * q + 1], v[4 * q + 2], v[4 * q + 3]]);
        }
        l.store(&mut by_quads, l.sum_quads(&quads));
        (one_by_one, together, by_quads)
    }
}

/// Written out, lane by lane.
fn tree(v: &Chunk) -> f32 {
    let eight = |i: usize| v[i] + v[i + 8];
    let four = |i: usize| eight(i) + eight(i + 4);
    let two = |i: usize| four(i) + four(i + 2);
    two(0) + two(1)
}

fn check(input: &[Chunk; LANES]) {
    on_each_tier(
        || Sums(input),
        |tier, (one_by_one, together, by_quads)| {
            for i in 0..LANES {
                assert_same(one_by_one[i], tree(&input[i]), (tier, "sum", input[i]));
                assert_same(together[i], tree(&input[i]), (tier, "sum16, vector", i, input[i]));
                assert_same(by_quads[i], tree(&input[i]), (tier, "sum_quads, vector", i, input[i]));
            }
        },
    );
}

#[test]
fn sums_of_random_vectors() {
    let mut rng = Rng::new(3);
    for i in 0..cases(40_000) {
        let mut input = [[0.0; LANES]; LANES];
        for x in input.as_flattened_mut() {
            // A wide range of magnitudes, so that another order gives other bits.
            *x = if i % 8 == 0 { rng.any() } else { rng.spread(-14, 14) };
        }
        check(&input);
    }
}

#[test]
fn sums_of_each_lane_alone() {
    // Powers of two and one lane that is not: a lane left out or taken twice shows.
    for lane in 0..LANES {
        let mut input = [[0.0; LANES]; LANES];
        for (i, v) in input.iter_mut().enumerate() {
            v[lane] = (i + 1) as f32;
            v[(lane + i) % LANES] += 256.0;
        }
        check(&input);
    }
    check(&[[-0.0; LANES]; LANES]);
    check(&std::array::from_fn(|i| std::array::from_fn(|j| if i == j { f32::NAN } else { 1.0 })));
    check(&std::array::from_fn(|i| std::array::from_fn(|j| if j == i { f32::INFINITY } else { -1.0 })));
}

#[test]
fn another_order_gives_other_bits() {
    // The random test can tell the tree from a plain loop.
    let mut rng = Rng::new(4);
    let differs = (0..200).any(|_| {
        let v: Chunk = std::array::from_fn(|_| rng.spread(-14, 14));
        tree(&v).to_bits() != v.iter().sum::<f32>().to_bits()
    });
    assert!(differs);
}
