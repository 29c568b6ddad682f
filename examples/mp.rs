use hotlanes::matmul::*;
fn main() {
    let n: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let a = vec![0.5; n * n];
    let b = vec![0.25; n * n];
    let mut c = vec![0.0; n * n];
    for _ in 0..(4_000_000_000usize / (n * n * n) * 50) {
        matmul(Mat::new(&a, n, n), Mat::new(&b, n, n), MatMut::new(&mut c, n, n));
    }
    println!("{}", c[3]);
}
