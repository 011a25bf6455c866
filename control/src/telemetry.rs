//! Figures on their way to the proxy: what backends report of GPU and VRAM, sent over the admin
//! socket at once, without a reload and without a new generation.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use contract::status::{BackendReport, Reports};
use contract::{BackendAddr, Report};

use crate::observe::Proxy;
use crate::shared::Shared;

/// Reports that come within this time travel together: a report is at the proxy within 50 ms.
const COALESCE: Duration = Duration::from_millis(20);
/// Of the time, sending may take a fifth: where a pool is so large that it takes longer, more
/// travel together.
const PAUSE_PER_WORK: u32 = 4;
/// The most reports of one call.
const BATCH: usize = 2_000;

/// Sends changed figures whenever the bell rings.
pub async fn run(shared: Arc<Shared>, proxy: Proxy) {
    let mut sent = HashMap::new();
    loop {
        shared.telemetry_changed.notified().await;
        let begun = Instant::now();
        let changed = changed(&shared, &sent);
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
            // A proxy that comes back has only what its file says.
            sent.clear();
        }
        tokio::time::sleep(COALESCE.max(begun.elapsed() * PAUSE_PER_WORK)).await;
    }
}

/// The figures that the proxy has not been sent yet; those of backends that are gone are forgotten.
fn changed(shared: &Shared, sent: &HashMap<BackendAddr, Report>) -> Vec<(BackendAddr, Report)> {
    let now_ms = shared.clock.now().unix_ms;
    let rows = shared.model().rows();
    let figures = rows.iter().filter_map(|row| {
        let report = row.backend.report;
        // That there are no figures is news too: earlier ones would count until they fade.
        let before = sent.get(&row.backend.addr);
        let is_new = before.is_none_or(|before| !is_same(before, &report));
        let reported_at_ms = report.reported_at_ms.or(Some(now_ms));
        is_new.then_some((
            row.backend.addr,
            Report {
                reported_at_ms,
                ..report
            },
        ))
    });
    figures.collect()
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
}
