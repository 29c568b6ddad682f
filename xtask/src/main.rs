//! Chores of this repository: `cargo xtask gate` is the gate on machine code and instruction counts, `cargo xtask mutants`
//! tests the tests.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::{gate, mutants};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of this repository")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check every kernel's machine code and instruction counts on every tier against xtask/budgets.toml
    Gate(gate::Args),
    /// Change the kernels in a fixed sample of places, one at a time, and see that a test fails. The changes that no test can
    /// detect are in xtask/mutants.toml
    Mutants(mutants::Args),
}

fn main() -> ExitCode {
    let passed = match Cli::parse().command {
        Command::Gate(args) => gate::run(&args),
        Command::Mutants(args) => mutants::run(&args),
    };
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::from(2)
        }
    }
}
