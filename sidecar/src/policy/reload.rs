//! Watches the directory of policies and applies what changed.

use std::collections::BTreeMap;

use pawl_crds::conditions::reasons;
use pawl_kit::watch::Watch;
use pawl_lock::PolicyName;

use super::directory::{Directory, PolicyFile};
use crate::{
    engine::{Applied, Engine, FileFault, Settings},
    metrics::Metrics,
};

/// Brings the files of a directory to the engine, now and whenever they change.
#[derive(Debug)]
pub struct Reloader {
    directory: Directory,
    engine: Engine,
    metrics: Metrics,
    files: BTreeMap<String, Known>,
    /// What was told of files at the last reading, so that each thing is logged once.
    faults: Vec<FileFault>,
    was_listed: bool,
}

/// A file as it was at the last reading.
#[derive(Debug)]
struct Known {
    hash: String,
    /// The last version of it that was a policy.
    last_good: Option<Settings>,
    fault: Option<FileFault>,
}

impl Reloader {
    /// Reads the directory and applies it.
    pub fn start(directory: Directory, engine: Engine, metrics: Metrics) -> Self {
        let mut reloader = Self {
            directory,
            engine,
            metrics,
            files: BTreeMap::new(),
            faults: Vec::new(),
            was_listed: true,
        };
        reloader.reload();
        reloader
    }

    /// Applies every change from now on. Never ends; cancel safe.
    pub async fn run(mut self) {
        let mut watch = Watch::new(self.directory.path());
        // What changed between the first reading and the watch.
        self.reload();
        loop {
            watch.changed().await;
            self.reload();
        }
    }

    /// Reads the directory and applies what changed. A directory that cannot be listed changes nothing: locks go on
    /// with the last good policies.
    pub fn reload(&mut self) {
        let read = match self.directory.read() {
            Ok(read) => read,
            Err(error) => {
                if std::mem::replace(&mut self.was_listed, false) {
                    self.metrics.reloaded("error");
                    let directory = self.directory.path().display();
                    tracing::error!(%directory, %error, "the directory of policies cannot be read; policies stay as they are");
                }
                return;
            }
        };
        self.was_listed = true;
        let changed = self.take(read);
        let (served, mut faults) = self.choose();
        let applied = self.engine.apply(served.into_values().collect());
        for (name, file) in self.applied_faults(applied) {
            faults.insert(name, file);
        }
        self.tell(&changed, faults);
    }

    /// Takes note of what was read; the names of the files that are new or changed.
    fn take(&mut self, read: BTreeMap<String, PolicyFile>) -> Vec<String> {
        self.files.retain(|name, _| read.contains_key(name));
        let mut changed = Vec::new();
        for (name, PolicyFile { hash, policy }) in read {
            let before = self.files.remove(&name);
            let is_same = before
                .as_ref()
                .is_some_and(|known| known.hash == hash && !hash.is_empty());
            if !is_same {
                changed.push(name.clone());
            }
            let last_good = before.and_then(|known| known.last_good);
            let known = match policy {
                Ok(settings) => Known {
                    hash,
                    last_good: Some(settings),
                    fault: None,
                },
                Err(error) => Known {
                    fault: Some(FileFault {
                        file: name.clone(),
                        hash: hash.clone(),
                        generation: None,
                        policy: last_good.as_ref().map(|good| good.name.to_string()),
                        reason: reasons::INVALID,
                        message: error.to_string(),
                    }),
                    hash,
                    last_good,
                },
            };
            self.files.insert(name, known);
        }
        changed
    }

    /// What is to be served: of several files with a policy of one name the first by file name.
    fn choose(&self) -> (BTreeMap<PolicyName, Settings>, BTreeMap<String, FileFault>) {
        let mut served = BTreeMap::<PolicyName, Settings>::new();
        let mut faults = BTreeMap::new();
        for (file, known) in &self.files {
            if let Some(fault) = &known.fault {
                faults.insert(file.clone(), fault.clone());
            }
            let Some(settings) = &known.last_good else {
                continue;
            };
            match served.get(&settings.name) {
                None => {
                    served.insert(settings.name.clone(), settings.clone());
                }
                Some(first) => {
                    faults.insert(file.clone(), duplicate(settings, first));
                }
            }
        }
        (served, faults)
    }

    /// What the engine did not take on.
    fn applied_faults(&self, applied: BTreeMap<PolicyName, Applied>) -> Vec<(String, FileFault)> {
        let fault = |(name, applied): (PolicyName, Applied)| {
            let (error, policy) = match applied {
                Applied::Serving | Applied::Switching => return None,
                Applied::Refused(error) => (error, None),
                Applied::Kept(error) => (error, Some(name.to_string())),
            };
            let (file, known) = self.files.iter().find(|(_, known)| {
                known
                    .last_good
                    .as_ref()
                    .is_some_and(|good| good.name == name)
            })?;
            let generation = known
                .last_good
                .as_ref()
                .and_then(|good| good.origin.generation);
            Some((
                file.clone(),
                FileFault {
                    file: file.clone(),
                    hash: known.hash.clone(),
                    generation,
                    policy,
                    reason: error.reason,
                    message: error.message,
                },
            ))
        };
        applied.into_iter().filter_map(fault).collect()
    }

    /// Tells what is new: log and metric for each file that changed, `/status` for all that is wrong.
    fn tell(&mut self, changed: &[String], faults: BTreeMap<String, FileFault>) {
        for name in changed {
            self.metrics.reloaded(if faults.contains_key(name) {
                "error"
            } else {
                "ok"
            });
            if !faults.contains_key(name)
                && let Some(settings) = self
                    .files
                    .get(name)
                    .and_then(|known| known.last_good.as_ref())
            {
                let generation = settings.origin.generation;
                tracing::info!(file = name, policy = %settings.name, generation, "policy loaded");
            }
        }
        let faults: Vec<FileFault> = faults.into_values().collect();
        for fault in faults.iter().filter(|fault| !self.faults.contains(fault)) {
            let (file, reason, message) = (&fault.file, fault.reason, &fault.message);
            if let Some(policy) = &fault.policy {
                tracing::error!(
                    file,
                    policy,
                    reason,
                    "the policy is served as it was before: {message}"
                );
            } else {
                tracing::error!(file, reason, "the file is not served: {message}");
            }
        }
        self.faults.clone_from(&faults);
        self.engine.tell_faults(faults);
    }
}

fn duplicate(settings: &Settings, first: &Settings) -> FileFault {
    FileFault {
        file: settings.origin.file.clone(),
        hash: settings.origin.hash.clone(),
        generation: settings.origin.generation,
        policy: None,
        reason: reasons::CONFLICT,
        message: format!(
            "the file {} has a policy of the same name, {}, and comes first; this one is ignored",
            first.origin.file, settings.name
        ),
    }
}

#[cfg(test)]
mod tests;
