//! The sparse layer for one example at a time, against sums in f64, and against what a visit of every source gives.

use hotlanes::sparse::{Csr, Masked};

use crate::common::{Rng, assert_same, for_each_tier, panic_message};
use crate::structure::{with_density, with_rows};

const U: f64 = 1.0 / (1 << 24) as f64;
const LR: f64 = 0.1;

/// An input of which about half is zero, of either sign.
fn input(rng: &mut Rng, n: usize) -> Vec<f32> {
    rng.vec(n, |rng| match rng.below(4) {
        0 => 0.0,
        1 => -0.0,
        _ => rng.spread(-3, 2),
    })
}

/// Row, column and position of each connection.
fn connections(csr: &Csr<u32>) -> Vec<(usize, usize, usize)> {
    let row =
        |r: usize| (csr.indptr()[r]..csr.indptr()[r + 1]).map(move |k| (r, csr.indices()[k] as usize, k));
    (0..csr.rows()).flat_map(row).collect()
}

/// A sum of products in f64, its moduli, and how many there are.
#[derive(Clone, Copy, Default)]
struct Sum(f64, f64, usize);

impl Sum {
    fn add(&mut self, a: f32, b: f32) {
        let p = a as f64 * b as f64;
        *self = Sum(self.0 + p, self.1 + p.abs(), self.2 + 1);
    }
}

/// The largest errors over their bounds, of y and of dx.
struct Worst([f64; 2]);

fn check(rng: &mut Rng, csr: &Csr<u32>, worst: &mut Worst) {
    let (rows, cols) = (csr.rows(), csr.cols());
    let (x, dy) = (input(rng, cols), rng.vec(rows, |rng| rng.spread(-3, 2)));
    let (mut want_y, mut want_dx) = (vec![Sum::default(); rows], vec![Sum::default(); cols]);
    for (r, c, k) in connections(csr) {
        want_y[r].add(csr.values()[k], x[c]);
        want_dx[c].add(csr.values()[k], dy[r]);
    }
    let mut close = |i: usize, got: &[f32], want: &[Sum], roundings: &dyn Fn(usize) -> f64, what: &str| {
        for (got, want) in got.iter().zip(want) {
            let (bound, error) = (roundings(want.2) * U * want.1, (*got as f64 - want.0).abs());
            assert!(error <= bound, "{what}: {got} is not {}", want.0);
            if error > 0.0 {
                worst.0[i] = worst.0[i].max(error / bound);
            }
        }
    };
    for_each_tier(|tier| {
        let what = &format!("{tier}, {rows} x {cols}, {} connections", csr.nnz());
        let (mut y, mut dx) = (vec![f32::NAN; rows], vec![f32::NAN; cols]);
        let mut masked = Masked::new(csr);
        masked.matvec(&x, &mut y);
        close(0, &y, &want_y, &|n| n as f64, what);
        masked.matvec_backward_sgd(&x, &dy, LR, Some(&mut dx)).unwrap();
        close(1, &dx, &want_dx, &|_| rows as f64 / 16.0 + 5.0, what);

        // Values as of the other form, to the bit; also those that nothing was learned for.
        let (mut want, mut got) = (csr.clone(), csr.clone());
        want.matvec_backward_sgd(&x, &dy, LR, None).unwrap();
        got.values_mut().fill(f32::NAN);
        masked.write_values(&mut got);
        assert_same(got.values(), want.values(), what);

        masked.read_values(csr);
        masked.matvec_backward_sgd(&x, &dy, LR, None).unwrap();
        masked.write_values(&mut got);
        assert_same(got.values(), want.values(), what);

        masked.read_values(csr);
        let mut of_relu = vec![f32::NAN; cols];
        masked.matvec_backward_sgd_relu(&x, &dy, LR, &mut of_relu).unwrap();
        masked.write_values(&mut got);
        assert_same(got.values(), want.values(), what);
        let want_relu: Vec<f32> =
            x.iter().zip(&dx).map(|(&x, &dx)| if x == 0.0 { 0.0 } else { dx }).collect();
        assert_same(&of_relu, &want_relu, what);
    });
}

#[test]
fn every_kernel_is_within_its_bound() {
    let mut rng = Rng::new(1);
    let mut worst = Worst([0.0; 2]);
    for rows in [1, 10, 15, 16, 17, 63, 64, 65, 128, 150, 200] {
        let density = [0.05, 0.3, 1.0][rows % 3];
        for cols in [1, 15, 16, 33] {
            check(&mut rng, &with_density(&mut Rng::new(rows as u64), rows, cols, density), &mut worst);
        }
    }
    // Around the sources that are looked at together.
    for cols in [255, 256, 257, 600] {
        check(&mut rng, &with_density(&mut Rng::new(2), 20, cols, 0.4), &mut worst);
    }
    for (rows, cols) in [(0, 0), (0, 5), (5, 0)] {
        check(&mut rng, &with_rows(&mut Rng::new(3), cols, &vec![0; rows]), &mut worst);
    }
    assert!(worst.0.iter().all(|&w| w > 0.1), "a bound too loose to mean anything: {:?}", worst.0);
}

/// `y` by visiting every source, zeros too, in ascending order.
fn visiting_all(csr: &Csr<u32>, x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0f32; csr.rows()];
    for (r, c, k) in connections(csr) {
        y[r] = csr.values()[k].mul_add(x[c], y[r]);
    }
    y.iter().map(|y| y + 0.0).collect()
}

#[test]
fn zeros_that_are_passed_over_change_no_bit() {
    let mut rng = Rng::new(4);
    for small in [false, true] {
        let mut csr = with_density::<u32>(&mut rng, 37, 300, 0.4);
        let (mut x, dy) = (input(&mut rng, 300), rng.vec(37, |rng| rng.normal()));
        if small {
            // Products that are too small for f32, and weights of both zeros.
            x.iter_mut().for_each(|x| *x *= 1e-30);
            for (i, w) in csr.values_mut().iter_mut().enumerate() {
                *w *= if i % 3 == 0 { -1e-30 } else { 0.0 };
            }
        }
        for_each_tier(|tier| {
            let (mut masked, mut y) = (Masked::new(&csr), vec![f32::NAN; 37]);
            masked.matvec(&x, &mut y);
            let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&y), bits(&visiting_all(&csr, &x)), "{tier}");
            masked.matvec_backward_sgd(&x, &dy, LR, None).unwrap();
            let (mut got, mut want) = (csr.clone(), csr.clone());
            masked.write_values(&mut got);
            want.matvec_backward_sgd(&x, &dy, LR, None).unwrap();
            assert_eq!(bits(got.values()), bits(want.values()), "{tier}");
        });
    }
}

#[test]
fn a_source_of_zero_passes_on_nothing() {
    let mut rng = Rng::new(5);
    let mut csr = with_density::<u32>(&mut rng, 21, 30, 1.0);
    let x = rng.vec(30, |rng| rng.normal());
    for bad in [f32::NAN, f32::INFINITY] {
        csr.values_mut()[7] = bad;
        for_each_tier(|tier| {
            let (mut masked, mut x, mut y) = (Masked::new(&csr), x.clone(), vec![0.0; 21]);
            masked.matvec(&x, &mut y);
            assert!(!y[0].is_finite() && y[1..].iter().all(|y| y.is_finite()), "{tier}: {y:?}");
            x[7] = 0.0;
            masked.matvec(&x, &mut y);
            assert!(y.iter().all(|y| y.is_finite()), "{tier}: {y:?}");
            masked.matvec_backward_sgd(&x, &[f32::NAN; 21], LR, None).unwrap();
            let mut after = csr.clone();
            masked.write_values(&mut after);
            for (r, c, k) in connections(&csr) {
                let (before, after) = (csr.values()[k], after.values()[k]);
                let same = before.to_bits() == after.to_bits();
                assert!(if c == 7 { same } else { after.is_nan() }, "{tier}, {r}, {c}: {after}");
            }
        });
    }
    // Gaps stay gaps, whatever the gradient.
    let csr = with_density::<u32>(&mut rng, 21, 30, 0.3);
    let mut masked = Masked::new(&csr);
    masked.matvec_backward_sgd(&x, &[f32::NAN; 21], LR, None).unwrap();
    masked.read_values(&csr);
    let mut y = [vec![0.0; 21], vec![0.0; 21]];
    masked.matvec(&x, &mut y[0]);
    Masked::new(&csr).matvec(&x, &mut y[1]);
    assert_same(&y[0], &y[1], "gaps");
}

#[test]
fn what_does_not_fit_panics_and_a_bad_rate_is_an_error() {
    let csr = with_rows::<u32>(&mut Rng::new(6), 5, &[2, 0, 3, 5]);
    let mut masked = Masked::new(&csr);
    assert_eq!((masked.rows(), masked.cols()), (4, 5));
    let mut other = with_rows::<u32>(&mut Rng::new(6), 6, &[2, 0, 3, 5]);
    let another = "sparse masked: the matrix has another structure";
    assert_eq!(panic_message(|| masked.write_values(&mut other)), another);
    assert_eq!(panic_message(|| masked.read_values(&other)), another);
    let mut four = [0.0; 4];
    let message = panic_message(|| masked.matvec(&[0.0; 4], &mut four));
    assert_eq!(message, "sparse matvec: x has 4 values, cols asks for 5");
    let message = panic_message(|| masked.matvec(&[0.0; 5], &mut [0.0; 3]));
    assert_eq!(message, "sparse matvec: y has 3 values, rows asks for 4");
    let (x, dy) = ([1.0; 5], [1.0; 4]);
    let message = panic_message(|| masked.matvec_backward_sgd(&x[..4], &dy, LR, None).unwrap());
    assert_eq!(message, "sparse backward: x has 4 values, cols asks for 5");
    let message = panic_message(|| masked.matvec_backward_sgd(&x, &dy[..3], LR, None).unwrap());
    assert_eq!(message, "sparse backward: dy has 3 values, rows asks for 4");
    let message = panic_message(|| masked.matvec_backward_sgd(&x, &dy, LR, Some(&mut four)).unwrap());
    assert_eq!(message, "sparse backward: dx has 4 values, cols asks for 5");
    let message = panic_message(|| masked.matvec_backward_sgd_relu(&x, &dy, LR, &mut four).unwrap());
    assert_eq!(message, "sparse backward: dx has 4 values, cols asks for 5");
    for lr in [-1.0, f64::NAN, f64::INFINITY, 1e39] {
        let mut dx = [7.0; 5];
        let error = masked.matvec_backward_sgd(&x, &dy, lr, Some(&mut dx)).unwrap_err();
        assert_eq!((error.name, error.value.to_bits()), ("lr", lr.to_bits()));
        assert!(masked.matvec_backward_sgd_relu(&x, &dy, lr, &mut dx).is_err());
        let mut after = csr.clone();
        masked.write_values(&mut after);
        assert_eq!((dx, after.values()), ([7.0; 5], csr.values()));
    }
}
