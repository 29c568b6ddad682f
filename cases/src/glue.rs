//! Conversions, which multiversion compiles, and the loops that ask for the machine's limits. None has a twin: the first are
//! auto-vectorised themselves, the others do nothing that a plain loop would.

use hotlanes::{LANES, convert, limits};

use crate::memory::{Buf, Memory};
use crate::run::{Output, Run, Work, instance};
use crate::sizes::{Size, dims, label, lengths, product};
use crate::{Bits, Case, Counted, Threads, Timed};

pub(crate) const CASES: &[Case] = &[
    U8_TO_F32,
    Case {
        id: "convert_scale",
        covers: &["convert::scale"],
        kernel: "hotlanes::convert::scale_loop",
        build: |size, m| scaling(size, m, convert::scale),
        ..U8_TO_F32
    },
    // Reading, in blocks of sixteen vectors.
    Case {
        id: "limits_read",
        covers: &["limits::read"],
        kernel: "hotlanes::limits::Read",
        build: read,
        counted: Counted::At { sizes: [&[1024], &[2048]], elements: product, element: "value" },
        ..LIMIT
    },
    // Copying and updating in place, in blocks of four vectors.
    Case {
        id: "limits_copy",
        covers: &["limits::copy"],
        kernel: "hotlanes::limits::Copy",
        build: copy,
        ..LIMIT
    },
    Case {
        id: "limits_update",
        covers: &["limits::update"],
        kernel: "hotlanes::limits::Update",
        build: |size, m| scaling(size, m, limits::update),
        ..LIMIT
    },
    // Chains of multiply-adds and of roots, by iterations.
    Case {
        id: "limits_fma_chain",
        covers: &["limits::fma_chain"],
        kernel: "hotlanes::limits::FmaChain",
        build: |size, m| chain(size, m, limits::fma_chain, fma_chain),
        bits: Bits::At { sizes: iterations, random: &[(1, 40)] },
        counted: Counted::At {
            sizes: [&[2], &[4]],
            elements: |size| size[0] * limits::FMA_FLOPS / 2,
            element: "multiply-add",
        },
        ..LIMIT
    },
    Case {
        id: "limits_sqrt_chain",
        covers: &["limits::sqrt_chain"],
        kernel: "hotlanes::limits::SqrtChain",
        build: |size, m| chain(size, m, limits::sqrt_chain, sqrt_chain),
        bits: Bits::At { sizes: iterations, random: &[(1, 40)] },
        counted: Counted::At {
            sizes: [&[16], &[32]],
            elements: |size| size[0] * limits::SQRT_ROOTS,
            element: "root",
        },
        ..LIMIT
    },
];

/// Bytes to `f32`.
const U8_TO_F32: Case = Case {
    id: "convert_u8_to_f32",
    covers: &["convert::u8_to_f32"],
    kernel: "hotlanes::convert::u8_to_f32_loop",
    build: u8_to_f32,
    label,
    bits: Bits::At { sizes: lengths, random: &[(0, 700)] },
    threads: Threads::Never("as fast as memory on one thread"),
    same_as: None,
    counted: Counted::At { sizes: [&[512], &[1024]], elements: product, element: "value" },
    timed: Timed::At { report: &[&[1 << 20]], full: &[], bench: &[&[784 * 32]] },
    twin: false,
    gather: true,
    forced: false,
    scalar_stepped: true,
};

const LIMIT: Case = Case { timed: Timed::Not("the report measures limits by it"), forced: true, ..U8_TO_F32 };

fn iterations() -> Vec<Size> {
    [2, 3, 10, 33].map(|n| vec![n]).to_vec()
}

const FACTOR: f32 = 0.75;

fn u8_to_f32(size: &[usize], m: &Memory) -> Box<dyn Run> {
    let [n] = dims(size);
    let bytes: Vec<u8> = (0..n).map(|i| (i * 7 % 256) as u8).collect();
    instance(
        (m.copy(&bytes), m.output(n)),
        Work::sweep(n, 4 * n, n as f64),
        |(src, dst): &mut (Buf<u8>, Buf)| convert::u8_to_f32(src, FACTOR, dst),
        |(src, dst), _| dst.iter_mut().zip(src.iter()).for_each(|(d, s)| *d = f32::from(*s) * FACTOR),
        |(_, dst)| vec![Output::rows("dst", dst, 0.0)],
    )
}

fn scaling(size: &[usize], m: &Memory, scale: fn(&mut [f32], f32)) -> Box<dyn Run> {
    let [n] = dims(size);
    instance(
        m.input(n, 1),
        Work { in_place: true, working_set: 4 * n, ..Work::sweep(4 * n, 4 * n, n as f64) },
        move |x: &mut Buf| scale(x, FACTOR),
        |x, _| x.iter_mut().for_each(|x| *x *= FACTOR),
        |x| vec![Output::rows("x", x, 0.0)],
    )
}

fn read(size: &[usize], m: &Memory) -> Box<dyn Run> {
    let [n] = dims(size);
    instance(
        (m.positive(n, 1), m.output(1)),
        Work::sweep(4 * n, 0, n as f64),
        |(src, sum): &mut (Buf, Buf)| sum[0] = limits::read(src),
        |(src, sum), _| sum[0] = src.iter().sum(),
        |(_, sum)| vec![Output::new("sum", sum, 1e-3)],
    )
}

fn copy(size: &[usize], m: &Memory) -> Box<dyn Run> {
    let [n] = dims(size);
    instance(
        (m.input(n, 1), m.output(n)),
        Work::sweep(4 * n, 4 * n, 0.0),
        |(src, dst): &mut (Buf, Buf)| limits::copy(src, dst),
        |(src, dst), _| dst.copy_from_slice(src),
        |(_, dst)| vec![Output::rows("dst", dst, 0.0)],
    )
}

/// A chain that starts from nothing but its number of iterations, and the plain loop for it.
fn chain(size: &[usize], m: &Memory, run: fn(usize) -> f32, plain: fn(usize) -> f32) -> Box<dyn Run> {
    let [n] = dims(size);
    instance(
        (n, m.output(1)),
        Work::default(),
        move |(n, sum): &mut (usize, Buf)| sum[0] = run(*n),
        move |(n, sum), _| sum[0] = plain(*n),
        |(_, sum)| vec![Output::new("sum", sum, 1e-4)],
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
