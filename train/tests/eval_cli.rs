//! `hotlanes eval` as a process: the loss of the log to the bit, other texts, what is wrong, and nothing written.

#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

mod common;

use common::{Limited, SLOWEST, events, hotlanes, output, text, told};

/// The program in a directory, with options in one string.
fn in_directory(directory: &Path, words: &str) -> Output {
    let words: Vec<&str> = words.split_whitespace().collect();
    output(hotlanes(&words).current_dir(directory))
}

/// A small run `r` in a directory: its last model is not its best.
fn trained(more: &str) -> TempDir {
    let root = TempDir::new().unwrap();
    let small =
        "train gpt --preset tiny --layers 1 --dim 16 --block 16 --batch 4 --out r --quiet --eval-batches 2";
    let done = in_directory(root.path(), &format!("{small} --steps 8 --eval-every 2 {more}"));
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    root
}

fn json(output: Output) -> Value {
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Every file below a directory, with its contents.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn the_loss_of_a_run_is_that_of_its_log_to_the_bit() {
    // A rate so high that the best model is an earlier one.
    let root = trained("--stories 3000 --lr 3 --min-lr 3 --warmup 7");
    let path = root.path().join("r");
    let last = events(&path, "final").pop().unwrap();
    assert_ne!(last["whole"], last["whole_best"]);
    let before = files(&path);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o555)).unwrap();
    for options in ["", "--threads 2", &format!("--tier {SLOWEST} --threads 1")] {
        let eval = json(in_directory(root.path(), &format!("eval r --json --quiet {options}")));
        assert_eq!((&eval["loss"], &eval["step"]), (&last["whole"], &Value::from(8)));
        let best = json(in_directory(root.path(), &format!("eval --best r --json --quiet {options}")));
        assert_eq!(best["loss"], last["whole_best"]);
        assert!(best["step"].as_u64().unwrap() < 8);
    }
    let said = in_directory(root.path(), "eval r");
    let loss = last["whole"].as_f64().unwrap();
    let (out, err) = (text(&said.stdout), text(&said.stderr));
    assert!(
        out.starts_with(&format!("loss {loss:.6} nats per token, perplexity {:.4}, ", loss.exp())),
        "{out}"
    );
    assert!(err.contains("model of step 8; validation split of stories that the program writes: "), "{err}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(files(&path) == before, "nothing is written");
}

#[test]
fn other_texts_are_read_as_the_runs_is() {
    let root = trained("--stories 3000");
    let at = |name: &str| root.path().join(name);
    let write = |name: &str, text: &[u8]| fs::write(at(name), text).unwrap();
    let eval = |name: &str| in_directory(root.path(), &format!("eval r --json --quiet --data {name}"));
    // 17 characters are a window of 16; the line ends of Windows are those of Unix.
    write("a", b"Anna had a lamb. ");
    let one = json(eval("a"));
    assert_eq!((&one["tokens"], &one["windows"], &one["data"]), (&17.into(), &4.into(), &"a".into()));
    let loss = one["loss"].as_f64().unwrap();
    assert_eq!(one["perplexity"].as_f64().unwrap(), loss.exp());
    let bits = one["bits_per_byte"].as_f64().unwrap();
    assert!((bits - loss / std::f64::consts::LN_2).abs() < 1e-12, "{bits}");
    write("unix", "Anna had a\nball. ".repeat(9).as_bytes());
    write("windows", format!("\u{feff}{}", "Anna had a\r\nball. ".repeat(9)).as_bytes());
    let [unix, windows] = ["unix", "windows"].map(|name| json(eval(name)));
    assert_eq!((&unix["tokens"], &unix["loss"]), (&(17 * 9).into(), &windows["loss"]));

    write("short", b"Anna had a lamb.");
    told(1, eval("short"), "hotlanes: short: 16 tokens: must be at least block + 1 = 17");
    write("empty", b"");
    told(1, eval("empty"), "hotlanes: empty: 0 tokens: must be at least block + 1 = 17");
    write("foreign", "Anna had a låmb. Anna had a lamb.".as_bytes());
    told(
        1,
        eval("foreign"),
        "hotlanes: foreign: character 'å' at byte 12 is not in the model's vocabulary of ",
    );
    write("utf", b"Anna \xff");
    told(1, eval("utf"), "hotlanes: utf: byte 5 (0xff) is not valid UTF-8");
    told(1, eval("none"), "hotlanes: none: ");
    told(1, in_directory(root.path(), "eval"), "gpt-run/gpt.json: No such file");
    told(2, in_directory(root.path(), "eval r --tier sse9"), "sse9");
}

#[test]
fn bytes_and_tokens_are_evaluated() {
    let root = TempDir::new().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = root.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let bytes =
        trained(&format!("--tokenizer byte --data {}", file("text", &b"To be, or not \xff".repeat(60))));
    let more = file("more", &b"\x00\xff\x80 any bytes at all".repeat(3));
    let eval = json(in_directory(bytes.path(), &format!("eval r --json --quiet --data {more}")));
    assert_eq!(eval["tokens"], 60);
    let (loss, bits) = (eval["loss"].as_f64().unwrap(), eval["bits_per_byte"].as_f64().unwrap());
    assert!((bits - loss / std::f64::consts::LN_2).abs() < 1e-12, "{bits}");

    let raw = |tokens: &[u16]| tokens.iter().flat_map(|t| t.to_le_bytes()).collect::<Vec<_>>();
    let data = file("train.bin", &raw(&[1, 2, 3, 4, 9, 2].repeat(100)));
    let tokens = trained(&format!("--tokenizer tokens --data {data}"));
    let more = file("val.bin", &raw(&[4, 3, 2, 1, 9].repeat(7)));
    let eval = json(in_directory(tokens.path(), &format!("eval r --json --quiet --data {more}")));
    assert_eq!((&eval["tokens"], &eval["bits_per_byte"]), (&35.into(), &Value::Null));
    let more = file("beyond.bin", &raw(&[4, 10, 2, 1, 9].repeat(7)));
    let wrong = in_directory(tokens.path(), &format!("eval r --data {more}"));
    told(1, wrong, "beyond.bin: byte 2: token 10: must be below the vocabulary's size, 10");
    // The run's own data are no longer there, or no longer the same.
    file("train.bin", &raw(&[1, 2, 3, 4, 9, 3].repeat(100)));
    told(1, in_directory(tokens.path(), "eval r"), "the run in r was made with");
    fs::remove_file(root.path().join("train.bin")).unwrap();
    told(1, in_directory(tokens.path(), "eval r"), "train.bin: No such file");
    assert_eq!(in_directory(tokens.path(), &format!("eval r --data {data}")).status.code(), Some(1));
}

#[test]
fn runs_of_others_and_damage_are_told() {
    let root = TempDir::new().unwrap();
    let small = "train population --population 2 --hidden 3 --digits 50 --validation 5 --generation 32 --generations 1";
    assert!(in_directory(root.path(), &format!("{small} --out r --quiet")).status.success());
    let want = "hotlanes: r: a run of population: this command expects one of gpt";
    told(2, in_directory(root.path(), "eval r"), want);
    told(2, in_directory(root.path(), "train gpt --resume r --print-config"), want);

    let root = trained("--stories 3000");
    let index = root.path().join("r/gpt.json");
    let text = fs::read_to_string(&index).unwrap();
    // The recipe has the model, too: only one of them is changed.
    fs::write(&index, text.replacen("\"heads\": 2", "\"heads\": 4", 1)).unwrap();
    told(
        1,
        in_directory(root.path(), "eval r"),
        "r/gpt.json: its model is not the one of the run's settings",
    );
    fs::write(&index, text.replace("\"heads\": 2", "\"heads\": 4")).unwrap();
    told(
        1,
        in_directory(root.path(), "eval r --best"),
        "r/best.json: its model is not the one of the run's settings",
    );
    fs::remove_file(root.path().join("r/best.json")).unwrap();
    told(1, in_directory(root.path(), "eval r --best"), "r/best.json: No such file");
}

#[test]
fn a_run_that_is_training_can_be_evaluated() {
    let root = TempDir::new().unwrap();
    let words = "train gpt --preset tiny --layers 1 --dim 16 --block 16 --batch 4 --stories 3000 --eval-batches 1 \
                 --checkpoint-every 1 --steps 100000000 --eval-every 1000000 --out r --quiet --threads 1";
    let words: Vec<&str> = words.split_whitespace().collect();
    let mut command = hotlanes(&words);
    let child = Limited::spawn(command.current_dir(root.path()).stdout(Stdio::null()).stderr(Stdio::null()));
    while !root.path().join("r/gpt.json").exists() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    for _ in 0..8 {
        let eval = json(in_directory(root.path(), "eval r --json --quiet --threads 1"));
        assert!(eval["step"].as_u64().unwrap() > 0);
    }
    child.signal("-INT");
    assert_eq!(child.wait().code(), Some(130));
}
