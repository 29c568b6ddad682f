//! Reductions and the aggregation of gradients.

use hotlanes::naive::reduce as naive;
use hotlanes::reduce::{self, BLOCK, PIECE, ROWS_PER_SUM};
use hotlanes::tuning::{COLUMN_SUMS_PARALLEL, REDUCE_PARALLEL, REDUCE_PIECE};

use crate::memory::{Buf, Memory};
use crate::run::{Output, Plain, Run, Work, instance, pick};
use crate::sizes::{Size, dims, grid, label, lengths, product};
use crate::{Bits, Case, Counted, Threads, Timed};

pub(crate) const CASES: &[Case] = &[
    SUM,
    Case {
        id: "dot",
        covers: &["reduce::dot"],
        kernel: "hotlanes::reduce::sums::Dot",
        build: |size, m| {
            let call = |s: &mut State| s.results[0] = reduce::dot(&s.x, &s.y);
            reduction(size, [2, 1], m, call, |s, w| {
                pick!(w, naive::dot, naive::dot_auto)(&s.x, &s.y, &mut s.results[0])
            })
        },
        ..NORM
    },
    NORM,
    Case {
        id: "mean_var",
        covers: &["reduce::mean_var"],
        kernel: "hotlanes::reduce::moments::Moments",
        build: |size, m| {
            let call = |s: &mut State| {
                let r = reduce::mean_var(&s.x);
                s.results.copy_from_slice(&[r.mean, r.variance]);
            };
            reduction(size, [1, 2], m, call, |s, which| {
                let [mean, variance] = &mut s.results[..] else { unreachable!("two results") };
                pick!(which, naive::mean_var, naive::mean_var_auto)(&s.x, mean, variance);
            })
        },
        ..NORM
    },
    // Less than a block from the norm on: the scalar tier emulates each fused multiply-add.
    Case {
        id: "max",
        covers: &["reduce::max"],
        kernel: "hotlanes::reduce::largest::Largest",
        build: |size, m| {
            let call = |s: &mut State| s.results[0] = reduce::max(&s.x);
            reduction(size, [1, 1], m, call, |s, w| {
                pick!(w, naive::max, naive::max_auto)(&s.x, &mut s.results[0])
            })
        },
        counted: Counted::At { sizes: [&[512], &[1024]], elements: product, element: "value" },
        ..SUM
    },
    // All tiny, or all huge: sums that leave f32's range and are taken again, scaled.
    Case {
        id: "reduce_rescaled",
        covers: &["reduce::sum", "reduce::dot", "reduce::norm", "reduce::mean_var", "reduce::max"],
        build: rescaled,
        bits: Bits::At {
            sizes: || grid(&[1, 17, 83, 1000, BLOCK + 1], &[0, 1]),
            random: &[(1, 700), (0, 1)],
        },
        threads: Threads::Never("the cuts are those of the single reductions"),
        counted: Counted::Not("the loops of the single reductions"),
        timed: Timed::Not("values that nobody has often"),
        twin: false,
        ..SUM
    },
    AGGREGATE,
    // Twenty buffers: two groups of eight and one of four wait for each other in tiles. A plain loop that goes through `dst`
    // for each buffer has fewer instructions while all of it is in the nearest cache, and only then.
    Case {
        id: "aggregate_tiles",
        bits: Bits::In("aggregate"),
        counted: Counted::At { sizes: [&[512, 20], &[1024, 20]], elements: |size| size[0], element: "value" },
        timed: Timed::Not("aggregate with more buffers"),
        twin: false,
        ..AGGREGATE
    },
    COLUMN_SUMS,
    Case {
        id: "column_sums_add",
        build: |size, m| columns(size, m, true),
        counted: Counted::Not("the loop of column_sums"),
        timed: Timed::Not("the loop of column_sums"),
        twin: false,
        ..COLUMN_SUMS
    },
];

/// Sizes are rows and columns.
const COLUMN_SUMS: Case = Case {
    id: "column_sums",
    covers: &["reduce::column_sums"],
    kernel: "hotlanes::reduce::columns::Columns",
    build: |size, m| columns(size, m, false),
    bits: Bits::At {
        sizes: || {
            let r = ROWS_PER_SUM;
            let mut all = grid(&[0, 1, 2, 3, 20], &[0, 1, 15, 16, 17, 31, 63, 64, 65, 127, 128, 129, 210]);
            all.extend(grid(&[r - 1, r, r + 1, 2 * r, 2 * r + 1, 5 * r + 3], &[1, 17, 80]));
            all
        },
        random: &[(0, 600), (1, 150)],
    },
    threads: Threads::From {
        below: &[255, COLUMN_SUMS_PARALLEL / 256],
        at: &[&[256, COLUMN_SUMS_PARALLEL / 256], &[COLUMN_SUMS_PARALLEL / 100 + 1, 101]],
    },
    counted: Counted::At { sizes: [&[16, 128], &[32, 128]], elements: product, element: "value" },
    timed: Timed::At {
        report: &[&[256, 512], &[2048, 512]],
        full: &[&[2048, 128], &[8192, 2048]],
        bench: &[&[192, 128], &[256, 65]],
    },
    ..SUM
};

/// Whole blocks, two together on AVX-512.
const SUM: Case = Case {
    id: "sum",
    covers: &["reduce::sum"],
    kernel: "hotlanes::reduce::sums::Sum",
    build: |size, m| {
        let call = |s: &mut State| s.results[0] = reduce::sum(&s.x);
        reduction(size, [1, 1], m, call, |s, w| {
            pick!(w, naive::sum, naive::sum_auto)(&s.x, &mut s.results[0])
        })
    },
    label,
    bits: Bits::At { sizes: blocks, random: &[(1, 700)] },
    threads: Threads::From {
        below: &[REDUCE_PARALLEL - 1],
        at: &[&[REDUCE_PARALLEL], &[5 * REDUCE_PIECE + 7]],
    },
    same_as: None,
    counted: Counted::At { sizes: [&[2 * BLOCK], &[4 * BLOCK]], elements: product, element: "value" },
    timed: Timed::At { report: &[&[65_536], &[1 << 20]], full: &[&[1 << 22]], bench: &[&[262_144]] },
    twin: true,
    gather: true,
    forced: true,
    scalar_stepped: false,
};

const NORM: Case = Case {
    id: "norm",
    covers: &["reduce::norm"],
    kernel: "hotlanes::reduce::sums::Squares",
    build: |size, m| {
        let call = |s: &mut State| s.results[0] = reduce::norm(&s.x);
        reduction(size, [1, 1], m, call, |s, w| {
            pick!(w, naive::norm, naive::norm_auto)(&s.x, &mut s.results[0])
        })
    },
    counted: Counted::At { sizes: [&[256], &[512]], elements: product, element: "value" },
    ..SUM
};

/// Four buffers into one, in registers; sizes are elements and buffers.
const AGGREGATE: Case = Case {
    id: "aggregate",
    covers: &["reduce::aggregate"],
    kernel: "hotlanes::reduce::aggregate::Aggregate",
    build: aggregate,
    label: |size| format!("{}x{}", size[1], size[0]),
    bits: Bits::At {
        sizes: || grid(&[0, 1, 15, 17, 33, 255, 257, 531], &[1, 2, 3, 4, 5, 7, 8, 9, 16, 23, 40]),
        random: &[(0, 300), (1, 20)],
    },
    threads: Threads::From {
        below: &[REDUCE_PARALLEL / 4 - 1, 4],
        at: &[&[REDUCE_PARALLEL / 3 + 1, 3], &[REDUCE_PIECE / 2 + 5, 11]],
    },
    counted: Counted::At { sizes: [&[512, 4], &[1024, 4]], elements: |size| size[0], element: "value" },
    timed: Timed::At { report: &[&[65_536, 4]], full: &[&[1 << 20, 8]], bench: &[&[65_536, 16]] },
    ..SUM
};

fn blocks() -> Vec<Size> {
    let mut all = lengths();
    // A maximum of nothing is no number.
    all.retain(|size| size[0] > 0);
    all.extend([BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 70, PIECE + 1].map(|n| vec![n]));
    all
}

/// One or two inputs, one or two results.
struct State {
    x: Buf,
    y: Buf,
    results: Buf,
}

fn outputs(s: &mut State) -> Vec<Output<'_>> {
    // What the plain loop loses in one long f32 sum.
    vec![Output::new("results", &mut s.results, 2e-2)]
}

/// A call on `inputs` slices of `n` values, with `results` results.
fn reduction(
    size: &[usize],
    [inputs, results]: [usize; 2],
    m: &Memory,
    call: fn(&mut State),
    plain: fn(&mut State, Plain),
) -> Box<dyn Run> {
    let [n] = dims(size);
    // Of one sign: a sum of nothing much would be compared with nothing much.
    let state = State { x: m.positive(n, 1), y: m.positive(n, 2), results: m.output(results) };
    // A deviation, its sum and its square beside the mean.
    let flops = if results == 2 { 5 } else { inputs.max(2) };
    instance(state, Work::sweep(4 * inputs * n, 0, (flops * n) as f64), call, plain, outputs)
}

/// Sizes are elements, and 0 for tiny ones or 1 for huge ones.
fn rescaled(size: &[usize], m: &Memory) -> Box<dyn Run> {
    let [n, huge] = dims(size);
    let factor = if huge == 1 { f32::powi(2.0, 120) } else { 1e-40 };
    let scaled = |seed| -> Vec<f32> { m.positive(n, seed).iter().map(|x| (x + 0.5) * factor).collect() };
    instance(
        State { x: m.copy(&scaled(1)), y: m.copy(&scaled(2)), results: m.output(6) },
        Work::default(),
        |s| {
            let (x, y) = (&s.x, &s.y);
            let r = reduce::mean_var(x);
            let all =
                [reduce::sum(x), reduce::dot(x, y), reduce::norm(x), r.mean, r.variance, reduce::max(x)];
            s.results.copy_from_slice(&all);
        },
        |s, _| {
            let (x, n) = (s.x.iter().map(|x| f64::from(*x)), s.x.len() as f64);
            let mean = x.clone().sum::<f64>() / n;
            let all = [
                x.clone().sum(),
                x.clone().zip(s.y.iter()).map(|(x, y)| x * f64::from(*y)).sum(),
                x.clone().map(|x| x * x).sum::<f64>().sqrt(),
                mean,
                x.clone().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n,
                x.fold(0.0, f64::max),
            ];
            s.results.copy_from_slice(&all.map(|x| x as f32));
        },
        outputs,
    )
}

/// Buffers of a run, whose list is made before it: a run allocates nothing.
struct Buffers {
    dst: Buf,
    buffers: Vec<Buf>,
}

fn aggregate(size: &[usize], m: &Memory) -> Box<dyn Run> {
    /// The list of at most this many slices is on the stack.
    const MOST: usize = 64;
    let [n, k] = dims(size);
    let scale = 1.0 / k as f32;
    let call = move |s: &mut Buffers, f: fn(&mut [f32], &[&[f32]], f32)| {
        let mut all: [&[f32]; MOST] = [&[]; MOST];
        for (slice, buffer) in all.iter_mut().zip(&s.buffers) {
            *slice = buffer;
        }
        f(&mut s.dst, &all[..k], scale);
    };
    instance(
        Buffers { dst: m.output(n), buffers: (0..k).map(|i| m.input(n, i as u32)).collect() },
        Work::sweep(4 * k * n, 4 * n, (k * n) as f64),
        move |s| call(s, reduce::aggregate),
        move |s, which| call(s, pick!(which, naive::aggregate, naive::aggregate_auto)),
        |s| vec![Output::rows("dst", &mut s.dst, 1e-5)],
    )
}

fn columns(size: &[usize], m: &Memory, accumulate: bool) -> Box<dyn Run> {
    let [rows, cols] = dims(size);
    let rows = if cols == 0 { 0 } else { rows };
    let n = rows * cols;
    instance(
        (m.input(n, 1), if accumulate { m.input(cols, 2) } else { m.output(cols) }),
        Work::sweep(4 * n, 4 * cols, n as f64),
        move |(x, sums): &mut (Buf, Buf)| reduce::column_sums(x, sums, accumulate),
        move |(x, sums), which| {
            let start = sums.to_vec();
            if !sums.is_empty() {
                pick!(which, naive::column_sums, naive::column_sums_auto)(x, sums);
            }
            if accumulate {
                sums.iter_mut().zip(start).for_each(|(sum, start)| *sum += start);
            }
        },
        |(_, sums)| vec![Output::new("sums", sums, 1e-4)],
    )
}
