//! The command line of `hotlanes`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    hotlanes_train::cli::main()
}
