//! Statistics: made up, but growing with the time that a container runs, so that rates can be computed from two looks.

use super::container::Container;
use super::sandbox::Sandbox;
use super::state::{State, now, selects};
use crate::cri::v1::{
    ContainerAttributes, ContainerState, ContainerStats, ContainerStatsFilter, CpuUsage, FilesystemIdentifier,
    FilesystemUsage, LinuxPodSandboxStats, MemoryUsage, NetworkInterfaceUsage, NetworkUsage, PodSandboxAttributes,
    PodSandboxStats, PodSandboxStatsFilter, ProcessUsage, SwapUsage, UInt64Value,
};

/// Where the images and the writable layers would be.
pub(super) const MOUNTPOINT: &str = "/var/lib/crihook-sim";
/// A container uses a fiftieth of a core,
const NANO_CORES: u64 = 20_000_000;
/// this much memory,
const WORKING_SET: u64 = 24 << 20;
/// and sends and receives so many bytes in a second.
const BYTES_PER_SECOND: u64 = 4096;

#[allow(clippy::unnecessary_wraps, reason = "CRI wraps every number that may be unknown; here all are known")]
fn value(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

/// How long it has run, in nanoseconds.
fn ran(container: &Container, at: i64) -> u64 {
    match container.state {
        ContainerState::ContainerRunning => u64::try_from(at - container.started_at).unwrap_or(0),
        _ => 0,
    }
}

fn cpu(at: i64, ran: u64, running: u64) -> CpuUsage {
    let used = ran / 1_000_000_000 * NANO_CORES + ran % 1_000_000_000 * NANO_CORES / 1_000_000_000;
    CpuUsage { timestamp: at, usage_core_nano_seconds: value(used), usage_nano_cores: value(NANO_CORES * running) }
}

fn memory(at: i64, running: u64, limit: Option<u64>) -> MemoryUsage {
    let used = WORKING_SET * running;
    MemoryUsage {
        timestamp: at,
        working_set_bytes: value(used),
        available_bytes: value(limit.map_or(0, |limit| limit.saturating_sub(used))),
        usage_bytes: value(used + used / 4),
        rss_bytes: value(used / 2),
        page_faults: value(1500 * running),
        major_page_faults: value(0),
    }
}

/// Bytes and inodes under [`MOUNTPOINT`].
pub(super) fn filesystem(at: i64, directory: &str, bytes: u64, inodes: u64) -> FilesystemUsage {
    FilesystemUsage {
        timestamp: at,
        fs_id: Some(FilesystemIdentifier { mountpoint: format!("{MOUNTPOINT}/{directory}") }),
        used_bytes: value(bytes),
        inodes_used: value(inodes),
    }
}

/// A container that does not run has attributes and a writable layer, and nothing that is measured.
pub(super) fn of_container(container: &Container) -> ContainerStats {
    let at = now();
    let running = container.state == ContainerState::ContainerRunning;
    ContainerStats {
        attributes: Some(ContainerAttributes {
            id: container.id.clone(),
            metadata: Some(container.metadata.clone()),
            labels: container.config.labels.clone(),
            annotations: container.config.annotations.clone(),
        }),
        cpu: running.then(|| cpu(at, ran(container, at), 1)),
        memory: running.then(|| memory(at, 1, container.memory_limit())),
        writable_layer: Some(filesystem(at, "containers", 32 << 10, 9)),
        swap: running.then(|| SwapUsage { timestamp: at, swap_available_bytes: value(0), swap_usage_bytes: value(0) }),
    }
}

impl State {
    pub fn list_container_stats(&self, filter: &ContainerStatsFilter) -> Vec<ContainerStats> {
        self.select_containers(&filter.id, &filter.pod_sandbox_id, &filter.label_selector)
            .filter(|c| c.state == ContainerState::ContainerRunning)
            .map(of_container)
            .collect()
    }

    pub fn list_sandbox_stats(&self, filter: &PodSandboxStatsFilter) -> Vec<PodSandboxStats> {
        self.sandboxes
            .values()
            .filter(|s| {
                s.ready && self.matches_sandbox(&filter.id, s) && selects(&filter.label_selector, &s.config.labels)
            })
            .map(|s| self.stats_of_sandbox(s))
            .collect()
    }

    pub fn stats_of_sandbox(&self, sandbox: &Sandbox) -> PodSandboxStats {
        let at = now();
        let members: Vec<_> = self
            .containers
            .values()
            .filter(|c| c.sandbox_id == sandbox.id && c.state == ContainerState::ContainerRunning)
            .collect();
        let running = members.len() as u64;
        let seconds = u64::try_from(at - sandbox.created_at).unwrap_or(0) / 1_000_000_000;
        let interface = NetworkInterfaceUsage {
            name: "eth0".to_owned(),
            rx_bytes: value(BYTES_PER_SECOND * seconds),
            rx_errors: value(0),
            tx_bytes: value(BYTES_PER_SECOND * seconds),
            tx_errors: value(0),
        };
        let on_host = sandbox.ip.is_empty();
        PodSandboxStats {
            attributes: Some(PodSandboxAttributes {
                id: sandbox.id.clone(),
                metadata: Some(sandbox.metadata.clone()),
                labels: sandbox.config.labels.clone(),
                annotations: sandbox.config.annotations.clone(),
            }),
            linux: Some(LinuxPodSandboxStats {
                cpu: Some(cpu(at, members.iter().map(|c| ran(c, at)).sum(), running)),
                memory: Some(memory(at, running, members.iter().map(|c| c.memory_limit()).sum())),
                network: (!on_host).then(|| NetworkUsage {
                    timestamp: at,
                    default_interface: Some(interface.clone()),
                    interfaces: vec![interface],
                }),
                // The sandbox's own process is one.
                process: Some(ProcessUsage { timestamp: at, process_count: value(running + u64::from(sandbox.ready)) }),
                containers: members.into_iter().map(of_container).collect(),
            }),
        }
    }
}
