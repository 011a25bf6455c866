//! The list against a queue that is searched: the same order after any steps.

use std::collections::VecDeque;

use proptest::prelude::*;
use proxy_core::recency_list::RecencyLists;

#[derive(Debug, Clone)]
enum Step {
    /// The key goes there as the newest, wherever it was.
    PushFront(u32, u32),
    Touch(u32),
    Remove(u32),
    EvictOldest(u32),
}

const KEYS: u32 = 20;
/// More than there is room for at first.
const LISTS: u32 = 40;

fn any_step() -> impl Strategy<Value = Step> {
    let (list, key) = (0..LISTS, 0..KEYS);
    prop_oneof![
        (list.clone(), key.clone()).prop_map(|(list, key)| Step::PushFront(list, key)),
        // Few lists get many keys.
        (0..3_u32, key.clone()).prop_map(|(list, key)| Step::PushFront(list, key)),
        key.clone().prop_map(Step::Touch),
        key.prop_map(Step::Remove),
        list.prop_map(Step::EvictOldest),
    ]
}

/// The list that `key` is in, from which it is taken.
fn take(model: &mut [VecDeque<u32>], key: u32) -> Option<u32> {
    for (list, keys) in model.iter_mut().enumerate() {
        if let Some(place) = keys.iter().position(|&other| other == key) {
            keys.remove(place);
            return Some(list as u32);
        }
    }
    None
}

proptest! {
    #[test]
    fn the_lists_agree_with_queues(steps in prop::collection::vec(any_step(), 0..300)) {
        let mut lists = RecencyLists::default();
        let mut model = vec![VecDeque::new(); LISTS as usize];
        for step in steps {
            match step {
                Step::PushFront(list, key) => {
                    if let Some(before) = take(&mut model, key) {
                        lists.remove(before, key);
                    }
                    lists.push_front(list, key);
                    model[list as usize].push_front(key);
                }
                Step::Touch(key) => {
                    if let Some(list) = take(&mut model, key) {
                        lists.touch(list, key);
                        model[list as usize].push_front(key);
                    }
                }
                Step::Remove(key) => {
                    if let Some(list) = take(&mut model, key) {
                        lists.remove(list, key);
                    }
                }
                Step::EvictOldest(list) => {
                    if let Some(key) = lists.oldest(list) {
                        lists.remove(list, key);
                    }
                    model[list as usize].pop_back();
                }
            }
            for (list, keys) in (0..).zip(&model) {
                prop_assert_eq!(lists.oldest(list), keys.back().copied());
                prop_assert_eq!(lists.len(list), keys.len());
                prop_assert_eq!(lists.is_empty(list), keys.is_empty());
            }
        }
        for (list, keys) in (0..).zip(&mut model) {
            while let Some(key) = lists.oldest(list) {
                prop_assert_eq!(keys.pop_back(), Some(key));
                lists.remove(list, key);
            }
            prop_assert!(keys.is_empty());
        }
    }
}
