//! The training step: gradients of fixed chunks of a batch, their sum, clipping and AdamW.
//!
//! A batch is cut into chunks of whole sequences; how many there are depends on its shape alone. Each chunk goes
//! forward and backward on one thread and has a gradient of its own, which the next micro-batches of a step go on
//! adding to. The chunks' gradients are then added by a binary tree. So neither threads nor tiers move a bit; and ranks
//! of which each has an equal share of the chunks, their number a power of two, have the bits of one process if their
//! sums are added pair by pair, as [`Engine::local_gradient`] says.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use hotlanes::HyperParamError;
use hotlanes::adamw::{AdamW, AdamWConfig, AdamWTensor};
pub use hotlanes::clip::ClipOutcome as StepOutcome;
use hotlanes::reduce;
use rayon::prelude::*;

use super::chunk::{Chunk, Kernels, Model, Pass, Scratch};
use super::config::Config;
use super::params::Layout;
use super::weights::{self, Weights};
use super::work::ADAMW_FLOPS;
use crate::shell::parts::Parts;
use crate::shell::profile::{Memory, Work, bytes, group, op, region};
use crate::shell::settings::SettingError;
use hotlanes::AlignedVec;

/// How parameters follow gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Optim {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to AdamW's denominator.
    pub eps: f64,
    /// Decoupled weight decay, of matrices only.
    pub weight_decay: f64,
    /// The largest norm of the whole gradient; infinity clips nothing.
    pub clip: f64,
}

impl Default for Optim {
    /// nanoGPT's for small models.
    fn default() -> Self {
        Optim { beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1, clip: 1.0 }
    }
}

/// What an engine is given that it cannot work with.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A setting of the model.
    #[error(transparent)]
    Config(#[from] SettingError),
    /// A setting of the optimizer.
    #[error(transparent)]
    Optim(#[from] HyperParamError),
    /// Sequences longer than the model's block, or none.
    #[error(
        "{batch} sequences of {time} tokens: there must be at least one of each, and at most {block} tokens"
    )]
    Shape {
        /// Sequences.
        batch: usize,
        /// Tokens of each.
        time: usize,
        /// The model's block.
        block: usize,
    },
    /// Ranks that cannot share the batch.
    #[error(
        "rank {rank} of {ranks}: {chunks} chunks can be shared by a power of two of ranks, at most {chunks}"
    )]
    Ranks {
        /// This rank.
        rank: usize,
        /// How many there are.
        ranks: usize,
        /// Chunks of the batch.
        chunks: usize,
    },
    /// Another number of values than there must be.
    #[error("{what}: {got} values, there must be {want}")]
    Length {
        /// Of what.
        what: &'static str,
        /// How many were given.
        got: usize,
        /// How many there must be.
        want: usize,
    },
    /// A token that the vocabulary lacks.
    #[error("{what} {position} is {token}: must be below {vocab}")]
    Token {
        /// A token or a target.
        what: &'static str,
        /// Its position in the batch.
        position: usize,
        /// What it is.
        token: u32,
        /// The number of tokens that there are.
        vocab: usize,
    },
}

/// Chunks that a batch is cut into at most.
const MOST_CHUNKS: usize = 16;
/// Tokens that a chunk has at least, if there are more than [`FEW_CHUNKS`] chunks: with fewer, more of the time goes to
/// the sum of the gradients.
const CHUNK_TOKENS: usize = 256;
/// Chunks that are made even of few tokens.
const FEW_CHUNKS: usize = 4;
/// Parameters from which no cache holds a chunk's gradient. Several chunks then have [`LARGE_TOKENS`] each, and there are
/// at most [`FEW_CHUNKS`]: of 256 tokens and 162 million parameters four chunks take 1.15 times as long as one.
pub(super) const LARGE: usize = 1 << 25;
/// Tokens of a large model's chunk at least, if there are several.
const LARGE_TOKENS: usize = 1024;

/// How many chunks a batch of this shape is cut into: a power of two.
pub fn chunks(config: &Config, batch: usize, time: usize) -> usize {
    let is_large = config.parameters() >= LARGE;
    let few = batch.min(FEW_CHUNKS).min(if is_large { batch * time / LARGE_TOKENS } else { FEW_CHUNKS });
    let mut chunks = 1;
    while 2 * chunks <= few {
        chunks *= 2;
    }
    let fits = |chunks: usize| {
        chunks <= MOST_CHUNKS && batch.is_multiple_of(chunks) && batch * time / chunks >= CHUNK_TOKENS
    };
    while !is_large && fits(2 * chunks) {
        chunks *= 2;
    }
    chunks
}

/// A model in training: parameters, the optimizer's moments, and all memory that steps on batches of one shape need.
pub struct Engine {
    config: Config,
    layout: Layout,
    kernels: Kernels,
    adamw: [AdamW; 2],
    clip: f64,
    time: usize,
    /// Sequences of the whole batch, and those of this rank.
    batch: usize,
    sequences: Range<usize>,
    params: AlignedVec,
    m: AlignedVec,
    v: AlignedVec,
    steps: u64,
    weights: Weights,
    chunks: Vec<Chunk>,
    /// The sum of the chunks' gradients; empty where there is one chunk, whose gradient is the sum.
    gradient: AlignedVec,
    /// One for each chunk that may be under way; the one that was used last is on top.
    scratch: Mutex<Vec<Scratch>>,
    loss_sum: f64,
}

impl Engine {
    /// For batches of `batch` sequences of `time` tokens each. Allocates all that steps need.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn new(
        config: Config,
        optim: Optim,
        batch: usize,
        time: usize,
        params: AlignedVec,
    ) -> Result<Self, EngineError> {
        Engine::for_rank(config, optim, batch, time, (0, 1), params)
    }

    /// For the share that rank `rank` of `ranks` has in batches of `batch` sequences in all: [`Engine::sequences`].
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn for_rank(
        config: Config,
        optim: Optim,
        batch: usize,
        time: usize,
        (rank, ranks): (usize, usize),
        params: AlignedVec,
    ) -> Result<Self, EngineError> {
        config.check()?;
        let Optim { beta1, beta2, eps, weight_decay, clip } = optim;
        let adamw = AdamWConfig { beta1, beta2, eps, weight_decay, ..AdamWConfig::default() };
        let adamw = [AdamW::new(adamw)?, AdamW::new(AdamWConfig { weight_decay: 0.0, ..adamw })?];
        hotlanes::clip::Clip::new(hotlanes::clip::ClipConfig { max_norm: clip, grad_scale: 1.0 })?;
        if batch == 0
            || time == 0
            || time > config.block
            || batch.checked_mul(time).is_none_or(|n| n > 1 << 30)
        {
            return Err(EngineError::Shape { batch, time, block: config.block });
        }
        let all = chunks(&config, batch, time);
        if !ranks.is_power_of_two() || ranks > all || rank >= ranks {
            return Err(EngineError::Ranks { rank, ranks, chunks: all });
        }
        let layout = Layout::new(&config);
        check_len("parameters", params.len(), layout.len())?;

        let own = rank * all / ranks..(rank + 1) * all / ranks;
        let start = |chunk: usize| chunk * batch / all;
        let sequences = start(own.start)..start(own.end);
        let chunks = own.map(|c| Chunk::new(&config, start(c)..start(c + 1), time, layout.len()));
        let chunks: Vec<Chunk> = chunks.collect();
        let most = chunks.iter().map(|c| c.sequences.len()).max().unwrap_or(0);
        let sums = chunks.len() > 1;
        let kernels = Kernels::new(&config)?;
        let scratch = chunks.iter().map(|_| Scratch::new(&config, &kernels, most, time)).collect();
        let mut engine = Engine {
            kernels,
            adamw,
            clip,
            time,
            batch,
            sequences,
            m: AlignedVec::zeros(layout.len()),
            v: AlignedVec::zeros(layout.len()),
            steps: 0,
            weights: Weights::new(&config, &layout, weights::packs(&config, batch * time)),
            chunks,
            gradient: AlignedVec::zeros(if sums { layout.len() } else { 0 }),
            scratch: Mutex::new(scratch),
            loss_sum: 0.0,
            params,
            layout,
            config,
        };
        engine.weights.pack(&engine.params);
        Ok(engine)
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where each parameter lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The sequences of the whole batch that this engine is given: all of them, but for a rank.
    pub fn sequences(&self) -> Range<usize> {
        self.sequences.clone()
    }

    /// The mean loss of micro-batch number `micro` of `micro_batches`, each of this engine's shape: `tokens` and
    /// `targets` have the tokens of this engine's sequences one after the other. Its gradient, divided by
    /// `micro_batches`, is added to that of the micro-batches before; number 0 starts anew.
    ///
    /// # Errors
    /// A length or a token is wrong; nothing has changed then.
    pub fn gradients(
        &mut self,
        tokens: &[u32],
        targets: &[u32],
        micro: usize,
        micro_batches: usize,
    ) -> Result<f64, EngineError> {
        let rows = (self.batch * self.time) as f64 * micro_batches as f64;
        let pass = Pass::Train {
            weight: (1.0 / rows) as f32,
            add: micro > 0,
            mask: self.steps << 20 | micro as u64,
        };
        self.pass(tokens, targets, pass)
    }

    /// The mean loss of a batch, without a gradient and without dropout.
    ///
    /// # Errors
    /// A length or a token is wrong.
    pub fn loss(&mut self, tokens: &[u32], targets: &[u32]) -> Result<f64, EngineError> {
        self.pass(tokens, targets, Pass::Evaluate)
    }

    /// The sum of the losses of the last batch, of which [`Engine::gradients`] and [`Engine::loss`] gave the mean.
    /// Ranks add theirs pair by pair, as gradients, and divide by the tokens of all.
    pub fn loss_sum(&self) -> f64 {
        self.loss_sum
    }

    fn pass(&mut self, tokens: &[u32], targets: &[u32], pass: Pass) -> Result<f64, EngineError> {
        self.check(tokens, targets)?;
        let (time, first) = (self.time, self.sequences.start);
        let (model, chunks, scratch) = self.parts();
        let alike = chunks.iter().all(|chunk| chunk.sequences.len() == chunks[0].sequences.len());
        let parts = Parts::new(chunks.len(), alike);
        let run = |chunk: &mut Chunk| {
            let rows = (chunk.sequences.start - first) * time..(chunk.sequences.end - first) * time;
            let mut room = lock(scratch).pop().expect("one for each chunk");
            let (tokens, targets) = (&tokens[rows.clone()], &targets[rows]);
            parts.run(|| model.run(chunk, &mut room, tokens, targets, pass));
            lock(scratch).push(room);
        };
        region!("chunks" => {
            chunks.par_iter_mut().with_max_len(1).for_each(|chunk| group!("chunk" => run(chunk)));
        });
        self.loss_sum = tree(&self.chunks);
        Ok(self.loss_sum / tokens.len() as f64)
    }

    fn check(&self, tokens: &[u32], targets: &[u32]) -> Result<(), EngineError> {
        let (rows, vocab) = (self.sequences.len() * self.time, self.config.vocab);
        for (what, name, values) in [("tokens", "token", tokens), ("targets", "target", targets)] {
            check_len(what, values.len(), rows)?;
            if let Some(position) = values.iter().position(|&t| t as usize >= vocab) {
                return Err(EngineError::Token { what: name, position, token: values[position], vocab });
            }
        }
        Ok(())
    }

    /// What a pass reads, and what each chunk writes.
    fn parts(&mut self) -> (Model<'_>, &mut [Chunk], &Mutex<Vec<Scratch>>) {
        let Engine { config, layout, kernels, params, weights, chunks, scratch, batch, time, .. } = self;
        let places = &layout.places;
        let model = Model { config, places, kernels, params, weights, batch: *batch, time: *time };
        (model, chunks, scratch)
    }

    /// The sum of the chunks' gradients that [`Engine::gradients`] left: that of this rank. Of several ranks each adds
    /// that of the rank 1 further to its own, if its number is a multiple of 2; then that of the rank 2 further, if it
    /// is a multiple of 4; and so on. What rank 0 has in the end, all put here for [`Engine::step_with`].
    pub fn local_gradient(&mut self) -> &mut [f32] {
        if self.chunks.len() == 1 {
            return &mut self.chunks[0].gradient;
        }
        let mut buffers: [&[f32]; MOST_CHUNKS] = [&[]; MOST_CHUNKS];
        for (buffer, chunk) in buffers.iter_mut().zip(&self.chunks) {
            *buffer = &chunk.gradient;
        }
        let (n, chunks) = (self.gradient.len(), self.chunks.len());
        op!("sum of chunks", None, [n, chunks, 0], Work::of_values(n * chunks, n * (chunks + 1)) => {
            reduce::aggregate(&mut self.gradient, &buffers[..chunks], 1.0);
        });
        &mut self.gradient
    }

    /// A step of the optimizer with the gradient that [`Engine::gradients`] left.
    ///
    /// # Panics
    /// If `lr` is not finite or negative.
    pub fn step(&mut self, lr: f64) -> StepOutcome {
        self.local_gradient();
        self.step_with(lr)
    }

    /// A step of the optimizer with what [`Engine::local_gradient`] holds: clipped by its norm, then AdamW, then
    /// weights are packed. A gradient that is not finite is skipped, and does not count as a step.
    ///
    /// # Panics
    /// If `lr` is not finite or negative.
    pub fn step_with(&mut self, lr: f64) -> StepOutcome {
        let gradient: &[f32] = match &self.chunks[..] {
            [chunk] => &chunk.gradient,
            _ => &self.gradient,
        };
        let n = gradient.len();
        let norm = op!("norm of the gradient", None, [n, 0, 0], Work::of_values(2 * n, n) => {
            f64::from(reduce::norm(gradient))
        });
        let clip_factor = (self.clip / (norm + 1e-6)).min(1.0);
        // A norm so large that no factor is left is as good as infinite.
        if !norm.is_finite() || !(clip_factor as f32).is_normal() {
            return StepOutcome { norm, clip_factor: 0.0, skipped: true };
        }
        let at = self.layout.matrices();
        let (p0, p1) = self.params.split_at_mut(at);
        let (g0, g1) = gradient.split_at(at);
        let (m0, m1) = self.m.split_at_mut(at);
        let (v0, v1) = self.v.split_at_mut(at);
        for (adamw, param, grad, m, v) in [(self.adamw[0], p0, g0, m0, v0), (self.adamw[1], p1, g1, m1, v1)] {
            let step = adamw.with_lr(lr).and_then(|adamw| adamw.at(self.steps + 1));
            let step = step.and_then(|step| step.unscale(1.0 / clip_factor));
            let step = step.unwrap_or_else(|e| panic!("{e}"));
            let n = param.len();
            op!("clip and AdamW", None, [n, 0, 0], Work::of_values(ADAMW_FLOPS * n, 7 * n) => {
                step.update(AdamWTensor { param, grad, m, v, v_max: None });
            });
        }
        self.steps += 1;
        if self.weights.is_packed() {
            let n = self.config.weights();
            op!("packing weights", None, [n, 0, 0], Work::of_values(0, 3 * n) => self.weights.pack(&self.params));
        }
        StepOutcome { norm, clip_factor, skipped: false }
    }

    /// Bytes of its buffers, but for data.
    pub fn memory(&self) -> Memory {
        let mut memory = Memory {
            parameters: bytes(&self.params) + self.weights.bytes(),
            gradients: bytes(&self.gradient)
                + self.chunks.iter().map(|chunk| bytes(&chunk.gradient)).sum::<f64>(),
            optimizer: bytes(&self.m) + bytes(&self.v),
            ..Memory::default()
        };
        for scratch in lock(&self.scratch).iter() {
            let [activations, others] = scratch.bytes();
            memory.activations += activations;
            memory.scratch += others;
        }
        memory
    }

    /// The parameters.
    pub fn params(&self) -> &[f32] {
        &self.params
    }

    /// The moments, and how many steps have been taken.
    pub fn state(&self) -> (&[f32], &[f32], u64) {
        (&self.m, &self.v, self.steps)
    }

    /// Puts other parameters in the place of these, and leaves moments and steps.
    ///
    /// # Panics
    /// If their number is wrong.
    pub fn exchange_params(&mut self, params: &[f32]) {
        self.params.copy_from_slice(params);
        self.weights.pack(&self.params);
    }

    /// Continues from this state.
    ///
    /// # Panics
    /// If a length does not fit.
    pub fn restore(&mut self, params: &[f32], m: &[f32], v: &[f32], steps: u64) {
        self.m.copy_from_slice(m);
        self.v.copy_from_slice(v);
        self.steps = steps;
        self.exchange_params(params);
    }

    /// The logits of a batch, `[sequences][time][vocab]`, without dropout. One chunk after the other: for checks.
    ///
    /// # Errors
    /// A length or a token is wrong.
    pub fn logits(&mut self, tokens: &[u32], logits: &mut [f32]) -> Result<(), EngineError> {
        self.check(tokens, tokens)?;
        let (time, vocab, first) = (self.time, self.config.vocab, self.sequences.start);
        check_len("logits", logits.len(), tokens.len() * vocab)?;
        let (model, chunks, scratch) = self.parts();
        let mut room = lock(scratch).pop().expect("one for each chunk");
        for chunk in chunks {
            let rows = (chunk.sequences.start - first) * time..(chunk.sequences.end - first) * time;
            let tokens = &tokens[rows.clone()];
            model.run(chunk, &mut room, tokens, tokens, Pass::Evaluate);
            logits[rows.start * vocab..rows.end * vocab].copy_from_slice(room.logits(rows.len() * vocab));
        }
        lock(scratch).push(room);
        Ok(())
    }
}

fn check_len(what: &'static str, got: usize, want: usize) -> Result<(), EngineError> {
    if got == want { Ok(()) } else { Err(EngineError::Length { what, got, want }) }
}

/// The sum of the losses by a binary tree, so that the sum of a rank's chunks is a part of it.
fn tree(chunks: &[Chunk]) -> f64 {
    match chunks {
        [] => 0.0,
        [one] => one.loss,
        _ => {
            let (a, b) = chunks.split_at(chunks.len() / 2);
            tree(a) + tree(b)
        }
    }
}

/// No data is left half written by a panic elsewhere.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
