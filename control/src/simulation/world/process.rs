//! Control as a process: it starts, and dies between two of its steps.

use std::fs;
use std::sync::Arc;

use contract::LocalAddresses;
use tokio::sync::watch;

use super::{Control, World, clock_of, restores};
use crate::audit::Audit;
use crate::keeper;
use crate::load::load;
use crate::own_addresses::{OwnAddresses, ProxyAddresses};
use crate::publish::{self, Outcome};
use crate::shared::Shared;
use crate::start::remove_litter;

/// A process id that Linux never gives.
const NOBODY: u32 = 4_194_305;

impl World {
    /// The process dies between two of its steps, maybe in the middle of a file, and starts again.
    pub(super) async fn crash(&mut self) {
        self.mend_all();
        self.catch_up().await;
        self.control = None;
        for path in [
            &self.settings.proxy_config_path,
            &self.settings.runtime_backends_path,
        ] {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .expect("a name");
            fs::write(
                path.with_file_name(format!(".{name}.{NOBODY}.tmp")),
                "{\"cut",
            )
            .expect("written");
        }
        if let Some(name) = self.restored_at_start.take() {
            self.put_back(name, restores::Control::Stopped);
        }
        self.start().await;
        self.settle_what_was_seen();
        let now = self.now();
        self.oracle.restart(now);
        self.begin().await;
    }

    /// The publisher's first steps.
    pub(super) async fn begin(&mut self) {
        self.control().publisher.begin().await;
        self.after_a_publish().await;
    }

    pub(super) async fn start(&mut self) {
        remove_litter(&self.settings);
        self.clock = clock_of(&self.monotonic_ms, &self.unix_ms);
        self.clock.turn();
        let own = OwnAddresses {
            control: vec!["127.0.0.1:8080".parse().expect("a literal")],
            local: LocalAddresses::default(),
            proxy: ProxyAddresses::default(),
        };
        let mut loaded = load(&self.settings, own, &self.clock);
        let settings = self.settings.clone();
        let audit = Audit::open(
            &settings.audit_log_path,
            settings.audit_max_bytes,
            settings.audit_files,
            self.clock.clone(),
        );
        let proxy = self.proxy.client();
        let shared = Arc::new(Shared::new(
            settings,
            self.clock.clone(),
            audit,
            loaded.model,
        ));
        let (sender, outcome) = watch::channel(Outcome::default());
        if self.is_large {
            loaded.files.whole_up_to = 0;
        }
        let keeper = keeper::Task::new(shared.clone(), loaded.files, loaded.sources);
        self.control = Some(Control {
            keeper,
            publisher: publish::Task::new(
                shared.clone(),
                proxy,
                loaded.found,
                sender,
                Arc::default(),
            ),
            shared,
            outcome,
        });
    }
}
