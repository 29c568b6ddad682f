//! Embedding: rows copied, rows with positions added, and gradients of ids that stand once or at many positions.

use std::hint::black_box;

use hotlanes::embedding::{EmbeddingIndices, EmbeddingPlan};
use hotlanes::naive::embedding as naive;

use crate::check::{close, data, prepared};
use crate::{Case, Prepared};

/// Rows long enough for the loop over their vectors to be what counts.
const FEATURES: usize = 512;
const VOCAB: usize = 8;

/// The forward, by positions.
pub(super) const FORWARD: Case = Case {
    name: "embedding_fwd",
    kernel: "hotlanes::embedding::kernel::Forward",
    sizes: [4, 8],
    elements_per_size: FEATURES,
    element: "value",
    gather: true,
    forced: true,
    prepare: |n| Rows::new(n, 3).forward(Rows::copy),
    twin: Some(|n| Rows::new(n, 3).forward(Rows::copy_twin)),
};

/// The forward with position rows.
pub(super) const FORWARD_POSITIONS: Case = Case {
    name: "embedding_fwd_pos",
    prepare: |n| Rows::new(n, 3).with_positions().forward(Rows::add),
    twin: Some(|n| Rows::new(n, 3).with_positions().forward(Rows::copy_twin)),
    ..FORWARD
};

/// The backward, each id at one position.
pub(super) const BACKWARD: Case = Case {
    name: "embedding_bwd",
    kernel: "hotlanes::embedding::kernel::Backward",
    prepare: |n| Rows::new(n, 3).backward(Rows::sum),
    twin: Some(|n| Rows::new(n, 3).backward(Rows::sum_twin)),
    ..FORWARD
};

/// The backward of one id, four positions together.
pub(super) const BACKWARD_SAME: Case = Case {
    name: "embedding_bwd_same",
    prepare: |n| Rows::new(n, 0).backward(Rows::sum),
    twin: Some(|n| Rows::new(n, 0).backward(Rows::sum_twin)),
    ..BACKWARD
};

struct Rows {
    indices: EmbeddingIndices,
    plan: EmbeddingPlan,
    table: Vec<f32>,
    positions: Vec<f32>,
    dy: Vec<f32>,
    y: Vec<f32>,
    dtable: Vec<f32>,
}

impl Rows {
    /// Each id is `step` after the one before: 3 visits all eight, 0 stays.
    fn new(n: usize, step: usize) -> Self {
        let ids: Vec<u32> = (0..n).map(|i| (i * step % VOCAB) as u32).collect();
        let indices = EmbeddingIndices::new(&ids, VOCAB).expect("below the vocabulary");
        Rows {
            plan: EmbeddingPlan::new(&indices),
            indices,
            table: data(VOCAB * FEATURES, 1),
            positions: vec![],
            dy: data(n * FEATURES, 2),
            y: vec![f32::NAN; n * FEATURES],
            dtable: vec![0.0; VOCAB * FEATURES],
        }
    }

    fn with_positions(self) -> Self {
        Rows { positions: data(2 * FEATURES, 3), ..self }
    }

    fn copy(&mut self) {
        let s = black_box(self);
        s.indices.forward(&s.table, FEATURES, &mut s.y);
    }

    fn add(&mut self) {
        let s = black_box(self);
        s.indices.forward_with_positions(&s.table, &s.positions, FEATURES, &mut s.y);
    }

    fn copy_twin(&mut self) {
        let s = black_box(self);
        naive::embedding_forward_auto(s.indices.ids(), &s.table, &s.positions, FEATURES, &mut s.y);
    }

    fn sum(&mut self) {
        let s = black_box(self);
        s.plan.backward(&s.dy, FEATURES, &mut s.dtable);
    }

    fn sum_twin(&mut self) {
        let s = black_box(self);
        naive::embedding_backward_auto(s.indices.ids(), &s.dy, FEATURES, &mut s.dtable);
    }

    fn forward(self, run: impl Fn(&mut Rows) + 'static) -> Box<dyn Prepared> {
        prepared(self, run, |s| {
            let mut want = vec![f32::NAN; s.y.len()];
            naive::embedding_forward(s.indices.ids(), &s.table, &s.positions, FEATURES, &mut want);
            close("y", &s.y, &want, 0.0);
        })
    }

    fn backward(self, run: impl Fn(&mut Rows) + 'static) -> Box<dyn Prepared> {
        prepared(self, run, |s| {
            let mut want = vec![f32::NAN; s.dtable.len()];
            naive::embedding_backward(s.indices.ids(), &s.dy, FEATURES, &mut want);
            close("dtable", &s.dtable, &want, 0.0);
        })
    }
}
