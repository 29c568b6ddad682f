//! Reductions, aggregation, and the scaling of a clip.

use std::hint::black_box;

use hotlanes::{clip, naive, reduce};

use crate::check::{close, data, prepared};
use crate::{Case, Prepared};

/// The sum: whole blocks, two together on AVX-512.
pub(super) const SUM: Case = Case {
    name: "reduce_sum",
    kernel: "hotlanes::reduce::sums::Sum",
    sizes: [2 * reduce::BLOCK, 4 * reduce::BLOCK],
    elements_per_size: 1,
    element: "value",
    gather: true,
    forced: true,
    prepare: |n| reduction(n, |s| s.results[0] = reduce::sum(&s.x), plain_sum),
    twin: Some(|n| reduction(n, |s| naive::reduce::sum_auto(&s.x, &mut s.results[0]), plain_sum)),
};

/// The norm, and from here on less than a block: the scalar tier emulates each fused multiply-add.
pub(super) const NORM: Case = Case {
    name: "reduce_norm",
    kernel: "hotlanes::reduce::sums::Squares",
    sizes: [256, 512],
    prepare: |n| reduction(n, |s| s.results[0] = reduce::norm(&s.x), plain_norm),
    twin: Some(|n| reduction(n, |s| naive::reduce::norm_auto(&s.x, &mut s.results[0]), plain_norm)),
    ..SUM
};

/// The dot product.
pub(super) const DOT: Case = Case {
    name: "reduce_dot",
    kernel: "hotlanes::reduce::sums::Dot",
    prepare: |n| reduction(n, |s| s.results[0] = reduce::dot(&s.x, &s.y), plain_dot),
    twin: Some(|n| reduction(n, |s| naive::reduce::dot_auto(&s.x, &s.y, &mut s.results[0]), plain_dot)),
    ..NORM
};

/// Mean and variance.
pub(super) const MEAN_VAR: Case = Case {
    name: "reduce_mean_var",
    kernel: "hotlanes::reduce::moments::Moments",
    prepare: |n| reduction(n, mean_var, plain_mean_var),
    twin: Some(|n| reduction(n, mean_var_twin, plain_mean_var)),
    ..NORM
};

/// The maximum.
pub(super) const MAX: Case = Case {
    name: "reduce_max",
    kernel: "hotlanes::reduce::largest::Largest",
    sizes: [512, 1024],
    prepare: |n| reduction(n, |s| s.results[0] = reduce::max(&s.x), plain_max),
    twin: Some(|n| reduction(n, |s| naive::reduce::max_auto(&s.x, &mut s.results[0]), plain_max)),
    ..SUM
};

/// Four buffers into one, in registers. The stack's tiles are cleared by the C library's memset: a constant.
pub(super) const AGGREGATE: Case = Case {
    name: "aggregate",
    kernel: "hotlanes::reduce::aggregate::Aggregate",
    sizes: [512, 1024],
    prepare: |n| aggregation(n, 4, reduce::aggregate),
    twin: Some(|n| aggregation(n, 4, naive::reduce::aggregate_auto)),
    ..SUM
};

/// Twenty buffers: two groups of eight and one of four wait for each other in tiles. A plain loop that goes through `dst` for
/// each buffer has fewer instructions while all of it is in the nearest cache, and only then.
pub(super) const AGGREGATE_TILES: Case = Case {
    name: "aggregate_tiles",
    prepare: |n| aggregation(n, 20, reduce::aggregate),
    twin: None,
    ..AGGREGATE
};

/// A clip alone: its norm is counted above.
pub(super) const CLIP_SCALE: Case = Case {
    name: "clip_scale",
    kernel: "hotlanes::clip::scale::ScaleOne",
    sizes: [256, 512],
    prepare: clipping,
    twin: None,
    ..SUM
};

/// Two inputs and the results.
struct Inputs {
    x: Vec<f32>,
    y: Vec<f32>,
    results: [f32; 2],
}

impl Inputs {
    /// Of one sign, so that sums come to something.
    fn new(n: usize) -> Self {
        let positive = |seed| data(n, seed).iter().map(|x| x + 1.5).collect();
        Inputs { x: positive(1), y: positive(2), results: [0.5; 2] }
    }
}

/// `plain` in f64; the second result is 0.5 where there is none.
fn reduction(n: usize, run: fn(&mut Inputs), plain: fn(&[f64], &[f64]) -> [f64; 2]) -> Box<dyn Prepared> {
    prepared(
        Inputs::new(n),
        move |s| run(black_box(s)),
        move |s| {
            let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|&x| x.into()).collect() };
            let [a, b] = plain(&wide(&s.x), &wide(&s.y));
            close("result", &s.results[..1], &[a as f32], 1e-4);
            close("second result", &s.results[1..], &[b as f32], 1e-4);
        },
    )
}

fn plain_sum(x: &[f64], _: &[f64]) -> [f64; 2] {
    [x.iter().sum(), 0.5]
}

fn plain_norm(x: &[f64], _: &[f64]) -> [f64; 2] {
    [x.iter().map(|x| x * x).sum::<f64>().sqrt(), 0.5]
}

fn plain_dot(x: &[f64], y: &[f64]) -> [f64; 2] {
    [x.iter().zip(y).map(|(x, y)| x * y).sum(), 0.5]
}

fn plain_mean_var(x: &[f64], _: &[f64]) -> [f64; 2] {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    [mean, x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n]
}

fn plain_max(x: &[f64], _: &[f64]) -> [f64; 2] {
    [x.iter().fold(0.0, |a, &x| a.max(x)), 0.5]
}

fn mean_var(s: &mut Inputs) {
    let r = reduce::mean_var(&s.x);
    s.results = [r.mean, r.variance];
}

fn mean_var_twin(s: &mut Inputs) {
    let [mean, variance] = &mut s.results;
    naive::reduce::mean_var_auto(&s.x, mean, variance);
}

const SCALE: f32 = 0.25;

fn aggregation(n: usize, k: usize, run: fn(&mut [f32], &[&[f32]], f32)) -> Box<dyn Prepared> {
    // Twenty buffers from five tables. A run allocates nothing, so their slices have to be there: they are leaked.
    let buffers: Vec<&'static [f32]> = (0..k).map(|i| &*data(n, i % 5).leak()).collect();
    prepared(
        (vec![f32::NAN; n], buffers),
        move |s| {
            let (dst, buffers) = black_box(s);
            run(dst, buffers, SCALE);
        },
        |(dst, buffers)| {
            let want: Vec<f32> =
                (0..dst.len()).map(|i| buffers.iter().map(|b| b[i]).sum::<f32>() * SCALE).collect();
            close("aggregate", dst, &want, 1e-5);
        },
    )
}

fn clipping(n: usize) -> Box<dyn Prepared> {
    const MAX_NORM: f32 = 0.5;
    prepared(
        data(n, 1),
        |x| {
            clip::clip_grad_norm(&mut [black_box(&mut x[..])], MAX_NORM.into()).expect("above 0");
        },
        |x| {
            let start = data(x.len(), 1);
            let norm = start.iter().map(|x| x * x).sum::<f32>().sqrt();
            let want: Vec<f32> = start.iter().map(|x| x * (MAX_NORM / norm)).collect();
            close("clipped", x, &want, 1e-5);
        },
    )
}
