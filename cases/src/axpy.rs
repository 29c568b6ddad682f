//! One slice added to another with a weight, and moving averages.

use hotlanes::axpy;
use hotlanes::naive::optim as naive;
use hotlanes::tuning::{AXPY_PARALLEL, AXPY_PIECE};

use crate::memory::{Buf, Memory};
use crate::run::{Output, Plain, Run, Work, instance, pick};
use crate::sizes::{dims, label, lengths, product};
use crate::{Bits, Case, Counted, Threads, Timed};

pub(crate) const CASES: &[Case] = &[
    ADD_SCALED,
    Case {
        id: "lerp",
        covers: &["axpy::lerp"],
        kernel: "hotlanes::axpy::Axpy<true>",
        build: |size, m| {
            build(
                size,
                m,
                |x, y| axpy::lerp(WEIGHT, x, y),
                |x, y, which| {
                    pick!(which, naive::lerp, naive::lerp_auto)(WEIGHT, x, y);
                },
            )
        },
        ..ADD_SCALED
    },
];

const ADD_SCALED: Case = Case {
    id: "add_scaled",
    covers: &["axpy::add_scaled"],
    kernel: "hotlanes::axpy::Axpy<false>",
    build: |size, m| {
        build(
            size,
            m,
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

fn build(
    size: &[usize],
    m: &Memory,
    run: fn(&[f32], &mut [f32]),
    plain: fn(&[f32], &mut [f32], Plain),
) -> Box<dyn Run> {
    let [n] = dims(size);
    instance(
        (m.input(n, 1), m.input(n, 2)),
        Work { in_place: true, working_set: 8 * n, ..Work::sweep(8 * n, 4 * n, 2.0 * n as f64) },
        move |(x, y): &mut (Buf, Buf)| run(x, y),
        move |(x, y), which| plain(x, y, which),
        |(_, y)| vec![Output::rows("y", y, 1e-6)],
    )
}
