//! How families of metrics are written: one value, or one for each set of labels.

use contract::status::Timings;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// The histograms' bounds: 2^6 us, and so on up to 2^26 us, which are 67 s.
const SHORTEST_OCTAVE: u32 = 6;
const LONGEST_OCTAVE: u32 = 26;

pub(super) type Encoded = Result<(), std::fmt::Error>;

pub(super) type Label = (&'static str, String);

pub(super) struct Output<'a, 'b>(pub(super) &'a mut DescriptorEncoder<'b>);

impl Output<'_, '_> {
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: u64) -> Encoded {
        let metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(metric)
    }

    pub(super) fn seconds(&mut self, name: &str, help: &str, value: f64) -> Encoded {
        let unit = Some(&Unit::Seconds);
        let metric = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Gauge)?;
        ConstGauge::new(value).encode(metric)
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) -> Encoded {
        let metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(metric)
    }

    /// Histograms in seconds, one bucket an octave. What was timed is cut to whole microseconds, so
    /// all that lies in a bucket below 2^n took less than that.
    pub(super) fn timings<'t, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        timings: impl Iterator<Item = (L, &'t Timings)>,
    ) -> Encoded {
        let Output(encoder) = self;
        let unit = Unit::Seconds;
        let mut metric =
            encoder.encode_descriptor(name, help, Some(&unit), MetricType::Histogram)?;
        for (labels, timings) in timings {
            let buckets = octaves(timings);
            let total = buckets.iter().map(|(_, count)| count).sum();
            let sum = seconds(timings.sum_us);
            let mut member = metric.encode_family(&labels)?;
            member.encode_histogram::<NoLabelSet>(sum, total, &buckets, None)?;
        }
        Ok(())
    }

    pub(super) fn fractions<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        values: impl Iterator<Item = (L, f64)>,
    ) -> Encoded {
        let kind = MetricType::Gauge;
        let mut metric = self.0.encode_descriptor(name, help, unit, kind)?;
        for (labels, value) in values {
            ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    pub(super) fn family<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        values: impl Iterator<Item = (L, u64)>,
    ) -> Encoded {
        let mut metric = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in values {
            let member = metric.encode_family(&labels)?;
            match kind {
                MetricType::Counter => ConstCounter::new(value).encode(member)?,
                _ => ConstGauge::new(value).encode(member)?,
            }
        }
        Ok(())
    }
}

pub(super) fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e6
}

/// The counts of `timings` by the histograms' bounds, in seconds.
pub(super) fn octaves(timings: &Timings) -> Vec<(f64, u64)> {
    let bounds = SHORTEST_OCTAVE..=LONGEST_OCTAVE;
    let mut buckets: Vec<(u64, u64)> = bounds.map(|octave| (1 << octave, 0)).collect();
    buckets.push((u64::MAX, 0));
    for (most, count) in &timings.buckets {
        let bucket = buckets.iter_mut().find(|(bound, _)| most < bound);
        bucket.expect("the last one has no bound").1 += count;
    }
    let in_seconds = buckets.into_iter().map(|(bound, count)| match bound {
        u64::MAX => (f64::INFINITY, count),
        microseconds => (seconds(microseconds), count),
    });
    in_seconds.collect()
}
