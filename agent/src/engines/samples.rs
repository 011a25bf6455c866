//! Many samples of one name as one figure.

use std::collections::BTreeMap;

use crate::exposition::{Exposition, Sample};
use crate::figures::{count, share};

/// Labels in which copies of one thing differ: the ranks of one engine all say what it as a whole
/// has in its queue.
const COPIES: [&str; 3] = ["tp_rank", "pp_rank", "moe_ep_rank"];

/// A document's samples, and what was wrong with those that were asked for.
pub struct Samples<'e, 'a> {
    pub exposition: &'e Exposition<'a>,
    pub faults: Vec<String>,
}

/// No choice among the samples of a name.
pub fn every(_: &Sample) -> bool {
    true
}

impl<'e, 'a> Samples<'e, 'a> {
    pub fn of(exposition: &'e Exposition<'a>) -> Self {
        Samples {
            exposition,
            faults: Vec::new(),
        }
    }

    pub fn have(&self, name: &str) -> bool {
        self.exposition.of(name).next().is_some()
    }

    /// The sum over models, engines and whatever else is labelled, copies counted once. A bad value
    /// among them spoils the sum.
    pub fn count(&mut self, name: &str, chosen: impl Fn(&Sample) -> bool) -> Option<u64> {
        let mut things: BTreeMap<Vec<(&str, &str)>, u64> = BTreeMap::new();
        for sample in self.exposition.of(name).filter(|sample| chosen(sample)) {
            let value = count(name, sample.value);
            let value = value.map_err(|fault| self.faults.push(fault)).ok()?;
            let most = things.entry(without_copies(sample)).or_default();
            *most = value.max(*most);
        }
        if things.is_empty() {
            self.faults.push(format!("no {name}"));
            return None;
        }
        Some(things.values().sum())
    }

    /// The largest share under the first of `names` that is there: it is in the fullest cache that
    /// requests are evicted first.
    pub fn fullest(&mut self, names: &[&str], chosen: impl Fn(&Sample) -> bool) -> Option<f64> {
        let mut fullest = None;
        let name = names.iter().find(|name| self.have(name));
        for sample in name.into_iter().flat_map(|name| self.exposition.of(name)) {
            if chosen(sample) {
                let value = share(sample.name, sample.value);
                let value = value.map_err(|fault| self.faults.push(fault)).ok()?;
                fullest = Some(value.max(fullest.unwrap_or(0.0)));
            }
        }
        if fullest.is_none() {
            self.faults.push(format!("no {}", names.join(" or ")));
        }
        fullest
    }
}

fn without_copies<'s>(sample: &'s Sample) -> Vec<(&'s str, &'s str)> {
    let labels = sample.labels.iter();
    let mut kept: Vec<(&str, &str)> = labels
        .map(|(name, value)| (*name, value.as_ref()))
        .filter(|(name, _)| !COPIES.contains(name))
        .collect();
    kept.sort_unstable();
    kept
}
