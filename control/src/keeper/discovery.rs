//! What the sources say, taken over into the model.

use std::sync::Arc;

use crate::file_version::warn_once;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::sources::Source;

/// All sources of these settings, the strongest first.
pub fn sources(settings: &Settings) -> Vec<Source> {
    vec![Source::discovery_file(&settings.k8s_endpoints_path)]
}

/// Reads all sources; they are in the order of the model's.
pub async fn read(sources: &mut [Source], shared: &Shared) {
    for (place, source) in sources.iter_mut().enumerate() {
        let held = shared.model().discovered[place].listing.clone();
        let new = source.read(&held).await.map(Arc::new);
        let faults = source.faults().to_vec();
        let warned = {
            let mut model = shared.model();
            if let Some(new) = &new {
                model.discovered[place].listing = new.clone();
                model.revision += 1;
            }
            std::mem::replace(&mut model.discovered[place].faults, faults)
        };
        if let Some(new) = new {
            shared.tell_of_list(source.place(), &held, &new);
        }
        warn_once(&warned, source.faults());
    }
}
