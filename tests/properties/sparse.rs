//! A step of a sparse layer is its gradient and one fused multiply-add.

use hotlanes::sparse::Csr;

use crate::common::{Rng, assert_same, for_each_tier};

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
