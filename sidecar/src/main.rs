//! `pawl-sidecar`: see `pawl-sidecar --help`.

use std::process::ExitCode;

use pawl_kit::telemetry;
use pawl_sidecar::{
    cli::{Config, PROGRAM},
    run,
};
use tokio::runtime::{Builder, LocalOptions};

fn main() -> ExitCode {
    let config = match Config::from_args(std::env::args_os()) {
        Ok(config) => config,
        Err(code) => return code,
    };
    // Not a LocalSet: each wake-up of one from outside is a write to the event loop's own descriptor.
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
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
