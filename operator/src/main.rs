//! `pawl-operator`: see `pawl-operator --help`.

use std::process::ExitCode;

use pawl_kit::telemetry;
use pawl_operator::{
    check,
    cli::{Config, PROGRAM},
    run,
};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.peek().is_some_and(|word| word == "check-webhook") {
        return check::main(args);
    }
    let config = match Config::from_args(std::env::args_os()) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(serve(config)),
        Err(error) => {
            eprintln!("{PROGRAM}: the event loop cannot be made: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: Config) -> ExitCode {
    let options = telemetry::Options {
        service: PROGRAM,
        version: env!("CARGO_PKG_VERSION"),
        format: config.log_format,
        filter: config.log_filter.clone(),
    };
    let telemetry = match telemetry::init(&options) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            eprintln!("{PROGRAM}: {error}");
            return ExitCode::from(pawl_kit::config::EX_USAGE);
        }
    };
    let ended = run::run(config).await;
    if let Err(error) = &ended {
        tracing::error!(%error, "ended");
    }
    telemetry.shutdown().await;
    ExitCode::from(u8::from(ended.is_err()))
}
