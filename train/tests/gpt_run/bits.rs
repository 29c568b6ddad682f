//! One hash for a run, whatever the tier, the threads, the ranks, and however often it was stopped.

use hotlanes::Tier;
use hotlanes_train::data::text::Corpus;
use hotlanes_train::models::gpt::run::{History, Run};
use hotlanes_train::models::gpt::settings::Settings;
use hotlanes_train::models::gpt::state;
use hotlanes_train::shell::ranks::{Alone, Ranks, threads};
use hotlanes_train::store::hash;

use super::{corpus, other, settings};

/// The losses that a run reported: step and loss.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Losses {
    pub training: Vec<(u64, f64)>,
    pub validation: Vec<(u64, f64)>,
}

/// Takes a run to a step, with the evaluations on the way, as a session does.
pub fn advance(run: &mut Run<'_>, to: u64, losses: &mut Losses) {
    loop {
        if run.is_due() {
            run.evaluate().unwrap();
            let point = run.history.validation.unwrap();
            losses.validation.push((point.step, point.loss));
        }
        if run.history.step >= to {
            return;
        }
        let step = run.advance().unwrap();
        losses.training.extend(step.mean.map(|mean| (step.step, mean)));
    }
}

/// A hash of model, moments and every loss that was reported.
pub fn hash_of(run: &Run<'_>, losses: &Losses) -> u64 {
    let points = losses.training.iter().chain(&losses.validation);
    points.fold(state::engine_hash(&run.engine), |hash, p| hash::add(hash::add(hash, p.0), p.1.to_bits()))
}

/// The history and the hash after some steps.
fn after(steps: u64, settings: &Settings, corpus: &Corpus, ranks: &dyn Ranks) -> (History, u64) {
    let mut run = Run::new(settings.clone(), corpus, ranks).unwrap();
    let mut losses = Losses::default();
    advance(&mut run, steps, &mut losses);
    let hash = hash_of(&run, &losses);
    (run.history, hash)
}

/// Where one moves it is said in CHANGELOG.md, with the reason.
const GOLDEN: [u64; 2] = [0x0c04_9805_8c30_a18d, 0xbdf8_67c1_6dca_4105];

#[test]
fn golden_runs_on_every_tier() {
    let corpus = corpus();
    for tier in Tier::available() {
        let hashes = [settings(), other()]
            .map(|s| hotlanes::with_tier(tier, || after(10, &s, &corpus, &Alone).1).unwrap());
        assert_eq!(hashes, GOLDEN, "tier {tier}: {hashes:#x?}");
    }
}

#[test]
fn threads_change_nothing() {
    let corpus = corpus();
    for settings in [settings(), other()] {
        let of = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| after(10, &settings, &corpus, &Alone).1)
        };
        assert_eq!([of(2), of(3), of(8)], [of(1); 3]);
    }
}

#[test]
fn ranks_have_the_bits_of_one_process() {
    let corpus = corpus();
    for settings in [settings(), other()] {
        let alone = after(10, &settings, &corpus, &Alone);
        for size in [1, 2, 4] {
            let all = threads::run(size, |thread| after(10, &settings, &corpus, thread));
            assert!(all.iter().all(|one| *one == alone), "{size} ranks");
        }
    }
    let wrong = |settings: &Settings, size| {
        let of = |thread: &threads::Thread<'_>| {
            Run::new(settings.clone(), &corpus, thread).err().unwrap().to_string()
        };
        threads::run(size, of).remove(0)
    };
    assert!(wrong(&settings(), 3).contains("rank 0 of 3"), "{}", wrong(&settings(), 3));
    assert!(wrong(&settings(), 8).contains("4 chunks"), "{}", wrong(&settings(), 8));
}

#[test]
fn settings_and_text_change_everything() {
    let corpus = corpus();
    let base = after(4, &settings(), &corpus, &Alone).1;
    let changes: [fn(&mut Settings); 7] = [
        |s| s.seed = 2,
        |s| s.accumulate = 1,
        |s| s.batch = 8,
        |s| s.schedule.decay = 11,
        |s| s.clip = 0.0,
        |s| s.weight_decay = 0.0,
        |s| s.model.dropout = 0.2,
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let mut settings = settings();
        change(&mut settings);
        assert_ne!(after(4, &settings, &corpus, &Alone).1, base, "change {i}");
    }
    let mut longer = corpus.clone();
    longer.train.push(0);
    assert_ne!(after(4, &settings(), &longer, &Alone).1, base);
}
