//! `--config FILE` and `--print-config`, for every command that trains: a TOML file whose keys are the long names of
//! the command's options.
//!
//! The file's options are put after the command's name, and clap parses the whole: values are checked, and conflicts
//! found, as if all had been typed. An option of the command line replaces that of the file.

use std::any::TypeId;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::builder::ValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, Command, ValueEnum};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::shell::error::Error;
use crate::shell::settings::number;
use crate::store::files;

#[cfg(test)]
mod tests;

/// How such files work, for the help of training commands.
pub(super) const HELP: &str = "\
--config FILE reads options from a TOML file, one a line: lr = 0.001, eval-every = 50, quiet = true. Keys are the long
names of options, with - or _; the command line overrides them; relative paths are relative to the current directory.
--print-config prints such a file with every setting of the run: as --config it gives the same run, to the bit.";

/// The id of the option that names the file.
const CONFIG: &str = "config";
/// Ids of options that a file cannot have.
const NOT_IN_FILES: [&str; 2] = [CONFIG, "print_config"];
/// Bytes of a file at most.
const MOST: u64 = 1 << 20;
/// Characters of a value that a message shows.
const SHOWN: usize = 60;

/// A command line with the options of its file.
#[derive(Default)]
pub(super) struct Expanded {
    /// All words.
    pub(super) words: Vec<OsString>,
    file: PathBuf,
    /// Options that the file has set, and their lines.
    places: Vec<(String, usize)>,
}

/// Adds the options of the file that the command line names, if it names one.
///
/// # Errors
/// The file cannot be read, or one of its lines is wrong or conflicts with the others: file, line, option and rule.
pub(super) fn expand(root: &Command, mut words: Vec<OsString>) -> Result<Expanded, String> {
    // A command line that is wrong by itself is told as such, once it is parsed.
    let Some(used) = Used::find(root, &words) else { return Ok(Expanded { words, ..Expanded::default() }) };
    let Used { command, matches, at, file } = used;
    let typed = [&[OsString::from(command.get_name())], &words[at..]].concat();
    let parse = |words: &[OsString]| match command.clone().try_get_matches_from(words) {
        // Another option may be the one that is required.
        Err(e) if e.kind() != ErrorKind::MissingRequiredArgument => Err(e),
        _ => Ok(()),
    };
    if parse(&typed).is_err() {
        return Ok(Expanded { words, ..Expanded::default() });
    }
    let (mut all, mut places) = (typed.clone(), Vec::new());
    for Entry { id, name, line, words } in read(command, &file)? {
        let wrong = |e| format!("{}, line {line}: {}", file.display(), told(&e));
        parse(&[&typed[..1], &words].concat()).map_err(wrong)?;
        if matches.value_source(&id) != Some(ValueSource::CommandLine) {
            all.extend(words);
            parse(&all).map_err(wrong)?;
            places.push((name, line));
        }
    }
    words.splice(at..at, all.drain(typed.len()..));
    Ok(Expanded { words, file, places })
}

/// A message about a setting, with its place in the file if the file has set it.
pub(super) fn located(why: String) -> String {
    let expanded = expand(&super::command(), std::env::args_os().collect()).unwrap_or_default();
    expanded.located(why)
}

impl Expanded {
    fn located(&self, why: String) -> String {
        let name = why.split_once(" = ").map_or("", |(name, _)| name);
        match self.places.iter().find(|(option, _)| option == name) {
            Some((_, line)) => format!("{}, line {line}: {why}", self.file.display()),
            None => why,
        }
    }
}

/// The command that a command line calls with a file.
struct Used<'a> {
    command: &'a Command,
    matches: clap::ArgMatches,
    /// The place of the word after its name.
    at: usize,
    file: PathBuf,
}

impl<'a> Used<'a> {
    fn find(root: &'a Command, words: &[OsString]) -> Option<Used<'a>> {
        let mut matches = root.clone().ignore_errors(true).try_get_matches_from(words).ok()?;
        let (mut command, mut at) = (root, 1);
        while let Some((name, inner)) = matches.remove_subcommand() {
            command = command.find_subcommand(&name)?;
            at += 1 + words.get(at..)?.iter().position(|word| *word == *name)?;
            matches = inner;
        }
        let file = matches.try_get_one::<PathBuf>(CONFIG).ok()??.clone();
        Some(Used { command, matches, at, file })
    }
}

/// What a line of a file sets.
struct Entry {
    id: String,
    /// The option's long name.
    name: String,
    line: usize,
    /// The same on the command line.
    words: Vec<OsString>,
}

/// Reads a file for a command.
fn read(command: &Command, path: &Path) -> Result<Vec<Entry>, String> {
    let shown = path.display();
    let bytes = files::read_regular(path, MOST).map_err(|e| format!("{shown}: {e}"))?;
    let line = |at: usize| 1 + bytes[..at].iter().filter(|&&byte| byte == b'\n').count();
    let text = str::from_utf8(&bytes).map_err(|e| {
        format!("{shown}, line {}: byte {} is not valid UTF-8", line(e.valid_up_to()), e.valid_up_to())
    })?;
    let table = DeTable::parse(text).map_err(|e| {
        let at = e.span().map_or(0, |span| span.start);
        format!("{shown}, line {}: {}", line(at), e.message())
    })?;
    let mut pairs: Vec<_> = table.get_ref().iter().collect();
    pairs.sort_by_key(|(key, _)| key.span().start);
    let mut entries: Vec<Entry> = Vec::new();
    for (key, value) in pairs {
        let (name, number) = (key.get_ref(), line(key.span().start));
        let wrong = |rule: String| {
            let value: String = text[value.span()].chars().take(SHOWN).collect();
            Err(format!("{shown}, line {number}: {name} = {value}: {rule}"))
        };
        if value.get_ref().is_table() {
            let rule = "options have no sections: write them at the top, one a line";
            return Err(format!("{shown}, line {number}: {name}: {rule}"));
        }
        let Some(option) = option(command, name) else { return wrong(unknown(command, name)) };
        let (id, long) = (option.get_id().as_str().to_owned(), option.get_long().expect("found by it"));
        if let Some(first) = entries.iter().find(|entry| entry.id == id) {
            return wrong(format!("line {} sets the same option, {long}", first.line));
        }
        match words(option, long, value) {
            Ok(words) => entries.push(Entry { id, name: long.to_owned(), line: number, words }),
            Err(rule) => return wrong(rule),
        }
    }
    Ok(entries)
}

/// The option of this name, with `_` or `-`.
fn option<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    let name = name.replace('_', "-");
    let fits = |option: &&Arg| {
        option.get_long() == Some(&name)
            || option.get_all_aliases().is_some_and(|all| all.contains(&&name[..]))
    };
    let options = command.get_arguments().filter(|option| option.get_long().is_some());
    options.filter(|option| !NOT_IN_FILES.contains(&option.get_id().as_str())).find(fits)
}

/// The rule for a name that is no option's, with the option that may be meant.
fn unknown(command: &Command, name: &str) -> String {
    let word = format!("--{}", name.replace('_', "-"));
    let error = command.clone().try_get_matches_from([command.get_name(), &word]).err();
    match error.as_ref().and_then(|e| e.get(ContextKind::SuggestedArg)) {
        Some(ContextValue::String(similar)) => {
            format!("not an option of a file; did you mean {}?", similar.trim_start_matches('-'))
        }
        _ => format!("not an option of a file; --help lists those of {}", command.get_name()),
    }
}

/// An option and its value as words of a command line.
fn words(option: &Arg, long: &str, value: &Spanned<DeValue<'_>>) -> Result<Vec<OsString>, String> {
    let word = |text: String| OsString::from(format!("--{long}={text}"));
    let kind = Kind::of(option.get_value_parser());
    match (option.get_action(), value.get_ref()) {
        (ArgAction::SetTrue, DeValue::Boolean(true)) => Ok(vec![format!("--{long}").into()]),
        (ArgAction::SetTrue, DeValue::Boolean(false)) => Ok(Vec::new()),
        (ArgAction::SetTrue, _) => Err(Kind::Bool.rule().into()),
        (ArgAction::Append, DeValue::Array(values)) if !values.is_empty() => values
            .iter()
            .map(|value| kind.text(value.get_ref()).map(word))
            .collect::<Option<_>>()
            .ok_or_else(|| format!("each value {}", kind.rule())),
        (ArgAction::Append, value) => {
            let one = kind.text(value).map(|text| vec![word(text)]);
            one.ok_or_else(|| format!("{}, or an array of such", kind.rule()))
        }
        (_, value) => Ok(vec![word(kind.text(value).ok_or_else(|| kind.rule())?)]),
    }
}

/// What TOML calls an option's value.
#[derive(Clone, Copy)]
enum Kind {
    Bool,
    Number,
    Text,
}

impl Kind {
    fn of(parser: &ValueParser) -> Kind {
        let id = parser.type_id();
        let numbers = [
            TypeId::of::<f64>(),
            TypeId::of::<f32>(),
            TypeId::of::<u64>(),
            TypeId::of::<u32>(),
            TypeId::of::<u16>(),
            TypeId::of::<usize>(),
        ];
        match () {
            () if id == TypeId::of::<bool>() => Kind::Bool,
            () if numbers.into_iter().any(|number| id == number) => Kind::Number,
            () => Kind::Text,
        }
    }

    fn rule(self) -> &'static str {
        match self {
            Kind::Bool => "must be true or false",
            Kind::Number => "must be a number",
            Kind::Text => "must be a string, in quotes",
        }
    }

    /// The value on a command line, digit by digit: no number is rounded on the way.
    fn text(self, value: &DeValue<'_>) -> Option<String> {
        match (self, value) {
            (Kind::Bool, DeValue::Boolean(value)) => Some(value.to_string()),
            (Kind::Number, DeValue::Float(value)) => Some(value.as_str().to_owned()),
            (Kind::Number, DeValue::Integer(value)) if value.radix() == 10 => Some(value.as_str().to_owned()),
            (Kind::Number, DeValue::Integer(value)) => {
                u128::from_str_radix(value.as_str(), value.radix()).ok().map(|n| n.to_string())
            }
            (Kind::Text, DeValue::String(value)) => Some(value.clone().into_owned()),
            _ => None,
        }
    }
}

/// Clap's message on one line, without its usage.
fn told(error: &clap::Error) -> String {
    let text = error.to_string();
    let first = text.strip_prefix("error: ").unwrap_or(&text).split("\n\n").next().unwrap_or_default();
    first.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// A file that is printed.
#[derive(Default)]
pub(super) struct Printed(String);

impl Printed {
    /// A comment before the options that follow.
    pub(super) fn title(&mut self, title: impl fmt::Display) {
        self.0 += &format!("{}# {title}\n", if self.0.is_empty() { "" } else { "\n" });
    }

    /// An option, if it has a value.
    ///
    /// # Errors
    /// It is a path that no TOML file can name.
    pub(super) fn put(&mut self, name: &str, value: impl Value) -> Result<(), Error> {
        if let Some(text) = value.toml().map_err(|rule| Error::Usage(format!("{name}: {rule}")))? {
            self.0 += &format!("{name} = {text}\n");
        }
        Ok(())
    }
}

impl fmt::Display for Printed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value of a file. Numbers are read back to the bit.
pub(super) trait Value {
    /// As TOML writes it; `None` if the option is left out.
    fn toml(&self) -> Result<Option<String>, String>;
}

macro_rules! values {
    ($($type:ty, $value:ident => $text:expr;)*) => {$(
        impl Value for $type {
            fn toml(&self) -> Result<Option<String>, String> {
                let $value = self;
                Ok(Some($text))
            }
        }
    )*};
}

values! {
    bool, value => value.to_string();
    u16, value => value.to_string();
    u32, value => value.to_string();
    u64, value => value.to_string();
    usize, value => value.to_string();
    f32, value => number(*value);
    f64, value => number(*value);
    &str, value => toml::Value::from(*value).to_string();
    &[usize], value => format!("{value:?}");
}

impl Value for &Path {
    fn toml(&self) -> Result<Option<String>, String> {
        let text = self.to_str().ok_or_else(|| {
            format!("{}: is not valid UTF-8, which a TOML file must be: rename it", self.display())
        })?;
        text.toml()
    }
}

impl Value for &[String] {
    fn toml(&self) -> Result<Option<String>, String> {
        let texts: Vec<String> =
            self.iter().map(|text| toml::Value::from(text.as_str()).to_string()).collect();
        Ok((!texts.is_empty()).then(|| format!("[{}]", texts.join(", "))))
    }
}

impl<V: Value> Value for Option<V> {
    fn toml(&self) -> Result<Option<String>, String> {
        self.as_ref().map_or(Ok(None), Value::toml)
    }
}

/// The name of an option's value.
pub(super) fn named(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}
