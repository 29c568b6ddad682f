//! What attention does with values and shapes that are not ordinary: it says so, or does what it documents.

use hotlanes::attention::{Attention, Heads, HeadsMut, HeadsShape, MAX_HEAD_DIM, Strides};

use crate::attention::Inputs;
use crate::common::{Rng, assert_same, for_each_tier, panic_message};
use crate::settings::{data, walk};

#[test]
fn settings_are_checked() {
    for head_dim in [0, MAX_HEAD_DIM + 1] {
        let error = Attention::new(head_dim, true).unwrap_err();
        assert_eq!(error.to_string(), format!("head_dim = {head_dim}: must be from 1 to 128"));
    }
    let attention = Attention::new(16, true).unwrap();
    assert_eq!(attention.scale(), 0.25);
    assert_eq!(attention.with_scale(-2.0).unwrap().scale(), -2.0);
    for scale in [f64::NAN, f64::INFINITY, -1.1e12, 1e39] {
        let error = attention.with_scale(scale).unwrap_err();
        assert_eq!(error.to_string(), format!("scale = {scale}: must be from -1e12 to 1e12"));
    }
}

#[test]
fn shapes_are_checked() {
    let shape = HeadsShape { batch: 1, heads: 4, seq: 3, dim: 2 };
    let x = [0.0; 24];
    let message = panic_message(|| {
        Heads::new(&x[1..], shape);
    });
    assert_eq!(message, "heads: 23 values do not make HeadsShape { batch: 1, heads: 4, seq: 3, dim: 2 }");
    let strides = Strides { batch: 0, head: 6, seq: 3 };
    let message = panic_message(|| {
        Heads::with_strides(&x, shape, strides);
    });
    assert!(message.ends_with("apart, do not fit 24 values"), "{message}");
    let message = panic_message(|| {
        HeadsMut::with_strides(&mut [0.0; 24], shape, Strides { batch: 0, head: 3, seq: 2 });
    });
    assert_eq!(message, "heads: [1, 4, 3] rows of 2 values, [0, 3, 2] apart, overlap");
    let message = panic_message(|| {
        Heads::new(&x, shape).split(5);
    });
    assert_eq!(message, "heads: 5 of 4");

    let attention = Attention::new(2, false).unwrap();
    let run = |k: HeadsShape, v: HeadsShape, lse: usize| {
        panic_message(|| {
            let [k, v] = [k, v].map(|s| Heads::new(&x[..s.batch * s.heads * s.seq * s.dim], s));
            let (mut out, mut lse) = ([0.0; 24], vec![0.0; lse]);
            attention.forward(Heads::new(&x, shape), k, v, HeadsMut::new(&mut out, shape), &mut lse);
        })
    };
    assert_eq!(
        run(shape, shape, 11),
        "attention forward: lse has 11 values, batch x heads x seq asks for 12"
    );
    let three = HeadsShape { heads: 3, ..shape };
    assert_eq!(run(three, three, 12), "attention forward: 4 heads of queries cannot share 3 of keys");
    let none = HeadsShape { heads: 0, ..shape };
    assert_eq!(run(none, none, 12), "attention forward: 4 heads of queries cannot share 0 of keys");
    let message = run(shape, HeadsShape { seq: 2, ..shape }, 12);
    assert!(
        message.starts_with("attention forward: v is HeadsShape { batch: 1, heads: 4, seq: 2"),
        "{message}"
    );
    let small = HeadsShape { dim: 1, ..shape };
    let message = run(small, small, 12);
    assert!(message.starts_with("attention forward: k is HeadsShape"), "{message}");
}

#[test]
fn what_is_not_finite_stays_where_it_says() {
    let mut rng = Rng::new(5);
    for causal in [false, true] {
        let good = Inputs::random(&mut rng, [2, 2, 2, 70, 70, 5], causal, 1.0);
        for_each_tier(|tier| {
            let want = good.run();
            // A query of batch 1, head 0.
            let (query, head) = (40, 140..210);
            let mut bad = good.clone();
            bad.q[(head.start + query) * 5 + 2] = f32::NAN;
            let got = bad.run();
            assert!(got.lse[head.start + query].is_nan(), "{tier}");
            for row in 0..280 {
                let at = row * 5..row * 5 + 5;
                if row == head.start + query {
                    assert!(got.out[at.clone()].iter().all(|x| x.is_nan()), "{tier}");
                    assert!(got.dq[at].iter().all(|x| x.is_nan()), "{tier}");
                } else {
                    assert_same(
                        &got.out[at.clone()],
                        &want.out[at.clone()],
                        format_args!("{tier} out of {row}"),
                    );
                    assert_same(
                        &got.dq[at.clone()],
                        &want.dq[at.clone()],
                        format_args!("{tier} dq of {row}"),
                    );
                    if !head.contains(&row) {
                        assert_same(&got.dk[at.clone()], &want.dk[at], format_args!("{tier} dk of {row}"));
                    }
                }
            }
            // A value: where causal, no query before its block of 32 is reached, and each from its own on is.
            let mut bad = good.clone();
            bad.v[(head.start + query) * 5 + 2] = f32::INFINITY;
            let got = bad.run();
            for row in head.clone() {
                let (place, x) = (row - head.start, got.out[row * 5 + 2]);
                let reached = !causal || place >= query;
                assert!(!reached || !x.is_finite(), "{tier}: query {place}");
                assert!(
                    causal && place >= 32 || reached || x == want.out[row * 5 + 2],
                    "{tier}: query {place}"
                );
            }
        });
    }
}

#[test]
fn hidden_and_missing_keys() {
    let mut rng = Rng::new(6);
    for_each_tier(|tier| {
        // 70 keys whose scores are minus infinity, then one that is not.
        let mut i = Inputs::random(&mut rng, [1, 1, 1, 2, 71, 3], false, 1.0);
        i.q.fill(1.0);
        for key in i.k[..70 * 3].chunks_mut(3) {
            key.copy_from_slice(&[f32::NEG_INFINITY, 0.0, 0.0]);
        }
        let got = i.run();
        assert_eq!(got.out[..3], i.v[70 * 3..], "{tier}");
        assert!(got.lse.iter().all(|x| x.is_finite()), "{tier}");
        i.k[70 * 3] = f32::NEG_INFINITY;
        let got = i.run();
        assert!(got.out.iter().all(|x| x.is_nan()), "{tier}");
        assert_eq!(got.lse, [f32::NEG_INFINITY; 2], "{tier}");

        let none = Inputs::random(&mut rng, [1, 2, 1, 3, 0, 4], false, 1.0).run();
        assert!(none.out.iter().chain(&none.dq).all(|&x| x == 0.0), "{tier}");
        assert_eq!(none.lse, [f32::NEG_INFINITY; 6], "{tier}");
        // Keys that no query sees.
        let unseen = Inputs::random(&mut rng, [1, 1, 1, 2, 100, 4], true, 1.0).run();
        assert!(unseen.dk[8..].iter().chain(&unseen.dv[8..]).all(|&x| x == 0.0), "{tier}");
    });
}

#[test]
fn every_setting_works_or_is_refused() {
    for causal in [false, true] {
        walk("Attention", &0.25, &[("scale", |c: &mut f64, x| *c = x)], |&scale| {
            let attention = Attention::new(18, causal)?.with_scale(scale)?;
            let shape = HeadsShape { batch: 1, heads: 2, seq: 20, dim: 18 };
            let n = 2 * 20 * 18;
            let [q, k, v, dout] = [0, 1, 2, 3].map(|first| data(n, first));
            let (mut out, mut lse) = (vec![9.0; n], vec![9.0; 40]);
            let heads = |x| Heads::new(x, shape);
            attention.forward(heads(&q), heads(&k), heads(&v), HeadsMut::new(&mut out, shape), &mut lse);
            let (mut dq, mut dk, mut dv) = (q.clone(), q.clone(), q.clone());
            let [a, b, c] = [&mut dq, &mut dk, &mut dv].map(|d| HeadsMut::new(d, shape));
            attention.backward(heads(&dout), heads(&q), heads(&k), heads(&v), heads(&out), &lse, a, b, c);
            Ok([out, lse, dq, dk, dv].concat())
        });
    }
}
