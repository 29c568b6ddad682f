//! `--config` and `--print-config` as processes: what a file gives is what the options give, to the bit.

#![cfg(unix)]

use std::fs;
use std::path::Path;
use std::process::Output;

use tempfile::TempDir;

mod common;

use common::{hotlanes, log, output, text, told};

/// Small runs of all trainers, and options that are not the defaults.
const RUNS: [(&str, &str); 3] = [
    (
        "gpt",
        "--preset tiny --layers 1 --dim 16 --block 16 --batch 4 --stories 3000 --steps 6 --lr 7e-4 --beta2 0.95 \
         --eval-every 3 --eval-batches 2 --log-every 2 --dropout 0.1 --seed 18446744073709551615 --quiet",
    ),
    (
        "population",
        "--population 3 --hidden 8,5 --digits 100 --validation 10 --generation 64 --generations 2 --lr 0.123 \
         --selection truncation:0.7 --perturb-by 0.3 --seed 9 --quiet",
    ),
    (
        "mlp",
        "--rows 60 --hidden 5,4 --batch 16 --epochs 3 --lr 0.02 --activation gelu --dropout 0.1 --loss huber \
         --delta 0.7 --validation 0.2 --test 0 --patience 9 --seed 5 --quiet",
    ),
];

/// The program in a directory, with options in one string.
fn train(directory: &Path, kind: &str, options: &str) -> Output {
    let options: Vec<&str> = options.split_whitespace().collect();
    output(hotlanes(&[&["train", kind], &options[..]].concat()).current_dir(directory))
}

/// What it prints, where that succeeds.
fn printed(directory: &Path, kind: &str, options: &str) -> String {
    let output = train(directory, kind, options);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    text(&output.stdout)
}

/// The chain of a run's log, which covers its recipe, its losses and the hashes of its states.
fn chain(directory: &Path) -> Vec<String> {
    log(directory).iter().filter_map(|line| Some(line["chain"].as_str()?.to_owned())).collect()
}

#[test]
fn a_printed_config_gives_the_run_to_the_bit() {
    for (kind, options) in RUNS {
        let root = TempDir::new().unwrap();
        let at = |name: &str| root.path().join(name);
        let config = printed(root.path(), kind, &format!("{options} --out a --print-config"));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0, "nothing is written");
        fs::write(at("c.toml"), &config).unwrap();
        assert_eq!(printed(root.path(), kind, "--config c.toml --print-config"), config);
        assert_eq!(printed(root.path(), kind, &format!("{options} --out a")), "");
        // The file's own directory is taken by now.
        told(2, train(root.path(), kind, "--config c.toml"), "a holds a run");
        assert_eq!(printed(root.path(), kind, "--config=c.toml --out b"), "");
        let chains = ["a", "b"].map(|name| chain(&at(name)));
        assert!(chains[0].len() > 3 && chains[0] == chains[1], "{kind}: {chains:?}");

        // The run itself tells its options, without a directory of its own.
        let resumed = printed(root.path(), kind, "--resume a --quiet --print-config");
        let own: Vec<&str> = config.lines().filter(|line| !line.starts_with("out = ")).collect();
        assert_eq!(resumed.lines().collect::<Vec<_>>(), own);
        assert_eq!(chain(&at("a")), chains[0], "nothing is written");
    }
}

#[test]
fn a_resumed_run_takes_what_it_may_change() {
    let root = TempDir::new().unwrap();
    let (kind, options) = RUNS[0];
    assert_eq!(printed(root.path(), kind, &format!("{options} --out a")), "");
    let write = |text: &str| fs::write(root.path().join("c.toml"), text).unwrap();
    let settings = "c.toml, line 2: the argument '--";
    write("quiet = true\nlr = 0.5\n");
    let before = fs::read(root.path().join("a/gpt.json")).unwrap();
    told(2, train(root.path(), kind, "--resume a --config c.toml"), settings);
    assert!(fs::read(root.path().join("a/gpt.json")).unwrap() == before);
    write("quiet = true\nlog-every = 1\nsteps = 8\ndecay_steps = 8\n");
    let changed = printed(root.path(), kind, "--resume a --config c.toml --print-config");
    for line in ["log-every = 1", "steps = 8", "decay-steps = 8", "lr = 0.0007"] {
        assert!(changed.lines().any(|l| l == line), "{line}: {changed}");
    }
    assert_eq!(printed(root.path(), kind, "--resume a --config c.toml"), "");
    let log = log(&root.path().join("a"));
    assert!(log.iter().any(|line| line["event"] == "step" && line["step"] == 7), "{log:?}");
}

#[test]
fn what_is_wrong_is_told_and_nothing_is_written() {
    for (kind, options) in RUNS {
        let root = TempDir::new().unwrap();
        let wrong = |text: &str, options: &str, message: &str| {
            fs::write(root.path().join("c.toml"), text).unwrap();
            told(2, train(root.path(), kind, &format!("--config c.toml {options}")), message);
            assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "{text}");
        };
        wrong("\nlerning = 1", "", "hotlanes: c.toml, line 2: lerning = 1: not an option of a file");
        wrong("lr = 'high'", options, "hotlanes: c.toml, line 1: lr = 'high': must be a number");
        // Rules that are not clap's.
        wrong("seed = 3\nlr = -1", "", "hotlanes: c.toml, line 2: lr = -1: must be ");
        wrong("seed = 3\nvalidation = nan", "--out x", "hotlanes: c.toml, line 2: ");
        wrong("seed = 3\nlr = -1", "--print-config", "hotlanes: c.toml, line 2: lr = -1: must be ");
        // What the command line says is not the file's.
        wrong("seed = 3\nlr = -1", "--lr=-2", "hotlanes: lr = -2: must be ");
        wrong("seed = 3", "--lr=-2 --print-config", "hotlanes: lr = -2: must be ");
        wrong("seed = 3", "--print-config --dry-run", "cannot be used with");
        told(2, train(root.path(), kind, "--config none.toml"), "hotlanes: none.toml: No such file");
        told(2, train(root.path(), kind, "--config ."), "hotlanes: .: must be a regular file");
        told(1, train(root.path(), kind, "--resume none --print-config"), "none/");
    }
}

#[test]
fn no_data_are_needed_and_paths_are_those_of_the_current_directory() {
    let root = TempDir::new().unwrap();
    let here = fs::canonicalize(root.path()).unwrap();
    fs::create_dir(here.join("configs")).unwrap();
    fs::write(here.join("configs/c.toml"), "data = \"te\\\"xt\"\nvalidation-data = 'more'\n").unwrap();
    let config = printed(&here, "gpt", "--config configs/c.toml --print-config");
    for line in [
        format!("data = '{}/te\"xt'", here.display()),
        format!("validation-data = \"{}/more\"", here.display()),
    ] {
        assert!(config.lines().any(|l| l == line), "{line}: {config}");
    }
    assert!(!config.contains("\nvalidation = "), "{config}");
    let images = printed(&here, "population", "--images i --labels l --print-config");
    assert!(images.contains(&format!("\nlabels = \"{}/l\"\n", here.display())), "{images}");
}
