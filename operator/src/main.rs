//! `pawl-operator`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.peek().is_some_and(|word| word == "check-webhook") {
        return pawl_operator::check::main(args);
    }
    ExitCode::SUCCESS
}
