//! The grace period after the first token, from `token create` or `control_config.json`: registrations
//! from before it are not cut off by it.
//!
//! Without tokens control serves only this machine, so all registrations of that time were made here;
//! programs on this machine can refresh them without a token for a while. Pure, but for the clock, which
//! comes as an argument.

use std::collections::BTreeSet;

use contract::BackendKey;

#[derive(Debug, Default)]
pub struct Grace {
    /// Unix seconds on the wall clock, as for tokens; `None` if there is no grace period.
    until_s: Option<u64>,
    /// The registrations that existed when it began.
    holders: Option<BTreeSet<BackendKey>>,
}

impl Grace {
    /// Takes the end that the token file sets.
    pub fn last_until(&mut self, until_s: Option<u64>) {
        self.until_s = until_s;
        if until_s.is_none() {
            self.holders = None;
        }
    }

    /// When it ends, unless it has ended.
    pub fn ends_at_s(&self, now_s: u64) -> Option<u64> {
        self.until_s.filter(|until_s| now_s < *until_s)
    }

    /// Applies to the registrations that exist when it is first seen, and to no later ones. Returns its end
    /// and their number, if it begins with this call.
    pub fn begin(
        &mut self,
        now_s: u64,
        registered: impl IntoIterator<Item = BackendKey>,
    ) -> Option<(u64, usize)> {
        let until_s = self.ends_at_s(now_s)?;
        if self.holders.is_some() {
            return None;
        }
        let holders = self.holders.insert(registered.into_iter().collect());
        Some((until_s, holders.len()))
    }

    pub fn covers(&self, key: &BackendKey, now_s: u64) -> bool {
        let holders = self.holders.as_ref();
        self.ends_at_s(now_s).is_some() && holders.is_some_and(|holders| holders.contains(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::parse_id;

    #[test]
    fn who_was_there_is_covered_until_the_end_and_nobody_else() {
        let [old, new] =
            [1, 2].map(|last| parse_id(&format!("10.0.0.{last}:9001")).expect("an id"));
        let mut grace = Grace::default();
        assert_eq!(grace.begin(5, [old.clone()]), None, "there is none");
        assert!(!grace.covers(&old, 5));
        grace.last_until(Some(10));
        assert!(!grace.covers(&old, 5), "it is not known who was there");
        assert_eq!(grace.begin(5, [old.clone()]), Some((10, 1)));
        assert_eq!(
            grace.begin(6, [old.clone(), new.clone()]),
            None,
            "it has begun"
        );
        grace.last_until(Some(10));
        assert!(grace.covers(&old, 9) && !grace.covers(&new, 9));
        assert!(!grace.covers(&old, 10));
        assert_eq!(grace.begin(10, [old.clone()]), None);
        grace.last_until(None);
        assert!(!grace.covers(&old, 6), "it was taken back");
    }
}
