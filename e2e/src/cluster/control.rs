//! Starting and ending a cluster.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use kube::Client;
use pawl_kit::clock::Clock;
use rustix::process::getuid;

use super::{
    addons, cgroups, components, credentials,
    error::{Error, Result, at},
    images,
    layout::Layout,
    network::Network,
    processes,
    run::{command, run, tell},
};

/// Starts the cluster unless it runs already; returns once pods can run and names are found.
pub async fn up(layout: &Layout) -> Result<()> {
    check_root()?;
    components::check(layout)?;
    let clock = Clock::system();
    let start = clock.now();
    if status(layout).await.is_ok() {
        tell("the cluster runs already");
        return Ok(());
    }
    down(layout)?;
    let archives: Vec<_> = images::of_node(layout)?
        .iter()
        .map(|recipe| images::build(layout, recipe))
        .collect::<Result<_>>()?;
    let network = launch(layout)?;
    let client = addons::client(layout).await?;
    wait_for_containerd(layout)?;
    for archive in archives {
        images::load(layout, &archive)?;
    }
    addons::wait_for_api(&client)
        .await
        .map_err(|error| see_logs(layout, error))?;
    tell(&format!(
        "the API server answers after {}",
        seconds(&clock, start)
    ));
    addons::install(&client, network)
        .await
        .map_err(|error| see_logs(layout, error))?;
    tell(&format!(
        "the cluster is ready after {}: export KUBECONFIG={}",
        seconds(&clock, start),
        layout.kubeconfig().display()
    ));
    Ok(())
}

/// Ends the cluster and takes away all it left. Does nothing if there is none.
pub fn down(layout: &Layout) -> Result<()> {
    check_root()?;
    processes::end(layout)?;
    if let Ok(network) = layout.network() {
        network.disconnect()?;
        cgroups::remove(network)?;
    }
    for path in [layout.state(), layout.kubeconfig()] {
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else if path.exists() {
            fs::remove_file(&path)
        } else {
            Ok(())
        };
        removed.map_err(at(&path))?;
    }
    Ok(())
}

/// Its version, if it runs and answers.
pub async fn status(layout: &Layout) -> Result<String> {
    let is_down = || Error::Down(layout.home().to_owned());
    processes::first(layout).ok_or_else(is_down)?;
    let client: Client = addons::client(layout).await?;
    let version = client.apiserver_version();
    let version = tokio::time::timeout(Duration::from_secs(5), version).await;
    Ok(version.map_err(|_| is_down())??.git_version)
}

/// Makes the namespaces with the node's first process in them, and the link to it.
fn launch(layout: &Layout) -> Result<Network> {
    let log = layout.log("node");
    let folder = log.parent().unwrap_or(&log);
    fs::create_dir_all(folder).map_err(at(folder))?;
    // Only one at a time may look for a free network.
    let lock = std::env::temp_dir().join("pawl-cluster.lock");
    let held = File::create(&lock).map_err(at(&lock))?;
    held.lock().map_err(at(&lock))?;
    let network = Network::free()?;
    layout.save_network(network)?;
    credentials::make(layout, network)?;
    components::configure(layout, network)?;
    cgroups::make(network)?;
    let output = File::create(&log).map_err(at(&log))?;
    unshare(layout, output, &log)?;
    processes::until("starting the node", 10, || {
        processes::first(layout).is_some()
    })?;
    let node = processes::first(layout).ok_or_else(|| Error::Down(layout.home().to_owned()))?;
    network.connect(node)?;
    Ok(network)
}

fn unshare(layout: &Layout, output: File, log: &Path) -> Result<()> {
    let program = std::env::current_exe().map_err(at(Path::new("/proc/self/exe")))?;
    // `setsid`: it belongs to no terminal. Nobody waits for it: it is found again by its mark.
    Command::new("setsid")
        .args([
            "unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--",
        ])
        .arg(program)
        .arg("--dir")
        .arg(layout.home())
        .arg("node")
        .env(processes::MARK, layout.home())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(at(log))?)
        .stderr(output)
        .spawn()
        .map(drop)
        .map_err(|source| Error::Run {
            program: "unshare".to_owned(),
            source,
        })
}

fn wait_for_containerd(layout: &Layout) -> Result<()> {
    let node = processes::first(layout).unwrap_or_default().to_string();
    processes::until("starting containerd", 60, || {
        let inside = ["--target", &node, "--mount", "--pid", "ctr", "--address"];
        let mut version = command("nsenter", inside);
        let socket = format!("{}/containerd.sock", super::layout::INSIDE);
        run(version.args([&socket, "version"])).is_ok()
    })
    .map_err(|error| see_logs(layout, error))
}

fn see_logs(layout: &Layout, error: Error) -> Error {
    match error {
        Error::Late { what, seconds, .. } => Error::Late {
            what,
            seconds,
            hint: format!(": see {}", layout.state().join("log").display()),
        },
        other => other,
    }
}

fn seconds(clock: &Clock, start: pawl_lock::Instant) -> String {
    format!("{:.1} s", clock.now().saturating_since(start).as_secs_f64())
}

fn check_root() -> Result<()> {
    if getuid().is_root() {
        Ok(())
    } else {
        Err(Error::NotRoot)
    }
}
