//! The archive around a layer: an OCI image layout in a tar, which older versions of docker read as
//! well. <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, Header};

use super::layer::Layer;
use super::{Build, Image};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// One image to be written.
pub struct Archive<'a> {
    pub image: &'a Image,
    pub build: &'a Build,
    pub layer: &'a Layer,
}

impl Archive<'_> {
    /// Writes it, replacing what is there when it is complete.
    pub fn write(&self, path: &Path) -> Result<()> {
        let new = path.with_extension("new.tar");
        let file = File::create(&new).with_context(|| format!("cannot write {}", new.display()))?;
        let mut tar = Builder::new(BufWriter::new(file));
        let config = self.config().to_string();
        let manifest = self.manifest(&config).to_string();
        let blob = |text: &str| format!("blobs/sha256/{}", digest(text));
        let layer = format!("blobs/sha256/{}", self.layer.digest);
        let docker = json!([{"Config": blob(&config), "RepoTags": [self.reference()],
                             "Layers": [layer]}]);
        for (place, text) in [
            ("oci-layout".to_owned(), json!({"imageLayoutVersion": "1.0.0"}).to_string()),
            ("index.json".to_owned(), self.index(&manifest).to_string()),
            ("manifest.json".to_owned(), docker.to_string()),
            (blob(&config), config.clone()),
            (blob(&manifest), manifest.clone()),
        ] {
            tar.append_data(&mut self.header(text.len() as u64), place, text.as_bytes())?;
        }
        let content = File::open(&self.layer.path)?.take(self.layer.size);
        tar.append_data(&mut self.header(self.layer.size), layer, content)?;
        tar.into_inner()?.flush()?;
        std::fs::rename(&new, path).with_context(|| format!("cannot write {}", path.display()))
    }

    fn header(&self, size: u64) -> Header {
        let mut header = Header::new_ustar();
        header.set_mtime(self.build.epoch);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mode(0o644);
        header.set_size(size);
        header
    }

    /// As `docker images` and containerd call it.
    fn reference(&self) -> String {
        format!("docker.io/pcigate/{}:{}", self.image.name, self.build.tag)
    }

    fn config(&self) -> Value {
        let first = self.image.programs.first().map_or("", |program| program.name);
        json!({
            "created": time(self.build.epoch),
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "User": format!("{0}:{0}", self.image.user),
                "Env": ["PATH=/usr/bin"],
                "Entrypoint": [format!("/usr/bin/{first}")],
                "Cmd": self.image.command,
                "WorkingDir": "/",
                "Labels": self.labels(),
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", self.layer.diff_id)]},
            "history": [{"created": time(self.build.epoch), "created_by": "cargo xtask image"}],
        })
    }

    fn labels(&self) -> Value {
        json!({
            "org.opencontainers.image.title": self.image.name,
            "org.opencontainers.image.description": self.image.description,
            "org.opencontainers.image.version": self.build.version,
            "org.opencontainers.image.revision": self.build.revision,
            "org.opencontainers.image.created": time(self.build.epoch),
            "org.opencontainers.image.licenses": "Apache-2.0",
        })
    }

    fn manifest(&self, config: &str) -> Value {
        json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": format!("sha256:{}", digest(config)),
                       "size": config.len()},
            "layers": [{"mediaType": self.layer.media_type, "size": self.layer.size,
                        "digest": format!("sha256:{}", self.layer.digest)}],
            "annotations": self.labels(),
        })
    }

    fn index(&self, manifest: &str) -> Value {
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{
                "mediaType": MANIFEST,
                "digest": format!("sha256:{}", digest(manifest)),
                "size": manifest.len(),
                "platform": {"architecture": architecture(), "os": "linux"},
                "annotations": {
                    "org.opencontainers.image.ref.name": self.build.tag,
                    "io.containerd.image.name": self.reference(),
                },
            }],
        })
    }
}

/// As Go calls this machine's, which is what images say.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// RFC 3339 of seconds since 1970, by the rule of the Gregorian calendar (civil from days).
pub fn time(epoch: u64) -> String {
    let (days, seconds) = (epoch / 86_400 + 719_468, epoch % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * shifted + 2) / 5 + 1, (shifted + 2) % 12 + 1);
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn seconds_since_1970_are_told_as_a_date() {
        for (epoch, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(time(epoch), expected);
        }
    }
}
