use hotlanes_train::population::{data::Split, run::*};
fn main() {
    let a: Vec<f64> = std::env::args().skip(1).map(|a| a.parse().unwrap()).collect();
    let data = Split::load("/work/shared/data/mnist".as_ref(), 500).unwrap();
    let config = Config { population: a[0] as usize, batch: a[1] as usize, lr: a[2], optimizer: if a[4] > 0. {OptimizerKind::AdamW} else {OptimizerKind::Sgd}, ..Config::default() };
    let mut run = Run::new(config, &data).unwrap();
    let t = std::time::Instant::now();
    while run.population.generation < a[3] as u64 {
        if let Some(g) = run.advance() {
            println!("{} {:.0}/s val {:.4} {:.4} test {:.4} loss {:.4} conn {:?} nodes {:?} levels {} {:?}", g.generation, g.examples as f64 / run.times.train.as_secs_f64(), g.best_validation, g.median_validation, g.best_test, g.train_loss, g.connections, g.nodes, g.levels, t.elapsed());
        }
    }
    println!("{:?} {:016x}", run.times, run.population.hash());
    let mut t: Vec<f64> = run.test().iter().map(|s| s.accuracy()).collect(); t.sort_by(f64::total_cmp);
    println!("test {:?}", [t[0], t[t.len()/2], t[t.len()-1]]);
}
