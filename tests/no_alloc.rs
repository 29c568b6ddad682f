//! No kernel allocates: every one is called once, so that CPU, environment and rayon have been looked at, and then again
//! under an allocator that counts.

use counting::calls_here;
use hotlanes::activation::Activation;
use hotlanes::adamw::{AdamW, AdamWConfig, AdamWTensor};
use hotlanes::matmul::{Epilogue, Mat, MatMut, Packed, matmul, matmul_with};
use hotlanes::norm::LayerNorm;
use hotlanes::sparse::{Csr, Masked};
use hotlanes::tuning::with_gather;
use hotlanes::{Tier, convert, limits, with_tier};

#[path = "common/counting.rs"]
mod counting;
#[path = "no_alloc/layers.rs"]
mod layers;
#[path = "no_alloc/steps.rs"]
mod steps;

/// A kernel with its data, ready to be called again and again.
type Call = Box<dyn FnMut()>;

/// A kernel's line: its name, and what makes its data and then calls it.
type Line = (&'static str, fn() -> Call);

/// Values that are ordinary to every kernel.
fn data(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i % 13) as f32 / 8.0 - 0.7).collect()
}

/// Of every kernel one line, and one for each path that has scratch of its own; more are in [`layers`] and [`steps`].
const KERNELS: &[Line] = &[
    ("activation", || activation(Activation::GeluErf)),
    ("activation backward", || activation_backward(Activation::GeluErf)),
    ("adamw", || adamw(false, false)),
    ("adamw amsgrad", || adamw(true, false)),
    ("adamw many", || adamw(false, true)),
    ("layernorm forward", || layernorm(100, 33, false)),
    ("layernorm backward", || layernorm(100, 33, true)),
    ("layernorm backward, chunks of rows", || layernorm(17, 300, true)),
    ("sparse matvec", || sparse(Sparse::Matvec)),
    ("sparse matvec backward", || sparse(Sparse::MatvecBackward)),
    ("sparse matvec backward sgd", || sparse(Sparse::MatvecBackwardSgd)),
    ("sparse masked", || sparse(Sparse::Masked)),
    ("sparse matmul", || sparse(Sparse::Matmul)),
    ("sparse matmul backward", || sparse(Sparse::MatmulBackward)),
    ("sparse matmul backward sgd", || sparse(Sparse::MatmulBackwardSgd)),
    ("matmul", || product(13, 50, 300, false, false)),
    ("matmul, left operand packed in part", || product(40, 50, 300, true, false)),
    ("matmul, left operand packed", || product(50, 150, 300, false, true)),
    ("matmul, packed before", packed_product),
    ("matmul pack", pack),
    ("convert u8_to_f32", || {
        let (src, mut dst) = (vec![7; 1000], data(1000));
        Box::new(move || convert::u8_to_f32(&src, 0.5, &mut dst))
    }),
    ("convert scale", || {
        let mut x = data(1000);
        Box::new(move || convert::scale(&mut x, 0.5))
    }),
    ("limits read", || {
        let x = data(1000);
        Box::new(move || assert!(limits::read(&x).is_finite()))
    }),
    ("limits copy", || {
        let (src, mut dst) = (data(1000), data(1000));
        Box::new(move || limits::copy(&src, &mut dst))
    }),
    ("limits update", || {
        let mut x = data(1000);
        Box::new(move || limits::update(&mut x, 0.5))
    }),
    ("limits fma_chain", || Box::new(|| assert!(limits::fma_chain(10).is_finite()))),
    ("limits sqrt_chain", || Box::new(|| assert!(limits::sqrt_chain(10).is_finite()))),
];

fn adamw(amsgrad: bool, many: bool) -> Call {
    let adamw = AdamW::new(AdamWConfig::default()).unwrap();
    let (mut param, grad) = (data(1000), data(1000));
    let [mut m, mut v, mut v_max] = [(); 3].map(|()| vec![0.0; 1000]);
    Box::new(move || {
        let v_max = amsgrad.then_some(&mut v_max[..]);
        let tensor = AdamWTensor { param: &mut param, grad: &grad, m: &mut m, v: &mut v, v_max };
        let step = adamw.at(1).unwrap();
        if many {
            step.update_many(&mut [tensor]);
        } else {
            step.update(tensor);
        }
    })
}

fn layernorm(features: usize, rows: usize, backward: bool) -> Call {
    let norm = LayerNorm::new(features, 1e-5).unwrap();
    let (x, dy, gamma) = (data(rows * features), data(rows * features), data(features));
    let (mut out, [mut mean, mut rstd]) = (x.clone(), [(); 2].map(|()| vec![1.0; rows]));
    let [mut dgamma, mut dbeta] = [(); 2].map(|()| vec![0.0; features]);
    let mut scratch = vec![0.0; norm.scratch_len(rows)];
    Box::new(move || {
        if backward {
            norm.backward(&dy, &x, &gamma, &mean, &rstd, &mut out, &mut dgamma, &mut dbeta, &mut scratch);
        } else {
            norm.forward(&x, &gamma, &gamma, &mut out, &mut mean, &mut rstd);
        }
    })
}

#[derive(Clone, Copy)]
enum Sparse {
    Matvec,
    MatvecBackward,
    MatvecBackwardSgd,
    Masked,
    Matmul,
    MatmulBackward,
    MatmulBackwardSgd,
}

/// Thirty rows over forty columns, every third connected; batches of twenty.
fn sparse(what: Sparse) -> Call {
    let (rows, cols, batch, each) = (30, 40, 20, 13);
    let indptr = (0..=rows).map(|r| r * each).collect();
    let indices: Vec<u32> = (0..rows).flat_map(|_| (0..each as u32).map(|i| 3 * i)).collect();
    let mut csr = Csr::new(rows, cols, indptr, indices, data(rows * each)).unwrap();
    let (plan, mut masked) = (csr.plan(), Masked::new(&csr));
    let (x, dy) = (data(cols * batch), data(rows * batch));
    let (mut y, mut dx, mut dvalues) = (dy.clone(), x.clone(), data(rows * each));
    let lr = 1e-6;
    Box::new(move || match what {
        Sparse::Matvec => csr.matvec(&x[..cols], &mut y[..rows]),
        Sparse::MatvecBackward => {
            csr.matvec_backward(&x[..cols], &dy[..rows], Some(&mut dx[..cols]), &mut dvalues)
        }
        Sparse::MatvecBackwardSgd => {
            csr.matvec_backward_sgd(&x[..cols], &dy[..rows], lr, Some(&mut dx[..cols])).unwrap()
        }
        Sparse::Masked => {
            masked.matvec(&x[..cols], &mut y[..rows]);
            masked.matvec_backward_sgd(&x[..cols], &dy[..rows], lr, Some(&mut dx[..cols])).unwrap();
            masked.matvec_backward_sgd_relu(&x[..cols], &dy[..rows], lr, &mut dx[..cols]).unwrap();
        }
        Sparse::Matmul => csr.matmul(&x, batch, &mut y),
        Sparse::MatmulBackward => {
            plan.matmul_backward(&csr, &x, &dy, batch, Some(&mut dx), Some(&mut dvalues))
        }
        Sparse::MatmulBackwardSgd => {
            plan.matmul_backward_sgd(&mut csr, &x, &dy, batch, lr, Some(&mut dx)).unwrap()
        }
    })
}

/// A product with everything that an epilogue has, its left or right operand a transpose.
fn product(m: usize, n: usize, k: usize, a_turned: bool, b_turned: bool) -> Call {
    let (a, b, bias, mut c) = (data(m * k), data(k * n), data(n), data(m * n));
    Box::new(move || {
        let a = if a_turned { Mat::new(&a, k, m).t() } else { Mat::new(&a, m, k) };
        let b = if b_turned { Mat::new(&b, n, k).t() } else { Mat::new(&b, k, n) };
        let activation = Activation::Silu;
        let epilogue = Epilogue { accumulate: true, bias: Some(&bias), activation, ..Epilogue::default() };
        matmul_with(a, b, MatMut::new(&mut c, m, n), epilogue);
    })
}

fn packed_product() -> Call {
    let (a, b, mut c) = (data(13 * 30), data(30 * 50), data(13 * 50));
    let mut packed = Packed::new(30, 50);
    packed.pack(Mat::new(&b, 30, 50));
    Box::new(move || matmul(Mat::new(&a, 13, 30), &packed, MatMut::new(&mut c, 13, 50)))
}

fn pack() -> Call {
    let b = data(30 * 50);
    let mut packed = Packed::new(30, 50);
    Box::new(move || packed.pack(Mat::new(&b, 50, 30).t()))
}

fn activation(which: Activation) -> Call {
    let (x, mut y) = (data(1000), data(1000));
    Box::new(move || which.forward(&x, &mut y))
}

fn activation_backward(which: Activation) -> Call {
    let (x, dy, mut dx) = (data(1000), data(1000), data(1000));
    Box::new(move || which.backward(&dy, &x, &mut dx))
}

/// The kernels that went to the allocator in their second call, on any tier.
fn allocating() -> Vec<String> {
    let mut found = vec![];
    for &(name, prepare) in KERNELS.iter().chain(layers::KERNELS).chain(steps::KERNELS) {
        for tier in Tier::available() {
            for gather in [false, true] {
                let mut call = prepare();
                let mut counts = [0; 2];
                with_tier(tier, || {
                    with_gather(gather, || counts = std::array::from_fn(|_| calls_here(&mut call)));
                })
                .expect("an available tier");
                if counts[1] > 0 {
                    found.push(format!("{name} on {tier}: {} times", counts[1]));
                }
            }
        }
    }
    found
}

#[test]
fn no_kernel_allocates() {
    // The counter counts: one buffer is one call, and its end another.
    assert_eq!(calls_here(|| drop(std::hint::black_box(vec![1.0f32; 100]))), 2);
    // On a pool of one thread nothing is cut, whatever its size.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(pool.install(allocating), [""; 0]);
}
