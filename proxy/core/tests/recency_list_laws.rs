//! The list against a queue that is searched: the same order after any steps.

use std::collections::VecDeque;

use proptest::prelude::*;
use proxy_core::recency_list::RecencyList;

#[derive(Debug, Clone)]
enum Step {
    PushFront(u32),
    Touch(u32),
    Remove(u32),
    EvictOldest,
}

fn any_step() -> impl Strategy<Value = Step> {
    let key = 0..20_u32;
    prop_oneof![
        key.clone().prop_map(Step::PushFront),
        key.clone().prop_map(Step::Touch),
        key.prop_map(Step::Remove),
        Just(Step::EvictOldest),
    ]
}

fn take(model: &mut VecDeque<u32>, key: u32) -> bool {
    let place = model.iter().position(|&other| other == key);
    place.and_then(|place| model.remove(place)).is_some()
}

proptest! {
    #[test]
    fn the_list_agrees_with_a_queue(steps in prop::collection::vec(any_step(), 0..300)) {
        let mut list = RecencyList::new();
        let mut model = VecDeque::new();
        for step in steps {
            match step {
                Step::PushFront(key) => {
                    list.push_front(key);
                    take(&mut model, key);
                    model.push_front(key);
                }
                Step::Touch(key) => {
                    list.touch(key);
                    if take(&mut model, key) {
                        model.push_front(key);
                    }
                }
                Step::Remove(key) => {
                    list.remove(key);
                    take(&mut model, key);
                }
                Step::EvictOldest => {
                    if let Some(key) = list.oldest() {
                        list.remove(key);
                    }
                    model.pop_back();
                }
            }
            prop_assert_eq!(list.oldest(), model.back().copied());
            prop_assert_eq!(list.len(), model.len());
            prop_assert_eq!(list.is_empty(), model.is_empty());
        }
        while let Some(key) = list.oldest() {
            prop_assert_eq!(model.pop_back(), Some(key));
            list.remove(key);
        }
        prop_assert!(model.is_empty());
    }
}
