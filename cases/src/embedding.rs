//! Embedding: rows copied, rows with positions added, and gradients of ids that stand once or at many positions.

use hotlanes::embedding::{EmbeddingIndices, EmbeddingPlan};
use hotlanes::naive::layers as naive;
use hotlanes::tuning::{EMBEDDING_PARALLEL, EMBEDDING_PIECE};

use crate::memory::{Buf, Memory, mix};
use crate::run::{Output, Run, Work, instance, pick};
use crate::sizes::{Size, dims};
use crate::{Bits, Case, Counted, Threads, Timed};

pub(crate) const CASES: &[Case] = &[
    FORWARD,
    Case {
        id: "embedding_fwd_pos",
        covers: &["embedding::EmbeddingIndices::forward_with_positions"],
        build: |size, m| forward(size, m, true),
        timed: Timed::Not("embedding_fwd and an addition"),
        ..FORWARD
    },
    // What PyTorch's call does: zeros, ids that it has not seen before, sums.
    Case {
        id: "embedding_bwd",
        covers: &["embedding::EmbeddingIndices::set", "embedding::EmbeddingPlan::backward"],
        build: dense,
        counted: Counted::Not("the loop of embedding_bwd_sum"),
        timed: FORWARD.timed,
        ..BACKWARD
    },
    BACKWARD,
    Case {
        id: "embedding_bwd_same",
        bits: Bits::In("embedding_bwd_sum"),
        counted: Counted::At { sizes: [&[4, 1, 512], &[8, 1, 512]], elements: values, element: "value" },
        ..BACKWARD
    },
];

/// Sizes are positions, vocabulary and features.
const FORWARD: Case = Case {
    id: "embedding_fwd",
    covers: &["embedding::EmbeddingIndices::forward"],
    kernel: "hotlanes::embedding::kernel::Forward",
    build: |size, m| forward(size, m, false),
    label: |size| format!("{}x{}n{}", size[1], size[2], size[0]),
    bits: Bits::At { sizes: shapes, random: &[(0, 60), (1, 200), (1, 150)] },
    threads: Threads::From {
        below: &[EMBEDDING_PARALLEL / 64 - 1, 50, 64],
        at: &[
            &[EMBEDDING_PARALLEL / 63 + 1, 600, 63],
            &[EMBEDDING_PARALLEL / 64, 50, 64],
            &[EMBEDDING_PARALLEL / EMBEDDING_PIECE + 1, 1, EMBEDDING_PIECE + 17],
        ],
    },
    same_as: None,
    counted: Counted::At { sizes: [&[4, 8, 512], &[8, 8, 512]], elements: values, element: "value" },
    timed: Timed::At {
        report: &[&[4096, 1000, 64], &[16_384, 50_257, 256]],
        full: &[&[8192, 50_257, 768]],
        bench: &[],
    },
    twin: true,
    gather: true,
    forced: true,
    scalar_stepped: true,
};

const BACKWARD: Case = Case {
    id: "embedding_bwd_sum",
    covers: &["embedding::EmbeddingPlan::backward"],
    kernel: "hotlanes::embedding::kernel::Backward",
    build: backward,
    threads: Threads::From {
        below: &[EMBEDDING_PARALLEL / 64 - 1, 50, 64],
        // Ids that are cut between, and one that is cut by columns.
        at: &[
            &[EMBEDDING_PARALLEL / 63 + 1, 600, 63],
            &[EMBEDDING_PARALLEL / EMBEDDING_PIECE + 1, 1, EMBEDDING_PIECE + 17],
        ],
    },
    timed: Timed::Not("a part of embedding_bwd"),
    ..FORWARD
};

fn values(size: &[usize]) -> usize {
    size[0] * size[2]
}

fn shapes() -> Vec<Size> {
    let features = (1..=33).step_by(2).chain([16, 32, 47, 48, 130]);
    features.flat_map(|f| [[0, 1, f], [1, 3, f], [9, 40, f], [9, 2, f], [23, 9, f]]).map(Vec::from).collect()
}

fn ids(n: usize, vocab: usize) -> EmbeddingIndices {
    // A quarter of the positions have one id.
    let id = |i: u32| if vocab > 8 && mix(i).is_multiple_of(4) { 5 } else { mix(i ^ 0x1d5) % vocab as u32 };
    // Few enough are all there, each after the other.
    let id = |i: u32| if n <= 8 { i * 3 % vocab as u32 } else { id(i) };
    EmbeddingIndices::new(&(0..n as u32).map(id).collect::<Vec<_>>(), vocab).expect("below the vocabulary")
}

struct State {
    indices: EmbeddingIndices,
    plan: EmbeddingPlan,
    from: Buf,
    positions: Buf,
    to: Buf,
}

fn forward(size: &[usize], m: &Memory, with_positions: bool) -> Box<dyn Run> {
    let [n, vocab, features] = dims(size);
    let indices = ids(n, vocab);
    let plan = EmbeddingPlan::new(&indices);
    let distinct = plan.distinct().len();
    // Positions repeat after three rows, or two if the size is even.
    let rows = if with_positions { 2 + n % 2 } else { 0 };
    let (read, written) = (4 * distinct * features, 4 * n * features);
    instance(
        State {
            indices,
            plan,
            from: m.input(vocab * features, 1),
            positions: m.input(rows * features, 3),
            to: m.output(n * features),
        },
        // As in the PyTorch script: a row read and a row written for each position.
        Work { items: 8.0 * (n * features) as f64, ..Work::sweep(read, written, 0.0) },
        move |s| {
            if with_positions {
                s.indices.forward_with_positions(&s.from, &s.positions, features, &mut s.to);
            } else {
                s.indices.forward(&s.from, features, &mut s.to);
            }
        },
        move |s, which| {
            let f = pick!(which, naive::embedding_forward, naive::embedding_forward_auto);
            f(s.indices.ids(), &s.from, &s.positions, features, &mut s.to);
        },
        |s| vec![Output::new("y", &mut s.to, 0.0)],
    )
}

fn backward(size: &[usize], m: &Memory) -> Box<dyn Run> {
    let [n, vocab, features] = dims(size);
    let indices = ids(n, vocab);
    let rows = 4 * n * features;
    instance(
        State {
            plan: EmbeddingPlan::new(&indices),
            indices,
            from: m.input(n * features, 2),
            positions: m.input(0, 3),
            // The sums are added to what is there.
            to: m.input(vocab * features, 4),
        },
        // A dense gradient is zeros, which the sums are then added to.
        Work { items: 2.0 * rows as f64, ..Work::sweep(rows, 4 * vocab * features, rows as f64 / 4.0) },
        move |s| s.plan.backward(&s.from, features, &mut s.to),
        move |s, which| {
            let (ids, from) = (s.indices.ids(), &s.from);
            if which == crate::Plain::Auto {
                return naive::embedding_backward_auto(ids, from, features, &mut s.to);
            }
            for (&id, dy) in ids.iter().zip(from.chunks_exact(features)) {
                for (d, dy) in s.to[id as usize * features..][..features].iter_mut().zip(dy) {
                    *d += dy;
                }
            }
        },
        |s| vec![Output::new("dtable", &mut s.to, 0.0)],
    )
}

/// The batch's ids are new in each run, and the gradient begins with zeros.
fn dense(size: &[usize], m: &Memory) -> Box<dyn Run> {
    let [n, vocab, features] = dims(size);
    let new = ids(n, vocab).ids().to_vec();
    // Other ids at first, and as many: there is room for the new ones.
    let old = EmbeddingIndices::new(&vec![0; n], vocab).expect("below the vocabulary");
    let mut plan = EmbeddingPlan::new(&ids(n, vocab));
    plan.rebuild(&old);
    let rows = 4 * n * features;
    let state = State {
        plan,
        indices: old,
        from: m.input(n * features, 2),
        positions: m.input(0, 3),
        to: m.output(vocab * features),
    };
    let plain_ids = new.clone();
    instance(
        state,
        Work { items: 2.0 * rows as f64, ..Work::sweep(rows, 4 * vocab * features, rows as f64 / 4.0) },
        move |s| {
            s.indices.set(&new).expect("below the vocabulary");
            s.plan.rebuild(&s.indices);
            s.to.fill(0.0);
            s.plan.backward(&s.from, features, &mut s.to);
        },
        move |s, which| {
            let f = pick!(which, naive::embedding_backward, naive::embedding_backward_auto);
            f(&plain_ids, &s.from, features, &mut s.to);
        },
        |s| vec![Output::new("dtable", &mut s.to, 0.0)],
    )
}
