//! Matrix products: operands as they are, packed on the way or before; of linear layers; and packing.

use hotlanes::activation::Activation;
use hotlanes::matmul::{Epilogue, Mat, MatMut, Packed, matmul, matmul_with};
use hotlanes::naive::{activation as gelu, matmul as naive};
use hotlanes::tuning::{MATMUL_PARALLEL, MATMUL_READING, ProductPath, with_product_path};

use crate::memory::{Buf, Memory};
use crate::run::{Content, Output, Plain, Run, Work, instance, pick};
use crate::sizes::{Size, dims, label, product};
use crate::{Bits, Case, Counted, Element, Threads, Timed};

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "matmul",
        build: |size, m| multiply(size, m, Way::Auto),
        timed: Timed::At {
            report: &[&[256, 256, 256], &[512, 512, 512]],
            full: &[&[1024, 1024, 1024], &[1, 512, 512]],
            bench: &[],
        },
        same_as: None,
        counted: Counted::Not("its paths are counted by themselves"),
        ..DIRECT
    },
    Case { id: "matmul_plain", ..PATH },
    // Both operands where they lie.
    Case {
        id: "matmul_thin",
        kernel: "hotlanes::matmul::thin::Thin",
        build: |size, m| multiply(size, m, Way::Path(ProductPath::Thin)),
        counted: DIRECT.counted,
        threads: Threads::Never("a forced path of small products"),
        ..PATH
    },
    // Few columns: the transpose's product, with rows of the left operand turned to lanes.
    Case {
        id: "matmul_few_columns",
        kernel: "hotlanes::matmul::thin::Thin",
        build: |size, m| multiply(size, m, Way::Auto),
        bits: Bits::In("matmul"),
        counted: Counted::At {
            sizes: [&[32, 1, 16], &[32, 1, 32]],
            elements: product,
            element: "multiply-add",
        },
        ..PATH
    },
    Case {
        id: "matmul_both_packed",
        kernel: "hotlanes::matmul::kernel::LeftPacked",
        build: |size, m| multiply(size, m, Way::Path(ProductPath::BothPacked)),
        counted: DIRECT.counted,
        ..PATH
    },
    Case {
        id: "matmul_right_packed",
        build: |size, m| multiply(size, m, Way::RightPacked),
        covers: &["matmul::matmul", "matmul::Packed::pack"],
        counted: DIRECT.counted,
        ..PATH
    },
    FEW_ROWS,
    Case {
        id: "matmul_few_rows_bf16",
        build: |size, m| multiply(size, m, Way::RightBf16),
        covers: &["matmul::matmul", "matmul::Packed::bf16"],
        same_as: None,
        ..FEW_ROWS
    },
    Case {
        id: "matmul_bf16",
        kernel: "hotlanes::matmul::kernel::LeftPacked",
        build: bf16,
        counted: DIRECT.counted,
        same_as: None,
        twin: false,
        ..PATH
    },
    Case {
        id: "linear",
        threads: DIRECT.threads,
        covers: &["matmul::matmul_with"],
        build: |size, m| multiply(size, m, Way::Linear(Activation::Identity)),
        counted: Counted::Not("the loops of matmul and matmul_gelu"),
        timed: Timed::At { report: &[&[2048, 512, 128]], full: &[&[2048, 384, 128]], bench: &[] },
        same_as: None,
        ..PATH
    },
    Case {
        id: "linear_gelu",
        covers: &["matmul::matmul_with"],
        build: |size, m| multiply(size, m, Way::Linear(Activation::GeluTanh)),
        counted: Counted::Not("the loops of matmul and matmul_gelu"),
        timed: Timed::At { report: &[&[2048, 512, 128]], full: &[&[2048, 384, 128]], bench: &[] },
        same_as: None,
        ..PATH
    },
    // A layer's epilogue, by rows.
    Case {
        id: "matmul_gelu",
        covers: &["matmul::matmul_with"],
        kernel: "hotlanes::matmul::finish::Finish",
        build: |size, m| multiply(size, m, Way::Gelu),
        counted: Counted::At {
            sizes: [&[24, 48, 4], &[48, 48, 4]],
            elements: |size| size[0] * size[1],
            element: "result",
        },
        same_as: None,
        twin: false,
        ..PATH
    },
    Case {
        id: "matmul_accumulate",
        covers: &["matmul::matmul_with"],
        build: |size, m| multiply(size, m, Way::Accumulate),
        counted: Counted::Not("the loops of matmul"),
        same_as: None,
        twin: false,
        ..PATH
    },
    // The left operand a transpose.
    Case {
        id: "linear_weight_grad",
        threads: DIRECT.threads,
        build: |size, m| multiply(size, m, Way::WeightGrad),
        counted: Counted::Not("the loops of matmul_left_packed and matmul_left_beside"),
        timed: Timed::At { report: &[&[128, 512, 2048]], full: &[], bench: &[] },
        same_as: None,
        ..PATH
    },
    Case {
        id: "matmul_left_beside",
        kernel: "hotlanes::matmul::kernel::Transposed",
        build: |size, m| multiply(size, m, Way::WeightGradBy(ProductPath::Plain)),
        counted: DIRECT.counted,
        same_as: Some(("linear_weight_grad", <[usize]>::to_vec)),
        ..PATH
    },
    Case {
        id: "matmul_left_packed",
        kernel: "hotlanes::matmul::kernel::LeftPacked",
        build: |size, m| multiply(size, m, Way::WeightGradBy(ProductPath::BothPacked)),
        counted: DIRECT.counted,
        same_as: Some(("linear_weight_grad", <[usize]>::to_vec)),
        ..PATH
    },
    PACK,
    Case { id: "matmul_pack_transposed", build: |size, m| packing(size, m, true), ..PACK },
    Case {
        id: "matmul_pack_bf16",
        kernel: "hotlanes::matmul::packed::Pack<u16>",
        build: packing_bf16,
        ..PACK
    },
];

/// Sizes are rows, columns and steps.
const DIRECT: Case = Case {
    id: "matmul_plain",
    covers: &["matmul::matmul"],
    kernel: "hotlanes::matmul::kernel::Plain",
    build: |size, m| multiply(size, m, Way::Path(ProductPath::Plain)),
    label,
    bits: Bits::At { sizes: shapes, random: &[(0, 60), (0, 150), (0, 80)] },
    threads: Threads::From {
        below: &[64, 64, MATMUL_PARALLEL / 64 / 64 - 1],
        // By rows, by columns, one half of which is not of whole vectors.
        at: &[&[161, 150, MATMUL_PARALLEL / 161 / 150 + 1], &[100, 401, MATMUL_PARALLEL / 100 / 401 + 1]],
    },
    same_as: Some(("matmul", <[usize]>::to_vec)),
    // A whole number of the tiles of every tier, and enough steps for the tile's loop to outweigh what surrounds it.
    counted: Counted::At {
        sizes: [&[24, 48, 16], &[24, 48, 32]],
        elements: product,
        element: "multiply-add",
    },
    timed: Timed::Not("a path of matmul"),
    twin: true,
    gather: true,
    forced: true,
    scalar_stepped: false,
};

const PATH: Case = Case { threads: Threads::Never("the cuts are those of matmul"), ..DIRECT };

/// A few rows times what was packed before.
const FEW_ROWS: Case = Case {
    id: "matmul_few_rows",
    covers: &["matmul::matmul"],
    kernel: "hotlanes::matmul::reading::Reading",
    build: |size, m| multiply(size, m, Way::RightPacked),
    bits: Bits::At {
        sizes: || {
            let mut all = vec![[1, 1, 1], [2, 16, 0], [4, 17, 3]];
            // On either side of each number of panels that are read together.
            all.extend([[1, 127, 40], [1, 144, 7], [1, 225, 12], [2, 40, 33], [2, 130, 9]]);
            all.extend([[3, 33, 20], [3, 100, 5], [4, 66, 31], [4, 48, 200]]);
            all.into_iter().map(Vec::from).collect()
        },
        random: &[(1, 4), (0, 300), (0, 80)],
    },
    threads: Threads::From {
        below: &[1, 1024, MATMUL_PARALLEL / MATMUL_READING / 1024 / 5 - 1],
        at: &[&[2, 2050, MATMUL_PARALLEL / MATMUL_READING / 2050 / 5 + 1]],
    },
    counted: Counted::At { sizes: [&[4, 64, 16], &[4, 64, 32]], elements: product, element: "multiply-add" },
    ..DIRECT
};

/// Packing a right operand; sizes are steps and columns.
const PACK: Case = Case {
    id: "matmul_pack",
    covers: &["matmul::Packed::pack"],
    kernel: "hotlanes::matmul::packed::Pack<f32>",
    build: |size, m| packing(size, m, false),
    bits: Bits::At {
        sizes: || [[1, 1], [5, 17], [16, 48], [33, 31], [40, 100]].map(Vec::from).to_vec(),
        random: &[(1, 60), (1, 100)],
    },
    threads: Threads::Never("a copy"),
    same_as: None,
    counted: Counted::At { sizes: [&[16, 48], &[32, 48]], elements: product, element: "value" },
    timed: Timed::At { report: &[], full: &[], bench: &[&[512, 512]] },
    twin: false,
    ..DIRECT
};

/// Around a tile; some tiles; around blocks of steps, rows and columns.
fn shapes() -> Vec<Size> {
    let mut all = vec![
        [1, 1, 1],
        [1, 15, 4],
        [2, 16, 0],
        [3, 17, 5],
        [4, 31, 16],
        [5, 32, 17],
        [6, 33, 9],
        [7, 47, 3],
        [8, 48, 7],
        [11, 16, 31],
        [12, 32, 33],
        [13, 18, 8],
        [0, 3, 2],
        [3, 0, 2],
        [40, 1, 20],
        [30, 12, 20],
        [30, 13, 20],
        [24, 20, 9],
        [25, 20, 9],
    ];
    all.extend([
        [25, 65, 21],
        [36, 49, 16],
        [49, 34, 40],
        [3, 20, 256],
        [5, 17, 257],
        [9, 50, 191],
        [8, 48, 192],
    ]);
    all.extend([[17, 65, 193], [37, 129, 64], [36, 129, 64], [37, 128, 64], [73, 20, 10]]);
    all.into_iter().map(Vec::from).collect()
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// As the sizes have it.
    Auto,
    Path(ProductPath),
    RightPacked,
    /// The same, kept as bf16.
    RightBf16,
    /// The right operand a transpose, with a bias.
    Linear(Activation),
    /// An activation alone, on the plain path.
    Gelu,
    /// Onto the result, with a bias and the values before a ReLU kept.
    Accumulate,
    /// The left operand a transpose.
    WeightGrad,
    /// The same, packed or as it lies.
    WeightGradBy(ProductPath),
}

struct Operands {
    a: Buf,
    b: Buf,
    packed: Packed,
    bias: Buf,
    c: Buf,
    before: Buf,
}

fn work([rows, cols, k]: [usize; 3]) -> Work {
    let flops = 2.0 * (rows * cols * k) as f64;
    let sweep = Work::sweep(4 * (rows + cols) * k, 4 * rows * cols, flops);
    Work { items: flops, unit: "Gflop/s", ..sweep }
}

fn multiply(size: &[usize], m: &Memory, way: Way) -> Box<dyn Run> {
    let [rows, cols, k] = dims(size);
    let is_bf16 = way == Way::RightBf16;
    let mut b = m.input(k * cols, 2);
    if is_bf16 {
        b.iter_mut().for_each(|x| *x = u16::from_f32(*x).to_f32());
    }
    let mut packed = if is_bf16 { Packed::bf16(k, cols) } else { Packed::new(k, cols) };
    if is_bf16 || way == Way::RightPacked {
        packed.pack(Mat::new(&b, k, cols));
    }
    let is_onto = way == Way::Accumulate;
    let state = Operands {
        a: m.input(rows * k, 1),
        b,
        packed,
        bias: m.input(cols, 3),
        c: if is_onto { m.input(rows * cols, 4) } else { m.output(rows * cols) },
        before: m.output(if is_onto { rows * cols } else { 0 }),
    };
    instance(
        state,
        work([rows, cols, k]),
        move |s| {
            let Operands { a, b, packed, bias, c, before } = s;
            let c = MatMut::new(c, rows, cols);
            match way {
                Way::Auto => matmul(Mat::new(a, rows, k), Mat::new(b, k, cols), c),
                Way::Path(path) => {
                    with_product_path(path, || matmul(Mat::new(a, rows, k), Mat::new(b, k, cols), c));
                }
                Way::RightPacked | Way::RightBf16 => matmul(Mat::new(a, rows, k), &*packed, c),
                Way::Linear(activation) => {
                    let epilogue = Epilogue { bias: Some(bias), activation, ..Epilogue::default() };
                    matmul_with(Mat::new(a, rows, k), Mat::new(b, cols, k).t(), c, epilogue);
                }
                Way::Gelu => with_product_path(ProductPath::Plain, || {
                    let epilogue = Epilogue { activation: Activation::GeluTanh, ..Epilogue::default() };
                    matmul_with(Mat::new(a, rows, k), Mat::new(b, k, cols), c, epilogue);
                }),
                Way::Accumulate => {
                    let epilogue = Epilogue {
                        accumulate: true,
                        bias: Some(bias),
                        activation: Activation::Relu,
                        pre_activation: Some(MatMut::new(before, rows, cols)),
                    };
                    matmul_with(Mat::new(a, rows, k), Mat::new(b, k, cols), c, epilogue);
                }
                Way::WeightGrad => matmul(Mat::new(a, k, rows).t(), Mat::new(b, k, cols), c),
                Way::WeightGradBy(path) => with_product_path(path, || {
                    matmul(Mat::new(a, k, rows).t(), Mat::new(b, k, cols), c);
                }),
            }
        },
        move |s, which| plain(s, [rows, cols, k], way, which),
        |s| vec![Output::new("c", &mut s.c, 1e-4), Output::new("before", &mut s.before, 1e-4)],
    )
}

fn plain(s: &mut Operands, [rows, cols, k]: [usize; 3], way: Way, which: Plain) {
    let Operands { a, b, bias, c, before, .. } = s;
    if rows * cols * k == 0 {
        return c.fill(0.0);
    }
    match way {
        Way::Auto | Way::Path(_) | Way::RightPacked | Way::RightBf16 => {
            pick!(which, naive::matmul, naive::matmul_auto)(a, b, k, cols, c);
        }
        Way::Linear(activation) => {
            pick!(which, naive::linear, naive::linear_auto)(a, b, bias, k, c);
            if activation != Activation::Identity {
                let x = c.to_vec();
                pick!(which, gelu::activation_forward, gelu::activation_forward_auto)(activation, &x, c);
            }
        }
        Way::Gelu => {
            naive::matmul(a, b, k, cols, c);
            let x = c.to_vec();
            gelu::activation_forward(Activation::GeluTanh, &x, c);
        }
        Way::Accumulate => {
            let start = c.to_vec();
            naive::matmul(a, b, k, cols, c);
            for (i, c) in c.iter_mut().enumerate() {
                before[i] = *c + start[i] + bias[i % cols];
                *c = before[i].max(0.0);
            }
        }
        Way::WeightGrad | Way::WeightGradBy(_) => {
            pick!(which, naive::weight_grad, naive::weight_grad_auto)(a, b, rows, cols, c);
        }
    }
}

fn bf16(size: &[usize], m: &Memory) -> Box<dyn Run> {
    let [rows, cols, k] = dims(size);
    instance(
        (m.bf16(rows * k, 1), m.bf16(k * cols, 2), m.output(rows * cols)),
        work([rows, cols, k]),
        move |(a, b, c): &mut (Buf<u16>, Buf<u16>, Buf)| {
            matmul(Mat::new(a, rows, k), Mat::new(b, k, cols), MatMut::new(c, rows, cols));
        },
        move |(a, b, c), _| {
            let [a, b] = [a, b].map(|x| x.iter().map(|x| x.to_f32()).collect::<Vec<_>>());
            if k > 0 { naive::matmul(&a, &b, k, cols, c) } else { c.fill(0.0) }
        },
        |(_, _, c)| vec![Output::new("c", c, 1e-4)],
    )
}

/// What was packed shows when it is multiplied by one: `k` rows of the identity.
impl Content for Packed {
    fn values(&self) -> Vec<f32> {
        let (k, cols) = (self.rows(), self.cols());
        let one: Vec<f32> = (0..k * k).map(|i| if i % (k + 1) == 0 { 1.0 } else { 0.0 }).collect();
        let mut c = vec![f32::NAN; k * cols];
        matmul(Mat::new(&one, k, k), self, MatMut::new(&mut c, k, cols));
        c
    }

    fn bits(&self) -> Vec<u32> {
        Content::values(self).iter().map(|x| x.bits()).collect()
    }

    fn reset(&mut self) {
        let (k, cols) = (self.rows(), self.cols());
        self.pack(Mat::new(&vec![f32::NAN; k * cols], k, cols));
    }
}

fn packing(size: &[usize], m: &Memory, is_transposed: bool) -> Box<dyn Run> {
    let [k, cols] = dims(size);
    instance(
        (m.ordinary(k * cols, 1), Packed::new(k, cols), vec![0.0; k * cols]),
        Work::sweep(4 * k * cols, 4 * k * cols, 0.0),
        move |(b, packed, _): &mut (Buf, Packed, Vec<f32>)| {
            packed.pack(if is_transposed { Mat::new(b, cols, k).t() } else { Mat::new(b, k, cols) });
        },
        move |(b, packed, turned), _| {
            for (i, x) in turned.iter_mut().enumerate() {
                *x = if is_transposed { b[i % cols * k + i / cols] } else { b[i] };
            }
            packed.pack(Mat::new(turned, k, cols));
        },
        |(_, packed, _)| vec![Output::new("packed", packed, 0.0)],
    )
}

fn packing_bf16(size: &[usize], m: &Memory) -> Box<dyn Run> {
    let [k, cols] = dims(size);
    let ordinary: Vec<u16> = m.ordinary(k * cols, 1).iter().map(|x| u16::from_f32(*x)).collect();
    instance(
        (m.copy(&ordinary), Packed::new(k, cols)),
        Work::sweep(2 * k * cols, 4 * k * cols, 0.0),
        move |(b, packed): &mut (Buf<u16>, Packed)| packed.pack(Mat::new(b, k, cols)),
        move |(b, packed), _| {
            let wide: Vec<f32> = b.iter().map(|x| x.to_f32()).collect();
            packed.pack(Mat::new(&wide, k, cols));
        },
        |(_, packed)| vec![Output::new("packed", packed, 0.0)],
    )
}
