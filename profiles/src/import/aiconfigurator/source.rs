//! Where the tables lie: in a wheel, which is a zip, or in a folder.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use super::version::Version;
use crate::import::check::invalid;
use crate::{Error, Result};

/// The largest table of release 0.12.0 has 2 MB.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A wheel or folder of release 0.12.0 has fewer than 2,000 files.
const FILES_MAX: usize = 100_000;

/// Where the name of a file begins that holds a table.
const DATA: &str = "systems/data/";

/// A table's place: `systems/data/<system>/<family>/<backend>/<version>/<table>.parquet`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) system: String,
    pub(super) family: String,
    pub(super) backend: String,
    pub(super) version: Version,
    pub(super) table: String,
}

impl Place {
    /// From what follows `systems/data/`; none where that is another file.
    fn new(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(".parquet")?.split('/').map(str::to_owned);
        let place = Self {
            system: parts.next()?,
            family: parts.next()?,
            backend: parts.next()?,
            version: Version::new(&parts.next()?),
            table: parts.next()?,
        };
        parts.next().is_none().then_some(place)
    }

    /// What follows `systems/`.
    pub(super) fn name(&self) -> String {
        let Self { system, family, backend, version, table } = self;
        format!("data/{system}/{family}/{backend}/{}/{table}.parquet", version.text)
    }
}

enum Files {
    /// The folder `systems`.
    Folder(PathBuf),
    /// What stands before `systems/` in the names of entries.
    Wheel(ZipArchive<BufReader<File>>, String),
}

/// An opened wheel or folder.
pub(super) struct Source {
    /// As errors write it.
    pub(super) name: String,
    /// The package's version, empty where nothing says it.
    pub(super) release: String,
    pub(super) places: Vec<Place>,
    files: Files,
}

impl Source {
    /// # Errors
    /// What cannot be read or holds no tables.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let mut source = if path.is_dir() { folder(path, name)? } else { wheel(path, name)? };
        if source.places.is_empty() {
            let expected = "systems/data/<system>/<family>/<engine>/<version>/<table>.parquet";
            return Err(invalid(&source.name, "tables", "none", expected));
        }
        source.places.sort_by_cached_key(Place::name);
        Ok(source)
    }

    /// The bytes of a file below `systems/`, and the name that errors give it.
    ///
    /// # Errors
    /// What cannot be read, is damaged or too large.
    pub(super) fn read(&mut self, name: &str) -> Result<(Vec<u8>, String)> {
        let shown = format!("{}: {name}", self.name);
        let error = |source| Error::Read { path: shown.clone(), source };
        let mut bytes = Vec::new();
        match &mut self.files {
            Files::Folder(systems) => {
                let file = File::open(systems.join(name)).map_err(error)?;
                file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(error)?;
            }
            Files::Wheel(zip, prefix) => {
                let entry = zip.by_name(&format!("{prefix}systems/{name}"));
                let entry = entry.map_err(|cause| error(std::io::Error::other(cause)))?;
                entry.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(error)?;
            }
        }
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(invalid(&shown, "size", "more than 64 MiB", "a table of a few MiB"));
        }
        Ok((bytes, shown))
    }

    /// The number that `key` has in the datasheet of `system`, where it has one.
    ///
    /// # Errors
    /// A datasheet that cannot be read.
    pub(super) fn datasheet(&mut self, system: &str, key: &str) -> Result<f64> {
        let (bytes, shown) = self.read(&format!("{system}.yaml"))?;
        let text = String::from_utf8_lossy(&bytes);
        let value = text.lines().find_map(|line| {
            let value = line.trim().strip_prefix(key)?.strip_prefix(':')?;
            value.split('#').next()?.trim().parse::<f64>().ok()
        });
        let valid = value.filter(|value| value.is_finite() && *value > 0.0);
        valid.ok_or_else(|| invalid(&shown, key, "no number above 0", "the datasheet's figure"))
    }
}

fn wheel(path: &Path, name: String) -> Result<Source> {
    let file = File::open(path).map_err(|source| Error::Read { path: name.clone(), source })?;
    let zip = ZipArchive::new(BufReader::new(file));
    let mut zip = zip.map_err(|error| {
        invalid(&name, "zip", error.to_string(), "a wheel, or the folder that it unpacks to")
    })?;
    let mut prefix = None;
    let mut places = Vec::new();
    let mut metadata = None;
    for entry in zip.file_names().take(FILES_MAX) {
        let Ok(entry) = entry else { continue };
        if let Some((before, after)) = entry.split_once(DATA) {
            let first = prefix.get_or_insert_with(|| before.to_owned());
            places.extend(Place::new(after).filter(|_| before == first));
        } else if entry.ends_with(".dist-info/METADATA") {
            metadata = Some(entry.into_owned());
        }
    }
    let mut release = String::new();
    if let Some(Ok(entry)) = metadata.map(|entry| zip.by_name(&entry)) {
        let mut bytes = Vec::new();
        let read = entry.take(FILE_BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(|source| Error::Read { path: name.clone(), source })?;
        let text = String::from_utf8_lossy(&bytes);
        let version = text.lines().find_map(|line| line.strip_prefix("Version: "));
        version.unwrap_or("").trim().clone_into(&mut release);
    }
    let files = Files::Wheel(zip, prefix.unwrap_or_default());
    Ok(Source { name, release, places, files })
}

fn folder(path: &Path, name: String) -> Result<Source> {
    let Some(systems) = find_systems(path)? else {
        let expected = "a folder `systems` that holds `data`, at most two folders below";
        return Err(invalid(&name, "folder", "no tables", expected));
    };
    // The folders below `data`: system, family, backend, version.
    let mut level = vec![systems.join("data")];
    for _ in 0..4 {
        let mut next = Vec::new();
        for folder in &level {
            next.extend(entries(folder)?.into_iter().filter(|path| path.is_dir()));
        }
        if next.len() > FILES_MAX {
            return Err(invalid(&name, "folder", "too many folders", "a few hundred"));
        }
        level = next;
    }
    let mut places = Vec::new();
    for version in &level {
        for path in entries(version)? {
            let below = path.strip_prefix(systems.join("data")).ok().and_then(Path::to_str);
            places.extend(below.and_then(|name| Place::new(&name.replace('\\', "/"))));
        }
    }
    Ok(Source { name, release: release_beside(&systems), places, files: Files::Folder(systems) })
}

/// What a folder holds, sorted.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let error = |source| Error::Read { path: folder.display().to_string(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(error)? {
        paths.push(entry.map_err(error)?.path());
    }
    paths.sort();
    Ok(paths)
}

/// The folder `systems` at `path`, in it or at most two folders below.
fn find_systems(path: &Path) -> Result<Option<PathBuf>> {
    if path.join("data").is_dir() {
        return Ok(Some(path.to_path_buf()));
    }
    let mut level = vec![path.to_path_buf()];
    for depth in 0..3 {
        if let Some(found) = level.iter().find(|path| path.join(DATA).is_dir()) {
            return Ok(Some(found.join("systems")));
        }
        if depth < 2 {
            let mut next = Vec::new();
            for folder in &level {
                next.extend(entries(folder)?.into_iter().filter(|path| path.is_dir()));
            }
            next.truncate(FILES_MAX);
            level = next;
        }
    }
    Ok(None)
}

/// The release that a `.dist-info` beside the package says.
fn release_beside(systems: &Path) -> String {
    let version = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.to_owned();
        let version = name.strip_prefix("aiconfigurator_core-")?.strip_suffix(".dist-info")?;
        Some(version.to_owned())
    };
    let mut around = systems.ancestors().skip(1).take(2);
    let found = around.find_map(|folder| entries(folder).ok()?.into_iter().find_map(version));
    found.unwrap_or_default()
}
