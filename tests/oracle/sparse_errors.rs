//! What the sparse kernels do with what is not ordinary: they say so, or do what they document.

use hotlanes::Index;
use hotlanes::sparse::{Csr, CsrError, Masked};

use crate::common::{Rng, assert_same, for_each_tier, panic_message};
use crate::settings::{data, walk};
use crate::structure::{with_density, with_rows};

/// The error of 3 rows by 5 columns with these parts, `changed` in one way.
fn refused(changed: impl FnOnce(&mut Vec<usize>, &mut Vec<u32>, &mut Vec<f32>)) -> CsrError {
    let (mut indptr, mut indices, mut values) = (vec![0, 2, 2, 5], vec![0, 3, 1, 2, 4], vec![1.0; 5]);
    assert!(Csr::new(3, 5, indptr.clone(), indices.clone(), values.clone()).is_ok());
    changed(&mut indptr, &mut indices, &mut values);
    Csr::new(3, 5, indptr, indices, values).unwrap_err()
}

#[test]
fn each_error_names_what_is_wrong() {
    use CsrError::*;
    let max = u32::MAX_BOUND;
    let cases = [
        (
            Csr::<u32>::new(max + 1, 5, vec![], vec![], vec![]).unwrap_err(),
            TooLarge { what: "rows", count: max + 1, max },
            "2147483648 rows: at most 2147483647 can be indexed",
        ),
        (
            Csr::<u32>::new(0, max + 1, vec![0], vec![], vec![]).unwrap_err(),
            TooLarge { what: "cols", count: max + 1, max },
            "2147483648 cols: at most 2147483647 can be indexed",
        ),
        (
            Csr::<u16>::new(0, 65_537, vec![0], vec![], vec![]).unwrap_err(),
            TooLarge { what: "cols", count: 65_537, max: 65_536 },
            "65537 cols: at most 65536 can be indexed",
        ),
        (
            refused(|indptr, _, _| indptr.truncate(3)),
            IndptrLength { len: 3, rows: 3 },
            "indptr has 3 entries: 3 rows ask for one more than rows",
        ),
        (
            refused(|indptr, _, _| indptr.clear()),
            IndptrLength { len: 0, rows: 3 },
            "indptr has 0 entries: 3 rows ask for one more than rows",
        ),
        (
            refused(|indptr, _, _| indptr[0] = 1),
            IndptrStart { first: 1 },
            "indptr starts at 1: must start at 0",
        ),
        (
            refused(|indptr, _, _| indptr[2] = 1),
            IndptrDescends { row: 1, start: 2, end: 1 },
            "row 1 runs from 2 to 1: indptr must not descend",
        ),
        (
            // A middle entry beyond the indices can only descend to their end.
            refused(|indptr, _, _| indptr[2] = usize::MAX),
            IndptrDescends { row: 2, start: usize::MAX, end: 5 },
            "row 2 runs from 18446744073709551615 to 5: indptr must not descend",
        ),
        (
            refused(|indptr, _, _| indptr[3] = 6),
            IndptrEnd { last: 6, indices: 5 },
            "indptr ends at 6: must end at the number of indices, 5",
        ),
        (
            refused(|_, _, values| values.push(1.0)),
            ValuesLength { values: 6, indices: 5 },
            "6 values for 5 indices: must be as many",
        ),
        (
            refused(|_, indices, _| indices[4] = 5),
            OutOfRange { row: 2, position: 4, index: 5, bound: 5 },
            "row 2, position 4: index 5 must be below 5",
        ),
        (
            refused(|_, indices, _| indices[0] = u32::MAX),
            OutOfRange { row: 0, position: 0, index: u32::MAX as usize, bound: 5 },
            "row 0, position 0: index 4294967295 must be below 5",
        ),
        (
            refused(|_, indices, _| indices[3] = 1),
            Duplicate { row: 2, position: 3, index: 1 },
            "row 2, position 3: index 1 stands twice in the row",
        ),
        (
            // Not next to each other.
            refused(|_, indices, _| indices[4] = 1),
            Duplicate { row: 2, position: 4, index: 1 },
            "row 2, position 4: index 1 stands twice in the row",
        ),
        (
            refused(|_, indices, _| indices.swap(0, 1)),
            Unsorted { row: 0, position: 1, index: 0 },
            "row 0, position 1: index 0 is below the one before it, indices must ascend",
        ),
    ];
    for (error, expected, text) in cases {
        assert_eq!(error, expected);
        assert_eq!(error.to_string(), text);
    }
    // The largest bounds are fine, and a row may start below where the one before it ended.
    assert!(Csr::<u16>::new(2, 65_536, vec![0, 1, 2], vec![65_535, 0], vec![1.0; 2]).is_ok());
    assert!(Csr::<u32>::new(0, max, vec![0], vec![], vec![]).is_ok());
}

/// 4 rows by 5 columns, 10 connections.
fn small() -> Csr<u16> {
    with_rows(&mut Rng::new(1), 5, &[2, 0, 3, 5])
}

#[test]
fn a_plan_of_another_structure_panics() {
    let mut csr = small();
    let others = [
        with_rows::<u16>(&mut Rng::new(1), 6, &[2, 0, 3, 5]),
        with_rows::<u16>(&mut Rng::new(1), 5, &[2, 0, 3, 4]),
        with_rows::<u16>(&mut Rng::new(1), 5, &[2, 0, 3, 5, 0]),
        with_rows::<u16>(&mut Rng::new(1), 5, &[2, 3, 0, 5]),
        with_rows::<u16>(&mut Rng::new(2), 5, &[2, 0, 3, 5]),
    ];
    assert_ne!(others[4].indices(), csr.indices());
    let (x, dy, before) = ([1.0; 10], [1.0; 8], csr.values().to_vec());
    for plan in others.map(|other| other.plan()) {
        let message = panic_message(|| plan.matmul_backward(&csr, &x, &dy, 2, None, None));
        assert_eq!(message, "sparse backward: the plan was made for another structure");
        let message = panic_message(|| plan.matmul_backward_sgd(&mut csr, &x, &dy, 2, 0.1, None).unwrap());
        assert_eq!(message, "sparse backward: the plan was made for another structure");
    }
    // One of the same structure serves, whatever the values.
    let plan = csr.plan();
    csr.values_mut().fill(3.0);
    plan.matmul_backward_sgd(&mut csr, &x, &dy, 2, 0.0, None).unwrap();
    assert_ne!(before, csr.values());
}

/// The message of a kernel whose slices have these lengths; the batch is 3.
fn length_panic(kernel: &str, [x, dy, dx, dvalues]: [usize; 4]) -> String {
    let mut csr = small();
    let plan = csr.plan();
    let before = csr.values().to_vec();
    let [x, dy, mut dx, mut dv] = [x, dy, dx, dvalues].map(|n| vec![1.0; n]);
    let message = panic_message(|| match kernel {
        "matvec" => csr.matvec(&x, &mut dx),
        "matmul" => csr.matmul(&x, 3, &mut dx),
        "matvec_backward" => csr.matvec_backward(&x, &dy, Some(&mut dx), &mut dv),
        "matvec_backward_sgd" => csr.matvec_backward_sgd(&x, &dy, 0.1, Some(&mut dx)).unwrap(),
        "matmul_backward" => plan.matmul_backward(&csr, &x, &dy, 3, Some(&mut dx), Some(&mut dv)),
        "matmul_backward_sgd" => {
            plan.matmul_backward_sgd(&mut csr, &x, &dy, 3, 0.1, Some(&mut dx)).unwrap();
        }
        _ => unreachable!(),
    });
    assert!(dx.iter().chain(&dv).all(|&x| x == 1.0) && csr.values() == before, "nothing was done");
    message
}

#[test]
fn a_wrong_length_panics_with_both() {
    let one = ["cols", "rows", "cols"];
    let batch = ["cols x batch", "rows x batch", "cols x batch"];
    // The third slice of the forwards is y.
    let kernels = [
        ("matvec", "sparse matvec", [5, 4, 4, 10], ["cols", "", "rows"], vec![0, 2]),
        ("matmul", "sparse matmul", [15, 12, 12, 10], ["cols x batch", "", "rows x batch"], vec![0, 2]),
        ("matvec_backward", "sparse backward", [5, 4, 5, 10], one, vec![0, 1, 2, 3]),
        ("matvec_backward_sgd", "sparse backward", [5, 4, 5, 10], one, vec![0, 1, 2]),
        ("matmul_backward", "sparse backward", [15, 12, 15, 10], batch, vec![0, 1, 2, 3]),
        ("matmul_backward_sgd", "sparse backward", [15, 12, 15, 10], batch, vec![0, 1, 2]),
    ];
    for (kernel, prefix, right, asks, slices) in kernels {
        for at in slices {
            for wrong in [0, 3, right[at] - 1, right[at] + 1, 1 << 20] {
                let mut n = right;
                n[at] = wrong;
                let forward = prefix != "sparse backward";
                let name = if forward && at == 2 { "y" } else { ["x", "dy", "dx", "dvalues"][at] };
                let asks = if at == 3 { "the matrix" } else { asks[at] };
                let want = format!("{prefix}: {name} has {wrong} values, {asks} asks for {}", right[at]);
                assert_eq!(length_panic(kernel, n), want, "{kernel}");
            }
        }
    }
}

#[test]
fn a_bad_rate_leaves_everything_as_it_was() {
    let mut csr = small();
    let (plan, before) = (csr.plan(), csr.values().to_vec());
    for lr in [-1e-9, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e39] {
        let (mut one, mut batch) = ([7.0; 5], [7.0; 15]);
        let errors = [
            csr.matvec_backward_sgd(&[1.0; 5], &[1.0; 4], lr, Some(&mut one)).unwrap_err(),
            plan.matmul_backward_sgd(&mut csr, &[1.0; 15], &[1.0; 12], 3, lr, Some(&mut batch)).unwrap_err(),
        ];
        for error in errors {
            assert_eq!((error.name, error.value.to_bits()), ("lr", lr.to_bits()));
            assert!(error.to_string().starts_with(&format!("lr = {lr}: must be ")), "{error}");
        }
        assert_eq!(csr.values(), before);
        assert_eq!((one, batch), ([7.0; 5], [7.0; 15]));
    }
}

/// All results of all kernels for one matrix, in order.
fn results(csr: &Csr<u32>, x: &[f32], dy: &[f32], batch: usize) -> [Vec<f32>; 3] {
    let new = |n: usize| vec![f32::NAN; n];
    let (mut y, mut dx, mut dv) = (new(csr.rows() * batch), new(csr.cols() * batch), new(csr.nnz()));
    if batch == 1 {
        csr.matvec(x, &mut y);
        csr.matvec_backward(x, dy, Some(&mut dx), &mut dv);
    } else {
        csr.matmul(x, batch, &mut y);
        csr.plan().matmul_backward(csr, x, dy, batch, Some(&mut dx), Some(&mut dv));
    }
    [y, dx, dv]
}

#[test]
fn only_stored_connections_multiply() {
    let mut rng = Rng::new(2);
    // Column 2 and row 1 are empty.
    let csr = with_density::<u32>(&mut rng, 19, 37, 0.3);
    for batch in [1, 7, 16, 33, 100] {
        let x = rng.vec(37 * batch, |rng| rng.normal());
        let dy = rng.vec(19 * batch, |rng| rng.normal());
        for_each_tier(|tier| {
            let want = results(&csr, &x, &dy, batch);
            for bad in [f32::NAN, f32::INFINITY] {
                let (mut x, mut dy) = (x.clone(), dy.clone());
                x[2 * batch..3 * batch].fill(bad);
                dy[batch..2 * batch].fill(bad);
                for (got, want) in results(&csr, &x, &dy, batch).iter().zip(&want) {
                    assert_same(got, want, format!("{tier}, batch {batch}, {bad}"));
                }
            }
        });
    }
}

#[test]
fn a_bad_weight_reaches_its_row_and_its_column_only() {
    let mut rng = Rng::new(3);
    let counts: Vec<usize> = (0..40).map(|r| r % 21).collect();
    let csr = with_rows::<u32>(&mut rng, 35, &counts);
    for batch in [1, 7, 16, 33] {
        let x = rng.vec(35 * batch, |rng| rng.normal());
        let dy = rng.vec(40 * batch, |rng| rng.normal());
        for_each_tier(|tier| {
            let [y, dx, dv] = results(&csr, &x, &dy, batch);
            for row in [1, 16, 17, 20, 39] {
                // The row's last, which stands beside the next row's first.
                let k = csr.indptr()[row + 1] - 1;
                let col = csr.indices()[k] as usize;
                for bad in [f32::NAN, f32::INFINITY] {
                    let what = format!("{tier}, batch {batch}, {bad} in row {row}, column {col}");
                    let mut poisoned = csr.clone();
                    poisoned.values_mut()[k] = bad;
                    let got = results(&poisoned, &x, &dy, batch);
                    for (got, want, at) in [(&got[0], &y, row), (&got[1], &dx, col)] {
                        let (start, end) = (at * batch, (at + 1) * batch);
                        assert!(got[start..end].iter().all(|x| !x.is_finite()), "{what}");
                        assert_same(&got[..start], &want[..start], &what);
                        assert_same(&got[end..], &want[end..], &what);
                    }
                    assert_same(&got[2], &dv, &what);
                }
            }
        });
    }
}

#[test]
fn every_setting_works_or_is_refused() {
    let connections = || Csr::new(2, 3, vec![0, 2, 3], vec![0u32, 2, 1], data(3, 2)).unwrap();
    // Their products with `dy` are the gradients, which are to be ordinary.
    let inputs = |n| (0..n).map(|i| [1.0, 0.0, -0.5][i % 3]).collect::<Vec<f32>>();
    walk("sparse steps", &1.0, &[("lr", |c: &mut f64, x| *c = x)], |&lr| {
        let (x, dy, mut dx) = (inputs(3), data(2, 3), vec![0.0; 3]);
        let mut one = connections();
        one.matvec_backward_sgd(&x, &dy, lr, Some(&mut dx))?;
        let (mut batch, mut many) = (connections(), vec![0.0; 12]);
        let plan = batch.plan();
        plan.matmul_backward_sgd(&mut batch, &inputs(12), &data(8, 1), 4, lr, Some(&mut many))?;
        let mut all = [one.values(), batch.values(), &dx, &many].concat();
        for relu in [false, true] {
            let (mut masked, mut after) = (Masked::new(&connections()), connections());
            if relu {
                masked.matvec_backward_sgd_relu(&x, &dy, lr, &mut dx)?;
            } else {
                masked.matvec_backward_sgd(&x, &dy, lr, Some(&mut dx))?;
            }
            masked.write_values(&mut after);
            all.extend([after.values(), &dx].concat());
        }
        Ok(all)
    });
}
