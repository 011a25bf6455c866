//! What control finds at its start: in its store, from its sources, and in what it published last.

use std::path::Path;
use std::sync::Arc;

use contract::config::MAX_FILE_BYTES;
use contract::{BackendKey, Checked, LocalAddresses, check, digest, parse_object};
use serde_json::{Map, Value};

use crate::bounded_read::find;
use crate::clock::{Clock, Now};
use crate::keeper::discovery;
use crate::layer::Layer;
use crate::model::Model;
use crate::own_addresses::OwnAddresses;
use crate::publish::sources::{self, SourcesOf};
use crate::publish::{self, Published, accepted};
use crate::registry::{Registered, Requests, Warming};
use crate::render::Plan;
use crate::settings::Settings;
use crate::sources::Source;
use crate::sources::entry::Said;
use crate::sources::listed::{Discovered, Listing};
use crate::store::files::{Files, IsRead};

/// The state found at the start.
pub struct Loaded {
    pub model: Model,
    pub files: Files,
    /// In the order of the model's.
    pub sources: Vec<Source>,
    pub found: publish::Found,
}

/// Reads everything once, before anything is written.
pub fn load(settings: &Settings, own: OwnAddresses, clock: &Clock) -> Loaded {
    let now = clock.now();
    let published = read_published(&settings.proxy_config_path);
    let published_settings = published
        .as_ref()
        .map(|(document, _, _)| Layer::of_published(document))
        .unwrap_or_default();
    let mut model = Model::new(settings, own);
    let mut files = Files::at(settings);
    let is_read = files.begin(&published_settings, &mut model, now);
    let accepted = accepted::read(&settings.settings_accepted_path);
    model.drop_accepted(accepted.as_deref().unwrap_or_default());
    let mut sources = discovery::sources(settings);
    for source in &mut sources {
        model.discovered.push(Discovered {
            listing: source.begin().map_or_else(carried, Arc::new),
            ..Discovered::nothing_by(source.name().clone())
        });
    }
    let published_by = sources::read(&settings.published_sources_path);
    if let Some((_, checked, _)) = &published {
        carry_over(&mut model, checked, &published_by, &is_read, now);
    }
    for (source, discovered) in sources.iter_mut().zip(&mut model.discovered) {
        source.note_carried(&discovered.listing);
        discovered.faults = source.faults().to_vec();
    }
    files.note_carried(&mut model);
    let published = published.map(|(document, checked, digest)| {
        let generation = checked.config.generation.unwrap_or(0);
        let pools = checked.config.pools.into_iter();
        let pools = pools.map(|pool| (pool.name, pool.backends)).collect();
        Published {
            plan: Plan {
                head: Layer::of_published(&document).head(),
                pools,
            },
            generation,
            digest,
            config_digest: checked.config_digest,
            updated_at: checked.config.updated_at.map(|seconds| seconds as u64),
        }
    });
    Loaded {
        model,
        files,
        sources,
        found: publish::Found {
            published,
            accepted,
            sources: published_by,
        },
    }
}

/// The list of a source that could not be read at the start.
fn carried() -> Arc<Listing> {
    Arc::new(Listing {
        is_carried: true,
        ..Listing::default()
    })
}

/// Fail static: published backends stay until each source that could drop them has been read. `sources`
/// names these sources; for a backend that it does not name, all of them.
fn carry_over(
    model: &mut Model,
    checked: &Checked,
    sources: &SourcesOf,
    is_read: &IsRead,
    now: Now,
) {
    let pools = checked.config.pools.iter();
    let published =
        pools.flat_map(|pool| pool.backends.iter().map(|backend| (&pool.name, backend)));
    if !is_read.statics {
        model.statics = carried();
    }
    let mut gone = 0_usize;
    for (pool, backend) in published {
        let key = BackendKey::new(pool.clone(), backend.addr);
        if model.knows(&key) {
            continue;
        }
        let by = sources.get(&key);
        let said = Said::all_of(pool, backend);
        let mut is_carried = false;
        let discovered = model.discovered.iter_mut();
        let discovered = discovered
            .filter(|source| by.is_none_or(|by| by.discovered_by.contains(&source.name)))
            .map(|source| &mut source.listing);
        let statics = by.is_none_or(|by| by.r#static);
        let statics = statics.then_some(&mut model.statics);
        let lists = discovered.chain(statics);
        for listing in lists.filter(|listing| listing.is_carried) {
            let backends = &mut Arc::make_mut(listing).backends;
            backends.insert(key.clone(), said.clone());
            is_carried = true;
        }
        if is_carried {
            continue;
        }
        if !is_read.registry && by.is_none_or(|by| by.runtime) {
            // It was a registration; it has a TTL to register again.
            let entry = model.registry.entries.entry(key).or_default();
            entry.registered = Some(carried_registration(backend, now));
        } else {
            gone += 1;
        }
    }
    if gone > 0 {
        tracing::info!("removed {gone} published backends that no source lists now");
    }
}

fn carried_registration(backend: &contract::Backend, now: Now) -> Registered {
    Registered {
        weight: Some(backend.weight),
        enabled: Some(backend.enabled),
        warming: Warming::Said(backend.is_warming_up),
        report: backend.report,
        requests: Requests::default(),
        batch: backend.batch,
        owner: None,
        heard_at_ms: now.listened_ms,
        fresh_at_ms: None,
        last_seen: now.unix_s(),
        expired_at_ms: None,
    }
}

fn read_published(path: &Path) -> Option<(Map<String, Value>, Checked, String)> {
    let bytes = match find(path, MAX_FILE_BYTES) {
        Ok(bytes) => bytes?,
        Err(why) => {
            tracing::warn!("{why}; control will write it again");
            return None;
        }
    };
    // The proxy's own listeners are checked when publishing.
    match check(&bytes, &LocalAddresses::default()) {
        Ok(checked) => {
            let document = parse_object(&bytes, MAX_FILE_BYTES).ok()?;
            Some((document, checked, digest(&bytes)))
        }
        Err(faults) => {
            let path = path.display();
            tracing::warn!("{path}: {faults}; control will write it again");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use contract::Name;
    use serde_json::json;

    use super::*;
    use crate::base::tests::key;
    use crate::model::tests::model;
    use crate::publish::sources::Sources;

    #[test]
    fn a_source_that_is_not_read_yet_keeps_what_was_published_from_it_and_no_more() {
        let backends: Vec<Value> = (1..=4)
            .map(|last| json!({ "ip": key(last).addr.ip(), "port": key(last).addr.port() }))
            .collect();
        let published = json!({
            "listen": { "host": "127.0.0.1", "port": 10080 }, "algorithm": "round_robin",
            "backends": backends,
        });
        let local = LocalAddresses::default();
        let checked = check(published.to_string().as_bytes(), &local).expect("it is good");
        let by = |sources: &[&str], runtime| Sources {
            runtime,
            r#static: false,
            discovered_by: sources.iter().copied().filter_map(Name::new).collect(),
        };
        // The fourth was published by another program.
        let sources = SourcesOf::from([
            (key(1), by(&["east"], false)),
            (key(2), by(&["east", "west"], false)),
            (key(3), by(&[], true)),
        ]);
        let mut model = model();
        model.discovered = ["east", "west"]
            .map(|name| Discovered::nothing_by(Name::new(name).expect("a name")))
            .to_vec();
        model.discovered[1].listing = carried();
        let is_read = IsRead {
            registry: true,
            statics: true,
        };
        let now = Clock::by_hand().0.now();
        carry_over(&mut model, &checked, &sources, &is_read, now);
        let listed = |place: usize| -> Vec<_> {
            let listing: &Listing = &model.discovered[place].listing;
            listing.backends.keys().cloned().collect()
        };
        assert_eq!(listed(0), [], "it was read, and lists none");
        assert_eq!(listed(1), [key(2), key(4)]);
        assert!(model.registry.entries.is_empty() && model.statics.backends.is_empty());
    }
}
