//! How a recipe is run in each language: built once a test run, in a folder of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// A language that has the recipes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Language {
    Curl,
    Python,
    JavaScript,
    Go,
    Java,
}

/// A recipe.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Recipe {
    CronSingleton,
    LeaderElection,
    MigrationLock,
    FencedWrite,
}

impl Recipe {
    const fn kebab(self) -> &'static str {
        match self {
            Self::CronSingleton => "cron-singleton",
            Self::LeaderElection => "leader-election",
            Self::MigrationLock => "migration-lock",
            Self::FencedWrite => "fenced-write",
        }
    }

    const fn camel(self) -> &'static str {
        match self {
            Self::CronSingleton => "CronSingleton",
            Self::LeaderElection => "LeaderElection",
            Self::MigrationLock => "MigrationLock",
            Self::FencedWrite => "FencedWrite",
        }
    }
}

impl Language {
    /// The command that runs a recipe; its arguments follow.
    pub(crate) fn command(self, recipe: Recipe) -> Command {
        let name = recipe.kebab();
        match self {
            Self::Curl => Command::new(recipes().join(format!("curl/{name}.sh"))),
            Self::Python => {
                let mut command = Command::new(python());
                command.arg(recipes().join(format!("python/{}.py", name.replace('-', "_"))));
                command.env("PYTHONDONTWRITEBYTECODE", "1");
                command
            }
            Self::JavaScript => {
                let mut command = Command::new("node");
                command.arg(javascript().join(format!("{name}.mjs")));
                command
            }
            Self::Go => Command::new(go().join(name)),
            Self::Java => {
                let mut command = Command::new("java");
                command
                    .arg("-cp")
                    .arg(format!("{0}/classes:{0}/lib/*", java().display()));
                // One core is enough for a client, and starts sooner.
                command.args([
                    "-XX:TieredStopAtLevel=1",
                    "-XX:+UseSerialGC",
                    recipe.camel(),
                ]);
                command
            }
        }
    }
}

fn recipes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/recipes")
}

/// A folder for what is built of a language, kept between runs.
fn scratch(language: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("recipes")
        .join(language);
    fs::create_dir_all(&folder).expect("the target folder can be written");
    folder
}

fn run(command: &mut Command, remedy: &str) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; {remedy}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}; {remedy}");
}

/// The interpreter of an environment that has the database's driver.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let folder = scratch("python");
        let python = folder.join("bin/python");
        if !folder.join("ready").exists() {
            run(
                Command::new("python3").args(["-m", "venv"]).arg(&folder),
                "apt-get install python3-venv",
            );
            let install = ["-m", "pip", "install", "--quiet", "psycopg[binary]==3.2.13"];
            run(
                Command::new(&python).args(install),
                "the package index must be reachable",
            );
            fs::write(folder.join("ready"), "").expect("the target folder can be written");
        }
        python
    })
}

/// A copy of the sources beside their packages.
fn javascript() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = scratch("javascript");
        for entry in fs::read_dir(recipes().join("javascript")).expect("the recipes are there") {
            let file = entry.expect("the folder can be read").path();
            if file.is_file() {
                let name = file.file_name().expect("a file has a name");
                fs::copy(&file, folder.join(name)).expect("the target folder can be written");
            }
        }
        let install = ["ci", "--silent", "--no-audit", "--no-fund"];
        run(
            Command::new("npm").args(install).current_dir(&folder),
            "apt-get install npm",
        );
        folder
    })
}

fn go() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = scratch("go");
        let build = ["build", "-o", &format!("{}/", folder.display()), "./..."];
        run(
            Command::new("go")
                .args(build)
                .current_dir(recipes().join("go")),
            "Go must be installed",
        );
        folder
    })
}

fn java() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = scratch("java");
        let pom = recipes().join("java/pom.xml");
        let mut fetch = Command::new("mvn");
        fetch
            .args(["-q", "-B", "-f"])
            .arg(&pom)
            .arg("dependency:copy-dependencies");
        fetch.arg(format!(
            "-DoutputDirectory={}",
            folder.join("lib").display()
        ));
        if !folder.join("lib").exists() {
            run(&mut fetch, "apt-get install maven");
        }
        let sources = fs::read_dir(recipes().join("java")).expect("the recipes are there");
        let sources = sources.map(|entry| entry.expect("the folder can be read").path());
        let sources = sources.filter(|file| file.extension().is_some_and(|end| end == "java"));
        let mut compile = Command::new("javac");
        compile.arg("-d").arg(folder.join("classes")).args(sources);
        run(&mut compile, "apt-get install default-jdk-headless");
        folder
    })
}
