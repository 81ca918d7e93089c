//! The kubelet's cgroup paths: which pod and container a directory belongs to. Pure.
//!
//! systemd driver: `kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid>.slice/
//! cri-containerd-<id>.scope`, uid with `_` for `-`; cgroupfs driver: `kubepods/burstable/pod<uid>/
//! <id>`; kind puts `kubelet.slice/kubelet-` in front; CRI-O and Docker have their own scope names.
//! The level never matters, only the names.

/// Whose directory it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Pod UID as the API server writes it (static pods: their config hash).
    pub pod_uid: String,
    /// Container id of the runtime, for a container's directory.
    pub container_id: Option<String>,
}

/// The pod (and container) of a directory, given relative to the governed root. Directories above
/// a pod, and those inside of a container, have none of their own.
#[must_use]
pub fn place(relative: &str) -> Option<Place> {
    let mut pod_uid = None;
    let mut components = relative.split('/').filter(|component| !component.is_empty());
    for component in components.by_ref() {
        pod_uid = pod(component);
        if pod_uid.is_some() {
            break;
        }
    }
    let pod_uid = pod_uid?;
    let container_id = match components.next() {
        None => None,
        Some(component) => Some(container(component)?),
    };
    components.next().is_none().then_some(Place { pod_uid, container_id })
}

/// UID in `pod<uid>` or `…-pod<uid_with_underscores>.slice`.
fn pod(component: &str) -> Option<String> {
    let uid = match component.strip_suffix(".slice") {
        Some(slice) => slice.rsplit_once("-pod").map(|(_, uid)| uid.replace('_', "-"))?,
        None => component.strip_prefix("pod")?.to_owned(),
    };
    let plausible = uid.len() >= 32 && uid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    plausible.then_some(uid)
}

/// Id in `<id>`, `cri-containerd-<id>.scope`, `crio-<id>.scope`, `docker-<id>.scope`.
fn container(component: &str) -> Option<String> {
    let name = component.strip_suffix(".scope").unwrap_or(component);
    let id = name.rsplit_once('-').map_or(name, |(_, id)| id);
    (id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UID: &str = "1a2b3c4d-0000-4000-8000-1234567890ab";
    const ID: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn found(container: bool) -> Option<Place> {
        Some(Place { pod_uid: UID.into(), container_id: container.then(|| ID.to_owned()) })
    }

    #[test]
    fn the_layouts_of_every_driver_and_runtime_are_known() {
        let slice = UID.replace('-', "_");
        for pod in [
            format!("kubepods/burstable/pod{UID}"),
            format!("kubepods/pod{UID}"),
            format!(
                "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{slice}.slice"
            ),
            format!("kubepods.slice/kubepods-pod{slice}.slice"),
            format!("kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{slice}.slice"),
            format!("pod{UID}"),
        ] {
            assert_eq!(place(&pod), found(false), "{pod}");
            for container in [
                ID.to_owned(),
                format!("cri-containerd-{ID}.scope"),
                format!("crio-{ID}.scope"),
                format!("docker-{ID}.scope"),
            ] {
                assert_eq!(place(&format!("{pod}/{container}")), found(true), "{container}");
                assert_eq!(place(&format!("{pod}/{container}/nested")), None);
            }
        }
    }

    #[test]
    fn a_directory_above_a_pod_or_of_something_else_is_nobodys() {
        for path in ["", "kubepods", "kubepods/burstable", "system.slice/podman.service", "podx"] {
            assert_eq!(place(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_path_makes_it_panic(path in "[a-z0-9/._-]{0,80}") {
            let _ = place(&path);
        }
    }
}
