//! A model's file that lies about the model: it is refused, or predicts something. It never panics.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use hotlanes_train::data::csv::{Format, Reader, Task};
use hotlanes_train::models::mlp::predict::Predictor;
use hotlanes_train::models::mlp::settings::Settings;
use hotlanes_train::models::mlp::state;
use hotlanes_train::shell::ranks::Alone;
use hotlanes_train::shell::session;
use hotlanes_train::shell::trainer::BEST;
use hotlanes_train::store::checkpoint;
use serde_json::{Value, json};

use crate::common::{options, recipe, settings};

const ROWS: &str =
    "a,colour,b,y\n1,red,2,no\n3,blue,4,yes\n5,red,6,no\n2,green,1,yes\n7,red,3,no\n4,blue,2,yes\n";

/// A run with numbers or classes as targets, and categories among the features.
fn run(directory: &Path, task: Task) {
    let file = directory.join("rows.csv");
    fs::write(&file, ROWS).unwrap();
    let mut recipe = recipe(Settings { hidden: vec![3, 2], ..settings() });
    let (target, one_hot) = match task {
        Task::Regression => ("b", vec!["colour".into(), "y".into()]),
        Task::Classification => ("y", vec!["colour".into()]),
    };
    recipe.source.file = Some(file);
    let columns = &mut recipe.source.columns;
    (columns.target, columns.one_hot, columns.task) = (Some(target.into()), one_hot, task);
    session::start(recipe, &options(directory, 2), &Alone).unwrap();
}

/// Reads the model and predicts by it: how far that came.
fn predict(directory: &Path) -> Result<usize, String> {
    let trained = state::load(directory, false).map_err(|e| e.to_string())?;
    let schema = trained.model.schema.clone();
    let mut predictor = Predictor::new(trained);
    let format = Format { header: schema.header, delimiter: schema.delimiter };
    let mut reader =
        Reader::new(ROWS.as_bytes(), "rows".into(), &schema, format).map_err(|e| e.to_string())?;
    let mut values = 0;
    while let Some(row) = reader.next_row().map_err(|e| e.to_string())? {
        predictor.push(row);
        let prediction = predictor.flush().to_vec();
        predictor.class(&prediction);
        values += prediction.len();
    }
    Ok(values)
}

/// Every place in a value.
fn places(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| places(value, &format!("{at}/{name}"), all))
        }
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(i, value)| places(value, &format!("{at}/{i}"), all))
        }
        _ => {}
    }
}

#[test]
fn a_model_that_lies_is_refused_or_predicts() {
    for task in [Task::Regression, Task::Classification] {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path();
        run(out, task);
        let path = checkpoint::index_path(out, BEST);
        let index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(predict(out), Ok(6 * if task == Task::Classification { 2 } else { 1 }));
        let mut all = Vec::new();
        places(&index["about"]["model"], "/about/model", &mut all);
        assert!(all.len() > 40, "{all:?}");
        let lies = [
            json!(null),
            json!(true),
            json!(0),
            json!(-1),
            json!(1),
            json!(1e308),
            json!(u64::MAX),
            json!(1_u64 << 40),
            json!(""),
            json!("number"),
            json!([]),
            json!([0]),
            json!(["red"]),
            json!([u64::MAX, u64::MAX]),
            json!({}),
            json!({ "categories": [] }),
            json!({ "categories": ["red", "red"] }),
        ];
        let (mut refused, mut worked) = (0, 0);
        for place in &all {
            for lie in &lies {
                let mut changed = index.clone();
                *changed.pointer_mut(place).unwrap() = lie.clone();
                fs::write(&path, changed.to_string()).unwrap();
                match catch_unwind(AssertUnwindSafe(|| predict(out))) {
                    Ok(Ok(_)) => worked += 1,
                    Ok(Err(told)) => {
                        assert!(
                            told.contains("best") || told.starts_with("rows") || told.contains("delimiter"),
                            "{place} = {lie}: {told}"
                        );
                        refused += 1;
                    }
                    Err(_) => panic!("{place} = {lie}: panicked"),
                }
            }
        }
        assert!(refused > 8 * worked, "{refused} refused, {worked} not");
    }
}
