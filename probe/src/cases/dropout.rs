//! Dropout, whose backward is the same loop.

use std::hint::black_box;

use hotlanes::dropout::Dropout;
use hotlanes::naive::dropout as naive;

use crate::check::{close, data, prepared};
use crate::{Case, Prepared};

/// Whole blocks.
pub(super) const APPLY: Case = Case {
    name: "dropout",
    kernel: "hotlanes::dropout::kernel::Apply",
    sizes: [64, 128],
    elements_per_size: 1,
    element: "value",
    gather: true,
    forced: true,
    prepare: |n| prepare(n, |d, x, y| d.forward(x, y, 0)),
    twin: Some(|n| prepare(n, |d, x, y| naive::dropout_auto(x, keep(d), d.scale(), SEED, y))),
};

const SEED: u64 = 0x0123_4567_89AB_CDEF;

fn keep(dropout: &Dropout) -> u32 {
    (dropout.keep_probability() * 2f64.powi(31)) as u32
}

fn prepare(n: usize, run: impl Fn(&Dropout, &[f32], &mut [f32]) + 'static) -> Box<dyn Prepared> {
    let dropout = Dropout::new(0.25, SEED).expect("valid");
    prepared(
        (dropout, data(n, 1), vec![f32::NAN; n]),
        move |s| {
            let (dropout, x, y) = black_box(s);
            run(dropout, x, y);
        },
        |(dropout, x, y)| {
            let mut want = vec![f32::NAN; x.len()];
            naive::dropout(x, keep(dropout), dropout.scale(), SEED, &mut want);
            assert!(want.contains(&0.0), "nothing was dropped");
            close("y", y, &want, 0.0);
        },
    )
}
