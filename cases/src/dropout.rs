//! Dropout from several element numbers on; its backward is the same loop.

use hotlanes::dropout::Dropout;
use hotlanes::naive::layers as naive;
use hotlanes::tuning::{DROPOUT_PARALLEL, DROPOUT_PIECE};

use crate::memory::{Buf, Memory};
use crate::run::{Output, Run, Work, instance, pick};
use crate::sizes::{dims, label, lengths, product};
use crate::{Bits, Case, Counted, Threads, Timed};

pub(crate) const CASES: &[Case] = &[
    FORWARD,
    Case {
        id: "dropout_bwd",
        covers: &["dropout::Dropout::backward"],
        build: |size, m| elements(size, m, 0.1, 0, true),
        same_as: Some(("dropout", <[usize]>::to_vec)),
        ..VARIANT
    },
    // From the middle of a block of 32 elements, at numbers beyond 32 bits, and other probabilities.
    Case { id: "dropout_from_15", build: |size, m| elements(size, m, 0.4, 15, false), ..VARIANT },
    Case { id: "dropout_from_17", build: |size, m| elements(size, m, 0.5, 17, true), ..VARIANT },
    Case { id: "dropout_from_31", build: |size, m| elements(size, m, 0.9, 31, false), ..VARIANT },
    Case { id: "dropout_far", build: |size, m| elements(size, m, 0.1, (1 << 40) + 5, false), ..VARIANT },
    Case { id: "dropout_none", build: |size, m| elements(size, m, 0.0, 0, false), ..VARIANT },
];

const FORWARD: Case = Case {
    id: "dropout",
    covers: &["dropout::Dropout::forward"],
    kernel: "hotlanes::dropout::kernel::Apply",
    build: |size, m| elements(size, m, 0.1, 0, false),
    label,
    bits: Bits::At { sizes: lengths, random: &[(0, 300)] },
    threads: Threads::From {
        below: &[DROPOUT_PARALLEL - 1],
        at: &[&[DROPOUT_PARALLEL], &[DROPOUT_PARALLEL + DROPOUT_PIECE / 2 + 7]],
    },
    same_as: None,
    counted: Counted::At { sizes: [&[64], &[128]], elements: product, element: "value" },
    timed: Timed::At { report: &[&[65_536], &[1 << 20]], full: &[&[1 << 25]], bench: &[&[4096]] },
    twin: true,
    gather: true,
    forced: true,
    scalar_stepped: true,
};

const VARIANT: Case = Case {
    counted: Counted::Not("the loop of dropout"),
    timed: Timed::Not("the loop of dropout"),
    twin: false,
    ..FORWARD
};

const SEED: u64 = 0x0123_4567_89AB_CDEF;

fn elements(size: &[usize], m: &Memory, p: f64, first: u64, backward: bool) -> Box<dyn Run> {
    let [n] = dims(size);
    let dropout = Dropout::new(p, SEED).expect("valid");
    let keep = (dropout.keep_probability() * (1u64 << 31) as f64) as u32;
    instance(
        (m.input(n, 1), m.output(n)),
        // Of two elements: twenty rounds of three operations on integers, twelve additions of keys, the masks. Each takes the
        // place of a fused multiply-add, which is two.
        Work::sweep(4 * n, 4 * n, n as f64 * (20.0 * 3.0 + 12.0 + 2.0 * 5.0)),
        move |(x, y): &mut (Buf, Buf)| {
            if backward { dropout.backward(x, y, first) } else { dropout.forward(x, y, first) }
        },
        move |(x, y), which| {
            if first == 0 && x.len().is_multiple_of(32) {
                return pick!(which, naive::dropout, naive::dropout_auto)(x, keep, dropout.scale(), SEED, y);
            }
            // An element by itself: its block's words, of which it has its lane's.
            let key = [SEED as u32, (SEED >> 32) as u32];
            for (i, (x, y)) in x.iter().zip(y.iter_mut()).enumerate() {
                let at = first + i as u64;
                let counter = at / 32 * 16 + at % 16;
                let word = naive::threefry2x32(key, [counter as u32, (counter >> 32) as u32])
                    [(at % 32 / 16) as usize];
                *y = if word >> 1 < keep { x * dropout.scale() } else { 0.0 };
            }
        },
        |(_, y)| vec![Output::rows("y", y, 0.0)],
    )
}
