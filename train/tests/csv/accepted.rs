//! What is accepted: tables, and rows for a model.

use std::fs;

use hotlanes_train::data::csv::{Format, Options, Reader, Task, load};
use hotlanes_train::data::standardize::Standardizer;
use hotlanes_train::data::table::{Schema, Shares};
use proptest::prelude::*;

use super::{categories, headerless, names, options, parse, rows, rows_for, table, told, with};

#[test]
fn bad_rows_can_be_skipped() {
    let skip = Options { skip_bad_rows: true, one_hot: names(&["c"]), ..options() };
    let text = "c,x,y\nred,1,2\nblue,bad,2\n,1,2\ngreen,1,NA\ngrey,1\nred,3,4\nb\u{fffd},5,6\n";
    let mut bytes = text.as_bytes().to_vec();
    let at = bytes.windows(3).position(|w| w == "\u{fffd}".as_bytes()).unwrap();
    bytes.splice(at..at + 3, [0xff]);
    let (table, skipped) = parse(&bytes, &skip).unwrap();
    assert_eq!(rows(&table), [[0.0, 1.0, 2.0], [0.0, 3.0, 4.0]]);
    assert_eq!(categories(&table.schema().columns[0].kind), ["red"], "a bad row has no category");
    assert_eq!((skipped.count, skipped.first.len()), (5, 5));
    assert!(skipped.first[3].starts_with("f: line 6: 2 fields: must be 3"), "{:?}", skipped.first);
    let (_, skipped) =
        parse(format!("x,y\n1,2\n{}", "?,1\n".repeat(100)), &Options { one_hot: vec![], ..skip.clone() })
            .unwrap();
    assert_eq!((skipped.count, skipped.first.len()), (100, 5));
    assert_eq!(
        told("c,x,y\na,?,1\nb,2,?\n", &skip),
        "f: none of the 2 rows can be used; the first: f: line 2, column \"x\": \"?\": must be a number, and this \
         marks a missing value; fill it in, or leave such rows out with --skip-bad-rows"
    );
}

#[test]
fn marks_line_ends_blank_lines_quotes_and_spaces_are_fine() {
    let want = [[1.5, -2.0, 3.0], [4.0, 5.0, 6.0]];
    let texts = [
        "x,z,y\n1.5,-2,3\n4,5,6\n",
        "x,z,y\n1.5,-2,3\n4,5,6",
        "\u{feff}x,z,y\r\n1.5,-2,3\r\n4,5,6\r\n",
        "x,z,y\r\n\r\n1.5,-2,3\n4,5,6\n\n\n\r\n  \r\n",
        " x , z,y \n 1.5,\t-2,3 \n4 , 5 ,6",
        "\"x\",\"z\",\"y\"\n\"1.5\",\"-2\",\"3\"\n\"4\n\",\"\n5\",\" 6 \"\r\n",
        "x,note,z,y\n1.5,\"a,\"\"b\"\"\r\n,c\",-2,3\n4,,5,6\n",
        "\u{feff}\"x\",z,y\n1.5,-2,3\n4,5,6",
    ];
    for text in texts {
        let features = Options { features: names(&["x", "z"]), ..options() };
        let table = table(text, &features);
        assert_eq!(rows(&table), want, "{text:?}");
        assert_eq!(table.schema().feature_names(), ["x", "z"]);
    }
    for (delimiter, text) in [(b';', "x;z;y\n1.5;-2;3\n4;5;6"), (b'\t', "x\tz\ty\n1.5\t-2\t3\n4\t5\t6\n")] {
        assert_eq!(rows(&table(text, &with(delimiter))), want);
    }
}

#[test]
fn columns_are_named_or_numbered() {
    let target = |name: &str| Options { target: Some(name.into()), ..Options::default() };
    // A name wins over a number.
    assert_eq!(rows(&table("b,0,a\n5,6,7\n", &target("0"))), [[5.0, 7.0, 6.0]]);
    assert_eq!(rows(&table("b,0,a\n5,6,7\n", &target("2"))), [[5.0, 6.0, 7.0]]);
    let bare = table("5,6,7\n8,9,10\n", &headerless());
    assert_eq!(rows(&bare), [[5.0, 7.0, 6.0], [8.0, 10.0, 9.0]]);
    let schema = bare.schema();
    assert_eq!(
        (schema.feature_names(), schema.target.name.as_str(), schema.width),
        (names(&["0", "2"]), "1", 3)
    );
    // In the order of the file, and categories are features whether they are named as such or not.
    let text = "c,x,d,y\nr,1,a,2\ng,3,b,4\n";
    let chosen = |features: &[&str], one_hot: &[&str]| {
        let options = Options { features: names(features), one_hot: names(one_hot), ..options() };
        table(text, &options).schema().feature_names().join(" ")
    };
    assert_eq!(chosen(&[], &["d", "c"]), "c=g c=r x d=a d=b");
    assert_eq!(chosen(&["x"], &["c"]), "c=g c=r x");
    assert_eq!(chosen(&["x", "c"], &["0"]), "c=g c=r x");
}

#[test]
fn classes_and_categories_are_sorted() {
    let classes = Options { task: Task::Classification, ..options() };
    let text = table("x,y\n1,setosa\n2, versicolor\n3,\"setosa\"\n4,Virginica\n", &classes);
    assert_eq!(text.schema().classes().unwrap(), ["Virginica", "setosa", "versicolor"]);
    assert_eq!(text.targets(), [1.0, 2.0, 1.0, 0.0]);
    let numbers = table("x,y\n1,10\n2,9\n3,-1\n4,10\n", &classes);
    assert_eq!(numbers.schema().classes().unwrap(), ["-1", "9", "10"]);
    assert_eq!(numbers.targets(), [2.0, 1.0, 0.0, 2.0]);
    assert_eq!(
        told("x,y\n1,a\n2,a\n", &classes),
        "f: column \"y\": all rows have the class \"a\": there must be at least two classes"
    );
    let many: String = (0..10_001).map(|i| format!("{i},{i}.5\n")).collect();
    assert_eq!(
        told(format!("x,y\n{many}"), &classes),
        "f: line 10002, column \"y\": more than 10000 different values: are these numbers?"
    );
    let split = text.split(Shares::default(), 1).unwrap();
    assert_eq!((split.train.labels.len(), split.target), (2, None));
}

#[test]
fn the_hash_is_of_what_is_learned() {
    let hash = |text: &str, options: &Options| table(text, options).hash();
    let text = "x,z,y\n1,2,3\n4,5,6\n";
    let base = hash(text, &options());
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.csv"), text).unwrap();
    assert_eq!(load(&directory.path().join("a.csv"), &options()).unwrap().0.hash(), base);
    assert_eq!(hash("x;z;y\r\n1.0;\"2\";3\r\n\r\n4;5;6", &with(b';')), base);
    let features = Options { features: names(&["z", "x"]), ..options() };
    assert_eq!(hash("note,x,z,y\na,1,2,3\nb,4,5,6\n", &features), base);
    for other in
        ["x,w,y\n1,2,3\n4,5,6\n", "x,z,y\n1,2,3\n4,5,6.1\n", "x,z,y\n4,5,6\n1,2,3\n", "z,x,y\n1,2,3\n4,5,6\n"]
    {
        assert_ne!(hash(other, &options()), base, "{other:?}");
    }
    let colours = Options { one_hot: names(&["c"]), ..options() };
    assert_ne!(hash("c,y\nred,1\n", &colours), hash("c,y\nblue,1\n", &colours));
}

#[test]
fn a_model_finds_its_columns_in_another_file() {
    let colours = Options { one_hot: names(&["c"]), ..options() };
    let schema = table("c,x,y,z\nred,1,2,3\nblue,4,5,6\ngreen,4,5,6\n", &colours).schema().clone();
    let schema: Schema = serde_json::from_str(&serde_json::to_string(&schema).unwrap()).unwrap();
    let get = |text: &str| rows_for(text, &schema, Format::default()).map_err(|e| e.to_string());
    let want = Ok(vec![vec![2.0, 7.0, 8.0], vec![0.0, 9.0, 10.0]]);
    assert_eq!(get("c,x,z\nred,7,8\nblue,9,10\n"), want);
    assert_eq!(get("id,z,y,c,x\na,8,?, red ,7\nb,10,,\"blue\",9"), want);
    assert_eq!(get("c,x,z\n"), Ok(vec![]));
    assert_eq!(get(""), Err("p: is empty: must have at least one row".into()));
    assert_eq!(
        get("C,x,w\nred,7,8\n"),
        Err("p: no column \"c\", \"z\", which the model needs; there are \"C\", \"x\", \"w\"".into())
    );
    assert_eq!(
        get("c,x,z\nred,7,8\npink,9,10\n"),
        Err("p: line 3, column \"c\": \"pink\": must be a category that the model knows: \"blue\", \"green\", \"red\""
            .into())
    );
    assert_eq!(get("c,x,z\nred,tall,8\n"), Err("p: line 2, column \"x\": \"tall\": must be a number".into()));

    // After a bad row there is the next.
    let text = "c,x,z\nred,?,8\nred,7\nblue,9,10\n";
    let mut reader = Reader::new(text.as_bytes(), "p".into(), &schema, Format::default()).unwrap();
    for line in [2, 3] {
        assert!(reader.next_row().unwrap_err().is_row());
        assert_eq!(reader.line(), line);
    }
    assert_eq!(reader.next_row().unwrap(), Some(&[0.0, 9.0, 10.0][..]));
    assert_eq!(reader.next_row().unwrap(), None);
    assert_eq!(reader.next_row().unwrap(), None);

    // Features as the model has them.
    let mut features = [0.0; 5];
    schema.expand(&[2.0, 7.0, 8.0], &mut features);
    assert_eq!(features, [0.0, 0.0, 1.0, 7.0, 8.0]);
}

#[test]
fn a_model_without_a_header_finds_its_columns_by_number() {
    let schema = table("1,2,3\n4,5,6\n", &headerless()).schema().clone();
    let bare = Format { header: false, delimiter: b',' };
    let get = |text: &str, format| rows_for(text, &schema, format).map_err(|e| e.to_string());
    assert_eq!(get("7,0,8\n9,0,10\n", bare), Ok(vec![vec![7.0, 8.0], vec![9.0, 10.0]]));
    // Only the features.
    assert_eq!(get("7,8\n9,10\n", bare), Ok(vec![vec![7.0, 8.0], vec![9.0, 10.0]]));
    assert_eq!(get("a,b,c,d\n7,0,8,1\n", Format::default()), Ok(vec![vec![7.0, 8.0]]));
    let wide = table("1,2,3,4\n", &headerless()).schema().clone();
    assert_eq!(
        rows_for("1,2\n", &wide, bare).unwrap_err().to_string(),
        "p: no column 2, 3, which the model needs; there are 0, 1"
    );
    assert_eq!(get("7,0,8\n9,0,x\n", bare), Err("p: line 2, column 2: \"x\": must be a number".into()));
}

#[test]
fn a_model_of_one_feature_reads_files_of_one_column() {
    let named = table("x,y\n1,2\n3,4\n", &options()).schema().clone();
    let get = |text: &str| rows_for(text, &named, Format::default()).map_err(|e| e.to_string());
    assert_eq!(get("x\n7\n8\n"), Ok(vec![vec![7.0], vec![8.0]]));
    assert_eq!(get("x;z\n7\n"), Err("p: no column \"x\", which the model needs; there are \"x;z\"".into()));
    let bare = Format { header: false, delimiter: b',' };
    let numbered = table("1,2\n3,4\n", &headerless()).schema().clone();
    assert_eq!(rows_for("7\n8\n", &numbered, bare).unwrap(), [[7.0], [8.0]]);
    let two = table("w,x,y\n0,1,2\n1,3,4\n", &options()).schema().clone();
    assert_eq!(
        rows_for("w;x\n7;8\n", &two, Format::default()).unwrap_err().to_string(),
        "p: line 1: one column, \"w;x\": the model needs more; is the delimiter another? --delimiter ';'"
    );
}

#[test]
fn small_differences_survive_reading() {
    let text: String =
        (0..100).map(|k| format!("1.{:012},{k}e-12,{},14.62,{k}\n", k, 100_000_000 + k % 2)).collect();
    let table = table(format!("a,b,c,d,y\n{text}"), &options());
    let split = table.split(Shares { validation: 0.1, test: 0.0 }, 5).unwrap();
    let scales = split.standardizer.scales();
    let deviation = scales[1].scale();
    assert!((2.5e-11..3.3e-11).contains(&deviation), "{deviation}");
    assert!((scales[0].scale() / deviation - 1.0).abs() < 1e-3);
    assert!((scales[2].scale() - 0.5).abs() < 0.01);
    for row in split.validation.features.chunks_exact(4) {
        assert!((row[0] - row[1]).abs() < 1e-3 && (0.9..1.1).contains(&row[2].abs()), "{row:?}");
        assert_eq!(row[3].to_bits(), 0, "a constant");
    }
    let stored = serde_json::to_string(&split.standardizer).unwrap();
    assert_eq!(serde_json::from_str::<Standardizer>(&stored).unwrap(), split.standardizer);
}

/// A cell that needs quotes now and then.
fn cell() -> impl Strategy<Value = String> {
    "[a-z,;\"\n\r \u{e4}0-9]{0,6}"
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_a_writer_writes_is_read(
        rows in prop::collection::vec((prop::num::f32::NORMAL, -1e30..1e30_f64, cell(), "[a-c]", -9..9_i32), 1..30),
        semicolon: bool, crlf: bool, always: bool, mark: bool,
    ) {
        let delimiter = if semicolon { b';' } else { b',' };
        let mut writer = csv::WriterBuilder::new()
            .delimiter(delimiter)
            .terminator(if crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') })
            .quote_style(if always { csv::QuoteStyle::Always } else { csv::QuoteStyle::Necessary })
            .from_writer(if mark { b"\xef\xbb\xbf".to_vec() } else { Vec::new() });
        writer.write_record(["a", "b", "note", "c", "y"]).unwrap();
        for (a, b, note, c, y) in &rows {
            writer.write_record([&a.to_string(), &b.to_string(), note, c, &y.to_string()]).unwrap();
        }
        let bytes = writer.into_inner().unwrap();
        let options = Options { features: names(&["a", "b"]), one_hot: names(&["c"]), ..with(delimiter) };
        let table = table(&bytes, &options);
        prop_assert_eq!(table.rows(), rows.len());
        let known = categories(&table.schema().columns[2].kind);
        prop_assert!(known.is_sorted());
        for (i, (a, b, _, c, y)) in rows.iter().enumerate() {
            let row = table.row(i);
            prop_assert_eq!((row[0] as f32, row[1], table.targets()[i]), (*a, *b, f64::from(*y)));
            prop_assert_eq!(&known[row[2] as usize], c);
        }
        let text = String::from_utf8(bytes).unwrap();
        let format = options.format;
        let streamed = rows_for(&text, table.schema(), format).unwrap();
        prop_assert!(streamed.iter().enumerate().all(|(i, row)| row == table.row(i)));
    }

    #[test]
    fn any_bytes_are_a_table_or_an_error(
        bytes: Vec<u8>, text in "[xy0-9,;.\"\n\r\u{feff}?-]{0,60}", header: bool, skip_bad_rows: bool, classes: bool,
    ) {
        let task = if classes { Task::Classification } else { Task::Regression };
        let options = Options {
            format: Format { header, delimiter: b',' },
            target: Some("1".into()),
            one_hot: if classes { names(&["0"]) } else { vec![] },
            task,
            skip_bad_rows,
            ..Options::default()
        };
        for bytes in [bytes, text.clone().into_bytes(), format!("x,y\n{text}").into_bytes()] {
            match parse(&bytes, &options) {
                Err(e) => prop_assert!(e.to_string().starts_with("f: ")),
                Ok((table, _)) => {
                    prop_assert!(table.rows() > 0);
                    let mut features = vec![0.0; table.schema().features()];
                    (0..table.rows()).for_each(|i| table.schema().expand(table.row(i), &mut features));
                    let mut reader =
                        Reader::new(&bytes[..], "f".into(), table.schema(), options.format).unwrap();
                    let mut count = 0;
                    loop {
                        match reader.next_row() {
                            Ok(None) => break,
                            Ok(Some(_)) => count += 1,
                            Err(e) => prop_assert!(e.is_row(), "{e}"),
                        }
                    }
                    prop_assert!(count >= table.rows());
                }
            }
        }
    }
}
