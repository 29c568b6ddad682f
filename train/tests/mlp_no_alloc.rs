//! A perceptron's steps, evaluations and predictions never go to the allocator once they have begun, on any thread.

use hotlanes_train::data::csv::Options;
use hotlanes_train::data::table::Shares;
use hotlanes_train::models::mlp::data::Source;
use hotlanes_train::models::mlp::engine::Engine;
use hotlanes_train::models::mlp::head::Targets;
use hotlanes_train::models::mlp::layout::Layout;
use hotlanes_train::models::mlp::predict::{Predictor, TILE};
use hotlanes_train::models::mlp::run::Run;
use hotlanes_train::models::mlp::settings::{LossKind, Settings};
use hotlanes_train::models::mlp::state::{Described, Trained};
use hotlanes_train::models::mlp::trainer::Recipe;
use hotlanes_train::shell::trainer::Recipe as _;

#[path = "../../tests/common/counting.rs"]
mod counting;

use counting::calls_everywhere;

/// Allocator calls in three epochs with their evaluations, and in predictions, the second time.
fn calls_of_run(settings: &Settings) -> [usize; 2] {
    let shares = Shares { validation: 0.2, test: 0.1 };
    let source = Source { file: None, columns: Options::default(), rows: 900, shares };
    let mut recipe = Recipe { settings: settings.clone(), source };
    let data = recipe.load().unwrap();
    let mut run = Run::new(recipe.settings, &data).unwrap();
    let mut epochs = || {
        for _ in 0..3 {
            (0..run.steps_per_epoch()).for_each(|_| run.advance().unwrap());
            assert!(run.is_due());
            run.evaluate().unwrap();
        }
    };
    epochs();
    let steps = calls_everywhere(epochs);

    let mut params = run.engine.layout().zeros();
    params.copy_from_slice(run.engine.params());
    let model = Described::new(run.settings(), run.loss(), &data);
    let mut predictor = Predictor::new(Trained { model, step: 0, params });
    let mut rows = || {
        assert!(predictor.predict_row(&[0.1, 0.2, 0.3, 0.4, 0.5])[0].is_finite());
        (0..TILE).for_each(|i| assert_eq!(predictor.push(&[0.5; 5]), i + 1 < TILE));
        assert_eq!(predictor.flush().len(), TILE);
    };
    rows();
    [steps, calls_everywhere(rows)]
}

/// Allocator calls in steps of whole and of short batches.
fn calls_of_engine(settings: &Settings) -> usize {
    let layout = Layout::new(3, &settings.hidden, 4, settings.dropout > 0.0);
    let mut engine = Engine::new(layout, settings, LossKind::CrossEntropy).unwrap();
    let (x, classes) = (vec![0.25; 3 * settings.batch], vec![2; settings.batch]);
    let mut steps = || {
        for rows in [settings.batch, 1, settings.batch / 2 + 1] {
            assert!(engine.gradients(&x[..3 * rows], Targets::Classes(&classes[..rows])) > 0.0);
            engine.step(1e-3);
        }
    };
    steps();
    calls_everywhere(steps)
}

#[test]
fn steady_state_does_not_allocate() {
    let one = calls_everywhere(|| drop(std::hint::black_box(vec![1.0f32; 100])));
    assert!(one >= 2, "the counter counts: {one}");
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for (batch, hidden, dropout) in [(64, vec![], 0.0), (64, vec![9, 8], 0.2), (600, vec![40], 0.0)] {
            let settings = Settings { batch, hidden, dropout, ..Settings::default() };
            let what = format!("{threads} threads, {settings:?}");
            assert_eq!(pool.install(|| calls_of_run(&settings)), [0, 0], "{what}");
            assert_eq!(pool.install(|| calls_of_engine(&settings)), 0, "{what}");
        }
    }
}
