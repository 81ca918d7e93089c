//! The pod list and the kubelet's cgroup paths: what is found has the form of an id, and no error
//! shows a card number.

#![no_main]

use std::error::Error;
use std::fs;
use std::sync::LazyLock;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pcigate_agent::workloads::{file, layout};
use pcigate_fuzz::cards;
use pcigate_fuzz::damage::{Patch, YAML_WORDS, damaged};
use tempfile::TempDir;

const LIST: &str = "
apiVersion: v1
kind: PodList
items:
- metadata:
    name: billing-bot
    namespace: payments
    uid: 1a2b3c4d-0000-4000-8000-1234567890ab
    labels: {app: billing-bot}
    annotations: {kubernetes.io/config.hash: abc}
  spec: {serviceAccountName: billing-bot, containers: [{name: bot, image: bot}]}
  status:
    containerStatuses:
    - {name: bot, containerID: 'containerd://a', image: b, imageID: x, ready: true, restartCount: 0}
";
const CGROUP: &str = "kubepods.slice/kubepods-burstable.slice/\
    kubepods-burstable-pod1a2b3c4d_0000_4000_8000_1234567890ab.slice/\
    cri-containerd-00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff.scope";
const PATH_WORDS: &[&str] =
    &["/", "pod", "-pod", ".slice", ".scope", "kubepods", "crio-", "docker-", "_", "-"];

static DIR: LazyLock<TempDir> = LazyLock::new(|| TempDir::new().expect("a temporary directory"));

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    List(Vec<Patch<'a>>),
    Cgroup(Vec<Patch<'a>>),
}

fn check_list(text: &[u8]) {
    let path = DIR.path().join("pods.yaml");
    fs::write(&path, text).expect("the directory is writable");
    let mut list = file::List::default();
    let Err(error) = list.read(&path) else { return };
    let mut cause: Option<&dyn Error> = Some(&error);
    while let Some(error) = cause {
        let message = error.to_string();
        assert!(!cards::shown_in(message.as_bytes()), "{message}");
        cause = error.source();
    }
}

fn check_cgroup(path: &str) {
    let Some(place) = layout::place(path) else { return };
    let is_id = |id: &str| id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    assert!(place.pod_uid.len() >= 32 && is_id(&place.pod_uid));
    assert!(place.container_id.is_none_or(|id| id.len() == 64 && is_id(&id)));
}

fuzz_target!(|input: Input<'_>| {
    match input {
        Input::List(patches) => check_list(&damaged(LIST.as_bytes(), YAML_WORDS, &patches)),
        Input::Cgroup(patches) => {
            let path = damaged(CGROUP.as_bytes(), PATH_WORDS, &patches);
            check_cgroup(&String::from_utf8_lossy(&path));
        }
    }
});
