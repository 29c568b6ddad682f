//! Chores of this repository: `cargo xtask gate` is the gate on machine code and instruction counts.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::gate;

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
}

fn main() -> ExitCode {
    let Command::Gate(args) = Cli::parse().command;
    match gate::run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::from(2)
        }
    }
}
