//! Drawing records and copying them to the caller.

use std::sync::atomic::Ordering;

use crate::buffer::{Buffer, Shared};
use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::schema::{DataMut, Dtype, check_one};
use crate::snapshot::At;
use crate::sync::lock;

mod draw;
mod gather;
mod walk;

use draw::Draw;

/// Which records are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Each as likely as the next.
    Uniform,
    /// By their priorities to the power of `alpha`; with importance weights `(N P)^-beta`, divided by the draw's
    /// greatest.
    Prioritised {
        /// The exponent of the weights, from 0 to 1.
        beta: f32,
    },
    /// Those added last, the newest first.
    Newest,
}

/// Returns over up to `n` steps:
///
/// ```text
/// return = r[0] + gamma r[1] + ... + gamma^(m-1) r[m-1],   discount = gamma^m, or 0 after a step that terminated
/// ```
///
/// `m` is the number of steps that were really taken: fewer than `n` where the episode terminates, where it is cut, and
/// at the newest record. The observation by which the return is continued ([`Of::Next`]) is that after step `m`; after
/// a cut without [`Step::Final`](crate::Step::Final) and at the newest record, where the observation after the last
/// step is not known, the last step is left out. A record with no step left is not drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Returns {
    /// Steps at most.
    pub n: usize,
    /// The discount of a step.
    pub gamma: f32,
    /// The column of rewards: one `f32` a record, stored raw.
    pub reward: usize,
}

/// Runs of consecutive records of one episode of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequences {
    /// Records of a run.
    pub len: usize,
    /// Whether a run may be shorter, at the end of an episode or the newest record, and is filled with zeros.
    pub pad: bool,
}

/// What is drawn together with a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unit {
    /// Nothing.
    Record,
    /// The steps after it, as a return.
    Returns(Returns),
    /// The records after it.
    Sequences(Sequences),
}

/// A sampler's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request {
    /// Which records.
    pub method: Method,
    /// Whether one record may be drawn several times in a call.
    pub replace: bool,
    /// What else.
    pub unit: Unit,
}

/// Which records' column is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Those that were drawn; all of a run.
    Drawn,
    /// Those after the last step of a return; zeros where there is none.
    Next,
}

/// A column to be read, and where to.
#[derive(Debug)]
pub struct Target<'a> {
    /// Its place in the schema.
    pub column: usize,
    /// Of which records.
    pub of: Of,
    /// One record after another.
    pub data: DataMut<'a>,
}

/// The records that a call drew, in the order of the targets' records.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drawn {
    /// Their ids, for [`Buffer::update_priorities`].
    pub ids: Vec<u64>,
    /// Importance weights; 1 unless the draw is prioritised.
    pub weights: Vec<f32>,
    /// For returns.
    pub returns: Vec<f32>,
    /// For returns: what the value of the observation after them is multiplied by.
    pub discounts: Vec<f32>,
    /// For returns the steps taken, for sequences the records of each; else 1.
    pub steps: Vec<u32>,
}

/// Draws from a buffer. Any number of samplers draw at the same time; each call takes a number of its own from the
/// buffer, and what it draws is a function of the seed, this number and the buffer's contents, whatever the number of
/// threads.
pub struct Sampler {
    buffer: Buffer,
    request: Request,
    drawn: Drawn,
    draw: Draw,
    sources: Vec<Option<At>>,
    nexts: Vec<Option<At>>,
}

impl Buffer {
    /// A sampler.
    ///
    /// # Errors
    /// A setting is out of range; returns or sequences of a buffer without episodes; a reward column that is not one
    /// raw `f32`; prioritised draws of a buffer without priorities.
    pub fn sampler(&self, request: Request) -> Result<Sampler> {
        let Shared { schema, config, .. } = &*self.0;
        if let Method::Prioritised { beta } = request.method {
            if config.priorities.is_none() {
                return Err(Error::setting("method", "Prioritised", "the buffer must have priorities"));
            }
            if !(0.0..=1.0).contains(&beta) {
                return Err(Error::setting("beta", beta, "must be 0 to 1"));
            }
        }
        if request.unit != Unit::Record && !config.episodes {
            return Err(Error::setting(
                "unit",
                format!("{:?}", request.unit),
                "the buffer must have episodes",
            ));
        }
        match request.unit {
            Unit::Record => {}
            Unit::Returns(Returns { n, gamma, reward }) => {
                if !(1..=1 << 20).contains(&n) {
                    return Err(Error::setting("n", n, "must be 1 to 2^20"));
                }
                if !(0.0..=1.0).contains(&gamma) {
                    return Err(Error::setting("gamma", gamma, "must be 0 to 1"));
                }
                let column = schema.columns().get(reward);
                if !column
                    .is_some_and(|c| c.dtype() == Dtype::F32 && c.elements() == 1 && c.codec == Codec::Raw)
                {
                    return Err(Error::setting(
                        "reward",
                        reward,
                        "must be the place of a column of one f32, stored raw",
                    ));
                }
            }
            Unit::Sequences(Sequences { len, .. }) => {
                if !(1..=1 << 20).contains(&len) {
                    return Err(Error::setting("len", len, "must be 1 to 2^20"));
                }
            }
        }
        Ok(Sampler {
            buffer: self.clone(),
            request,
            drawn: Drawn::default(),
            draw: Draw::default(),
            sources: Vec::new(),
            nexts: Vec::new(),
        })
    }

    /// Sets the priorities of records: of those that were drawn, or added ([`Writer::ids`](crate::Writer::ids)). Those
    /// that were evicted meanwhile are left out. Returns how many were set.
    ///
    /// # Errors
    /// A priority is not from 0 to 1e24; there are not as many as ids; the buffer has no priorities.
    pub fn update_priorities(&self, ids: &[u64], priorities: &[f32]) -> Result<usize> {
        let Some(mutex) = &self.0.priorities else {
            return Err(Error::setting("priorities", "none", "the buffer must have priorities"));
        };
        let mut state = lock(mutex);
        let snapshot = self.snapshot();
        state.sync(&snapshot);
        state.update(&snapshot, ids, priorities)
    }
}

impl Sampler {
    /// Draws `count` records or runs and copies columns of them to the targets. The order of the draws is random, that
    /// of [`Method::Newest`] descending.
    ///
    /// # Errors
    /// A target's dtype or length is not that of `count` records (runs: times their length); fewer can be drawn than
    /// asked for, of which one suffices with replacement; the next records are read without returns.
    pub fn sample_into(&mut self, count: usize, targets: &mut [Target<'_>]) -> Result<&Drawn> {
        self.check(count, targets)?;
        let Sampler { buffer, request, drawn, draw, sources, nexts } = self;
        let shared = &*buffer.0;
        let mut rng = Rng::new(shared.config.seed, shared.draws.fetch_add(1, Ordering::Relaxed));
        drawn.clear();
        let snapshot = match (request.method, &shared.priorities) {
            (Method::Prioritised { beta }, Some(mutex)) => {
                // The snapshot under the lock: no older one than another thread has taken up.
                let mut priorities = lock(mutex);
                let snapshot = shared.snapshot();
                priorities.sync(&snapshot);
                let chooser = draw::Chooser::Prioritised(&priorities);
                draw.run(&snapshot, *request, count, &mut rng, chooser)?;
                draw.weights(&priorities, beta, &mut drawn.weights);
                snapshot
            }
            (method, _) => {
                let snapshot = shared.snapshot();
                let newest = method == Method::Newest;
                let chooser = if newest { draw::Chooser::Newest } else { draw::Chooser::Uniform };
                draw.run(&snapshot, *request, count, &mut rng, chooser)?;
                drawn.weights.resize(count, 1.0);
                snapshot
            }
        };
        sources.clear();
        nexts.clear();
        for picked in &draw.picked {
            drawn.ids.push(snapshot.id(picked.at));
            drawn.steps.push(picked.steps);
            match request.unit {
                Unit::Record => sources.push(Some(picked.at)),
                Unit::Returns(_) => {
                    sources.push(Some(picked.at));
                    nexts.push(picked.next);
                    drawn.returns.push(picked.value);
                    drawn.discounts.push(picked.discount);
                }
                Unit::Sequences(Sequences { len, .. }) => {
                    let mut at = Some(picked.at);
                    for _ in 0..len {
                        sources.push(at);
                        at = at.and_then(|at| walk::following(&snapshot, at));
                    }
                }
            }
        }
        for target in targets {
            let sources = if target.of == Of::Next { &*nexts } else { &*sources };
            gather::column(&shared.schema, &snapshot, target.column, sources, target.data.bytes())?;
        }
        Ok(&*drawn)
    }

    fn check(&self, count: usize, targets: &[Target<'_>]) -> Result<()> {
        if !(1..=1 << 32).contains(&count) {
            return Err(Error::setting("count", count, "must be 1 to 2^32"));
        }
        let run = if let Unit::Sequences(sequences) = self.request.unit { sequences.len } else { 1 };
        let records = count.checked_mul(run).ok_or_else(|| Error::setting("count", count, "is too large"))?;
        for target in targets {
            let columns = self.buffer.schema().columns();
            let Some(column) = columns.get(target.column) else {
                return Err(Error::setting("column", target.column, "must be a place in the schema"));
            };
            if target.of == Of::Next && !matches!(self.request.unit, Unit::Returns(_)) {
                return Err(Error::setting("of", "Next", "the sampler's unit must be returns"));
            }
            check_one(column, records, target.data.dtype(), target.data.len())?;
        }
        Ok(())
    }
}

impl Drawn {
    fn clear(&mut self) {
        let Drawn { ids, weights, returns, discounts, steps } = self;
        ids.clear();
        steps.clear();
        [weights, returns, discounts].into_iter().for_each(Vec::clear);
    }
}
