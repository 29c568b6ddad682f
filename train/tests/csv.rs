//! CSV files: each fault with its message, what is accepted, and rows for a model.

use std::fs;
use std::path::Path;

use hotlanes_train::data::csv::{CsvError, Format, Options, Reader, Skipped, Task, load, read};
use hotlanes_train::data::standardize::Standardizer;
use hotlanes_train::data::table::{Kind, Schema, Shares, Table};
use proptest::prelude::*;

/// Predicts column `y`.
fn options() -> Options {
    Options { target: Some("y".into()), ..Options::default() }
}

fn with(delimiter: u8) -> Options {
    Options { format: Format { header: true, delimiter }, ..options() }
}

/// Column 1 of a file without a header.
fn headerless() -> Options {
    Options {
        format: Format { header: false, delimiter: b',' },
        target: Some("1".into()),
        ..Options::default()
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn parse(text: impl AsRef<[u8]>, options: &Options) -> Result<(Table, Skipped), CsvError> {
    read(text.as_ref(), "f".into(), options)
}

#[track_caller]
fn table(text: impl AsRef<[u8]>, options: &Options) -> Table {
    parse(text, options).unwrap().0
}

#[track_caller]
fn told(text: impl AsRef<[u8]>, options: &Options) -> String {
    parse(text, options).unwrap_err().to_string()
}

fn rows(table: &Table) -> Vec<Vec<f64>> {
    (0..table.rows()).map(|i| [table.row(i), &table.targets()[i..=i]].concat()).collect()
}

fn categories(kind: &Kind) -> &[String] {
    match kind {
        Kind::Categories(names) => names,
        Kind::Number => panic!("numbers"),
    }
}

#[test]
fn a_bad_cell_is_told_by_line_column_and_text() {
    let missing = "fill it in, or leave such rows out with --skip-bad-rows";
    let no_value = format!("must be a number, and this marks a missing value; {missing}");
    let finite = format!("must be a finite number; {missing}");
    let one_hot = "must be a number; --one-hot x takes categories, --features leaves columns out";
    let large = "must be at most 3.4e38 in size, the largest number of 32 bits";
    let point = |number: &str| format!("must be a number with a decimal point: {number}");
    let cases = [
        ("tall", r#""tall""#, one_hot.to_owned()),
        (r#""1,5""#, r#""1,5""#, point("1.5")),
        (r#""1,234.5""#, r#""1,234.5""#, "must be a number without separators of thousands: 1234.5".into()),
        (r#""1,234""#, r#""1,234""#, "must be a number without commas: 1.234 or 1234".into()),
        ("", r#""""#, format!("must be a number, and the cell is empty; {missing}")),
        ("  ", r#""""#, format!("must be a number, and the cell is empty; {missing}")),
        ("NaN", r#""NaN""#, finite.clone()),
        ("nan", r#""nan""#, finite.clone()),
        ("-inf", r#""-inf""#, finite.clone()),
        ("Infinity", r#""Infinity""#, finite.clone()),
        ("+INF", r#""+INF""#, finite.clone()),
        ("NA", r#""NA""#, no_value.clone()),
        ("?", r#""?""#, no_value),
        ("3.5e38", r#""3.5e38""#, large.into()),
        ("-1e999", r#""-1e999""#, large.into()),
    ];
    for (cell, shown, fault) in cases {
        let want = format!("f: line 3, column \"x\": {shown}: {fault}");
        assert_eq!(told(format!("x,y\n1,2\n{cell},3\n4,5\n"), &options()), want);
        let want = want
            .replace("\"x\"", "\"y\"")
            .replace(one_hot, "must be a number; --task classification takes names of classes");
        assert_eq!(told(format!("x,y\r\n1,2\r\n3,{cell}\r\n4,5\r\n"), &options()), want);
    }
    assert_eq!(
        told("x;y\n1,5;2\n", &with(b';')),
        "f: line 2, column \"x\": \"1,5\": must be a number with a decimal point: 1.5"
    );
    assert_eq!(
        told("x,y\n1,2\na\u{0},3\n", &options()),
        format!("f: line 3, column \"x\": \"a\\0\": {one_hot}")
    );
    assert_eq!(
        told("height,y\n1,2\n", &headerless()),
        "f: line 1, column 0: \"height\": must be a number; if this line is a header, leave out --no-header"
    );
    assert_eq!(
        told("1,2\nheight,2\n", &headerless()),
        "f: line 2, column 0: \"height\": must be a number; --one-hot 0 takes categories, --features leaves columns out"
    );
    let classes = Options { one_hot: names(&["x"]), task: Task::Classification, ..options() };
    assert_eq!(
        told("x,y\na,b\n,c\n", &classes),
        format!("f: line 3, column \"x\": \"\": must be a category, and the cell is empty; {missing}")
    );
    assert_eq!(
        told("x,y\na,b\nc, \n", &classes),
        format!("f: line 3, column \"y\": \"\": must be a class, and the cell is empty; {missing}")
    );
}

#[test]
fn lines_are_those_of_the_file() {
    let at = |text: &str| {
        let told = told(text, &Options { features: names(&["x"]), ..options() });
        told.split(&[' ', ','][..]).nth(2).unwrap().parse::<u64>().unwrap_or_else(|_| panic!("{told}"))
    };
    let quoted = "x,y,note\n1,2,\"a\nb\nc\"\n";
    let cases = [
        ("x,y\n1,bad", 2),
        ("x,y\n1,bad\n", 2),
        ("x,y\r\n1,bad\r\n", 2),
        ("\n\nx,y\n\n\n1,2\n\nbad,2\n", 8),
        ("\r\n\r\nx,y\r\n\r\n1,2\r\n\r\nbad,2\r\n", 7),
        ("\u{feff}x,y\n1,2\n1,bad\n", 3),
        ("x,y\n1,2\n   \n1,bad\n", 4),
        (&format!("{quoted}1,bad,\n"), 5),
        (&format!("{quoted}1,2\n"), 5),
        // Where the cell begins, not the record; and the lines of cells that are not read count.
        ("note,x,y\n\"a\nb\",bad,1\n", 3),
        ("x,y,note\n1,bad,\"a\nb\"\n", 2),
        ("\"x\n\",y\n1,bad\n", 3),
        ("x,y,note\n1,2,\"never\n\n\n", 2),
        ("x,y,note\n1,2,\"a\nb\"\n3,\"4\n", 4),
    ];
    for (text, line) in cases {
        assert_eq!(at(text), line, "{text:?}");
    }
}

#[test]
fn a_row_of_another_length_is_told() {
    let cases = [
        (
            "x,y\n1,2\n3\n",
            "f: line 3: 1 fields: must be 2 as in line 1; is the delimiter another? --delimiter sets it",
        ),
        ("x,y,z\n1,2,3\n3,4\n", "f: line 3: 2 fields: must be 3 as in line 1; is the line cut off?"),
        (
            "\nx,y\n1,5,2\n",
            "f: line 3: 3 fields: must be 2 as in line 2; a cell with the delimiter in it needs quotes",
        ),
    ];
    for (text, want) in cases {
        assert_eq!(told(text, &options()), want);
    }
}

#[test]
fn a_quote_that_never_closes_is_told_where_it_opens() {
    let open = |line, column| format!("f: line {line}, column {column}: a quote opens here and never closes");
    assert_eq!(told("x,y\n1,\"2\n3,4\n", &options()), open(2, "\"y\""));
    assert_eq!(told("x,y\n1,\"2", &options()), open(2, "\"y\""));
    assert_eq!(told("x,y\n\"1\n\",\"2\n", &options()), open(3, "\"y\""));
    assert_eq!(told("x,\"y\n1,2\n", &options()), open(1, "1"));
    assert_eq!(told("\"", &options()), open(1, "0"));
    // Also where bad rows are skipped: all that follows would be lost.
    let skip = Options { skip_bad_rows: true, ..options() };
    assert_eq!(told("x,y\n1,2\n1,\"2\n3,4\n", &skip), open(3, "\"y\""));
    // Closed by the last byte, with and without a line end in and after it.
    for text in ["x,y\n1,\"2\"", "x,y\n1,\"2\"\n", "x,y\n1,\"2\n\"", "x,y\n1,\"2\n\n\n\"\n\n"] {
        assert_eq!(rows(&table(text, &options())), [[1.0, 2.0]], "{text:?}");
    }
    // An input without end.
    let endless = std::io::Read::chain(&b"x,y\n1,2\n3,\""[..], std::io::repeat(b'4'));
    assert_eq!(
        read(endless, "f".into(), &options()).unwrap_err().to_string(),
        "f: line 3: a row of more than 16777216 bytes begins here: does a quote open that never closes?"
    );
}

#[test]
fn a_header_that_cannot_be_is_told() {
    let wrong = |what: &str| format!("f: line 1: {what}");
    let cases = [
        ("x,y,x\n1,2,3\n", wrong("the header has \"x\" twice, as columns 0 and 2: rename one")),
        (" x,y,x \n1,2,3\n", wrong("the header has \"x\" twice, as columns 0 and 2: rename one")),
        ("1.5,y\n1,2\n", wrong("the header (1.5, y...) looks like numbers; is there none? --no-header")),
        ("1,7,3\n1,2,3\n", wrong("the header (1, 7, 3...) looks like numbers; is there none? --no-header")),
        (
            "x;y;z\n1;2;3\n",
            wrong(
                "one column, \"x;y;z\": must be at least a feature and a target; is the delimiter another? --delimiter ';'",
            ),
        ),
        ("x\n1\n", wrong("one column, \"x\": must be at least a feature and a target")),
        (
            "x,y\r1,2\r",
            wrong("lines end with CR alone: must be LF or CR LF; try: tr '\\r' '\\n' < OLD.csv > NEW.csv"),
        ),
        (
            ",x,y\n0,1,2\n",
            "f: features = all: column 0 has no name in the header: name it, or choose columns by --features"
                .into(),
        ),
    ];
    for (text, want) in cases {
        assert_eq!(told(text, &options()), want);
    }
    assert!(
        told(vec![b','; 1 << 16], &options()).starts_with("f: line 1: 65537 columns: must be at most 65536")
    );
    // Names that are numbers, but count.
    let target = |name: &str| Options { target: Some(name.into()), ..Options::default() };
    assert_eq!(rows(&table("0,1,2\n5,6,7\n", &target("2"))), [[5.0, 6.0, 7.0]]);
    assert_eq!(rows(&table("1999,2000,y\n5,6,7\n", &target("2000"))), [[5.0, 7.0, 6.0]]);
    // Unnamed columns that are left out.
    let some = Options { features: names(&["x"]), ..options() };
    assert_eq!(rows(&table(",x,y,\n0,1,2,\n", &some)), [[1.0, 2.0]]);
}

#[test]
fn a_column_that_is_not_there_is_told_with_those_that_are() {
    let rule = "must be a column's name or number, from 0; there are \"price\", \"rooms\", \"Area\"";
    let text = "price,rooms,Area\n1,2,3\n";
    let with = |target: Option<&str>, features: &[&str], one_hot: &[&str]| Options {
        target: target.map(Into::into),
        features: names(features),
        one_hot: names(one_hot),
        ..Options::default()
    };
    let cases = [
        (with(Some("prise"), &[], &[]), format!("f: target = prise: {rule}; is it \"price\"?")),
        (with(Some("area"), &[], &[]), format!("f: target = area: {rule}; is it \"Area\"?")),
        (with(Some("height"), &[], &[]), format!("f: target = height: {rule}")),
        (with(Some("3"), &[], &[]), format!("f: target = 3: {rule}")),
        (with(Some(""), &[], &[]), format!("f: target = : {rule}")),
        (
            with(None, &[], &[]),
            "f: target = none: must name the column to predict; there are \"price\", \"rooms\", \"Area\""
                .into(),
        ),
        (with(Some("price"), &["romms"], &[]), format!("f: features = romms: {rule}; is it \"rooms\"?")),
        (with(Some("price"), &[], &["-1"]), format!("f: one-hot = -1: {rule}")),
        (
            with(Some("price"), &["rooms", "price"], &[]),
            "f: features = price: column \"price\" is the target: must not be a feature too".into(),
        ),
        (
            with(Some("0"), &[], &["price"]),
            "f: one-hot = price: column \"price\" is the target: must not be a feature too".into(),
        ),
        (
            with(Some("price"), &["rooms", "1"], &[]),
            "f: features = 1: column \"rooms\" is named twice".into(),
        ),
    ];
    for (options, want) in cases {
        assert_eq!(told(text, &options), want);
    }
    let none = Options { target: Some("x".into()), ..headerless() };
    assert_eq!(
        told("1,2\n", &none),
        "f: target = x: must be a column's number, from 0 to 1: there is no header"
    );
    let many: Vec<String> = (0..25).map(|i| format!("c{i}")).collect();
    assert!(told(many.join(","), &options()).ends_with("\"c19\", and 5 more"));
}

#[test]
fn files_without_rows_and_other_files_are_told() {
    let cases: [(&[u8], &str); 10] = [
        (b"", "f: is empty: must have at least one row"),
        (b"\n\n", "f: is empty: must have at least one row"),
        (b"\xef\xbb\xbf\r\n", "f: is empty: must have at least one row"),
        (b"x,y", "f: no rows after the header (line 1)"),
        (b"\nx,y\n\n", "f: no rows after the header (line 2)"),
        (
            b"\xff\xfex\0,\0",
            "f: begins with ff fe, the byte-order mark of UTF-16LE: must be UTF-8; \
             try: iconv -f UTF-16LE -t UTF-8 OLD.csv > NEW.csv",
        ),
        (b"\x1f\x8b\x08\0", "f: begins as gzip does: must be text; unpack it with gunzip"),
        (b"PK\x03\x04..", "f: begins as spreadsheets and zip files do: must be text; export it as CSV"),
        (
            b"x,y\n1,2\n\xe4,3\n",
            "f: line 3, column \"x\": \"\u{fffd}\": must be UTF-8, and byte 0 of the cell is 0xe4; \
             try: iconv -f WINDOWS-1252 -t UTF-8 OLD.csv > NEW.csv",
        ),
        (
            b"x,h\xf6he,y\n1,2,3\n",
            "f: line 1, column 1: \"h\u{fffd}he\": must be UTF-8, and byte 1 of the cell is 0xf6; \
             try: iconv -f WINDOWS-1252 -t UTF-8 OLD.csv > NEW.csv",
        ),
    ];
    for (bytes, want) in cases {
        assert_eq!(told(bytes, &options()), want);
    }
    let directory = tempfile::tempdir().unwrap();
    let (missing, file) = (directory.path().join("missing.csv"), directory.path().join("a.csv"));
    let told = |path: &Path| load(path, &options()).unwrap_err().to_string();
    assert!(
        told(&missing).starts_with(&format!("{}: No such file", missing.display())),
        "{}",
        told(&missing)
    );
    assert!(told(directory.path()).ends_with(
        ": is a directory: must be a regular file; what comes through a pipe must be saved to a file first"
    ));
    fs::write(&file, "x,y\n1,bad\n").unwrap();
    assert!(told(&file).starts_with(&format!("{}: line 2, column \"y\": \"bad\": must be", file.display())));
    fs::write(&file, "x,y\n1,2\n").unwrap();
    let (table, skipped) = load(&file, &options()).unwrap();
    assert_eq!((rows(&table), skipped), (vec![vec![1.0, 2.0]], Skipped::default()));
    assert_eq!(table.name(), file.display().to_string());
    let letter = with(b'e');
    let error = load(&missing, &letter).unwrap_err();
    assert!(error.is_usage() && error.to_string().starts_with("delimiter = 'e': must be"), "{error}");
}

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
        "f: none of the 2 rows can be used; the first: f: line 2, column \"x\": \"?\": must be a number, and this marks a \
         missing value; fill it in, or leave such rows out with --skip-bad-rows"
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

/// All rows of a file for a model.
fn rows_for(text: &str, schema: &Schema, format: Format) -> Result<Vec<Vec<f64>>, CsvError> {
    let mut reader = Reader::new(text.as_bytes(), "p".into(), schema, format)?;
    let mut rows = Vec::new();
    while let Some(row) = reader.next_row()? {
        rows.push(row.to_vec());
    }
    Ok(rows)
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
