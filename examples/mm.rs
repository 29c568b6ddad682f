use hotlanes::matmul::*;
use std::time::Instant;
fn time(mut f: impl FnMut()) -> f64 {
    f();
    let mut best = f64::MAX;
    let end = Instant::now();
    while end.elapsed().as_secs_f64() < 0.4 {
        let t = Instant::now();
        f();
        best = best.min(t.elapsed().as_secs_f64());
    }
    best
}
fn main() {
    let mut seed = 1u32;
    let mut rnd = |n: usize| -> Vec<f32> {
        (0..n)
            .map(|_| {
                seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
                (seed >> 8) as f32 / 8388608.0 - 1.0
            })
            .collect()
    };
    let shapes: Vec<(usize, usize, usize)> = if std::env::args().nth(1).is_some() {
        vec![(256, 256, 256), (512, 512, 512), (1024, 1024, 1024), (2048, 512, 128), (128, 512, 2048)]
    } else {
        vec![
            (128, 128, 128),
            (256, 256, 256),
            (512, 512, 512),
            (1024, 1024, 1024),
            (2048, 512, 128),
            (2048, 384, 128),
            (2048, 128, 512),
            (128, 512, 2048),
            (1, 512, 512),
            (4, 512, 512),
            (512, 1, 512),
            (512, 4, 512),
            (2048, 64, 5),
            (16, 16, 16),
            (32, 32, 32),
            (8, 1024, 1024),
        ]
    };
    for (m, n, k) in shapes {
        let (a, b) = (rnd(m * k), rnd(k * n));
        let mut c = vec![0.0; m * n];
        let mut d = vec![0.0; m * n];
        let (at, bt) = {
            let mut at = vec![0.0; m * k];
            for i in 0..m {
                for p in 0..k {
                    at[p * m + i] = a[i * k + p];
                }
            }
            let mut bt = vec![0.0; n * k];
            for p in 0..k {
                for j in 0..n {
                    bt[j * k + p] = b[p * n + j];
                }
            }
            (at, bt)
        };
        let fl = 2.0 * m as f64 * n as f64 * k as f64 / 1e9;
        let run = |d: &mut [f32]| unsafe {
            gemm::gemm(
                m,
                n,
                k,
                d.as_mut_ptr(),
                1,
                n as isize,
                false,
                a.as_ptr(),
                1,
                k as isize,
                b.as_ptr(),
                1,
                n as isize,
                0.0f32,
                1.0f32,
                false,
                false,
                false,
                gemm::Parallelism::None,
            )
        };
        let g = fl / time(|| run(&mut d));
        let nn = fl / time(|| matmul(Mat::new(&a, m, k), Mat::new(&b, k, n), MatMut::new(&mut c, m, n)));
        let err = c.iter().zip(&d).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        let c0 = c.clone();
        let nt = fl / time(|| matmul(Mat::new(&a, m, k), Mat::new(&bt, n, k).t(), MatMut::new(&mut c, m, n)));
        assert!(c == c0);
        let tn = fl / time(|| matmul(Mat::new(&at, k, m).t(), Mat::new(&b, k, n), MatMut::new(&mut c, m, n)));
        assert!(c == c0);
        let mut p = Packed::new(k, n);
        p.pack(Mat::new(&b, k, n));
        let pk = fl / time(|| matmul(Mat::new(&a, m, k), &p, MatMut::new(&mut c, m, n)));
        assert!(c == c0);
        println!(
            "{m:5}x{n:5}x{k:5}  gemm {g:6.1}  nn {nn:6.1} ({:.2}) nt {nt:6.1} tn {tn:6.1} packed {pk:6.1}  err {err:e}",
            nn / g
        );
    }
}
