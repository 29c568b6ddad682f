//! Builds what the gate looks at, with flags of its own whatever the environment has.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::decode::Arch;

/// The compiler's names for the architectures; the gate's budgets are those of Linux.
pub fn triple(arch: Arch) -> &'static str {
    match arch {
        Arch::X86 => "x86_64-unknown-linux-gnu",
        Arch::Arm => "aarch64-unknown-linux-gnu",
    }
}

/// A cargo command in `root` that the environment cannot change.
///
/// `-C target-cpu=native` would leak wide registers into the scalar tier; without v0 names all of pulp's kernels have
/// one symbol; without symbols every count is zero.
pub fn cargo(root: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let prefixes =
            ["CARGO_PROFILE_", "CARGO_BUILD_", "CARGO_ENCODED_", "CARGO_TARGET_", "RUSTC", "HOTLANES_"];
        if prefixes.iter().any(|p| name.starts_with(p)) {
            cargo.env_remove(&*name);
        }
    }
    cargo
        .current_dir(root)
        .env("RUSTFLAGS", "-C symbol-mangling-version=v0")
        .env("CARGO_PROFILE_RELEASE_STRIP", "none")
        .env("CARGO_INCREMENTAL", "0");
    if cfg!(not(target_arch = "aarch64")) {
        cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
    }
    cargo
}

/// What was built for one architecture.
#[derive(Debug, Default)]
pub struct Built {
    /// The libraries that hold kernels.
    pub libraries: Vec<PathBuf>,
    /// The program that runs them, if it was asked for.
    pub program: Option<PathBuf>,
}

/// One of cargo's messages.
#[derive(Deserialize)]
struct Message {
    reason: String,
    target: Option<Target>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// What is built for a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The libraries, to be read.
    Libraries,
    /// And the program that runs the kernels.
    Program,
    /// And the program `hotlanes`, for the report. Cargo chooses the features of dependencies by everything that it is asked
    /// for, so asked one by one it would build the kernels twice.
    Everything,
}

/// Builds the kernels' libraries, and as much more as is asked for and this machine can link.
pub fn probe(root: &Path, target_dir: &Path, triple: &str, extent: Extent) -> Result<Built> {
    let mut cargo = cargo(root);
    cargo.args(["build", "--locked", "--release"]);
    cargo.args(["--package", "hotlanes", "--package", "hotlanes-cases", "--package", "hotlanes-probe"]);
    if extent == Extent::Everything {
        cargo.args(["--package", "hotlanes-train"]);
    }
    cargo.arg("--lib");
    let link = extent != Extent::Libraries;
    if link {
        cargo.arg("--bins");
    }
    cargo
        .args(["--target", triple, "--message-format=json-render-diagnostics", "--target-dir"])
        .arg(target_dir);
    let output = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("the build for {triple} failed; a missing target is installed by `rustup target add {triple}`");
    }
    let mut built = Built::default();
    for line in output.stdout.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
        let message: Message = serde_json::from_slice(line).context("cargo's messages")?;
        if message.reason != "compiler-artifact" {
            continue;
        }
        let name = message.target.map(|t| t.name).unwrap_or_default();
        // The program `hotlanes` has the library's name, and no library.
        if matches!(name.as_str(), "hotlanes" | "hotlanes_cases" | "hotlanes_probe") {
            built
                .libraries
                .extend(message.filenames.into_iter().filter(|f| f.extension().is_some_and(|e| e == "rlib")));
        }
        if name == "hotlanes-probe" && message.executable.is_some() {
            built.program = message.executable;
        }
    }
    if built.libraries.len() != 3 || (link && built.program.is_none()) {
        bail!("cargo built {built:?} for {triple}; the gate needs three libraries, and the program");
    }
    Ok(built)
}

/// Builds the probe's program for the machine that this runs on.
pub fn host_probe(root: &Path, target_dir: &Path) -> Result<PathBuf> {
    let output = Command::new("rustc").arg("-vV").current_dir(root).output().context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|l| l.strip_prefix("host: ")).context("rustc -vV names no host")?;
    probe(root, target_dir, host, Extent::Program)?.program.context("no program")
}

/// The compiler's release and commit, which the budgets belong to.
pub fn rustc(root: &Path) -> Result<String> {
    let output = Command::new("rustc").arg("-V").current_dir(root).output().context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().strip_prefix("rustc ").map(str::to_owned).context("rustc -V said nothing")
}

/// Whether a program is on the PATH.
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}
