//! What is left out of a plan since the proxy would refuse it.

use contract::config::MAX_BACKENDS;
use contract::{BackendKey, Faults, Name, check};

use super::Plan;
use crate::base::backend_at;
use crate::own_addresses::OwnAddresses;

/// A backend that is not published, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct LeftOut {
    pub key: BackendKey,
    pub why: String,
}

impl Plan {
    /// Leaves out the backends that the proxy would refuse, each with the reason.
    ///
    /// # Errors
    /// Faults outside the backends: then nothing can be published.
    pub fn fit(self, own: &OwnAddresses) -> Result<(Plan, Vec<LeftOut>), Faults> {
        let listening = self.listening();
        let Plan { head, pools } = self;
        let mut left_out = Vec::new();
        let mut plan = Plan::of_head(head);
        let mut count = 0;
        for (pool, backends) in pools {
            let mut kept = Vec::with_capacity(backends.len());
            let is_defined = plan.has_pool(&pool);
            for backend in backends {
                let why = match own.refuse(backend.addr, &listening) {
                    None if !is_defined => Some(format!("no pool {pool} is defined")),
                    None if count == MAX_BACKENDS => {
                        Some(format!("more than {MAX_BACKENDS} backends"))
                    }
                    why => why,
                };
                match why {
                    Some(why) => {
                        let key = BackendKey::new(pool.clone(), backend.addr);
                        left_out.push(LeftOut { key, why });
                    }
                    None => {
                        kept.push(backend);
                        count += 1;
                    }
                }
            }
            if is_defined {
                plan.pools.insert(pool, kept);
            }
        }
        let local = own.of_proxy();
        // The first check reports all faults, so the second one finds none in a backend.
        if let Err(faults) = check(&plan.render(0, 0), &local) {
            plan.drop_faulty(&faults, &mut left_out);
            check(&plan.render(0, 0), &local)?;
        }
        Ok((plan, left_out))
    }

    fn drop_faulty(&mut self, faults: &Faults, left_out: &mut Vec<LeftOut>) {
        let faults = faults.0.iter();
        let mut faulty: Vec<((Name, usize), String)> = faults
            .filter_map(|fault| Some((backend_at(&fault.place)?, fault.to_string())))
            .collect();
        faulty.sort_by(|(one, _), (other, _)| other.cmp(one));
        faulty.dedup_by(|(one, _), (other, _)| one == other);
        for ((pool, index), why) in faulty {
            let of_pool = self.pools.get_mut(&pool);
            if let Some(backends) = of_pool.filter(|backends| index < backends.len()) {
                let key = BackendKey::new(pool, backends.remove(index).addr);
                left_out.push(LeftOut { key, why });
            }
        }
    }
}
