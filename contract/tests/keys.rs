//! What is written from the table of keys: the tables of `docs/configuration.md` in both languages, and
//! `control/static/setting-keys.js` for the console's form. `WICKETGATE_WRITE=1 cargo test -p contract --test keys`
//! writes them again.

use std::path::{Path, PathBuf};

use contract::keys::{Key, Kind, Place, Topic, Value, Words, schema, topics};
use contract::{LocalAddresses, check};
use serde_json::{Value as Json, json};

fn path_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// Compares a file with what it should be, or writes it.
fn is_written(name: &str, expected: &str) {
    let path = path_of(name);
    if std::env::var_os("WICKETGATE_WRITE").is_some() {
        std::fs::write(&path, expected).expect("the file can be written");
    }
    let found = std::fs::read_to_string(&path).expect("the file is there");
    let mut lines = found.lines().zip(expected.lines());
    let differs = lines.find(|(one, other)| one != other);
    assert!(
        found == expected,
        "{name} is not as the table of keys has it: {differs:?}; \
         WICKETGATE_WRITE=1 cargo test -p contract --test keys writes it"
    );
}

#[derive(Clone, Copy)]
enum Language {
    English,
    Chinese,
}

impl Language {
    fn of(self, (en, zh): Words) -> &'static str {
        match self {
            Language::English => en,
            Language::Chinese => zh,
        }
    }

    fn default_of(self, key: &Key) -> String {
        match key.default {
            Value::None => self.of(key.without).to_owned(),
            Value::Integer(number) => number.to_string(),
            Value::Number(number) => number.to_string(),
            Value::Word(word) => format!("`{word}`"),
            Value::Range(from, to) => format!("`[{from}, {to}]`"),
        }
    }

    fn allowed_of(self, key: &Key) -> String {
        let to = self.of(("to", "至"));
        match key.kind {
            Kind::Integer(min, max) => format!("{min} {to} {max}"),
            Kind::Number(min, max) => format!("{min} {to} {max}"),
            Kind::Choice(names) => {
                let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                names.join(self.of((", ", "、")))
            }
            Kind::Text => self.of(("1 to 1024 characters", "1 至 1024 个字符")).into(),
            Kind::Payload(hex) => match self {
                Language::English => format!("up to 4096 bytes; in hexadecimal: `{hex}`"),
                Language::Chinese => format!("最多 4096 字节；十六进制：`{hex}`"),
            },
            Kind::Networks => self.of(("0 to 256 networks", "0 至 256 个网段")).into(),
            Kind::StatusRange => self.of(("100 to 599", "100 至 599")).into(),
        }
    }

    fn place_of(self, key: &Key) -> &'static str {
        self.of(match key.place {
            Place::Process => ("process", "进程"),
            Place::Listener => ("listener", "监听"),
            Place::Pool => ("pool", "后端池"),
        })
    }

    fn row(self, key: &Key, with_place: bool) -> String {
        let meaning = match key.in_full.0 {
            "" => key.meaning,
            _ => key.in_full,
        };
        let mut cells = vec![format!("`{}`", key.name)];
        if with_place {
            cells.push(self.place_of(key).to_owned());
        }
        cells.extend([self.default_of(key), self.allowed_of(key)]);
        cells.push(self.of(meaning).to_owned());
        format!("| {} |\n", cells.join(" | "))
    }

    fn table(self, inside: Option<&str>) -> String {
        let with_place = inside.is_none();
        let mut heads = vec![self.of(("key", "键"))];
        if with_place {
            heads.push(self.of(("belongs to", "属于")));
        }
        let [default, allowed, meaning] = [
            ("default", "默认值"),
            ("allowed", "取值"),
            ("meaning", "含义"),
        ]
        .map(|of| self.of(of));
        heads.extend([default, allowed, meaning]);
        let lines = "|---".repeat(heads.len());
        let of_object = topics().iter().filter(|topic| topic.inside == inside);
        let rows = of_object.flat_map(|topic| topic.keys);
        let rows: String = rows.map(|key| self.row(key, with_place)).collect();
        format!("| {} |\n{lines}|\n{rows}", heads.join(" | "))
    }

    /// A page with its tables of keys, each between two marks.
    fn page(self, page: &str) -> String {
        let mut page = page.to_owned();
        for inside in [None, Some("health"), Some("ejection"), Some("gpu_aware")] {
            let begin = format!("<!-- keys of {} -->\n", inside.unwrap_or("the top"));
            let from = page.find(&begin).expect("the page has a mark") + begin.len();
            let to = from
                + page[from..]
                    .find("<!-- end of keys -->")
                    .expect("a mark ends it");
            page.replace_range(from..to, &format!("\n{}\n", self.table(inside)));
        }
        page
    }
}

#[test]
fn the_documentation_has_each_key_as_the_table_has_it() {
    for (name, language) in [
        ("docs/configuration.md", Language::English),
        ("docs/zh-CN/configuration.md", Language::Chinese),
    ] {
        let page = std::fs::read_to_string(path_of(name)).expect("the page is there");
        is_written(name, &language.page(&page));
    }
}

const SCRIPT_HEAD: &str = "/**
 * @file The optional keys of `proxy_config.json`, for the form of settings. Written from the table of keys in
 * contract/src/keys/table.rs by contract/tests/keys.rs, and edited only there.
 */

/**
 * @typedef {object} Key
 * @property {string} name it ends with its unit
 * @property {'number' | 'text' | 'list' | 'choice'} kind
 * @property {string[]} choices none unless it is one
 * @property {{en: string, zh: string}} without what holds where nothing is said; empty where there is a default
 * @property {{en: string, zh: string}} meaning
 */

/** @typedef {'sessions' | 'flows' | 'warming' | 'health' | 'all_down' | 'ejection' | 'gpu_aware'} TopicName */

/** @type {{name: TopicName, inside: string | null, keys: Key[]}[]} */
export const TOPICS = [
";

#[test]
fn the_form_of_the_console_has_each_key_as_the_table_has_it() {
    let mut script = SCRIPT_HEAD.to_owned();
    for Topic { name, inside, keys } in topics() {
        let (name, inside) = (js(json!(name)), js(json!(inside)));
        let keys: String = keys
            .iter()
            .map(|key| format!("      {},\n", js_of(key)))
            .collect();
        script += &format!(
            "  {{\n    name: {name},\n    inside: {inside},\n    keys: [\n{keys}    ],\n  }},\n"
        );
    }
    script += "];\n";
    is_written("control/static/setting-keys.js", &script);
}

fn js_of(key: &Key) -> String {
    let (kind, choices) = match key.kind {
        Kind::Integer(..) | Kind::Number(..) => ("number", &[][..]),
        Kind::Choice(names) => ("choice", names),
        Kind::Text | Kind::Payload(_) => ("text", &[][..]),
        Kind::Networks | Kind::StatusRange => ("list", &[][..]),
    };
    let words = |(en, zh): Words| format!("{{ en: {}, zh: {} }}", js(json!(en)), js(json!(zh)));
    let choices: Vec<String> = choices.iter().map(|name| js(json!(name))).collect();
    format!(
        "{{ name: {}, kind: {}, choices: [{}], without: {}, meaning: {} }}",
        js(json!(key.name)),
        js(json!(kind)),
        choices.join(", "),
        words(key.without),
        words(key.meaning),
    )
}

/// As the other scripts write it: single quotes where the text has none.
fn js(value: Json) -> String {
    match value.as_str() {
        Some(text) if !text.contains(['\'', '\\', '"']) => format!("'{text}'"),
        _ => value.to_string(),
    }
}

/// A file of one listener, with one key set.
fn with(topic: &Topic, name: &str, value: &Json) -> Json {
    let mut file = json!({"listen": {"host": "127.0.0.1", "port": 1}, "backends": []});
    match topic.inside {
        None => file[name] = value.clone(),
        Some(object) => file[object][name] = value.clone(),
    }
    file
}

/// The places of all faults and unknown keys.
fn faults(file: &Json) -> Vec<String> {
    let found = match check(file.to_string().as_bytes(), &LocalAddresses::default()) {
        Ok(checked) => checked.unknown_keys,
        Err(faults) => faults,
    };
    found.0.into_iter().map(|fault| fault.place).collect()
}

/// Values that a key may have, and values that it may not.
fn examples(key: &Key) -> (Vec<Json>, Vec<Json>) {
    match key.kind {
        Kind::Integer(min, max) => {
            let below = min.checked_sub(1).map_or(json!(-1), |below| json!(below));
            (
                vec![json!(min), json!(max)],
                vec![below, json!(max + 1), json!("1")],
            )
        }
        Kind::Number(min, max) => {
            let bad = vec![json!(min - 0.01), json!(max + 0.01), json!("1")];
            (vec![key.default.to_json()], bad)
        }
        Kind::Choice(names) => {
            // These two want something to send, too.
            let alone = |name: &&&str| !["send_expect", "udp"].contains(*name);
            let good = names.iter().filter(alone).map(|name| json!(name));
            (good.collect(), vec![json!("never"), json!(1)])
        }
        Kind::Text => (vec![json!("/a")], vec![json!(""), json!("a b"), json!(1)]),
        Kind::Payload(_) => (vec![json!("a")], vec![json!(1), json!("a".repeat(4097))]),
        Kind::Networks => (
            vec![json!([]), json!(["10.0.0.0/8"])],
            vec![json!("10.0.0.0/8")],
        ),
        Kind::StatusRange => (
            vec![json!([100, 599])],
            vec![json!([99, 200]), json!([200])],
        ),
    }
}

#[test]
fn every_key_of_the_table_is_read_and_held_to_its_range() {
    for topic in topics() {
        for key in topic.keys {
            let place = match topic.inside {
                None => format!("/{}", key.name),
                Some(object) => format!("/{object}/{}", key.name),
            };
            let (good, bad) = examples(key);
            for value in good {
                let found = faults(&with(topic, key.name, &value));
                // The least `max_ms` is less than the `base_ms` that holds by default.
                let is_bound_by_another = key.name == "max_ms" && value == 1;
                assert!(
                    found.is_empty() || is_bound_by_another,
                    "{place} = {value}: {found:?}"
                );
            }
            for value in bad {
                let found = faults(&with(topic, key.name, &value));
                assert!(found.contains(&place), "{place} = {value}: {found:?}");
            }
        }
    }
}

#[test]
fn the_schema_names_every_key_where_it_may_stand() {
    let schema = schema();
    let top = &schema["properties"];
    let listener = &top["listeners"]["items"]["properties"];
    let pool = &top["pools"]["additionalProperties"]["properties"];
    for topic in topics() {
        for key in topic.keys {
            let of = |place: &Json| match topic.inside {
                None => place[key.name].clone(),
                Some(object) => place[object]["properties"][key.name].clone(),
            };
            assert_eq!(of(top)["description"], key.meaning.0, "{}", key.name);
            let found = (of(listener).is_object(), of(pool).is_object());
            let expected = (key.place == Place::Listener, key.place == Place::Pool);
            assert_eq!(found, expected, "{}", key.name);
        }
    }
}

#[test]
fn what_is_in_force_by_default_is_what_the_table_says() {
    let file = json!({"listen": {"host": "127.0.0.1", "port": 1}, "backends": []}).to_string();
    let checked = check(file.as_bytes(), &LocalAddresses::default()).expect("valid");
    let dumped = checked.config.to_json();
    for topic in topics() {
        for key in topic.keys {
            let found = match topic.inside {
                None => &dumped[key.name],
                Some(object) => &dumped[object][key.name],
            };
            assert_eq!(*found, key.default.to_json(), "{}", key.name);
        }
    }
}
