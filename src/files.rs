//! Reading and writing files so that nothing is ever half-written.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Writes `path` through a temporary file beside it, which is renamed when it is whole.
pub(crate) fn write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let shown = path.display();
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".moecast-");
    // The permissions that a plain new file would get, not the private ones of a temporary file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).with_context(|| format!("write {shown}"))?;
    {
        let mut buffered = BufWriter::with_capacity(1 << 20, file.as_file_mut());
        fill(&mut buffered)?;
        buffered.flush().with_context(|| format!("write {shown}"))?;
    }
    file.persist(path).map_err(|error| error.error).with_context(|| format!("write {shown}"))?;
    Ok(())
}

/// Writes `bytes` to `path`, whole or not at all.
pub(crate) fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    write(path, |file| Ok(file.write_all(bytes)?))
}

/// The whole file at `path`, if it is at most `size_max` bytes.
pub(crate) fn read_small(path: &Path, size_max: u64) -> Result<Vec<u8>> {
    let shown = path.display();
    let mut file = File::open(path).with_context(|| shown.to_string())?;
    let size = file.metadata().with_context(|| shown.to_string())?.len();
    anyhow::ensure!(size <= size_max, "{shown}: {size} bytes; expected at most {size_max}");
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut bytes).with_context(|| shown.to_string())?;
    Ok(bytes)
}

/// `target` as seen from `folder`, so that a folder can be moved together with its inputs.
pub(crate) fn relative(target: &Path, folder: &Path) -> Result<PathBuf> {
    let absolute = |path: &Path| {
        std::path::absolute(path).with_context(|| format!("resolve {}", path.display()))
    };
    let (target, folder) = (normal(&absolute(target)?), normal(&absolute(folder)?));
    let (mut to, mut from) = (target.components().peekable(), folder.components().peekable());
    while to.peek().is_some() && to.peek() == from.peek() {
        to.next();
        from.next();
    }
    Ok(from.map(|_| Path::new("..")).chain(to.map(|part| Path::new(part.as_os_str()))).collect())
}

/// The path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_seen_from_a_folder() {
        let check = |target: &str, folder: &str, expected: &str| {
            let found = relative(Path::new(target), Path::new(folder)).unwrap();
            assert_eq!(found, Path::new(expected));
        };
        check("/a/t.safetensors", "/a/run", "../t.safetensors");
        check("/a/run/t", "/a/run", "t");
        check("/b/../a/t", "/a/./x/run", "../../t");
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let failed = write(&path, |file| {
            file.write_all(b"half")?;
            anyhow::bail!("stop")
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
