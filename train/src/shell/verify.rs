//! Verification: a run is executed again, and everything that its log says is computed again and compared.
//!
//! The log's chain shows that no line was edited; that the numbers in it are those of this recipe and these data is
//! shown by computing them, on whatever CPU, tier and thread count.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::Error;
use super::progress::Progress;
use super::ranks::Alone;
use super::session::{self, Begins, CHANGED, CHECKPOINT, LOG};
use super::signals;
use super::trainer::{BEST, Event, Recipe, Trainer};
use crate::rng::Rng;
use crate::store::checkpoint::{self, CheckpointError, Index, Saved, Stored};
use crate::store::log::{self, Line, LogError, RUN};

/// What the random numbers are for.
const PURPOSE: u64 = 0x7665_7269_6679;

/// How much of a run to verify.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// Begin at the kept checkpoint of this step, not at the beginning.
    pub from: Option<u64>,
    /// Steps, or generations, to execute at most.
    pub steps: Option<u64>,
    /// Execute so many of the segments between kept checkpoints, chosen by a seed.
    pub sample: Option<(usize, u64)>,
}

/// What a verification came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Everything agrees.
    Agrees {
        /// Lines that were computed again.
        lines: usize,
        /// Hashes of states and models among them.
        hashes: usize,
    },
    /// Something does not.
    Differs {
        /// The line of the log.
        line: usize,
        /// Its place in the run.
        position: u64,
        /// The difference in words.
        what: String,
    },
    /// A signal stopped it; so many lines agreed.
    Stopped(usize),
}

/// Verifies the run in a directory. `data` is where its data lie now, if not where they were.
///
/// # Errors
/// The run cannot be read, its log was edited, or it was made with another version of the bits or other data.
pub fn verify<R: Recipe>(
    directory: &Path,
    data: &[PathBuf],
    part: &Part,
    progress: &Progress,
) -> Result<Verdict, Error> {
    let path = directory.join(LOG);
    let lines = log::read(&path)?;
    let lines: Vec<Line> = lines.into_iter().filter(|line| line.text.is_some()).collect();
    let wrong = |line: usize, what: String| LogError::Line { path: path.clone(), line, what };
    let first = lines.first().filter(|line| line.value["event"] == RUN).ok_or_else(|| {
        wrong(1, "the log does not begin with its run: it was begun anew, and has no proof".into())
    })?;
    let begins: Begins<Value> =
        serde_json::from_value(first.value.clone()).map_err(|e| wrong(first.number, e.to_string()))?;
    if begins.kind != R::KIND {
        let directory = directory.to_owned();
        return Err(Error::OtherKind { directory, have: begins.kind, want: R::KIND });
    }
    if begins.bits != hotlanes::BITS {
        return Err(Error::Usage(format!(
            "{}: made with version {} of the bits: this program computes version {}; verify it with the program that made it",
            directory.display(),
            begins.bits,
            hotlanes::BITS
        )));
    }
    let mut recipe: R =
        serde_json::from_value(begins.recipe).map_err(|e| wrong(first.number, e.to_string()))?;
    if !data.is_empty() {
        recipe.relocate(data)?;
    }
    let data = session::load_same(&mut recipe, &begins.data, directory)?;
    let run = Verification { recipe: &recipe, data: &data, directory, lines: &lines, progress };
    let kept = match run.kept()? {
        Ok(kept) => kept,
        Err(differs) => return Ok(differs),
    };
    let segments = run.segments(&kept, part)?;
    let (mut agreed, mut hashes) = (0, 0);
    for segment in segments {
        match run.replay(&segment, part.steps)? {
            Verdict::Agrees { lines, hashes: more } => (agreed, hashes) = (agreed + lines, hashes + more),
            Verdict::Stopped(lines) => return Ok(Verdict::Stopped(agreed + lines)),
            differs => return Ok(differs),
        }
    }
    Ok(Verdict::Agrees { lines: agreed, hashes })
}

struct Verification<'a, R: Recipe> {
    recipe: &'a R,
    data: &'a R::Data,
    directory: &'a Path,
    /// The log's chained lines.
    lines: &'a [Line],
    progress: &'a Progress,
}

/// A kept checkpoint, and the line that tells it.
struct Kept {
    saved: Saved,
    line: usize,
}

/// Lines to compute again, from a checkpoint or the beginning.
struct Segment<'k> {
    from: Option<&'k Kept>,
    /// The first line, and the one after the last.
    lines: std::ops::Range<usize>,
}

impl<R: Recipe> Verification<'_, R> {
    /// The kept checkpoints, oldest first, each compared with the log.
    fn kept(&self) -> Result<Result<Vec<Kept>, Verdict>, Error> {
        let index: Index = match checkpoint::index(self.directory, R::KIND) {
            Ok(index) => index,
            // A log alone can be verified, too.
            Err(CheckpointError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Ok(Vec::new()));
            }
            Err(e) => return Err(e.into()),
        };
        let mut kept = Vec::new();
        for saved in index.saved.into_iter().rev() {
            // Its tensors are those of the index.
            drop(Stored::read(self.directory, R::KIND, &saved)?);
            let told =
                |line: &Line| line.value["event"] == CHECKPOINT && line.value[R::POSITION] == saved.step;
            let Some(line) = self.lines.iter().rposition(told) else {
                let what = "a checkpoint of which the log says nothing".into();
                return Ok(Err(Verdict::Differs { line: 0, position: saved.step, what }));
            };
            let want = self.lines[line].value["hash"].as_str().unwrap_or_default();
            if want != saved.sha256 {
                let what = format!("the checkpoint has the hash {}: the log says {want}", saved.sha256);
                let line = self.lines[line].number;
                return Ok(Err(Verdict::Differs { line, position: saved.step, what }));
            }
            kept.push(Kept { saved, line });
        }
        Ok(Ok(kept))
    }

    fn segments<'k>(&self, kept: &'k [Kept], part: &Part) -> Result<Vec<Segment<'k>>, Error> {
        let end = self.lines.len();
        let from = match part.from {
            None => None,
            Some(step) => {
                let found = kept.iter().find(|k| k.saved.step == step);
                let have: Vec<String> = kept.iter().map(|k| k.saved.step.to_string()).collect();
                Some(found.ok_or_else(|| {
                    let have = have.join(", ");
                    Error::Usage(format!("--from {step}: must be a kept checkpoint: there are {have}"))
                })?)
            }
        };
        let Some((count, seed)) = part.sample else {
            return Ok(vec![Segment { from, lines: from.map_or(1, |k| k.line + 1)..end }]);
        };
        let mut starts: Vec<Option<&Kept>> = vec![from];
        starts.extend(kept.iter().filter(|k| from.is_none_or(|f| k.line > f.line)).map(Some));
        let line = |from: Option<&Kept>| from.map_or(1, |k| k.line + 1);
        let mut all: Vec<Segment<'k>> = Vec::new();
        for (i, &from) in starts.iter().enumerate() {
            let to = starts.get(i + 1).map_or(end, |&next| line(next));
            all.push(Segment { from, lines: line(from)..to });
        }
        // Segments of no line prove nothing.
        all.retain(|s| !s.lines.is_empty());
        let mut rng = Rng::new(seed, PURPOSE, 0, 0);
        while all.len() > count {
            all.remove(rng.below(all.len()));
        }
        Ok(all)
    }

    /// Computes the lines of a segment again.
    fn replay(&self, segment: &Segment<'_>, steps: Option<u64>) -> Result<Verdict, Error> {
        let mut trainer = self.recipe.trainer(self.data, &Alone)?;
        for line in &self.lines[..segment.lines.start] {
            if line.value["event"] == CHANGED {
                trainer.tune(&line.value["settings"])?;
            }
        }
        if let Some(Kept { saved, .. }) = segment.from {
            let stored = Stored::read(self.directory, R::KIND, saved)?;
            session::restore(&mut trainer, self.directory, R::KIND, saved, &stored)?;
        }
        let last = steps.map(|steps| trainer.count().saturating_add(steps));
        let (mut agreed, mut hashes) = (0, 0);
        for line in &self.lines[segment.lines.clone()] {
            let position = line.value[R::POSITION].as_u64().unwrap_or(0);
            let differs = |what: String| Ok(Verdict::Differs { line: line.number, position, what });
            let event = line.value["event"].as_str().unwrap_or_default();
            let here = match event {
                CHANGED => {
                    if let Err(other) = self.reach(&mut trainer, position, last)? {
                        return other.verdict(line, position, agreed, hashes);
                    }
                    trainer.tune(&line.value["settings"])?;
                    agreed += 1;
                    continue;
                }
                CHECKPOINT | BEST => {
                    if let Err(other) = self.reach(&mut trainer, position, last)? {
                        return other.verdict(line, position, agreed, hashes);
                    }
                    let hash = if event == CHECKPOINT {
                        session::digest(&trainer)
                    } else {
                        let hash = trainer.best().map(|(snapshot, tensors)| tensors.digest(&snapshot));
                        hash.unwrap_or_default()
                    };
                    log::text(event, &serde_json::json!({ R::POSITION: position, "hash": hash }).to_string())
                }
                FINAL => {
                    if let Err(other) = self.reach(&mut trainer, position, last)? {
                        return other.verdict(line, position, agreed, hashes);
                    }
                    let best = match self.best(line) {
                        Ok(best) => best,
                        Err(what) => return differs(what),
                    };
                    let stored = best.as_ref().map(|(saved, stored)| (saved, stored));
                    let Some(event) = trainer.finish(stored, &|| signals::requested().is_some())? else {
                        return Ok(Verdict::Stopped(agreed));
                    };
                    log::text(event.name, &event.fields)
                }
                _ => match self.next(&mut trainer, position, last)? {
                    Ok(event) => {
                        let mut fields = event.fields;
                        if event.hashed {
                            fields.truncate(fields.len() - 1);
                            fields.push_str(&format!(",\"hash\":\"{}\"}}", session::digest(&trainer)));
                        }
                        log::text(event.name, &fields)
                    }
                    Err(other) => return other.verdict(line, position, agreed, hashes),
                },
            };
            // A best model that was replaced later is not there to be evaluated.
            let unknown = if event == FINAL && self.best_moved(line) { Some(BEST_FIELD) } else { None };
            if let Some(what) = difference(line, &here, unknown) {
                return differs(what);
            }
            agreed += 1;
            hashes += usize::from(line.value["hash"].is_string());
        }
        Ok(Verdict::Agrees { lines: agreed, hashes })
    }

    /// The hash of the best model at a line, by the log.
    fn best_hash(&self, line: &Line) -> Option<&str> {
        let before = self.lines.iter().take_while(|l| l.number < line.number);
        before.filter(|l| l.value["event"] == BEST).last().and_then(|l| l.value["hash"].as_str())
    }

    /// Whether there is a better model after a line.
    fn best_moved(&self, line: &Line) -> bool {
        self.lines.iter().any(|l| l.number > line.number && l.value["event"] == BEST)
    }

    /// The best model at a line, if that is the one that is kept; an error in words if another is kept in its place.
    fn best(&self, line: &Line) -> Result<Option<(Saved, Stored)>, String> {
        let Some(want) = self.best_hash(line) else { return Ok(None) };
        let (saved, stored) = match checkpoint::load(self.directory, BEST, None) {
            Ok((_, saved, stored)) => (saved, stored),
            Err(_) if self.best_moved(line) => return Ok(None),
            Err(e) => return Err(e.to_string()),
        };
        match saved.sha256 == want {
            true => Ok(Some((saved, stored))),
            false if self.best_moved(line) => Ok(None),
            false => Err(format!("the best model has the hash {}: the log says {want}", saved.sha256)),
        }
    }

    /// Takes a trainer to a position that no event has.
    fn reach(
        &self,
        trainer: &mut R::Trainer<'_>,
        position: u64,
        last: Option<u64>,
    ) -> Result<Result<(), Other>, Error> {
        while trainer.position() < position {
            match self.step(trainer, last)? {
                Ok(None) => {}
                Ok(Some(event)) => return Ok(Err(Other::Event(event.name, trainer.position()))),
                Err(other) => return Ok(Err(other)),
            }
        }
        Ok(if trainer.position() == position { Ok(()) } else { Err(Other::Past(trainer.position())) })
    }

    /// Takes a trainer to its next event.
    fn next(
        &self,
        trainer: &mut R::Trainer<'_>,
        position: u64,
        last: Option<u64>,
    ) -> Result<Result<Event, Other>, Error> {
        loop {
            match self.step(trainer, last)? {
                Ok(Some(event)) => return Ok(Ok(event)),
                Ok(None) if trainer.position() > position => {
                    return Ok(Err(Other::Past(trainer.position())));
                }
                Ok(None) => {}
                Err(other) => return Ok(Err(other)),
            }
        }
    }

    fn step(
        &self,
        trainer: &mut R::Trainer<'_>,
        last: Option<u64>,
    ) -> Result<Result<Option<Event>, Other>, Error> {
        if signals::requested().is_some() {
            return Ok(Err(Other::Signal));
        }
        if !trainer.is_due() && last.is_some_and(|last| trainer.count() >= last) {
            return Ok(Err(Other::Enough));
        }
        let event = trainer.advance()?;
        if self.progress.is_stale() {
            self.progress.at(trainer.progress(u64::MAX).at, trainer.status());
        }
        Ok(Ok(event))
    }
}

/// The event of [`Trainer::finish`].
pub const FINAL: &str = "final";

/// Its field that needs the best model, if that is another than the last.
pub const BEST_FIELD: &str = "whole_best";

/// Why a replay did not come to a line.
enum Other {
    /// There was an event that the log does not have there.
    Event(&'static str, u64),
    /// It went past the line's place.
    Past(u64),
    /// It was to be this long.
    Enough,
    Signal,
}

impl Other {
    fn verdict(self, line: &Line, position: u64, agreed: usize, hashes: usize) -> Result<Verdict, Error> {
        let what = match self {
            Other::Enough => return Ok(Verdict::Agrees { lines: agreed, hashes }),
            Other::Signal => return Ok(Verdict::Stopped(agreed)),
            Other::Event(name, at) => {
                format!("here comes \"{name}\" at {at}: the log says {}", line.value["event"])
            }
            Other::Past(at) => {
                format!("here nothing happens up to {at}: the log says {}", line.value["event"])
            }
        };
        Ok(Verdict::Differs { line: line.number, position, what })
    }
}

/// The first field in which a line and its repetition differ, but for one that may be unknown.
fn difference(line: &Line, here: &str, unknown: Option<&str>) -> Option<String> {
    if line.text.as_deref() == Some(here) {
        return None;
    }
    let own: Value = serde_json::from_str(&format!("{here}}}")).unwrap_or_default();
    let differs =
        |key: &&String| own[key.as_str()] != line.value[key.as_str()] && unknown != Some(key.as_str());
    let keys = || own.as_object().into_iter().flat_map(|fields| fields.keys());
    // The event first: with another one, all else differs as well.
    let key = keys().find(|key| *key == "event" && differs(key)).or_else(|| keys().find(differs));
    Some(match key {
        Some(key) => {
            format!("{key} is {} here: the log says {}", own[key.as_str()], line.value[key.as_str()])
        }
        None if unknown.is_some() => return None,
        None => "the log has another text for the same values".into(),
    })
}
