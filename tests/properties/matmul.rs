//! Matrix products: one hash for all tiers, offsets, numbers of threads and ways to lie, and the hashes that they had.

use hotlanes::tuning::{MATMUL_PARALLEL, MATMUL_READING};
use hotlanes::{LANES, Tier, with_tier};
use proptest::prelude::*;

use crate::common::{Hash, Rng, assert_same, for_each_tier, offsets};
use crate::pools::on_pools;
use crate::product::{Choice, Layout, Operand, Product};

/// Runs on all tiers, packed before and not, which must agree, and gives what they gave.
#[track_caller]
fn on_tiers(product: &Product) -> Vec<f32> {
    let mut first: Option<Vec<f32>> = None;
    for_each_tier(|tier| {
        let got = product.run();
        let want = first.get_or_insert_with(|| got.clone());
        assert_same(&got, want, format_args!("{tier}, {product}"));
        assert_same(&product.run_packed(), want, format_args!("{tier}, packed, {product}"));
    });
    first.expect("there is a tier")
}

/// The shapes of a hash: rows, columns, steps.
type Shapes = &'static [[usize; 3]];

/// The hashes that every machine must find. A change that moves one is a decision for CHANGELOG.md.
const GOLDEN: [(&str, Shapes, u64); 5] = [
    (
        "a tile",
        &[
            [1, 1, 1],
            [1, 15, 4],
            [2, 16, 0],
            [3, 17, 5],
            [4, 31, 16],
            [5, 32, 17],
            [6, 33, 9],
            [7, 47, 3],
            [8, 48, 7],
            [11, 16, 31],
            [12, 32, 33],
            [13, 18, 8],
        ],
        0xFDA3_6C81_55E6_AEC9,
    ),
    ("some tiles", &[[24, 64, 20], [25, 65, 21], [36, 49, 16], [49, 34, 40]], 0x4331_E817_F89A_5444),
    ("blocks of steps", &[[2, 16, 255], [3, 20, 256], [5, 17, 257], [1, 33, 513]], 0xBDF3_BD57_A23E_D680),
    (
        "blocks of 192 steps",
        &[[9, 50, 191], [8, 48, 192], [17, 65, 193], [3, 20, 385]],
        0x2059_1DF1_75F3_6E3E,
    ),
    (
        "blocks of rows",
        &[[37, 129, 64], [38, 130, 65], [36, 129, 64], [37, 128, 64], [73, 20, 10]],
        0x5272_0548_B83A_BBA9,
    ),
];

#[test]
fn the_hashes_are_golden() {
    let mut found = vec![];
    for (name, shapes, _) in GOLDEN {
        let mut hash = Hash::new();
        for &[m, n, k] in shapes {
            // Each way to lie and each start, though not each with each.
            for (i, turned) in [false, true, false, true].into_iter().enumerate() {
                let lies = |transposed| Layout { transposed, gap: i, offset: i };
                let choice = Choice {
                    a: lies(turned),
                    b: lies(i > 1),
                    c: lies(false),
                    accumulate: i % 3 == 0,
                    bias: i > 1,
                    special: i > 0,
                };
                let mut rng = Rng::new((m * 1_000_000 + n * 1000 + k * 4 + i) as u64);
                hash.add(&on_tiers(&Product::random(&mut rng, [m, n, k], choice)));
            }
        }
        found.push((name, hash.get()));
    }
    let hashes = |h: &[(&str, u64)]| h.iter().map(|(n, h)| format!("{n}: {h:#018x}")).collect::<Vec<_>>();
    assert_eq!(hashes(&found), hashes(&GOLDEN.map(|(name, _, hash)| (name, hash))));
}

/// The same product with its operands elsewhere.
fn moved(product: &Product, layouts: [Layout; 3]) -> Product {
    let Product { m, n, k, .. } = *product;
    let [a, b, layout] = layouts;
    let (a, b) = (Operand::new(&product.a.dense(), m, k, a), Operand::new(&product.b.dense(), k, n, b));
    Product { m, n, k, a, b, c: product.c.clone(), bias: product.bias.clone(), layout }
}

#[test]
fn offsets_and_guards_change_nothing() {
    let mut rng = Rng::new(1);
    let shapes = [[3, 5, 7], [13, 33, 17], [37, 130, 64], [7, 20, 260], [25, 65, 3]];
    for [m, n, k] in shapes.into_iter().take(if cfg!(miri) { 1 } else { 5 }) {
        let choice = Choice { bias: true, accumulate: m % 2 == 0, ..Choice::default() };
        let product = Product::<f32>::random(&mut rng, [m, n, k], choice);
        let step = if cfg!(debug_assertions) && m * n * k > 10_000 { 5 } else { 1 };
        for_each_tier(|tier| {
            let want = product.run();
            for offset in offsets().step_by(step) {
                // All together, and each where the others are not; rows right after another, and apart.
                for apart in [0, 3] {
                    let layouts = std::array::from_fn(|i| {
                        let transposed = i < 2 && offset >> i & 1 == 1;
                        Layout { transposed, gap: apart * (i + 1) % 5, offset: (offset + i * apart) % 17 }
                    });
                    let what = format!("{tier} {layouts:?}");
                    let product = moved(&product, layouts);
                    assert_same(&product.run(), &want, &what);
                    assert_same(&product.run_packed(), &want, format_args!("{what}, packed"));
                }
            }
        });
    }
}

/// A result does not depend on the rows and columns beside it, nor on the tile that it is in.
#[test]
fn a_result_does_not_depend_on_the_others() {
    let mut rng = Rng::new(2);
    for [m, n, k] in [[14, 35, 20], [38, 131, 64]].into_iter().take(if cfg!(miri) { 1 } else { 2 }) {
        let choice = Choice { special: true, ..Choice::default() };
        let product = Product::<f32>::random(&mut rng, [m, n, k], choice);
        let (a, b) = (product.a.dense(), product.b.dense());
        for_each_tier(|tier| {
            let together = product.run();
            for (i, j) in [(0, 0), (m - 1, n - 1), (m / 2, n / 2), (m - 2, 16), (12, n - 17)] {
                let column: Vec<f32> = (0..k).map(|p| b[p * n + j]).collect();
                let (a, b) = (
                    Operand::new(&a[i * k..][..k], 1, k, Layout::default()),
                    Operand::new(&column, k, 1, Layout::default()),
                );
                let alone =
                    Product::<f32> { m: 1, n: 1, k, a, b, c: None, bias: None, layout: Layout::default() };
                let what = format!("{tier}, ({i}, {j}) of {m} x {n}");
                assert_same(&alone.run(), &together[i * n + j..][..1], what);
            }
        });
    }
}

/// Shapes around the sizes from which there are threads, and from which work is cut: by rows, by columns, or not at all.
fn sizes() -> Vec<[usize; 3]> {
    let over = |m: usize, n: usize, times: usize| [m, n, (MATMUL_PARALLEL * times).div_ceil(m * n) + 1];
    let few = MATMUL_PARALLEL / MATMUL_READING / 5 / 2050;
    let mut sizes = vec![
        // By rows: more than columns, or more than a block.
        over(161, 150, 1),
        over(515, 530, 1),
        // By columns, in one half not of whole vectors; what is packed is cut as well.
        over(100, 401, 1),
        over(20, 331, 1),
        // Too small both ways.
        over(47, 63, 1),
        // A few rows.
        [4, 2050, few],
        [4, 2050, few + 1],
    ];
    if !cfg!(debug_assertions) {
        sizes.extend([
            [16, 32, MATMUL_PARALLEL / 512 - 1],
            [16, 32, MATMUL_PARALLEL / 512],
            [16, 33, MATMUL_PARALLEL / 512],
            over(2100, 40, 3),
            over(40, 2100, 3),
            over(49, 65, 2),
            over(48, 64, 1),
            over(1030, 1, 1),
        ]);
    }
    sizes
}

#[test]
fn threads_change_nothing() {
    let mut rng = Rng::new(3);
    // Where nothing is optimised, each shape on one tier.
    let tiers: Vec<Tier> = Tier::available().collect();
    for (s, [m, n, k]) in sizes().into_iter().enumerate() {
        let lies = |transposed, gap| Layout { transposed, gap, offset: 0 };
        let choice = Choice {
            a: lies(s % 2 == 1, s % 3),
            b: lies(s % 3 == 1, s % 2),
            c: lies(false, s % 4),
            accumulate: s % 2 == 0,
            bias: s % 3 != 0,
            special: s % 4 == 3,
        };
        let product = Product::<f32>::random(&mut rng, [m, n, k], choice);
        let mut first: Option<Vec<f32>> = None;
        on_pools(|threads| {
            for &tier in &tiers {
                let slow = tier == Tier::Scalar || s % 2 == 0 && threads != 3;
                if cfg!(debug_assertions) && slow && tier != *tiers.last().expect("there is a tier") {
                    continue;
                }
                with_tier(tier, || {
                    let got = product.run();
                    let want = first.get_or_insert_with(|| got.clone());
                    let what = format!("{tier}, {threads} threads, {product}");
                    assert_same(&got, want, &what);
                    if threads == 3 {
                        assert_same(&product.run_packed(), want, format_args!("{what}, packed"));
                    }
                })
                .expect("an available tier");
            }
        });
    }
}

proptest! {
    // Tiers are slow in a debug build; other nets have the shapes that are known to matter.
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_shape_has_one_result(
        m in 0..60usize, n in 0..150usize, k in 0..80usize, seed: u64, offset in 0..LANES,
    ) {
        let mut rng = Rng::new(seed);
        let choice = Choice::random(&mut rng);
        let product = Product::random(&mut rng, [m, n, k], choice);
        let want = on_tiers(&product);
        let layouts = std::array::from_fn(|i| Layout {
            transposed: i < 2 && rng.below(2) == 0,
            gap: rng.below(4),
            offset: (offset + 5 * i) % 17,
        });
        assert_same(&moved(&product, layouts).run(), &want, format_args!("{product}, {layouts:?}"));
    }
}
