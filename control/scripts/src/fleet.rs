//! A fleet of GPU nodes as a cluster's discovery would list it: nodes come and go, figures drift.

use std::net::Ipv4Addr;

use contract::config::DEFAULT_WEIGHT;
use contract::{Backend, BackendAddr, Name, Report};
use fastrand::Rng;
use serde_json::{Value, json};

use crate::gauge::Gauge;

/// Every node there can be, listed at the moment or not.
pub struct Fleet {
    nodes: Vec<Node>,
}

struct Node {
    addr: BackendAddr,
    is_listed: bool,
    gpu: Gauge,
    vram: Gauge,
}

/// Who came and who left in one step.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub came: Vec<BackendAddr>,
    pub left: Vec<BackendAddr>,
}

impl Fleet {
    /// How likely a listed node leaves in one step, and how likely an absent one comes back: with
    /// these, three nodes of four are listed on average.
    const LEAVES: f64 = 0.15;
    const COMES: f64 = 0.45;

    /// A fleet with all of its nodes listed.
    pub fn new(addrs: Vec<BackendAddr>, rng: &mut Rng) -> Fleet {
        let node = |addr| Node {
            addr,
            is_listed: true,
            gpu: Gauge::gpu(rng),
            vram: Gauge::vram(rng),
        };
        Fleet {
            nodes: addrs.into_iter().map(node).collect(),
        }
    }

    /// One interval passes. At least one node stays listed, whatever the dice say.
    pub fn step(&mut self, rng: &mut Rng) -> Changes {
        let mut changes = Changes::default();
        let mut listed = self.nodes.iter().filter(|node| node.is_listed).count();
        for node in &mut self.nodes {
            node.gpu.drift(rng);
            node.vram.drift(rng);
            if !node.is_listed && rng.f64() < Fleet::COMES {
                node.is_listed = true;
                listed += 1;
                changes.came.push(node.addr);
            } else if node.is_listed && listed > 1 && rng.f64() < Fleet::LEAVES {
                node.is_listed = false;
                listed -= 1;
                changes.left.push(node.addr);
            }
        }
        changes
    }

    /// What `k8s_endpoints.json` says of the fleet, which is in `pool`. `updated_at` is in unix seconds.
    pub fn document(&self, pool: Option<&Name>, updated_at: u64) -> Value {
        let entry = |backend: Backend| {
            let mut entry = backend.to_json();
            if let Some(pool) = pool {
                entry["pool"] = pool.as_str().into();
            }
            entry
        };
        let backends: Vec<Value> = self.listed().map(entry).collect();
        json!({ "source": "gen_k8s_endpoints", "updated_at": updated_at, "backends": backends })
    }

    pub fn listed(&self) -> impl Iterator<Item = Backend> {
        let listed = self.nodes.iter().filter(|node| node.is_listed);
        listed.map(|node| Backend {
            addr: node.addr,
            weight: DEFAULT_WEIGHT,
            enabled: true,
            is_warming_up: false,
            report: Report {
                gpu_usage: Some(node.gpu.share()),
                vram_usage: Some(node.vram.share()),
                ..Report::default()
            },
            batch: None,
        })
    }
}

/// `count` addresses such as a cluster hands out; nothing answers there.
pub fn invented_addrs(count: u16) -> Vec<BackendAddr> {
    const PORT: u16 = 9001;
    // 10.0.0.11 to 10.0.0.210, then 10.0.1.11 and on.
    const PER_NET: u16 = 200;
    let addr = |index: u16| {
        let host = (index % PER_NET + 11) as u8;
        let ip = Ipv4Addr::new(10, 0, (index / PER_NET) as u8, host);
        BackendAddr::new(ip.into(), PORT)
    };
    (0..count).map(addr).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn listed(fleet: &Fleet) -> HashSet<BackendAddr> {
        fleet.listed().map(|backend| backend.addr).collect()
    }

    #[test]
    fn a_new_fleet_lists_every_node_once() {
        for count in [0, 1, 3, 200, 201, 1000] {
            let fleet = Fleet::new(invented_addrs(count), &mut Rng::with_seed(7));
            assert_eq!(listed(&fleet).len(), usize::from(count));
        }
    }

    #[test]
    fn nodes_come_and_go_and_one_always_stays() {
        for seed in 0..20 {
            let mut rng = Rng::with_seed(seed);
            let all: HashSet<BackendAddr> = invented_addrs(3).into_iter().collect();
            let mut fleet = Fleet::new(invented_addrs(3), &mut rng);
            let (mut came, mut left) = (HashSet::new(), HashSet::new());
            for _ in 0..500 {
                let before = listed(&fleet);
                let changes = fleet.step(&mut rng);
                let after = listed(&fleet);
                assert!(!after.is_empty() && after.is_subset(&all));
                assert_eq!(
                    changes.came.iter().copied().collect::<HashSet<_>>(),
                    &after - &before
                );
                assert_eq!(
                    changes.left.iter().copied().collect::<HashSet<_>>(),
                    &before - &after
                );
                came.extend(changes.came);
                left.extend(changes.left);
            }
            assert_eq!(
                (&came, &left),
                (&all, &all),
                "every node moves in 500 steps"
            );
        }
    }

    #[test]
    fn what_is_handed_out_is_what_the_contract_takes() {
        let mut rng = Rng::with_seed(3);
        let mut fleet = Fleet::new(invented_addrs(5), &mut rng);
        for _ in 0..100 {
            fleet.step(&mut rng);
            let file = json!({
                "listen": { "host": "0.0.0.0", "port": 10080 },
                "backends": fleet.document(None, 1_730_000_000)["backends"],
            });
            let checked = contract::check(file.to_string().as_bytes(), &Default::default());
            let checked = checked.expect("a valid file");
            assert!(checked.unknown_keys.is_empty(), "{}", checked.unknown_keys);
        }
    }
}
