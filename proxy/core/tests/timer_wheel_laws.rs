//! The wheel against a sorted map: the same keys expire, never early, at most one tick late.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proxy_core::timer_wheel::{TICK_MS, TimerWheel};

const KEYS: u32 = 40;

#[derive(Debug, Clone)]
enum Step {
    Arm { key: u32, in_ms: u64 },
    ArmInThePast { key: u32, ago_ms: u64 },
    Disarm { key: u32 },
    Pass { ms: u64 },
    PassToNextWakeup,
}

/// From below a tick to eight days, so that every level that is used in practice is met.
fn any_span_ms() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..20_u64,
        0..2_000_u64,
        0..4_000_000_u64,
        0..700_000_000_u64
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS;
    prop_oneof![
        4 => (key.clone(), any_span_ms()).prop_map(|(key, in_ms)| Step::Arm { key, in_ms }),
        1 => (key.clone(), 0..1_000_u64).prop_map(|(key, ago_ms)| Step::ArmInThePast { key, ago_ms }),
        1 => key.prop_map(|key| Step::Disarm { key }),
        2 => any_span_ms().prop_map(|ms| Step::Pass { ms }),
        2 => Just(Step::PassToNextWakeup),
    ]
}

struct Pair {
    wheel: TimerWheel,
    /// Deadlines by key, in milliseconds.
    model: BTreeMap<u32, u64>,
    now_ms: u64,
}

impl Pair {
    fn arm(&mut self, key: u32, deadline_ms: u64) -> Result<(), TestCaseError> {
        self.wheel.arm(key, deadline_ms);
        self.model.insert(key, deadline_ms);
        let wakeup_ms = self.wheel.next_wakeup_ms().expect("one is armed");
        prop_assert!(wakeup_ms + TICK_MS > self.now_ms, "{} is past", wakeup_ms);
        Ok(())
    }

    fn expire(&mut self) -> Result<(), TestCaseError> {
        let mut expired = BTreeSet::new();
        while let Some(key) = self.wheel.expire(self.now_ms) {
            prop_assert!(expired.insert(key), "{} came twice", key);
            let deadline_ms = self.model.remove(&key);
            prop_assert!(deadline_ms.is_some(), "{} was not armed", key);
            prop_assert!(deadline_ms <= Some(self.now_ms), "{} came early", key);
        }
        let earliest = self.model.values().min();
        prop_assert!(earliest.is_none_or(|earliest| earliest + TICK_MS > self.now_ms));
        match (self.wheel.next_wakeup_ms(), earliest) {
            (None, None) => {}
            (Some(wakeup_ms), Some(earliest)) => {
                prop_assert!(wakeup_ms < earliest + TICK_MS, "{} is late", wakeup_ms);
                prop_assert!(wakeup_ms > self.now_ms, "{} would spin", wakeup_ms);
            }
            (wakeup_ms, earliest) => prop_assert!(false, "{:?} {:?}", wakeup_ms, earliest),
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_wheel_agrees_with_a_sorted_map(
        start_ms in prop_oneof![Just(0), any::<u32>().prop_map(u64::from), Just(1 << 50)],
        steps in prop::collection::vec(any_step(), 1..200),
    ) {
        let mut pair = Pair {
            wheel: TimerWheel::new(start_ms),
            model: BTreeMap::new(),
            now_ms: start_ms,
        };
        for step in steps {
            match step {
                Step::Arm { key, in_ms } => pair.arm(key, pair.now_ms + in_ms)?,
                Step::ArmInThePast { key, ago_ms } => {
                    pair.arm(key, pair.now_ms.saturating_sub(ago_ms))?;
                }
                Step::Disarm { key } => {
                    pair.wheel.disarm(key);
                    pair.model.remove(&key);
                }
                Step::Pass { ms } => {
                    pair.now_ms += ms;
                    pair.expire()?;
                }
                Step::PassToNextWakeup => {
                    let wakeup_ms = pair.wheel.next_wakeup_ms();
                    pair.now_ms = wakeup_ms.map_or(pair.now_ms, |ms| ms.max(pair.now_ms));
                    pair.expire()?;
                }
            }
        }
        // All that is armed comes, woken up by the wheel's own word alone.
        for _ in 0..10 * KEYS {
            let Some(wakeup_ms) = pair.wheel.next_wakeup_ms() else {
                break;
            };
            pair.now_ms = pair.now_ms.max(wakeup_ms);
            pair.expire()?;
        }
        prop_assert!(pair.model.is_empty());
    }
}
