//! `hotlanes train mlp` as a process: a table, its faults, interruptions in the middle of an epoch, data that change.

#![cfg(unix)]

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use hotlanes::Tier;
use tempfile::TempDir;

mod common;

use common::{Limited, events, hotlanes, log, output, stop, text, told};

/// `y` is nearly a function of two numbers and a colour.
fn table(rows: usize) -> String {
    (0..rows).fold("id,a,\"b, c\",colour,y\n".to_owned(), |mut text, i| {
        let [a, b, colour] = [i * 37 % 101, i * 53 % 97, i * 11 % 3];
        let name = ["red", "blue", "green"][colour];
        writeln!(text, "{i},{a},{b},{name},{}.5", 100 + 2 * a + b + 50 * colour).unwrap();
        text
    })
}

const COLUMNS: [&str; 5] =
    ["--data=rows.csv", "--target=y", "--features=a", "--features=b, c", "--one-hot=colour"];
const SMALL: [&str; 4] = ["--hidden=8", "--batch=16", "--threads=1", "--patience=0"];

fn train(directory: &Path, options: &[&str]) -> Output {
    output(hotlanes(&[&["train", "mlp"], options].concat()).current_dir(directory))
}

fn new(rows: usize) -> TempDir {
    let root = TempDir::new().unwrap();
    fs::write(root.path().join("rows.csv"), table(rows)).unwrap();
    root
}

/// The hash of the state after each evaluation.
fn states(directory: &Path) -> Vec<String> {
    events(directory, "evaluation").iter().map(|line| line["hash"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_table_is_learnt_and_figures_are_written() {
    let root = new(400);
    let run =
        train(root.path(), &[&COLUMNS[..], &SMALL, &["--epochs=60", "--lr=0.03", "--out=run"]].concat());
    told(0, &run, "perceptron 5-8-1: 57 parameters");
    told(0, &run, "320 rows to train on, 40 for validation, 40 for the test");
    let out = root.path().join("run");
    let last = events(&out, "final").pop().unwrap();
    assert!(last["test"]["r2"].as_f64().unwrap() > 0.99, "{last}");
    let metrics = fs::read_to_string(out.join("metrics.csv")).unwrap();
    for name in ["evaluation,metrics.r2", "evaluation,metrics.mae", "evaluation,validation", "final,test.mse"]
    {
        assert!(metrics.contains(&format!(",{name},")), "{name}: {metrics}");
    }
    let plot = fs::read_to_string(out.join("loss.svg")).unwrap();
    for words in ["Loss: perceptron of 57 parameters", "training", "validation", "epoch"] {
        assert!(plot.contains(words), "{words}");
    }
    // Only errors, if that is wanted.
    let quiet =
        train(root.path(), &[&COLUMNS[..], &SMALL, &["--epochs=2", "--quiet", "--out=quiet"]].concat());
    assert_eq!((text(&quiet.stdout), text(&quiet.stderr)), (String::new(), String::new()));
}

#[test]
fn bad_rows_are_told_or_skipped() {
    let root = new(0);
    let bad = table(40).replace("\n3,10,", "\n3,NA,").replace("\n5,84,", "\n5,84,1,") + "40,\n";
    fs::write(root.path().join("rows.csv"), bad).unwrap();
    let options = [&COLUMNS[..], &SMALL, &["--epochs=1", "--out=run"]].concat();
    let na = "rows.csv: line 5, column \"a\": \"NA\": must be a number, and this marks a missing value";
    told(1, train(root.path(), &options), na);
    assert!(!root.path().join("run").exists());
    let run = train(root.path(), &[&options[..], &["--skip-bad-rows"]].concat());
    told(0, &run, "3 bad rows were skipped; the first:");
    told(0, &run, na);
    told(0, &run, "32 rows to train on, 3 for validation, 3 for the test");
    let log = log(&root.path().join("run"));
    assert_eq!(log[0]["recipe"]["source"]["columns"]["skip_bad_rows"], true);
}

#[test]
fn what_is_wrong_is_told_and_nothing_is_written() {
    let root = new(40);
    let says = |code: i32, options: &[&str], message: &str| {
        told(code, train(root.path(), options), message);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "{options:?}");
    };
    let table = |options: &[&'static str]| [&["--data=rows.csv", "--epochs=1"], options].concat();
    says(
        2,
        &table(&[]),
        "target = none: must name the column to predict, by its name or, from 0, its number",
    );
    says(
        1,
        &table(&["--target=y"]),
        "line 2, column \"colour\": \"red\": must be a number; --one-hot colour",
    );
    says(
        1,
        &table(&["--target=Y"]),
        "target = Y: must be a column's name or number, from 0; there are \"id\", \"a\"",
    );
    says(1, &table(&["--target=y", "--features", "a", "b"]), "features = b: must be a column's name");
    says(1, &table(&["--target=y", "--features", "y"]), "features = y: ");
    says(2, &table(&["--target=y", "--loss=bce"]), "loss = bce: needs classes: --task classification");
    says(2, &table(&["--target=y", "--task=classification", "--loss=mse"]), "must be bce or cross-entropy");
    let five = ["--target=colour", "--task=classification", "--loss=bce", "--features=a"];
    says(2, &table(&five), "loss = bce: must be cross-entropy for 3 classes");
    says(2, &table(&["--target=y", "--validation=1"]), "validation = 1: must be above 0 and below 1");
    says(2, &table(&["--target=y", "--delimiter=ab"]), "delimiter = ab: must be one ASCII character, or tab");
    says(1, &["--data=none.csv", "--target=y"], "none.csv: No such file");
    says(1, &["--data=.", "--target=y"], "must be a regular file");
    says(2, &["--target=y"], "--target: needs a file, --data");
    says(2, &["--one-hot=y"], "--one-hot: needs a file, --data");
    says(2, &["--task=classification"], "--task: needs a file, --data");
    says(2, &["--rows=2"], "rows = 2: must be at least 3, one each for training, validation and test");
    says(2, &["--lr=1e300"], "lr = 1e300: must be ");
    says(2, &["--lr=1", "--min-lr=2"], "min-lr = 2: must be from 0 to lr, 1");
    says(2, &["--epochs=99999999999"], "99999999999 is not in 1..=1048576");
    says(2, &["--epochs=5", "--warmup=6"], "decay-epochs = 5: must be at least warmup, 6");
    says(2, &["--hidden=0"], "hidden = 0: every layer has at least 1 node");
    says(2, &["--hidden=4000000000,4000000000"], "there may be 4294967296 parameters");
    says(2, &["--dropout=1"], "dropout = 1: must be at least 0 and below 1");
    says(2, &["--batch=0"], "batch = 0: must be ");
    says(1, &["--resume=none"], "none/");
    says(2, &["--resume=none", "--lr=1"], "cannot be used with");
}

#[test]
fn an_epoch_that_is_interrupted_goes_on_where_it_stopped() {
    // An epoch of seconds: 9000 steps in an unoptimised build.
    let root = new(12_000);
    let out = root.path().join("cut");
    let options =
        [&COLUMNS[..], &["--hidden=8", "--batch=1", "--threads=1", "--epochs=2", "--warmup=1", "--quiet"]];
    let options = options.concat();
    told(0, train(root.path(), &[&options[..], &["--out=whole"]].concat()), "");

    let at = format!("--out={}", out.display());
    let loud: Vec<&str> = options.iter().copied().filter(|&option| option != "--quiet").collect();
    let mut command = hotlanes(&[&["train", "mlp"], &loud[..], &[&at]].concat());
    command.current_dir(root.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = Limited::spawn(&mut command);
    let mut lines = BufReader::new(child.stdout());
    let mut line = String::new();
    while !line.starts_with("epoch     0") {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0);
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    child.signal("-INT");
    let mut printed = String::new();
    lines.read_to_string(&mut printed).unwrap();
    assert_eq!(child.wait().code(), Some(130));
    let step = stop(&out)["step"].as_u64().unwrap();
    assert!(step > 0 && !step.is_multiple_of(9600), "step {step}");

    // From anywhere, by the command that was printed; a second time for a moment only.
    let (_, resume) = printed.trim().split_once("resume with: hotlanes ").unwrap();
    let again = |more: &str| {
        let script = format!("exec {} {resume} --threads 2 {more}", env!("CARGO_BIN_EXE_hotlanes"));
        output(Command::new("sh").args(["-c", &script]).current_dir("/"))
    };
    told(3, again("--minutes 0.002"), "time is over");
    told(0, again(""), "saved in");
    assert_eq!(states(&out), states(&root.path().join("whole")));
    let finals = |out: &Path| events(out, "final").pop().unwrap()["validation"].clone();
    assert_eq!(finals(&out), finals(&root.path().join("whole")));
    told(0, output(&mut hotlanes(&["verify", out.to_str().unwrap(), "--sample=1"])), "hashes agree");
}

#[test]
fn data_that_change_are_told() {
    let root = new(60);
    let run = |options: &[&str]| train(root.path(), &[options, &["--threads=1", "--quiet"]].concat());
    let out = root.path().join("run");
    told(0, run(&[&COLUMNS[..], &["--hidden=4", "--batch=16", "--epochs=3", "--out=run"]].concat()), "");
    let contents = || -> Vec<Vec<u8>> {
        let mut all: Vec<_> = fs::read_dir(&out).unwrap().map(|e| e.unwrap().path()).collect();
        all.retain(|path| !path.ends_with("hotlanes.lock"));
        all.sort();
        all.iter().map(|path| fs::read(path).unwrap()).collect()
    };
    let verify =
        |more: &[&str]| output(hotlanes(&[&["verify", "run"], more].concat()).current_dir(root.path()));
    let before = contents();
    let good = root.path().join("rows.csv");
    let changes: [&dyn Fn(&str) -> String; 4] = [
        &|text| text.replacen(",red,", ",blue,", 1),
        &|text| text.to_owned() + "61,1,2,red,3\n",
        &|text| text.lines().take(60).collect::<Vec<_>>().join("\n"),
        &|text| text.replacen(".5\n", ".25\n", 1),
    ];
    for change in changes {
        fs::write(&good, change(&table(60))).unwrap();
        let hash = "have the hash ";
        for failed in [run(&["--resume=run", "--epochs=4"]), verify(&[])] {
            assert!(text(&failed.stderr).contains(hash), "{}", text(&failed.stderr));
            assert_ne!(failed.status.code(), Some(0));
        }
    }
    fs::remove_file(&good).unwrap();
    told(1, run(&["--resume=run", "--epochs=4"]), "rows.csv: No such file");
    told(1, verify(&[]), "rows.csv: No such file");
    assert!(contents() == before, "nothing was written");

    // The same rows elsewhere: a column that is not used does not count.
    let moved: String =
        table(60).lines().map(|line| line.split_once(',').unwrap().1.to_owned() + "\n").collect();
    fs::write(root.path().join("other.csv"), &moved).unwrap();
    told(0, run(&["--resume=run", "--epochs=4", "--data=other.csv"]), "");
    for tier in Tier::available() {
        told(0, verify(&["--data=other.csv", &format!("--tier={tier}")]), "hashes agree");
    }
    // The new place is the run's from then on; the log has the old one.
    told(0, run(&["--resume=run", "--epochs=5"]), "");
    told(1, verify(&[]), "rows.csv: No such file");
    told(0, verify(&["--data=other.csv"]), "hashes agree");
}

#[test]
fn a_run_that_stops_early_says_so() {
    let root = new(50);
    let options =
        [&COLUMNS[..], &["--patience=2", "--lr=0.5", "--epochs=400", "--threads=1", "--out=run"]].concat();
    let early = train(root.path(), &options);
    told(0, &early, "stopped early: saved in run after ");
    assert_eq!(stop(&root.path().join("run"))["ending"], "early");
    let again = train(root.path(), &["--resume=run", "--epochs=500"]);
    told(0, &again, "stopped early: saved in run after ");
    assert!(!text(&again.stdout).contains("\n\n"), "{}", text(&again.stdout));
}
