//! What LayerNorm does with values that are not ordinary: it says so, or does what it documents.

use hotlanes::norm::{LayerNorm, ROWS_PER_CHUNK, RmsNorm};

use crate::common::{Rng, assert_same, for_each_tier, panic_message};
use crate::norm::{Inputs, ORDINARY};
use crate::settings::{Outcome, Setting, data, walk};

#[test]
fn a_row_that_is_not_finite_stays_alone() {
    let mut rng = Rng::new(3);
    for (features, rows) in [(1, 3), (37, 21), (128, 17), (300, 9)] {
        let good = Inputs::random(&mut rng, features, rows, &ORDINARY);
        let (bad_row, bad_column) = (rng.below(rows), rng.below(features));
        let at = bad_row * features..(bad_row + 1) * features;
        for_each_tier(|tier| {
            let want = good.run();
            for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let what = format!("{tier} {rows} x {features} {value}");
                let mut x = good.x.clone();
                x[at.start + bad_column] = value;
                let mut dy = good.dy.clone();
                dy[at.start + bad_column] = f32::NAN;
                let in_x = Inputs { x, ..good.clone() }.run();
                let in_dy = Inputs { dy, ..good.clone() }.run();

                let all_nan = |x: &[f32]| x.iter().all(|x| x.is_nan());
                assert!(in_x.mean[bad_row].is_nan() && in_x.rstd[bad_row].is_nan(), "{what}");
                assert!(all_nan(&in_x.y[at.clone()]) && all_nan(&in_x.dx[at.clone()]), "{what}");
                assert!(all_nan(&in_x.dgamma), "{what}");
                assert_same(&in_x.dbeta, &want.dbeta, &what);
                assert!(all_nan(&in_dy.dx[at.clone()]), "{what}");
                for (got, want) in [(&in_dy.dgamma, &want.dgamma), (&in_dy.dbeta, &want.dbeta)] {
                    assert!(got[bad_column].is_nan(), "{what}");
                    assert_same(&got[..bad_column], &want[..bad_column], &what);
                    assert_same(&got[bad_column + 1..], &want[bad_column + 1..], &what);
                }
                let pairs = [(&in_x.y, &want.y), (&in_x.dx, &want.dx), (&in_dy.dx, &want.dx)];
                for (got, want) in pairs {
                    assert_same(&got[..at.start], &want[..at.start], &what);
                    assert_same(&got[at.end..], &want[at.end..], &what);
                }
            }
        });
    }
}

#[test]
fn a_constant_row_without_eps_has_no_scale() {
    let mut rng = Rng::new(4);
    for features in [1, 2, 3, 7, 37, 100, 1000, 5000] {
        for_each_tier(|tier| {
            for _ in 0..5 {
                // Its mean is rarely exact in the first pass.
                let i = Inputs { eps: 0.0, ..Inputs::random(&mut rng, features, 1, &ORDINARY[3..4]) };
                let o = i.run();
                let c = i.x[0];
                assert_eq!((o.mean[0], o.rstd[0]), (c, f32::INFINITY), "{tier}: {features} times {c}");
                for out in [&o.y, &o.dx, &o.dgamma] {
                    assert!(out.iter().all(|x| x.is_nan()), "{tier}: {features} times {c}");
                }
            }
        });
    }
}

#[test]
fn no_rows_give_zero_gradients() {
    for_each_tier(|tier| {
        let mut rng = Rng::new(5);
        let o = Inputs::random(&mut rng, 19, 0, &ORDINARY).run();
        assert_eq!((o.dgamma, o.dbeta), (vec![0.0; 19], vec![0.0; 19]), "{tier}");
    });
}

#[test]
fn what_the_scratch_holds_does_not_matter() {
    let mut rng = Rng::new(6);
    for rows in [128, 129, 300] {
        let i = Inputs::random(&mut rng, 21, rows, &ORDINARY);
        for_each_tier(|tier| {
            let (a, b) = (i.run(), i.run_with(1e30));
            for (a, b) in [(&a.dx, &b.dx), (&a.dgamma, &b.dgamma), (&a.dbeta, &b.dbeta)] {
                assert_same(a, b, format!("{tier}, {rows} rows"));
            }
        });
    }
}

#[test]
fn bad_parameters_are_named() {
    let error = LayerNorm::new(0, 1e-5).unwrap_err();
    assert_eq!(error.to_string(), "features = 0: must be at least 1");
    for eps in [-1e-9, -f64::MIN_POSITIVE, f64::NAN, f64::INFINITY, 1e39, 1e-46, 1e-39] {
        let error = LayerNorm::new(8, eps).unwrap_err();
        assert_eq!((error.name, error.value.to_bits()), ("eps", eps.to_bits()));
        assert!(error.to_string().starts_with(&format!("eps = {eps}: must be ")), "{error}");
    }
    for eps in [0.0, 1e-30, 1.0, f32::MAX as f64] {
        assert_eq!(LayerNorm::new(8, eps).map(|n| n.features()), Ok(8));
    }
}

/// Runs with slices of these lengths, for 2 rows of 3 features, and gives the panic's message.
fn forward_panic(n: [usize; 5]) -> String {
    let [x, gamma, beta, y, rstd] = n.map(|n| vec![1.0; n]);
    let (mut y, mut mean, mut rstd) = (y, [0.0; 2], rstd);
    let norm = LayerNorm::new(3, 1e-5).unwrap();
    let message = panic_message(|| norm.forward(&x, &gamma, &beta, &mut y, &mut mean, &mut rstd));
    assert!(y.iter().all(|&y| y == 1.0) && mean == [0.0; 2], "nothing was done");
    message
}

fn backward_panic(n: [usize; 7], rows: usize, scratch: usize) -> String {
    let [dy, x, gamma, rstd, dx, dgamma, dbeta] = n.map(|n| vec![1.0; n]);
    let (mut dx, mut dgamma, mut dbeta) = (dx, dgamma, dbeta);
    let (mean, mut scratch) = (vec![1.0; rows], vec![1.0; scratch]);
    let norm = LayerNorm::new(3, 1e-5).unwrap();
    let (dg, db) = (&mut dgamma, &mut dbeta);
    let message =
        panic_message(|| norm.backward(&dy, &x, &gamma, &mean, &rstd, &mut dx, dg, db, &mut scratch));
    for out in [&dx, &dgamma, &dbeta] {
        assert!(out.iter().all(|&x| x == 1.0), "nothing was done");
    }
    message
}

#[test]
fn a_wrong_length_panics_with_both() {
    let forward = [("x", "rows x features", 6), ("gamma", "a row", 3), ("beta", "a row", 3)];
    let forward = [&forward[..], &[("y", "rows x features", 6), ("rstd", "mean", 2)]].concat();
    let backward = [("dy", "rows x features", 6), ("x", "rows x features", 6), ("gamma", "a row", 3)];
    let more = [("rstd", "mean", 2), ("dx", "rows x features", 6), ("dgamma", "a row", 3)];
    let backward = [&backward[..], &more, &[("dbeta", "a row", 3)]].concat();
    for wrong in [0, 1, 4, 7, 1 << 16] {
        for (at, (name, what, want)) in forward.iter().enumerate() {
            let mut n = [6, 3, 3, 6, 2];
            n[at] = wrong;
            let message = format!("layernorm forward: {name} has {wrong} values, {what} asks for {want}");
            assert_eq!(forward_panic(n), message);
        }
        for (at, (name, what, want)) in backward.iter().enumerate() {
            let mut n = [6, 6, 3, 2, 6, 3, 3];
            n[at] = wrong;
            let message = format!("layernorm backward: {name} has {wrong} values, {what} asks for {want}");
            assert_eq!(backward_panic(n, 2, 0), message);
        }
    }
    for (rows, needed) in [(129, 12), (256, 12), (257, 18)] {
        assert_eq!(LayerNorm::new(3, 0.0).unwrap().scratch_len(rows), needed);
        let message = backward_panic([3 * rows, 3 * rows, 3, rows, 3 * rows, 3, 3], rows, needed - 1);
        let expected = format!("layernorm backward: scratch has {} values, needs {needed}", needed - 1);
        assert_eq!(message, expected);
    }
    assert_eq!(LayerNorm::new(3, 0.0).unwrap().scratch_len(ROWS_PER_CHUNK), 0);
}

/// Rows that have a scale without an `eps`, if they are long enough, and constant ones.
fn rows(features: usize, eps: f64) -> Vec<f32> {
    let mut x: Vec<f32> =
        (0..4).flat_map(|r| (0..features).map(move |i| (i + r) as f32 * 3.5 - 7.0)).collect();
    if eps == 0.0 {
        // Without a scale their output is NaN, as the documentation says.
        return x;
    }
    for constant in [0.0, 1.0, 0.1, -1e6, 1e-6] {
        x.extend(std::iter::repeat_n(constant, features));
    }
    x
}

fn layernorm(features: usize, eps: f64) -> Outcome {
    let norm = LayerNorm::new(features, eps)?;
    let x = rows(features, eps);
    let (n, size) = (x.len() / features, x.len());
    let (gamma, beta, dy) = (data(features, 1), data(features, 2), data(size, 3));
    let (mut y, mut h, mut mean, mut rstd) = (x.clone(), x.clone(), vec![0.0; n], vec![0.0; n]);
    norm.forward_add(&x, &vec![0.0; size], &gamma, &beta, &mut h, &mut y, &mut mean, &mut rstd);
    let mut all = [&y[..], &h, &mean, &rstd].concat();
    norm.forward(&x, &gamma, &beta, &mut y, &mut mean, &mut rstd);
    let (mut dx, mut dgamma, mut dbeta) = (x.clone(), gamma.clone(), gamma.clone());
    norm.backward(&dy, &x, &gamma, &mean, &rstd, &mut dx, &mut dgamma, &mut dbeta, &mut []);
    all.extend([y, dx, dgamma, dbeta].concat());
    Ok(all)
}

fn rmsnorm(features: usize, eps: f64) -> Outcome {
    let norm = RmsNorm::new(features, eps)?;
    let x = rows(features, eps);
    let (n, size) = (x.len() / features, x.len());
    let (gamma, dy) = (data(features, 1), data(size, 3));
    let (mut y, mut h, mut rstd) = (x.clone(), x.clone(), vec![0.0; n]);
    norm.forward_add(&x, &vec![0.0; size], &gamma, &mut h, &mut y, &mut rstd);
    let mut all = [&y[..], &h, &rstd].concat();
    norm.forward(&x, &gamma, &mut y, &mut rstd);
    let (mut dx, mut dgamma) = (x.clone(), gamma.clone());
    norm.backward(&dy, &x, &gamma, &rstd, &mut dx, &mut dgamma, &mut []);
    all.extend([y, dx, dgamma].concat());
    Ok(all)
}

#[test]
fn every_setting_works_or_is_refused() {
    for features in [2, 16, 37] {
        let settings: [Setting<f64>; 1] = [("eps", |c, x| *c = x)];
        walk("LayerNorm", &1e-5, &settings, |&eps| layernorm(features, eps));
        walk("RMSNorm", &1e-5, &settings, |&eps| rmsnorm(features, eps));
    }
    // A row of one value is constant.
    let settings: [Setting<f64>; 1] = [("eps", |c, x| *c = x)];
    walk("LayerNorm of one", &1e-5, &settings, |&eps| {
        layernorm(1, eps).map(|y| if eps == 0.0 { vec![] } else { y })
    });
}
