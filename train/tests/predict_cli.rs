//! `hotlanes predict` as a process: columns, sources, bad rows, messages, memory, Ctrl-C.

#![cfg(unix)]

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

mod common;

use common::{Limited, hotlanes, output, text, told};

/// A run on a table of numbers and a category, and one on classes.
struct Runs {
    root: TempDir,
}

impl Runs {
    fn new() -> Runs {
        let root = TempDir::new().unwrap();
        let rows: String = (0..60).map(|i| format!("{}\n", line(i))).collect();
        fs::write(root.path().join("train.csv"), format!("id,a,colour,\"b, c\",y,class\n{rows}")).unwrap();
        let runs = Runs { root };
        runs.train("numbers", &["--target=y", "--one-hot=colour", "--features", "a", "b, c"]);
        runs.train("classes", &["--target=class", "--task=classification", "--features", "b, c", "a"]);
        runs
    }

    fn train(&self, name: &str, options: &[&str]) {
        let small =
            ["train", "mlp", "--data=train.csv", "--hidden=5", "--epochs=3", "--quiet", "--out", name];
        told(0, output(hotlanes(&[&small[..], options].concat()).current_dir(self.root.path())), "");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn write(&self, name: &str, contents: &str) {
        fs::write(self.path(name), contents).unwrap();
    }

    fn predict(&self, options: &[&str]) -> Output {
        output(hotlanes(&[&["predict"], options].concat()).current_dir(self.root.path()))
    }

    /// What it prints, where that succeeds.
    #[track_caller]
    fn printed(&self, options: &[&str]) -> String {
        let output = self.predict(options);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
        text(&output.stdout)
    }
}

/// Row `i`: a number that is no feature, features, a category, a target and a class.
fn line(i: usize) -> String {
    let [a, b] = [i * 7 % 23, i * 5 % 17];
    let class = ["low, or so", "\"\"mid\"\"", "high", "higher", "top"][a / 5];
    format!("id{i},{a},{},{b},{},\"{class}\"", ["red", "blue"][i % 2], 3 * a + b)
}

/// A file of such rows without targets.
fn file(rows: usize) -> String {
    (0..rows).fold("a,colour,\"b, c\"\n".to_owned(), |mut text, i| {
        let line = line(i);
        let cells: Vec<&str> = line.split(',').collect();
        writeln!(text, "{},{},{}", cells[1], cells[2], cells[3]).unwrap();
        text
    })
}

#[test]
fn columns_are_found_by_name_in_any_order() {
    let runs = Runs::new();
    runs.write("plain.csv", &file(20));
    let want = runs.printed(&["--model=numbers", "plain.csv"]);
    assert_eq!((want.lines().count(), want.lines().next()), (21, Some("y")));
    assert!(want.lines().skip(1).all(|line| line.parse::<f64>().unwrap().is_finite()), "{want}");
    // The file of the training has more columns, and the target.
    let all = runs.printed(&["--model=numbers", "train.csv"]);
    assert!(all.starts_with(&want) && all.lines().count() == 61);
    let turned: String = (0..20)
        .map(|i| {
            let line = line(i);
            let cells: Vec<&str> = line.split(',').collect();
            format!("{};{};?;{}\r\n", cells[3], cells[2], cells[1])
        })
        .collect();
    runs.write("turned.csv", &format!("\u{feff}b, c; colour ;y;a\r\n{turned}"));
    assert_eq!(runs.printed(&["--model=numbers", "--delimiter=;", "turned.csv"]), want);
}

#[test]
fn a_file_and_a_pipe_and_out_are_the_same() {
    let runs = Runs::new();
    runs.write("rows.csv", &file(1200));
    let want = runs.printed(&["--model=numbers", "rows.csv"]);
    for source in ["", "-"] {
        let script = format!("exec \"$0\" predict --model=numbers {source} < rows.csv");
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_hotlanes")]).current_dir(runs.root.path());
        let piped = output(command.stdin(Stdio::null()));
        assert_eq!((text(&piped.stdout), text(&piped.stderr)), (want.clone(), String::new()));
    }
    runs.write("old.csv", "something else");
    assert_eq!(runs.printed(&["--model=numbers", "rows.csv", "--out=old.csv"]), "");
    assert_eq!(fs::read_to_string(runs.path("old.csv")).unwrap(), want);
    // The model that was the best, and the last: of so short a run they are the same.
    assert_eq!(runs.printed(&["--model=numbers", "--last", "rows.csv"]), want);
    for tier in hotlanes::Tier::available() {
        let mut command = hotlanes(&["predict", "--model=numbers", "rows.csv"]);
        let output = output(command.env("HOTLANES_TIER", tier.to_string()).current_dir(runs.root.path()));
        assert_eq!(text(&output.stdout), want, "{tier}");
    }
}

/// The cells of a line of the output.
fn cells(text: &str) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    reader.records().map(|record| record.unwrap().iter().map(str::to_owned).collect()).collect()
}

#[test]
fn probabilities_are_of_the_classes_by_name() {
    let runs = Runs::new();
    let rows = cells(&runs.printed(&["--model=classes", "--probabilities", "train.csv"]));
    let names = ["\"mid\"", "high", "higher", "low, or so", "top"];
    let header: Vec<String> = names.iter().map(|name| format!("class={name}")).collect();
    assert_eq!(rows[0], [&["class".to_owned()], &header[..]].concat());
    assert_eq!(rows.len(), 61);
    for row in &rows[1..] {
        let p: Vec<f64> = row[1..].iter().map(|cell| cell.parse().unwrap()).collect();
        assert!(
            (p.iter().sum::<f64>() - 1.0).abs() < 1e-6 && p.iter().all(|p| (0.0..=1.0).contains(p)),
            "{row:?}"
        );
        let most = (0..5).fold(0, |best, i| if p[i] > p[best] { i } else { best });
        assert_eq!(row[0], names[most], "{row:?}");
    }
    let classes = cells(&runs.printed(&["--model=classes", "train.csv"]));
    let first: Vec<Vec<String>> = rows.iter().map(|row| row[..1].to_vec()).collect();
    assert_eq!(classes, first);
    told(
        2,
        runs.predict(&["--model=numbers", "--probabilities", "train.csv"]),
        "the model predicts a number",
    );
}

#[test]
fn bad_rows_leave_empty_predictions_in_their_places() {
    let runs = Runs::new();
    let whole = file(1300);
    runs.write("whole.csv", &whole);
    for (model, more) in [("numbers", &[][..]), ("classes", &["--probabilities"])] {
        let predict = |file: &str, options: &[&str]| {
            let model = format!("--model={model}");
            runs.predict(&[&[&model, file], more, options].concat())
        };
        let want = cells(&text(&predict("whole.csv", &[]).stdout));
        let width = want[0].len();
        // From, up to.
        let places: [&[(usize, usize)]; 9] = [
            &[(0, 1)],
            &[(1299, 1300)],
            &[(0, 3), (700, 705), (1297, 1300)],
            // The rows beside each other are 512.
            &[(511, 512)],
            &[(512, 513)],
            &[(513, 514)],
            &[(510, 515), (1023, 1024), (1026, 1028)],
            &[(0, 600)],
            &[(0, 1300)],
        ];
        for bad in places {
            let is_bad = |i: usize| bad.iter().any(|&(from, to)| (from..to).contains(&i));
            let lines =
                whole.lines().enumerate().map(|(i, line)| match i.checked_sub(1).filter(|&i| is_bad(i)) {
                    None => format!("{line}\n"),
                    // Of another length, text, and an unknown category (the classes do without colours).
                    Some(i) => ["1,2\n", "?,red,1\n", "tall,red,7\n"][i % 3].to_owned(),
                });
            runs.write("bad.csv", &lines.collect::<String>());
            let output = predict("bad.csv", &["--skip-bad-rows"]);
            let (rows, told) = (cells(&text(&output.stdout)), text(&output.stderr));
            assert_eq!((output.status.code(), rows.len()), (Some(0), 1301), "{bad:?}: {told}");
            for (i, (row, want)) in rows.iter().zip(&want).enumerate() {
                match i.checked_sub(1).filter(|&i| is_bad(i)) {
                    None => assert_eq!(row, want, "{bad:?}: row {i}"),
                    Some(i) => assert_eq!(row, &vec![""; width], "{bad:?}: row {i}"),
                }
            }
            let count = bad.iter().map(|(from, to)| to - from).sum::<usize>();
            assert!(
                told.ends_with(&format!("{count} rows could not be read: their predictions are empty\n")),
                "{told}"
            );
            assert_eq!(told.matches("bad.csv: line ").count(), count.min(5), "{told}");
            let quiet = predict("bad.csv", &["--skip-bad-rows", "--quiet"]);
            assert_eq!((quiet.stdout, text(&quiet.stderr)), (output.stdout, String::new()));
        }
        // Without the option the first one is told, after what was predicted before it.
        let first = file(600) + "9,red\n" + "1,red,2\n";
        runs.write("bad.csv", &first);
        let stopped = predict("bad.csv", &[]);
        told(1, &stopped, "bad.csv: line 602: 2 fields");
        assert_eq!(cells(&text(&stopped.stdout)), want[..601]);
        runs.write("out.csv", "old");
        told(1, predict("bad.csv", &["--out=out.csv"]), "bad.csv: line 602: 2 fields");
        assert_eq!(fs::read_to_string(runs.path("out.csv")).unwrap(), "old");
        assert!(!runs.path("out.csv.tmp").exists());
        fs::remove_file(runs.path("out.csv")).unwrap();
    }
}

#[test]
fn what_is_wrong_is_told() {
    let runs = Runs::new();
    let says = |code: i32, options: &[&str], message: &str| {
        let output = runs.predict(options);
        told(code, &output, message);
        assert_eq!(text(&output.stdout), "", "{options:?}");
    };
    runs.write("missing.csv", "colour,a\nred,1\n");
    says(
        1,
        &["--model=numbers", "missing.csv"],
        "missing.csv: no column \"b, c\", which the model needs; there are \"colour\", \"a\"",
    );
    runs.write("unknown.csv", "a,colour,\"b, c\"\n1,red,2\n1,pink,2\n");
    let output = runs.predict(&["--model=numbers", "unknown.csv"]);
    let category = "unknown.csv: line 3, column \"colour\": \"pink\": must be a category that the model knows: \
        \"blue\", \"red\"";
    told(1, &output, category);
    assert_eq!(text(&output.stdout).lines().count(), 2);
    runs.write("empty.csv", "");
    says(1, &["--model=numbers", "empty.csv"], "empty.csv: is empty: must have at least one row");
    says(1, &["--model=numbers", "none.csv"], "none.csv: No such file");
    says(2, &["--model=numbers", "."], ".: is a directory: must be a CSV file");
    says(
        2,
        &["--model=numbers", "--delimiter=ab", "train.csv"],
        "delimiter = ab: must be one ASCII character",
    );
    says(1, &["--model=none", "train.csv"], "none/mlp.json: No such file");
    says(1, &["train.csv"], "mlp-run/mlp.json: No such file");
    says(1, &["--model=numbers", "train.csv", "--out=no/such/place"], "no/such/place");
    says(2, &["--model=numbers", "train.csv", "more.csv"], "unexpected argument 'more.csv'");
    // A header alone is a file without rows.
    runs.write("header.csv", "a,colour,\"b, c\"\n");
    assert_eq!(runs.printed(&["--model=numbers", "header.csv"]), "y\n");
    let colour = hotlanes(&["predict", "--model=numbers", "train.csv"])
        .env("HOTLANES_TIER", "mmx")
        .current_dir(runs.root.path())
        .output()
        .unwrap();
    told(2, colour, "mmx");
}

#[test]
fn files_without_a_header_and_with_tabs() {
    let runs = Runs::new();
    let rows: String = (0..30).map(|i| format!("{i}\t{}\t{}\n", i % 7, i * 2)).collect();
    runs.write("train.csv", &rows);
    runs.train("bare", &["--target=2", "--no-header", "--delimiter=tab"]);
    // As the model's file is: nothing need be said.
    let want = runs.printed(&["--model=bare", "train.csv"]);
    assert_eq!((want.lines().count(), want.lines().next()), (31, Some("2")));
    let features: String = (0..30).map(|i| format!("{i};{}\n", i % 7)).collect();
    runs.write("features.csv", &features);
    assert_eq!(runs.printed(&["--model=bare", "features.csv", "--delimiter=;"]), want);
    // Of a model with names there are none to find.
    let bare = runs.predict(&["--model=numbers", "--no-header", "train.csv"]);
    told(1, bare, "train.csv: ");
}

#[test]
fn runs_of_others_and_damaged_ones_are_refused() {
    let runs = Runs::new();
    let gpt =
        ["train", "gpt", "--preset=tiny", "--layers=1", "--heads=1", "--dim=8", "--block=8", "--batch=2"];
    let gpt = [&gpt[..], &["--stories=2000", "--steps=2", "--eval-every=1", "--quiet", "--out=gpt"]].concat();
    told(0, output(hotlanes(&gpt).current_dir(runs.root.path())), "");
    told(1, runs.predict(&["--model=gpt", "train.csv"]), "gpt/best.json: a model of gpt: must be one of mlp");
    told(1, runs.predict(&["--model=gpt", "--last", "train.csv"]), "gpt/mlp.json: No such file");

    let best =
        fs::read_dir(runs.path("numbers")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let tensors = best.filter(|name| name.starts_with("best-")).collect::<Vec<_>>().pop().unwrap();
    for name in ["best.json", &tensors] {
        let path = runs.path("numbers").join(name);
        let good = fs::read(&path).unwrap();
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let mut cases = vec![vec![], good[..good.len() / 2].to_vec(), vec![b'['; 100_000]];
        if name != "best.json" {
            cases.push(flipped);
        }
        for bad in cases {
            fs::write(&path, bad).unwrap();
            told(1, runs.predict(&["--model=numbers", "train.csv"]), name);
        }
        fs::remove_file(&path).unwrap();
        if name != "best.json" {
            told(1, runs.predict(&["--model=numbers", "train.csv"]), name);
        }
        fs::write(&path, good).unwrap();
    }
    runs.printed(&["--model=numbers", "train.csv"]);
    // Of another run: the tensors do not fit, and neither does their hash.
    for entry in fs::read_dir(runs.path("classes")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("best-") {
            fs::copy(path, runs.path("numbers").join(&tensors)).unwrap();
        }
    }
    told(1, runs.predict(&["--model=numbers", "train.csv"]), &tensors);
}

#[test]
fn a_command_that_waits_for_rows_can_be_interrupted() {
    let runs = Runs::new();
    for more in [&[][..], &["--out=out.csv"]] {
        let mut command = hotlanes(&[&["predict", "--model=numbers"], more].concat());
        let (input, mut writer) = std::io::pipe().unwrap();
        command.current_dir(runs.root.path()).stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = Limited::spawn(&mut command);
        writer.write_all(file(2000).as_bytes()).unwrap();
        let mut lines = BufReader::new(child.stdout()).lines();
        if more.is_empty() {
            // What is there is predicted while more may come.
            assert_eq!(lines.nth(1024).unwrap().unwrap().parse::<f64>().map(f64::is_finite), Ok(true));
        } else {
            while !runs.path("out.csv.tmp").exists() {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        let started = Instant::now();
        child.signal("-INT");
        assert_eq!(child.wait().code(), Some(130));
        assert!(started.elapsed() < Duration::from_secs(10));
        assert!(!runs.path("out.csv").exists());
        drop(writer);
    }
}

/// The most memory that a process has used, in kilobytes.
#[cfg(target_os = "linux")]
fn peak(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn many_rows_take_little_memory() {
    let runs = Runs::new();
    let good = format!("7,red,5,{}\n", "x".repeat(500)).repeat(1000);
    for (block, count) in [(good.as_str(), 60), (&"?\n".repeat(20_000), 60)] {
        let predict = ["predict", "--model=numbers", "--skip-bad-rows", "--quiet"];
        let mut child = hotlanes(&predict)
            .current_dir(runs.root.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut rows, out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let counter = std::thread::spawn(move || BufReader::new(out).lines().count());
        rows.write_all(b"a,colour,\"b, c\",more\n").unwrap();
        let mut before = 0;
        for i in 0..count {
            rows.write_all(block.as_bytes()).unwrap();
            if i == 4 {
                before = peak(child.id());
            }
        }
        let grown = peak(child.id()) - before;
        drop(rows);
        assert!(child.wait().unwrap().success());
        assert_eq!(counter.join().unwrap(), 1 + count * block.lines().count());
        assert!(before > 1000 && grown < 4000, "{grown} kB more than {before}");
    }
}
