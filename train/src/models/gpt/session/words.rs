//! What a session says, to its log and to whoever looks on.

use std::path::Path;

use serde::Serialize;

use super::Ending;
use crate::data::text::{Corpus, Source};
use crate::models::gpt::run::Point;
use crate::models::gpt::settings::Settings;
use crate::shell::progress::say;

#[derive(Serialize)]
pub(super) struct Begins<'a> {
    pub(super) settings: &'a Settings,
    pub(super) source: &'a Source,
    pub(super) text: &'a str,
    pub(super) step: u64,
    pub(super) steps: u64,
    pub(super) vocab: usize,
    pub(super) train: usize,
    pub(super) validation: usize,
    pub(super) parameters: usize,
    pub(super) flops_per_step: f64,
    pub(super) tier: &'static str,
    pub(super) threads: usize,
    pub(super) ranks: usize,
    pub(super) fma_peak: f64,
}

/// How fast a session is.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Speed {
    pub(super) tokens_per_second: f64,
    pub(super) gflops: f64,
    /// Of the peak of as many machines as there are ranks.
    pub(super) fma_share: f64,
    /// Since the session began.
    pub(super) seconds: f64,
}

#[derive(Serialize)]
pub(super) struct Logged<'a, T> {
    #[serde(flatten)]
    pub(super) what: &'a T,
    #[serde(flatten)]
    pub(super) speed: Speed,
}

#[derive(Serialize)]
pub(super) struct Evaluated {
    pub(super) step: u64,
    pub(super) validation: f64,
    pub(super) training: Option<f64>,
    pub(super) best: bool,
}

#[derive(Serialize)]
pub(super) struct Ends {
    /// Steps at the start of the session.
    pub(super) from: u64,
    pub(super) step: u64,
    pub(super) ending: Ending,
    pub(super) skipped: u64,
    pub(super) best: Option<Point>,
    /// Evaluations since.
    pub(super) since_best: u64,
    /// The loss over all of the text to validate by: of the last model, and of the best.
    pub(super) whole: Option<f64>,
    pub(super) whole_best: Option<f64>,
    pub(super) hash: String,
    pub(super) train_seconds: f64,
    pub(super) evaluate_seconds: f64,
}

impl Begins<'_> {
    /// Prints it.
    pub(super) fn say(&self, corpus: &Corpus) {
        let Begins { settings, train, validation, vocab, threads, tier, ranks, .. } = self;
        let model = &settings.model;
        say(format_args!(
            "GPT of {} parameters: {} layers, {} heads, {} wide, {} {} seen, vocabulary of {vocab}",
            self.parameters,
            model.layers,
            model.heads,
            model.dim,
            model.block,
            corpus.tokenizer.unit()
        ));
        say(format_args!(
            "{}: {train} {} to train with, {validation} to validate by",
            corpus.name,
            corpus.tokenizer.unit()
        ));
        let accumulated =
            if settings.accumulate > 1 { format!(" {} times", settings.accumulate) } else { String::new() };
        let ranks = if *ranks > 1 { format!("{ranks} ranks of ") } else { String::new() };
        say(format_args!(
            "steps {} to {}, each on {} windows{accumulated}, {} tokens, {:.2} GFLOP; {ranks}{threads} threads, tier {tier}, \
             FMA peak {:.0} GFLOP/s",
            self.step,
            self.steps,
            settings.batch,
            settings.tokens(),
            1e-9 * self.flops_per_step,
            1e-9 * self.fma_peak
        ));
    }
}

impl Ends {
    /// Prints it.
    pub(super) fn say(&self, out: &Path, speed: Speed) {
        let Ends { from, step, ending, hash, .. } = self;
        let out = out.display();
        if step > from {
            say(format_args!(
                "{} steps in {:.1} s of training and {:.1} s of evaluation: {}",
                step - from,
                self.train_seconds,
                self.evaluate_seconds,
                speed.in_words()
            ));
        }
        if self.skipped > 0 {
            say(format_args!(
                "{} steps had a gradient that is not finite, and changed nothing",
                self.skipped
            ));
        }
        if let Some(Point { step, loss }) = self.best {
            say(format_args!("the best by validation: step {step}, loss {loss:.4}"));
        }
        if let Some(whole) = self.whole {
            let best = self.whole_best.map_or(String::new(), |b| format!(", of the best model {b:.4}"));
            say(format_args!("loss over all of the text to validate by: {whole:.4}{best}"));
        }
        match ending {
            Ending::Done => say(format_args!("saved in {out} after {step} steps, hash {hash}")),
            Ending::Early => say(format_args!(
                "stopped early: the last {} evaluations were no better; saved in {out} after {step} steps, hash {hash}",
                self.since_best
            )),
            Ending::Interrupted => say(format_args!(
                "interrupted: saved in {out} after {step} steps, hash {hash}; \
                 go on with: hotlanes train gpt --resume {out}"
            )),
        }
        if *ending != Ending::Interrupted {
            say(format_args!("text from it: hotlanes generate --model {out}"));
        }
    }
}

impl Speed {
    pub(super) fn in_words(self) -> String {
        let Speed { tokens_per_second, gflops, fma_share, .. } = self;
        format!("{tokens_per_second:.0} tokens/s, {gflops:.1} GFLOP/s, {:.0}% of FMA peak", 100.0 * fma_share)
    }
}

/// Floating-point operations of a step.
pub(super) fn flops(settings: &Settings) -> f64 {
    settings.model.flops(settings.batch, settings.model.block) * settings.accumulate as f64
}
