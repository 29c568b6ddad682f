//! CSV files: as a table to train on, and as rows for the model of that table.
#![no_main]

use hotlanes_train::data::csv::{self, Format, Options, Reader, Task};
use hotlanes_train::data::table::Shares;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let [mode, target, bytes @ ..] = bytes else { return };
    let flag = |bit: u8| mode & bit != 0;
    let delimiter = [b',', b';', b'\t', b' '][usize::from(mode >> 4 & 3)];
    let options = Options {
        format: Format { header: flag(1), delimiter },
        target: Some((target % 8).to_string()),
        one_hot: if flag(2) { vec![((target >> 3) % 8).to_string()] } else { vec![] },
        task: if flag(4) { Task::Classification } else { Task::Regression },
        skip_bad_rows: flag(8),
        ..Options::default()
    };
    let Ok((table, _)) = csv::read(bytes, "f".into(), &options) else { return };
    let schema = table.schema();
    if let Ok(split) = table.split(Shares::default(), 1) {
        let parts = [&split.train, &split.validation, &split.test];
        assert_eq!(parts.iter().map(|part| part.rows).sum::<usize>(), table.rows());
        for part in parts {
            assert_eq!(part.features.len(), part.rows * schema.features());
            assert!(part.features.iter().chain(&part.targets).all(|value| value.is_finite()));
            assert!(part.labels.iter().all(|&label| (label as usize) < schema.outputs()));
        }
    }
    // Its rows are those of the table; a row whose target alone is bad is one more.
    let mut reader = Reader::new(bytes, "f".into(), schema, options.format).expect("it was read before");
    let mut next = 0;
    loop {
        match reader.next_row() {
            Ok(None) => break,
            Ok(Some(row)) => next += usize::from(next < table.rows() && row == table.row(next)),
            Err(e) => assert!(e.is_row() && options.skip_bad_rows, "{e}"),
        }
    }
    assert_eq!(next, table.rows());
});
