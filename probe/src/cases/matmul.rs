//! Matrix products: operands as they are, the left one packed, the right one packed before; and packing.

use std::hint::black_box;

use hotlanes::activation::Activation;
use hotlanes::bf16;
use hotlanes::matmul::{Epilogue, Mat, MatMut, Packed, matmul, matmul_with};
use hotlanes::naive::matmul as plain;
use hotlanes::tuning::{ProductPath, with_product_path};

use crate::check::{close, data, prepared};
use crate::{Case, Prepared};

/// Rows: a whole number of the tiles of every tier.
const ROWS: usize = 24;
/// Columns: as many as the widest tile has.
const COLS: usize = 48;
/// Rows of one column.
const TALL: usize = 32;
/// The operands as they are, by steps.
pub(super) const DIRECT: Case = Case {
    name: "matmul",
    kernel: "hotlanes::matmul::kernel::Plain",
    // Enough for the tile's loop to outweigh what surrounds it.
    sizes: [16, 32],
    elements_per_size: ROWS * COLS,
    element: "multiply-add",
    gather: true,
    forced: true,
    prepare: |k| product(ROWS, COLS, k, Way::Plain),
    twin: Some(|k| twin(ROWS, COLS, k)),
};

/// Both operands where they lie.
pub(super) const THIN: Case = Case {
    name: "matmul_thin",
    kernel: "hotlanes::matmul::thin::Thin",
    prepare: |k| product(ROWS, COLS, k, Way::Thin),
    ..DIRECT
};

/// Few columns: the transpose's product, with rows of the left operand turned to lanes.
pub(super) const FEW_COLUMNS: Case = Case {
    name: "matmul_few_columns",
    sizes: [16, 32],
    elements_per_size: TALL,
    prepare: |k| product(TALL, 1, k, Way::Thin),
    twin: Some(|k| twin(TALL, 1, k)),
    ..THIN
};

/// The left operand a transpose.
pub(super) const LEFT_PACKED: Case = Case {
    name: "matmul_left_packed",
    kernel: "hotlanes::matmul::kernel::LeftPacked",
    prepare: |k| product(ROWS, COLS, k, Way::Transposed),
    twin: Some(|k| twin_transposed(ROWS, COLS, k)),
    ..DIRECT
};

/// Both packed.
pub(super) const BOTH_PACKED: Case = Case {
    name: "matmul_both_packed",
    kernel: "hotlanes::matmul::kernel::LeftPacked",
    prepare: |k| product(ROWS, COLS, k, Way::BothPacked),
    ..DIRECT
};

/// Operands of bf16.
pub(super) const BF16: Case = Case {
    name: "matmul_bf16",
    kernel: "hotlanes::matmul::kernel::LeftPacked",
    prepare: |k| product(ROWS, COLS, k, Way::Bf16),
    twin: None,
    ..DIRECT
};

/// A layer's epilogue, by rows.
pub(super) const GELU: Case = Case {
    name: "matmul_gelu",
    kernel: "hotlanes::matmul::finish::Finish",
    sizes: [24, 48],
    elements_per_size: COLS,
    element: "result",
    prepare: |rows| product(rows, COLS, 4, Way::Gelu),
    twin: None,
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

/// Packing a right operand of bf16.
pub(super) const PACK_BF16: Case = Case {
    name: "matmul_pack_bf16",
    kernel: "hotlanes::matmul::Pack<u16>",
    prepare: |k| packing_bf16(k, COLS),
    ..PACK
};

/// How the operands lie.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// Both as they are.
    Plain,
    /// The same, read where they lie.
    Thin,
    /// The same, with an activation.
    Gelu,
    /// Both packed.
    BothPacked,
    /// The same in bf16.
    Bf16,
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
    a16: Vec<u16>,
    b16: Vec<u16>,
    c: Vec<f32>,
}

impl Operands {
    fn new(rows: usize, cols: usize, k: usize) -> Self {
        let (a, b) = (data(rows * k, 1), data(k * cols, 2));
        let mut packed = Packed::new(k, cols);
        packed.pack(Mat::new(&b, k, cols));
        let (mut a16, mut b16) = (vec![0; a.len()], vec![0; b.len()]);
        bf16::from_f32(&a, &mut a16);
        bf16::from_f32(&b, &mut b16);
        Operands { rows, cols, k, a, b, packed, a16, b16, c: vec![f32::NAN; rows * cols] }
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
            let Operands { rows, cols, k, a, b, packed, a16, b16, c } = black_box(s);
            let (rows, cols, k) = (*rows, *cols, *k);
            let c = MatMut::new(c, rows, cols);
            match way {
                Way::Plain => with_product_path(ProductPath::Plain, || {
                    matmul(Mat::new(a, rows, k), Mat::new(b, k, cols), c)
                }),
                Way::Thin => matmul(Mat::new(a, rows, k), Mat::new(b, k, cols), c),
                Way::BothPacked => with_product_path(ProductPath::BothPacked, || {
                    matmul(Mat::new(a, rows, k), Mat::new(b, k, cols), c)
                }),
                Way::Bf16 => matmul(Mat::new(a16, rows, k), Mat::new(b16, k, cols), c),
                Way::Gelu => with_product_path(ProductPath::Plain, || {
                    let epilogue = Epilogue { activation: Activation::GeluTanh, ..Epilogue::default() };
                    matmul_with(Mat::new(a, rows, k), Mat::new(b, k, cols), c, epilogue)
                }),
                Way::Transposed => with_product_path(ProductPath::BothPacked, || {
                    matmul(Mat::new(a, k, rows).t(), Mat::new(b, k, cols), c)
                }),
                Way::Packed => matmul(Mat::new(a, rows, k), &*packed, c),
            }
        },
        move |s| {
            let tolerance = if way == Way::Bf16 { 2e-2 } else { 1e-5 };
            let mut want = s.plain(way == Way::Transposed);
            if way == Way::Gelu {
                Activation::GeluTanh.forward_in_place(&mut want);
            }
            close("c", &s.c, &want, tolerance)
        },
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

fn packing_bf16(k: usize, cols: usize) -> Box<dyn Prepared> {
    let mut b = vec![0; k * cols];
    bf16::from_f32(&data(k * cols, 1), &mut b);
    prepared(
        (b, Packed::new(k, cols)),
        move |s| {
            let (b, packed) = black_box(s);
            packed.pack(Mat::new(b, k, cols));
        },
        move |(b, packed)| {
            let one: Vec<f32> = (0..k * k).map(|i| if i % (k + 1) == 0 { 1.0 } else { 0.0 }).collect();
            let (mut got, mut want) = (vec![f32::NAN; k * cols], vec![f32::NAN; k * cols]);
            matmul(Mat::new(&one, k, k), packed, MatMut::new(&mut got, k, cols));
            bf16::to_f32(b, &mut want);
            close("packed", &got, &want, 0.0);
        },
    )
}
