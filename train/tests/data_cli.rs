//! The commands' options for data, as processes: token files, a validation file, images by name and by file, other
//! directories.

#![cfg(unix)]

use std::fs;
use std::path::Path;
use std::process::Output;

mod common;

use common::{output, text, told};

/// The program in a directory.
fn hotlanes(directory: &Path, arguments: &[&str], more: &[&str]) -> Output {
    output(common::hotlanes(arguments).args(more).current_dir(directory))
}

const GPT: [&str; 20] = [
    "train",
    "gpt",
    "--preset",
    "tiny",
    "--layers",
    "1",
    "--dim",
    "16",
    "--block",
    "4",
    "--batch",
    "4",
    "--eval-batches",
    "2",
    "--no-whole-validation",
    "--threads",
    "1",
    "--quiet",
    "--decay-steps",
    "20",
];

const POPULATION: [&str; 12] = [
    "train",
    "population",
    "--population",
    "3",
    "--hidden",
    "8",
    "--validation",
    "5",
    "--generation",
    "32",
    "--threads",
    "1",
];

/// The run and the newest checkpoint of an index.
fn state(directory: &Path, file: &str) -> serde_json::Value {
    let index = fs::read(directory.join(file)).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let (about, saved) = (&index["about"], &index["saved"][0]);
    serde_json::json!({
        "settings": about["recipe"]["settings"],
        "source": about["recipe"]["source"],
        "data": about["data"],
        "tokenizer": about["model"]["tokenizer"],
        "hash": saved["sha256"],
        "history": saved["snapshot"]["history"],
    })
}

#[test]
fn token_files_are_trained_on_and_numbers_generated() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let raw = |tokens: &[u16]| tokens.iter().flat_map(|t| t.to_le_bytes()).collect::<Vec<u8>>();
    let tokens: Vec<u16> = (0..200).map(|i| i % 7).collect();
    let mut llm_c = [20_240_520_u32, 1, 200].map(u32::to_le_bytes).concat();
    llm_c.resize(1024, 0);
    llm_c.extend(raw(&tokens));
    fs::write(at.join("train.bin"), raw(&tokens)).unwrap();
    fs::write(at.join("llmc.bin"), llm_c).unwrap();
    fs::write(at.join("val.bin"), raw(&[6, 5, 4, 3, 2, 1, 9])).unwrap();
    let run = |out: &str, more: &[&str]| {
        let steps = ["--tokenizer", "tokens", "--steps", "4", "--out", out];
        hotlanes(at, &[&GPT[..], &steps].concat(), more)
    };
    told(0, run("a", &["--data", "train.bin", "--validation-data", "val.bin"]), "");
    told(0, run("b", &["--data", "llmc.bin", "--validation-data", "val.bin"]), "");
    let [a, b] = ["a", "b"].map(|out| state(&at.join(out), "gpt.json"));
    assert_eq!((&a["tokenizer"]["vocab"], &a["hash"], &a["data"]), (&10.into(), &b["hash"], &b["data"]));
    let files = [&a["source"]["file"], &a["source"]["validation_file"]];
    assert_eq!(
        files,
        ["train.bin", "val.bin"]
            .map(|name| fs::canonicalize(at).unwrap().join(name).to_str().unwrap().to_owned())
            .each_ref()
    );

    let generate =
        |more: &[&str]| hotlanes(at, &["generate", "--model", "a", "--quiet", "--tokens", "20"], more);
    let numbers = generate(&["--prompt", "1 2  3"]);
    told(0, &numbers, "");
    let out = text(&numbers.stdout);
    assert!(out.starts_with("1 2 3 ") && out.ends_with(" \n"), "{out:?}");
    assert!(
        out.split_whitespace().count() == 23
            && out.split_whitespace().all(|n| n.parse::<u16>().unwrap() < 10)
    );
    assert_eq!(text(&generate(&[]).stdout).split_whitespace().count(), 20);
    told(2, generate(&["--prompt", "To be"]), "the prompt: \"To\" at byte 0: must be a token's number");
    told(
        2,
        generate(&["--prompt", "1 10"]),
        "\"10\" at byte 2: must be a token's number, below the vocabulary's size, 10",
    );

    told(0, run("c", &["--data", "train.bin", "--vocab", "50"]), "");
    assert_eq!(state(&at.join("c"), "gpt.json")["settings"]["model"]["vocab"], 50);
    let beyond = "val.bin: byte 12: token 9: must be below the vocabulary's size, 9";
    told(1, run("d", &["--data", "train.bin", "--validation-data", "val.bin", "--vocab", "9"]), beyond);
    told(
        2,
        run("d", &["--data", "train.bin", "--vocab", "0"]),
        "vocab = 0: must be at least 1 and at most 65536",
    );
    told(
        2,
        run("d", &["--data", "train.bin", "--vocab", "18446744073709551615"]),
        "vocab = 18446744073709551615",
    );
    told(2, run("d", &[]), "tokenizer = tokens: needs a token file, --data");
    told(
        2,
        run("d", &["--data", "train.bin", "--validation-data", "val.bin", "--validation", "0.5"]),
        "cannot be used",
    );
    told(2, run("d", &["--validation-data", "val.bin"]), "--data <FILE>");
    told(1, run("d", &["--data", "/dev/zero"]), "/dev/zero: is a character device: must be a regular file");
    assert!(!at.join("d").exists(), "what fails at once leaves nothing");
}

#[test]
fn a_run_finds_its_text_from_another_directory() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    fs::create_dir(at.join("elsewhere")).unwrap();
    fs::write(at.join("train.txt"), "To be, or not to be\r\n".repeat(20)).unwrap();
    fs::write(at.join("val.txt"), "\u{feff}To be or Not to be\n".repeat(3)).unwrap();
    let start = ["--data", "train.txt", "--validation-data", "val.txt", "--steps", "2", "--out", "run"];
    told(0, hotlanes(at, &GPT, &start), "");
    let resume = ["train", "gpt", "--resume", "../run", "--steps", "4", "--quiet", "--no-whole-validation"];
    told(0, hotlanes(&at.join("elsewhere"), &resume, &[]), "");
    let first = state(&at.join("run"), "gpt.json");
    assert_eq!(first["history"]["step"], 4);
    assert!(first["tokenizer"]["characters"].as_str().unwrap().contains('N'), "of both files");
    fs::write(at.join("val.txt"), "Another text, and longer").unwrap();
    told(1, hotlanes(at, &["train", "gpt", "--resume", "run", "--steps", "6"], &[]), "the run in");
    fs::remove_file(at.join("val.txt")).unwrap();
    told(1, hotlanes(at, &["train", "gpt", "--resume", "run", "--steps", "6"], &[]), "val.txt: No such file");
}

#[test]
fn images_are_found_by_name_and_by_file() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let idx = |words: &[u32], values: Vec<u8>| -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).chain(values).collect()
    };
    let images = |n: u32| idx(&[0x0803, n, 4, 4], (0..n * 16).map(|i| (i * i) as u8).collect());
    let labels = |n: u32| idx(&[0x0801, n], (0..n).map(|i| (i % 10) as u8).collect());
    fs::create_dir_all(at.join("mnist/elsewhere")).unwrap();
    for (name, bytes) in [
        ("train-images.idx3-ubyte", images(60)),
        ("TRAIN-LABELS.IDX1-UBYTE", labels(60)),
        ("test-images-idx3-ubyte", images(20)),
        ("test-labels-idx1-ubyte", labels(20)),
    ] {
        fs::write(at.join("mnist").join(name), bytes).unwrap();
    }
    let run = |out: &str, more: &[&str]| {
        let out = ["--generations", "1", "--out", out];
        hotlanes(at, &[&POPULATION[..], &out].concat(), more)
    };
    let files = ["--images", "mnist/train-images.idx3-ubyte", "--labels", "mnist/TRAIN-LABELS.IDX1-UBYTE"];
    let test =
        ["--test-images", "mnist/test-images-idx3-ubyte", "--test-labels", "mnist/test-labels-idx1-ubyte"];
    told(0, run("a", &["--data", "mnist"]), "");
    told(0, run("b", &[&files[..], &test].concat()), "");
    told(0, run("c", &files), "");
    let [a, b, c] = ["a", "b", "c"].map(|out| state(&at.join(out), "population.json"));
    assert_eq!((&a["data"], &a["hash"]), (&b["data"], &b["hash"]));
    assert_ne!(a["data"], c["data"], "every fifth is held out");
    let resume = |directory: &Path, run: &str, more: &[&str]| {
        hotlanes(directory, &["train", "population", "--resume", run, "--generations", "2"], more)
    };
    let elsewhere = at.join("mnist/elsewhere");
    for run in ["a", "b", "c"] {
        told(0, resume(&elsewhere, &format!("../../{run}"), &[]), "");
    }
    // Moved, and told where.
    fs::rename(at.join("mnist"), at.join("moved")).unwrap();
    told(1, resume(at, "a", &[]), "mnist: No such file");
    told(1, resume(at, "b", &[]), "mnist/train-images.idx3-ubyte: No such file");
    let moved = files.map(|argument| argument.replace("mnist/", "moved/"));
    told(0, resume(at, "c", &moved.each_ref().map(String::as_str)), "");
    told(0, resume(at, "b", &["--data", "moved"]), "");

    told(2, run("d", &["--images", "i"]), "--labels <FILE>");
    told(2, run("d", &["--labels", "l"]), "--images <FILE>");
    told(2, run("d", &["--data", "moved", "--images", "i", "--labels", "l"]), "cannot be used with");
    told(2, run("d", &["--images", "i", "--labels", "l", "--test-images", "t"]), "--test-labels <FILE>");
    told(2, run("d", &["--test-images", "i", "--test-labels", "l"]), "--images <FILE>");
    told(2, run("d", &["--digits", "0"]), "digits = 0: must be at least 5");
    told(2, run("d", &["--digits", "18446744073709551615"]), "digits = 18446744073709551615: must be");
    let most = ["--validation", "18446744073709551615"];
    let population = [&POPULATION[..6], &POPULATION[8..]].concat();
    told(
        2,
        hotlanes(at, &population, &[&most[..], &["--out", "d"]].concat()),
        "validation = 18446744073709551615: must be below",
    );
    told(
        1,
        hotlanes(at, &population, &[&most[..], &["--out", "d", "--data", "moved"]].concat()),
        "60 training images: ",
    );
    told(
        1,
        run("d", &["--images", "/dev/zero", "--labels", "/dev/zero"]),
        "/dev/zero: is a character device",
    );
    let bench = ["bench", "population", "--digits", "0"];
    told(2, hotlanes(at, &bench, &[]), "digits = 0: must be at least 5");
    told(1, hotlanes(at, &bench[..2], &["--images", "i", "--labels", "l"]), "i: No such file");
    assert!(!at.join("d").exists(), "what fails at once leaves nothing");
}
