//! One hash for a few steps, whatever the tier and the threads.

use hotlanes::Tier;
use hotlanes_train::models::gpt::config::Config;
use hotlanes_train::models::gpt::params;

use crate::common::{batch, engine, gpt2, hash, lean};

/// Losses, norms and parameters of four steps of two micro-batches each.
fn run(config: &Config, sequences: usize, time: usize) -> u64 {
    let mut engine = engine(config, sequences, time, params::init(config, 1));
    let mut words = Vec::new();
    for step in 0..4 {
        for micro in 0..2 {
            let [tokens, targets] = batch(config, sequences, time, 2 * step + micro as u64);
            words.push(engine.gradients(&tokens, &targets, micro, 2).unwrap().to_bits());
        }
        words.push(engine.step(0.01).norm.to_bits());
    }
    let [tokens, targets] = batch(config, sequences, time, 99);
    words.push(engine.loss(&tokens, &targets).unwrap().to_bits());
    let (m, v, _) = engine.state();
    let all = [engine.params(), m, v].into_iter().flatten();
    hash(0xcbf2_9ce4_8422_2325, words.into_iter().chain(all.map(|x| x.to_bits().into())))
}

fn all() -> [u64; 4] {
    let dropped = Config { dropout: 0.2, bf16: true, dim: 20, tied: true, ..gpt2() };
    // Chunks of more rows than go through the kernels together.
    let long = Config { layers: 1, dim: 8, block: 140, ..gpt2() };
    [run(&gpt2(), 8, 8), run(&lean(), 5, 7), run(&dropped, 4, 8), run(&long, 2, 140)]
}

/// Where one moves it is said in CHANGELOG.md, with the reason.
const GOLDEN: [u64; 4] =
    [0xe7d4_4b4d_9673_74e7, 0xec8b_eb27_59a5_9759, 0x4c7d_6f99_1456_ba82, 0xf8d6_b25a_2c55_5b20];

#[test]
fn tiers_and_threads_give_the_golden_hash() {
    let best = Tier::available().next_back();
    for tier in Tier::available() {
        let threads: &[usize] = if Some(tier) == best { &[1, 2, 3, 8] } else { &[2] };
        for &threads in threads {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let hashes = pool.install(|| hotlanes::with_tier(tier, all).unwrap());
            assert_eq!(hashes, GOLDEN, "{hashes:x?} on {tier}, {threads} threads");
        }
    }
}
