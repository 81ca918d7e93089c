//! A full node: how many pods and policies it has, where a container's cgroup is, and a policy of
//! usual size.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

/// Pods of the node: the kubelet's usual maximum.
pub const PODS: usize = 250;
/// Policies, each of which selects pods of its own.
pub const POLICIES: usize = 200;
/// Rules of a policy: half about programs, half about destinations.
pub const RULES: usize = 10;

pub fn container_id(number: usize) -> String {
    format!("{number:064x}")
}

/// The cgroup of a container below the root, by the systemd driver and containerd.
pub fn container(root: &Path, uid: &str, id: &str) -> PathBuf {
    let pod = format!("kubepods-burstable-pod{}.slice", uid.replace('-', "_"));
    root.join("kubepods-burstable.slice").join(pod).join(format!("cri-containerd-{id}.scope"))
}

/// A policy that selects `app: bot-NUMBER`.
pub fn policy(number: usize) -> String {
    let mut text = format!(
        "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {{name: bot-{number}, namespace: payments}}
spec:
  selector: {{matchLabels: {{app: bot-{number}}}}}
  mode: enforce
  exec:
    defaultAction: allow
    rules:
"
    );
    for rule in 0..RULES / 2 {
        let path = format!("/opt/vendor-{number}-{rule}/*/bin/*");
        writeln!(text, "      - {{id: exec-{rule}, action: deny, paths: [\"{path}\"]}}").unwrap();
    }
    text.push_str("  egress:\n    defaultAction: deny\n    rules:\n");
    for rule in 0..RULES / 2 {
        let cidr = format!("10.{}.{}.{rule}/32", number % 250, number / 250);
        writeln!(
            text,
            "      - {{id: egress-{rule}, action: allow, to: [{{cidr: {cidr}}}], \
             ports: [{{port: 443, protocol: TCP}}]}}"
        )
        .unwrap();
    }
    text
}
