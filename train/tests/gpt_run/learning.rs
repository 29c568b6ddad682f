//! That it learns, and that what is reported is what it says.

use hotlanes_train::data::text::Corpus;
use hotlanes_train::data::tokenizer::Kind;
use hotlanes_train::models::gpt::batch::{covering, spread};
use hotlanes_train::models::gpt::config::{Act, Norm};
use hotlanes_train::models::gpt::run::Run;
use hotlanes_train::shell::ranks::Alone;

use super::bits::{Losses, advance};
use super::{corpus, settings};

/// The alphabet over and over is learnt by heart in a few steps: the loss goes from ln 26 to nearly nothing.
#[test]
fn a_text_without_surprises_is_learnt() {
    let text: Vec<u8> = (0..2600).map(|i| b'a' + (i % 26) as u8).collect();
    let corpus = Corpus::new("alphabet".into(), &text, Kind::Char, 0.1, 16).unwrap();
    for (norm, act) in [(Norm::RmsNorm, Act::SquaredRelu), (Norm::LayerNorm, Act::Gelu)] {
        let mut settings = settings();
        (settings.model.norm, settings.model.act, settings.model.vocab) = (norm, act, 26);
        (settings.clip, settings.schedule.decay, settings.eval_every) = (1.0, 60, 60);
        let mut run = Run::new(settings, &corpus, &Alone).unwrap();
        let mut losses = Losses::default();
        advance(&mut run, 60, &mut losses);
        let [first, last] = [0, 1].map(|i| losses.validation[i].1);
        assert!((first - 26.0_f64.ln()).abs() < 0.05, "{first}");
        assert!(last < 0.3, "{last}");
        let curve = &losses.training;
        assert_eq!((curve.len(), curve[0].0, curve[29].0), (30, 2, 60));
        assert!(curve[29].1 < 0.3 && curve[0].1 > 2.5, "{curve:?}");
    }
}

/// The loss by validation is the mean over the windows that the docs name, taken one by one.
#[test]
fn an_evaluation_is_the_mean_of_its_windows() {
    let corpus = corpus();
    let mut run = Run::new(settings(), &corpus, &Alone).unwrap();
    advance(&mut run, 5, &mut Losses::default());
    let text = &corpus.validation;
    let mut one = settings();
    one.batch = 1;
    let mean = |windows: usize| {
        let mut single = Run::new(one.clone(), &corpus, &Alone).unwrap();
        let (m, v, steps) = run.engine.state();
        single.engine.restore(run.engine.params(), m, v, steps);
        let losses = (0..windows).map(|i| {
            let at = spread(text.len(), 16, windows, i);
            let window: Vec<u32> = text[at..at + 17].iter().map(|&t| t.into()).collect();
            single.engine.loss(&window[..16], &window[1..]).unwrap()
        });
        losses.sum::<f64>() / windows as f64
    };
    let (few, all) = (mean(8), mean(covering(text.len(), 16, 4)));
    assert!((run.history.validation.unwrap().loss - few).abs() < 1e-6);
    let whole = run.validate_all(|| false).unwrap().unwrap();
    assert!((whole - all).abs() < 1e-6 && (whole - few).abs() > 1e-6, "{whole} {all} {few}");
    assert_eq!(run.validate_all(|| true).unwrap(), None);
}

/// Accumulating micro-batches is learning from their windows together.
#[test]
fn accumulation_is_the_mean_of_the_gradients() {
    let corpus = corpus();
    let grads = |accumulate: usize, batches: usize| {
        let mut settings = settings();
        (settings.accumulate, settings.batch) = (accumulate, 4);
        let mut run = Run::new(settings.clone(), &corpus, &Alone).unwrap();
        let mut batch = hotlanes_train::models::gpt::batch::Batch::default();
        let mut all = vec![0.0_f64; run.engine.params().len()];
        for micro in 0..batches {
            let at = hotlanes_train::models::gpt::batch::At { seed: 1, step: 0, micro };
            batch.draw(&corpus.train, 16, at, 0..4);
            let (index, of) = if accumulate == 1 { (0, 1) } else { (micro, accumulate) };
            run.engine.gradients(&batch.tokens, &batch.targets, index, of).unwrap();
            if accumulate == 1 {
                let gradient = run.engine.local_gradient();
                all.iter_mut().zip(gradient).for_each(|(a, g)| *a += f64::from(*g) / batches as f64);
            }
        }
        if accumulate > 1 {
            let gradient = run.engine.local_gradient();
            all.iter_mut().zip(gradient).for_each(|(a, g)| *a = f64::from(*g));
        }
        all
    };
    let (together, apart) = (grads(3, 3), grads(1, 3));
    let norm = together.iter().map(|g| g * g).sum::<f64>().sqrt();
    let off = together.iter().zip(&apart).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
    assert!(norm > 0.1 && off < 1e-6 * norm, "{off} of {norm}");
}
