//! Matrix products beside the crate `gemm`, in turns within one run, so that a machine with other work to do is as busy for one
//! as for the other: the fastest window of each. No criterion, whose runs come one after another.
//!
//! ```sh
//! cargo bench --bench matmul_gemm [NAME...]           # one thread each; names as printed, or their beginnings
//! cargo bench --bench matmul_gemm -- threads          # one thread against two, without `gemm`
//! ```
//!
//! Names are `<orientation>/<m>x<n>x<k>`: `nn` has both operands as they are, `nt` a right one that is a transpose, `tn` a left
//! one, `tt` both; `packed` is `nn` with the right one packed before, `linear` is `nt` with a bias, `gelu` that with GELU, for
//! which `gemm`'s result goes through the activation of this crate.

mod common;

use std::time::{Duration, Instant};

use hotlanes::activation::Activation;
use hotlanes::matmul::{Epilogue, Mat, MatMut, Packed, matmul, matmul_with};

/// How the operands lie, and what is done besides.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Nn,
    Nt,
    Tn,
    Tt,
    Packed,
    Linear,
    Gelu,
}

use Kind::*;

const KINDS: [(&str, Kind); 7] =
    [("nn", Nn), ("nt", Nt), ("tn", Tn), ("tt", Tt), ("packed", Packed), ("linear", Linear), ("gelu", Gelu)];

/// What a name ends with.
type Size = [usize; 3];

const LARGE: [(Kind, Size); 14] = [
    (Gelu, [2048, 512, 128]),
    (Gelu, [2048, 384, 128]),
    (Linear, [2048, 512, 128]),
    (Linear, [2048, 384, 128]),
    (Nn, [64; 3]),
    (Nn, [128; 3]),
    (Nn, [256; 3]),
    (Nn, [512; 3]),
    (Nn, [1024; 3]),
    (Nt, [512; 3]),
    (Tn, [128, 512, 2048]),
    (Packed, [256; 3]),
    (Packed, [512; 3]),
    (Packed, [1024; 3]),
];

/// A product of one kind and size.
struct Case {
    kind: Kind,
    size: Size,
    a: Vec<f32>,
    b: Vec<f32>,
    bias: Vec<f32>,
    packed: hotlanes::matmul::Packed,
    c: Vec<f32>,
    d: Vec<f32>,
}

impl Case {
    fn new(kind: Kind, size: Size) -> Self {
        let [m, n, k] = size;
        let (a, mut b, bias) = (common::data(m * k, 1), common::data(k * n, 2), common::data(n, 3));
        if kind == Gelu {
            // As layers have them: far from zero the time of an activation may depend on its argument.
            let scale = (3.0 / k as f32).sqrt();
            b.iter_mut().for_each(|w| *w *= scale);
        }
        let mut packed = Packed::new(k, n);
        packed.pack(Mat::new(&b, k, n));
        let nan = vec![f32::NAN; m * n];
        Case { kind, size, a, b, bias, packed, c: nan.clone(), d: nan }
    }

    /// To `c`.
    fn ours(&mut self) {
        let [m, n, k] = self.size;
        let c = MatMut::new(&mut self.c, m, n);
        let a =
            if matches!(self.kind, Tn | Tt) { Mat::new(&self.a, k, m).t() } else { Mat::new(&self.a, m, k) };
        let b = match self.kind {
            Nn | Tn => Mat::new(&self.b, k, n),
            Packed => return matmul(a, &self.packed, c),
            Nt | Tt | Linear | Gelu => Mat::new(&self.b, n, k).t(),
        };
        let mut epilogue = Epilogue::default();
        if matches!(self.kind, Linear | Gelu) {
            epilogue.bias = Some(&self.bias);
        }
        if self.kind == Gelu {
            epilogue.activation = Activation::GeluTanh;
        }
        matmul_with(a, b, c, epilogue);
    }

    /// To `d`.
    fn gemm(&mut self) {
        let [m, n, k] = self.size;
        let (a, b, d) = (&self.a, &self.b, &mut self.d);
        assert!(a.len() == m * k && b.len() == k * n && d.len() == m * n);
        // From one column, and from one row, to the next.
        let (a_col, a_row) = if matches!(self.kind, Tn | Tt) { (m, 1) } else { (1, k) };
        let (b_col, b_row) = if matches!(self.kind, Nn | Tn | Packed) { (1, n) } else { (k, 1) };
        let add = matches!(self.kind, Linear | Gelu);
        if add {
            for row in d.chunks_exact_mut(n) {
                row.copy_from_slice(&self.bias);
            }
        }
        // SAFETY: the strides lay m by k, k by n and m by n values out in slices of these lengths, as was checked, and `d` is
        // borrowed exclusively.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                d.as_mut_ptr(),
                1,
                n as isize,
                add,
                a.as_ptr(),
                a_col as isize,
                a_row as isize,
                b.as_ptr(),
                b_col as isize,
                b_row as isize,
                if add { 1.0f32 } else { 0.0 },
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
        if self.kind == Gelu {
            Activation::GeluTanh.forward_in_place(d);
        }
    }
}

/// The time of each, in turns: the fastest of many windows of about a millisecond.
fn race(mut one: impl FnMut(), mut other: impl FnMut()) -> [Duration; 2] {
    let window = |run: &mut dyn FnMut(), n: u32| {
        let start = Instant::now();
        for _ in 0..n {
            run();
        }
        start.elapsed()
    };
    let (mut best, mut counts) = ([Duration::MAX; 2], [1; 2]);
    let runs: [&mut dyn FnMut(); 2] = [&mut one, &mut other];
    for i in 0..2 {
        window(runs[i], 1);
        let once = window(runs[i], 1).max(Duration::from_nanos(50));
        counts[i] = (Duration::from_millis(1).as_nanos() / once.as_nanos()).clamp(1, 20_000) as u32;
    }
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(250) {
        for i in 0..2 {
            best[i] = best[i].min(window(runs[i], counts[i]) / counts[i]);
        }
    }
    best
}

/// Products of few rows or columns in each orientation, and of few steps.
fn skinny() -> Vec<(Kind, Size)> {
    let mut all = vec![];
    for kind in [Nn, Nt, Tn, Tt] {
        for few in [1, 2, 3, 4, 6, 8, 12, 16] {
            all.extend(
                [[few, 512, 512], [512, few, 512], [few, 2048, 64], [2048, few, 64]].map(|s| (kind, s)),
            );
        }
        all.extend(
            [[2048, 64, 5], [64, 2048, 5], [2048, 1, 5], [512, 512, 5], [1, 100, 300], [100, 1, 300]]
                .map(|s| (kind, s)),
        );
        all.extend(
            [[1, 2048, 2048], [2048, 1, 2048], [16, 16, 16], [8, 64, 64], [64, 8, 64]].map(|s| (kind, s)),
        );
    }
    all
}

fn main() {
    // What cargo passes besides names begins with a dash.
    let names: Vec<String> = std::env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    let threads = names.iter().any(|name| name == "threads");
    let pools = [1, 2].map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build().expect("threads"));
    let mut all = LARGE.to_vec();
    if threads {
        all.extend(
            [[32, 32, 512], [64, 128, 64], [128, 128, 64], [128, 256, 64], [128; 3], [512, 64, 64]]
                .map(|s| (Nn, s)),
        );
    } else {
        all.extend(skinny());
    }
    for (kind, [m, n, k]) in all {
        let kind_name = KINDS.iter().find(|(_, other)| *other == kind).expect("each has a name").0;
        let name = format!("{kind_name}/{m}x{n}x{k}");
        let wanted = |prefix: &String| prefix == "threads" || name.starts_with(prefix.as_str());
        if !names.iter().any(wanted) && !names.is_empty() {
            continue;
        }
        let mut case = Case::new(kind, [m, n, k]);
        pools[0].install(|| {
            case.ours();
            case.gemm();
        });
        common::check(&name, "hotlanes", &case.c, &case.d, 1e-4);
        let [ours, other] = if threads {
            let mut copy = Case::new(kind, [m, n, k]);
            pools[1].install(|| copy.ours());
            common::check(&name, "two threads", &copy.c, &case.c, 0.0);
            race(|| pools[1].install(|| copy.ours()), || pools[0].install(|| case.ours()))
        } else {
            // One pool's thread for both.
            pools[0].install(|| {
                let cell = std::cell::RefCell::new(case);
                race(|| cell.borrow_mut().ours(), || cell.borrow_mut().gemm())
            })
        };
        let flops = |time: Duration| 2.0 * (m * n * k) as f64 / time.as_nanos() as f64;
        let micros = |time: Duration| time.as_nanos() as f64 / 1e3;
        println!(
            "{name:<22} {:>9.2} us {:>6.1} Gflop/s   {} {:>9.2} us   {:>5.2}x",
            micros(ours),
            flops(ours),
            if threads { "one thread" } else { "gemm" },
            micros(other),
            micros(other) / micros(ours),
        );
    }
}
