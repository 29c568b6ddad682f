//! The sparse kernels against a dense matrix in f64, and their bounds.

use hotlanes::Index;
use hotlanes::sparse::{Csr, Plan};

use crate::common::{Guarded, Rng, assert_same, for_each_tier};
use crate::structure::{with_density, with_rows};

/// Half the distance from 1 to the next f32.
const U: f64 = 1.0 / (1 << 24) as f64;

const LR: f64 = 0.1;

/// A sum of products: its value, the sum of their moduli, and how many there are.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    value: f64,
    moduli: f64,
    n: usize,
}

impl Sum {
    fn add(&mut self, a: f32, b: f32) {
        self.value += a as f64 * b as f64;
        self.moduli += (a as f64 * b as f64).abs();
        self.n += 1;
    }
}

/// What the kernels should give, `[feature][batch]` as they do.
struct Oracle {
    y: Vec<Sum>,
    dx: Vec<Sum>,
    dvalues: Vec<Sum>,
}

/// The matrix as a dense one: the position of each connection in the values.
fn dense<I: Index>(csr: &Csr<I>) -> Vec<Vec<Option<usize>>> {
    let mut dense = vec![vec![None; csr.cols()]; csr.rows()];
    for (r, row) in dense.iter_mut().enumerate() {
        for k in csr.indptr()[r]..csr.indptr()[r + 1] {
            row[csr.indices()[k].to_usize()] = Some(k);
        }
    }
    dense
}

fn oracle<I: Index>(csr: &Csr<I>, x: &[f32], dy: &[f32], batch: usize) -> Oracle {
    let [y, dx, dvalues] =
        [csr.rows() * batch, csr.cols() * batch, csr.nnz()].map(|n| vec![Sum::default(); n]);
    let mut o = Oracle { y, dx, dvalues };
    for (r, row) in dense(csr).into_iter().enumerate() {
        for (c, k) in row.into_iter().enumerate() {
            let Some(k) = k else { continue };
            let w = csr.values()[k];
            for e in 0..batch {
                let (x, dy) = (x[c * batch + e], dy[r * batch + e]);
                o.y[r * batch + e].add(w, x);
                o.dx[c * batch + e].add(w, dy);
                o.dvalues[k].add(x, dy);
            }
        }
    }
    o
}

/// The largest error over its bound of each kind of sum.
struct Worst([f64; 6]);

const NAMES: [&str; 6] =
    ["matvec", "matmul", "dx of one", "dx of a batch", "dvalues of one", "dvalues of a batch"];

impl Worst {
    /// Sums against the oracle's; `roundings` is how many a sum of `n` products may have.
    #[track_caller]
    fn check(&mut self, kind: usize, got: &[f32], want: &[Sum], roundings: impl Fn(f64) -> f64, what: &str) {
        assert_eq!(got.len(), want.len());
        for (i, (&got, want)) in got.iter().zip(want).enumerate() {
            let bound = roundings(want.n as f64) * U * want.moduli;
            let error = (got as f64 - want.value).abs();
            assert!(error <= bound, "{what}: {} {i} is {got}, not {want:?}", NAMES[kind]);
            if error > 0.0 {
                self.0[kind] = self.0[kind].max(error / bound);
            }
        }
    }
}

/// Values after a step of SGD: the gradient's bound, the rounding of `lr` and that of the step itself.
#[track_caller]
fn check_sgd(got: &[f32], before: &[f32], gradient: &[Sum], roundings: f64, what: &str) {
    for (i, ((&got, &w), g)) in got.iter().zip(before).zip(gradient).enumerate() {
        let want = w as f64 - LR * g.value;
        let bound = LR * (roundings + 1.0) * U * g.moduli + U * want.abs() * 1.001;
        assert!((got as f64 - want).abs() <= bound, "{what}: value {i} is {got}, not {want}");
    }
}

/// All kernels on all tiers for one matrix and batch. Outputs start as NaN: they are overwritten.
fn check<I: Index>(rng: &mut Rng, csr: &Csr<I>, batch: usize, worst: &mut Worst) {
    let x = rng.vec(csr.cols() * batch, |rng| rng.spread(-3, 2));
    let dy = rng.vec(csr.rows() * batch, |rng| rng.spread(-3, 2));
    let want = oracle(csr, &x, &dy, batch);
    let plan = csr.plan();
    let new = |sums: &[Sum]| vec![f32::NAN; sums.len()];
    for_each_tier(|tier| {
        let what = &format!("{tier} {} x {}, nnz {}, batch {batch}", csr.rows(), csr.cols(), csr.nnz());
        let dvalues_roundings = batch as f64 / 32.0 + 7.0;
        let (mut y, mut dx, mut dv) = (new(&want.y), new(&want.dx), new(&want.dvalues));
        csr.matmul(&x, batch, &mut y);
        worst.check(1, &y, &want.y, |n| n / 2.0 + csr.cols() as f64 / 100.0 + 2.0, what);
        plan.matmul_backward(csr, &x, &dy, batch, Some(&mut dx), Some(&mut dv));
        worst.check(3, &dx, &want.dx, |n| n / 16.0 + 9.0, what);
        worst.check(5, &dv, &want.dvalues, |_| dvalues_roundings, what);

        let (mut dx_alone, mut dv_alone) = (new(&want.dx), new(&want.dvalues));
        plan.matmul_backward(csr, &x, &dy, batch, Some(&mut dx_alone), None);
        assert_same(&dx_alone, &dx, what);
        plan.matmul_backward(csr, &x, &dy, batch, None, Some(&mut dv_alone));
        assert_same(&dv_alone, &dv, what);
        plan.matmul_backward(csr, &x, &dy, batch, None, None);

        for with_dx in [true, false] {
            let (mut stepped, mut dx_sgd) = (csr.clone(), new(&want.dx));
            let to = with_dx.then_some(&mut dx_sgd[..]);
            plan.matmul_backward_sgd(&mut stepped, &x, &dy, batch, LR, to).unwrap();
            check_sgd(stepped.values(), csr.values(), &want.dvalues, dvalues_roundings, what);
            if with_dx {
                assert_same(&dx_sgd, &dx, what);
            }
        }
        if batch == 1 {
            check_one(csr, &x, &dy, &want, worst, what);
        }
    });
}

/// The kernels for one example.
fn check_one<I: Index>(csr: &Csr<I>, x: &[f32], dy: &[f32], want: &Oracle, worst: &mut Worst, what: &str) {
    let (mut y, mut dx) = (vec![f32::NAN; csr.rows()], vec![f32::NAN; csr.cols()]);
    let mut dv = vec![f32::NAN; csr.nnz()];
    csr.matvec(x, &mut y);
    worst.check(0, &y, &want.y, |n| n / 16.0 + 5.0, what);
    csr.matvec_backward(x, dy, Some(&mut dx), &mut dv);
    worst.check(2, &dx, &want.dx, |n| n, what);
    worst.check(4, &dv, &want.dvalues, |_| 1.0, what);
    let mut dv_alone = vec![f32::NAN; csr.nnz()];
    csr.matvec_backward(x, dy, None, &mut dv_alone);
    assert_same(&dv_alone, &dv, what);
    for with_dx in [true, false] {
        let (mut stepped, mut dx_sgd) = (csr.clone(), vec![f32::NAN; csr.cols()]);
        stepped.matvec_backward_sgd(x, dy, LR, with_dx.then_some(&mut dx_sgd)).unwrap();
        check_sgd(stepped.values(), csr.values(), &want.dvalues, 1.0, what);
        if with_dx {
            assert_same(&dx_sgd, &dx, what);
        }
    }
}

const BATCHES: [usize; 14] = [0, 1, 2, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 100];

fn everything<I: Index>(rng: &mut Rng, batches: &[usize], worst: &mut Worst) {
    for density in [0.0, 0.01, 0.1, 0.5, 1.0] {
        for (rows, cols) in [(1, 37), (37, 1), (7, 19), (18, 35)] {
            let csr = with_density::<I>(rng, rows, cols, density);
            for &batch in batches {
                check(rng, &csr, batch, worst);
            }
        }
    }
    for (rows, cols) in [(0, 0), (0, 5), (5, 0)] {
        let csr = with_rows::<I>(rng, cols, &vec![0; rows]);
        for batch in [0, 1, 16, 33] {
            check(rng, &csr, batch, worst);
        }
    }
    // Long rows, and long columns, for the sums; rows around the vectors for the rest of a row.
    let long = with_rows::<I>(rng, 1000, &[1000, 0, 999, 500]);
    let counts: Vec<usize> = (0..200).map(|r| 1 + r % 3).collect();
    let tall = with_rows::<I>(rng, 4, &counts);
    let counts: Vec<usize> = (0..=50).collect();
    let every = with_rows::<I>(rng, 50, &counts);
    for csr in [long, tall, every] {
        for batch in [1, 17, 33] {
            check(rng, &csr, batch, worst);
        }
    }
}

#[test]
fn every_kernel_is_within_its_bound() {
    let mut rng = Rng::new(1);
    let mut worst = Worst([0.0; 6]);
    everything::<u32>(&mut rng, &BATCHES, &mut worst);
    // The type of the indices has no part in the arithmetic.
    everything::<u16>(&mut rng, &[1, 17, 33], &mut worst);
    for (name, error) in NAMES.into_iter().zip(worst.0) {
        println!("{name}: largest error {error:.3} of its bound");
        assert!(error > 0.2, "the bound of {name} is too loose to mean anything: {error}");
    }
}

/// Nor on where the batch lies. Some are read where they lie, others, of which each example is read often, are copied first: for
/// being no whole vectors, or across cache lines.
#[test]
fn an_example_does_not_depend_on_its_batch() {
    let mut rng = Rng::new(2);
    // The second and third have three and six panels of columns, which are copied to the same places in turns.
    for (rows, cols, density) in [(23, 41, 0.4), (30, 450, 0.5), (12, 1100, 0.8), (70, 40, 0.5)] {
        let csr = with_density::<u32>(&mut rng, rows, cols, density);
        let examples: Vec<Vec<f32>> = (0..64).map(|_| rng.vec(cols, |rng| rng.normal())).collect();
        // The outputs of the examples in this order, one after the other.
        let run = |order: &[usize], offset: usize| {
            let x: Vec<f32> = (0..cols)
                .flat_map(|c| order.iter().map(move |&e| (c, e)))
                .map(|(c, e)| examples[e % 64][c])
                .collect();
            let x = Guarded::new(offset, &x);
            let mut y = Guarded::new(offset, &vec![f32::NAN; rows * order.len()]);
            csr.matmul(x.get(), order.len(), y.get_mut());
            y.assert_guards(format_args!("{} examples at {offset}", order.len()));
            let y = y.get();
            (0..order.len())
                .map(|e| (0..rows).map(|r| y[r * order.len() + e]).collect())
                .collect::<Vec<Vec<f32>>>()
        };
        let all: Vec<usize> = (0..64).collect();
        for_each_tier(|tier| {
            let in_64 = run(&all, 0);
            for n in [1, 7, 15, 16, 17, 31, 32, 33, 40, 47, 48, 63, 64] {
                for offset in [0, 3, 12] {
                    // The last ones, so that each is at another place.
                    for (e, got) in all[64 - n..].iter().zip(run(&all[64 - n..], offset)) {
                        let what = format!("{tier}, {rows}x{cols}: example {e} in {n} at {offset} and in 64");
                        assert_same(&got, &in_64[*e], what);
                    }
                }
            }
            // Tiles of 64 as well, and what is left of them.
            for (n, offset) in [(100, 0), (128, 0), (128, 3), (247, 0)] {
                let order: Vec<usize> = (0..n).collect();
                for (e, got) in run(&order, offset).iter().enumerate() {
                    let what = format!("{tier}, {rows}x{cols}: example {e} in {n} at {offset} and in 64");
                    assert_same(got, &in_64[e % 64], what);
                }
            }
        });
    }
}

/// Half the sum of squares of `y - target`, and its gradient.
fn loss(y: &[f32], target: &[f32]) -> (f64, Vec<f32>) {
    let dy: Vec<f32> = y.iter().zip(target).map(|(y, t)| y - t).collect();
    (dy.iter().map(|&d| d as f64 * d as f64 / 2.0).sum(), dy)
}

#[test]
fn sgd_learns_a_matrix() {
    let mut rng = Rng::new(3);
    let (rows, cols, batch) = (12, 20, 40);
    let teacher = with_density::<u16>(&mut rng, rows, cols, 0.3);
    let x = rng.vec(cols * batch, |rng| rng.normal());
    let mut target = vec![0.0; rows * batch];
    teacher.matmul(&x, batch, &mut target);
    for_each_tier(|tier| {
        let mut student = teacher.clone();
        student.values_mut().fill(0.0);
        let (plan, mut y) = (Plan::new(&student), vec![0.0; rows * batch]);
        let mut losses = vec![];
        for _ in 0..60 {
            student.matmul(&x, batch, &mut y);
            let (loss, dy) = loss(&y, &target);
            losses.push(loss);
            plan.matmul_backward_sgd(&mut student, &x, &dy, batch, 0.005, None).unwrap();
        }
        assert!(losses.windows(2).all(|l| l[1] < l[0]), "{tier}: each step descends: {losses:?}");
        assert!(losses[59] < 1e-2 * losses[0], "{tier}: {losses:?}");

        // One example at a time.
        student.values_mut().fill(0.0);
        let (x, target) = (&x[..cols], &target[..rows]);
        let mut y = vec![0.0; rows];
        let mut losses = vec![];
        for _ in 0..20 {
            student.matvec(x, &mut y);
            let (loss, dy) = loss(&y, target);
            losses.push(loss);
            student.matvec_backward_sgd(x, &dy, 0.02, None).unwrap();
        }
        assert!(losses.windows(2).all(|l| l[1] < l[0]), "{tier}: each step descends: {losses:?}");
    });
}
