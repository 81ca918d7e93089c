//! Rules by digest: whatever the file is called, and only while its content is known.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pcigate_agent::digests::{
    self,
    file::{Pace, Unknown},
};
use pcigate_tests::{kernel::Kernel, wait};
use sha2::{Digest, Sha256};

use crate::exec_ways::{copy_of_true, policy, refused};

fn sha256(path: &str) -> String {
    hex::encode(Sha256::digest(fs::read(path).unwrap()))
}

/// Makes the digest of a file known as the agent's thread does, also on a filesystem that does not
/// tell of every change (all there is in a virtual machine).
fn learn(kernel: &Kernel, path: &str) {
    let file = File::open(path).unwrap();
    let (key, sha256) = wait::until("the file is settled", || {
        match digests::file::read(&file, &mut Pace::new(u32::MAX)) {
            Err(Unknown::Changing) => None,
            read => Some(read.unwrap()),
        }
    });
    kernel.governor.files().put(&key, sha256).unwrap();
}

fn probe_and(digests: &[&str]) -> Vec<String> {
    let probe = pcigate_tests::program("pcigate-probe").display().to_string();
    vec![
        format!("id: probe, action: allow, paths: [\"{probe}\"]"),
        format!("id: listed, action: allow, sha256: [{}]", digests.join(", ")),
    ]
}

#[test]
fn where_programs_are_allowed_by_digest_an_unknown_and_another_one_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let listed = copy_of_true(directory.path(), "listed");
    let other = directory.path().join("other").to_str().unwrap().to_owned();
    fs::copy("/bin/false", &other).unwrap();
    let kernel = Kernel::with_policy(&policy("deny", &probe_and(&[&sha256(&listed)])));
    let actions = [format!("exec:{listed}"), format!("exec:{other}")];
    let probe = || kernel.probe(&[&actions[0], &actions[1]]);
    assert_eq!(probe(), [refused(&kernel); 2], "nothing is known yet");
    learn(&kernel, &listed);
    learn(&kernel, &other);
    assert_eq!(probe(), ["ok", refused(&kernel)]);
    // The same bytes in another file are unknown, and the listed file is once it has changed.
    let copy = copy_of_true(directory.path(), "copy");
    fs::write(&listed, fs::read(&other).unwrap()).unwrap();
    let actions = [format!("exec:{copy}"), format!("exec:{listed}")];
    assert_eq!(kernel.probe(&[&actions[0], &actions[1]]), [refused(&kernel); 2]);
    learn(&kernel, &copy);
    assert_eq!(kernel.probe(&[&actions[0], &actions[1]]), ["ok", refused(&kernel)]);
}

#[test]
fn a_program_denied_by_digest_is_refused_by_every_name_and_where_it_is_not_known() {
    let directory = tempfile::tempdir().unwrap();
    let denied = copy_of_true(directory.path(), "denied");
    let fine = directory.path().join("fine").to_str().unwrap().to_owned();
    fs::copy("/usr/bin/env", &fine).unwrap();
    let hard = directory.path().join("hard").to_str().unwrap().to_owned();
    fs::hard_link(&denied, &hard).unwrap();
    let rule = format!(
        "id: not-that, action: deny, paths: [\"{}/**\"], sha256: [{}]",
        directory.path().display(),
        sha256(&denied)
    );
    let kernel = Kernel::with_policy(&policy("allow", &[rule]));
    let actions = [&denied, &hard, &fine].map(|path| format!("exec:{path} true"));
    let probe = || kernel.probe(&[&actions[0], &actions[1], &actions[2]]);
    let no = refused(&kernel);
    assert_eq!(probe(), [no; 3], "what is not known may be what is denied");
    learn(&kernel, &denied);
    learn(&kernel, &fine);
    assert_eq!(probe(), [no, no, "ok"]);
    assert_eq!(kernel.probe(&["exec:/bin/true"]), ["ok"], "the rule names another directory");
}

/// A bind mount gives a file another path, not another inode.
#[test]
fn a_bind_mount_of_a_program_denied_by_digest_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let denied = copy_of_true(directory.path(), "denied");
    let other = copy_of_true(directory.path(), "other");
    let fine = directory.path().join("fine").to_str().unwrap().to_owned();
    fs::copy("/usr/bin/env", &fine).unwrap();
    let rules = [
        format!("id: by-path, action: deny, paths: [\"{denied}\"]"),
        format!("id: by-digest, action: deny, paths: [\"{other}\"], sha256: [{}]", sha256(&denied)),
    ];
    let _mounted = Mounted::bind(&denied, &other);
    let kernel = Kernel::with_policy(&policy("allow", &rules));
    learn(&kernel, &denied);
    let actions = [format!("exec:{other}"), format!("exec:{fine} true")];
    assert_eq!(kernel.probe(&[&actions[0], &actions[1]]), [refused(&kernel), "ok"]);
    let drafts = { kernel }.drafts();
    let mut decided = drafts.iter().filter_map(|draft| draft.outcome.decision.as_ref());
    assert!(decided.any(|decision| decision.rule.id.as_str() == "by-digest"));
}

/// What is open for writing may change after the look.
#[test]
fn a_program_that_somebody_has_open_for_writing_is_not_known() {
    let directory = tempfile::tempdir().unwrap();
    let listed = copy_of_true(directory.path(), "listed");
    let kernel = Kernel::with_policy(&policy("deny", &probe_and(&[&sha256(&listed)])));
    learn(&kernel, &listed);
    let action = format!("exec:{listed}");
    assert_eq!(kernel.probe(&[&action]), ["ok"]);
    let writer = fs::OpenOptions::new().append(true).open(&listed).unwrap();
    // Most kernels refuse to execute such a file at all.
    let result = kernel.probe(&[&action]);
    assert!(result == ["ETXTBSY"] || result == [refused(&kernel)], "{result:?}");
    drop(writer);
    assert_eq!(kernel.probe(&[&action]), ["ok"]);
}

/// Something mounted for a test.
struct Mounted(PathBuf);

impl Mounted {
    fn bind(from: &str, to: &str) -> Self {
        mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        Self(to.into())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

/// Whether digests are known on the filesystem of temporary files; not so in a virtual machine.
fn tells_of_every_change() -> bool {
    matches!(digests::file::is_layered(&tempfile::tempfile().unwrap()), Ok(false))
}

#[test]
fn a_file_in_memory_is_never_known_because_a_change_there_leaves_no_trace() {
    let directory = tempfile::tempdir_in("/dev").unwrap();
    let path = copy_of_true(directory.path(), "program");
    let file = File::open(&path).unwrap();
    assert!(matches!(digests::file::is_layered(&file), Err(Unknown::Filesystem)));
}

/// The whole way: what rules name is read in the roots of the workload's processes, and what was
/// refused is read so that the next time is decided properly.
#[test]
fn the_agent_reads_what_rules_name_and_what_was_refused() {
    if !tells_of_every_change() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let listed = copy_of_true(directory.path(), "listed");
    let later = directory.path().join("later").to_str().unwrap().to_owned();
    fs::copy("/bin/false", &later).unwrap();
    let probe = pcigate_tests::program("pcigate-probe").display().to_string();
    let rules = [
        format!("id: probe, action: allow, paths: [\"{probe}\"]"),
        format!("id: a, action: allow, paths: [\"{listed}\"], sha256: [{}]", sha256(&listed)),
        format!("id: b, action: allow, sha256: [{}]", sha256(&later)),
    ];
    let mut kernel = Kernel::with_policy(&policy("deny", &rules));
    let _digests = kernel.read_digests();
    // A process whose root can be looked into.
    let mut child = kernel.probe_waiting();
    wait::until("the digest is known", || {
        (kernel.probe(&[&format!("exec:{listed}")]) == ["ok"]).then_some(())
    });
    assert_eq!(kernel.probe(&[&format!("exec:{later}")]), [refused(&kernel)]);
    wait::until("the digest is known", || {
        let _ = kernel.drafts();
        (kernel.probe(&[&format!("exec:{later}")]) == ["code-1"]).then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Containers run programs of a layer that all of them share, and one that was changed is copied
/// up, which is another file.
#[test]
fn on_overlayfs_a_digest_is_that_of_the_layer_and_a_change_makes_it_unknown() {
    if !tells_of_every_change() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| {
        let path = directory.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path.display().to_string()
    };
    let (lower, merged) = (at("lower"), [at("merged-1"), at("merged-2")]);
    copy_of_true(Path::new(&lower), "program");
    copy_of_true(Path::new(&lower), "mapped");
    let mut mounts = Vec::new();
    for (n, merged) in merged.iter().enumerate() {
        let (upper, work) = (at(&format!("upper-{n}")), at(&format!("work-{n}")));
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        let kind = Some("overlay");
        mount(kind, merged.as_str(), kind, MsFlags::empty(), Some(options.as_str())).unwrap();
        mounts.push(Mounted(merged.into()));
    }
    let program = |n: usize, name: &str| format!("{}/{name}", merged[n]);
    copy_of_true(Path::new(&merged[0]), "new");
    let digest = sha256(&program(0, "program"));
    let probe = pcigate_tests::program("pcigate-probe").display().to_string();
    let rules = [
        format!("id: probe, action: allow, paths: [\"{probe}\"]"),
        format!("id: a, action: allow, paths: [\"{}/*\"], sha256: [{digest}]", merged[0]),
        format!("id: b, action: allow, paths: [\"{}/x*\"], sha256: [{digest}]", merged[1]),
        format!("id: c, action: allow, paths: [\"{}/p*\"], sha256: [{digest}]", merged[1]),
    ];
    let mut kernel = Kernel::with_policy(&policy("deny", &rules));
    let _digests = kernel.read_digests();
    let mut child = kernel.probe_waiting();
    let run = |kernel: &Kernel, n, name: &str| {
        kernel.probe(&[&format!("exec:{}", program(n, name))]).remove(0)
    };
    for (n, name) in [(0, "program"), (0, "mapped"), (0, "new"), (1, "program")] {
        wait::until("the digest is known", || {
            let _ = kernel.drafts();
            (run(&kernel, n, name) == "ok").then_some(())
        });
    }
    for name in ["mapped", "new"] {
        assert_eq!(kernel.probe(&[&format!("map-write:{}", program(0, name))]), ["ok"]);
        assert_eq!(run(&kernel, 0, name), "signal-9", "{name}");
    }
    assert_eq!(run(&kernel, 0, "program"), "ok", "the others are as they were");
    child.kill().unwrap();
    child.wait().unwrap();
    drop(mounts);
}
