//! What listeners, pools and backends are known by over every reload: small numbers that stand for
//! names, and a backend together with its pool. Positions in a configuration are never kept.

use std::collections::HashMap;

use contract::{BackendAddr, Name};

/// A pool, by its name. Its number is given to another pool only when nothing knows it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId(u32);

/// A listener, by its name; likewise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(u32);

/// A backend in a pool. The same address in another pool is another member: what is learned of it
/// there says nothing here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId {
    /// The pool.
    pub pool: PoolId,
    /// The backend's address in that pool.
    pub addr: BackendAddr,
}

impl PoolId {
    /// Of no pool.
    pub const NONE: PoolId = PoolId(u32::MAX);
}

impl ListenerId {
    /// The first one of a process; others follow.
    pub const FIRST: ListenerId = ListenerId(0);
}

/// What stands for a name in a [`Names`].
pub(crate) trait Id: Copy {
    fn of(place: usize) -> Self;
    fn place(self) -> usize;
}

impl Id for PoolId {
    fn of(place: usize) -> Self {
        PoolId(place as u32)
    }

    fn place(self) -> usize {
        self.0 as usize
    }
}

impl Id for ListenerId {
    fn of(place: usize) -> Self {
        ListenerId(place as u32)
    }

    fn place(self) -> usize {
        self.0 as usize
    }
}

/// What is kept of each name that is known, at the place that its id names. Places are reused, so there
/// are never more than there were names at once.
#[derive(Debug)]
pub(crate) struct Names<I, T> {
    ids: HashMap<Name, I>,
    kept: Vec<Option<T>>,
}

impl<I: Id, T> Names<I, T> {
    /// The id of `name`; `new` makes what is kept of one that is not known yet.
    pub(crate) fn intern(&mut self, name: &Name, new: impl FnOnce(I) -> T) -> I {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let free = self.kept.iter().position(Option::is_none);
        let id = I::of(free.unwrap_or(self.kept.len()));
        let new = Some(new(id));
        match free {
            Some(place) => self.kept[place] = new,
            None => self.kept.push(new),
        }
        self.ids.insert(name.clone(), id);
        id
    }

    pub(crate) fn get(&self, id: I) -> Option<&T> {
        self.kept.get(id.place())?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: I) -> Option<&mut T> {
        self.kept.get_mut(id.place())?.as_mut()
    }

    /// All that is kept, by place.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.kept.iter().flatten()
    }

    /// Forgets those that `keep` does not say to keep. Their ids are free from then on.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(I, &T) -> bool) {
        let kept = &mut self.kept;
        self.ids.retain(|_, id| {
            let place = &mut kept[id.place()];
            let stays = place.as_ref().is_some_and(|one| keep(*id, one));
            if !stays {
                *place = None;
            }
            stays
        });
    }
}

impl<I, T> Default for Names<I, T> {
    fn default() -> Self {
        Names {
            ids: HashMap::new(),
            kept: Vec::new(),
        }
    }
}

/// Values by id, for a path that must not search: a table with a place for each id.
#[derive(Debug)]
pub(crate) struct ById<T>(Box<[Option<T>]>);

impl<T> ById<T> {
    pub(crate) fn collect<I: Id>(values: impl IntoIterator<Item = (I, T)>) -> ById<T> {
        let mut table: Vec<Option<T>> = Vec::new();
        for (id, value) in values {
            let length = table.len().max(id.place() + 1);
            table.resize_with(length, || None);
            table[id.place()] = Some(value);
        }
        ById(table.into())
    }

    pub(crate) fn get<I: Id>(&self, id: I) -> Option<&T> {
        self.0.get(id.place())?.as_ref()
    }

    pub(crate) fn get_mut<I: Id>(&mut self, id: I) -> Option<&mut T> {
        self.0.get_mut(id.place())?.as_mut()
    }

    pub(crate) fn take<I: Id>(&mut self, id: I) -> Option<T> {
        self.0.get_mut(id.place())?.take()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten()
    }
}

impl<T> Default for ById<T> {
    fn default() -> Self {
        ById(Box::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).expect("a name")
    }

    #[test]
    fn a_name_keeps_its_id_and_a_free_one_is_given_again() {
        let mut names: Names<PoolId, Name> = Names::default();
        let intern =
            |names: &mut Names<_, _>, text: &str| names.intern(&name(text), |_| name(text));
        let [a, b, c] = ["a", "b", "c"].map(|text| intern(&mut names, text));
        assert_eq!(intern(&mut names, "b"), b);
        names.retain(|id, _| id != b);
        assert_eq!(names.get(b), None);
        assert_eq!(
            (names.get(a), names.get(c)),
            (Some(&name("a")), Some(&name("c")))
        );
        let d = intern(&mut names, "d");
        assert_eq!((d, names.get(d)), (b, Some(&name("d"))));
        assert_ne!(intern(&mut names, "b"), b);
        assert_eq!(names.iter().count(), 4);
    }

    #[test]
    fn a_table_has_a_place_for_each_id() {
        let table = ById::collect([(PoolId(3), 'x'), (PoolId(0), 'y')]);
        let found = [0, 1, 3, 4].map(|place| table.get(PoolId(place)).copied());
        assert_eq!(found, [Some('y'), None, Some('x'), None]);
    }
}
