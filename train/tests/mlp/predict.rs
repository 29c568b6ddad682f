//! Predictions of one row and of many have the same bits, and those of training.

use hotlanes_train::data::csv::Task;
use hotlanes_train::models::mlp::layout::Layout;
use hotlanes_train::models::mlp::predict::TILE;
use hotlanes_train::models::mlp::settings::{LossKind, Settings};
use hotlanes_train::rng::Rng;

use crate::common::{ACTS, LOSSES, load_csv, predictor, rough, settings};

#[test]
fn one_row_and_many_have_the_same_bits() {
    for loss in LOSSES {
        for (activation, hidden) in ACTS.into_iter().zip([vec![], vec![5], vec![33, 7], vec![4, 4, 4]]) {
            let settings = Settings { hidden, activation, dropout: 0.2, ..settings() };
            let outputs = if loss == LossKind::CrossEntropy { 5 } else { 1 };
            let layout = Layout::new(6, &settings.hidden, outputs, true);
            let mut predictor = predictor(&layout, &settings, loss, rough(&layout, 2));
            let width = predictor.width();
            assert_eq!(width, [1, 2, 5][usize::from(loss.classifies()) + usize::from(outputs == 5)]);
            let mut rng = Rng::new(4, 0, 0, 0);
            let rows: Vec<[f64; 6]> =
                (0..TILE + 3).map(|_| std::array::from_fn(|_| f64::from(2.0 * rng.normal()))).collect();
            let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<u64>>();
            let one: Vec<Vec<u64>> = rows.iter().map(|row| bits(predictor.predict_row(row))).collect();
            for (first, count) in [(0, 1), (0, 2), (1, 17), (0, TILE), (3, TILE), (5, 100)] {
                for (i, row) in rows[first..first + count].iter().enumerate() {
                    assert_eq!(predictor.push(row), i + 1 < TILE);
                }
                assert_eq!(bits(predictor.flush()), one[first..first + count].concat(), "{first}, {count}");
            }
            assert!(predictor.flush().is_empty());
            if loss.classifies() {
                let probabilities = predictor.predict_row(&rows[0]).to_vec();
                let sum: f64 = probabilities.iter().sum();
                assert!((sum - 1.0).abs() < 1e-6 && probabilities.iter().all(|p| (0.0..=1.0).contains(p)));
                let most = (0..width).max_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b])).unwrap();
                assert_eq!(predictor.class(&probabilities), Some(&*format!("class {most}")));
            }
        }
    }
}

/// Rows that wait are forgotten by a prediction of one.
#[test]
fn a_row_by_itself_starts_anew() {
    let layout = Layout::new(2, &[], 1, false);
    let mut predictor =
        predictor(&layout, &Settings { hidden: vec![], ..settings() }, LossKind::Mse, rough(&layout, 1));
    assert!(predictor.push(&[9.0, 9.0]));
    assert_eq!(predictor.predict_row(&[1.0, 2.0]).len(), 1);
    assert!(predictor.flush().is_empty());
}

#[test]
#[should_panic(expected = "a row of 3 values: must be 2")]
fn another_row_is_the_callers_bug() {
    let layout = Layout::new(2, &[], 1, false);
    let settings = Settings { hidden: vec![], ..settings() };
    predictor(&layout, &settings, LossKind::Mse, layout.zeros()).predict_row(&[1.0, 2.0, 3.0]);
}

/// What no weight was trained on does no harm.
#[test]
fn values_far_out_give_finite_predictions() {
    let rows: String = (0..40).map(|i| format!("{i},7,{}\n", 3 * i)).collect();
    let (_directory, recipe, data) = load_csv(&format!("a,constant,y\n{rows}"), Task::Regression, settings());
    let run = hotlanes_train::models::mlp::run::Run::new(recipe.settings, &data).unwrap();
    let model = hotlanes_train::models::mlp::state::Described::new(run.settings(), run.loss(), &data);
    let mut params = run.engine.layout().zeros();
    params.copy_from_slice(run.engine.params());
    let mut predictor =
        hotlanes_train::models::mlp::predict::Predictor::new(hotlanes_train::models::mlp::state::Trained {
            model,
            step: 0,
            params,
        });
    let near = predictor.predict_row(&[5.0, 7.0]).to_vec();
    assert_eq!(predictor.predict_row(&[5.0, 1e38]), near, "a constant feature does not count");
    for a in [1e38, -1e38, 1e-300] {
        assert!(predictor.predict_row(&[a, 7.0])[0].is_finite(), "{a}");
    }
}
