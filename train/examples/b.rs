use hotlanes_train::population::{data::Split, run::*, bench};
fn main() {
    let a: Vec<f64> = std::env::args().skip(1).map(|a| a.parse().unwrap()).collect();
    let data = Split::load("/work/shared/data/mnist".as_ref(), 500).unwrap();
    let config = Config { population: a[0] as usize, ..Config::default() };
    let r = bench::run(&bench::Options{config, threads: a[1] as usize, time: std::time::Duration::from_secs_f64(a[2])}, &data).unwrap();
    for w in &r.ways { println!("{:40} {:8.0} {:8.0} {:6.2}", w.name, w.steps_per_second, w.median, w.ratio); }
    println!("scaling {:.2} clock {:.2} conn {}", r.scaling, r.clock_ghz, r.connections);
    for w in &r.phases { println!("{:8} {:24} {:8.1} ns {:6.3} cycles {:.1}%", w.way, w.name, w.nanoseconds, w.cycles, w.share*100.); }
}
