//! LayerNorm: four rows together, sixteen short ones, and more rows than one chunk has.

use hotlanes::naive;
use hotlanes::norm::{LayerNorm, ROWS_PER_CHUNK};
use hotlanes::tuning::{NORM_PARALLEL, NORM_PIECE, NORM_SMALL};

use crate::memory::{Buf, Memory, Place};
use crate::run::{Output, Run, Work, instance, pick};
use crate::sizes::{Size, dims, grid, label, product};
use crate::{Bits, Case, Counted, Threads, Timed};

pub(crate) const CASES: &[Case] = &[
    FORWARD,
    Case {
        id: "layernorm_fwd_small",
        counted: Counted::At { sizes: [&[16, 64], &[32, 64]], elements: product, element: "value" },
        ..PATH
    },
    BACKWARD,
    Case {
        id: "layernorm_bwd_small",
        counted: Counted::At { sizes: [&[16, 64], &[32, 64]], elements: product, element: "value" },
        ..BACKWARD_PATH
    },
    // The fewest rows of two chunks, short ones to keep them small.
    CHUNKS,
    // The same runs: the sums of the chunks are added at their end.
    Case { id: "layernorm_add_chunks", kernel: "hotlanes::norm::backward::AddChunks", twin: false, ..CHUNKS },
];

/// Sizes are rows and features.
const FORWARD: Case = Case {
    id: "layernorm_fwd",
    covers: &["norm::LayerNorm::forward"],
    kernel: "hotlanes::norm::forward::Forward<true, false>",
    build: forward,
    label,
    bits: Bits::At { sizes: shapes, random: &[(0, 40), (1, 300)] },
    threads: Threads::From {
        below: &[63, NORM_PARALLEL / 64],
        at: &[
            &[64, NORM_PARALLEL / 64],
            &[5, 2 * NORM_PIECE - 1],
            &[9, NORM_PIECE + 1],
            &[16 * ROWS_PER_CHUNK - 1, 131],
            &[9 * ROWS_PER_CHUNK + 1, 128],
        ],
    },
    same_as: None,
    counted: Counted::At { sizes: [&[4, 256], &[8, 256]], elements: product, element: "value" },
    timed: Timed::At {
        report: &[&[256, 512], &[512, 512], &[2048, 512], &[4096, 64]],
        full: &[&[1024, 512], &[2048, 128], &[1024, 768], &[256, 4096]],
        bench: &[&[64, 512]],
    },
    twin: true,
    gather: true,
    forced: true,
    scalar_stepped: false,
};

const BACKWARD: Case = Case {
    id: "layernorm_bwd",
    covers: &["norm::LayerNorm::backward"],
    kernel: "hotlanes::norm::backward::Backward<true, false>",
    build: backward,
    threads: Threads::From {
        // It is cut by chunks of rows.
        below: &[2 * ROWS_PER_CHUNK, NORM_PARALLEL / ROWS_PER_CHUNK / 2 - 1],
        at: &[&[4 * ROWS_PER_CHUNK, NORM_PARALLEL / ROWS_PER_CHUNK / 4], &[16 * ROWS_PER_CHUNK - 1, 131]],
    },
    ..FORWARD
};

const PATH: Case =
    Case { bits: Bits::In("layernorm_fwd"), timed: Timed::Not("layernorm_fwd at fewer features"), ..FORWARD };
const BACKWARD_PATH: Case = Case {
    bits: Bits::In("layernorm_bwd"),
    timed: Timed::Not("layernorm_bwd at fewer features"),
    ..BACKWARD
};

const CHUNKS: Case = Case {
    id: "layernorm_bwd_chunks",
    bits: Bits::In("layernorm_bwd"),
    counted: Counted::At {
        sizes: [&[ROWS_PER_CHUNK + 1, 16], &[ROWS_PER_CHUNK + 1, 32]],
        elements: product,
        element: "value",
    },
    timed: Timed::Not("layernorm_bwd at more rows"),
    ..BACKWARD
};

/// One and two vectors of features; some; around the threshold of short rows; whole vectors, which start at a line's
/// boundary; chunks of rows; blocks of a long row.
pub(crate) fn shapes() -> Vec<Size> {
    let mut all = grid(&[0, 1, 3, 4, 5, 15, 16, 17, 21], &[1, 2, 5, 13, 15, 16, 17, 31, 32, 33]);
    all.extend(grid(&[1, 4, 19], &[47, 48, 49, 63, 64, 65, 80, 112]));
    all.extend(grid(&[3, 15, 16, 17, 33], &[NORM_SMALL - 1, NORM_SMALL, NORM_SMALL + 1]));
    all.extend(grid(&[1, 7], &[144, 160, 176, 1040]));
    let chunk = ROWS_PER_CHUNK;
    all.extend(grid(&[chunk - 1, chunk, chunk + 1, 2 * chunk, 5 * chunk + 1], &[5, 33]));
    all.extend(grid(&[1], &[4079, 4080, 4081, 4095, 4096, 4097, 4112, 8191, 8192, 8193]));
    all
}

/// PyTorch's default.
const EPS: f64 = 1e-5;

struct Rows {
    norm: LayerNorm,
    x: Buf,
    gamma: Buf,
    beta: Buf,
    y: Buf,
    mean: Buf,
    rstd: Buf,
}

impl Rows {
    fn new(rows: usize, features: usize, m: &Memory) -> Self {
        Rows {
            norm: LayerNorm::new(features, EPS).expect("valid"),
            x: m.input(rows * features, 1),
            gamma: m.input(features, 2),
            beta: m.input(features, 3),
            y: m.output(rows * features),
            mean: m.output(rows),
            rstd: m.output(rows),
        }
    }

    fn forward(&mut self) {
        let Rows { norm, x, gamma, beta, y, mean, rstd } = self;
        norm.forward(x, gamma, beta, y, mean, rstd);
    }
}

fn forward(size: &[usize], m: &Memory) -> Box<dyn Run> {
    let [rows, features] = dims(size);
    let n = rows * features;
    instance(
        Rows::new(rows, features, m),
        // The mean 1, the variance 3, x-hat 2, gamma and beta 2.
        Work { roots: rows as f64, ..Work::sweep(4 * n, 4 * n, 8.0 * n as f64) },
        Rows::forward,
        |s, which| {
            let Rows { norm, x, gamma, beta, y, mean, rstd } = s;
            let f = pick!(which, naive::layernorm_forward, naive::layernorm_forward_auto);
            f(x, norm.features(), EPS as f32, gamma, beta, y, mean, rstd);
        },
        |s| {
            vec![
                Output::rows("y", &mut s.y, 1e-5),
                Output::rows("mean", &mut s.mean, 1e-5),
                Output::rows("rstd", &mut s.rstd, 1e-5),
            ]
        },
    )
}

struct Gradients {
    norm: LayerNorm,
    dy: Buf,
    x: Buf,
    gamma: Buf,
    mean: Buf,
    rstd: Buf,
    dx: Buf,
    dgamma: Buf,
    dbeta: Buf,
    scratch: Buf,
}

fn backward(size: &[usize], m: &Memory) -> Box<dyn Run> {
    let [rows, features] = dims(size);
    let n = rows * features;
    let mut saved = Rows::new(rows, features, &Memory::new(Place::Aligned, m.values()));
    saved.forward();
    let state = Gradients {
        norm: saved.norm,
        dy: m.input(n, 4),
        x: m.input(n, 1),
        gamma: m.input(features, 2),
        mean: m.copy(&saved.mean),
        rstd: m.copy(&saved.rstd),
        dx: m.output(n),
        dgamma: m.output(features),
        dbeta: m.output(features),
        scratch: m.output(saved.norm.scratch_len(rows)),
    };
    instance(
        state,
        // x-hat 2, dy times gamma 1, its two sums 3, dgamma 2, dbeta 1, dx 4.
        Work::sweep(8 * n, 4 * n, 13.0 * n as f64),
        |s| {
            let Gradients { norm, dy, x, gamma, mean, rstd, dx, dgamma, dbeta, scratch } = s;
            norm.backward(dy, x, gamma, mean, rstd, dx, dgamma, dbeta, scratch);
        },
        |s, which| {
            let Gradients { norm, dy, x, gamma, mean, rstd, dx, dgamma, dbeta, .. } = s;
            let f = pick!(which, naive::layernorm_backward, naive::layernorm_backward_auto);
            f(dy, x, norm.features(), gamma, mean, rstd, dx, dgamma, dbeta);
        },
        |s| {
            vec![
                Output::rows("dx", &mut s.dx, 2e-4),
                Output::new("dgamma", &mut s.dgamma, 1e-4),
                Output::new("dbeta", &mut s.dbeta, 1e-4),
            ]
        },
    )
}
