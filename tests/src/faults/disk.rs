//! The disk behind the faulty file system: what programs see, what is durable, and what lies
//! between. Pure: no FUSE, no clock.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ffi::{OsStr, OsString},
    fs, io,
    path::Path,
};

use nix::errno::Errno;

use super::Random;

/// A number of a file or directory; never given twice.
pub type Number = u64;

/// The root directory (FUSE wants it to be 1).
pub const ROOT: Number = 1;
/// What a disk writes as a whole.
const SECTOR: usize = 512;

/// Files and directories in memory.
#[derive(Clone, Debug)]
pub struct Disk {
    nodes: HashMap<Number, Node>,
    next: Number,
}

#[derive(Clone, Debug)]
struct Node {
    mode: u32,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    File(FileContent),
    Directory(Names),
}

#[derive(Clone, Debug, Default)]
struct FileContent {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Between `durable` and `now`, in order.
    volatile: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Resize(usize),
}

#[derive(Clone, Debug, Default)]
struct Names {
    now: BTreeMap<OsString, Number>,
    durable: BTreeMap<OsString, Number>,
    volatile: Vec<NameChange>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Set(OsString, Number),
    Remove(OsString),
    Rename(OsString, OsString, Number),
}

/// What `stat` tells.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    /// Bytes of a file.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Whether it is a directory.
    pub is_directory: bool,
}

impl Default for Disk {
    fn default() -> Self {
        let root = Node { mode: 0o755, content: Content::Directory(Names::default()) };
        Self { nodes: HashMap::from([(ROOT, root)]), next: ROOT + 1 }
    }
}

impl Disk {
    /// # Errors
    /// `ENOENT`.
    pub fn stat(&self, number: Number) -> Result<Stat, Errno> {
        let node = self.nodes.get(&number).ok_or(Errno::ENOENT)?;
        let (size, is_directory) = match &node.content {
            Content::File(file) => (file.now.len() as u64, false),
            Content::Directory(_) => (0, true),
        };
        Ok(Stat { size, mode: node.mode, is_directory })
    }

    /// # Errors
    /// `ENOENT`, `ENOTDIR`.
    pub fn find(&self, parent: Number, name: &OsStr) -> Result<Number, Errno> {
        self.names(parent)?.now.get(name).copied().ok_or(Errno::ENOENT)
    }

    /// Names with their numbers, in order.
    ///
    /// # Errors
    /// `ENOTDIR`.
    pub fn list(&self, number: Number) -> Result<Vec<(OsString, Number)>, Errno> {
        let names = &self.names(number)?.now;
        Ok(names.iter().map(|(name, number)| (name.clone(), *number)).collect())
    }

    /// Makes an empty file or directory.
    ///
    /// # Errors
    /// `EEXIST`, `ENOTDIR`.
    pub fn make(
        &mut self,
        parent: Number,
        name: &OsStr,
        mode: u32,
        directory: bool,
    ) -> Result<Number, Errno> {
        if self.names(parent)?.now.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let number = self.next;
        self.next += 1;
        let content = if directory {
            Content::Directory(Names::default())
        } else {
            Content::File(FileContent::default())
        };
        self.nodes.insert(number, Node { mode: mode & 0o7777, content });
        self.change_names(parent, NameChange::Set(name.to_owned(), number))?;
        Ok(number)
    }

    /// Gives a file another name.
    ///
    /// # Errors
    /// `EEXIST`, `ENOTDIR`.
    pub fn link(&mut self, number: Number, parent: Number, name: &OsStr) -> Result<(), Errno> {
        if self.names(parent)?.now.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        self.change_names(parent, NameChange::Set(name.to_owned(), number))
    }

    /// # Errors
    /// `ENOENT`, `ENOTEMPTY`.
    pub fn remove(&mut self, parent: Number, name: &OsStr) -> Result<(), Errno> {
        let number = self.find(parent, name)?;
        if self.names(number).is_ok_and(|names| !names.now.is_empty()) {
            return Err(Errno::ENOTEMPTY);
        }
        self.change_names(parent, NameChange::Remove(name.to_owned()))
    }

    /// Within one directory only, which is all that our programs do.
    ///
    /// # Errors
    /// `ENOENT`, `EXDEV`.
    pub fn rename(
        &mut self,
        parent: Number,
        name: &OsStr,
        new_parent: Number,
        new_name: &OsStr,
    ) -> Result<(), Errno> {
        if parent != new_parent {
            return Err(Errno::EXDEV);
        }
        let number = self.find(parent, name)?;
        self.change_names(parent, NameChange::Rename(name.to_owned(), new_name.to_owned(), number))
    }

    /// Bytes a program reads.
    ///
    /// # Errors
    /// `EISDIR`.
    pub fn read(&self, number: Number, offset: usize, length: usize) -> Result<&[u8], Errno> {
        let now = &self.file(number)?.now;
        let end = now.len().min(offset.saturating_add(length));
        Ok(now.get(offset..end).unwrap_or_default())
    }

    /// # Errors
    /// `EISDIR`.
    pub fn write(&mut self, number: Number, offset: usize, bytes: &[u8]) -> Result<(), Errno> {
        let file = self.file_mut(number)?;
        let change = Change::Write { offset, bytes: bytes.to_vec() };
        change.apply(&mut file.now);
        file.volatile.push(change);
        Ok(())
    }

    /// # Errors
    /// `EISDIR`.
    pub fn resize(&mut self, number: Number, length: usize) -> Result<(), Errno> {
        let file = self.file_mut(number)?;
        let change = Change::Resize(length);
        change.apply(&mut file.now);
        file.volatile.push(change);
        Ok(())
    }

    /// # Errors
    /// `ENOENT`.
    pub fn set_mode(&mut self, number: Number, mode: u32) -> Result<(), Errno> {
        self.nodes.get_mut(&number).ok_or(Errno::ENOENT)?.mode = mode & 0o7777;
        Ok(())
    }

    /// Makes a file's bytes, or a directory's names, durable.
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn sync(&mut self, number: Number) -> Result<(), Errno> {
        match &mut self.nodes.get_mut(&number).ok_or(Errno::ENOENT)?.content {
            Content::File(file) => {
                for change in file.volatile.drain(..) {
                    change.apply(&mut file.durable);
                }
            }
            Content::Directory(names) => {
                names.durable.clone_from(&names.now);
                names.volatile.clear();
            }
        }
        Ok(())
    }

    /// A sync that fails: any part of the bytes reached the disk, the others never will. Names
    /// stay volatile: a journal that cannot be written takes no later sync for a good one.
    pub fn fail_sync(&mut self, number: Number, random: &mut Random) {
        if let Some(Node { content: Content::File(file), .. }) = self.nodes.get_mut(&number) {
            file.keep_some(random);
        }
    }

    /// What a machine finds after it lost power: the durable state, and any part of the rest.
    pub fn cut_power(&mut self, random: &mut Random) {
        let mut numbers: Vec<Number> = self.nodes.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            match self.nodes.get_mut(&number).map(|node| &mut node.content) {
                Some(Content::File(file)) => {
                    file.keep_some(random);
                    file.now.clone_from(&file.durable);
                }
                Some(Content::Directory(names)) => names.keep_some(random),
                None => {}
            }
        }
        self.sweep();
    }

    /// Forgets what no name leads to, now or after a cut. For when no program has a file open.
    pub fn sweep(&mut self) {
        let mut reached = BTreeSet::from([ROOT]);
        let mut ahead = vec![ROOT];
        while let Some(number) = ahead.pop() {
            let Ok(names) = self.names(number) else { continue };
            let volatile = names.volatile.iter().filter_map(|change| match change {
                NameChange::Set(_, number) | NameChange::Rename(_, _, number) => Some(*number),
                NameChange::Remove(_) => None,
            });
            let known = names.now.values().chain(names.durable.values()).copied().chain(volatile);
            ahead.extend(known.filter(|number| reached.insert(*number)));
        }
        self.nodes.retain(|number, _| reached.contains(number));
    }

    /// Copies everything to a directory of the machine, as programs see it.
    ///
    /// # Errors
    /// The system refuses.
    pub fn copy_to(&self, directory: &Path) -> io::Result<()> {
        self.copy(ROOT, directory)
    }

    fn copy(&self, number: Number, to: &Path) -> io::Result<()> {
        match self.nodes.get(&number).map(|node| &node.content) {
            Some(Content::File(file)) => fs::write(to, &file.now),
            Some(Content::Directory(names)) => {
                fs::create_dir_all(to)?;
                names.now.iter().try_for_each(|(name, number)| self.copy(*number, &to.join(name)))
            }
            None => Ok(()),
        }
    }

    fn names(&self, number: Number) -> Result<&Names, Errno> {
        match &self.nodes.get(&number).ok_or(Errno::ENOENT)?.content {
            Content::Directory(names) => Ok(names),
            Content::File(_) => Err(Errno::ENOTDIR),
        }
    }

    fn change_names(&mut self, number: Number, change: NameChange) -> Result<(), Errno> {
        match &mut self.nodes.get_mut(&number).ok_or(Errno::ENOENT)?.content {
            Content::Directory(names) => {
                change.apply(&mut names.now);
                names.volatile.push(change);
                Ok(())
            }
            Content::File(_) => Err(Errno::ENOTDIR),
        }
    }

    fn file(&self, number: Number) -> Result<&FileContent, Errno> {
        match &self.nodes.get(&number).ok_or(Errno::ENOENT)?.content {
            Content::File(file) => Ok(file),
            Content::Directory(_) => Err(Errno::EISDIR),
        }
    }

    fn file_mut(&mut self, number: Number) -> Result<&mut FileContent, Errno> {
        match &mut self.nodes.get_mut(&number).ok_or(Errno::ENOENT)?.content {
            Content::File(file) => Ok(file),
            Content::Directory(_) => Err(Errno::EISDIR),
        }
    }
}

impl FileContent {
    /// Makes some of what is volatile durable and forgets the rest.
    fn keep_some(&mut self, random: &mut Random) {
        let changes = std::mem::take(&mut self.volatile);
        let percent = random.one_of(&[0, 0, 50, 90, 100]);
        let in_order = random.chance(50);
        for change in changes {
            match change {
                Change::Resize(_) if random.chance(percent) => change.apply(&mut self.durable),
                Change::Resize(_) if in_order => return,
                Change::Resize(_) => {}
                Change::Write { offset, bytes } => {
                    for (offset, sector) in sectors(offset, &bytes) {
                        if random.chance(percent) {
                            let bytes = sector.to_vec();
                            Change::Write { offset, bytes }.apply(&mut self.durable);
                        } else if in_order {
                            return;
                        }
                    }
                }
            }
        }
    }
}

/// The parts of a write that lie in different sectors.
fn sectors(offset: usize, bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let (mut parts, mut at) = (Vec::new(), 0);
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let length = (SECTOR - (offset + at) % SECTOR).min(rest.len());
        parts.push((offset + at, rest.get(..length).unwrap_or(rest)));
        at += length;
    }
    parts
}

impl Names {
    fn keep_some(&mut self, random: &mut Random) {
        let changes = std::mem::take(&mut self.volatile);
        let percent = random.one_of(&[0, 0, 50, 90, 100]);
        let in_order = random.chance(50);
        // What an earlier change that was dropped would have brought.
        let mut dropped = BTreeSet::new();
        for change in changes {
            let depends = change.names().iter().any(|name| dropped.contains(*name));
            if !depends && random.chance(percent) {
                change.apply(&mut self.durable);
            } else if in_order {
                break;
            } else {
                dropped.extend(change.names().into_iter().cloned());
            }
        }
        self.now.clone_from(&self.durable);
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Resize(length) => content.resize(*length, 0),
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                if let Some(place) = content.get_mut(*offset..end) {
                    place.copy_from_slice(bytes);
                }
            }
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<OsString, Number>) {
        match self {
            Self::Set(name, number) => _ = names.insert(name.clone(), *number),
            Self::Remove(name) => _ = names.remove(name),
            Self::Rename(from, to, number) => {
                names.remove(from);
                names.insert(to.clone(), *number);
            }
        }
    }

    fn names(&self) -> Vec<&OsString> {
        match self {
            Self::Set(name, _) | Self::Remove(name) => vec![name],
            Self::Rename(from, to, _) => vec![from, to],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(disk: &mut Disk, name: &str, bytes: &[u8]) -> Number {
        let number = disk.make(ROOT, OsStr::new(name), 0o600, false).unwrap();
        disk.write(number, 0, bytes).unwrap();
        number
    }

    fn content(disk: &Disk, name: &str) -> Option<Vec<u8>> {
        let number = disk.find(ROOT, OsStr::new(name)).ok()?;
        Some(disk.read(number, 0, usize::MAX).unwrap().to_vec())
    }

    #[test]
    fn what_was_synced_with_its_name_survives_every_cut() {
        for seed in 0..200 {
            let mut disk = Disk::default();
            let number = file(&mut disk, "a", &[1; 2000]);
            disk.sync(number).unwrap();
            disk.sync(ROOT).unwrap();
            disk.write(number, 2000, &[2; 600]).unwrap();
            disk.cut_power(&mut Random::new(seed));
            assert_eq!(content(&disk, "a").unwrap()[..2000], [1; 2000]);
        }
    }

    #[test]
    fn a_cut_may_lose_the_name_the_bytes_or_a_part_of_them() {
        let (mut nameless, mut empty, mut torn, mut whole) = (0, 0, 0, 0);
        for seed in 0..400 {
            let mut disk = Disk::default();
            file(&mut disk, "a", &[1; 2000]);
            disk.cut_power(&mut Random::new(seed));
            match content(&disk, "a") {
                None => nameless += 1,
                Some(bytes) if bytes.is_empty() => empty += 1,
                Some(bytes) if bytes == [1; 2000] => whole += 1,
                Some(_) => torn += 1,
            }
        }
        assert!(nameless > 0 && empty > 0 && torn > 0 && whole > 0);
    }

    #[test]
    fn a_rename_that_is_lost_leaves_the_old_file() {
        let (mut old, mut new) = (0, 0);
        for seed in 0..200 {
            let mut disk = Disk::default();
            for (name, byte) in [("a", 1), ("a.tmp", 2)] {
                let number = file(&mut disk, name, &[byte; 10]);
                disk.sync(number).unwrap();
            }
            disk.sync(ROOT).unwrap();
            disk.rename(ROOT, OsStr::new("a.tmp"), ROOT, OsStr::new("a")).unwrap();
            disk.cut_power(&mut Random::new(seed));
            match content(&disk, "a").unwrap()[0] {
                1 => old += 1,
                _ => new += 1,
            }
        }
        assert!(old > 0 && new > 0);
    }

    #[test]
    fn bytes_of_a_failed_sync_are_not_made_durable_by_the_next() {
        let lost = (0..200).filter(|seed| {
            let mut disk = Disk::default();
            let number = file(&mut disk, "a", &[1; 2000]);
            disk.fail_sync(number, &mut Random::new(*seed));
            disk.sync(number).unwrap();
            disk.sync(ROOT).unwrap();
            assert_eq!(content(&disk, "a").unwrap(), [1; 2000], "programs still see them");
            disk.cut_power(&mut Random::new(*seed));
            content(&disk, "a").unwrap() != [1; 2000]
        });
        assert!(lost.count() > 0);
    }
}
