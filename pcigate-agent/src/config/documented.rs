//! The configuration with every key, its default and meaning: a file that can be used.

/// What `--print-config` prints.
pub const DOCUMENTED: &str = "\
# pcigate-agent configuration. Keys with a leading `#` have no default value.

# Name of this node in its records, or $VARIABLE of the environment that holds it (in a pod, by the
# downward API: spec.nodeName). Default: the name in the node's certificate (they must be equal), or
# without a collector the host's name.
# nodeName: node-1

# Directory of the cgroup that holds all governed pods. Default: kubepods.slice or kubepods below
# the mount point of cgroup2.
# cgroupRoot: /sys/fs/cgroup/kubepods.slice

# Directory for the spool and the last checkpoint seen of the ledger. It must survive a reboot.
stateDir: /var/lib/pcigate

# Policy files, and directories of *.yaml files. With customResources it may be left out.
policies: [/etc/pcigate/policies]

# Whether the AgentPolicy, ClusterAgentPolicy and Target objects of the API server are in force too,
# with the files as one set. Needs workloads.source kubernetes. Until they were told once, all is
# refused.
customResources: false

# Where workloads are learned from. Required.
workloads:
  # file: a v1.PodList. kubernetes: the API server's pods of this node (nodeName).
  source: file
  # The file; required with source file.
  file: /etc/pcigate/workloads.yaml
  # With source kubernetes, outside of a pod: how to reach the API server. Default: by the
  # ServiceAccount of the agent's own pod.
  # kubeconfig: /etc/pcigate/kubeconfig

# Where records are sent. Default: nowhere; they stay in the spool until it is full.
collector:
  # https://HOST:PORT; HOST must be a name in the collector's certificate. Required.
  url: https://pcigate-collector:7443
  # Directory with ca.pem, cert.pem and key.pem of this node.
  tlsDir: /etc/pcigate/tls
  # In Kubernetes: have the certificate issued against the token of the agent's own pod, and
  # renewed; tlsDir is written then, and nodeName required. Default: what is in tlsDir is used.
  # enroll:
  #   # The projected token, for the audience of the collector's `enroll`.
  #   tokenFile: /var/run/secrets/pcigate/token
  #   # The authority of the collector's own certificate.
  #   caFile: /etc/pcigate/ca/ca.pem
  #   # Default: port 7444 of the host in collector.url.
  #   url: https://pcigate-collector:7444

# What becomes of cgroups below cgroupRoot that no workload is known for: deny, or allow-and-count.
unknownWorkloads: deny

# Pods no policy governs, although they are below cgroupRoot. They are recorded, nothing is refused
# to them, and Coverage records list them by name and UID. The agent's own pod always is one.
exempt:
  # All pods of these namespaces.
  namespaces: [kube-system]
  # Pods by UID, also such that the list of workloads does not name.
  podUids: []

# What happens while the agent cannot decide: closed = refused. (open: not available yet.)
failMode: closed

# Metrics for Prometheus and answers to probes, in plain HTTP and without log in (docs/metrics.md).
# Default: no such port.
admin:
  # IP:PORT of /healthz, /readyz and /metrics. Required.
  listen: 127.0.0.1:9464
";
