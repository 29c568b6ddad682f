//! Options and launch of every command that trains, or executes a run again.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use hotlanes::Tier;

use super::config::{self, Printed};
use crate::shell::error::Error;
use crate::shell::profile;
use crate::shell::progress;
use crate::shell::ranks::Ranks;
use crate::shell::rehearse;
use crate::shell::session::{self, Ending, Options, Samples};
use crate::shell::settings::{self, number};
use crate::shell::signals::{self, Notes};
use crate::shell::trainer::Recipe;
use crate::store::files::System;

/// Exit codes, for the help of training commands.
pub(super) const ENDS: &str = "\
Ctrl-C, SIGTERM and SIGHUP save and stop; a second one stops at once. Exit codes: 0 done, 1 failed, 2 wrong usage,
3 time over before the end, 128 + N stopped by signal N (130: Ctrl-C).";

/// A kill loses no more than this.
const CHECKPOINT_AFTER: Duration = Duration::from_secs(600);

/// Where a command computes.
#[derive(clap::Args)]
pub(super) struct Machine {
    /// Number of threads [default: all cores]; results do not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) threads: Option<u16>,
    /// Instruction set: scalar, avx2, avx512 or neon [default: HOTLANES_TIER, else this CPU's best]; results do not
    /// depend on it.
    #[arg(long, value_name = "NAME")]
    pub(super) tier: Option<Tier>,
    /// Print errors only.
    #[arg(long)]
    pub(super) quiet: bool,
}

impl Machine {
    /// Calls `f` on a pool of these threads and this tier; errors in words.
    pub(super) fn run<R: Send>(&self, f: impl FnOnce() -> R + Send) -> Result<R, String> {
        // With a tier of its own, what the environment says does not matter.
        let tier = match self.tier {
            Some(tier) => tier,
            None => hotlanes::try_tier().map_err(|e| format!("{}: {e}", hotlanes::TIER_ENV))?,
        };
        let pool = super::pool(self.threads)?;
        pool.install(|| hotlanes::with_tier(tier, f)).map_err(|e| format!("--tier {tier}: {e}"))
    }
}

/// Where a run goes, and when it ends.
#[derive(clap::Args)]
#[command(next_help_heading = "Run")]
pub(super) struct RunArgs {
    /// Directory for checkpoints, log and plots [default: gpt-run, population-run or mlp-run].
    #[arg(long, value_name = "DIR", alias = "out-dir", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Resume the run in this directory, with its own settings.
    #[arg(long, value_name = "DIR")]
    pub(super) resume: Option<PathBuf>,
    /// Stop after this many minutes.
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// Steps, generations or epochs between checkpoints [default: 250 steps, 10 generations, 100 epochs].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    checkpoint_every: Option<u64>,
    /// Number of newest checkpoints to keep.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    keep: u32,
    /// Read options from this TOML file; the command line overrides them.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print all settings of the run, new or resumed, as a file for --config, and exit.
    #[arg(long, conflicts_with = "dry_run")]
    print_config: bool,
    /// Check settings and data, print parameters, memory and estimated time, and write nothing.
    #[arg(long, conflicts_with = "resume")]
    dry_run: bool,
    /// Directory for a profile of some steps: where their time goes, as tables, plots and a trace.
    #[arg(long, value_name = "DIR", conflicts_with = "dry_run")]
    profile: Option<PathBuf>,
    /// Steps to profile, from after step A to step B; for a population, blocks of examples [default: 10 after 5 of
    /// warm-up].
    #[arg(long, value_name = "A..B", requires = "profile", value_parser = steps)]
    profile_steps: Option<Range<u64>>,
    #[command(flatten)]
    pub(super) machine: Machine,
}

/// Parses `A..B`.
fn steps(text: &str) -> Result<Range<u64>, String> {
    let parsed = || {
        let (start, end) = text.split_once("..")?;
        Some(start.parse().ok()?..end.parse().ok()?)
    };
    let steps: Range<u64> = parsed().ok_or("must be two whole numbers, as in 5..15")?;
    if steps.is_empty() { Err("must end after it begins, as in 5..15".into()) } else { Ok(steps) }
}

/// The part of a run that differs between training commands.
pub(super) struct Plan<'a, R> {
    /// Where the run ends, if the command says so.
    pub(super) goal: Option<u64>,
    /// Steps or generations from one checkpoint to the next, unless told otherwise.
    pub(super) checkpoint_every: u64,
    /// Whether to make the last evaluation.
    pub(super) finish: bool,
    /// A new run, and where it ends.
    pub(super) recipe: &'a (dyn Fn() -> Result<(R, u64), Error> + Sync),
    /// Changes to a resumed one.
    pub(super) change: &'a (dyn Fn(&mut R) -> Result<(), Error> + Sync),
    /// The options of a run that ends there.
    pub(super) print: &'a (dyn Fn(&R, u64) -> Result<Printed, Error> + Sync),
    /// Samples to take while it trains.
    pub(super) samples: Option<Samples>,
}

impl RunArgs {
    /// Messages of the signals.
    fn notes(&self) -> Notes {
        if self.machine.quiet { signals::SAVING_QUIETLY } else { signals::SAVING }
    }

    /// Starts, resumes or rehearses a run.
    pub(super) fn train<R: Recipe>(&self, plan: &Plan<'_, R>, ranks: &dyn Ranks) -> Result<Ending, Error> {
        let default = PathBuf::from(format!("{}-run", R::KIND));
        let out = self.resume.as_ref().or(self.out.as_ref()).unwrap_or(&default);
        if self.print_config {
            return self.print(plan, out);
        }
        let mut options = Options {
            out: out.clone(),
            goal: plan.goal,
            time: self.minutes.map(minutes).transpose()?,
            checkpoint_every: self.checkpoint_every.unwrap_or(plan.checkpoint_every),
            checkpoint_after: CHECKPOINT_AFTER,
            keep: self.keep as usize,
            finish: plan.finish,
            samples: plan.samples,
            quiet: self.machine.quiet,
            command: command_line(),
            profile: self
                .profile
                .clone()
                .map(|directory| profile::Plan { directory, steps: self.profile_steps.clone() }),
            disk: &System,
        };
        options.profile.as_ref().map_or(Ok(()), |plan| plan.check(out))?;
        if self.resume.is_some() {
            return session::resume(plan.change, &options, ranks);
        }
        let (recipe, goal) = (plan.recipe)()?;
        if self.dry_run {
            return rehearse::rehearse(recipe, goal).map(|()| Ending::Done);
        }
        options.goal = Some(goal);
        session::start(recipe, &options, ranks)
    }

    /// Prints the options of the run, new or resumed.
    fn print<R: Recipe>(&self, plan: &Plan<'_, R>, directory: &Path) -> Result<Ending, Error> {
        let (recipe, goal) = match &self.resume {
            None => (plan.recipe)()?,
            Some(directory) => {
                let mut about = session::stored::<R>(directory)?;
                (plan.change)(&mut about.recipe)?;
                (about.recipe, plan.goal.unwrap_or(about.goal))
            }
        };
        recipe.check()?;
        self.minutes.map(minutes).transpose()?;
        let mut printed = (plan.print)(&recipe, goal)?;
        self.put(&mut printed, directory, plan.checkpoint_every)?;
        progress::printed(progress::tell(printed)).map_err(Error::Output)?;
        Ok(Ending::Done)
    }

    /// Adds these options.
    pub(super) fn put(&self, to: &mut Printed, directory: &Path, checkpoint_every: u64) -> Result<(), Error> {
        let Machine { threads, tier, quiet } = self.machine;
        to.title("Run");
        // A new run cannot lie where the resumed one does.
        to.put("out", self.resume.is_none().then_some(directory))?;
        to.put("minutes", self.minutes)?;
        to.put("checkpoint-every", self.checkpoint_every.unwrap_or(checkpoint_every))?;
        to.put("keep", self.keep)?;
        to.put("threads", threads)?;
        to.put("tier", tier.map(Tier::name))?;
        to.put("quiet", quiet)
    }

    /// Runs `train` where it is to run, and gives the command's exit code.
    pub(super) fn run(&self, train: impl FnOnce() -> Result<Ending, Error> + Send) -> ExitCode {
        self.run_or(train, super::fail)
    }

    /// The same, with another way to fail.
    pub(super) fn run_or(
        &self,
        train: impl FnOnce() -> Result<Ending, Error> + Send,
        fail: impl FnOnce(u8, String) -> ExitCode,
    ) -> ExitCode {
        signals::install(self.notes());
        match self.machine.run(train) {
            Ok(Ok(ending)) => ExitCode::from(ending.exit_code()),
            Ok(Err(why)) => {
                let (code, why) = (why.exit_code(), why.to_string());
                fail(code, if self.config.is_some() { config::located(why) } else { why })
            }
            Err(why) => fail(2, why),
        }
    }
}

/// So many minutes.
fn minutes(minutes: f64) -> Result<Duration, Error> {
    let rule = "must be at least 0 and at most 1e15";
    settings::check((0.0..=1e15).contains(&minutes), "minutes", number(minutes), rule)?;
    Ok(Duration::from_secs_f64(60.0 * minutes))
}

/// The command as it was typed, about.
pub(super) fn command_line() -> String {
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let program = words.next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    std::iter::once(program).chain(words).collect::<Vec<_>>().join(" ")
}
