//! What softmax and cross-entropy do with values that are not ordinary, and with wrong arguments.

use hotlanes::cross_entropy::{CrossEntropy, LabelError, Reduction};
use hotlanes::softmax::*;

use crate::common::{Rng, assert_same, for_each_tier, panic_message};
use crate::settings::{data, walk};

#[test]
fn a_row_that_is_not_a_number_stays_alone() {
    let mut rng = Rng::new(3);
    for (n, rows) in [(1, 3), (10, 21), (65, 17), (300, 9)] {
        let good = rng.vec(n * rows, |rng| rng.normal());
        let bad = rng.below(rows);
        let at = bad * n..(bad + 1) * n;
        let labels = vec![0; rows];
        let [ce, ignoring] = [None, Some(7000)].map(|i| CrossEntropy::new(n, 0.1, i).unwrap());
        let mut some_ignored = labels.clone();
        some_ignored[bad] = 7000;
        for_each_tier(|tier| {
            let run = |x: &[f32], ce: &CrossEntropy, labels: &[u32]| {
                let [mut y, mut log, mut d] = [(); 3].map(|()| vec![1.0; x.len()]);
                let mut losses = vec![1.0; rows];
                softmax(x, n, &mut y);
                log_softmax(x, n, &mut log);
                ce.forward_backward(x, labels, Reduction::Sum, &mut d, &mut losses).unwrap();
                ([y, log, d], losses)
            };
            let (want, want_losses) = run(&good, &ce, &labels);
            for (value, all) in [(f32::NAN, false), (f32::INFINITY, false), (f32::NEG_INFINITY, true)] {
                let mut x = good.clone();
                if all {
                    x[at.clone()].fill(value);
                } else {
                    x[at.start + n / 2] = value;
                }
                let what = format!("{tier} {rows} x {n} {value}");
                let (got, losses) = run(&x, &ce, &labels);
                for (got, want) in got.iter().zip(&want) {
                    assert!(got[at.clone()].iter().all(|y| y.is_nan()), "{what}");
                    assert_same(&got[..at.start], &want[..at.start], &what);
                    assert_same(&got[at.end..], &want[at.end..], &what);
                }
                assert!(losses[bad].is_nan(), "{what}");
                assert_same(&losses[..bad], &want_losses[..bad], &what);
                assert_same(&losses[bad + 1..], &want_losses[bad + 1..], &what);

                let ([_, _, d], losses) = run(&x, &ignoring, &some_ignored);
                assert!(losses[bad] == 0.0 && d[at.clone()].iter().all(|d| *d == 0.0), "{what}: ignored");
            }
        });
    }
}

#[test]
fn a_probability_of_zero() {
    let x = [0.0, f32::NEG_INFINITY, -200.0, -0.0];
    for_each_tier(|tier| {
        let (mut y, mut log, mut losses) = ([9.0; 4], [9.0; 4], [9.0]);
        softmax(&x, 4, &mut y);
        log_softmax(&x, 4, &mut log);
        assert_eq!(y, [0.5, 0.0, 0.0, 0.5], "{tier}");
        assert!(log[1] == f32::NEG_INFINITY && (log[2] + 200.693_15).abs() < 2e-5, "{tier}: {log:?}");
        for (smoothing, label, want) in
            [(0.0, 1, f32::INFINITY), (0.1, 0, f32::INFINITY), (1.0, 1, f32::INFINITY), (0.0, 2, 200.693_15)]
        {
            let ce = CrossEntropy::new(4, smoothing, None).unwrap();
            let loss = ce.forward(&x, &[label], Reduction::Mean, &mut losses).unwrap();
            assert!(loss == want && losses[0] == want, "{tier}: {loss}, not {want}");
        }
        // Its gradient flows where the probability is none.
        let mut dx = [9.0; 4];
        log_softmax_backward(&[0.0, 1.0, 0.0, 0.0], &log, 4, &mut dx);
        assert_eq!(dx, [-0.5, 1.0, 0.0, -0.5], "{tier}");
    });
}

#[test]
fn no_rows() {
    for_each_tier(|tier| {
        softmax(&[], 3, &mut []);
        softmax_backward(&[], &[], 3, &mut []);
        let ce = CrossEntropy::new(3, 0.0, Some(9)).unwrap();
        let loss = |labels: &[u32], reduction| {
            let (x, mut d, mut losses) = (vec![1.0; 3 * labels.len()], vec![1.0; 3 * labels.len()], [1.0; 2]);
            let losses = &mut losses[..labels.len()];
            let loss = ce.forward_backward(&x, labels, reduction, &mut d, losses).unwrap();
            assert!(d.iter().chain(&*losses).all(|x| *x == 0.0), "{tier}");
            loss
        };
        for labels in [&[][..], &[9, 9]] {
            assert!(loss(labels, Reduction::Mean).is_nan(), "{tier}");
            assert_eq!(loss(labels, Reduction::Sum), 0.0, "{tier}");
        }
    });
}

#[test]
fn a_label_out_of_range_is_named_before_anything_is_written() {
    let ce = CrossEntropy::new(3, 0.0, Some(7)).unwrap();
    for (labels, row, label) in [([0, 3, 9], 1, 3), ([7, 7, u32::MAX], 2, u32::MAX), ([8, 0, 0], 0, 8)] {
        let want = LabelError { row, label, classes: 3 };
        for_each_tier(|_| {
            let (mut x, mut d, mut losses) = (vec![0.5; 9], vec![0.5; 9], vec![0.5; 3]);
            let mean = Reduction::Mean;
            assert_eq!(ce.forward(&x, &labels, mean, &mut losses), Err(want));
            assert_eq!(ce.forward_backward(&x, &labels, mean, &mut d, &mut losses), Err(want));
            assert_eq!(ce.forward_backward_in_place(&mut x, &labels, mean, &mut losses), Err(want));
            assert!(x.iter().chain(&d).chain(&losses).all(|x| *x == 0.5), "nothing was done");
        });
    }
    let error = LabelError { row: 4, label: 10, classes: 10 };
    let message = "row 4 has label 10: must be below the 10 classes, or the ignored index";
    assert_eq!(error.to_string(), message);
}

#[test]
fn bad_parameters_are_named() {
    let error = CrossEntropy::new(0, 0.0, None).unwrap_err();
    assert_eq!(error.to_string(), "classes = 0: must be at least 1");
    for smoothing in [-1e-9, 1.0 + f64::EPSILON, f64::NAN, f64::INFINITY] {
        let error = CrossEntropy::new(3, smoothing, None).unwrap_err();
        assert_eq!((error.name, error.value.to_bits()), ("smoothing", smoothing.to_bits()));
        assert_eq!(error.to_string(), format!("smoothing = {smoothing}: must be at least 0 and at most 1"));
    }
    let error = CrossEntropy::new(3, 1e-46, None).unwrap_err();
    assert!(
        error.to_string().ends_with("must be 0, or so large that each class's share of it is a normal f32")
    );
    for smoothing in [0.0, 0.1, 1.0] {
        assert_eq!(CrossEntropy::new(8, smoothing, Some(0)).map(|c| c.classes()), Ok(8));
    }
}

#[test]
fn a_wrong_length_panics_with_both() {
    let ce = CrossEntropy::new(3, 0.0, None).unwrap();
    for n in [0, 5, 7, 1 << 16] {
        let (x, mut out) = (vec![1.0; n], [1.0; 6]);
        let (mut losses, mean) = ([1.0; 2], Reduction::Mean);
        let wrong =
            |kernel, name, want, what| format!("{kernel}: {name} has {n} values, {what} asks for {want}");
        let mut y = x.clone();
        let good = [1.0; 6];
        let checks = [
            (panic_message(|| softmax(&good, 3, &mut y)), wrong("softmax", "y", 6, "x")),
            (panic_message(|| log_softmax(&good, 3, &mut y)), wrong("log softmax", "y", 6, "x")),
            (
                panic_message(|| softmax_backward(&x, &good, 3, &mut out)),
                wrong("softmax backward", "dy", 6, "y"),
            ),
            (
                panic_message(|| softmax_backward(&good, &good, 3, &mut y)),
                wrong("softmax backward", "dx", 6, "y"),
            ),
            (
                panic_message(|| log_softmax_backward(&x, &good, 3, &mut out)),
                wrong("log softmax backward", "dy", 6, "y"),
            ),
            (
                panic_message(|| log_softmax_backward(&good, &good, 3, &mut y)),
                wrong("log softmax backward", "dx", 6, "y"),
            ),
            (
                panic_message(|| _ = ce.forward(&x, &[0, 1], mean, &mut losses)),
                wrong("cross entropy forward", "logits", 6, "labels x classes"),
            ),
            (
                panic_message(|| _ = ce.forward(&good, &[0, 1], mean, &mut y)),
                wrong("cross entropy forward", "losses", 2, "labels"),
            ),
            (
                panic_message(|| _ = ce.forward_backward(&x, &[0, 1], mean, &mut out, &mut losses)),
                wrong("cross entropy", "logits", 6, "labels x classes"),
            ),
            (
                panic_message(|| _ = ce.forward_backward(&good, &[0, 1], mean, &mut y, &mut losses)),
                wrong("cross entropy", "dlogits", 6, "logits"),
            ),
            (
                panic_message(|| {
                    _ = ce.forward_backward_in_place(&mut x.clone(), &[0, 1], mean, &mut losses)
                }),
                wrong("cross entropy in place", "logits", 6, "labels x classes"),
            ),
        ];
        for (got, want) in checks {
            assert_eq!(got, want);
        }
        assert!(y.iter().chain(&out).chain(&losses).all(|x| *x == 1.0), "nothing was done");
    }
    let mut y = [1.0; 7];
    let message = panic_message(|| softmax(&[1.0; 7], 3, &mut y));
    assert_eq!(message, "softmax: x has 7 values, which are not whole rows of 3");
    let message = panic_message(|| softmax_in_place(&mut y, 0));
    assert_eq!(message, "softmax in place: a row must have at least 1 feature");
}

#[test]
fn every_setting_works_or_is_refused() {
    for classes in [1, 3, 40] {
        walk("CrossEntropy", &0.1, &[("smoothing", |c: &mut f64, x| *c = x)], |&smoothing| {
            let ce = CrossEntropy::new(classes, smoothing, Some(1000))?;
            let logits = [data(4 * classes, 0), vec![1e6; classes]].concat();
            let labels = [0, classes as u32 - 1, 1000, 0, 0];
            let mut all = vec![];
            for reduction in [Reduction::Mean, Reduction::Sum, Reduction::Scaled(0.0)] {
                let (mut losses, mut d) = (vec![9.0; 5], logits.clone());
                all.push(ce.forward_backward(&logits, &labels, reduction, &mut d, &mut losses).unwrap());
                all.extend([losses, d].concat());
            }
            Ok(all)
        });
        // A probability of 0 costs an infinite loss, wherever the target has a share.
        if classes > 1 {
            walk("a probability of 0", &0.1, &[("smoothing", |c: &mut f64, x| *c = x)], |&smoothing| {
                let ce = CrossEntropy::new(classes, smoothing, None)?;
                let mut logits = data(2 * classes, 0);
                logits[0] = f32::NEG_INFINITY;
                logits[classes] = f32::NEG_INFINITY;
                let (mut losses, mut d) = ([9.0; 2], logits.clone());
                ce.forward_backward(&logits, &[0, 1], Reduction::Sum, &mut d, &mut losses).unwrap();
                assert_eq!(losses[0], f32::INFINITY, "{smoothing}");
                assert_eq!(losses[1] == f32::INFINITY, smoothing > 0.0, "{smoothing}: {}", losses[1]);
                assert!(!losses[1].is_nan());
                Ok(d)
            });
        }
    }
}
