//! `pawl-demo`: see the library for what it does.

use std::process::ExitCode;

fn main() -> ExitCode {
    pawl_demo::cli::main()
}
