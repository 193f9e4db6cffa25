//! The node's first process.
//!
//! It is number 1 in its PID namespace: it adopts what others leave behind, and when it ends everything in the node does. It
//! starts the components and starts again the one that ended, as systemd would.

use std::{
    collections::HashMap,
    fs::{self, File},
    net::TcpStream,
    os::unix::{net::UnixStream, process::CommandExt as _},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{WaitOptions, wait};

use super::{
    components::{self, Answers, Component},
    error::{Error, Result, at},
    layout::{INSIDE, Layout, PROGRAMS},
    processes::until,
    run::{command, run, tell},
};

/// How many times components may end before the node gives up.
const ENDINGS: u32 = 50;

/// What the kubelet wants these to be, and would make them on the whole machine. It sees files that say so instead.
const TUNABLES: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Runs the node. Returns only when it cannot go on.
pub fn serve(layout: &Layout) -> Result<()> {
    let network = layout.network()?;
    if std::process::id() != 1 {
        return Err(Error::Late {
            what: "becoming the first process of a namespace".to_owned(),
            seconds: 0,
            hint: ": this is started by `pawl-cluster up`".to_owned(),
        });
    }
    mount_all(layout)?;
    pretend_tunables()?;
    network.join()?;
    let forward = Path::new("/proc/sys/net/ipv4/ip_forward");
    fs::write(forward, "1").map_err(at(forward))?;
    let components = components::all(network)?;
    let mut running = HashMap::new();
    for component in &components {
        running.insert(start(layout, component)?, component);
        wait_for(component)?;
    }
    supervise(layout, &mut running)
}

fn mount_all(layout: &Layout) -> Result<()> {
    // What containers mount must not be seen by the machine, and what the node mounts must be seen by containers.
    mount("--make-rprivate /")?;
    mount("--make-rshared /")?;
    mount("-t proc proc /proc")?;
    mount("-t tmpfs tmpfs /run")?;
    fs::create_dir_all(INSIDE).map_err(at(Path::new(INSIDE)))?;
    let state = layout.state();
    let bind = [Path::new("--bind"), &state, Path::new(INSIDE)];
    run(&mut command("mount", bind))?;
    // The checkout may be below a folder that is covered next.
    let programs = Path::new(PROGRAMS);
    fs::create_dir_all(programs).map_err(at(programs))?;
    let bind = [Path::new("--bind"), layout.programs(), programs];
    run(&mut command("mount", bind))?;
    fs::create_dir_all("/run/lock").map_err(at(Path::new("/run/lock")))?;
    // Paths that the kubelet and plugins write to whatever they are told.
    mount("-t tmpfs tmpfs /var/log")?;
    mount("-t tmpfs tmpfs /var/lib")
}

fn mount(words: &str) -> Result<()> {
    run(&mut command("mount", words.split_whitespace())).map(drop)
}

fn pretend_tunables() -> Result<()> {
    let folder = Path::new("/run/tunables");
    fs::create_dir_all(folder).map_err(at(folder))?;
    for (name, value) in TUNABLES {
        let file = folder.join(name.replace('/', "."));
        fs::write(&file, format!("{value}\n")).map_err(at(&file))?;
        let target = Path::new("/proc/sys").join(name);
        run(&mut command("mount", [Path::new("--bind"), &file, &target]))?;
    }
    Ok(())
}

/// Starts a component; answers its id.
fn start(layout: &Layout, component: &Component) -> Result<i32> {
    let path = Path::new(INSIDE).join(format!("log/{}.log", component.name));
    let log = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(at(&path))?;
    let child = Command::new(&component.program)
        .args(&component.arguments)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(at(&path))?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .map_err(|source| Error::Run {
            program: component.name.to_owned(),
            source,
        })?;
    tell(&format!(
        "{} started, its log is {}",
        component.name,
        layout.log(component.name).display()
    ));
    Ok(i32::try_from(child.id()).unwrap_or(i32::MAX))
}

fn wait_for(component: &Component) -> Result<()> {
    until(component.name, 60, || match &component.answers {
        Answers::Tcp(address) => TcpStream::connect(address).is_ok(),
        Answers::Socket(path) => UnixStream::connect(path).is_ok(),
        Answers::Never => true,
    })
}

fn supervise(layout: &Layout, running: &mut HashMap<i32, &Component>) -> Result<()> {
    for _ in 0..ENDINGS {
        let component = next_ending(running);
        tell(&format!("{} ended and is started again", component.name));
        thread::sleep(Duration::from_secs(1));
        running.insert(start(layout, component)?, component);
    }
    Err(Error::Late {
        what: "keeping the components running".to_owned(),
        seconds: 0,
        hint: format!(
            ": they ended {ENDINGS} times, see {}",
            layout.state().join("log").display()
        ),
    })
}

/// Waits until a component ended. What else ends below this process is only reaped.
fn next_ending<'a>(running: &mut HashMap<i32, &'a Component>) -> &'a Component {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((id, _))) => {
                if let Some(component) = running.remove(&id.as_raw_nonzero().get()) {
                    return component;
                }
            }
            // Interrupted, or without a child for a moment.
            Ok(None) | Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}
