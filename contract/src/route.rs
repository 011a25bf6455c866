//! Where the new sessions and flows of a listener go: its routes, each to one pool or shared between several.
//!
//! A listener has `"pool": NAME`, `"split": {NAME: SHARE}` or, for TCP alone, `"routes": [...]`. Which route a session
//! takes is decided where its bytes are seen (`proxy/core/src/route`); here a route is only read and written.

use serde_json::{Map, Value, json};

use crate::fault::{Faults, pointer_step};
use crate::name::{ALLOWED_NAME, Name};
use crate::networks::Networks;
use crate::object::{Object, kind};

/// The most routes of one listener.
pub const MAX_ROUTES: usize = 256;
/// The most pools of one split.
pub const MAX_SPLIT: usize = 64;
/// The largest share of a split.
pub const MAX_SHARE: u64 = 10_000;
/// The most server names of one route.
const MAX_SERVER_NAMES: usize = 256;
/// The longest host name (RFC 1035, section 2.3.4).
const MAX_SERVER_NAME: usize = 253;
/// The most protocols of one route.
const MAX_ALPN: usize = 32;
/// The longest name of a protocol in ALPN (RFC 7301, section 3.1).
const MAX_ALPN_NAME: usize = 255;

const ALLOWED_ROUTES: &str = "an array of 1 to 256 routes, each with a pool or a split";
const ALLOWED_SPLIT: &str =
    "an object of 1 to 64 pools with their shares, as {\"blue\": 90, \"green\": 10}";
const ALLOWED_SERVER_NAME: &str =
    "a host name such as \"a.example\", or \"*.example\" for all names below it";
const ALLOWED_ALPN: &str = "a protocol such as \"h2\" or \"http/1.1\", of 1 to 255 bytes";

/// The routes of a listener in order: a session takes the first that matches. `P` is what names a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routes<P>(pub Vec<Route<P>>);

/// Each key that is present must match; it matches if one of its values does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route<P> {
    /// Networks that the client's address is in.
    pub source: Option<Networks>,
    /// Names that the client asks for in TLS (SNI, RFC 6066 section 3).
    pub sni: Option<Vec<ServerName>>,
    /// Protocols that the client offers in TLS (ALPN, RFC 7301).
    pub alpn: Option<Vec<String>>,
    /// Where its sessions and flows go.
    pub split: Split<P>,
}

/// Pools that share new sessions and flows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split<P> {
    /// Each pool once, with its share of the sum of all; one of 0 gets nothing. At least one is not 0.
    pub shares: Vec<(P, u16)>,
    /// What decides which pool a session or flow goes to.
    pub by: SplitBy,
}

/// What decides between the pools of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SplitBy {
    /// The pools take turns, in proportion to their shares.
    Turn,
    /// The address of the client, which always leads to the same pool.
    Source,
}

/// A name of `sni`, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerName {
    /// This name.
    Exact(String),
    /// Every name that ends with a dot and this one, at any depth; not this one itself.
    Below(String),
}

/// A pool as a file names it, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: Name,
    /// JSON pointer.
    pub(crate) place: String,
}

/// None: they match nothing.
impl<P> Default for Routes<P> {
    fn default() -> Self {
        Routes(Vec::new())
    }
}

impl<P> Routes<P> {
    /// One route for everything, to one pool.
    pub fn to(pool: P) -> Routes<P> {
        Routes(vec![Route::all(Split::to(pool))])
    }

    /// Each pool that a route may lead to; some may come twice.
    pub fn pools(&self) -> impl Iterator<Item = &P> {
        let splits = self.0.iter().map(|route| &route.split);
        splits.flat_map(|split| split.shares.iter().map(|(pool, _)| pool))
    }

    /// The same routes with pools named otherwise.
    pub fn map<Q>(&self, mut named: impl FnMut(&P) -> Q) -> Routes<Q> {
        let routes = self.0.iter().map(|route| Route {
            source: route.source.clone(),
            sni: route.sni.clone(),
            alpn: route.alpn.clone(),
            split: Split {
                shares: route
                    .split
                    .shares
                    .iter()
                    .map(|(pool, share)| (named(pool), *share))
                    .collect(),
                by: route.split.by,
            },
        });
        Routes(routes.collect())
    }

    /// The only pool, where there is but one route, for everything, to one pool.
    pub fn only_pool(&self) -> Option<&P> {
        match &*self.0 {
            [route] if route.is_for_all() => route.split.only_pool(),
            _ => None,
        }
    }
}

impl<P> Route<P> {
    /// A route that matches everything.
    fn all(split: Split<P>) -> Route<P> {
        Route {
            source: None,
            sni: None,
            alpn: None,
            split,
        }
    }

    /// Whether it matches everything.
    pub fn is_for_all(&self) -> bool {
        self.source.is_none() && !self.asks_tls()
    }

    /// Whether it matches only what the client says in TLS.
    pub fn asks_tls(&self) -> bool {
        self.sni.is_some() || self.alpn.is_some()
    }
}

impl<P> Split<P> {
    /// Everything to one pool.
    pub fn to(pool: P) -> Split<P> {
        Split {
            shares: vec![(pool, 1)],
            by: SplitBy::Turn,
        }
    }

    /// The pool, where there is but one.
    fn only_pool(&self) -> Option<&P> {
        match &*self.shares {
            [(pool, _)] => Some(pool),
            _ => None,
        }
    }
}

impl SplitBy {
    const ALL: [(&str, SplitBy); 2] = [("turn", SplitBy::Turn), ("source", SplitBy::Source)];

    fn word(self) -> &'static str {
        let named = Self::ALL.iter().find(|(_, by)| *by == self);
        named.expect("ALL lists every way to split").0
    }
}

impl ServerName {
    /// `None` where `text` is no host name, or has a wildcard anywhere but as its whole first label.
    ///
    /// ```
    /// use contract::route::ServerName;
    ///
    /// assert_eq!(ServerName::new("A.example"), Some(ServerName::Exact("a.example".to_owned())));
    /// assert_eq!(ServerName::new("*.example"), Some(ServerName::Below("example".to_owned())));
    /// assert_eq!(ServerName::new("a.*.example"), None);
    /// ```
    pub fn new(text: &str) -> Option<ServerName> {
        let (name, is_below) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let is_label = |label: &str| {
            let is_allowed =
                |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            (1..=63).contains(&label.len()) && label.bytes().all(is_allowed)
        };
        let is_name = name.len() <= MAX_SERVER_NAME && name.split('.').all(is_label);
        let name = is_name.then(|| name.to_ascii_lowercase())?;
        Some(match is_below {
            true => ServerName::Below(name),
            false => ServerName::Exact(name),
        })
    }

    /// Whether it covers `name`, in whatever case.
    pub fn covers(&self, name: &[u8]) -> bool {
        match self {
            ServerName::Exact(own) => name.eq_ignore_ascii_case(own.as_bytes()),
            ServerName::Below(own) => {
                let above = name
                    .len()
                    .checked_sub(own.len())
                    .and_then(|at| name.split_at_checked(at));
                above.is_some_and(|(above, below)| {
                    above.len() > 1
                        && above.ends_with(b".")
                        && below.eq_ignore_ascii_case(own.as_bytes())
                })
            }
        }
    }

    fn text(&self) -> String {
        match self {
            ServerName::Exact(name) => name.clone(),
            ServerName::Below(name) => format!("*.{name}"),
        }
    }
}

/// What a listener says of where its sessions and flows go; the pool `default` where it says nothing. `tcp_alone`: it
/// takes no datagrams.
pub(crate) fn read(
    object: &mut Object,
    tcp_alone: bool,
    faults: &mut Faults,
    unknown_keys: &mut Faults,
) -> Routes<Named> {
    let Some(value) = object.take("routes") else {
        return read_plain(object, faults);
    };
    for other in ["pool", "split", "split_by"] {
        if object.take(other).is_some() {
            let allowed = "nothing beside routes: a route without source, sni and alpn is for all other sessions";
            faults.add(&object.pointer(other), "a value", allowed);
        }
    }
    let place = object.pointer("routes");
    if !tcp_alone {
        let allowed = "\"protocol\": \"tcp\" for a listener with routes; datagrams have no routes";
        faults.add(&place, "routes of a listener that takes UDP", allowed);
    }
    let items = match value {
        Value::Array(items) if (1..=MAX_ROUTES).contains(&items.len()) => items.as_slice(),
        Value::Array(items) => {
            faults.add(&place, format!("{} routes", items.len()), ALLOWED_ROUTES);
            &[]
        }
        other => {
            faults.add(&place, kind(other), ALLOWED_ROUTES);
            &[]
        }
    };
    let read = items.iter().enumerate().filter_map(|(index, item)| {
        let place = format!("{place}/{index}");
        let route = read_route(item, &place, faults, unknown_keys)?;
        if route.is_for_all() && index + 1 < items.len() {
            let allowed = "a route for everything only as the last one: no session would reach those after it";
            faults.add(&place, "neither source, sni nor alpn", allowed);
        }
        Some(route)
    });
    Routes(read.collect())
}

/// One route for everything; none where what it says is wrong.
fn read_plain(object: &mut Object, faults: &mut Faults) -> Routes<Named> {
    if object
        .take("pool")
        .or(object.take("split"))
        .or(object.take("split_by"))
        .is_none()
    {
        return Routes::to(Named {
            name: Name::default(),
            place: object.pointer("pool"),
        });
    }
    let split = read_split(object, faults);
    Routes(split.into_iter().map(Route::all).collect())
}

fn read_route(
    value: &Value,
    place: &str,
    faults: &mut Faults,
    unknown_keys: &mut Faults,
) -> Option<Route<Named>> {
    let Value::Object(map) = value else {
        faults.add(place, kind(value), "an object with a pool or a split");
        return None;
    };
    let mut object = Object::new(map, place);
    let source = Networks::read_exact(&mut object, "source", faults);
    let sni = read_list(
        &mut object,
        "sni",
        MAX_SERVER_NAMES,
        ALLOWED_SERVER_NAME,
        faults,
        ServerName::new,
    );
    let alpn = read_list(
        &mut object,
        "alpn",
        MAX_ALPN,
        ALLOWED_ALPN,
        faults,
        |text| {
            (1..=MAX_ALPN_NAME)
                .contains(&text.len())
                .then(|| text.to_owned())
        },
    );
    let split = read_split(&mut object, faults);
    if split.is_none() && object.take("pool").or(object.take("split")).is_none() {
        faults.add(place, "neither pool nor split", "a pool or a split");
    }
    object.unknown_keys(unknown_keys);
    Some(Route {
        source,
        sni,
        alpn,
        split: split?,
    })
}

/// An array of at least one text under `key`.
fn read_list<T>(
    object: &mut Object,
    key: &'static str,
    most: usize,
    allowed: &str,
    faults: &mut Faults,
    read: impl Fn(&str) -> Option<T>,
) -> Option<Vec<T>> {
    let place = object.pointer(key);
    let value = object.take(key)?;
    let Value::Array(items) = value else {
        faults.add(&place, value, format!("an array, each {allowed}"));
        return None;
    };
    if !(1..=most).contains(&items.len()) {
        let found = format!("{} entries", items.len());
        faults.add(&place, found, format!("1 to {most}, each {allowed}"));
        return None;
    }
    let items = items.iter().enumerate().filter_map(|(index, item)| {
        let one = item.as_str().and_then(&read);
        if one.is_none() {
            faults.add(&format!("{place}/{index}"), item, allowed);
        }
        one
    });
    Some(items.collect())
}

/// `pool`, or `split` with `split_by`; `None` where there is neither, or it is wrong.
fn read_split(object: &mut Object, faults: &mut Faults) -> Option<Split<Named>> {
    let by = object.take_choice("split_by", &SplitBy::ALL, faults);
    let by_place = object.pointer("split_by");
    let (pool, split) = (object.take("pool"), object.take("split"));
    if by.is_some() && split.is_none() {
        faults.add(
            &by_place,
            "split_by without split",
            "split_by beside a split",
        );
    }
    match (pool, split) {
        (None, None) => None,
        (Some(_), Some(_)) => {
            faults.add(
                &object.pointer("split"),
                "a split beside a pool",
                "a pool or a split",
            );
            None
        }
        (Some(pool), None) => {
            let name = read_name(pool, &object.pointer("pool"), faults)?;
            Some(Split::to(name))
        }
        (None, Some(split)) => {
            let shares = read_shares(split, &object.pointer("split"), faults)?;
            let by = by.unwrap_or(SplitBy::Turn);
            Some(Split { shares, by })
        }
    }
}

fn read_shares(value: &Value, place: &str, faults: &mut Faults) -> Option<Vec<(Named, u16)>> {
    let map = match value {
        Value::Object(map) if (1..=MAX_SPLIT).contains(&map.len()) => map,
        Value::Object(map) => {
            faults.add(place, format!("{} pools", map.len()), ALLOWED_SPLIT);
            return None;
        }
        other => {
            faults.add(place, kind(other), ALLOWED_SPLIT);
            return None;
        }
    };
    let shares = map.iter().filter_map(|(key, value)| {
        let place = format!("{place}{}", pointer_step(key));
        let Some(name) = Name::new(key) else {
            faults.add(&place, format!("the name {key:?}"), ALLOWED_NAME);
            return None;
        };
        let share = value.as_u64().filter(|share| *share <= MAX_SHARE);
        let Some(share) = share else {
            faults.add(&place, value, format!("an integer from 0 to {MAX_SHARE}"));
            return None;
        };
        Some((Named { name, place }, share as u16))
    });
    let mut shares: Vec<(Named, u16)> = shares.collect();
    // However they are written, they are the same.
    shares.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    if shares.len() == map.len() && shares.iter().all(|(_, share)| *share == 0) {
        faults.add(place, "only shares of 0", "at least one share above 0");
        return None;
    }
    (shares.len() == map.len()).then_some(shares)
}

fn read_name(value: &Value, place: &str, faults: &mut Faults) -> Option<Named> {
    let name = value.as_str().and_then(Name::new);
    if name.is_none() {
        faults.add(place, value, ALLOWED_NAME);
    }
    let place = place.to_owned();
    name.map(|name| Named { name, place })
}

impl Routes<Name> {
    /// Writes what [`read`] reads as the same, into the object of a listener.
    pub(crate) fn write(&self, object: &mut Map<String, Value>) {
        match &*self.0 {
            [route] if route.is_for_all() => route.split.write(object),
            routes => {
                let routes = routes.iter().map(Route::to_json);
                object.insert("routes".into(), routes.collect());
            }
        }
    }
}

impl Route<Name> {
    fn to_json(&self) -> Value {
        let mut object = Map::new();
        if let Some(source) = &self.source {
            object.insert("source".into(), json!(source));
        }
        if let Some(sni) = &self.sni {
            let sni: Vec<String> = sni.iter().map(ServerName::text).collect();
            object.insert("sni".into(), json!(sni));
        }
        if let Some(alpn) = &self.alpn {
            object.insert("alpn".into(), json!(alpn));
        }
        self.split.write(&mut object);
        Value::Object(object)
    }
}

impl Split<Name> {
    fn write(&self, object: &mut Map<String, Value>) {
        if let Some(pool) = self.only_pool() {
            object.insert("pool".into(), pool.as_str().into());
            return;
        }
        let shares = self.shares.iter();
        let shares: Map<String, Value> = shares
            .map(|(pool, share)| (pool.to_string(), (*share).into()))
            .collect();
        object.insert("split".into(), Value::Object(shares));
        object.insert("split_by".into(), self.by.word().into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_of(listener: &Value, tcp_alone: bool) -> (Routes<Named>, Vec<String>, Vec<String>) {
        let (mut faults, mut unknown_keys) = (Faults::default(), Faults::default());
        let map = listener.as_object().expect("an object");
        let mut object = Object::new(map, "/l");
        let routes = read(&mut object, tcp_alone, &mut faults, &mut unknown_keys);
        object.unknown_keys(&mut unknown_keys);
        let places = |faults: Faults| faults.0.into_iter().map(|fault| fault.place).collect();
        (routes, places(faults), places(unknown_keys))
    }

    fn names(routes: &Routes<Named>) -> Routes<Name> {
        routes.map(|named| named.name.clone())
    }

    #[test]
    fn every_way_to_say_where_sessions_go_is_written_out_and_read_back_the_same() {
        for listener in [
            json!({}),
            json!({"pool": "chat"}),
            json!({"split": {"blue": 90, "green": 10}}),
            json!({"split": {"blue": 1, "green": 0}, "split_by": "source"}),
            json!({"routes": [{"pool": "chat"}]}),
            json!({"routes": [
                {"sni": ["A.example", "*.b.example"], "alpn": ["h2"], "pool": "web"},
                {"source": ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"], "split": {"blue": 9, "green": 1}},
                {"source": ["::1"], "sni": ["c"], "alpn": ["http/1.1", "h2"], "pool": "default"},
                {"pool": "default"},
            ]}),
            json!({"routes": [{"sni": ["a.example"], "pool": "web"}]}),
        ] {
            let (routes, faults, unknown_keys) = read_of(&listener, true);
            assert_eq!((faults, unknown_keys), (vec![], vec![]), "{listener}");
            let mut written = Map::new();
            names(&routes).write(&mut written);
            let written = Value::Object(written);
            assert_eq!(
                names(&read_of(&written, true).0),
                names(&routes),
                "{listener} -> {written}"
            );
        }
    }

    #[test]
    fn every_fault_is_named_with_its_place() {
        let many = |count: usize| -> Value {
            (0..count)
                .map(|_| json!({"sni": ["a"], "pool": "p"}))
                .collect()
        };
        let pools: Map<String, Value> = (0..=MAX_SPLIT)
            .map(|n| (format!("p{n}"), json!(1)))
            .collect();
        for (listener, places) in [
            (json!({"pool": 5}), &["/l/pool"][..]),
            (json!({"pool": "Chat"}), &["/l/pool"]),
            (json!({"pool": "a", "split": {"b": 1}}), &["/l/split"]),
            (json!({"split": {}}), &["/l/split"]),
            (json!({"split": []}), &["/l/split"]),
            (json!({"split": {"a": 0, "b": 0}}), &["/l/split"]),
            (json!({"split": pools}), &["/l/split"]),
            (
                json!({"split": {"a": -1, "b": 10_001, "c": "1", "C": 1}}),
                &["/l/split/C", "/l/split/a", "/l/split/b", "/l/split/c"],
            ),
            (
                json!({"split": {"a": 1}, "split_by": "client"}),
                &["/l/split_by"],
            ),
            (json!({"pool": "a", "split_by": "source"}), &["/l/split_by"]),
            (json!({"routes": [], }), &["/l/routes"]),
            (json!({"routes": {} }), &["/l/routes"]),
            (json!({"routes": many(MAX_ROUTES + 1)}), &["/l/routes"]),
            (
                json!({"routes": [{"pool": "a"}], "pool": "a", "split": {"a": 1}}),
                &["/l/pool", "/l/split"],
            ),
            (
                json!({"routes": ["a", {}, {"sni": ["a"]}, {"pool": "a"}]}),
                &["/l/routes/0", "/l/routes/1", "/l/routes/2"],
            ),
            (
                json!({"routes": [{"pool": "a"}, {"pool": "b"}]}),
                &["/l/routes/0"],
            ),
            (
                json!({"routes": [{"sni": ["", "*", "a.*.b", "*a.b", "a..b", "a.", 7, "\u{e4}"], "pool": "a"}]}),
                &[0, 1, 2, 3, 4, 5, 6, 7].map(|n| {
                    [
                        "/l/routes/0/sni/0",
                        "/l/routes/0/sni/1",
                        "/l/routes/0/sni/2",
                        "/l/routes/0/sni/3",
                        "/l/routes/0/sni/4",
                        "/l/routes/0/sni/5",
                        "/l/routes/0/sni/6",
                        "/l/routes/0/sni/7",
                    ][n]
                }),
            ),
            (
                json!({"routes": [{"sni": [], "alpn": [""], "pool": "a"}]}),
                &["/l/routes/0/alpn/0", "/l/routes/0/sni"],
            ),
            (
                json!({"routes": [{"sni": "a.example", "pool": "a"}]}),
                &["/l/routes/0/sni"],
            ),
            (
                json!({"routes": [{"source": ["10.0.0.1/8", "2001:db8::1/32", "x"], "pool": "a"}]}),
                &[
                    "/l/routes/0/source/0",
                    "/l/routes/0/source/1",
                    "/l/routes/0/source/2",
                ],
            ),
            (
                json!({"routes": [{"source": [], "pool": "a"}]}),
                &["/l/routes/0/source"],
            ),
        ] {
            let mut found = read_of(&listener, true).1;
            found.sort_unstable();
            assert_eq!(found, places, "{listener}");
        }
        let with_routes = json!({"routes": [{"pool": "a"}]});
        assert_eq!(read_of(&with_routes, false).1, ["/l/routes"]);
        let (_, faults, unknown_keys) = read_of(
            &json!({"routes": [{"pol": "a", "pool": "a"}], "x": 1}),
            true,
        );
        assert_eq!(
            (faults.len(), unknown_keys),
            (0, vec!["/l/routes/0/pol".to_owned(), "/l/x".to_owned()])
        );
    }

    #[test]
    fn a_wildcard_covers_names_below_at_any_depth_and_not_the_name_itself() {
        let covers = |pattern: &str, name: &str| {
            ServerName::new(pattern)
                .expect("a name")
                .covers(name.as_bytes())
        };
        for (pattern, name, right) in [
            ("a.example", "a.example", true),
            ("A.Example", "a.eXample", true),
            ("a.example", "b.a.example", false),
            ("*.a.example", "b.a.example", true),
            ("*.a.example", "c.b.a.example", true),
            ("*.a.example", "a.example", false),
            ("*.a.example", ".a.example", false),
            ("*.a.example", "ba.example", false),
            ("*.a.example", "b.a.example.org", false),
        ] {
            assert_eq!(covers(pattern, name), right, "{pattern} {name}");
        }
    }
}
