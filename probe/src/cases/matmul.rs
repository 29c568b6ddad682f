//! Matrix products: operands as they are, the left one packed, the right one packed before; and packing.

use std::hint::black_box;

use hotlanes::matmul::{Mat, MatMut, Packed, matmul};
use hotlanes::naive::matmul as plain;

use crate::check::{close, data, prepared};
use crate::{Case, Prepared};

/// Rows: a whole number of the tiles of every tier.
const ROWS: usize = 12;
/// Columns: as many as the widest tile has.
const COLS: usize = 32;
/// The operands as they are, by steps.
pub(super) const DIRECT: Case = Case {
    name: "matmul",
    kernel: "hotlanes::matmul::kernel::Product<f32>",
    sizes: [4, 8],
    elements_per_size: ROWS * COLS,
    element: "multiply-add",
    gather: true,
    forced: true,
    prepare: |k| product(ROWS, COLS, k, Way::Plain),
    twin: Some(|k| twin(ROWS, COLS, k)),
};

/// The left operand a transpose: packed, a few rows at a time.
pub(super) const LEFT_PACKED: Case = Case {
    name: "matmul_left_packed",
    kernel: "hotlanes::matmul::kernel::LeftPacked<f32, 576, 2>",
    prepare: |k| product(ROWS, COLS, k, Way::Transposed),
    twin: Some(|k| twin_transposed(ROWS, COLS, k)),
    ..DIRECT
};

/// The right operand packed before.
pub(super) const RIGHT_PACKED: Case =
    Case { name: "matmul_right_packed", prepare: |k| product(ROWS, COLS, k, Way::Packed), ..DIRECT };

/// Packing a right operand, by rows.
pub(super) const PACK: Case = Case {
    name: "matmul_pack",
    kernel: "hotlanes::matmul::Pack<f32>",
    sizes: [16, 32],
    elements_per_size: COLS,
    element: "value",
    prepare: |k| packing(k, COLS, false),
    twin: None,
    ..DIRECT
};

/// Packing a right operand that is a transpose.
pub(super) const PACK_TRANSPOSED: Case =
    Case { name: "matmul_pack_transposed", prepare: |k| packing(k, COLS, true), ..PACK };

/// How the operands lie.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// Both as they are.
    Plain,
    /// The left one is a transpose.
    Transposed,
    /// The right one was packed before.
    Packed,
}

/// Operands, and room for the result.
struct Operands {
    rows: usize,
    cols: usize,
    k: usize,
    a: Vec<f32>,
    b: Vec<f32>,
    packed: Packed,
    c: Vec<f32>,
}

impl Operands {
    fn new(rows: usize, cols: usize, k: usize) -> Self {
        let b = data(k * cols, 2);
        let mut packed = Packed::new(k, cols);
        packed.pack(Mat::new(&b, k, cols));
        Operands { rows, cols, k, a: data(rows * k, 1), b, packed, c: vec![f32::NAN; rows * cols] }
    }

    /// The plain loop's result on the same operands.
    fn plain(&self, transposed: bool) -> Vec<f32> {
        let Operands { rows, cols, k, a, b, .. } = self;
        let mut want = vec![f32::NAN; rows * cols];
        if transposed {
            plain::weight_grad(a, b, *rows, *cols, &mut want);
        } else {
            plain::matmul(a, b, *k, *cols, &mut want);
        }
        want
    }
}

fn product(rows: usize, cols: usize, k: usize, way: Way) -> Box<dyn Prepared> {
    prepared(
        Operands::new(rows, cols, k),
        move |s| {
            let Operands { rows, cols, k, a, b, packed, c } = black_box(s);
            let (rows, cols, k) = (*rows, *cols, *k);
            let c = MatMut::new(c, rows, cols);
            match way {
                Way::Plain => matmul(Mat::new(a, rows, k), Mat::new(b, k, cols), c),
                Way::Transposed => matmul(Mat::new(a, k, rows).t(), Mat::new(b, k, cols), c),
                Way::Packed => matmul(Mat::new(a, rows, k), &*packed, c),
            }
        },
        move |s| close("c", &s.c, &s.plain(way == Way::Transposed), 1e-5),
    )
}

fn twin(rows: usize, cols: usize, k: usize) -> Box<dyn Prepared> {
    prepared(
        Operands::new(rows, cols, k),
        |s| {
            let Operands { cols, k, a, b, c, .. } = black_box(s);
            plain::matmul_auto(a, b, *k, *cols, c);
        },
        |s| close("c", &s.c, &s.plain(false), 1e-5),
    )
}

fn twin_transposed(rows: usize, cols: usize, k: usize) -> Box<dyn Prepared> {
    prepared(
        Operands::new(rows, cols, k),
        |s| {
            let Operands { rows, cols, a, b, c, .. } = black_box(s);
            plain::weight_grad_auto(a, b, *rows, *cols, c);
        },
        |s| close("c", &s.c, &s.plain(true), 1e-5),
    )
}

/// What was packed shows when it is multiplied by one: `k` rows of the identity.
fn packing(k: usize, cols: usize, transposed: bool) -> Box<dyn Prepared> {
    prepared(
        (data(k * cols, 1), Packed::new(k, cols)),
        move |s| {
            let (b, packed) = black_box(s);
            packed.pack(if transposed { Mat::new(b, cols, k).t() } else { Mat::new(b, k, cols) });
        },
        move |(b, packed)| {
            let one: Vec<f32> = (0..k * k).map(|i| if i % (k + 1) == 0 { 1.0 } else { 0.0 }).collect();
            let mut got = vec![f32::NAN; k * cols];
            matmul(Mat::new(&one, k, k), packed, MatMut::new(&mut got, k, cols));
            let at = |i: usize| if transposed { b[i % cols * k + i / cols] } else { b[i] };
            let want: Vec<f32> = (0..k * cols).map(at).collect();
            close("packed", &got, &want, 0.0);
        },
    )
}
