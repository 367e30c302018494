//! Reading and writing files so that nothing is ever half-written.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

/// Writes `path` through a temporary file beside it, which takes its place when it is whole.
///
/// Where the system allows it the temporary file has no name: a process that is killed leaves
/// nothing.
///
/// A link is followed, and what is no regular file (a pipe, a device) is written into as it is.
pub(crate) fn write<T>(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<T>) -> Result<T> {
    let shown = path.display();
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let path = target.as_path();
    match path.metadata() {
        Ok(there) if there.is_dir() => anyhow::bail!("{shown}: a folder; expected a file"),
        Ok(there) if !there.is_file() => {
            let mut file = File::options().write(true).open(path)?;
            return fill(&mut file);
        }
        _ => {}
    }
    let folder = folder(path);
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let mut file = Draft::create(folder).with_context(|| format!("write {shown}"))?;
    let filled = {
        let mut buffered = BufWriter::with_capacity(1 << 20, file.as_file_mut());
        let filled = fill(&mut buffered)?;
        buffered.flush().with_context(|| format!("write {shown}"))?;
        filled
    };
    file.persist(folder, path).with_context(|| format!("write {shown}"))?;
    Ok(filled)
}

/// Refuses an output that is one of the inputs: it would replace what it is made from.
pub(crate) fn apart<'a>(
    output: &Path,
    inputs: impl IntoIterator<Item = &'a PathBuf>,
) -> Result<()> {
    let Ok(target) = std::fs::canonicalize(output) else { return Ok(()) };
    for input in inputs {
        anyhow::ensure!(
            std::fs::canonicalize(input).ok().as_deref() != Some(target.as_path()),
            "{}: the output is also an input; expected another file",
            output.display()
        );
    }
    Ok(())
}

/// The folder that `path` is written to.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// The folder that `path` is written to, or the nearest above it that is already there.
pub(crate) fn existing_folder(path: &Path) -> PathBuf {
    let found = folder(path).ancestors().find(|folder| folder.is_dir());
    found.unwrap_or(Path::new(".")).to_path_buf()
}

/// A file that is not yet whole.
enum Draft {
    #[cfg(target_os = "linux")]
    Unnamed(File),
    Named(NamedTempFile),
}

impl Draft {
    fn create(folder: &Path) -> std::io::Result<Self> {
        #[cfg(target_os = "linux")]
        if let Some(file) = unnamed::create(folder) {
            return Ok(Self::Unnamed(file));
        }
        let mut builder = temporary();
        // The permissions that a plain new file would get, not the private ones of a temporary
        // file.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        builder.tempfile_in(folder).map(Self::Named)
    }

    fn as_file_mut(&mut self) -> &mut File {
        match self {
            #[cfg(target_os = "linux")]
            Self::Unnamed(file) => file,
            Self::Named(file) => file.as_file_mut(),
        }
    }

    /// Puts the file in the place of `path`, which is in `folder`.
    fn persist(self, folder: &Path, path: &Path) -> std::io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Unnamed(file) => {
                // A link cannot replace a file, so it gets a name of its own first.
                let named = temporary().make_in(folder, |name| unnamed::link(&file, name))?;
                named.persist(path).map(drop).map_err(|error| error.error)
            }
            Self::Named(file) => file.persist(path).map(drop).map_err(|error| error.error),
        }
    }
}

fn temporary() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".moecast-");
    builder
}

/// Files without a name, as Linux has them.
#[cfg(target_os = "linux")]
mod unnamed {
    use std::fs::{File, OpenOptions};
    use std::io::Result;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::{Path, PathBuf};

    use rustix::fs::{AtFlags, CWD, OFlags, linkat};

    /// A file in `folder`, unless the file system has no such files or none can be named later.
    pub(super) fn create(folder: &Path) -> Option<File> {
        let flags = i32::try_from(OFlags::TMPFILE.bits()).ok()?;
        let file = OpenOptions::new().write(true).custom_flags(flags).open(folder).ok()?;
        place(&file).exists().then_some(file)
    }

    pub(super) fn link(file: &File, name: &Path) -> Result<()> {
        Ok(linkat(CWD, place(file), CWD, name, AtFlags::SYMLINK_FOLLOW)?)
    }

    /// Where the system shows an open file.
    fn place(file: &File) -> PathBuf {
        Path::new("/proc/self/fd").join(file.as_raw_fd().to_string())
    }
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
    #[cfg(unix)]
    fn links_are_followed_and_folders_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        std::fs::write(&target, b"old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        write_bytes(&link, b"new").unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"new");
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(write_bytes(folder.path(), b"x").unwrap_err().to_string().contains("a folder"));
        let error = apart(&link, [&target]).unwrap_err().to_string();
        assert!(error.contains("the output is also an input"), "{error}");
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let failed: Result<()> = write(&path, |file| {
            file.write_all(b"half")?;
            anyhow::bail!("stop")
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_takes_the_place_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        for text in ["one", "two"] {
            write_bytes(&path, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }

    /// While a file is written its folder shows nothing, so a killed process leaves nothing.
    #[test]
    #[cfg(target_os = "linux")]
    fn half_a_file_has_no_name() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("x"), |file| {
            file.write_all(b"half")?;
            file.flush()?;
            assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn a_folder_that_is_not_there_yet_has_one_above_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/x");
        assert_eq!(existing_folder(&path), folder.path());
        assert_eq!(existing_folder(Path::new("x")), Path::new("."));
        assert_eq!(existing_folder(Path::new("no/such/x")), Path::new("."));
    }
}
