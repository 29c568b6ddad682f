//! Figures that a run reports, computed again from its model's predictions; tables at the edges.

use hotlanes_train::data::csv::Task;
use hotlanes_train::models::mlp::data::Data;
use hotlanes_train::models::mlp::metrics::Metrics;
use hotlanes_train::models::mlp::predict::Predictor;
use hotlanes_train::models::mlp::run::Run;
use hotlanes_train::models::mlp::settings::{LossKind, Settings};
use hotlanes_train::models::mlp::state::{Described, Trained};
use hotlanes_train::models::mlp::trainer::Recipe;
use hotlanes_train::rng::Rng;
use hotlanes_train::shell::trainer::Trainer;
use serde_json::Value;

use crate::common::{load_csv, settings};

/// The run after its last epoch, evaluated, and a predictor with its model as it is.
fn trained<'a>(recipe: &Recipe, data: &'a Data, epochs: u64) -> (Run<'a>, Predictor) {
    let mut run = Run::new(recipe.settings.clone(), data).unwrap();
    while run.is_due() || run.epoch() < epochs {
        Trainer::advance(&mut run).unwrap();
    }
    let mut params = run.engine.layout().zeros();
    params.copy_from_slice(run.engine.params());
    let model = Described::new(run.settings(), run.loss(), data);
    (run, Predictor::new(Trained { model, step: 0, params }))
}

/// Of the best model on the validation rows.
fn metrics(run: &mut Run<'_>) -> Metrics {
    run.evaluate().unwrap();
    let fields = Trainer::finish(run, None, &|| false).unwrap().unwrap().fields;
    let fields: Value = serde_json::from_str(&fields).unwrap();
    serde_json::from_value(fields["validation"].clone()).unwrap()
}

/// A feature of a validation row in the file's units.
fn feature(data: &Data, row: usize, column: usize) -> f64 {
    let x = data.validation.features[row * data.schema.features() + column];
    data.standardizer.scales()[column].undo(x)
}

#[test]
fn figures_of_numbers_are_those_of_the_predictions() {
    let mut rng = Rng::new(1, 0, 0, 0);
    let target = |a: f64, b: f64| 1000.0 + 30.0 * a - 5.0 * b * b;
    let rows: Vec<[f64; 2]> = (0..120).map(|_| [(); 2].map(|()| f64::from(rng.normal()))).collect();
    let text: String = rows.iter().map(|&[a, b]| format!("{a},{},{b}\n", target(a, b))).collect();
    let settings = Settings { lr: 0.03, decay: 30, patience: 0, ..settings() };
    let (_directory, recipe, data) = load_csv(&format!("a,y,b\n{text}"), Task::Regression, settings);
    let (mut run, mut predictor) = trained(&recipe, &data, 30);
    // The best model is the last here, or this test would compare two.
    assert_eq!(run.history.best, run.history.validation, "choose another seed");
    let count = data.validation.rows;
    let pairs: Vec<(f64, f64)> = (0..count)
        .map(|row| {
            let [a, b] = [0, 1].map(|column| feature(&data, row, column));
            (predictor.predict_row(&[a, b])[0], target(a, b))
        })
        .collect();
    let mean = |values: &dyn Fn(&(f64, f64)) -> f64| pairs.iter().map(values).sum::<f64>() / count as f64;
    let middle = mean(&|p| p.1);
    let (mse, mae) = (mean(&|p| (p.0 - p.1).powi(2)), mean(&|p| (p.0 - p.1).abs()));
    let r2 = 1.0 - mse / mean(&|p| (p.1 - middle).powi(2));
    let near = |a: f64, b: f64| (a - b).abs() < 1e-3 * b.abs();
    match metrics(&mut run) {
        Metrics::Regression { r2: Some(told_r2), mse: told_mse, mae: told_mae } => {
            assert!(
                near(told_r2, r2) && near(told_mse, mse) && near(told_mae, mae),
                "{told_r2} {r2} {told_mse} {mse}"
            );
            assert!(r2 > 0.9, "{r2}");
        }
        other => panic!("{other:?}"),
    }
}

/// Classes with these names, by how large `a + b` is.
fn classes(names: &[&str], loss: Option<LossKind>) {
    let mut rng = Rng::new(2, 0, 0, 0);
    let class = |a: f64, b: f64| {
        ((a + b + 2.0) / 4.0 * names.len() as f64).clamp(0.0, names.len() as f64 - 1.0) as usize
    };
    let rows: Vec<[f64; 2]> = (0..200).map(|_| [(); 2].map(|()| f64::from(rng.symmetric()))).collect();
    let text: String = rows.iter().map(|&[a, b]| format!("{a},\"{}\",{b}\n", names[class(a, b)])).collect();
    let settings = Settings { lr: 0.03, decay: 30, patience: 0, loss, ..settings() };
    let (_directory, recipe, data) = load_csv(&format!("a,y,b\n{text}"), Task::Classification, settings);
    let (mut run, mut predictor) = trained(&recipe, &data, 30);
    let want = match (names.len(), loss) {
        (2, None) => LossKind::Bce,
        _ => LossKind::CrossEntropy,
    };
    assert_eq!((run.loss(), predictor.width()), (want, names.len()));
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    assert_eq!(data.schema.classes().unwrap(), sorted);

    // With the model that the figures are of.
    let best = Trainer::best(&run).unwrap().0["epoch"].as_u64();
    let mut at_best = trained(&recipe, &data, best.unwrap()).1;
    let (count, mut right, mut loss) = (data.validation.rows, 0.0, 0.0);
    for row in 0..count {
        let [a, b] = [0, 1].map(|column| feature(&data, row, column));
        let probabilities = at_best.predict_row(&[a, b]).to_vec();
        assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-6, "{probabilities:?}");
        let name = names[class(a, b)];
        right += f64::from(u8::from(at_best.class(&probabilities) == Some(name)));
        loss -= probabilities[sorted.iter().position(|&n| n == name).unwrap()].ln() / count as f64;
    }
    assert_eq!(predictor.predict_row(&[0.0, 0.0]).len(), names.len());
    match metrics(&mut run) {
        Metrics::Classification { accuracy, log_loss } => {
            assert_eq!(accuracy, right / count as f64);
            assert!((log_loss - loss).abs() < 1e-4, "{log_loss}, {loss}");
            assert!(accuracy > 0.7, "{accuracy}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn figures_of_classes_are_those_of_the_predictions() {
    classes(&["no", "yes"], None);
    classes(&["no", "yes"], Some(LossKind::CrossEntropy));
    classes(&["very small", "small", "medium, or so", "gr\u{f6}\u{df}er", "largest"], None);
}

#[test]
fn a_constant_target_does_no_harm() {
    let rows: String = (0..30).map(|i| format!("{},14.62\n", i * i % 7)).collect();
    let (_directory, recipe, data) = load_csv(&format!("a,y\n{rows}"), Task::Regression, settings());
    let (mut run, mut predictor) = trained(&recipe, &data, 4);
    let said = run.describe(4).join("\n");
    assert!(said.contains("all targets of the training rows are equal"), "{said}");
    match metrics(&mut run) {
        Metrics::Regression { r2: None, mae, .. } => assert!(mae < 1.0, "{mae}"),
        other => panic!("{other:?}"),
    }
    let value = predictor.predict_row(&[3.0])[0];
    assert!((value - 14.62).abs() < 1.0, "{value}");
}

#[test]
fn a_few_rows_are_enough() {
    // One each for validation and test, and more features than rows.
    let columns: Vec<String> = (0..9).map(|i| format!("x{i}")).collect();
    let row = |i: i32| (0..9).map(|j| (i * i * (j + 3) % 11).to_string()).collect::<Vec<_>>().join(",");
    let rows: String = (0..5).map(|i| format!("{},{}\n", row(i), 2 * i)).collect();
    let text = format!("{},y\n{rows}", columns.join(","));
    let (_directory, recipe, data) = load_csv(&text, Task::Regression, settings());
    assert_eq!([&data.train, &data.validation, &data.test].map(|part| part.rows), [3, 1, 1]);
    let (mut run, _) = trained(&recipe, &data, 4);
    assert_eq!((run.steps_per_epoch(), run.history.step), (1, 4));
    let said = run.describe(4).join("\n");
    assert!(said.contains("more features (9) than rows to train on (3)"), "{said}");
    match metrics(&mut run) {
        // Of one row the R² is undefined.
        Metrics::Regression { r2: None, mse, mae } => {
            assert!((mse - mae * mae).abs() < 1e-9 * mse, "{mse} {mae}")
        }
        other => panic!("{other:?}"),
    }
}

/// A model that learns by heart comes to the training targets.
#[test]
fn training_learns() {
    let rows: String = (0..40).map(|i| format!("{i},{}\n", (i - 20) * (i - 20))).collect();
    let settings = Settings { hidden: vec![64, 64], lr: 0.02, decay: 300, patience: 0, ..settings() };
    let (_directory, recipe, data) = load_csv(&format!("a,y\n{rows}"), Task::Regression, settings);
    let (run, _) = trained(&recipe, &data, 300);
    let first = trained(&recipe, &data, 1).0.history.training.unwrap().loss;
    let last = run.history.training.unwrap().loss;
    assert!(last < 0.1 * first, "{first} {last}");
}
