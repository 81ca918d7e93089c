//! Files and directories that a crash leaves whole: the old content or the new, never a mixture.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Writes `content` to a temporary file beside `path` and renames it; durable on return.
///
/// # Errors
/// Whatever the system says; the old content is still there.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Makes a directory (mode 0700) with those above it, and makes the names of all of them durable:
/// what is durable in a directory is gone with the directory. Also for one that is there: whoever
/// made it may not have come as far as this.
///
/// # Errors
/// Whatever the system says, with the directory it is about.
pub(crate) fn make_dir(dir: &Path) -> Result<(), (io::Error, std::path::PathBuf)> {
    let of = |path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| (error, path)
    };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(of(dir))?;
    let absolute = std::path::absolute(dir).map_err(of(dir))?;
    let device = std::fs::metadata(&absolute).map_err(of(dir))?.dev();
    for above in absolute.ancestors().skip(1) {
        match File::open(above) {
            Ok(open) if open.metadata().is_ok_and(|found| found.dev() == device) => {
                open.sync_all().map_err(of(above))?;
            }
            // Another file system begins here; or a directory that was not made by us.
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
            Err(error) => return Err(of(above)(error)),
        }
    }
    Ok(())
}
