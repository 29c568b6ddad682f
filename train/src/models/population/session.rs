//! A run with everything around it: checkpoints, log, plots, progress, Ctrl-C.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::run::{Config, Generation, Run, Times};
use super::state::{self, NAME, Source, State};
use super::train::Score;
use crate::data::digits;
use crate::data::idx::{DataError, Split};
use crate::shell::plot::{self, Series};
use crate::shell::progress::{Progress, say};
use crate::shell::settings::SettingError;
use crate::shell::signals;
use crate::store::checkpoint::{self, CheckpointError};
use crate::store::log::Log;

/// When to stop and what to leave.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything goes.
    pub out: PathBuf,
    /// Stop after this many generations, counted from the run's beginning.
    pub generations: u64,
    /// Stop after this long, counted from now.
    pub time: Option<Duration>,
    /// Generations from one checkpoint to the next.
    pub checkpoint_every: u64,
}

/// How a session ended; its state is saved either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As many generations as were asked for, or as much time.
    Done,
    /// By Ctrl-C.
    Interrupted,
}

/// Why a session failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The settings.
    #[error(transparent)]
    Config(#[from] SettingError),
    /// The checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Log or plots.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A new run where there is one.
    #[error("{} holds a run: --resume {} goes on with it, another --out starts anew", .0.display(), .0.display())]
    Occupied(PathBuf),
    /// The data are not those that the run was made with.
    #[error("the data ({source_name}) have the hash {have}: the run in {} was made with {want}", directory.display())]
    OtherData {
        /// Where the run lies.
        directory: PathBuf,
        /// What the data are called.
        source_name: String,
        /// Their hash.
        have: String,
        /// What the checkpoint says.
        want: String,
    },
}

impl Source {
    /// Checks the settings before any digits are drawn, where they are; files are read first, which say how large images are.
    ///
    /// # Errors
    /// A setting breaks a rule.
    pub fn check(&self, config: &Config) -> Result<(), SettingError> {
        if self.directory.is_none() {
            config.check(digits::FEATURES)?;
            config.check_memory(digits::FEATURES, self.images)?;
        }
        Ok(())
    }

    /// Reads or draws the data.
    ///
    /// # Errors
    /// See [`DataError`].
    pub fn load(&self, seed: u64) -> Result<Split, DataError> {
        match &self.directory {
            Some(directory) => Split::load(directory, self.validation),
            None => Split::procedural(self.images, self.validation, seed),
        }
    }
}

/// Starts a run and takes it to its end.
///
/// # Errors
/// See [`SessionError`].
pub fn start(config: Config, source: Source, options: &Options) -> Result<Ending, SessionError> {
    if checkpoint::json_path(&options.out, NAME).exists() {
        return Err(SessionError::Occupied(options.out.clone()));
    }
    source.check(&config)?;
    let data = source.load(config.seed)?;
    let run = Run::new(config, &data)?;
    Session::new(run, source, &data, Vec::new(), options)?.go_on()
}

/// Goes on with the run in `options.out`, whose data may have moved to `directory`.
///
/// # Errors
/// See [`SessionError`].
pub fn resume(directory: Option<&Path>, options: &Options) -> Result<Ending, SessionError> {
    let (state, stored) = checkpoint::load::<State>(&options.out, NAME)?;
    let mut source = state.source.clone();
    if let Some(directory) = directory {
        source.directory = Some(directory.to_owned());
    }
    let data = source.load(state.config.seed)?;
    let have = state::data_hash(&data);
    if have != state.data {
        let (directory, want) = (options.out.clone(), state.data);
        return Err(SessionError::OtherData { directory, source_name: data.source, have, want });
    }
    state.config.check(data.train.features)?;
    let population = state::population(&state, data.train.features, &stored)?;
    let run = Run::resume(state.config, &data, population)?;
    Session::new(run, source, &data, state.history, options)?.go_on()
}

struct Session<'a> {
    run: Run<'a>,
    source: Source,
    data_hash: String,
    history: Vec<Generation>,
    options: &'a Options,
    log: Log,
    started: Instant,
    /// Examples at the start of this session.
    from: u64,
}

/// A line of the log for a generation.
#[derive(Serialize)]
struct Logged<'a> {
    #[serde(flatten)]
    generation: &'a Generation,
    /// Since the session began.
    seconds: f64,
    /// Examples per second of the session, each through all individuals, everything included.
    steps_per_second: f64,
    /// Seconds of the session by kind.
    times: Seconds,
}

#[derive(Serialize)]
struct Seconds {
    data: f64,
    train: f64,
    evaluate: f64,
    evolve: f64,
}

impl From<Times> for Seconds {
    fn from(t: Times) -> Self {
        let [data, train, evaluate, evolve] =
            [t.data, t.train, t.evaluate, t.evolve].map(|t| t.as_secs_f64());
        Seconds { data, train, evaluate, evolve }
    }
}

#[derive(Serialize)]
struct Begins<'a> {
    config: &'a Config,
    source: &'a Source,
    examples: u64,
    train: usize,
    validation: usize,
    test: usize,
    tier: &'static str,
    threads: usize,
}

#[derive(Serialize)]
struct Ends {
    examples: u64,
    generation: u64,
    seconds: f64,
    interrupted: bool,
    /// The accuracy of all on the test images: least, median, most.
    test: [f64; 3],
    hash: String,
}

impl<'a> Session<'a> {
    fn new(
        run: Run<'a>,
        source: Source,
        data: &Split,
        history: Vec<Generation>,
        options: &'a Options,
    ) -> Result<Self, SessionError> {
        let from = run.population.examples;
        let path = options.out.join("log.jsonl");
        let io = |source| SessionError::Io { path: path.clone(), source };
        std::fs::create_dir_all(&options.out).map_err(io)?;
        let mut log =
            Log::open(&path, |line| line["examples"].as_u64().is_some_and(|e| e <= from)).map_err(io)?;
        let begins = Begins {
            config: run.config(),
            source: &source,
            examples: from,
            train: data.train.len(),
            validation: data.validation.len(),
            test: data.test.len(),
            tier: hotlanes::tier().name(),
            threads: rayon::current_num_threads(),
        };
        log.write("start", &begins).map_err(io)?;
        say(format_args!(
            "{} individuals; {} images to train with, {} to select by, {} held out ({}); {} threads, tier {}",
            run.config().population,
            begins.train,
            begins.validation,
            begins.test,
            data.source,
            begins.threads,
            begins.tier
        ));
        let data_hash = state::data_hash(data);
        Ok(Session { run, source, data_hash, history, options, log, started: Instant::now(), from })
    }

    fn go_on(mut self) -> Result<Ending, SessionError> {
        let end = self.options.generations.saturating_mul(self.run.config().generation);
        let progress = Progress::new(self.run.population.examples, end, "examples");
        let ending = loop {
            if signals::requested() {
                break Ending::Interrupted;
            }
            if self.run.population.generation >= self.options.generations
                || self.options.time.is_some_and(|t| self.started.elapsed() >= t)
            {
                break Ending::Done;
            }
            if let Some(generation) = self.run.advance() {
                self.generation(generation, &progress)?;
            }
            progress.at(self.run.population.examples, self.message());
        };
        progress.finish();
        self.save()?;
        self.plot()?;
        let mut test: Vec<f64> = self.run.test().iter().map(Score::accuracy).collect();
        test.sort_by(f64::total_cmp);
        let ends = Ends {
            test: [test[0], test[test.len() / 2], test[test.len() - 1]],
            examples: self.run.population.examples,
            generation: self.run.population.generation,
            seconds: self.started.elapsed().as_secs_f64(),
            interrupted: ending == Ending::Interrupted,
            hash: format!("{:016x}", self.run.population.hash()),
        };
        self.write("stop", &ends)?;
        self.farewell(ending, &ends);
        Ok(ending)
    }

    fn generation(&mut self, generation: Generation, progress: &Progress) -> Result<(), SessionError> {
        progress.line(&format!(
            "generation {:4}  best {:6.2}%  median {:6.2}%  test {:6.2}%  loss {:.4}  {} connections  {} nodes  {:.0} steps/s",
            generation.generation,
            100.0 * generation.best_validation,
            100.0 * generation.median_validation,
            100.0 * generation.best_test,
            generation.train_loss,
            generation.connections[1],
            generation.nodes[1],
            self.steps_per_second(),
        ));
        let line = Logged {
            generation: &generation,
            seconds: self.started.elapsed().as_secs_f64(),
            steps_per_second: self.steps_per_second(),
            times: self.run.times.into(),
        };
        self.write("generation", &line)?;
        let number = generation.generation;
        self.history.push(generation);
        if number.is_multiple_of(self.options.checkpoint_every) {
            self.save()?;
            self.plot()?;
        }
        Ok(())
    }

    fn write<T: Serialize>(&mut self, event: &str, object: &T) -> Result<(), SessionError> {
        let path = self.log.path().to_owned();
        self.log.write(event, object).map_err(|source| SessionError::Io { path, source })
    }

    fn steps_per_second(&self) -> f64 {
        (self.run.population.examples - self.from) as f64 / self.started.elapsed().as_secs_f64()
    }

    fn message(&self) -> String {
        let accuracy = self.history.last().map_or(String::new(), |g| {
            format!(", best {:.1}%, median {:.1}%", 100.0 * g.best_validation, 100.0 * g.median_validation)
        });
        format!("{:.0} steps/s{accuracy}", self.steps_per_second())
    }

    fn save(&self) -> Result<(), SessionError> {
        let population = &self.run.population;
        let state = State {
            config: self.run.config().clone(),
            source: self.source.clone(),
            data: self.data_hash.clone(),
            examples: population.examples,
            generation: population.generation,
            hash: format!("{:016x}", population.hash()),
            history: self.history.clone(),
        };
        let tensors = state::tensors(population, state.config.optimizer);
        Ok(checkpoint::save(&self.options.out, NAME, population.examples, &tensors, &state)?)
    }

    fn plot(&self) -> Result<(), SessionError> {
        let points = |what: &dyn Fn(&Generation) -> f64| -> Vec<(f64, f64)> {
            self.history.iter().map(|g| (g.generation as f64, what(g))).collect()
        };
        let line = |name, what: &dyn Fn(&Generation) -> f64| Series { name, points: points(what) };
        let accuracy = [
            line("best, validation", &|g| 100.0 * g.best_validation),
            line("median, validation", &|g| 100.0 * g.median_validation),
            line("best, test", &|g| 100.0 * g.best_test),
        ];
        let connections = [
            line("most", &|g| g.connections[2] as f64),
            line("median", &|g| g.connections[1] as f64),
            line("least", &|g| g.connections[0] as f64),
        ];
        let nodes = [
            line("most", &|g| g.nodes[2] as f64),
            line("median", &|g| g.nodes[1] as f64),
            line("least", &|g| g.nodes[0] as f64),
        ];
        let plots = [
            ("accuracy.svg", "Accuracy", "% right", &accuracy),
            ("connections.svg", "Size of the networks", "connections", &connections),
            ("nodes.svg", "Size of the networks", "nodes", &nodes),
        ];
        for (file, title, y, series) in plots {
            let path = self.options.out.join(file);
            plot::lines(&path, title, "generation", y, series)
                .map_err(|source| SessionError::Io { path, source })?;
        }
        Ok(())
    }

    fn farewell(&self, ending: Ending, ends: &Ends) {
        let out = self.options.out.display();
        let (t, times) = (self.run.times.total().as_secs_f64().max(1e-9), Seconds::from(self.run.times));
        say(format_args!(
            "time: training {:.1}%, evaluation {:.1}%, mutations and plans {:.2}%, data {:.1}%",
            100.0 * times.train / t,
            100.0 * times.evaluate / t,
            100.0 * times.evolve / t,
            100.0 * times.data / t
        ));
        if let Some(last) = self.history.last() {
            say(format_args!(
                "generation {}: the best by validation ({:.2}%) has {:.2}% of the test images right",
                last.generation,
                100.0 * last.best_validation,
                100.0 * last.best_test
            ));
        }
        let [least, median, most] = ends.test.map(|share| 100.0 * share);
        say(format_args!("all on the test images: from {least:.2}% to {most:.2}%, median {median:.2}%"));
        let Ends { examples, hash, .. } = ends;
        match ending {
            Ending::Done => say(format_args!("saved in {out} after {examples} examples, hash {hash}")),
            Ending::Interrupted => say(format_args!(
                "interrupted: saved in {out} after {examples} examples, hash {hash}; \
                 go on with: hotlanes train population --resume {out}"
            )),
        }
    }
}
