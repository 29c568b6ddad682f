//! Each fault, with its exact message.

use std::fs;
use std::path::Path;

use hotlanes_train::data::csv::{Options, Skipped, Task, load, read};

use super::{headerless, names, options, rows, table, told, with};

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
        let number = told.split("line ").nth(1).and_then(|rest| rest.split([',', ':']).next());
        number.and_then(|number| number.parse::<u64>().ok()).unwrap_or_else(|| panic!("{told}"))
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
                "one column, \"x;y;z\": must be at least a feature and a target; \
                 is the delimiter another? --delimiter ';'",
            ),
        ),
        ("x\n1\n", wrong("one column, \"x\": must be at least a feature and a target")),
        (
            "x,y\r1,2\r",
            wrong("lines end with CR alone: must be LF or CR LF; try: tr '\\r' '\\n' < OLD.csv > NEW.csv"),
        ),
        (
            ",x,y\n0,1,2\n",
            "f: features = column 0: has no name in the header: name it, or choose other columns by --features"
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
    let first = Options { features: names(&["0"]), ..options() };
    assert!(told(",x,y\n0,1,2\n", &first).starts_with("f: features = column 0: has no name in the header"));
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
