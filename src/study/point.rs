//! One point of a study: what it is simulated from, and what is kept of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};
use moecast_profiles::hardware::Hardware;
use moecast_profiles::registry::{find, unknown};
use moecast_profiles::{cost, engine, profile};
use moecast_sim::serving::{ServiceFile, router};
use moecast_traces::requests::generators;
use serde::{Deserialize, Serialize};

use super::figures;
use crate::output::one_line;
use crate::{facts, files, serve};

/// Version of the files in points/.
const VERSION: u32 = 1;
/// Longer files are not ours.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Digits of a digest that name a file.
const NAME_DIGITS: usize = 16;

/// What is kept of a point, so that it is not simulated again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    version: u32,
    /// SHA-256 of the program that simulated it: another one may answer otherwise.
    program: String,
    /// SHA-256 of its service, in which digests stand for files.
    pub(super) digest: String,
    /// Why it cannot exist.
    pub(super) skipped: Option<String>,
    /// What was found, where it can exist.
    pub(super) found: Option<Found>,
}

/// What was found of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Found {
    pub(super) model: String,
    pub(super) engine: String,
    pub(super) gpu: String,
    pub(super) gpus: u32,
    pub(super) layout: Vec<String>,
    pub(super) cost: String,
    pub(super) stopped: String,
    pub(super) remarks: Vec<String>,
    pub(super) figures: BTreeMap<String, Option<f64>>,
}

/// Where points are simulated and kept.
pub(super) struct Workshop {
    /// Paths of services are relative to it.
    pub(super) folder: PathBuf,
    /// Kept points.
    pub(super) points: PathBuf,
    pub(super) seed: u64,
    pub(super) program: String,
    pub(super) afresh: bool,
    /// Digests of files that services name.
    digests: Mutex<BTreeMap<PathBuf, String>>,
}

impl Workshop {
    pub(super) fn new(folder: PathBuf, out: &Path, seed: u64, afresh: bool) -> Result<Self> {
        let program = std::env::current_exe().context("find the program that runs")?;
        let program = moecast_traces::digest_file(&program)?.sha256;
        let points = out.join("points");
        Ok(Self { folder, points, seed, program, afresh, digests: Mutex::default() })
    }

    /// Refuses names that nothing has; gives the digest of the service.
    pub(super) fn digest(&self, file: &ServiceFile) -> Result<String> {
        let mut file = file.clone();
        file.seed.get_or_insert(self.seed);
        check_names(&file, &self.folder)?;
        serve::each_path(&mut file, |name| self.digest_of(&self.folder.join(name)))?;
        Ok(profile::digest(&serde_json::to_vec(&file)?))
    }

    fn digest_of(&self, path: &Path) -> Result<String> {
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = digests.get(path) {
            return Ok(known.clone());
        }
        let digest = moecast_traces::digest_file(path)?.sha256;
        digests.insert(path.to_path_buf(), digest.clone());
        Ok(digest)
    }

    fn path(&self, digest: &str, ending: &str) -> PathBuf {
        self.points.join(format!("{}.{ending}", &digest[..NAME_DIGITS]))
    }

    /// The kept point of `digest`, where this program has simulated it before.
    pub(super) fn kept(&self, digest: &str) -> Option<Kept> {
        let path = self.path(digest, "json");
        if self.afresh || !path.exists() {
            return None;
        }
        // What cannot be read is simulated again: nothing is lost by that.
        let kept: Kept =
            serde_json::from_slice(&files::read_small(&path, FILE_BYTES_MAX).ok()?).ok()?;
        let same = kept.version == VERSION && kept.program == self.program;
        (same && kept.digest == digest).then_some(kept)
    }

    /// Simulates `file` and keeps what was found, and the service file that repeats it.
    pub(super) fn simulate(&self, file: &ServiceFile, digest: &str) -> Result<Kept> {
        let outcome = serve::load(file.clone(), &self.folder, self.seed);
        let (found, skipped) = match outcome {
            Err(error) if is_mistake(&error) => return Err(error),
            Err(error) => {
                let reason = one_line(&error);
                let reason = reason.strip_prefix("scenario: ").unwrap_or(&reason);
                (None, Some(reason.to_owned()))
            }
            Ok(loaded) => {
                let run = serve::simulate(&loaded, None, &mut |_| ())?;
                let text = toml::to_string(&serve::seen_from(&loaded.file, &self.points)?)?;
                files::write_bytes(&self.path(digest, "toml"), text.as_bytes())?;
                (Some(found(run, file)), None)
            }
        };
        let (program, digest) = (self.program.clone(), digest.to_owned());
        let kept = Kept { version: VERSION, program, digest, skipped, found };
        let bytes = serde_json::to_vec_pretty(&kept)?;
        files::write_bytes(&self.path(&kept.digest, "json"), &bytes)?;
        Ok(kept)
    }
}

fn found(run: serve::ServiceRun, file: &ServiceFile) -> Found {
    Found {
        figures: figures::of(&run.summary, file.slo),
        model: run.model,
        engine: run.engine,
        gpu: run.gpu,
        gpus: run.gpus,
        layout: run.layout,
        cost: run.cost,
        stopped: run.stopped,
        remarks: run.remarks,
    }
}

/// Whether an input was wrong, rather than a service impossible.
fn is_mistake(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<std::io::Error>())
}

/// A name that nothing has is a mistake in the study, not a service that cannot exist.
fn check_names(file: &ServiceFile, folder: &Path) -> Result<()> {
    if file.model.ends_with(".json") {
        facts::model(&folder.join(&file.model).display().to_string())?;
    } else {
        facts::model(&file.model)?;
    }
    Hardware::from_spec(&format!("{}:1x1", file.gpu))?;
    engine::find(&file.engine)?;
    router::find(&file.router)?;
    if let Some(name) = &file.cost {
        cost::find(name)?;
    }
    if let Some(name) = &file.load.generator {
        let entry = find("request generator", generators::ALL, name)?;
        let names: Vec<&str> = entry.settings.iter().map(|setting| setting.name).collect();
        if let Some(key) = file.load.set.keys().find(|key| !names.contains(&key.as_str())) {
            return Err(unknown("setting of load.set", key, &names).into());
        }
    }
    match (&file.load.generator, &file.load.trace) {
        (None, None) => Err(anyhow!("load: nothing; expected load.generator or load.trace")),
        _ => Ok(()),
    }
}
