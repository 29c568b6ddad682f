//! Text from a model.

use hotlanes::AlignedVec;
use hotlanes::Tier;
use hotlanes_train::data::tokenizer::{Kind, Tokenizer};
use hotlanes_train::models::gpt::generate::Generator;
use hotlanes_train::models::gpt::params;
use hotlanes_train::models::gpt::sample::Sampling;
use hotlanes_train::models::gpt::state::Model;

use super::{other, settings, source};

fn model(kind: Kind, settings: hotlanes_train::models::gpt::settings::Settings) -> Model {
    let corpus = source(kind).load(16).unwrap();
    let mut config = settings.model;
    config.vocab = corpus.tokenizer.vocab();
    let mut params: AlignedVec = params::init(&config, 3);
    // So that logits differ enough to matter.
    params.iter_mut().for_each(|p| *p *= 8.0);
    Model { config, tokenizer: corpus.tokenizer, step: 0, validation: None, params }
}

fn text(model: &Model, prompt: &str, sampling: Sampling, tokens: usize) -> String {
    let mut generator = Generator::new(model, prompt, sampling).unwrap();
    let mut text: String = (0..tokens).map(|_| generator.token().unwrap()).collect();
    text.push_str(&generator.finish());
    text
}

const SAMPLING: Sampling = Sampling { temperature: 0.9, top_k: Some(30), top_p: 0.95, seed: 4 };

/// Where one moves it is said in CHANGELOG.md, with the reason.
const GOLDEN: [&str; 2] = [
    "AAaea\nJgguurWWmegpLSWulauaeAA!,a?ljlpaiaWA\nmaWjA\n\n\n\nAWeaeO\nl",
    " d  dB\"uE :O  \nE:BSShfE r OE  :vy\no \n:y fOEr \n\"dyO j\nBOm dg ",
];

/// Well beyond the block of 16, so that windows move.
#[test]
fn golden_text_on_every_tier() {
    let models = [model(Kind::Char, settings()), model(Kind::Char, other())];
    for tier in Tier::available() {
        let texts = models
            .each_ref()
            .map(|model| hotlanes::with_tier(tier, || text(model, "Anna had a ", SAMPLING, 60)).unwrap());
        assert_eq!(texts, GOLDEN, "tier {tier}");
    }
}

#[test]
fn the_seed_decides_and_the_prompt_counts() {
    let model = model(Kind::Char, settings());
    let of = |prompt, seed| text(&model, prompt, Sampling { seed, ..SAMPLING }, 40);
    assert_eq!(of("Anna", 1), of("Anna", 1));
    assert!(of("Anna", 1) != of("Anna", 2) && of("Anna", 1) != of("Ben", 1));
    assert_eq!(of("", 1), of("\n", 1), "nothing is a line's end");
    // Of a long prompt the last 16 tokens count.
    let long = "It began to rain, and soon Adam ";
    assert_eq!(of(long, 1), of(&long[long.len() - 16..], 1));
    assert_eq!(of("Anna", 1).chars().count(), 40);
    let wrong = Generator::new(&model, "Ünna", SAMPLING).err().unwrap().to_string();
    assert!(
        wrong.starts_with("the prompt: character 'Ü' at byte 0 is not in the model's vocabulary of"),
        "{wrong}"
    );
}

#[test]
fn bytes_become_text() {
    let model = model(Kind::Byte, settings());
    assert_eq!(model.tokenizer, Tokenizer::Byte);
    let text = text(&model, "Ünna 漢", Sampling { top_k: None, top_p: 1.0, ..SAMPLING }, 200);
    assert!(text.contains(char::REPLACEMENT_CHARACTER), "bytes at random are hardly UTF-8: {text}");
}

#[test]
fn a_model_of_numbers_that_are_none_is_told() {
    let mut model = model(Kind::Char, settings());
    model.params.fill(f32::NAN);
    let error = Generator::new(&model, "a", SAMPLING).unwrap().token().unwrap_err().to_string();
    assert!(error.starts_with("the logit of token 0 is NaN"), "{error}");
}
