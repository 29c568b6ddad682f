//! Matrix products against the chains that their documentation states, bit for bit, and against f64.

use hotlanes::activation::Activation;
use hotlanes::bf16;
use hotlanes::matmul::{Epilogue, Mat, MatMut, Packed, Right, matmul, matmul_with};

use crate::common::{Rng, assert_same, for_each_tier};
use crate::product::{Choice, Layout, Operand, Product};

/// Half the distance from 1 to the next f32.
const U: f64 = 1.0 / (1 << 24) as f64;

const TRANSPOSED: Layout = Layout { transposed: true, gap: 0, offset: 0 };

/// Both operands as they are or transposed.
const ORIENTATIONS: [(&str, Layout, Layout); 4] = [
    ("NN", Layout { transposed: false, ..TRANSPOSED }, Layout { transposed: false, ..TRANSPOSED }),
    ("NT", Layout { transposed: false, ..TRANSPOSED }, TRANSPOSED),
    ("TN", TRANSPOSED, Layout { transposed: false, ..TRANSPOSED }),
    ("TT", TRANSPOSED, TRANSPOSED),
];

/// Lengths of chains around a vector's, and around what is gone through before the next block.
const LENGTHS: [usize; 12] = [0, 1, 2, 5, 15, 16, 17, 191, 192, 193, 257, 385];

/// Each tier's results, with the right operand as it is and packed before, are the chains.
#[track_caller]
fn assert_chains(product: &Product) {
    let want = product.chains();
    for_each_tier(|tier| {
        assert_same(&product.run(), &want, format_args!("{tier}, {product}"));
        assert_same(&product.run_packed(), &want, format_args!("{tier}, packed, {product}"));
    });
}

/// Shapes around every edge of a tile: each number of rows, of columns and of steps, in ever other company.
#[test]
fn each_result_is_one_chain() {
    let mut rng = Rng::new(1);
    for i in 0..if cfg!(debug_assertions) { 330 } else { 1350 } {
        // The scalar tier is slow where it is not optimised: then long chains have fewer rows.
        let k = LENGTHS[i % 12];
        let few = cfg!(debug_assertions) && k > 100;
        let (m, n) = (1 + i * 4 % if few { 14 } else { 27 }, 1 + i * 7 % 50);
        let choice = Choice::random(&mut rng);
        assert_chains(&Product::random(&mut rng, [m, n, k], choice));
    }
}

/// Shapes around the sizes of the kernel's blocks, and around those from which it packs the left operand.
#[test]
fn each_result_is_one_chain_in_blocks_too() {
    // In src/matmul/kernel.rs: blocks of 192 steps and 144 columns, 1152 columns for all of k; 512 rows as they are and 264
    // packed, from 37 rows, 129 columns and 64 steps on, if the right operand was packed before or rows lie a multiple of 1024 values apart; the
    // epilogue's 24 rows, and the 32 that are packed together of a transpose; a transposed left operand of up to 262,144 values as it
    // lies for up to 64 or 144 columns, unless its rows lie 1024 values apart.
    let small = [
        [36, 129, 64],
        [37, 128, 64],
        [37, 129, 63],
        [37, 129, 64],
        [38, 33, 257],
        [37, 63, 64],
        [47, 64, 64],
        [48, 65, 65],
        [49, 130, 70],
        [73, 40, 20],
        [97, 18, 33],
        [265, 129, 64],
        [514, 17, 12],
        [25, 144, 30],
        [31, 145, 31],
        [33, 161, 32],
        // What lies far away is asked for in time: from 131,072 values of the right operand or of the results on, or
        // 16,384 results of a transposed left operand.
        [120, 1100, 17],
        [128, 127, 17],
        [128, 128, 17],
    ];
    let large = [
        [38, 150, 1024],
        [24, 304, 192],
        [41, 305, 384],
        [40, 20, 2113],
        [37, 300, 513],
        [75, 128, 300],
        [107, 31, 260],
        [263, 130, 300],
        [264, 161, 256],
        [265, 145, 257],
        [530, 129, 65],
        [529, 141, 259],
        [511, 20, 40],
        [512, 33, 300],
        [513, 50, 257],
        [1025, 40, 63],
        [100, 513, 64],
        [60, 1030, 100],
        [9, 1300, 193],
        [37, 1153, 193],
        [1025, 26, 256],
        [1024, 26, 256],
        [1023, 26, 256],
        [1022, 26, 257],
    ];
    let mut rng = Rng::new(2);
    for shape in small {
        for (_, a, b) in ORIENTATIONS {
            // All that an epilogue can start from, over time.
            let choice = Choice { a, b, special: false, ..Choice::random(&mut rng) };
            assert_chains(&Product::random(&mut rng, shape, choice));
        }
    }
    for (i, shape) in large.into_iter().enumerate() {
        for (way, (_, a, b)) in ORIENTATIONS.into_iter().enumerate() {
            // Where nothing is optimised, some, each in one way.
            if cfg!(debug_assertions) && (way != i % 4 || shape.iter().product::<usize>() > 9_000_000) {
                continue;
            }
            let choice = Choice { a, b, special: false, ..Choice::random(&mut rng) };
            assert_chains(&Product::random(&mut rng, shape, choice));
        }
    }
}

/// Few rows or few columns, as the kernel counts them, on either side of each of its lengths: of rows that are taken together,
/// of steps that are turned, of columns that wait. With everything that is done besides.
#[test]
fn few_rows_and_few_columns() {
    let mut rng = Rng::new(11);
    let few = [1, 2, 3, 4, 5, 6, 7, 9, 11, 12, 13, 16, 17, 23, 24, 25];
    let steps = [1, 5, 15, 16, 17, 33, 65];
    for i in 0..if cfg!(debug_assertions) { 64 } else { 1120 } {
        let (some, k) = (few[i % 16], steps[i % 7]);
        let many = [26, 48, 70, 131, 260][i % 5];
        let (_, a, b) = ORIENTATIONS[i / 16 % 4];
        let shape = if i / 3 % 2 == 0 { [many, some, k] } else { [some, many, k] };
        let choice = Choice { a, b, special: false, ..Choice::random(&mut rng) };
        let product = Product::<f32>::random(&mut rng, shape, choice);
        let chains = product.chains();
        let [m, n, _] = shape;
        let mut activated = chains.clone();
        Activation::Silu.forward_in_place(&mut activated);
        for_each_tier(|tier| {
            assert_same(&product.run(), &chains, format_args!("{tier}, {product}"));
            let zeros = || vec![f32::NAN; m * n];
            let (mut c, mut pre) = (product.c.clone().unwrap_or_else(zeros), zeros());
            let epilogue = Epilogue {
                accumulate: product.c.is_some(),
                bias: product.bias.as_deref(),
                activation: Activation::Silu,
                pre_activation: (i % 3 == 0).then(|| MatMut::new(&mut pre, m, n)),
            };
            matmul_with(product.a.mat(), product.b.mat(), MatMut::new(&mut c, m, n), epilogue);
            assert_same(&c, &activated, format_args!("{tier}, activated, {product}"));
            if i % 3 == 0 {
                assert_same(&pre, &chains, format_args!("{tier}, before the activation, {product}"));
            }
        });
    }
}

/// The largest error, as a part of the documented bound.
fn worst(product: &Product, got: &[f32]) -> f64 {
    let (sums, sizes) = product.exact();
    let bound = (product.k + 1) as f64 * U;
    let parts = got.iter().zip(&sums).zip(&sizes).map(|((&g, s), size)| {
        let error = (g as f64 - s).abs();
        if error == 0.0 { 0.0 } else { error / (bound * size) }
    });
    parts.fold(0.0, f64::max)
}

#[test]
fn errors_are_within_the_bound() {
    let mut rng = Rng::new(3);
    let mut largest = 0.0f64;
    for k in [1, 2, 3, 4, 8, 16, 31, 100, 256, 257, 600, 2000] {
        for (name, a, b) in ORIENTATIONS {
            for (accumulate, bias) in [(false, false), (false, true), (true, false), (true, true)] {
                let choice = Choice { a, b, accumulate, bias, ..Choice::default() };
                let mut product = Product::random(&mut rng, [5, 7, k], choice);
                if k % 2 == 0 && accumulate == bias {
                    // Values all alike: sums grow steadily, and their roundings go one way.
                    let (x, y) = (rng.uniform(0.5, 1.0), rng.uniform(0.5, 1.0));
                    product.a = Operand::new(&vec![x; 5 * k], 5, k, a);
                    product.b = Operand::new(&vec![y; k * 7], k, 7, b);
                }
                for_each_tier(|tier| {
                    let part = worst(&product, &product.run());
                    assert!(part <= 1.0, "{tier}, {name}, {product}: {part} of the bound");
                    largest = largest.max(part);
                });
            }
        }
    }
    println!("at most {largest:.3} of the bound");
    // A bound that is never nearly reached would show nothing.
    assert!(largest > 0.25, "at most {largest} of the bound");
}

/// What is not finite goes where the formula takes it, and nowhere else: not from the zeros that fill a vector either.
#[test]
fn a_value_that_is_not_finite_stays_in_its_row_or_column() {
    let mut rng = Rng::new(4);
    for [m, n, k] in [[1, 1, 1], [5, 17, 3], [14, 33, 20], [40, 131, 64], [3, 15, 257]] {
        for (name, a, b) in ORIENTATIONS {
            let choice = Choice { a, b, ..Choice::default() };
            let product = Product::random(&mut rng, [m, n, k], choice);
            let (row, col, step) = (rng.below(m), rng.below(n), rng.below(k));
            let (da, db) = (product.a.dense(), product.b.dense());
            for_each_tier(|tier| {
                let want = product.run();
                for value in [f32::NAN, f32::INFINITY] {
                    let what = format!("{tier}, {name}, {m} x {n} over {k}, {value}");
                    let mut x = da.clone();
                    x[row * k + step] = value;
                    // A zero times infinity is not a number.
                    let mut y = db.clone();
                    y[step * n + col] = 0.0;
                    let bad = Product { a: Operand::new(&x, m, k, a), ..clone(&product, a, b) };
                    let bad = Product { b: Operand::new(&y, k, n, b), ..bad };
                    let got = bad.run();
                    assert!(got[row * n + col].is_nan(), "{what}");
                    for i in 0..m {
                        for j in 0..n {
                            let at = i * n + j;
                            if i == row {
                                assert!(!got[at].is_finite(), "{what}: ({i}, {j})");
                            } else if j != col {
                                assert_same(
                                    &got[at..=at],
                                    &want[at..=at],
                                    format_args!("{what}: ({i}, {j})"),
                                );
                            } else {
                                assert!(got[at].is_finite(), "{what}: ({i}, {j})");
                            }
                        }
                    }

                    let mut y = db.clone();
                    y[step * n + col] = value;
                    let bad = Product { b: Operand::new(&y, k, n, b), ..clone(&product, a, b) };
                    for (i, got) in bad.run().iter().enumerate() {
                        if i % n == col {
                            assert!(!got.is_finite(), "{what}: {i}");
                        } else {
                            assert_same(&[*got], &want[i..=i], format_args!("{what}: {i}"));
                        }
                    }
                }
            });
        }
    }
}

/// A product of the same operands.
fn clone(product: &Product, a: Layout, b: Layout) -> Product {
    let Product { m, n, k, layout, .. } = *product;
    let a = Operand::new(&product.a.dense(), m, k, a);
    let b = Operand::new(&product.b.dense(), k, n, b);
    Product { m, n, k, a, b, c: product.c.clone(), bias: product.bias.clone(), layout }
}

/// Without steps the results are what the chains start from; without results nothing happens.
#[test]
fn products_of_nothing() {
    let mut rng = Rng::new(5);
    for shape in
        [[0, 0, 0], [0, 5, 3], [5, 0, 3], [0, 0, 7], [1, 1, 0], [7, 18, 0], [60, 140, 0], [700, 750, 0]]
    {
        for (_, a, b) in ORIENTATIONS {
            for (accumulate, bias) in [(false, false), (false, true), (true, false), (true, true)] {
                // The one that is spread over threads; once is enough.
                if shape[0] > 100 && (a.transposed || b.transposed || accumulate != bias) {
                    continue;
                }
                let choice = Choice { a, b, accumulate, bias, ..Choice::default() };
                let product = Product::random(&mut rng, shape, choice);
                assert_chains(&product);
                let Product { m, n, .. } = product;
                let starts: Vec<f32> = (0..m * n).map(|at| product.start(at / n, at % n)).collect();
                assert_same(&product.run(), &starts, &product);
            }
        }
    }
}

#[test]
fn a_packed_operand_is_packed_anew() {
    let mut rng = Rng::new(6);
    let (m, n, k) = (9, 37, 70);
    let mut packed = Packed::new(k, n);
    let zeros = Product::<f32>::random(&mut rng, [m, n, k], Choice::default());
    for_each_tier(|tier| {
        let fresh = Packed::new(k, n);
        assert!(zeros.run_with(&fresh).iter().all(|x| *x == 0.0), "{tier}: not packed yet");
        for (name, a, b) in ORIENTATIONS {
            let gap = [0, 3][rng.below(2)];
            let choice = Choice { a, b: Layout { gap, ..b }, bias: true, ..Choice::default() };
            let product = Product::<f32>::random(&mut rng, [m, n, k], choice);
            packed.pack(product.b.mat());
            let want = product.run();
            assert_same(&product.run_with(&packed), &want, format_args!("{tier} {name}"));
            assert_same(&product.run_with(&packed.clone()), &want, format_args!("{tier} {name}, a copy"));
        }
    });
}

/// `Packed::bf16` rounds as [`bf16::from_f32`] does, keeps bf16 values as they are, and loses nothing in the product.
#[test]
fn a_packed_operand_may_be_kept_as_bf16() {
    let mut rng = Rng::new(16);
    // The last two are cut among threads: by columns.
    for [m, n, k] in [
        [1, 150, 40],
        [2, 7, 1],
        [3, 40, 0],
        [4, 64, 33],
        [5, 33, 200],
        [30, 150, 193],
        [70, 129, 65],
        [24, 1300, 300],
        [3, 4000, 450],
    ] {
        let (mut a, mut b) =
            (rng.vec(m * k, |rng| rng.spread(-8, 8)), rng.vec(k * n, |rng| rng.spread(-8, 8)));
        // A NaN in a row and one in a column of the larger ones.
        if m * k > 1000 {
            (a[k + 5], b[3 * n + 7]) = (f32::NAN, f32::NAN);
        }
        let bias = rng.vec(n, |rng| rng.spread(-8, 8));
        let c = rng.vec(m * n, |rng| rng.spread(-8, 8));
        let (mut half, mut rounded) = (vec![0; k * n], vec![0.0; k * n]);
        bf16::from_f32(&b, &mut half);
        bf16::to_f32(&half, &mut rounded);
        for_each_tier(|tier| {
            let onto = |right: Right<'_>, activation| {
                let (mut to, mut before) = (c.clone(), vec![0.0; m * n]);
                let epilogue = Epilogue {
                    accumulate: true,
                    activation,
                    bias: Some(&bias),
                    pre_activation: Some(MatMut::new(&mut before, m, n)),
                };
                matmul_with(Mat::new(&a, m, k), right, MatMut::new(&mut to, m, n), epilogue);
                to.extend(before);
                to
            };
            let (mut packed, mut same) = (Packed::bf16(k, n), Packed::bf16(k, n));
            assert!(packed.is_bf16() && !Packed::new(k, n).is_bf16());
            packed.pack(Mat::new(&b, k, n));
            same.pack(Mat::new(&half, k, n));
            for activation in [Activation::Identity, Activation::GeluTanh] {
                let want = onto(Mat::new(&rounded, k, n).into(), activation);
                for right in [&packed, &same, &packed.clone()] {
                    assert_same(
                        &onto(right.into(), activation),
                        &want,
                        format_args!("{tier}, {m} x {n} over {k}"),
                    );
                }
            }
        });
    }
}

/// The transpose of a product is the product of the transposes: the factors of each step change places, which rounds no
/// differently.
#[test]
fn the_transpose_is_the_product_of_the_transposes() {
    let mut rng = Rng::new(7);
    for [m, n, k] in [[1, 9, 4], [13, 40, 33], [70, 18, 130], [41, 140, 66]] {
        let (a, b) = (rng.vec(m * k, |rng| rng.spread(-8, 8)), rng.vec(k * n, |rng| rng.spread(-8, 8)));
        let (a, b) = (Mat::new(&a, m, k), Mat::new(&b, k, n));
        assert_eq!([a.rows(), a.cols(), a.t().rows(), a.t().cols()], [m, k, k, m]);
        for_each_tier(|tier| {
            let (mut c, mut d) = (vec![f32::NAN; m * n], vec![f32::NAN; m * n]);
            matmul(a, b, MatMut::new(&mut c, m, n));
            matmul(b.t(), a.t(), MatMut::new(&mut d, n, m));
            let turned: Vec<f32> = (0..m * n).map(|at| d[at % n * m + at / n]).collect();
            assert_same(&c, &turned, format_args!("{tier}, {m} x {n} over {k}"));
        });
    }
}

/// Halves of k, one added to the other, are the same chain.
#[test]
fn products_over_parts_of_k_go_on_where_the_last_one_ended() {
    let mut rng = Rng::new(8);
    let (m, n, k) = (13, 50, 90);
    let product = Product::<f32>::random(&mut rng, [m, n, k], Choice { bias: true, ..Choice::default() });
    let (a, b) = (product.a.dense(), product.b.dense());
    for_each_tier(|tier| {
        let want = product.run();
        for cut in [0, 1, 16, 37, 89, 90] {
            let mut c = vec![f32::NAN; m * n];
            let (first, last) = (&b[..cut * n], &b[cut * n..]);
            let epilogue = Epilogue { bias: product.bias.as_deref(), ..Epilogue::default() };
            let head = Mat::with_stride(&a, m, cut, k);
            matmul_with(head, Mat::new(first, cut, n), MatMut::new(&mut c, m, n), epilogue);
            let epilogue = Epilogue { accumulate: true, ..Epilogue::default() };
            let tail = Mat::with_stride(&a[cut..], m, k - cut, k);
            matmul_with(tail, Mat::new(last, k - cut, n), MatMut::new(&mut c, m, n), epilogue);
            assert_same(&c, &want, format_args!("{tier}, cut at {cut}"));
        }
    });
}

/// Each result goes through the activation, whose own bits it has; what it is applied to may be kept.
#[test]
fn activations_are_applied_at_the_end() {
    let mut rng = Rng::new(9);
    for [m, n, k] in [[1, 1, 1], [13, 33, 20], [3, 64, 0], [50, 48, 3], [49, 131, 257]] {
        for (i, activation) in Activation::ALL.into_iter().enumerate() {
            let (_, a, b) = ORIENTATIONS[i % 4];
            let choice = Choice { a, b, bias: i % 3 == 0, special: i % 2 == 0, ..Choice::default() };
            let product = Product::<f32>::random(&mut rng, [m, n, k], choice);
            let chains = product.chains();
            let mut want = chains.clone();
            activation.forward_in_place(&mut want);
            for_each_tier(|tier| {
                let what = format!("{tier}, {}, {product}", activation.name());
                let epilogue =
                    || Epilogue { bias: product.bias.as_deref(), activation, ..Epilogue::default() };
                let (mut c, mut pre) = (vec![f32::NAN; m * n], vec![-7.0; m * (n + 3)]);
                matmul_with(product.a.mat(), product.b.mat(), MatMut::new(&mut c, m, n), epilogue());
                assert_same(&c, &want, &what);

                c.fill(f32::NAN);
                let kept = MatMut::with_stride(&mut pre, m, n, n + 3);
                let epilogue = Epilogue { pre_activation: Some(kept), ..epilogue() };
                matmul_with(product.a.mat(), product.b.mat(), MatMut::new(&mut c, m, n), epilogue);
                assert_same(&c, &want, format_args!("{what}, with what it is applied to"));
                for (i, row) in pre.chunks_exact(n + 3).enumerate() {
                    assert_same(
                        &row[..n],
                        &chains[i * n..][..n],
                        format_args!("{what}: applied to, row {i}"),
                    );
                    assert_eq!(row[n..], [-7.0; 3], "{what}: wrote between rows");
                }
            });
        }
    }
}

/// What is added to is `c`, also where what the activation is applied to goes elsewhere.
#[test]
fn what_is_added_to_is_c() {
    let mut rng = Rng::new(10);
    for bias in [false, true] {
        let (m, n, k) = (14, 35, 20);
        let choice = Choice { accumulate: true, bias, ..Choice::default() };
        let product = Product::<f32>::random(&mut rng, [m, n, k], choice);
        let chains = product.chains();
        let mut want = chains.clone();
        Activation::Silu.forward_in_place(&mut want);
        for_each_tier(|tier| {
            let (mut c, mut pre) = (product.c.clone().expect("accumulate"), vec![f32::NAN; m * n]);
            let epilogue = Epilogue {
                accumulate: true,
                bias: product.bias.as_deref(),
                activation: Activation::Silu,
                pre_activation: Some(MatMut::new(&mut pre, m, n)),
            };
            matmul_with(product.a.mat(), product.b.mat(), MatMut::new(&mut c, m, n), epilogue);
            assert_same(&pre, &chains, tier);
            assert_same(&c, &want, tier);
        });
    }
}
