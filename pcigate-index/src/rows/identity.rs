//! Who acts, and the certificates of nodes.

use pcigate_proto::{Enrollment, Workload};

use super::{C, Rows};

impl Rows {
    pub(super) fn push_workload(&mut self, workload: &Workload) {
        self.bool(C::UnknownWorkload, workload.unknown);
        self.text(C::Namespace, &workload.namespace);
        self.text(C::Pod, &workload.pod);
        self.text(C::PodUid, &workload.pod_uid);
        self.text(C::ServiceAccount, &workload.service_account);
        self.text(C::Container, &workload.container);
        self.text(C::ContainerId, &workload.container_id);
        self.u64(C::CgroupId, workload.cgroup_id);
        self.text(C::CgroupPath, &workload.cgroup_path);
        self.text(C::OwnerKind, &workload.owner_kind);
        self.text(C::OwnerName, &workload.owner_name);
        self.text(C::Image, &workload.image);
        self.text(C::ImageDigest, &workload.image_digest);
    }

    pub(super) fn push_enrollment(&mut self, asked: &Enrollment) {
        self.text(C::AboutNode, &asked.node);
        if !asked.pod.is_empty() {
            self.text(C::Object, &format!("{}/{}", asked.namespace, asked.pod));
        }
        self.text(C::Reason, &asked.reason);
        self.u64(C::Count, asked.count);
    }
}
