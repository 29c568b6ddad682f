use std::fs;

use clap::FromArgMatches;
use proptest::prelude::*;

use super::*;
use crate::cli::{self, Cli, Train, command, mlp, population};

/// Options that are no part of a printed file: they say how to run this command, or stand for others that are printed.
const NOT_PRINTED: [&str; 8] =
    ["preset", "resume", "config", "print-config", "dry-run", "mpi", "profile", "profile-steps"];

const KINDS: [&str; 3] = ["gpt", "population", "mlp"];

/// The file that a command line prints, and its recipe and options as JSON.
fn printed(words: Vec<OsString>) -> Result<(String, String), String> {
    let words = expand(&command(), words)?.words;
    let matches = command().try_get_matches_from(words).map_err(|e| e.to_string())?;
    let Some(cli::Command::Train(train)) = Cli::from_arg_matches(&matches).unwrap().command else {
        panic!("train")
    };
    let (mut file, run, recipe) = match train {
        Train::Gpt(args) => {
            let (recipe, steps) = args.recipe().map_err(|e| e.to_string())?;
            (args.print(&recipe, steps).unwrap(), args.run, serde_json::to_string(&(recipe, steps)).unwrap())
        }
        Train::Population(args) => {
            let (recipe, end) = args.recipe().map_err(|e| e.to_string())?;
            (
                population::print(&recipe, end).unwrap(),
                args.run,
                serde_json::to_string(&(recipe, end)).unwrap(),
            )
        }
        Train::Mlp(args) => {
            let (recipe, epochs) = args.recipe().map_err(|e| e.to_string())?;
            let file = mlp::print(&recipe, epochs).unwrap();
            (file, args.run, serde_json::to_string(&(recipe, epochs)).unwrap())
        }
    };
    run.put(&mut file, Path::new("out"), 7).unwrap();
    Ok((file.to_string(), recipe))
}

fn typed(kind: &str, options: &[String]) -> Vec<OsString> {
    ["hotlanes", "train", kind]
        .into_iter()
        .chain(options.iter().map(String::as_str))
        .map(OsString::from)
        .collect()
}

/// Prints the file of a command line, reads it, and compares.
fn round_trip(kind: &str, options: &[String]) -> String {
    let first = printed(typed(kind, options)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.toml");
    fs::write(&path, &first.0).unwrap();
    let again = printed(typed(kind, &[format!("--config={}", path.display())])).unwrap();
    assert_eq!(first.1, again.1, "{options:?}\n{}", first.0);
    assert_eq!(first.0, again.0, "{options:?}");
    first.0
}

fn leaf(kind: &str) -> Command {
    command().find_subcommand("train").and_then(|train| train.find_subcommand(kind)).unwrap().clone()
}

fn words_of(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn every_option_is_printed_and_read_again() {
    let lines = [
        (
            "gpt",
            "--data a --validation-data b --tokenizer tokens --vocab 50257 --sample-every 3 --sample-tokens 9",
        ),
        (
            "gpt",
            "--preset tiny --lr 3e-4 --seed 18446744073709551615 --minutes 0.5 --threads 2 --tier scalar --tied",
        ),
        (
            "gpt",
            "--preset nanogpt --steps 50 --bias=false --dropout 0.1 --no-whole-validation --quiet --keep 3",
        ),
        ("population", "--data d --selection truncation:0.25 --hidden 9 --optimizer adamw --minutes 1e-7"),
        (
            "population",
            "--images a --labels b --test-images c --test-labels d --threads 1 --tier scalar --seed 7",
        ),
        ("population", "--images a --labels b --hidden 3,2,1 --perturb-by 0.1"),
        (
            "mlp",
            "--data d --target y --features a --features b,c 0 --one-hot c=d --delimiter tab --no-header",
        ),
        (
            "mlp",
            "--loss huber --delta 0.5 --warmup 3 --epochs 7 --minutes 2 --threads 2 --tier scalar --skip-bad-rows",
        ),
        (
            "mlp",
            "--hidden 7 --min-lr 1e-9 --task classification --decay-epochs 90 --eval-every 2 --test 0 --quiet",
        ),
    ];
    for kind in KINDS {
        let files: String =
            lines.iter().filter(|l| l.0 == kind).map(|l| round_trip(kind, &words_of(l.1))).collect();
        let command = leaf(kind);
        for name in command.get_arguments().filter_map(Arg::get_long) {
            let is_there = files.lines().any(|line| line.starts_with(&format!("{name} = ")));
            assert_eq!(is_there, !NOT_PRINTED.contains(&name), "{kind}: {name}");
        }
    }
    for preset in ["base", "nanogpt", "tiny"] {
        round_trip("gpt", &[format!("--preset={preset}")]);
    }
    assert!(round_trip("gpt", &words_of("--lr 3e-4")).contains("\nmin-lr = 0.00003\n"));
}

/// A value that may suit an option: `bits` decide which.
fn value(option: &Arg, bits: u64, text: &str) -> String {
    let values = option.get_possible_values();
    let id = option.get_value_parser().type_id();
    if !values.is_empty() {
        return values[bits as usize % values.len()].get_name().to_owned();
    }
    let finite = |value: f64| if value.is_finite() { value } else { 0.5 };
    match option.get_id().as_str() {
        "tier" => "scalar".into(),
        "delimiter" => [";", "tab", "\t", " ", "|", ":"][bits as usize % 6].into(),
        "selection" if bits.is_multiple_of(2) => format!("tournament:{}", bits / 2 + 1),
        "selection" => format!("truncation:{}", (bits as f64 / u64::MAX as f64).max(1e-9)),
        _ if id == TypeId::of::<bool>() => (bits % 2 == 1).to_string(),
        _ if id == TypeId::of::<f64>() => number(finite(f64::from_bits(bits))),
        _ if id == TypeId::of::<f32>() => number(finite(f64::from(f32::from_bits(bits as u32))) as f32),
        _ if id == TypeId::of::<PathBuf>() || id == TypeId::of::<String>() => text.into(),
        _ if bits.is_multiple_of(3) => bits.to_string(),
        _ => (1 + bits % 1000).to_string(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_options_come_back_to_the_bit(
        kind in proptest::sample::select(&KINDS[..]),
        drawn in proptest::collection::vec((any::<bool>(), any::<u64>(), "[a-z\"'\\\\\n\té=#]{1,5}"), 60),
    ) {
        let command = leaf(kind);
        let parses = |options: &[String]| {
            let words = [command.get_name()].into_iter().chain(options.iter().map(String::as_str));
            command.clone().try_get_matches_from(words).map(drop).map_err(|e| e.kind())
        };
        let mut options: Vec<String> = Vec::new();
        let all = command.get_arguments().filter(|option| !NOT_PRINTED.contains(&option.get_long().unwrap_or("")));
        for (option, (chosen, bits, text)) in all.zip(&drawn) {
            let long = option.get_long().unwrap();
            let flag = matches!(option.get_action(), ArgAction::SetTrue);
            options.push(if flag { format!("--{long}") } else { format!("--{long}={}", value(option, *bits, text)) });
            if !chosen || !matches!(parses(&options), Ok(()) | Err(ErrorKind::MissingRequiredArgument)) {
                options.pop();
            }
        }
        // One that requires another goes, and others with it.
        while parses(&options).is_err() {
            options.pop();
        }
        round_trip(kind, &options);
    }

    #[test]
    fn any_file_is_read_or_told_with_its_name(
        lines in proptest::collection::vec(
            (
                "(lr|seed|data|hidden|tied|quiet|[a-z_-]{0,4})",
                "[=.\\[ ]{0,2}",
                "[-+0-9xbeE_.\\[\\]{}\"'a-f,#\té]{0,9}",
            ),
            0..4,
        ),
    ) {
        let lines: Vec<String> = lines.iter().map(|(key, is, value)| format!("{key} {is} {value}\n")).collect();
        for kind in KINDS {
            let told = told(kind, "", lines.concat().as_bytes());
            prop_assert!(told.is_empty() || told.starts_with("c.toml, line "), "{:?}: {}", lines, told);
        }
    }
}

/// The error for a file of `train gpt`, or of another command with these options.
fn told(kind: &str, options: &str, text: &[u8]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.toml");
    fs::write(&path, text).unwrap();
    let words = typed(kind, &[words_of(options), vec![format!("--config={}", path.display())]].concat());
    let error = expand(&command(), words).err().unwrap_or_default();
    error.replace(&path.display().to_string(), "c.toml")
}

#[test]
fn what_is_wrong_is_told_with_file_line_option_and_rule() {
    let gpt = |text: &str| told("gpt", "", text.as_bytes());
    assert_eq!(gpt("lr = 0.1\n\nbatch_size = 2 # nanoGPT\nseed = 0xff\n"), "");
    let similar = "c.toml, line 2: lerning-rate = 0.1: not an option of a file; did you mean learning-rate?";
    assert_eq!(gpt("\nlerning-rate = 0.1"), similar);
    assert_eq!(
        gpt("config = 'a'"),
        "c.toml, line 1: config = 'a': not an option of a file; --help lists those of gpt"
    );
    assert!(gpt("'' = 1").contains("line 1:  = 1: not an option of a file"), "{}", gpt("'' = 1"));
    assert!(gpt("'lr=2' = 1").contains("lr=2 = 1: not an option of a file"), "{}", gpt("'lr=2' = 1"));
    assert_eq!(gpt("lr = '0.1'"), "c.toml, line 1: lr = '0.1': must be a number");
    assert_eq!(gpt("lr = [0.1]"), "c.toml, line 1: lr = [0.1]: must be a number");
    assert_eq!(
        gpt("seed = 1.5"),
        "c.toml, line 1: invalid value '1.5' for '--seed <N>': invalid digit found in string"
    );
    assert_eq!(gpt("tied = 1"), "c.toml, line 1: tied = 1: must be true or false");
    assert_eq!(gpt("quiet = 'yes'"), "c.toml, line 1: quiet = 'yes': must be true or false");
    assert_eq!(gpt("data = 7"), "c.toml, line 1: data = 7: must be a string, in quotes");
    assert_eq!(gpt("norm = 2000-01-01"), "c.toml, line 1: norm = 2000-01-01: must be a string, in quotes");
    let norm =
        "c.toml, line 3: invalid value 'batch' for '--norm <NAME>' [possible values: layernorm, rmsnorm]";
    assert_eq!(gpt("lr = 1\n\nnorm = 'batch'"), norm);
    assert!(
        gpt("steps = 0").starts_with("c.toml, line 1: invalid value '0' for '--steps <N>': 0 is not in 1..")
    );
    assert_eq!(
        gpt("lr = 1\nlearning_rate = 2"),
        "c.toml, line 2: learning_rate = 2: line 1 sets the same option, lr"
    );
    assert_eq!(gpt("lr = 1\nlr = 2"), "c.toml, line 2: duplicate key");
    assert!(gpt("lr = 1\nlr 2").starts_with("c.toml, line 2: "), "{}", gpt("lr = 1\nlr 2"));
    assert!(gpt("[model]\nlayers = 2").starts_with("c.toml, line 1: model: options have no sections"));
    assert!(gpt("train.lr = 2").starts_with("c.toml, line 1: train: options have no sections"));
    assert_eq!(told("gpt", "", b"# \xff"), "c.toml, line 1: byte 2 is not valid UTF-8");
    assert!(told("gpt", "--config=/nowhere/c", b"").is_empty(), "twice: clap tells");
    let population = |text: &str| told("population", "", text.as_bytes());
    assert_eq!(population("hidden = [3, 2]\ndigits = 50"), "");
    assert_eq!(population("hidden = 3"), "");
    assert_eq!(
        population("hidden = '3,2'"),
        "c.toml, line 1: hidden = '3,2': must be a number, or an array of such"
    );
    assert_eq!(
        population("hidden = []"),
        "c.toml, line 1: hidden = []: must be a number, or an array of such"
    );
    assert_eq!(
        population("hidden = [3, '2']"),
        "c.toml, line 1: hidden = [3, '2']: each value must be a number"
    );

    let mlp = |text: &str| told("mlp", "", text.as_bytes());
    assert_eq!(mlp("features = ['a, b', 'c']\none-hot = 'd'\nhidden = 8\ndelimiter = \"\\t\""), "");
    let texts = "must be a string, in quotes";
    assert_eq!(mlp("features = [1]"), format!("c.toml, line 1: features = [1]: each value {texts}"));
    assert_eq!(mlp("one_hot = 2"), format!("c.toml, line 1: one_hot = 2: {texts}, or an array of such"));
    assert!(
        mlp("task = 'rank'").contains("invalid value 'rank' for '--task <NAME>'"),
        "{}",
        mlp("task = 'rank'")
    );

    // Among themselves, with the command line, and with a run that has its own settings.
    let both = "data = 'a'\nvalidation-data = 'b'\nvalidation = 0.2";
    assert!(gpt(both).starts_with("c.toml, line 3: the argument '--valid"), "{}", gpt(both));
    assert!(gpt(both).contains("cannot be used with"), "{}", gpt(both));
    for line in ["lr = 1", "preset = 'tiny'", "stories = 9", "layers = 1"] {
        let conflict = told("gpt", "--resume r", format!("log-every = 3\n{line}").as_bytes());
        assert!(conflict.starts_with("c.toml, line 2: the argument '--"), "{conflict}");
        assert!(
            conflict.contains("cannot be used with") && conflict.contains("--resume <DIR>"),
            "{conflict}"
        );
    }
    let tunable = "eval-every = 5\nlog_every = 3\ndecay-steps = 9\ndata = 'a'\nsteps = 2\nsample-every = 1";
    assert_eq!(told("gpt", "--resume r", tunable.as_bytes()), "");
    assert!(told("population", "--resume r", b"cull = 0.1").starts_with("c.toml, line 1: the argument '--"));
    assert!(told("mlp", "--resume r", b"target = 'y'").starts_with("c.toml, line 1: the argument '--"));
    assert_eq!(told("mlp", "--resume r", b"data = 'a'\nepochs = 9\neval-every = 2\ndecay-epochs = 9"), "");
}

#[test]
fn the_command_line_wins_and_what_it_lacks_is_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.toml");
    let words = |kind: &str, options: &str, text: &str| -> Vec<String> {
        fs::write(&path, text).unwrap();
        let words =
            typed(kind, &[words_of(options), vec!["--config".into(), path.display().to_string()]].concat());
        let expanded = expand(&command(), words).unwrap();
        let end = expanded.words.len() - 2;
        expanded.words[3..end].iter().map(|word| word.to_str().unwrap().to_owned()).collect()
    };
    let file = "lr = 1e-1\nbatch-size = 1_000\nquiet = true\nno-whole-validation = false\nmax_iters = 0x10";
    let all = ["--lr=1e-1", "--batch=1000", "--quiet", "--steps=16", "--layers=2"];
    assert_eq!(words("gpt", "--layers=2", file), all);
    assert_eq!(words("gpt", "--learning-rate 2 --max-iters=5", file)[..2], ["--batch=1000", "--quiet"]);
    let lists = words("population", "--digits 50", "lr = 0.5\nhidden = [3, 2]");
    assert_eq!(lists, ["--lr=0.5", "--hidden=3", "--hidden=2", "--digits", "50"]);
    assert_eq!(words("population", "--hidden 7", "lr = 0.5\nhidden = [3, 2]"), ["--lr=0.5", "--hidden", "7"]);
    let columns = words("mlp", "--rows 9", "features = ['a, b', '-c']\none-hot = 'd'");
    assert_eq!(columns, ["--features=a, b", "--features=-c", "--one-hot=d", "--rows", "9"]);
    fs::write(&path, "quiet = true\nlr = 1\n").unwrap();
    let config = format!("--config={}", path.display());
    let located = |more: &[&str], why: &str| {
        let options: Vec<String> = [&config[..]].iter().chain(more).map(|&word| word.to_owned()).collect();
        let why = expand(&command(), typed("gpt", &options)).unwrap().located(why.to_owned());
        why.replace(&path.display().to_string(), "c.toml")
    };
    assert_eq!(located(&[], "lr = 1: too high"), "c.toml, line 2: lr = 1: too high");
    assert_eq!(located(&["--learning-rate=1"], "lr = 1: too high"), "lr = 1: too high");
    assert_eq!(located(&[], "min-lr = 9: too high"), "min-lr = 9: too high");
    // Wrong also where the command line wins.
    assert!(!told("gpt", "--lr 1", b"lr = true").is_empty());
    // Commands without files are as they were.
    let plain = || ["hotlanes", "bench", "gpt", "--config", "x"].map(OsString::from).to_vec();
    assert_eq!(expand(&command(), plain()).unwrap().words, plain());
}
