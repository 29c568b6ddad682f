//! A population as a [`Trainer`].

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::run::{Config, Generation, Run};
use super::state::{self, NAME, Snapshot};
use super::train::Score;
use crate::data::digits;
use crate::data::idx::{DataError, Pair, Place, Source, Split};
use crate::shell::error::Error;
use crate::shell::plot::{Axis, Legend, Plot, Series};
use crate::shell::ranks::Ranks;
use crate::shell::trainer::{self, Event, Position, Trainer};
use crate::shell::verify::FINAL;
use crate::store::checkpoint::{CheckpointError, Saved, Stored};
use crate::store::tensors::{Named, Tensors};

/// Everything that decides the bits of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// The settings.
    pub config: Config,
    /// Where the data come from.
    pub source: Source,
}

impl From<DataError> for Error {
    fn from(error: DataError) -> Self {
        if error.is_usage() { Error::Usage(error.to_string()) } else { Error::data(error) }
    }
}

impl trainer::Recipe for Recipe {
    const KIND: &'static str = NAME;
    const POSITION: &'static str = "examples";

    type Data = Split;
    type Trainer<'a> = Run<'a>;

    fn check(&self) -> Result<(), Error> {
        self.source.check()?;
        // Files say themselves how large their images are: at least of one value.
        let features = if self.source.place.is_none() { digits::FEATURES } else { 1 };
        self.config.check(features)?;
        Ok(())
    }

    fn load(&mut self) -> Result<Split, Error> {
        self.check()?;
        if self.source.place.is_none() {
            // Before digits are drawn.
            self.config.check_memory(digits::FEATURES, self.source.digits)?;
        }
        let data = self.source.load(self.config.seed)?;
        self.config.check(data.train.features)?;
        Ok(data)
    }

    fn identify(data: &Split) -> (String, String) {
        (data.source.clone(), state::data_hash(data))
    }

    fn trainer<'a>(&self, data: &'a Split, _: &'a dyn Ranks) -> Result<Run<'a>, Error> {
        Ok(Run::new(self.config.clone(), data)?)
    }

    fn relocate(&mut self, data: &[PathBuf]) -> Result<(), Error> {
        let pair =
            |images: &PathBuf, labels: &PathBuf| Pair { images: images.clone(), labels: labels.clone() };
        let place = match data {
            [directory] => Place::Directory(directory.clone()),
            [images, labels] => Place::Files { train: pair(images, labels), test: None },
            [images, labels, test_images, test_labels] => {
                Place::Files { train: pair(images, labels), test: Some(pair(test_images, test_labels)) }
            }
            _ => {
                let rule = "a directory, or images and labels, and those of the test if the run has them";
                return Err(Error::Usage(format!("--data: {rule}")));
            }
        };
        self.source.place = Some(place.absolute()?);
        Ok(())
    }
}

impl Trainer for Run<'_> {
    type Snapshot = Snapshot;

    fn position(&self) -> u64 {
        self.population.examples
    }

    fn count(&self) -> u64 {
        self.population.generation
    }

    fn advance(&mut self) -> Result<Option<Event>, Error> {
        let Some(generation) = Run::advance(self) else { return Ok(None) };
        let words = format!(
            "generation {:4}  best {:6.2}%  median {:6.2}%  test {:6.2}%  loss {:.4}  {} connections  {} nodes ",
            generation.generation,
            100.0 * generation.best_validation,
            100.0 * generation.median_validation,
            100.0 * generation.best_test,
            generation.train_loss,
            generation.connections[1],
            generation.nodes[1],
        );
        let event = Event { words: Some(words), hashed: true, ..Event::new("generation", &generation) };
        self.last = Some(generation);
        Ok(Some(event))
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot { examples: self.population.examples, generation: self.population.generation }
    }

    fn tensors(&self) -> Tensors<'_> {
        state::tensors(&self.population, self.config().optimizer)
    }

    fn restore(&mut self, snapshot: Snapshot, tensors: &Named<'_>) -> Result<(), CheckpointError> {
        let inputs = self.data().train.features;
        self.population = state::population(self.config(), inputs, snapshot, tensors)?;
        self.from = snapshot.examples;
        Ok(())
    }

    fn finish(
        &mut self,
        _: Option<(&Saved, &Stored)>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Event>, Error> {
        if stop() {
            return Ok(None);
        }
        let mut test: Vec<f64> = self.test().iter().map(Score::accuracy).collect();
        test.sort_by(f64::total_cmp);
        let test = [test[0], test[test.len() / 2], test[test.len() - 1]];
        self.tested = Some(test);
        let Snapshot { examples, generation } = self.snapshot();
        Ok(Some(Event::new(FINAL, &json!({ "examples": examples, "generation": generation, "test": test }))))
    }

    fn progress(&self, goal: u64) -> Position {
        let end = goal.saturating_mul(self.config().generation);
        Position { at: self.population.examples, end, unit: "examples" }
    }

    fn describe(&self, goal: u64) -> Vec<String> {
        let (config, data) = (self.config(), self.data());
        vec![format!(
            "{} individuals to generation {goal}; {} images to train on, {} for validation, {} held out ({})",
            config.population,
            data.train.len(),
            data.validation.len(),
            data.test.len(),
            data.source
        )]
    }

    fn memory(&self) -> f64 {
        let data = self.data();
        let examples = [&data.train, &data.validation, &data.test].map(|d| d.len()).iter().sum();
        self.config().memory_needed(data.train.features, examples)
    }

    fn speed(&self, session: Duration) -> (Value, String) {
        let seconds = session.as_secs_f64().max(1e-9);
        let examples = (self.population.examples - self.from) as f64;
        let [data, train, evaluate, evolve] =
            [self.times.data, self.times.train, self.times.evaluate, self.times.evolve]
                .map(|t| t.as_secs_f64());
        let times = json!({ "data": data, "train": train, "evaluate": evaluate, "evolve": evolve });
        let speed = json!({ "steps_per_second": examples / seconds, "times": times, "seconds": session.as_secs_f64() });
        (speed, format!("{:.0} steps/s", examples / seconds))
    }

    fn status(&self) -> String {
        self.last.as_ref().map_or(String::new(), |g| {
            format!("best {:.1}%, median {:.1}%", 100.0 * g.best_validation, 100.0 * g.median_validation)
        })
    }

    fn conclude(&self, _: &Path) -> Vec<String> {
        let total = self.times.total().as_secs_f64().max(1e-9);
        let share = |t: Duration| 100.0 * t.as_secs_f64() / total;
        let mut lines = vec![format!(
            "time: training {:.1}%, evaluation {:.1}%, mutations and plans {:.2}%, data {:.1}%",
            share(self.times.train),
            share(self.times.evaluate),
            share(self.times.evolve),
            share(self.times.data)
        )];
        if let Some(last) = &self.last {
            lines.push(format!(
                "generation {}: the best by validation ({:.2}%) classifies {:.2}% of the test images correctly",
                last.generation,
                100.0 * last.best_validation,
                100.0 * last.best_test
            ));
        }
        if let Some(test) = self.tested {
            let [least, median, most] = test.map(|share| 100.0 * share);
            lines.push(format!("all on the test images: {least:.2}% to {most:.2}%, median {median:.2}%"));
        }
        lines
    }

    fn plots(&self, lines: &[Value]) -> Vec<(&'static str, io::Result<String>)> {
        let history: Vec<Generation> = lines
            .iter()
            .filter(|line| line["event"] == "generation")
            .filter_map(|line| serde_json::from_value(line.clone()).ok())
            .collect();
        let line = |name, of: &dyn Fn(&Generation) -> f64| Series {
            name,
            points: history.iter().map(|g| (g.generation as f64, of(g))).collect(),
        };
        let accuracy = [
            line("best, validation", &|g| 100.0 * g.best_validation),
            line("median, validation", &|g| 100.0 * g.median_validation),
            line("best, test", &|g| 100.0 * g.best_test),
        ];
        let sizes = |of: &dyn Fn(&Generation) -> [usize; 3]| {
            ["most", "median", "least"]
                .into_iter()
                .zip([2, 1, 0])
                .map(|(name, i)| line(name, &|g| of(g)[i] as f64))
                .collect::<Vec<_>>()
        };
        let (networks, data) = (self.population.individuals.len(), &self.data().source);
        let draw = |shown: &str, y, series: &[Series]| {
            let title = format!("{shown}: population of {networks} on {data}");
            Plot { title: &title, x: Axis::whole("generation"), y, legend: Legend::LowerRight, series }.svg()
        };
        let correct = Axis::real("images classified correctly (%)");
        let (connections, nodes) = (sizes(&|g| g.connections), sizes(&|g| g.nodes));
        vec![
            ("accuracy.svg", draw("Accuracy", correct, &accuracy)),
            ("connections.svg", draw("Connections", Axis::whole("connections of a network"), &connections)),
            ("nodes.svg", draw("Nodes", Axis::whole("nodes of a network"), &nodes)),
        ]
    }
}
