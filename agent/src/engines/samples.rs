//! Many samples of one name as one figure.

use std::collections::HashMap;

use crate::exposition::{Exposition, Sample};
use crate::figures::{count, share};

/// One figure's names, the preferred one first. Only the first present one counts, since a program that
/// shows two of them shows the same figure twice.
pub type Names = &'static [&'static str];

/// A document's samples, and the faults of the requested ones.
pub struct Samples<'e> {
    pub exposition: &'e Exposition,
    pub faults: Vec<String>,
}

/// No choice among the samples of a name.
pub fn every(_: &Sample) -> bool {
    true
}

impl<'e> Samples<'e> {
    pub fn of(exposition: &'e Exposition) -> Self {
        Samples {
            exposition,
            faults: exposition.faults().collect(),
        }
    }

    /// The name that counts.
    pub fn shown(&self, names: Names) -> Option<&'static str> {
        names.iter().copied().find(|name| self.exposition.has(name))
    }

    /// The sum over models, engines and whatever else is labelled, copies counted once. A bad value or
    /// a bad line among them spoils the sum: the rest of it would be too little.
    pub fn count(&mut self, names: Names, chosen: impl Fn(&Sample) -> bool) -> Option<u64> {
        let Some(name) = self.shown(names) else {
            self.faults.push(format!("no {}", names[0]));
            return None;
        };
        let samples = self.exposition.of(name).filter(|sample| chosen(sample));
        let samples: Vec<&Sample> = samples.collect();
        // Where a program breaks its total down by priority, the total has the empty one.
        let has_total = samples.iter().any(|sample| is_total(sample));
        let mut things: HashMap<u64, u64> = HashMap::new();
        for sample in samples {
            if has_total && !is_total(sample) {
                continue;
            }
            match count(sample.name, sample.value) {
                Ok(value) => {
                    let most = things.entry(sample.thing).or_default();
                    *most = value.max(*most);
                }
                Err(fault) => {
                    self.faults.push(fault);
                    return None;
                }
            }
        }
        if self.exposition.malformed(name) > 0 {
            return None;
        }
        if things.is_empty() {
            self.faults.push(format!("no usable sample of {name}"));
            return None;
        }
        Some(things.values().sum())
    }

    /// The sum of `first` and of those of `others` that are there.
    pub fn count_with(&mut self, first: Names, others: &[Names]) -> Option<u64> {
        let mut sum = self.count(first, every);
        for names in others {
            if self.shown(names).is_some() {
                let more = self.count(names, every);
                sum = sum.zip(more).map(|(sum, more)| sum + more);
            }
        }
        sum
    }

    /// The largest share: it is in the fullest cache that requests are evicted first. A bad value is
    /// reported and does not affect the others.
    pub fn fullest(&mut self, names: Names, chosen: impl Fn(&Sample) -> bool) -> Option<f64> {
        let Some(name) = self.shown(names) else {
            self.faults.push(format!("no {}", names[0]));
            return None;
        };
        let mut fullest: Option<f64> = None;
        let mut first_fault = None;
        let mut more_faults = 0;
        for sample in self.exposition.of(name).filter(|sample| chosen(sample)) {
            match share(sample.name, sample.value) {
                Ok(value) => fullest = Some(fullest.unwrap_or(0.0).max(value)),
                Err(_) if first_fault.is_some() => more_faults += 1,
                Err(fault) => first_fault = Some(fault),
            }
        }
        if let Some(fault) = first_fault {
            self.faults.push(match more_faults {
                0 => fault,
                more => format!("{fault}, and {more} more"),
            });
        }
        fullest
    }
}

/// Whether a sample is of no priority. A label that is empty and one that is missing are the same.
fn is_total(sample: &Sample) -> bool {
    sample.label("priority").unwrap_or_default().is_empty()
}
