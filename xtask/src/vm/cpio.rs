//! Writes a cpio archive of the "newc" form, which the kernel unpacks as its first file system.
//!
//! Format: Documentation/driver-api/early-userspace/buffer-format.rst of Linux. Uncompressed,
//! because a virtual machine without KVM would spend seconds unpacking.

use std::io::{self, Write};

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;
const CONSOLE: u32 = 0o020_600;
/// Character device 5:1, `/dev/console`.
const CONSOLE_NUMBER: (u32, u32) = (5, 1);

/// An archive that is being written.
pub struct Archive<W> {
    out: W,
    written: u64,
    inode: u32,
}

impl<W: Write> Archive<W> {
    /// An empty archive.
    pub fn new(out: W) -> Self {
        Self { out, written: 0, inode: 0 }
    }

    /// Adds a directory; those above it must have been added. No path begins with a slash.
    pub fn directory(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, DIRECTORY, (0, 0), &[])
    }

    /// Adds a file that may be executed.
    pub fn program(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        self.entry(path, PROGRAM, (0, 0), content)
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.entry(path, LINK, (0, 0), target.as_bytes())
    }

    /// Adds `dev/console`, without which process 1 has no output.
    pub fn console(&mut self) -> io::Result<()> {
        self.entry("dev/console", CONSOLE, CONSOLE_NUMBER, &[])
    }

    /// Ends the archive and gives back what it was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.inode = u32::MAX;
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        Ok(self.out)
    }

    fn entry(
        &mut self,
        path: &str,
        mode: u32,
        device: (u32, u32),
        content: &[u8],
    ) -> io::Result<()> {
        let too_long = |_| io::Error::other(format!("{path} is too large for an initramfs"));
        let size = u32::try_from(content.len()).map_err(too_long)?;
        let name = u32::try_from(path.len() + 1).map_err(too_long)?;
        self.inode = self.inode.wrapping_add(1);
        // inode, mode, uid, gid, links, mtime, size, device (major, minor), of which it is
        // (major, minor), length of the name, checksum
        let numbers = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name, 0];
        self.write(b"070701")?;
        for number in numbers {
            self.write(format!("{number:08X}").as_bytes())?;
        }
        self.write(path.as_bytes())?;
        self.write(&[0])?;
        self.pad()?;
        self.write(content)?;
        self.pad()
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// Headers and contents begin at multiples of four.
    fn pad(&mut self) -> io::Result<()> {
        while !self.written.is_multiple_of(4) {
            self.write(&[0])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    /// Name, mode, device, content.
    type Entry = (String, u32, (u32, u32), Vec<u8>);

    /// Reads what was written, as the kernel does.
    fn entries(mut bytes: &[u8]) -> Vec<Entry> {
        let mut found = Vec::new();
        let round = |n: usize| n.next_multiple_of(4);
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let number = |at: usize| {
                let text = std::str::from_utf8(&bytes[6 + at * 8..14 + at * 8]).unwrap();
                u32::from_str_radix(text, 16).unwrap()
            };
            let (size, name) = (number(6) as usize, number(11) as usize);
            assert_eq!(bytes[110 + name - 1], 0, "a name ends with a zero");
            let text = String::from_utf8(bytes[110..110 + name - 1].to_vec()).unwrap();
            let start = round(110 + name);
            let content = bytes[start..start + size].to_vec();
            found.push((text, number(1), (number(9), number(10)), content));
            if found.last().unwrap().0 == "TRAILER!!!" {
                assert_eq!(bytes.len(), round(start + size));
                return found;
            }
            bytes = &bytes[round(start + size)..];
        }
    }

    #[test]
    fn names_and_contents_of_every_length_come_back_as_they_went_in() {
        let mut archive = Archive::new(Vec::new());
        archive.directory("d").unwrap();
        for length in 0..9 {
            let content = vec![0xab; length];
            archive.program(&format!("d/{}", "n".repeat(length + 1)), &content).unwrap();
        }
        archive.link("bin", "usr/bin").unwrap();
        archive.console().unwrap();
        let entries = entries(&archive.finish().unwrap());
        assert_eq!(entries[0], ("d".into(), 0o040_755, (0, 0), vec![]));
        for length in 0..9 {
            let (name, mode, _, content) = &entries[length + 1];
            assert_eq!((name.len(), *mode, content.len()), (length + 3, 0o100_755, length));
        }
        assert_eq!(entries[10], ("bin".into(), 0o120_777, (0, 0), b"usr/bin".to_vec()));
        assert_eq!(entries[11], ("dev/console".into(), 0o020_600, (5, 1), vec![]));
        assert_eq!(entries.len(), 13, "and the trailer");
    }
}
