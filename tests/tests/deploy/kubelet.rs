//! What a kubelet does with a pod, as far as these tests need it: its volumes, its security
//! context and its containers, handed to the runtime as they are written; its status to the API
//! server.

use std::{
    collections::HashMap,
    fs::{self, Permissions},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use nix::sched::{CloneFlags, setns};
use pcigate_tests::{apiserver::ApiServer, wait};
use serde_json::{Value, json};

use crate::{
    containerd::Containerd,
    cri::{
        Capability, ContainerConfig, ContainerId, ContainerMetadata, ContainerSecurity,
        ContainerStatusResponse, CreateContainerRequest, EXITED, Empty, ExecSyncRequest,
        ExecSyncResponse, ImageSpec, Int64Value, KeyValue, LinuxContainer, LinuxSandbox, Mount,
        NamespaceOption, PodSandboxConfig, PodSandboxMetadata, RunPodSandboxRequest, SandboxId,
        SandboxSecurity, SecurityProfile,
    },
};

/// The node of the tests.
pub const NODE: &str = "node-1";
/// How often a pod is tried.
const ATTEMPTS_MAX: u32 = 5;
/// Where a ServiceAccount's token is in a pod.
const TOKEN_PLACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// As kubelets have it (`securitycontext/util.go`).
const MASKED: [&str; 9] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
];
const READONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A node with a runtime and an API server.
pub struct Kubelet<'a> {
    pub containerd: &'a Containerd,
    pub server: &'a ApiServer,
    /// ConfigMaps and Secrets that volumes name.
    pub objects: Vec<Value>,
    /// What a pod's token is.
    pub token: String,
}

/// A pod that runs.
pub struct Pod {
    pub name: String,
    pub sandbox: String,
    pub container: String,
    directory: PathBuf,
}

impl Kubelet<'_> {
    /// Runs a pod: at the API server first, as schedulers have it; then its init containers, one
    /// after the other to their good end, and its container.
    pub fn run(&self, namespace: &str, name: &str, template: &Value) -> Pod {
        let collection = format!("/api/v1/namespaces/{namespace}/pods");
        let mut spec = template["spec"].clone();
        spec["nodeName"] = json!(NODE);
        let made = self.server.put(
            &collection,
            json!({"apiVersion": "v1", "kind": "Pod", "spec": spec,
                   "metadata": {"name": name, "labels": template["metadata"]["labels"]}}),
        );
        let uid = made["metadata"]["uid"].as_str().unwrap().to_owned();
        let directory = self.containerd.path(&format!("pods/{uid}"));
        fs::create_dir_all(&directory).unwrap();
        let volumes = self.volumes(&spec, &directory);
        let mut pod = Pod {
            name: name.to_owned(),
            sandbox: String::new(),
            container: String::new(),
            directory,
        };
        // Where a pod is not known yet to an agent that refuses what it does not know, its first
        // process is killed, and kubelets try again.
        let mut attempts = 0..ATTEMPTS_MAX;
        wait::until("a pod that starts", || {
            let attempt = attempts.next().unwrap_or_else(|| panic!("{name} never starts"));
            let config = self.sandbox(namespace, &uid, &spec, &pod, attempt);
            let started = self.start(&mut pod, &config, &spec, &volumes);
            let Err(error) = started else { return Some(()) };
            eprintln!("{name} does not start: {}", error.message());
            self.containerd.stop(&pod.sandbox);
            None
        });
        let container = &spec["containers"][0];
        let status = json!({"phase": "Running", "containerStatuses": [{
            "name": container["name"], "containerID": format!("containerd://{}", pod.container),
            "image": container["image"], "imageID": "", "ready": true, "restartCount": 0}]});
        self.server.change(&format!("{collection}/{name}"), &json!({"status": status}));
        pod
    }

    fn start(
        &self,
        pod: &mut Pod,
        config: &PodSandboxConfig,
        spec: &Value,
        volumes: &HashMap<String, PathBuf>,
    ) -> Result<(), tonic::Status> {
        let request = RunPodSandboxRequest { config: Some(config.clone()) };
        let client = self.containerd.client();
        let made: SandboxId = client.call("RuntimeService/RunPodSandbox", request)?;
        self.containerd.keep(&made.id);
        pod.sandbox = made.id;
        if spec["automountServiceAccountToken"] == true && spec["hostNetwork"] != true {
            self.bring_api_server(config);
        }
        for init in spec["initContainers"].as_array().into_iter().flatten() {
            pod.container = self.container(pod, config, spec, init, volumes)?;
            let ended = wait::until("an init container's end", || {
                let status = self.status(&pod.container);
                (status.0 == EXITED).then_some(status)
            });
            assert_eq!(ended.1, 0, "{}", self.log(pod));
        }
        pod.container = self.container(pod, config, spec, &spec["containers"][0], volumes)?;
        Ok(())
    }

    fn sandbox(
        &self,
        namespace: &str,
        uid: &str,
        spec: &Value,
        pod: &Pod,
        attempt: u32,
    ) -> PodSandboxConfig {
        let name = pod.name.as_str();
        let metadata = PodSandboxMetadata {
            name: name.to_owned(),
            uid: uid.to_owned(),
            namespace: namespace.to_owned(),
            attempt,
        };
        let labels = [("name", name), ("namespace", namespace), ("uid", uid)];
        let labels =
            labels.map(|(key, value)| (format!("io.kubernetes.pod.{key}"), value.to_owned()));
        PodSandboxConfig {
            metadata: Some(metadata),
            hostname: if spec["hostNetwork"] == true { String::new() } else { name.to_owned() },
            log_directory: pod.directory.display().to_string(),
            labels: labels.into(),
            linux: Some(LinuxSandbox {
                cgroup_parent: format!("{}/burstable/pod{uid}", self.containerd.pods()),
                security: Some(SandboxSecurity {
                    namespaces: Some(namespaces(spec)),
                    seccomp: Some(SecurityProfile { kind: 0 }),
                    apparmor: None,
                }),
            }),
        }
    }

    /// Creates and starts a container; its id.
    fn container(
        &self,
        pod: &Pod,
        sandbox: &PodSandboxConfig,
        spec: &Value,
        container: &Value,
        volumes: &HashMap<String, PathBuf>,
    ) -> Result<String, tonic::Status> {
        let name = container["name"].as_str().unwrap().to_owned();
        let mut mounts = mounts(container, volumes);
        let mut envs = vec![];
        if spec["automountServiceAccountToken"] == true {
            mounts.push(self.token(&pod.directory));
            let address = self.server.url();
            let (host, port) = address.trim_start_matches("https://").split_once(':').unwrap();
            envs.push(("KUBERNETES_SERVICE_HOST", host.to_owned()));
            envs.push(("KUBERNETES_SERVICE_PORT", port.to_owned()));
        }
        let texts = |value: &Value| -> Vec<String> {
            let all = value.as_array().into_iter().flatten();
            all.map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        let given = container["env"].as_array().into_iter().flatten();
        let given = given.map(|pair| KeyValue {
            key: pair["name"].as_str().unwrap().to_owned(),
            value: match pair["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                Some("spec.nodeName") => NODE.to_owned(),
                Some(other) => panic!("the field {other} is not known here"),
                None => pair["value"].as_str().unwrap().to_owned(),
            },
        });
        let more = envs.into_iter().map(|(key, value)| KeyValue { key: key.to_owned(), value });
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.clone(), attempt: 0 }),
            image: Some(ImageSpec { image: container["image"].as_str().unwrap().to_owned() }),
            command: texts(&container["command"]),
            args: texts(&container["args"]),
            envs: given.chain(more).collect(),
            mounts,
            labels: [("io.kubernetes.container.name".to_owned(), name.clone())].into(),
            log_path: format!("{name}.log"),
            linux: Some(LinuxContainer { security: Some(security(spec, container)) }),
        };
        let request = CreateContainerRequest {
            sandbox: pod.sandbox.clone(),
            config: Some(config),
            sandbox_config: Some(sandbox.clone()),
        };
        let client = self.containerd.client();
        let made: ContainerId = client.call("RuntimeService/CreateContainer", request)?;
        client.call::<_, Empty>("RuntimeService/StartContainer", made.clone())?;
        Ok(made.id)
    }

    /// The API server of the tests is on the node's loopback: this puts it on the pod's.
    fn bring_api_server(&self, config: &PodSandboxConfig) {
        let cgroup = config.linux.as_ref().map(|linux| linux.cgroup_parent.as_str()).unwrap();
        let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        let mut processes = processes.filter(|path| {
            fs::read_to_string(path.join("cgroup")).is_ok_and(|text| text.contains(cgroup))
        });
        let first = processes.next().expect("a sandbox has a process");
        let network = fs::File::open(first.join("ns/net")).unwrap();
        let address = self.server.url().trim_start_matches("https://").to_owned();
        let server = address.clone();
        let listener = std::thread::spawn(move || {
            setns(network, CloneFlags::CLONE_NEWNET).unwrap();
            TcpListener::bind(&address).unwrap()
        });
        let listener = listener.join().unwrap();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Either side's end is told by the other's.
                let Ok(upstream) = TcpStream::connect(&server) else { continue };
                for (mut from, mut to) in [
                    (client.try_clone().unwrap(), upstream.try_clone().unwrap()),
                    (upstream, client),
                ] {
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
            }
        });
    }

    /// Where each volume is.
    fn volumes(&self, spec: &Value, directory: &Path) -> HashMap<String, PathBuf> {
        let mut places = HashMap::new();
        let group = spec["securityContext"]["fsGroup"].as_u64();
        for volume in spec["volumes"].as_array().into_iter().flatten() {
            let name = volume["name"].as_str().unwrap();
            let place = directory.join("volumes").join(name);
            let place = if let Some(path) = volume["hostPath"]["path"].as_str() {
                if volume["hostPath"]["type"] == "DirectoryOrCreate" {
                    fs::create_dir_all(path).unwrap();
                }
                assert!(Path::new(path).is_dir(), "hostPath {path} is no directory");
                path.into()
            } else {
                fs::create_dir_all(&place).unwrap();
                self.fill(volume, &place);
                place
            };
            if let Some(group) = group {
                give(&place, u32::try_from(group).unwrap());
            }
            places.insert(name.to_owned(), place);
        }
        places
    }

    fn fill(&self, volume: &Value, place: &Path) {
        for (kind, named) in [
            ("ConfigMap", &volume["configMap"]["name"]),
            ("Secret", &volume["secret"]["secretName"]),
        ] {
            if let Some(name) = named.as_str() {
                let of_kind =
                    |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
                let object = self.objects.iter().find(of_kind);
                let object = object.unwrap_or_else(|| panic!("no {kind} {name}"));
                write_data(object, place);
                if let Some(mode) = volume["secret"]["defaultMode"].as_u64() {
                    for file in fs::read_dir(place).unwrap().flatten() {
                        let mode = Permissions::from_mode(u32::try_from(mode).unwrap());
                        fs::set_permissions(file.path(), mode).unwrap();
                    }
                }
            }
        }
        for source in volume["projected"]["sources"].as_array().into_iter().flatten() {
            if source["serviceAccountToken"].is_object() {
                let path = source["serviceAccountToken"]["path"].as_str().unwrap();
                let audience = source["serviceAccountToken"]["audience"].as_str().unwrap();
                fs::write(place.join(path), bound_token(audience)).unwrap();
            } else {
                self.fill(source, place);
            }
        }
    }

    fn token(&self, directory: &Path) -> Mount {
        let place = directory.join("token");
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("token"), &self.token).unwrap();
        fs::write(place.join("ca.crt"), self.server.authority()).unwrap();
        fs::write(place.join("namespace"), "pcigate-system").unwrap();
        mount(&place, TOKEN_PLACE, true)
    }

    /// Ends a pod, here and at the API server.
    pub fn stop(&self, namespace: &str, pod: &Pod) {
        self.containerd.stop(&pod.sandbox);
        self.server.remove(&format!("/api/v1/namespaces/{namespace}/pods/{}", pod.name));
    }

    /// Runs a command in a pod's container. Where the runtime cannot even start it, that is the
    /// answer.
    pub fn exec(&self, pod: &Pod, command: &[&str]) -> ExecSyncResponse {
        let request = ExecSyncRequest {
            container: pod.container.clone(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            timeout: 20,
        };
        let answer = self.containerd.client().call("RuntimeService/ExecSync", request);
        answer.unwrap_or_else(|error| ExecSyncResponse {
            stdout: vec![],
            stderr: error.message().as_bytes().to_vec(),
            exit_code: -1,
        })
    }

    /// State and exit code.
    pub fn status(&self, container: &str) -> (i32, i32) {
        let id = ContainerId { id: container.to_owned() };
        let client = self.containerd.client();
        let status: ContainerStatusResponse =
            client.call("RuntimeService/ContainerStatus", id).unwrap();
        let status = status.status.unwrap();
        (status.state, status.exit_code)
    }

    /// What a pod's containers have said.
    pub fn log(&self, pod: &Pod) -> String {
        let logs = fs::read_dir(&pod.directory).unwrap().flatten().map(|entry| entry.path());
        let logs = logs.filter(|path| path.extension().is_some_and(|kind| kind == "log"));
        logs.map(|path| fs::read_to_string(path).unwrap_or_default()).collect()
    }

    /// Waits for a line of a pod's containers.
    pub fn said(&self, pod: &Pod, what: &str) {
        wait::until(what, || {
            let log = self.log(pod);
            let ended = self.status(&pod.container);
            assert!(ended.0 != EXITED, "{} ended ({}):\n{log}", pod.name, ended.1);
            log.contains(what).then_some(())
        });
    }
}

/// The token of a pod of the tests for an audience.
pub fn bound_token(audience: &str) -> String {
    format!("bound-token-for-{audience}")
}

fn write_data(object: &Value, place: &Path) {
    for (key, text) in object["data"].as_object().into_iter().flatten() {
        let text = text.as_str().unwrap();
        let bytes = match object["kind"].as_str() {
            Some("Secret") => STANDARD.decode(text).unwrap(),
            _ => text.as_bytes().to_vec(),
        };
        fs::write(place.join(key), bytes).unwrap();
    }
}

/// What `fsGroup` is for.
fn give(place: &Path, group: u32) {
    for path in std::iter::once(place.to_owned())
        .chain(fs::read_dir(place).unwrap().flatten().map(|entry| entry.path()))
    {
        chown(&path, None, Some(group)).unwrap();
        if path.is_dir() {
            fs::set_permissions(&path, Permissions::from_mode(0o2775)).unwrap();
        }
    }
}

fn mount(from: &Path, to: &str, readonly: bool) -> Mount {
    let (container_path, host_path) = (to.to_owned(), from.display().to_string());
    Mount { container_path, host_path, readonly, propagation: 0 }
}

fn mounts(container: &Value, volumes: &HashMap<String, PathBuf>) -> Vec<Mount> {
    let all = container["volumeMounts"].as_array().into_iter().flatten();
    let one = |one: &Value| {
        let text = |name: &str| one[name].as_str();
        let volume = &volumes[text("name").unwrap()];
        let from = text("subPath").map_or_else(|| volume.clone(), |path| volume.join(path));
        mount(&from, text("mountPath").unwrap(), one["readOnly"] == true)
    };
    all.map(one).collect()
}

fn namespaces(spec: &Value) -> NamespaceOption {
    let node = |field: &str, otherwise: i32| if spec[field] == true { 2 } else { otherwise };
    NamespaceOption { network: node("hostNetwork", 0), pid: node("hostPID", 1), ipc: 0 }
}

/// The container's, where it does not say the pod's.
fn security(spec: &Value, container: &Value) -> ContainerSecurity {
    let (own, pods) = (&container["securityContext"], &spec["securityContext"]);
    let of = |field: &str| if own[field].is_null() { &pods[field] } else { &own[field] };
    let number = |field: &str| of(field).as_i64().map(|value| Int64Value { value });
    let texts = |value: &Value| -> Vec<String> {
        let all = value.as_array().into_iter().flatten();
        all.map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let profile = |field: &str| match of(field)["type"].as_str() {
        Some("RuntimeDefault") => Some(SecurityProfile { kind: 0 }),
        Some("Unconfined") => Some(SecurityProfile { kind: 1 }),
        None => None,
        Some(other) => panic!("{field} {other} is not known here"),
    };
    let lists = |list: &[&str]| list.iter().map(|&path| path.to_owned()).collect();
    ContainerSecurity {
        capabilities: Some(Capability {
            add: texts(&own["capabilities"]["add"]),
            drop: texts(&own["capabilities"]["drop"]),
        }),
        privileged: own["privileged"] == true,
        namespaces: Some(namespaces(spec)),
        user: number("runAsUser"),
        group: number("runAsGroup"),
        readonly_rootfs: own["readOnlyRootFilesystem"] == true,
        supplemental_groups: pods["fsGroup"].as_i64().into_iter().collect(),
        no_new_privs: own["allowPrivilegeEscalation"] == false,
        masked_paths: lists(&MASKED),
        readonly_paths: lists(&READONLY),
        seccomp: profile("seccompProfile"),
        // The tests' runtime has none.
        apparmor: None,
    }
}
