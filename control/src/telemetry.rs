//! Sends load figures to the proxy: the GPU and VRAM usage that backends report go over the admin socket at
//! once, without a reload and without a new generation.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use contract::status::{BackendReport, Reports};
use contract::{BackendAddr, Report};

use crate::merge::Row;
use crate::observe::Proxy;
use crate::shared::Shared;

/// Reports within this time are sent together: a report reaches the proxy within 50 ms.
const COALESCE: Duration = Duration::from_millis(20);
/// Sending may take a fifth of the time: in a pool so large that it takes longer, more reports are sent
/// together.
const PAUSE_PER_WORK: u32 = 4;
/// The most reports of one call.
const BATCH: usize = 2_000;

/// Sends changed figures when notified.
pub async fn run(shared: Arc<Shared>, proxy: Proxy) {
    let mut sent = HashMap::new();
    loop {
        shared.telemetry_changed.notified().await;
        let begun = Instant::now();
        let changed = changed(reports(&shared), &mut sent, shared.clock.now().unix_ms);
        let mut delivered = true;
        for batch in changed.chunks(BATCH) {
            let reports = Reports {
                reports: batch
                    .iter()
                    .map(|(addr, report)| wire(*addr, report))
                    .collect(),
            };
            if let Err(unknown) = proxy.report(&reports).await {
                tracing::debug!("figures not delivered: {unknown}");
                delivered = false;
                break;
            }
            shared
                .counters
                .reports_sent
                .fetch_add(batch.len() as u64, Relaxed);
            sent.extend(batch.iter().copied());
        }
        shared.reports_undelivered.store(!delivered, Relaxed);
        if !delivered {
            // A proxy that returns has only the figures of its file.
            sent.clear();
        }
        tokio::time::sleep(COALESCE.max(begun.elapsed() * PAUSE_PER_WORK)).await;
    }
}

/// The last report of each server.
fn reports(shared: &Shared) -> Vec<(BackendAddr, Report)> {
    of_servers(&shared.model().rows())
}

/// A report is about a server, and the proxy takes it for each pool that lists the server: of several, the newest
/// is sent.
fn of_servers(rows: &[Row]) -> Vec<(BackendAddr, Report)> {
    let mut reports: Vec<(BackendAddr, Report)> = rows
        .iter()
        .map(|row| (row.key.addr, row.backend.report))
        .collect();
    reports.sort_by_key(|(addr, report)| (*addr, std::cmp::Reverse(report.reported_at_ms)));
    reports.dedup_by_key(|(addr, _)| *addr);
    reports
}

/// The reports that have not been sent to the proxy yet. Sent reports of backends that are gone are forgotten.
fn changed(
    mut reports: Vec<(BackendAddr, Report)>,
    sent: &mut HashMap<BackendAddr, Report>,
    now_ms: u64,
) -> Vec<(BackendAddr, Report)> {
    if sent.len() > reports.len() {
        let known: HashSet<BackendAddr> = reports.iter().map(|(addr, _)| *addr).collect();
        sent.retain(|addr, _| known.contains(addr));
    }
    // Missing figures are sent too: otherwise earlier ones would count until they fade.
    reports.retain(|(addr, report)| {
        let before = sent.get(addr);
        before.is_none_or(|before| !is_same(before, report))
    });
    for (_, report) in &mut reports {
        report.reported_at_ms.get_or_insert(now_ms);
    }
    reports
}

/// Figures of discovery may carry no time of their own; the figures then decide.
fn is_same(before: &Report, now: &Report) -> bool {
    let same_time = now.reported_at_ms.is_none() || now.reported_at_ms == before.reported_at_ms;
    same_time && (now.gpu_usage, now.vram_usage) == (before.gpu_usage, before.vram_usage)
}

fn wire(addr: BackendAddr, report: &Report) -> BackendReport {
    BackendReport {
        ip: addr.ip(),
        port: addr.port(),
        gpu_usage: report.gpu_usage,
        vram_usage: report.vram_usage,
        reported_at_ms: report.reported_at_ms.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::tests::{key, key_in};
    use crate::clock::Now;
    use crate::merge::merge;
    use crate::registry::ExpiryPolicy;
    use crate::registry::{Registration, Registry};
    use crate::sources::listed::Listed;
    use contract::BackendKey;
    use std::collections::BTreeMap;

    #[test]
    fn the_same_figures_with_a_later_time_are_news() {
        let report = |gpu, at| Report {
            gpu_usage: Some(gpu),
            reported_at_ms: at,
            ..Report::default()
        };
        assert!(is_same(&report(0.5, Some(1)), &report(0.5, Some(1))));
        assert!(!is_same(&report(0.5, Some(1)), &report(0.5, Some(2))));
        assert!(!is_same(&report(0.5, Some(1)), &report(0.6, None)));
        assert!(is_same(&report(0.5, Some(1)), &report(0.5, None)));
        let none = Report::default();
        assert!(!is_same(&report(0.5, Some(1)), &none));
        let sent_none = Report {
            reported_at_ms: Some(2),
            ..none
        };
        assert!(is_same(&sent_none, &none), "once is enough");
    }

    #[test]
    fn of_a_server_in_two_pools_the_newest_report_is_sent() {
        let registered = |key: BackendKey, gpu, at| {
            let mut registry = Registry::default();
            let said = Registration {
                report: Report {
                    gpu_usage: gpu,
                    ..Report::default()
                },
                ..Registration::of(key)
            };
            let now = Now {
                monotonic_ms: at,
                listened_ms: at,
                unix_ms: at,
            };
            let policy = ExpiryPolicy {
                ttl_ms: 15_000,
                warmup_ms: 0,
                freeze: false,
            };
            registry.register(&said, now, policy).expect("not full");
            registry
        };
        let nothing = BTreeMap::new();
        let listed = Listed {
            statics: &nothing,
            discovered: &[],
        };
        let sent = |in_default, in_chat| {
            let mut registry = registered(key(1), Some(0.25), in_default);
            let elsewhere = registered(key_in("chat", 1), Some(0.75), in_chat);
            registry.entries.extend(elsewhere.entries);
            let reports = of_servers(&merge(listed, &registry));
            let usages = reports
                .into_iter()
                .map(|(addr, report)| (addr, report.gpu_usage));
            usages.collect::<Vec<_>>()
        };
        assert_eq!(sent(5, 6), [(key(1).addr, Some(0.75))]);
        assert_eq!(sent(6, 5), [(key(1).addr, Some(0.25))]);
    }

    #[test]
    fn each_report_is_sent_once_and_those_of_who_is_gone_are_forgotten() {
        let addr = |last| BackendAddr::new([10, 0, 0, last].into(), 9001);
        let reports = |lasts: std::ops::Range<u8>| -> Vec<(BackendAddr, Report)> {
            lasts.map(|last| (addr(last), Report::default())).collect()
        };
        let mut sent = HashMap::new();
        let first = changed(reports(0..200), &mut sent, 7);
        assert!(
            first
                .iter()
                .all(|(_, report)| report.reported_at_ms == Some(7))
        );
        sent.extend(first);
        assert_eq!(changed(reports(0..200), &mut sent, 8), []);
        let new = changed(reports(190..210), &mut sent, 9);
        let new: Vec<BackendAddr> = new.into_iter().map(|(addr, _)| addr).collect();
        assert_eq!(new, (200..210).map(addr).collect::<Vec<_>>());
        assert_eq!(sent.len(), 10);
    }
}
