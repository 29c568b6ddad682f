//! Embedding, forward and the dense gradient.

use hotlanes::embedding::{EmbeddingIndices, EmbeddingPlan};
use hotlanes::naive::embedding as naive;

use super::{Case, Output, Plain, Row, Work};
use crate::report::buffer::{Buffer, mix};

/// The report's rows: the size is the table's, and the number of positions.
pub fn rows() -> Vec<Row> {
    let mut all = vec![];
    for (kernel, backward) in [("embedding_fwd", false), ("embedding_bwd", true)] {
        for (default, vocab, features, n) in
            [(true, 1000, 64, 4096), (true, 50_257, 256, 16_384), (false, 50_257, 768, 8192)]
        {
            let size = format!("{vocab}x{features}n{n}");
            all.push(Row::new(kernel, size, default, move || Rows::new(backward, vocab, features, n)));
        }
    }
    all
}

/// Rows of a table by id, or the gradient of the table from that of the rows.
pub struct Rows {
    backward: bool,
    features: usize,
    indices: EmbeddingIndices,
    plan: EmbeddingPlan,
    from: Buffer,
    to: Buffer,
}

impl Rows {
    /// `n` positions with an id of `vocab` each, the same ones each time.
    pub fn new(backward: bool, vocab: usize, features: usize, n: usize) -> Self {
        let ids: Vec<u32> = (0..n as u32).map(|i| mix(i ^ 0x1d5) % vocab as u32).collect();
        let indices = EmbeddingIndices::new(&ids, vocab).expect("below the vocabulary");
        let (table, rows) = (vocab * features, n * features);
        let (from, to) = if backward { (rows, table) } else { (table, rows) };
        Rows {
            backward,
            features,
            plan: EmbeddingPlan::new(&indices),
            indices,
            from: Buffer::random(from, 1),
            to: Buffer::zeros(to),
        }
    }
}

impl Case for Rows {
    fn work(&self) -> Work {
        let rows = 4.0 * (self.indices.ids().len() * self.features) as f64;
        // The rows that some position names.
        let distinct = 4.0 * (self.plan.distinct().len() * self.features) as f64;
        // A dense gradient is zeros, which the sums are then added to.
        let written = if self.backward { 4.0 * self.to.len() as f64 } else { rows };
        let read = if self.backward { rows } else { distinct };
        Work {
            // As in the PyTorch script: a row read and a row written for each position.
            items: 2.0 * rows,
            unit: "GB/s",
            read,
            written,
            in_place: false,
            repeated: 0.0,
            repeated_set: 0,
            flops: if self.backward { rows / 4.0 } else { 0.0 },
            roots: 0.0,
            working_set: (read + written) as usize,
        }
    }

    fn reset(&mut self) {
        self.to.fill(f32::NAN);
    }

    fn run(&mut self) {
        let Rows { features, indices, plan, from, to, .. } = self;
        if self.backward {
            // What PyTorch's call does: zeros, ids that it has not seen before, sums.
            to.fill(0.0);
            plan.rebuild(indices);
            plan.backward(from, *features, to);
        } else {
            indices.forward(from, *features, to);
        }
    }

    fn run_plain(&mut self, which: Plain) {
        let naive = which == Plain::Naive;
        let Rows { features, indices, from, to, .. } = self;
        if self.backward {
            let f = if naive { naive::embedding_backward } else { naive::embedding_backward_auto };
            f(indices.ids(), from, *features, to);
        } else {
            let f = if naive { naive::embedding_forward } else { naive::embedding_forward_auto };
            f(indices.ids(), from, &[], *features, to);
        }
    }

    fn outputs(&self) -> Vec<Output<'_>> {
        vec![Output::new(if self.backward { "dtable" } else { "y" }, &self.to, 0.0)]
    }

    fn plain_outputs(&self) -> Vec<Output<'_>> {
        self.outputs()
    }
}
