//! Decoding with a cache against the model without one.

use hotlanes_train::models::gpt::config::Config;
use hotlanes_train::models::gpt::decode::Decoder;
use hotlanes_train::models::gpt::engine::EngineError;

use crate::common::{batch, bits, engine, gpt2, lean, rough};

/// The logits of every token of one sequence, from the engine.
fn whole(config: &Config, tokens: &[u32]) -> Vec<Vec<u32>> {
    let mut logits = vec![0.0; tokens.len() * config.vocab];
    engine(config, 1, tokens.len(), rough(config, 1)).logits(tokens, &mut logits).unwrap();
    logits.chunks_exact(config.vocab).map(bits).collect()
}

/// To the bit: the kernels' results do not depend on how many rows they are given, and attention's not on keys that are
/// hidden.
#[test]
fn decoding_has_the_bits_of_the_whole() {
    let long = Config { block: 150, dim: 48, ..gpt2() };
    for config in [gpt2(), lean(), long, Config { bf16: true, ..lean() }] {
        let [tokens, _] = batch(&config, 1, config.block, 2);
        let want = whole(&config, &tokens);
        let mut decoder = Decoder::new(config.clone(), &rough(&config, 1)).unwrap();
        for prefilled in [0, 1, 3, config.block] {
            decoder.reset();
            if prefilled > 0 {
                assert_eq!(bits(decoder.prefill(&tokens[..prefilled])), want[prefilled - 1]);
            }
            for at in prefilled..config.block {
                assert_eq!(bits(decoder.logits(tokens[at])), want[at], "token {at} after {prefilled}");
                assert_eq!((decoder.len(), decoder.is_empty()), (at + 1, false));
            }
        }
    }
}

#[test]
fn a_full_block_goes_on_from_its_later_half() {
    for config in [gpt2(), lean(), Config { block: 1, ..gpt2() }] {
        let block = config.block;
        let [tokens, _] = batch(&config, 1, 3 * block, 2);
        let params = rough(&config, 1);
        let mut decoder = Decoder::new(config.clone(), &params).unwrap();
        let mut fresh = Decoder::new(config.clone(), &params).unwrap();
        let mut first = 0;
        for at in 0..tokens.len() {
            if at - first == block {
                first = at - block / 2;
            }
            let got = bits(decoder.logits(tokens[at]));
            assert_eq!(got, bits(fresh.prefill(&tokens[first..=at])), "token {at}");
        }
        // Of a long text the last block counts.
        assert_eq!(bits(fresh.prefill(&tokens)), bits(decoder.prefill(&tokens[2 * block..])));
        assert_eq!(decoder.len(), block);
    }
}

#[test]
fn parameters_of_another_model_are_refused() {
    let refused = Decoder::new(gpt2(), &rough(&lean(), 1)).map(|_| ()).unwrap_err();
    let want = gpt2().parameters();
    assert_eq!(refused, EngineError::Length { what: "parameters", got: lean().parameters(), want });
    assert!(Decoder::new(Config { heads: 0, ..gpt2() }, &[]).is_err());
}

#[test]
#[should_panic(expected = "position 0: id 13 must be below 13")]
fn a_token_beyond_the_vocabulary_panics() {
    Decoder::new(gpt2(), &rough(&gpt2(), 1)).unwrap().logits(13);
}
