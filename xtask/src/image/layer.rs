//! The one layer of an image: a tar whose bytes depend on its files and SOURCE_DATE_EPOCH alone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::{GzBuilder, write::GzEncoder};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::parts::Parts;
use super::{Build, COLLECTOR_USER, GATEWAY_USER, Image};

/// How the layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Compression {
    /// As every runtime reads it.
    Gzip,
    /// Not at all: what is used on this machine at once.
    None,
}

/// A layer that was written.
pub struct Layer {
    /// Where.
    pub path: PathBuf,
    /// SHA-256 of the file.
    pub digest: String,
    /// SHA-256 of the tar in it.
    pub diff_id: String,
    /// Bytes of the file.
    pub size: u64,
    /// OCI image specification, layer media types.
    pub media_type: &'static str,
}

/// Debian has merged these into /usr; the programs' loader is named below /lib64.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];
/// Where runtimes mount.
const MOUNTED: [&str; 5] = ["dev", "proc", "run", "sys", "tmp"];

/// A volume mounted here for the first time is its user's, too.
const STATE: &str = "var/lib/pcigate";

/// What is at a path of the image.
enum Entry<'a> {
    Directory(u32),
    /// Of the image's user, for what it keeps.
    Own(u64),
    Link(String),
    Text(u32, String),
    File(u32, &'a Path),
}

/// Writes it below `scratch`.
pub fn write(
    image: &Image,
    build: &Build,
    parts: &Parts,
    list: &str,
    scratch: &Path,
) -> Result<Layer> {
    let path = scratch.join("layer");
    let cannot = || format!("cannot write {}", path.display());
    let file = BufWriter::new(File::create(&path).with_context(cannot)?);
    let outer = Hashed { hash: Sha256::new(), size: 0, inner: file };
    let entries = entries(image, parts, list);
    let (outer, diff_id, media_type) = match build.compression {
        Compression::None => {
            let tar = fill(Hashed::new(outer), &entries, build.epoch)?;
            let diff_id = hex::encode(tar.hash.finalize());
            (tar.inner, diff_id, "application/vnd.oci.image.layer.v1.tar")
        }
        Compression::Gzip => {
            let gzip: GzEncoder<_> =
                GzBuilder::new().mtime(0).write(outer, flate2::Compression::new(6));
            let tar = fill(Hashed::new(gzip), &entries, build.epoch)?;
            let diff_id = hex::encode(tar.hash.finalize());
            let outer = tar.inner.finish().with_context(cannot)?;
            (outer, diff_id, "application/vnd.oci.image.layer.v1.tar+gzip")
        }
    };
    let Hashed { hash, size, mut inner } = outer;
    inner.flush().with_context(cannot)?;
    Ok(Layer { digest: hex::encode(hash.finalize()), path, diff_id, size, media_type })
}

fn entries<'a>(image: &Image, parts: &'a Parts, list: &str) -> BTreeMap<String, Entry<'a>> {
    let mut entries = BTreeMap::new();
    for name in MERGED {
        entries.insert(format!("usr/{name}"), Entry::Directory(0o755));
        entries.insert(name.to_owned(), Entry::Link(format!("usr/{name}")));
    }
    for name in MOUNTED.iter().chain([&"etc/pcigate"]) {
        let mode = if *name == "tmp" { 0o1777 } else { 0o755 };
        entries.insert((*name).to_owned(), Entry::Directory(mode));
    }
    entries.insert(STATE.to_owned(), Entry::Own(image.user.into()));
    for (name, path) in &parts.programs {
        entries.insert(format!("usr/bin/{name}"), Entry::File(0o755, path));
    }
    for (place, path) in &parts.libraries {
        entries.insert(place.clone(), Entry::File(0o755, path));
    }
    for (name, package) in &parts.packages {
        let place = format!("usr/share/doc/{name}/copyright");
        entries.insert(place, Entry::Text(0o644, package.copyright.clone()));
    }
    let list_at = format!("usr/share/doc/{}/sbom.spdx.json", image.name);
    for (place, text) in [
        (list_at, list.to_owned()),
        ("etc/passwd".to_owned(), users(":/:/usr/sbin/nologin", 'x')),
        ("etc/group".to_owned(), groups()),
        // The C library asks the files first, and has both ways built in.
        ("etc/nsswitch.conf".to_owned(), "hosts: files dns\n".to_owned()),
    ] {
        entries.insert(place, Entry::Text(0o644, text));
    }
    let above: Vec<String> = entries.keys().flat_map(|path| directories_above(path)).collect();
    for directory in above {
        entries.entry(directory).or_insert(Entry::Directory(0o755));
    }
    entries
}

fn users(rest: &str, password: char) -> String {
    let user = |name: &str, id: u32| format!("{name}:{password}:{id}:{id}:{name}{rest}\n");
    user("root", 0)
        + &user("pcigate-collector", COLLECTOR_USER)
        + &user("pcigate-gateway", GATEWAY_USER)
}

fn groups() -> String {
    let group = |name: &str, id: u32| format!("{name}:x:{id}:\n");
    group("root", 0)
        + &group("pcigate-collector", COLLECTOR_USER)
        + &group("pcigate-gateway", GATEWAY_USER)
}

fn directories_above(path: &str) -> Vec<String> {
    path.match_indices('/').filter_map(|(at, _)| path.get(..at)).map(str::to_owned).collect()
}

fn fill<W: Write>(to: W, entries: &BTreeMap<String, Entry<'_>>, epoch: u64) -> Result<W> {
    let mut tar = Builder::new(to);
    for (path, entry) in entries {
        append(&mut tar, path, entry, epoch).with_context(|| format!("{path} of the image"))?;
    }
    Ok(tar.into_inner()?)
}

fn append<W: Write>(
    tar: &mut Builder<W>,
    path: &str,
    entry: &Entry<'_>,
    epoch: u64,
) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_mtime(epoch);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    match entry {
        Entry::Own(user) => {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o700);
            header.set_uid(*user);
            header.set_gid(*user);
            tar.append_data(&mut header, format!("{path}/"), io::empty())
        }
        Entry::Directory(mode) => {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(*mode);
            tar.append_data(&mut header, format!("{path}/"), io::empty())
        }
        Entry::Link(to) => {
            header.set_entry_type(EntryType::Symlink);
            header.set_mode(0o777);
            tar.append_link(&mut header, path, to)
        }
        Entry::Text(mode, text) => {
            header.set_mode(*mode);
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, path, text.as_bytes())
        }
        Entry::File(mode, from) => {
            let file = File::open(from)?;
            let size = file.metadata()?.len();
            header.set_mode(*mode);
            header.set_size(size);
            tar.append_data(&mut header, path, file.take(size))
        }
    }
}

/// Hashes and counts what is written through it.
struct Hashed<W> {
    hash: Sha256,
    size: u64,
    inner: W,
}

impl<W> Hashed<W> {
    fn new(inner: W) -> Self {
        Self { hash: Sha256::new(), size: 0, inner }
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
