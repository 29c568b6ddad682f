//! Conversions, which multiversion compiles, and the loops that ask for the machine's limits. None has a twin: the first
//! are auto-vectorised themselves, the others do nothing that a plain loop would.

use std::hint::black_box;

use hotlanes::{LANES, convert, limits};

use crate::check::{close, data, prepared};
use crate::{Case, Prepared};

/// Bytes to `f32`.
pub(super) const U8_TO_F32: Case = Case {
    name: "convert_u8_to_f32",
    kernel: "hotlanes::convert::u8_to_f32_loop",
    sizes: [512, 1024],
    elements_per_size: 1,
    element: "value",
    gather: true,
    forced: false,
    prepare: u8_to_f32,
    twin: None,
};

/// Scaling.
pub(super) const SCALE: Case = Case {
    name: "convert_scale",
    kernel: "hotlanes::convert::scale_loop",
    prepare: |n| scaling(n, convert::scale),
    ..U8_TO_F32
};

/// Reading, in blocks of sixteen vectors.
pub(super) const READ: Case = Case {
    name: "limits_read",
    kernel: "hotlanes::limits::Read",
    sizes: [1024, 2048],
    forced: true,
    prepare: read,
    ..U8_TO_F32
};

/// Copying, in blocks of four vectors.
pub(super) const COPY: Case =
    Case { name: "limits_copy", kernel: "hotlanes::limits::Copy", sizes: [512, 1024], prepare: copy, ..READ };

/// Updating in place, in blocks of four vectors.
pub(super) const UPDATE: Case = Case {
    name: "limits_update",
    kernel: "hotlanes::limits::Update",
    sizes: [512, 1024],
    prepare: |n| scaling(n, limits::update),
    ..READ
};

/// Chains of multiply-adds, by iterations.
pub(super) const FMA_CHAIN: Case = Case {
    name: "limits_fma_chain",
    kernel: "hotlanes::limits::FmaChain",
    sizes: [2, 4],
    elements_per_size: limits::FMA_FLOPS / 2,
    element: "multiply-add",
    prepare: |n| chain(n, limits::fma_chain, fma_chain),
    ..READ
};

/// Chains of roots, by iterations.
pub(super) const SQRT_CHAIN: Case = Case {
    name: "limits_sqrt_chain",
    kernel: "hotlanes::limits::SqrtChain",
    sizes: [16, 32],
    elements_per_size: limits::SQRT_ROOTS,
    element: "root",
    prepare: |n| chain(n, limits::sqrt_chain, sqrt_chain),
    ..READ
};

const FACTOR: f32 = 0.75;

fn u8_to_f32(n: usize) -> Box<dyn Prepared> {
    let bytes: Vec<u8> = (0..n).map(|i| (i * 7 % 256) as u8).collect();
    prepared(
        (bytes, vec![f32::NAN; n]),
        |s| {
            let (src, dst) = black_box(s);
            convert::u8_to_f32(src, FACTOR, dst);
        },
        |(src, dst)| {
            let want: Vec<f32> = src.iter().map(|b| f32::from(*b) * FACTOR).collect();
            close("u8_to_f32", dst, &want, 0.0);
        },
    )
}

fn scaling(n: usize, scale: impl Fn(&mut [f32], f32) + 'static) -> Box<dyn Prepared> {
    prepared(
        data(n, 1),
        move |x| scale(black_box(x), FACTOR),
        |x| {
            let want: Vec<f32> = data(x.len(), 1).iter().map(|x| x * FACTOR).collect();
            close("scaled", x, &want, 0.0);
        },
    )
}

fn read(n: usize) -> Box<dyn Prepared> {
    prepared(
        (data(n, 1), f32::NAN),
        |s| {
            let (src, sum) = black_box(s);
            *sum = limits::read(src);
        },
        |(src, sum)| close("sum", &[*sum], &[src.iter().sum()], 1e-3),
    )
}

fn copy(n: usize) -> Box<dyn Prepared> {
    prepared(
        (data(n, 1), vec![f32::NAN; n]),
        |s| {
            let (src, dst) = black_box(s);
            limits::copy(src, dst);
        },
        |(src, dst)| close("copy", dst, src, 0.0),
    )
}

/// A chain that starts from nothing but its number of iterations, and the plain loop for it.
fn chain(
    iterations: usize,
    run: impl Fn(usize) -> f32 + 'static,
    plain: fn(usize) -> f32,
) -> Box<dyn Prepared> {
    prepared(
        (iterations, f32::NAN),
        move |s| {
            let (iterations, sum) = black_box(s);
            *sum = run(*iterations);
        },
        move |(iterations, sum)| close("chain", &[*sum], &[plain(*iterations)], 1e-4),
    )
}

/// `limits::fma_chain`, one lane of each of its chains.
fn fma_chain(iterations: usize) -> f32 {
    // 12 chains of 5 links in each iteration: it is known for what it counts.
    let (chains, links) = (12, 5);
    assert_eq!(chains * links * LANES, limits::FMA_FLOPS / 2, "limits::fma_chain has another shape now");
    let end = |start: usize| (0..links * iterations).fold(start as f32, |x, _| x * 0.75 + 0.25);
    (0..chains).map(end).sum::<f32>() * LANES as f32
}

/// `limits::sqrt_chain`, one lane of each of its chains.
fn sqrt_chain(iterations: usize) -> f32 {
    let end = |start: usize| (0..iterations).fold(start as f32, |x, _| x.sqrt() * 1.7 + 0.3);
    (1..=limits::SQRT_ROOTS / LANES).map(end).sum::<f32>() * LANES as f32
}
