//! Dropout, whose backward is the same loop.

use hotlanes::dropout::Dropout;
use hotlanes::naive::dropout as naive;

use super::{Case, Output, Plain, Row, Work};
use crate::report::buffer::Buffer;

/// The report's rows.
pub fn rows() -> Vec<Row> {
    let sizes = [(true, 65_536), (true, 1 << 20), (false, 1 << 25)];
    sizes.map(|(default, n)| Row::new("dropout", n, default, move || Elements::new(n))).into()
}

const SEED: u64 = 0x0123_4567_89AB_CDEF;

/// Elements, and what is left of them.
pub struct Elements {
    dropout: Dropout,
    x: Buffer,
    y: Buffer,
}

impl Elements {
    /// `n` elements.
    pub fn new(n: usize) -> Self {
        let dropout = Dropout::new(0.1, SEED).expect("in range");
        Elements { dropout, x: Buffer::random(n, 1), y: Buffer::zeros(n) }
    }
}

impl Case for Elements {
    fn work(&self) -> Work {
        let bytes = 4 * self.x.len();
        Work {
            items: 2.0 * bytes as f64,
            unit: "GB/s",
            read: bytes as f64,
            written: bytes as f64,
            in_place: false,
            repeated: 0.0,
            repeated_set: 0,
            // Of two elements: twenty rounds of three operations on integers, twelve additions of keys, the masks. Each takes
            // the place of a fused multiply-add, which is two.
            flops: self.x.len() as f64 * (20.0 * 3.0 + 12.0 + 2.0 * 5.0),
            roots: 0.0,
            working_set: 2 * bytes,
        }
    }

    fn reset(&mut self) {
        self.y.fill(f32::NAN);
    }

    fn run(&mut self) {
        self.dropout.forward(&self.x, &mut self.y, 0);
    }

    fn run_plain(&mut self, which: Plain) {
        let f = if which == Plain::Naive { naive::dropout } else { naive::dropout_auto };
        let keep = (self.dropout.keep_probability() * (1u64 << 31) as f64) as u32;
        f(&self.x, keep, self.dropout.scale(), SEED, &mut self.y);
    }

    fn outputs(&self) -> Vec<Output<'_>> {
        vec![Output::new("y", &self.y, 0.0)]
    }

    fn plain_outputs(&self) -> Vec<Output<'_>> {
        self.outputs()
    }
}
