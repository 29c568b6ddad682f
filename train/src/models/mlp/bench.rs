//! Runs on drawn rows, as earlier work measured them, and training steps by batch and width beside plain loops.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use rayon::ThreadPool;
use serde::Serialize;

use super::baseline::Baseline;
use super::data::{Data, Source};
use super::engine::Engine;
use super::head::Targets;
use super::layout::Layout;
use super::metrics::Metrics;
use super::predict::{Predictor, TILE};
use super::run::Run;
use super::settings::{EPOCHS, LossKind, Settings};
use super::state::{Described, Trained};
use crate::data::csv;
use crate::data::smooth;
use crate::data::table::Shares;
use crate::rng::Rng;
use crate::shell::error::Error;
use crate::shell::profile::memory;
use crate::shell::windows::{self, Way};
use hotlanes::AlignedVec;

/// Rows of the runs.
pub const ROWS: [usize; 3] = [1000, 5000, 10_000];
/// Batches of the steps, of the default widths; and widths, of the default batch.
pub const BATCHES: [usize; 8] = [32, 64, 128, 256, 512, 1024, 2048, 4096];
/// Widths of three hidden layers.
pub const WIDTHS: [usize; 6] = [16, 32, 64, 128, 256, 512];

/// A run to its early stop.
#[derive(Clone, Debug, Serialize)]
pub struct Fit {
    /// Rows, of which a tenth each is for validation and test.
    pub rows: usize,
    /// Epochs until it stopped.
    pub epochs: u64,
    /// Epoch of the best model.
    pub best_epoch: u64,
    /// Seconds of training and evaluation, without drawing the rows.
    pub seconds: f64,
    /// R² of the best model.
    pub validation_r2: f64,
    /// The same on the test rows.
    pub test_r2: f64,
    /// Bytes of its buffers, data apart.
    pub memory: f64,
}

/// The speed of steps.
#[derive(Clone, Debug, Serialize)]
pub struct Speed {
    /// Rows of a step.
    pub batch: usize,
    /// Width of the hidden layers.
    pub width: usize,
    /// Rows per second on one thread, in the fastest window.
    pub one: f64,
    /// The same on all threads.
    pub all: f64,
    /// The same of plain loops on one thread.
    pub plain: f64,
    /// 1e9 floating-point operations of products per second, on one thread.
    pub gflops: f64,
}

/// The result.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The tier in use.
    pub tier: &'static str,
    /// Threads.
    pub threads: usize,
    /// Runs on one thread.
    pub fits: Vec<Fit>,
    /// Steps.
    pub speeds: Vec<Speed>,
    /// Seconds of a prediction of one row, and of one of many rows side by side.
    pub predict: [f64; 2],
    /// The most memory that the process ever had, in bytes, if the system tells.
    pub resident: Option<f64>,
}

/// Measures on a pool of one thread and on one of all, for about `budget`.
///
/// # Errors
/// A run fails.
pub fn run(budget: Duration, [one, all]: [&ThreadPool; 2]) -> Result<Report, Error> {
    let tier = hotlanes::tier();
    let fits = one.install(|| {
        hotlanes::with_tier(tier, || ROWS.iter().map(|&rows| fit(rows)).collect::<Result<_, _>>())
            .expect("it is in use")
    })?;
    // Before the larger models of the steps.
    let resident = memory::resident().map(|[_, most]| most);
    let default = Settings::default().batch;
    let shapes: Vec<(usize, usize)> = BATCHES
        .iter()
        .map(|&batch| (batch, 64))
        .chain(WIDTHS.iter().map(|&width| (default, width)))
        .collect();
    let each = budget / shapes.len() as u32;
    let speeds = shapes
        .iter()
        .map(|&(batch, width)| speed(batch, width, each, [one, all]))
        .collect::<Result<_, _>>()?;
    let predict = one.install(|| hotlanes::with_tier(tier, predictions).expect("it is in use"))?;
    let threads = all.current_num_threads();
    Ok(Report { tier: tier.name(), threads, fits, speeds, predict, resident })
}

/// The source of so many drawn rows.
fn drawn(rows: usize) -> Source {
    Source { file: None, columns: csv::Options::default(), rows, shares: Shares::default() }
}

fn fit(rows: usize) -> Result<Fit, Error> {
    let settings = Settings::default();
    let data: Data = drawn(rows).load(settings.seed)?;
    let started = Instant::now();
    let mut run = Run::new(settings, &data)?;
    let patience = run.settings().patience;
    while run.is_due() || (run.epoch() < EPOCHS && run.history.since_best < patience) {
        if run.is_due() {
            run.evaluate()?;
        } else {
            run.advance()?;
        }
    }
    let (validation, test) = run.test();
    let seconds = started.elapsed().as_secs_f64();
    let r2 = |metrics: Option<Metrics>| match metrics {
        Some(Metrics::Regression { r2: Some(r2), .. }) => r2,
        _ => f64::NAN,
    };
    Ok(Fit {
        rows,
        epochs: run.epoch(),
        best_epoch: run.history.best.map_or(0, |point| point.epoch),
        seconds,
        validation_r2: r2(Some(validation)),
        test_r2: r2(test),
        memory: run.engine.memory().total() + run.rooms_bytes() + run.batch_bytes(),
    })
}

/// Seconds of a row alone, and of one among many.
fn predictions() -> Result<[f64; 2], Error> {
    let settings = Settings::default();
    let data = drawn(ROWS[0]).load(settings.seed)?;
    let run = Run::new(settings, &data)?;
    let mut params = AlignedVec::default();
    params.resize_for_overwrite(run.engine.params().len());
    params.copy_from_slice(run.engine.params());
    let model = Described::new(run.settings(), run.loss(), &data);
    let predictor = RefCell::new(Predictor::new(Trained { model, step: 0, params }));
    let row = [0.1, 0.2, 0.3, 0.4, 0.5];
    let mut ways = [
        Way::new(|| {
            for _ in 0..TILE {
                black_box(predictor.borrow_mut().predict_row(black_box(&row)));
            }
        }),
        Way::new(|| {
            let mut predictor = predictor.borrow_mut();
            while predictor.push(black_box(&row)) {}
            black_box(predictor.flush());
        }),
    ];
    windows::measure(&mut ways, Duration::from_millis(200));
    let [single, many] = &ways;
    Ok([single, many].map(|way| way.fastest() / TILE as f64))
}

fn speed(batch: usize, width: usize, budget: Duration, [one, all]: [&ThreadPool; 2]) -> Result<Speed, Error> {
    let tier = hotlanes::tier();
    let settings = Settings { hidden: vec![width; 3], batch, ..Settings::default() };
    let layout = Layout::new(smooth::FEATURES, &settings.hidden, 1, false);
    let flops = layout.flops(batch);
    let mut engine = Engine::new(layout, &settings, LossKind::Mse)?;
    let mut plain = Baseline::new(engine.layout(), engine.params());
    let mut rng = Rng::new(1, 0, 0, 0);
    let mut draw = |n: usize| (0..n).map(|_| rng.symmetric()).collect::<Vec<f32>>();
    let (rows, targets) = (draw(batch * smooth::FEATURES), draw(batch));
    let mut x = AlignedVec::default();
    x.resize_for_overwrite(rows.len());
    x.copy_from_slice(&rows);
    // The same steps by both, before they are timed.
    for _ in 0..2 {
        let ours = engine.gradients(&x, Targets::Numbers(&targets));
        engine.step(1e-4);
        let loops = f64::from(plain.step(&rows, &targets, 1e-4));
        if (ours - loops).abs() > 1e-4 * loops {
            return Err(Error::Diverged(format!(
                "batch {batch}, width {width}: loss {ours}, by plain loops {loops}"
            )));
        }
    }
    // About 2 ms in a window.
    let repeats = (2e8 / flops).ceil().clamp(1.0, 1000.0) as usize;
    // Inside the pool of one thread, so that its windows do not include waking that thread.
    one.install(|| {
        // Both ways use the one engine.
        let steps = &RefCell::new(|pool: &ThreadPool| {
            pool.install(|| {
                hotlanes::with_tier(tier, || {
                    for _ in 0..repeats {
                        black_box(engine.gradients(&x, Targets::Numbers(&targets)));
                        engine.step(1e-4);
                    }
                })
                .expect("it is in use");
            });
        });
        let on = |pool| Way::new(move || (steps.borrow_mut())(pool));
        let loops = Way::new(|| {
            black_box(plain.step(&rows, &targets, 1e-4));
        });
        let mut ways = [on(one), on(all), loops];
        windows::measure(&mut ways, budget);
        let [of_one, of_all, of_loops] = &ways;
        let seconds = of_one.fastest() / repeats as f64;
        Ok(Speed {
            batch,
            width,
            one: batch as f64 / seconds,
            all: (batch * repeats) as f64 / of_all.fastest(),
            plain: batch as f64 / of_loops.fastest(),
            gflops: 1e-9 * flops / seconds,
        })
    })
}
