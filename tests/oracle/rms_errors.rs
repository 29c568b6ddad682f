//! What RMSNorm does with values that are not ordinary, and what it and the fused norms say of slices that do not fit.

use hotlanes::norm::{LayerNorm, ROWS_PER_CHUNK, RmsNorm};

use crate::common::{Rng, assert_same, for_each_tier, panic_message};
use crate::norm::{Inputs, ORDINARY};
use crate::rms::run;

fn all_nan(x: &[f32]) -> bool {
    x.iter().all(|x| x.is_nan())
}

#[test]
fn a_row_that_is_not_finite_stays_alone() {
    let mut rng = Rng::new(3);
    for (features, rows) in [(1, 3), (37, 21), (128, 17), (300, 9)] {
        let good = Inputs::random(&mut rng, features, rows, &ORDINARY);
        let (bad_row, bad_column) = (rng.below(rows), rng.below(features));
        let at = bad_row * features..(bad_row + 1) * features;
        let others = |x: &[f32]| [&x[..at.start], &x[at.end..]].concat();
        for_each_tier(|tier| {
            let want = run(&good, f32::NAN);
            for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let what = format!("{tier} {rows} x {features} {value}");
                let mut bad = good.clone();
                bad.x[at.start + bad_column] = value;
                let o = run(&bad, f32::NAN);
                let y = &o.y[at.clone()];
                if value.is_nan() {
                    assert!(o.rstd[bad_row].is_nan() && all_nan(y) && all_nan(&o.dgamma), "{what}");
                } else {
                    assert_eq!(o.rstd[bad_row], 0.0, "{what}");
                    assert!(y[bad_column].is_nan() && o.dgamma[bad_column].is_nan(), "{what}");
                    let numbers = [&y[..bad_column], &y[bad_column + 1..]].concat();
                    assert!(numbers.iter().all(|&y| y == 0.0), "{what}");
                    let numbers = [&o.dgamma[..bad_column], &o.dgamma[bad_column + 1..]].concat();
                    assert!(numbers.iter().all(|dgamma| dgamma.is_finite()), "{what}");
                }
                assert!(all_nan(&o.dx[at.clone()]), "{what}");
                assert_same(&others(&o.y), &others(&want.y), &what);
                assert_same(&others(&o.dx), &others(&want.dx), &what);
            }
            let mut bad = good.clone();
            bad.dy[at.start + bad_column] = f32::NAN;
            let o = run(&bad, f32::NAN);
            assert!(all_nan(&o.dx[at.clone()]) && o.dgamma[bad_column].is_nan(), "{tier}");
            assert_same(&others(&o.dx), &others(&want.dx), tier);
            assert_same(&o.dgamma[..bad_column], &want.dgamma[..bad_column], tier);
            assert_same(&o.dgamma[bad_column + 1..], &want.dgamma[bad_column + 1..], tier);
        });
    }
}

#[test]
fn a_row_of_zeros_without_eps_has_no_scale() {
    let mut rng = Rng::new(4);
    for features in [1, 7, 100, 5000] {
        for_each_tier(|tier| {
            let mut i = Inputs { eps: 0.0, ..Inputs::random(&mut rng, features, 1, &ORDINARY) };
            i.x.fill(0.0);
            let o = run(&i, f32::NAN);
            assert_eq!(o.rstd, [f32::INFINITY], "{tier} {features}");
            assert!(all_nan(&o.y) && all_nan(&o.dx) && all_nan(&o.dgamma), "{tier} {features}");
            // With it, the row is as good as any.
            let o = run(&Inputs { eps: 1e-6, ..i }, f32::NAN);
            assert!(o.y.iter().all(|&y| y == 0.0), "{tier} {features}");
            assert!(o.dx.iter().all(|dx| dx.is_finite()), "{tier} {features}");
        });
    }
}

#[test]
fn no_rows_give_zero_gradients() {
    for_each_tier(|tier| {
        let o = run(&Inputs::random(&mut Rng::new(5), 19, 0, &ORDINARY), f32::NAN);
        assert_eq!(o.dgamma, [0.0; 19], "{tier}");
    });
}

#[test]
fn what_the_scratch_holds_does_not_matter() {
    let mut rng = Rng::new(6);
    for rows in [128, 129, 300] {
        let i = Inputs::random(&mut rng, 21, rows, &ORDINARY);
        for_each_tier(|tier| {
            let (a, b) = (run(&i, f32::NAN), run(&i, 1e30));
            assert_same(&a.dx, &b.dx, format!("{tier}, {rows} rows"));
            assert_same(&a.dgamma, &b.dgamma, format!("{tier}, {rows} rows"));
        });
    }
}

#[test]
fn bad_parameters_are_named() {
    let error = RmsNorm::new(0, 1e-5).unwrap_err();
    assert_eq!(error.to_string(), "features = 0: must be at least 1");
    for eps in [-1e-9, f64::NAN, f64::INFINITY, 1e39, 1e-46, 1e-39] {
        let error = RmsNorm::new(8, eps).unwrap_err();
        assert!(error.to_string().starts_with(&format!("eps = {eps}: must be ")), "{error}");
    }
    for eps in [0.0, 1e-30, 1.0, f32::MAX as f64] {
        assert_eq!(RmsNorm::new(8, eps).map(|n| n.features()), Ok(8));
    }
}

/// The slices of a call by name, for 2 rows of 3 features, and the rule for each length.
type Slices = &'static [(&'static str, &'static str, usize)];

const MATRIX: &str = "rows x features";
const ROW: &str = "a row";

const RMS_FORWARD: Slices = &[("x", MATRIX, 6), ("gamma", ROW, 3), ("y", MATRIX, 6)];
const RMS_FORWARD_ADD: Slices =
    &[("x", MATRIX, 6), ("residual", MATRIX, 6), ("gamma", ROW, 3), ("h", MATRIX, 6), ("y", MATRIX, 6)];
const RMS_BACKWARD: Slices =
    &[("dy", MATRIX, 6), ("x", MATRIX, 6), ("gamma", ROW, 3), ("dx", MATRIX, 6), ("dgamma", ROW, 3)];
const RMS_BACKWARD_ADD: Slices = &[
    ("dy", MATRIX, 6),
    ("dh", MATRIX, 6),
    ("h", MATRIX, 6),
    ("gamma", ROW, 3),
    ("dx", MATRIX, 6),
    ("dgamma", ROW, 3),
];
const LAYER_FORWARD_ADD: Slices = &[
    ("x", MATRIX, 6),
    ("residual", MATRIX, 6),
    ("gamma", ROW, 3),
    ("beta", ROW, 3),
    ("h", MATRIX, 6),
    ("y", MATRIX, 6),
    ("rstd", "mean", 2),
];
const LAYER_BACKWARD_ADD: Slices = &[
    ("dy", MATRIX, 6),
    ("dh", MATRIX, 6),
    ("h", MATRIX, 6),
    ("gamma", ROW, 3),
    ("rstd", "mean", 2),
    ("dx", MATRIX, 6),
    ("dgamma", ROW, 3),
    ("dbeta", ROW, 3),
];

/// Gives `call` the slices at these lengths, one of them wrong, and looks at what it says and that it did nothing.
fn refuses(name: &str, slices: Slices, call: impl Fn(&mut [Vec<f32>])) {
    let right = || -> Vec<Vec<f32>> { slices.iter().map(|(_, _, n)| vec![1.0; *n]).collect() };
    // The right lengths do not panic.
    call(&mut right());
    for (at, (slice, what, want)) in slices.iter().enumerate() {
        for wrong in [0, 1, 4, 7] {
            let mut values = right();
            values[at] = vec![1.0; wrong];
            let message = panic_message(|| call(&mut values));
            assert_eq!(message, format!("{name}: {slice} has {wrong} values, {what} asks for {want}"));
            assert!(values.iter().flatten().all(|&x| x == 1.0), "{name}: nothing was done");
        }
    }
}

#[test]
fn a_wrong_length_panics_with_both() {
    let (rms, layer) = (RmsNorm::new(3, 1e-5).unwrap(), LayerNorm::new(3, 1e-5).unwrap());
    refuses("rmsnorm forward", RMS_FORWARD, |v| {
        let [x, gamma, y] = v else { unreachable!() };
        rms.forward(x, gamma, y, &mut [0.0; 2]);
    });
    refuses("rmsnorm forward_add", RMS_FORWARD_ADD, |v| {
        let [x, residual, gamma, h, y] = v else { unreachable!() };
        rms.forward_add(x, residual, gamma, h, y, &mut [0.0; 2]);
    });
    refuses("rmsnorm backward", RMS_BACKWARD, |v| {
        let [dy, x, gamma, dx, dgamma] = v else { unreachable!() };
        rms.backward(dy, x, gamma, &[1.0; 2], dx, dgamma, &mut []);
    });
    refuses("rmsnorm backward_add", RMS_BACKWARD_ADD, |v| {
        let [dy, dh, h, gamma, dx, dgamma] = v else { unreachable!() };
        rms.backward_add(dy, dh, h, gamma, &[1.0; 2], dx, dgamma, &mut []);
    });
    refuses("layernorm forward_add", LAYER_FORWARD_ADD, |v| {
        let [x, residual, gamma, beta, h, y, rstd] = v else { unreachable!() };
        layer.forward_add(x, residual, gamma, beta, h, y, &mut [0.0; 2], rstd);
    });
    refuses("layernorm backward_add", LAYER_BACKWARD_ADD, |v| {
        let [dy, dh, h, gamma, rstd, dx, dgamma, dbeta] = v else { unreachable!() };
        layer.backward_add(dy, dh, h, gamma, &[1.0; 2], rstd, dx, dgamma, dbeta, &mut []);
    });
    assert_eq!(rms.scratch_len(ROWS_PER_CHUNK), 0);
    for (rows, needed) in [(129, 6), (256, 6), (257, 9)] {
        assert_eq!(rms.scratch_len(rows), needed);
        let (size, mut scratch) = (3 * rows, vec![1.0; needed - 1]);
        let (m, mut dx, mut dgamma) = (vec![1.0; size], vec![1.0; size], [1.0; 3]);
        let rstd = vec![1.0; rows];
        let message =
            panic_message(|| rms.backward(&m, &m, &[1.0; 3], &rstd, &mut dx, &mut dgamma, &mut scratch));
        assert_eq!(message, format!("rmsnorm backward: scratch has {} values, needs {needed}", needed - 1));
    }
}
