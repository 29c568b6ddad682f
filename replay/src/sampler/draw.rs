//! Which records are drawn.

use super::{Request, Unit, walk};
use crate::error::{Error, Result};
use crate::priority::Priorities;
use crate::rng::Rng;
use crate::snapshot::{At, Snapshot};
use crate::writer::Step;

/// A record with what is drawn together with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Picked {
    pub(super) at: At,
    pub(super) steps: u32,
    pub(super) value: f32,
    pub(super) discount: f32,
    pub(super) next: Option<At>,
}

impl Picked {
    /// A record with nothing else.
    #[inline(always)]
    pub(super) fn alone(at: At) -> Picked {
        Picked { at, steps: 1, value: 0.0, discount: 0.0, next: None }
    }
}

pub(super) enum Chooser<'a> {
    Uniform,
    Prioritised(&'a Priorities),
    Newest,
}

/// Draws, and memory for them.
#[derive(Default)]
pub(super) struct Draw {
    pub(super) picked: Vec<Picked>,
    seen: Seen,
    units: Vec<f64>,
    leaves: Vec<usize>,
    candidates: Vec<At>,
}

/// Misses after which the drawable records are counted, beside a few for each record to be drawn.
const MISSES: usize = 1000;
const MISSES_EACH: usize = 8;

impl Draw {
    /// Fills `picked`.
    pub(super) fn run(
        &mut self,
        snapshot: &Snapshot<'_>,
        request: Request,
        count: usize,
        rng: &mut Rng,
        chooser: Chooser<'_>,
    ) -> Result<()> {
        self.picked.clear();
        if let Chooser::Newest = chooser {
            let newest =
                (0..snapshot.len()).rev().filter_map(|n| walk::pick(snapshot, snapshot.at(n), request.unit));
            self.picked.extend(newest.take(count));
            // There is nothing random in it: several of one record would be all of the same.
            return self.enough(count, self.picked.len(), &chooser);
        }
        self.seen.clear(if request.replace { 0 } else { count });
        // At random until all are found: each that can be drawn is as likely as it should be, whatever is passed over.
        let mut misses = if snapshot.len() == 0 { usize::MAX } else { 0 };
        while self.picked.len() < count && misses <= MISSES + MISSES_EACH * count {
            let missing = count - self.picked.len();
            self.candidates.clear();
            match &chooser {
                Chooser::Prioritised(priorities) => {
                    self.units.clear();
                    self.units.extend((0..missing).map(|_| rng.unit()));
                    if !priorities.tree.find(&self.units, &mut self.leaves) {
                        break;
                    }
                    self.candidates.extend(self.leaves.iter().map(|&leaf| priorities.at(leaf)));
                }
                _ => self.candidates.extend((0..missing).map(|_| snapshot.at(rng.below(snapshot.len())))),
            }
            if request.unit == Unit::Record && request.replace {
                // Written where it stays: a record's parts that are put together first and then copied wait for the
                // stores of the parts.
                for &at in &self.candidates {
                    match snapshot.step(at) {
                        Step::Final => misses += 1,
                        _ => self.picked.push(Picked::alone(at)),
                    }
                }
                continue;
            }
            for &at in &self.candidates {
                let Some(picked) = walk::pick(snapshot, at, request.unit) else {
                    misses += 1;
                    continue;
                };
                if request.replace || self.seen.insert(snapshot.number(at) as u64) {
                    self.picked.push(picked);
                } else {
                    misses += 1;
                }
            }
        }
        if self.picked.len() < count {
            self.rest(snapshot, request, count, rng, &chooser)?;
        }
        Ok(())
    }

    /// The same from a list of all that can be drawn, where they are few among the records.
    #[cold]
    fn rest(
        &mut self,
        snapshot: &Snapshot<'_>,
        request: Request,
        count: usize,
        rng: &mut Rng,
        chooser: &Chooser<'_>,
    ) -> Result<()> {
        let mut left: Vec<(Picked, f64)> = Vec::new();
        let mut drawable = 0;
        for number in 0..snapshot.len() {
            let at = snapshot.at(number);
            let Some(picked) = walk::pick(snapshot, at, request.unit) else { continue };
            let weight = match chooser {
                Chooser::Prioritised(priorities) => f64::from(priorities.weight(at)),
                _ => 1.0,
            };
            if weight > 0.0 {
                drawable += 1;
                if request.replace || !self.seen.contains(number as u64) {
                    left.push((picked, weight));
                }
            }
        }
        let least = if request.replace { 1 } else { count };
        self.enough(least, drawable, chooser)?;
        let mut total: f64 = left.iter().map(|(_, weight)| weight).sum();
        while self.picked.len() < count {
            let mut rest = rng.unit() * total;
            let beyond = |(_, weight): &(Picked, f64)| {
                let found = rest < *weight;
                rest -= weight;
                found
            };
            let found = left.iter().position(beyond).unwrap_or(left.len() - 1);
            if request.replace {
                self.picked.push(left[found].0);
            } else {
                self.picked.push(left.swap_remove(found).0);
                total = left.iter().map(|(_, weight)| weight).sum();
            }
        }
        Ok(())
    }

    fn enough(&self, asked: usize, drawable: usize, chooser: &Chooser<'_>) -> Result<()> {
        if drawable >= asked {
            return Ok(());
        }
        let rule = match chooser {
            Chooser::Prioritised(_) => "each must have what its unit needs, and a priority above 0",
            _ => "each must have what its unit needs: a step, or a run of its length",
        };
        Err(Error::Drawable { asked, drawable, rule })
    }

    /// `(N P)^-beta` over the greatest of them.
    pub(super) fn weights(&self, priorities: &Priorities, beta: f32, out: &mut Vec<f32>) {
        // The greatest becomes 1 whatever the constant factor, so that N and the total need not enter.
        out.extend(self.picked.iter().map(|picked| priorities.weight(picked.at)));
        hotlanes::activation::log_in_place(out);
        let least = out.iter().copied().fold(f32::INFINITY, f32::min);
        out.iter_mut().for_each(|x| *x = -beta * (*x - least));
        hotlanes::activation::exp_in_place(out);
    }
}

/// A set of numbers, for draws without replacement.
#[derive(Default)]
struct Seen {
    /// Open addressing; `u64::MAX` is free.
    table: Vec<u64>,
}

impl Seen {
    fn clear(&mut self, count: usize) {
        self.table.clear();
        self.table.resize((2 * count).next_power_of_two(), u64::MAX);
    }

    /// Where the number is, or would be.
    fn slot(&self, number: u64) -> usize {
        let mask = self.table.len() - 1;
        let mut slot = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(20) as usize & mask;
        while self.table[slot] != number && self.table[slot] != u64::MAX {
            slot = (slot + 1) & mask;
        }
        slot
    }

    /// Whether it is new.
    fn insert(&mut self, number: u64) -> bool {
        let slot = self.slot(number);
        std::mem::replace(&mut self.table[slot], number) != number
    }

    fn contains(&self, number: u64) -> bool {
        self.table[self.slot(number)] == number
    }
}
