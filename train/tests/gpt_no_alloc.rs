//! A GPT's steps, evaluation and decoding never go to the allocator once they have begun, on any thread.

use hotlanes_train::data::text::Source;
use hotlanes_train::data::tokenizer::Kind;
use hotlanes_train::models::gpt::config::{Act, Config, Norm};
use hotlanes_train::models::gpt::decode::Decoder;
use hotlanes_train::models::gpt::engine::{Engine, Optim};
use hotlanes_train::models::gpt::params;
use hotlanes_train::models::gpt::run::Run;
use hotlanes_train::models::gpt::sample::{Sampler, Sampling};
use hotlanes_train::models::gpt::settings::Preset;
use hotlanes_train::rng::Rng;
use hotlanes_train::shell::ranks::Alone;

#[path = "../../tests/common/counting.rs"]
mod counting;

use counting::calls_everywhere;

const CONFIG: Config = Config {
    layers: 2,
    heads: 2,
    dim: 16,
    block: 16,
    vocab: 40,
    norm: Norm::LayerNorm,
    act: Act::Gelu,
    tied: false,
    bias: true,
    bf16: false,
    dropout: 0.0,
};

/// Allocator calls in six steps of two micro-batches, evaluations, and decoding beyond a block, the second time.
fn calls(config: &Config) -> usize {
    let (batch, time) = (7, 16);
    let mut rng = Rng::new(1, 0, 0, 0);
    // Batches of few and of many different tokens.
    let batches: Vec<Vec<u32>> = (0..12)
        .map(|b| (0..batch * time).map(|_| rng.below([40, 1, 3, 20][b % 4]) as u32).collect())
        .collect();
    let params = params::init(config, 1);
    let mut decoder = Decoder::new(config.clone(), &params).unwrap();
    let mut engine = Engine::new(config.clone(), Optim::default(), batch, time, params).unwrap();
    let mut round = || {
        for pair in batches.chunks_exact(2) {
            for micro in 0..2 {
                assert!(engine.gradients(&pair[0], &pair[1], micro, 2).unwrap() > 0.0);
            }
            assert!(!engine.step(1e-3).skipped);
            assert!(engine.loss(&pair[0], &pair[1]).unwrap() > 0.0);
        }
        decoder.reset();
        for token in 0..40 {
            assert_eq!(decoder.logits(token).len(), 40);
        }
        assert_eq!(decoder.prefill(&batches[0]).len(), 40);
    };
    round();
    calls_everywhere(round)
}

/// Allocator calls in a run's steps, with the batches that they draw, and in choosing tokens, the second time.
fn calls_of_run() -> usize {
    let source = Source { stories: 3000, tokenizer: Kind::Char, ..Source::default() };
    let corpus = source.load(16).unwrap();
    let (mut settings, _) = Preset::Tiny.settings();
    settings.model = Config { vocab: corpus.tokenizer.vocab(), ..CONFIG };
    // The curve's points are kept for ever.
    (settings.accumulate, settings.log_every) = (2, u64::MAX);
    let mut run = Run::new(settings, &corpus, &Alone).unwrap();
    let mut sampler = Sampler::new(Sampling { top_k: Some(20), top_p: 0.9, ..Sampling::default() }).unwrap();
    let mut round = || {
        for _ in 0..4 {
            assert!(!run.advance().unwrap().skipped);
            assert!(run.validate_all(|| false).unwrap().is_some());
            assert!(sampler.choose(&run.engine.params()[..40]).unwrap() < 40);
        }
    };
    round();
    calls_everywhere(round)
}

#[test]
fn steady_state_does_not_allocate() {
    let one = calls_everywhere(|| drop(std::hint::black_box(vec![1.0f32; 100])));
    assert!(one >= 2, "the counter counts: {one}");
    let other = Config { norm: Norm::RmsNorm, tied: true, bf16: true, dropout: 0.1, ..CONFIG };
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(calls_of_run), 0, "{threads} threads, a run");
        for config in [&CONFIG, &other] {
            assert_eq!(pool.install(|| calls(config)), 0, "{threads} threads, {config:?}");
        }
    }
}
