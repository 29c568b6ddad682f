//! One slice added to another with a weight, moving averages, products.

use hotlanes::axpy;
use hotlanes::naive::optim as naive;
use hotlanes::tuning::{AXPY_PARALLEL, AXPY_PIECE};

use crate::memory::{Buf, Memory, Values};
use crate::run::{Output, Plain, Run, Work, instance, pick};
use crate::sizes::{dims, label, lengths, product};
use crate::{Bits, Case, Counted, Threads, Timed};

pub(crate) const CASES: &[Case] = &[
    ADD_SCALED,
    Case {
        id: "lerp",
        covers: &["axpy::lerp"],
        kernel: "hotlanes::axpy::Axpy<hotlanes::axpy::Lerp>",
        build: |size, m| {
            build(
                inputs(size, m),
                2.0,
                |x, y| axpy::lerp(WEIGHT, x, y),
                |x, y, which| {
                    pick!(which, naive::lerp, naive::lerp_auto)(WEIGHT, x, y);
                },
            )
        },
        ..ADD_SCALED
    },
    Case {
        id: "multiply",
        covers: &["axpy::multiply"],
        kernel: "hotlanes::axpy::Axpy<hotlanes::axpy::Multiply>",
        build: |size, m| {
            let [n] = dims(size);
            let mut x = m.input(n, 1);
            // Timed again and again, smaller values would make `y` subnormal, and slow.
            if m.values() == Values::Ordinary {
                x = m.copy(&x.iter().map(|x| x.signum()).collect::<Vec<f32>>());
            }
            build((x, m.input(n, 2)), 1.0, axpy::multiply, |x, y, which| {
                pick!(which, naive::multiply, naive::multiply_auto)(x, y);
            })
        },
        ..ADD_SCALED
    },
];

const ADD_SCALED: Case = Case {
    id: "add_scaled",
    covers: &["axpy::add_scaled"],
    kernel: "hotlanes::axpy::Axpy<hotlanes::axpy::AddScaled>",
    build: |size, m| {
        build(
            inputs(size, m),
            2.0,
            |x, y| axpy::add_scaled(WEIGHT, x, y),
            |x, y, which| {
                pick!(which, naive::add_scaled, naive::add_scaled_auto)(WEIGHT, x, y);
            },
        )
    },
    label,
    bits: Bits::At { sizes: lengths, random: &[(0, 700)] },
    threads: Threads::From { below: &[AXPY_PARALLEL - 1], at: &[&[AXPY_PARALLEL], &[5 * AXPY_PIECE + 7]] },
    same_as: None,
    counted: Counted::At { sizes: [&[256], &[512]], elements: product, element: "value" },
    timed: Timed::At { report: &[&[65_536], &[1 << 20]], full: &[&[1 << 25]], bench: &[&[4096], &[262_144]] },
    twin: true,
    gather: true,
    forced: true,
    scalar_stepped: true,
};

const WEIGHT: f32 = 0.1;

fn inputs(size: &[usize], m: &Memory) -> (Buf, Buf) {
    let [n] = dims(size);
    (m.input(n, 1), m.input(n, 2))
}

fn build(
    inputs: (Buf, Buf),
    flops: f64,
    run: fn(&[f32], &mut [f32]),
    plain: fn(&[f32], &mut [f32], Plain),
) -> Box<dyn Run> {
    let n = inputs.0.len();
    instance(
        inputs,
        Work { in_place: true, working_set: 8 * n, ..Work::sweep(8 * n, 4 * n, flops * n as f64) },
        move |(x, y): &mut (Buf, Buf)| run(x, y),
        move |(x, y), which| plain(x, y, which),
        |(_, y)| vec![Output::rows("y", y, 1e-6)],
    )
}
