//! The test cluster, as a command: `pawl-cluster up | down | status | load-image ARCHIVE | images | archives`.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use pawl_e2e::cluster::{Layout, Result, control, images, node};

/// A one-node Kubernetes cluster on this machine.
#[derive(Parser)]
#[command(name = "pawl-cluster", version)]
struct Arguments {
    /// Its folder; `target/cluster` of the sources that this was built from, if it is not given.
    #[arg(long, global = true)]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Start it, unless it runs.
    Up,
    /// End it, and take away all it left.
    Down,
    /// Say whether it runs, by exit status too.
    Status,
    /// Give it an image, an archive as `docker save` writes.
    LoadImage {
        /// The archive.
        archive: PathBuf,
    },
    /// Build the images that the tests use and give them to it.
    Images,
    /// Build the images that the tests use and print their archives, for another cluster.
    Archives,
    /// Be the node's first process. `up` calls this.
    #[command(hide = true)]
    Node,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let layout = match &arguments.dir {
        Some(dir) => Layout::at(dir),
        None => Layout::of_checkout(),
    };
    match act(&layout, arguments.action).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", error.chain());
            ExitCode::FAILURE
        }
    }
}

async fn act(layout: &Layout, action: Action) -> Result<()> {
    match action {
        Action::Up => control::up(layout).await,
        Action::Down => control::down(layout),
        Action::Status => {
            let version = control::status(layout).await?;
            let file = layout.kubeconfig();
            println!("Kubernetes {version}, KUBECONFIG={}", file.display());
            Ok(())
        }
        Action::LoadImage { archive } => images::load(layout, &archive),
        Action::Images => images::load_all(layout),
        Action::Archives => {
            for archive in images::build_all(layout)? {
                println!("{}", archive.display());
            }
            Ok(())
        }
        Action::Node => node::serve(layout),
    }
}
