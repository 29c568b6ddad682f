//! Reductions and aggregation against the formulas of their documentation, in f64.

use hotlanes::reduce::{self, BLOCK, PIECE};

use crate::common::{Guarded, Rng, assert_same, for_each_tier, offsets, panic_message};

/// Half the distance from 1 to the next f32.
const U: f64 = 1.0 / (1 << 24) as f64;
/// The smallest positive f32.
const TINY: f64 = f32::from_bits(1) as f64;

/// Makes values.
type Kind = fn(&mut Rng, usize) -> Vec<f32>;

const KINDS: [Kind; 9] = [
    |rng, n| rng.vec(n, |rng| rng.normal()),
    |rng, n| rng.vec(n, |rng| 1e4 + rng.normal()),
    |rng, n| rng.vec(n, |rng| rng.spread(-10, 10)),
    // The roundings of a sum of one or two values all go one way.
    |rng, n| vec![rng.uniform(0.5, 1.0); n],
    |rng, n| {
        let (a, b) = (rng.uniform(0.5, 1.0), rng.uniform(-1.0, 0.0));
        (0..n).map(|i| if i < n / 2 { a } else { b }).collect()
    },
    // Subnormal numbers, whose squares are nothing in f32.
    |rng, n| rng.vec(n, |rng| rng.normal() * 1e-41),
    // Squares around the threshold of the second way, above and below.
    |rng, n| rng.vec(n, |rng| rng.spread(-50, -36)),
    // Squares that overflow, then sums that do.
    |rng, n| rng.vec(n, |rng| rng.spread(60, 100)),
    |rng, n| rng.vec(n, |rng| rng.spread(120, 127)),
];

fn lengths() -> Vec<usize> {
    let mut lengths: Vec<usize> = (1..=70).chain([100, 1000]).collect();
    lengths.extend([BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 100]);
    lengths.extend([PIECE, 2 * PIECE + BLOCK + 17]);
    lengths
}

/// The error over its bound, which has a rounding to f32 on top.
fn ratio(got: f32, want: f64, bound: f64) -> f64 {
    let bound = bound + U * want.abs() + TINY / 2.0;
    if got.is_infinite() {
        // Only where what is right, or what is as good, rounds to infinity.
        let beyond = want.abs() + bound >= f32::MAX as f64 && want.is_sign_positive() == (got > 0.0);
        return if beyond { 0.0 } else { f64::INFINITY };
    }
    let ratio = (got as f64 - want).abs() / bound;
    if ratio.is_nan() { f64::INFINITY } else { ratio }
}

const NAMES: [&str; 5] = ["sum", "dot", "norm", "mean", "variance"];

fn ratios(x: &[f32], y: &[f32]) -> [f64; 5] {
    let wide = || x.iter().map(|&x| x as f64);
    let n = x.len() as f64;
    let products: Vec<f64> = wide().zip(y).map(|(x, &y)| x * y as f64).collect();
    let size = |v: &[f64]| v.iter().map(|x| x.abs()).sum::<f64>();
    let sum = wide().sum::<f64>();
    let norm = wide().map(|x| x * x).sum::<f64>().sqrt();
    let mean = sum / n;
    let variance = wide().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
    let got = reduce::mean_var(x);
    // What f64 itself is off by, where the mean is far from zero.
    let f64_mean = mean.abs() * 1e-12;
    [
        ratio(reduce::sum(x), sum, 70.0 * U * size(&wide().collect::<Vec<_>>())),
        ratio(reduce::dot(x, y), products.iter().sum(), 70.0 * U * size(&products) + n * TINY),
        ratio(reduce::norm(x), norm, 35.0 * U * norm),
        ratio(got.mean, mean, 140.0 * U * variance.sqrt() + f64_mean),
        ratio(got.variance, variance, 140.0 * U * variance + TINY + f64_mean * f64_mean),
    ]
}

#[test]
fn everything_is_within_its_bound() {
    let mut rng = Rng::new(1);
    let mut worst = [(0.0, 0, 0); 5];
    for (kind, values) in KINDS.iter().enumerate() {
        for n in lengths() {
            let (x, y) = (values(&mut rng, n), values(&mut rng, n));
            for_each_tier(|tier| {
                for (k, ratio) in ratios(&x, &y).into_iter().enumerate() {
                    assert!(ratio <= 1.0, "{tier}, {n} of kind {kind}: {} off by {ratio}", NAMES[k]);
                    // Of subnormal numbers the last rounding says it all.
                    if ratio > worst[k].0 && kind != 5 {
                        worst[k] = (ratio, n, kind);
                    }
                }
                let largest = x.iter().fold(f32::NEG_INFINITY, |a, &x| a.max(x));
                assert_eq!(reduce::max(&x), largest, "{tier}, {n} of kind {kind}");
            });
        }
    }
    for ((ratio, n, kind), name) in worst.into_iter().zip(NAMES) {
        println!("{name}: largest error {ratio:.3} of its bound, {n} of kind {kind}");
        assert!(ratio > 0.1, "the bound of {name} is too loose to mean anything: {ratio}");
    }
}

#[test]
fn nothing_overflows_or_vanishes_on_the_way() {
    for_each_tier(|tier| {
        for n in [2, 100, BLOCK, PIECE + 2] {
            let half = vec![f32::MAX; n / 2];
            let cancel = [&half[..], &half.iter().map(|x| -x).collect::<Vec<_>>()].concat();
            let size = n as f64 * f32::MAX as f64;
            assert!(ratio(reduce::sum(&cancel), 0.0, 70.0 * U * size) <= 1.0, "{tier} {n}");
            // A product of 2^160 is beyond f32, and so may be what rounding leaves of their sum: not a NaN.
            let large = vec![2f32.powi(80); n];
            let mixed: Vec<f32> = (0..n).map(|i| if i < n / 2 { large[i] } else { -large[i] }).collect();
            assert_eq!(reduce::dot(&mixed, &large), 0.0, "{tier} {n}");
            let all = vec![f32::MAX; n];
            let r = reduce::mean_var(&all);
            assert_eq!((r.mean, r.variance), (f32::MAX, 0.0), "{tier} {n}");
            assert_eq!(reduce::sum(&all), f32::INFINITY, "{tier} {n}");
            assert_eq!(reduce::norm(&all), f32::INFINITY, "{tier} {n}");
        }
        // 4096 = 64^2 equal ones.
        for x in [1e-45f32, 3e-39, 1e-20, 1e20, 1e36] {
            let want = 64.0 * x as f64;
            let ratio = ratio(reduce::norm(&[x; 4096]), want, 35.0 * U * want);
            assert!(ratio <= 1.0, "{tier} {x}: {ratio}");
            assert_eq!(reduce::norm(&[x]), x, "{tier} {x}");
        }
        assert_eq!(reduce::norm(&[3e-30, -4e-30]), 5e-30, "{tier}");
    });
}

#[test]
fn nan_and_infinity_are_as_documented() {
    let inf = f32::INFINITY;
    let mut rng = Rng::new(2);
    for_each_tier(|tier| {
        for n in [1, 2, 15, 17, 63, 64, 65, 200, BLOCK + 1, PIECE + 3] {
            let base = rng.vec(n, |rng| rng.normal());
            let at = rng.below(n);
            let what = format!("{tier}: {n}, at {at}");
            let mut x = base.clone();
            x[at] = f32::NAN;
            let r = reduce::mean_var(&x);
            let all = [
                reduce::sum(&x),
                reduce::dot(&base, &x),
                reduce::norm(&x),
                r.mean,
                r.variance,
                reduce::max(&x),
            ];
            assert!(all.iter().all(|x| x.is_nan()), "{what}: {all:?}");
            // Infinities beside it hide nothing.
            x[n - 1] = if at == n - 1 { f32::NAN } else { inf };
            assert!(reduce::norm(&x).is_nan() && reduce::max(&x).is_nan(), "{what}");
            for sign in [1.0, -1.0] {
                x = base.clone();
                x[at] = sign * inf;
                let r = reduce::mean_var(&x);
                assert_eq!((reduce::sum(&x), reduce::norm(&x)), (sign * inf, inf), "{what}");
                assert!(r.mean.is_nan() && r.variance.is_nan(), "{what}: {r:?}");
                let largest = x.iter().fold(-inf, |a, &x| a.max(x));
                assert_eq!(reduce::max(&x), largest, "{what}");
            }
            if n > 1 {
                x[(at + 1) % n] = -x[at];
                assert!(reduce::sum(&x).is_nan(), "{what}");
                assert_eq!((reduce::norm(&x), reduce::max(&x)), (inf, inf), "{what}");
            }
        }
        assert_eq!((reduce::sum(&[]), reduce::dot(&[], &[]), reduce::norm(&[])), (0.0, 0.0, 0.0));
        assert_eq!(reduce::max(&[]), -inf);
        // The larger zero, wherever it lies.
        for n in [1, 40, 300, PIECE + 20] {
            let mut x = vec![-0.0; n];
            assert_eq!(reduce::max(&x).to_bits(), (-0f32).to_bits(), "{tier}, {n}");
            let at = rng.below(n);
            x[at] = 0.0;
            assert_eq!(reduce::max(&x).to_bits(), 0, "{tier}, {n} at {at}");
        }
        let r = reduce::mean_var(&[]);
        assert!(r.mean.is_nan() && r.variance.is_nan());
        let zeros = vec![-0.0; BLOCK + 20];
        assert_eq!((reduce::norm(&zeros), reduce::sum(&zeros)), (0.0, 0.0), "{tier}");
    });
}

/// Where the elements lie decides how they are read, not one bit of the results. (In the table's nets a maximum says little about
/// elements that are not the largest.)
#[test]
fn every_element_counts_wherever_the_slice_lies() {
    let mut rng = Rng::new(3);
    let memory = rng.vec(BLOCK + 700, |rng| rng.normal());
    for_each_tier(|tier| {
        for n in [255, 256, 257, 340, BLOCK - 1, BLOCK, BLOCK + 600] {
            for offset in offsets() {
                let mut x = memory[offset..offset + n].to_vec();
                for at in [0, 1, 15, 16, 31, 100, n - 17, n - 1, rng.below(n)] {
                    let before = std::mem::replace(&mut x[at], 100.0);
                    let lies = Guarded::new(offset, &x);
                    let there = lies.get();
                    assert_eq!(reduce::max(there), 100.0, "{tier}, {n} from {offset} on: element {at}");
                    let all = |x: &[f32]| {
                        let r = reduce::mean_var(x);
                        [reduce::sum(x), reduce::dot(x, &memory[..n]), reduce::norm(x), r.mean, r.variance]
                    };
                    assert_same(&all(there), &all(&x), format_args!("{tier}, {n} from {offset} on"));
                    x[at] = before;
                }
            }
        }
    });
}

/// The tree of the documentation.
fn tree(x: &[f32]) -> f32 {
    match x.len() {
        1 => x[0],
        n if n > 1024 => {
            // Each 1024 one after the other; what is left over comes last.
            let mut chunks = x.chunks(1024);
            let first = tree(chunks.next().unwrap());
            chunks.fold(first, |a, x| a + tree(x))
        }
        n => {
            let p = n.next_power_of_two() / 2;
            tree(&x[..p]) + tree(&x[p..])
        }
    }
}

#[test]
fn aggregation_is_the_documented_tree() {
    let mut rng = Rng::new(3);
    let mut worst = (0.0f64, 0);
    for k in (1..=35usize).chain([63, 64, 65, 100, 1000, 1023, 1024, 1025, 2048, 2100, 3100]) {
        for n in if k < 200 { vec![1, 16, 37, 255, 256, 257, 530] } else { vec![19] } {
            let spread = rng.below(2) == 0;
            let owned: Vec<Vec<f32>> = (0..k)
                .map(|_| rng.vec(n, |rng| if spread { rng.spread(-9, 9) } else { rng.normal() }))
                .collect();
            let buffers: Vec<&[f32]> = owned.iter().map(|b| &b[..]).collect();
            let scale = rng.spread(-5, 5);
            let want: Vec<f32> =
                (0..n).map(|i| tree(&owned.iter().map(|b| b[i]).collect::<Vec<_>>()) * scale).collect();
            for_each_tier(|tier| {
                let mut dst = vec![f32::NAN; n];
                reduce::aggregate(&mut dst, &buffers, scale);
                assert_same(&dst, &want, format!("{tier}, {k} x {n}"));
            });
            let levels = k.min(1024).next_power_of_two().ilog2() as usize + k.div_ceil(1024) - 1;
            for i in 0..n {
                let exact = owned.iter().map(|b| b[i] as f64).sum::<f64>() * scale as f64;
                let size = owned.iter().map(|b| b[i].abs() as f64).sum::<f64>() * scale.abs() as f64;
                let ratio = (want[i] as f64 - exact).abs() / (U * (levels + 1) as f64 * size);
                assert!(ratio <= 1.0, "{k} buffers: off by {ratio} of its bound");
                if ratio > worst.0 {
                    worst = (ratio, k);
                }
            }
        }
    }
    println!("aggregate: largest error {:.3} of its bound, {} buffers", worst.0, worst.1);
    assert!(worst.0 > 0.2);
}

#[test]
fn a_wrong_length_panics_with_both() {
    assert_eq!(panic_message(|| _ = reduce::dot(&[1.0; 3], &[1.0; 4])), "dot: y has 4 values, x asks for 3");
    let mut dst = [7.0; 3];
    let message = panic_message(|| reduce::aggregate(&mut dst, &[&[1.0; 3], &[1.0; 2]], 1.0));
    assert_eq!(message, "aggregate: a buffer has 2 values, dst asks for 3");
    let message = panic_message(|| reduce::aggregate(&mut dst, &[], 1.0));
    assert_eq!(message, "aggregate: there are no buffers, at least one is needed");
    assert_eq!(dst, [7.0; 3], "nothing was done");
}

#[test]
fn sums_of_columns_are_within_the_bound() {
    let mut rng = Rng::new(9);
    let chunk = reduce::ROWS_PER_SUM;
    for rows in [0, 1, 2, 17, chunk - 1, chunk, chunk + 1, 3 * chunk + 5, 9 * chunk] {
        for cols in [1, 3, 16, 33, 80, 130] {
            let (x, before) =
                (rng.vec(rows * cols, |rng| 1.0 + rng.normal()), rng.vec(cols, |rng| rng.normal()));
            let levels = (rows as f64 / chunk as f64).log2().ceil().max(0.0);
            let bound = (rows.min(chunk) as f64 + levels) * U;
            for_each_tier(|tier| {
                let (mut sums, mut added) = (vec![f32::NAN; cols], before.clone());
                reduce::column_sums(&x, &mut sums, false);
                reduce::column_sums(&x, &mut added, true);
                for c in 0..cols {
                    let column = (0..rows).map(|r| f64::from(x[r * cols + c]));
                    let (exact, size) = (column.clone().sum::<f64>(), column.map(f64::abs).sum::<f64>());
                    let off = (f64::from(sums[c]) - exact).abs();
                    assert!(
                        off <= bound * size,
                        "{tier}, {rows} x {cols}, column {c}: {} for {exact}",
                        sums[c]
                    );
                    let start = f64::from(before[c]);
                    let off = (f64::from(added[c]) - exact - start).abs();
                    assert!(
                        off <= bound * (size + start.abs()),
                        "{tier}, {rows} x {cols}, column {c}, added"
                    );
                }
            });
        }
    }
}

/// The documented order, with the numbers that show it.
#[test]
fn columns_are_chains_of_256_rows_and_a_tree() {
    let (rows, cols) = (5 * 256 + 7, 3);
    let x = Rng::new(10).vec(rows * cols, |rng| rng.spread(-8, 8));
    let column = |c: usize| -> f32 {
        let values: Vec<f32> = (0..rows).map(|r| x[r * cols + c]).collect();
        let s: Vec<f32> = values.chunks(256).map(|chunk| chunk.iter().fold(0.0, |a, x| a + x)).collect();
        ((s[0] + s[1]) + (s[2] + s[3])) + (s[4] + s[5])
    };
    for_each_tier(|tier| {
        let mut sums = [f32::NAN; 3];
        reduce::column_sums(&x, &mut sums, false);
        assert_same(&sums, &[0, 1, 2].map(column), tier);
    });
    let message = panic_message(|| reduce::column_sums(&[0.0; 7], &mut [0.0; 3], false));
    assert!(message.contains("7 values") && message.contains("rows of 3"), "{message}");
    let message = panic_message(|| reduce::column_sums(&[0.0; 7], &mut [], false));
    assert!(message.contains("7 values") && message.contains("rows of 0"), "{message}");
}
