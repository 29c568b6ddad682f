//! Each function against f64, at every input in the long test.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Mutex;

use super::*;
use crate::activation::functions::*;
use crate::lanes::{Kernel, LANES, dispatch};
use crate::tier::{Tier, active, with_tier};

mod exact;

/// A function or a slope.
struct Entry {
    name: &'static str,
    /// In place.
    run: fn(&mut [[f32; LANES]]),
    exact: fn(f64) -> f64,
    /// The largest error at `x` where the exact value is `y`.
    bound: fn(f64, f64) -> f64,
}

struct Value<'a, F>(&'a mut [[f32; LANES]], PhantomData<F>);
struct Derivative<'a, F>(&'a mut [[f32; LANES]], PhantomData<F>);

impl<F: Function> Kernel for Value<'_, F> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for chunk in self.0 {
            let [y] = F::value(l, [l.load(chunk)]);
            l.store(chunk, y);
        }
    }
}

impl<F: Slope> Kernel for Derivative<'_, F> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for chunk in self.0 {
            let [y] = F::slope(l, [l.load(chunk)]);
            l.store(chunk, y);
        }
    }
}

fn value<F: Function>(chunks: &mut [[f32; LANES]]) {
    dispatch(active(), Value::<F>(chunks, PhantomData));
}

fn slope<F: Slope>(chunks: &mut [[f32; LANES]]) {
    dispatch(active(), Derivative::<F>(chunks, PhantomData));
}

/// A unit in the last place of the f32 nearest to `y`.
fn unit(y: f64) -> f64 {
    2f64.powi((y.abs() as f32).max(f32::MIN_POSITIVE).min(f32::MAX).to_bits() as i32 / (1 << 23) - 127 - 23)
}

/// The error over its bound; infinite where what is not finite is not the same.
fn ratio(entry: &Entry, x: f32, got: f32) -> f64 {
    let want = (entry.exact)(x as f64);
    let near = want as f32;
    if got.is_nan() || near.is_nan() || got.is_infinite() || near.is_infinite() {
        let same = got == near || got.is_nan() && near.is_nan();
        // What rounds to infinity may as well be the largest number, and the other way round.
        let border = got.abs().max(near.abs()) == f32::INFINITY && got.abs().min(near.abs()) == f32::MAX;
        return if same || border { 0.0 } else { f64::INFINITY };
    }
    let error = (got as f64 - want).abs();
    if error == 0.0 { 0.0 } else { error / (entry.bound)(x as f64, want) }
}

const ENTRIES: [Entry; 12] = [
    Entry { name: "exp", run: value::<Exp>, exact: f64::exp, bound: |_, y| EXP_ULP * unit(y) },
    Entry { name: "log", run: value::<Log>, exact: f64::ln, bound: |_, y| LOG_ULP * unit(y) },
    Entry { name: "sigmoid", run: value::<Sigmoid>, exact: exact::sigmoid, bound: |_, y| unit(y) },
    Entry { name: "tanh", run: value::<Tanh>, exact: f64::tanh, bound: |_, y| unit(y) },
    Entry { name: "silu", run: value::<Silu>, exact: exact::silu, bound: |_, y| unit(y) },
    Entry { name: "gelu_tanh", run: value::<GeluTanh>, exact: exact::gelu_tanh, bound: |_, y| unit(y) },
    Entry { name: "gelu_erf", run: value::<GeluErf>, exact: exact::gelu_erf, bound: |_, y| unit(y) },
    Entry { name: "sigmoid'", run: slope::<Sigmoid>, exact: exact::sigmoid_slope, bound: |_, y| unit(y) },
    Entry { name: "tanh'", run: slope::<Tanh>, exact: exact::tanh_slope, bound: |_, y| unit(y) },
    Entry { name: "silu'", run: slope::<Silu>, exact: exact::silu_slope, bound: |_, y| unit(y) },
    Entry {
        name: "gelu_tanh'",
        run: slope::<GeluTanh>,
        exact: exact::gelu_tanh_slope,
        bound: |_, y| unit(y),
    },
    Entry { name: "gelu_erf'", run: slope::<GeluErf>, exact: exact::gelu_erf_slope, bound: |_, y| unit(y) },
];

#[test]
#[ignore]
fn explore() {
    for e in &ENTRIES[2..] {
        for sign in [0u32, 1] {
            for ex in
                [1u32, 100, 114, 120, 122, 123, 124, 125, 126, 127, 128, 129, 130, 131, 132, 133, 200, 254]
            {
                for part in 0..(if (125..134).contains(&ex) { 4u32 } else { 1 }) {
                    let parts = if (125..134).contains(&ex) { 4 } else { 1 };
                    let (mut w, mut at, mut ab) = (0.0f64, 0.0f32, 0.0f64);
                    let mut buf: Vec<[f32; LANES]> = vec![];
                    let step = (1u32 << 23) / parts / 65536;
                    let mut all = vec![];
                    for k in 0..65536u32 {
                        all.push(f32::from_bits(
                            sign << 31 | ex << 23 | ((1u32 << 23) / parts * part + k * step),
                        ));
                    }
                    for c in all.chunks(16) {
                        buf.push(c.try_into().unwrap());
                    }
                    (e.run)(&mut buf);
                    for (x, y) in all.iter().zip(buf.as_flattened()) {
                        let r = ratio(e, *x, *y);
                        let a = (*y as f64 - (e.exact)(*x as f64)).abs();
                        if a > ab {
                            ab = a;
                        }
                        if r > w {
                            w = r;
                            at = *x;
                        }
                    }
                    println!(
                        "{} x {:e}..{:e}: {w:.3} ULP at {at:e}, abs {:.3} u",
                        e.name,
                        all[0],
                        all[65535],
                        ab * 16777216.0
                    );
                }
            }
        }
    }
}
