//! A step of a sparse layer is its gradient and one fused multiply-add; examples may lie anywhere; what is not connected stays so.

use hotlanes::sparse::{Csr, Masked};

use crate::common::{Guarded, Rng, assert_same, for_each_tier};

const LR: f64 = 0.1;

/// 19 destinations of 23 sources.
fn matrix(rng: &mut Rng) -> Csr<u32> {
    let (mut indptr, mut indices) = (vec![0], vec![]);
    for _ in 0..19 {
        indices.extend((0..23).filter(|_| rng.unit() < 0.4));
        indptr.push(indices.len());
    }
    let values = rng.vec(indices.len(), |rng| rng.spread(-4, 2));
    Csr::new(19, 23, indptr, indices, values).unwrap()
}

#[test]
fn a_step_is_one_fused_multiply_add() {
    let mut rng = Rng::new(6);
    for batch in [1, 2, 7, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 100] {
        let csr = matrix(&mut rng);
        let plan = csr.plan();
        let (x, dy) = (rng.vec(23 * batch, |rng| rng.normal()), rng.vec(19 * batch, |rng| rng.normal()));
        for_each_tier(|tier| {
            let nan = |n: usize| vec![f32::NAN; n];
            let (mut dx, mut dvalues, mut dx_of_step) = (nan(x.len()), nan(csr.nnz()), nan(x.len()));
            let mut stepped = csr.clone();
            plan.matmul_backward(&csr, &x, &dy, batch, Some(&mut dx), Some(&mut dvalues));
            plan.matmul_backward_sgd(&mut stepped, &x, &dy, batch, LR, Some(&mut dx_of_step)).unwrap();
            assert_same(&dx_of_step, &dx, format_args!("{tier}, batch {batch}: dx"));
            let step = |(&w, &g): (&f32, &f32)| (-(LR as f32)).mul_add(g, w);
            let want: Vec<f32> = csr.values().iter().zip(&dvalues).map(step).collect();
            assert_same(stepped.values(), &want, format_args!("{tier}, batch {batch}: values"));
            if batch == 1 {
                let mut stepped = csr.clone();
                csr.matvec_backward(&x, &dy, None, &mut dvalues);
                stepped.matvec_backward_sgd(&x, &dy, LR, None).unwrap();
                let want: Vec<f32> = csr.values().iter().zip(&dvalues).map(step).collect();
                assert_same(stepped.values(), &want, format_args!("{tier}, one example: values"));
            }
        });
    }
}

/// Half of all places, so that windows of the example are read; it is copied to a line's start up to 4096 columns.
#[test]
fn an_example_lies_anywhere() {
    let mut rng = Rng::new(7);
    for cols in [63, 64, 65, 784, 4095, 4096, 4097, 4200] {
        let (mut indptr, mut indices) = (vec![0], vec![]);
        for _ in 0..17 {
            indices.extend((0..cols as u32).filter(|_| rng.unit() < 0.5));
            indptr.push(indices.len());
        }
        let values = rng.vec(indices.len(), |rng| rng.normal());
        let csr = Csr::new(17, cols, indptr, indices, values).unwrap();
        let x = rng.vec(cols, |rng| rng.normal());
        for_each_tier(|tier| {
            let mut want = vec![f32::NAN; 17];
            csr.matvec(Guarded::new(0, &x).get(), &mut want);
            for offset in 1..=16 {
                let mut y = vec![f32::NAN; 17];
                csr.matvec(Guarded::new(offset, &x).get(), &mut y);
                assert_same(&y, &want, format_args!("{tier}, {cols} columns at {offset}"));
            }
        });
    }
}

/// Gradients that are not finite reach the connections alone.
#[test]
fn a_masked_step_leaves_what_is_not_connected() {
    let mut rng = Rng::new(8);
    let csr = matrix(&mut rng);
    let x = rng.vec(23, |rng| rng.normal());
    for special in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, -0.0] {
        let mut dy = rng.vec(19, |rng| rng.normal());
        (dy[3], dy[18]) = (special, special);
        for_each_tier(|tier| {
            let (mut want, mut got, mut masked) = (csr.clone(), csr.clone(), Masked::new(&csr));
            want.matvec_backward_sgd(&x, &dy, LR, None).unwrap();
            masked.matvec_backward_sgd(&x, &dy, LR, None).unwrap();
            masked.write_values(&mut got);
            assert_same(got.values(), want.values(), format_args!("{tier}, {special}"));
            // Rows that have no such gradient see finite values alone, wherever others are.
            let mut y = vec![f32::NAN; 19];
            masked.matvec(&x, &mut y);
            let finite = |row: usize| row == 3 || row == 18 || y[row].is_finite();
            assert!((0..19).all(finite), "{tier}, {special}: {y:?}");
            // As sources are the lines of values, a place without a connection in row 3 would make others of it NaN.
            for source in 0..23 {
                let mut one = vec![0.0; 23];
                one[source] = 1.0;
                masked.matvec(&one, &mut y);
                let connected = csr.indices()[csr.indptr()[3]..csr.indptr()[4]].contains(&(source as u32));
                assert!(
                    connected || y[3] == 0.0,
                    "{tier}, {special}: source {source} reaches row 3: {}",
                    y[3]
                );
            }
        });
    }
}
